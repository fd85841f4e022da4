"""The report of a benchmark run: results.json, episodes.jsonl, table.md and report.html."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2e_jax.closedloop.pictures import telling_rows
from s2e_jax.closedloop.report import episode_rows
from s2e_jax.navbench.report_cells import Cell, Figures, PolicyCard, cell_figures, check
from s2e_jax.navbench.report_films import See, account, filmed, films_of
from s2e_jax.navbench.report_html import Shot, page
from s2e_jax.navbench.report_pictures import Ink, Plan, draw_episode, inks_of, plan_of, png
from s2e_jax.navbench.report_summary import results_of
from s2e_jax.navbench.report_tables import table
from s2e_jax.reporting import write_whole
from s2e_jax.sim.film import require_pyav

_MOST_SHOTS = 90  # maps on a page: with more it opens slowly


def write_navbench_report(
  cells: Sequence[Cell],
  policies: Mapping[str, PolicyCard],
  settings: Mapping[str, Any],
  out: Path,
  *,
  top_speed: float,
  see: See | None = None,
  film: Sequence[str] = (),
  num_maps: int = 3,
  num_resamples: int = 2000,
) -> dict[str, Any]:
  """Writes table.md, results.json, episodes.jsonl and report.html into `out`; returns what results.json holds.

  policies: by name, in the order of all tables. settings: JSON-able facts for the reader. top_speed: m/s, the
  fastest the robot can drive, for SCT. see: (cell, policy, row of the cell) -> what the robot saw, [T, h, w, 3]
  uint8, for films; picture t is of moment t. film: policies to film, by default the first of each of the first
  four methods. num_maps: of each cell, fewer where there are many cells. Everything is made before the first file
  is written, and each file is whole or as it was. Raises ValueError as `report_cells.check` does, for settings
  that are not JSON-able, and for films without PyAV.
  """
  check(cells, policies)
  for name, value, least in (('num_resamples', num_resamples, 1), ('num_maps', num_maps, 0)):
    if value < least:
      raise ValueError(f'{name}={value} must be at least {least}')
  try:
    json.dumps(dict(settings), allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f'settings={settings} must be JSON-able: {error}') from error
  names = filmed(policies, film)
  if see is not None:
    require_pyav()
  figures = [cell_figures(cell, policies, top_speed) for cell in cells]
  results = results_of(cells, figures, policies, settings, top_speed, num_resamples)
  rows = ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows_of(cells, figures, policies))
  inks = inks_of(policies)
  plans = _plans(cells) if num_maps or see is not None else {}
  shots = list(shots_of(cells, figures, plans, inks, num_maps)) if num_maps else []
  films = films_of(cells, figures, names, plans, inks, see) if see is not None else []
  contents = {
    'episodes.jsonl': rows,
    'results.json': json.dumps(results, indent=1, allow_nan=False) + '\n',
    'table.md': table(results),
    'report.html': page(results, shots, films, inks),
  }
  out.mkdir(parents=True, exist_ok=True)
  for file, content in contents.items():
    write_whole(out / file, content)
  return results


def rows_of(
  cells: Sequence[Cell], figures: Sequence[Mapping[str, Figures]], policies: Mapping[str, PolicyCard]
) -> Iterator[dict[str, Any]]:
  """A JSON-able row per cell, policy and episode: scene, task, episode, method, all figures, failure class."""
  for cell, found in zip(cells, figures, strict=True):
    for row in episode_rows(found, [cell.scene] * len(cell.planned)):
      del row['layout']  # of worlds that are drawn; here it is the scene
      yield {'scene': cell.scene, 'task': cell.task, 'method': policies[row['policy']].group, **row}


def shots_of(
  cells: Sequence[Cell],
  figures: Sequence[Mapping[str, Figures]],
  plans: Mapping[str, Plan],
  inks: Mapping[str, Ink],
  num_maps: int,
) -> Iterator[Shot]:
  """Maps of the episodes of each cell in which policies differ most."""
  per_cell = max(1, min(num_maps, _MOST_SHOTS // len(cells)))
  for cell, found in zip(cells, figures, strict=True):
    for b in telling_rows(found, per_cell):
      accounts = {name: account(f, b) for name, f in found.items()}
      yield Shot(cell.scene, cell.task, b, accounts, png(draw_episode(cell, b, plans[cell.scene], inks)))


def _plans(cells: Sequence[Cell]) -> dict[str, Plan]:
  """The ground plan of every scene."""
  return {name: plan_of(prepared) for name, prepared in {c.scene: c.prepared for c in cells}.items()}
