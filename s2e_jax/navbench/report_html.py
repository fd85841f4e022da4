"""report.html: one page that holds all it shows and fetches nothing."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from s2e_jax.navbench import report_tables as tables
from s2e_jax.navbench.report_cells import TASK_TITLES
from s2e_jax.navbench.report_charts import (
  ceiling_of,
  failure_bar,
  failure_legend,
  interval_chart,
  policy_legend,
)
from s2e_jax.navbench.report_films import SPEED_UP, Film
from s2e_jax.navbench.report_pictures import Ink, png
from s2e_jax.navbench.report_style import STYLE
from s2e_jax.reporting import interval_cell, interval_table

_PARTS = {
  'headline': 'Headline', 'intervals': 'Intervals', 'ends': 'How episodes ended', 'comparisons': 'Comparisons',
  'more': 'More figures', 'scenes': 'Scenes', 'films': 'Films', 'protocol': 'Protocol', 'published': 'Published',
  'sources': 'Policies and settings',
}  # fmt: skip
_BREAK = re.compile(r'(?<!\\)\|')
_escape = html.escape


@dataclasses.dataclass(frozen=True)
class Shot:
  """A map of one episode. scene, task: its cell. accounts: by policy, how it went. png: the picture."""

  scene: str
  task: str
  episode: int
  accounts: Mapping[str, str]
  png: bytes


def page(results: Mapping[str, Any], shots: Sequence[Shot], films: Sequence[Film], inks: Mapping[str, Ink]) -> str:
  """The page of `report_summary.results_of`, with maps and films; inks: of policies and methods."""
  bodies = {
    'headline': _headline(results, inks),
    'intervals': _intervals(results, inks),
    'ends': _ends(results),
    'comparisons': _comparisons(results),
    'more': _more(results),
    'scenes': _scenes(results, shots, inks),
    'films': _films(films),
    'protocol': ['<ul>', *(f'<li>{_escape(line)}</li>' for line in tables.protocol_lines(results)), '</ul>'],
    'published': _published(results['published']),
    'sources': _sources(results),
  }
  kept = {key: list(body) for key, body in bodies.items()}
  kept = {key: body for key, body in kept.items() if body}
  links = ''.join(f'<a href="#{key}">{_PARTS[key]}</a>' for key in kept)
  sections = ''.join(
    f'<section id="{key}"><h2>{_PARTS[key]}</h2>\n' + '\n'.join(body) + '</section>\n'
    for key, body in kept.items()
  )
  name = _escape(results['benchmark'])
  counts = ', '.join(f'{found["num_episodes"]} {TASK_TITLES[task]}' for task, found in results['tasks'].items())
  about = f'{len(results["policies"])} policies, {len(results["scenes"])} scenes; episodes: {counts}'
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<meta name="color-scheme" content="light dark"><title>{name}</title><style>{STYLE}</style></head>\n'
    f'<body><main><h1>{name}</h1><p class="soft">{_escape(about)}. Closed loop; every policy drives the same '
    f'episodes.</p><nav>{links}</nav>\n{sections}</main></body></html>\n'
  )


def html_table(lines: Iterable[str], num_left: int = 1) -> str:
  """A Markdown table as HTML; num_left: columns that are text."""
  rows = [[cell.strip().replace('\\|', '|') for cell in _BREAK.split(line)[1:-1]] for line in lines]
  kind = lambda i: ' class="left"' if i < num_left else ''
  row = lambda cells, tag: ''.join(f'<{tag}{kind(i)}>{_text(cell)}</{tag}>' for i, cell in enumerate(cells))
  body = ''.join(f'<tr>{row(cells, "td")}</tr>' for cells in rows[2:])
  return (
    f'<div class="scroll"><table><thead><tr>{row(rows[0], "th")}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def _text(cell: str) -> str:
  """Escaped text, what stands in backticks as code."""
  code = cell.startswith('`') and cell.endswith('`') and len(cell) > 1
  return f'<code>{_escape(cell[1:-1])}</code>' if code else _escape(cell)


def _headline(results: Mapping[str, Any], inks: Mapping[str, Ink]) -> Iterator[str]:
  for line in tables.broken(results):
    yield f'<p class="warn">{_escape(line)}</p>'
  titles = ''.join(f'<th class="first" colspan="3">{TASK_TITLES[task]}</th>' for task in results['tasks'])
  names = '<th class="first">SR</th><th>RC</th><th>CT</th>' * len(results['tasks'])
  rows = []
  for method, policies in results['methods'].items():
    card = results['policies'][policies[0]]
    seeds = f', {len(policies)} seeds' if len(policies) > 1 else ''
    about = f'{card["kind"]} · told {card["told"]} · senses {card["senses"]}{seeds}'
    cells = [
      f'<td><span class="dot" style="--c:{inks[method].css}"></span>{_escape(method)}'
      f'<small>{_escape(about)}</small></td>'
    ]
    for found in results['tasks'].values():
      metrics = found['methods'][method]['metrics']
      success = metrics['success']
      between = '' if success['low'] is None else f'<small>{success["low"]:.2f} to {success["high"]:.2f}</small>'
      value = interval_cell({**success, 'low': None}, '.2f')
      cells.append(f'<td class="first"><b class="sr">{value}</b>{between}</td>')
      cells += [f'<td>{interval_cell({**metrics[key], "low": None}, ".2f")}</td>' for key in ('rc', 'contacts')]
    rows.append(f'<tr>{"".join(cells)}</tr>')
  yield (
    f'<div class="scroll"><table class="head"><thead><tr><th>method</th>{titles}</tr><tr><th></th>{names}</tr>'
    '</thead>'
    f'<tbody>{"".join(rows)}</tbody></table></div>'
  )
  yield (
    '<p class="soft">SR: share of episodes that ended within 1 m of the goal, below it its 95 % interval. RC: '
    'share of the distance covered. CT: contacts per episode, which do not end it.</p>'
  )


def _intervals(results: Mapping[str, Any], inks: Mapping[str, Ink]) -> Iterator[str]:
  for title, key, is_share in (('Success rate', 'success', True), ('Contacts per episode', 'contacts', False)):
    found = {task: f['methods'] for task, f in results['tasks'].items()}
    ends = [m['metrics'][key][end] for f in found.values() for m in f.values() for end in ('value', 'high')]
    limits = (0.0, 1.0 if is_share else ceiling_of(ends))
    yield f'<h3>{title}</h3><div class="grid-of">'
    for task, methods in found.items():
      rows = [
        (name, inks[name], m['metrics'][key], [seed[key] for seed in m['seeds'].values()])
        for name, m in methods.items()
      ]
      yield interval_chart(TASK_TITLES[task], rows, limits)
    yield '</div>'
  if any(len(names) > 1 for names in results['methods'].values()):
    yield '<p class="soft">Rings: single seeds. Dots: their mean.</p>'


def _ends(results: Mapping[str, Any]) -> Iterator[str]:
  yield failure_legend()
  yield '<div class="grid-of wide">'
  for task, found in results['tasks'].items():
    bars = ''.join(failure_bar(name, method['failures']) for name, method in found['methods'].items())
    yield f'<div class="panel"><figcaption>{TASK_TITLES[task]}</figcaption>{bars}</div>'
  yield '</div>'


def _comparisons(results: Mapping[str, Any]) -> Iterator[str]:
  found = results['finetuning']
  if found:
    yield f'<h3>What finetuning gained: {_escape(found["after"])} minus {_escape(found["before"])}</h3>'
    yield html_table(tables.finetuning(found))
    yield f'<p>{_escape(tables.forgetting(found))}</p>'
  for task, summary in results['tasks'].items():
    if summary['method_pairs']:
      yield f'<details><summary>{TASK_TITLES[task]}: all pairs of methods on the same episodes</summary>'
      yield '<p class="soft">First minus second; p without correction for the number of comparisons.</p>'
      yield html_table(tables.pairs(summary['method_pairs']), 2) + '</details>'


def _more(results: Mapping[str, Any]) -> Iterator[str]:
  for task, found in results['tasks'].items():
    metrics = {name: method['metrics'] for name, method in found['methods'].items()}
    yield f'<details><summary>{TASK_TITLES[task]}</summary>'
    yield html_table(interval_table('method', tables.MORE, metrics))
    yield html_table(interval_table('method', tables.CONTACT, metrics)) + '</details>'


def _scenes(results: Mapping[str, Any], shots: Sequence[Shot], inks: Mapping[str, Ink]) -> Iterator[str]:
  names = list(results['policies'])
  yield '<p class="soft">SR / RC / CT per scene and policy; greener is a higher SR.</p>'
  for task in results['tasks']:
    cells = [cell for cell in results['cells'] if cell['task'] == task]
    head = ''.join(f'<th>{_escape(name)}</th>' for name in names)
    rows = []
    for cell in cells:
      row = []
      for name in names:
        metrics = cell['policies'][name]['metrics']
        shade = 0.45 * (metrics['success']['value'] or 0.0)
        row.append(f'<td style="background:rgba(var(--good),{shade:.2f})">{_three(metrics)}</td>')
      rows.append(
        f'<tr><td>{_escape(cell["scene"])}<small>{cell["num_episodes"]} episodes</small></td>{"".join(row)}</tr>'
      )
    yield (
      f'<h3>{TASK_TITLES[task]}</h3><div class="scroll"><table><thead><tr><th>scene</th>{head}</tr></thead>'
      f'<tbody>{"".join(rows)}</tbody></table></div>'
    )
  for i, scene in enumerate(results['scenes']):
    is_open = ' open' if i == 0 else ''
    yield f'<details{is_open}><summary>{_escape(scene)}: how episodes ended, and ways driven</summary>'
    yield failure_legend()
    for cell in (c for c in results['cells'] if c['scene'] == scene):
      yield f'<h3>{TASK_TITLES[cell["task"]]}</h3>'
      yield ''.join(failure_bar(name, p['failures']) for name, p in cell['policies'].items())
      chosen = [s for s in shots if (s.scene, s.task) == (scene, cell['task'])]
      if chosen:
        yield policy_legend(inks, names) + '<div class="grid-of wide">'
        yield from (_shot(shot) for shot in chosen)
        yield '</div>'
    yield '</details>'
  if shots:
    yield (
      '<p class="soft">Maps: ring with an arrow is the start, star the goal with the circle of arrival, grey '
      'dashes the planned way, crosses contacts in the colour of who had them, discs as large as the robot where '
      'policies ended. Orange: things put there. Red dots: people at the start, with the ways they went while the '
      'first policy drove.</p>'
    )


def _three(metrics: Mapping[str, Any]) -> str:
  return ' / '.join(interval_cell({**metrics[key], 'low': None}, '.2f') for key in ('success', 'rc', 'contacts'))


def _shot(shot: Shot) -> str:
  accounts = '<br>'.join(f'<b>{_escape(name)}</b> {_escape(text)}' for name, text in shot.accounts.items())
  title = f'{shot.scene}, {TASK_TITLES[shot.task]}, episode {shot.episode}'
  return (
    f'<figure class="shot"><img alt="Map of {_escape(title)}" src="{_data("image/png", shot.png)}">'
    f'<figcaption>Episode {shot.episode}<br>{accounts}</figcaption></figure>'
  )


def _films(films: Sequence[Film]) -> Iterator[str]:
  if not films:
    return
  yield (
    '<p class="soft">What the robot saw, above the map. Best, median and worst episode of each policy by RC and '
    f'then SPL, over all scenes and tasks; {SPEED_UP} times as fast as it happened.</p>'
  )
  for policy in dict.fromkeys(film.policy for film in films):
    yield f'<h3>{_escape(policy)}</h3><div class="grid-of">'
    for film in (f for f in films if f.policy == policy):
      poster = _data('image/png', png(film.picture))
      yield (
        f'<figure class="shot"><video controls muted playsinline loop preload="metadata" poster="{poster}" '
        f'src="{_data("video/mp4", film.mp4)}"></video><figcaption><b>{film.rank}</b>: {_escape(film.title)}<br>'
        f'{_escape(film.account)}</figcaption></figure>'
      )
    yield '</div>'


def _published(found: Mapping[str, Any]) -> Iterator[str]:
  yield f'<p class="warn">{_escape(found["note"])}</p><p class="soft">Source: {_escape(found["source"])}.</p>'
  yield html_table(tables.published_v1(found))
  yield html_table(tables.published_v2(found))


def _sources(results: Mapping[str, Any]) -> Iterator[str]:
  yield html_table(tables.cards(results), 3)
  yield html_table(tables.scenes(results))
  for name, value in results['settings'].items():
    text = value if isinstance(value, str) else json.dumps(value)
    yield f'<div><b>{_escape(name)}</b> <code>{_escape(text)}</code></div>'


def _data(kind: str, content: bytes) -> str:
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'
