"""The style sheet of report.html: one column on a phone, light and dark by what the reader's system prefers."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #1f2328; --soft: #626872;
  --line: #dfdcd4; --accent: #2457c5; --warn: #8a4b00; --warn-back: #fff3dc; --good: 47, 158, 107; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --card: #1d2024; --ink: #e7e8ea; --soft: #a0a6b0;
  --line: #353a41; --accent: #8ab0ff; --warn: #ffcf87; --warn-back: #3a2c12; }
  img, video { filter: brightness(.88); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.25rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: .2rem 0; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 68ch; }
.soft, figcaption, .tick { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .8rem 0; font-size: .92rem; }
a { color: var(--accent); }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); margin: .6rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .4rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; z-index: 1;
  background: var(--card); }
td.left, th.left { text-align: left; }
td.first, th.first { border-left: 1px solid var(--line); }
.head th { color: var(--ink); }
td small { display: block; color: var(--soft); font-size: .76rem; font-weight: 400; }
td b.sr { font-size: 1rem; }
.dot { display: inline-block;
  width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; background: var(--c); }
.grid-of { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); }
.wide { align-items: start; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
figure { margin: 0; }
.panel, .shot { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem; }
.panel figcaption { font-weight: 600; color: var(--ink); margin-bottom: .3rem; font-size: .92rem; }
.shot figcaption { font-size: .84rem; margin-top: .4rem; line-height: 1.4; }
.shot figcaption b { color: var(--ink); }
.shot img, .shot video { display: block; width: 100%; height: auto; border-radius: 5px; background: #000; }
svg { display: block; width: 100%; height: auto; max-width: 420px; }
svg text { fill: var(--soft); font: 10px system-ui, sans-serif; }
svg text.name { fill: var(--ink); font-size: 11px; }
svg text.value { text-anchor: end; font-size: 10px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
.bar { display: grid; grid-template-columns: minmax(6rem, 11rem) 1fr; gap: .6rem; align-items: center;
  margin: .25rem 0; font-size: .86rem; }
.bar span { overflow-wrap: anywhere; line-height: 1.2; }
.stack { display: flex; height: 1.35rem; border-radius: 4px; overflow: hidden; gap: 1px; }
.stack i { font-style: normal; font-size: .76rem; text-align: center; min-width: 2px; line-height: 1.35rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; margin: .5rem 0;
  font-size: .84rem; }
.legend b { display: inline-block; width: .85em; height: .85em; border-radius: 3px; margin-right: .4em;
  vertical-align: -.06em; }
.legend b.line {
  width: 1.5em; height: 0; border-radius: 0; border-top: 4px solid var(--c); vertical-align: .22em; }
.legend b.dashed { border-top-style: dashed; }
.legend b.dotted { border-top-style: dotted; }
details { border: 1px solid var(--line); border-radius: 8px; padding: .1rem .9rem; margin: .6rem 0; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
details[open] { padding-bottom: .8rem; }
.warn { background: var(--warn-back); color: var(--warn); border-radius: 8px; padding: .7rem .9rem;
  margin: .6rem 0; }
code { font-size: .85em; overflow-wrap: anywhere; }
@media (max-width: 560px) { body { font-size: 15px; } .bar { grid-template-columns: 1fr; gap: .1rem; }
  th, td { padding: .35rem .5rem; } td:first-child, th:first-child { min-width: 6.5rem; max-width: 48vw;
  white-space: normal; overflow-wrap: break-word; } }
"""
