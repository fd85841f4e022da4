"""Charts as inline SVG and HTML, which take the page's colours in light and dark, and need no scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from s2e_jax.closedloop.metrics import CLASSES
from s2e_jax.navbench.report_pictures import Ink
from s2e_jax.reporting import Interval, interval_cell

# class -> (background, text on it)
CLASS_COLOURS = {
  'success': ('#2f9e6b', '#fff'),
  'collision_stuck': ('#c8323c', '#fff'),
  'wrong_stop': ('#6b7280', '#fff'),
  'oscillation': ('#8b5cc8', '#fff'),
  'off_route': ('#d9822b', '#1c1c1e'),
  'time_out': ('#e3c04a', '#1c1c1e'),
}
_WIDTH, _ROW, _FOOT, _SIDE = 300, 34, 20, 8  # pixels
_SHOWN = 0.07  # share of a bar that has room for its number


def interval_chart(
  title: str,
  rows: Sequence[tuple[str, Ink, Interval, Sequence[float]]],
  limits: tuple[float, float],
  form: str = '.2f',
) -> str:
  """A panel of (name, ink, interval, values of single seeds) rows from limits[0] to limits[1]."""
  low, high = limits
  at = lambda value: _SIDE + (min(max(value, low), high) - low) / (high - low) * (_WIDTH - 2 * _SIDE)
  height = len(rows) * _ROW + _FOOT
  ticks = [low + (high - low) * i / 4 for i in range(5)]
  parts = [
    f'<line class="grid" x1="{at(x):.1f}" x2="{at(x):.1f}" y1="0" y2="{height - _FOOT}"/>'
    f'<text class="tick" x="{at(x):.1f}" y="{height - 5}" text-anchor="{_anchor(i)}">{x:.2g}</text>'
    for i, x in enumerate(ticks)
  ]
  for i, (name, ink, found, seeds) in enumerate(rows):
    y = i * _ROW + 25
    label = f'<text class="name" x="{_SIDE}" y="{i * _ROW + 13}">{html.escape(short(name, 26))}</text>'
    value = f'<text class="value" x="{_WIDTH - _SIDE}" y="{i * _ROW + 13}">{interval_cell(found, form)}</text>'
    parts.append(label + value)
    if found['value'] is None:
      continue
    if found['low'] is not None:
      parts.append(
        f'<line x1="{at(found["low"]):.1f}" x2="{at(found["high"]):.1f}" y1="{y}" y2="{y}" stroke="{ink.css}" '
        'stroke-width="4" stroke-linecap="round" opacity=".45"/>'
      )
    if len(seeds) > 1:
      parts += [f'<circle cx="{at(v):.1f}" cy="{y}" r="2.5" fill="none" stroke="{ink.css}"/>' for v in seeds]
    parts.append(f'<circle cx="{at(found["value"]):.1f}" cy="{y}" r="5" fill="{ink.css}"/>')
  spoken = '; '.join(f'{name} {interval_cell(found, form)}' for name, _, found, _ in rows)
  return (
    f'<figure class="panel"><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height}" '
    f'role="img" aria-label="{html.escape(title + ": " + spoken)}">{"".join(parts)}</svg></figure>'
  )


def ceiling_of(values: Sequence[float | None]) -> float:
  """A round number at or above all values, at least 0.5."""
  most = max([v for v in values if v is not None], default=0.0)
  return next((float(x) for x in (0.5, 1, 2, 3, 4, 6, 8, 12, 20, 40, 80) if x >= most), most)


def failure_bar(name: str, counts: Mapping[str, int]) -> str:
  """A stacked bar of episodes by how they ended, with its name above."""
  total = max(sum(counts.values()), 1)
  parts = []
  for kind in CLASSES:
    if counts[kind]:
      back, ink = CLASS_COLOURS[kind]
      text = str(counts[kind]) if counts[kind] / total >= _SHOWN else ''
      title = f'{kind.replace("_", " ")}: {counts[kind]} of {total}'
      parts.append(f'<i style="flex:{counts[kind]};background:{back};color:{ink}" title="{title}">{text}</i>')
  return f'<div class="bar"><span>{html.escape(name)}</span><div class="stack">{"".join(parts)}</div></div>'


def failure_legend() -> str:
  """What the colours of the bars mean."""
  items = (
    f'<li><b style="background:{back}"></b>{kind.replace("_", " ")}</li>'
    for kind, (back, _) in CLASS_COLOURS.items()
  )
  return f'<ul class="legend">{"".join(items)}</ul>'


def policy_legend(inks: Mapping[str, Ink], names: Sequence[str]) -> str:
  """Colours of policies; later seeds of a method are drawn in dashes."""
  items = []
  for name in names:
    kind = ('line', 'line dashed', 'line dotted')[min(inks[name].seed, 2)]
    items.append(f'<li><b class="{kind}" style="--c:{inks[name].css}"></b>{html.escape(name)}</li>')
  return f'<ul class="legend">{"".join(items)}</ul>'


def short(text: str, most: int) -> str:
  """Text of at most so many letters."""
  return text if len(text) <= most else text[: most - 1] + '…'


def _anchor(i: int) -> str:
  return 'start' if i == 0 else 'end' if i == 4 else 'middle'
