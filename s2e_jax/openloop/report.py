"""results.json, table.md and the pictures of an open-loop evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.data.dataset import Dataset
from s2e_jax.openloop import pictures
from s2e_jax.openloop.run import POLICIES, Evaluation
from s2e_jax.reporting import interval_table, write_whole

# column -> (metric, format); a metric that a method lacks shows as a dash
_COLUMNS = {
  'ADE m': ('ade', '.3f'),
  'FDE m': ('fde', '.3f'),
  'ADE at true speed m': ('ade_at_true_speed', '.3f'),
  'minADE@3 m': ('minADE@3', '.3f'),
  'minADE@M m': ('minADE@M', '.3f'),
  'minFDE@M m': ('minFDE@M', '.3f'),
  'miss': ('miss_rate', '.2f'),
  'miss@M': ('miss_rate@M', '.2f'),
  'heading deg': ('heading_error_deg', '.1f'),
  'mAP': ('mAP', '.3f'),
}
_CALIBRATION = {
  'NLL nats/waypoint': ('nll_metres', '.2f'),
  '50 % ellipse, top': ('coverage_50_top', '.2f'),
  '90 % ellipse, top': ('coverage_90_top', '.2f'),
  '50 %, assigned': ('coverage_50_assigned', '.2f'),
  '90 %, assigned': ('coverage_90_assigned', '.2f'),
  '50 %, shape': ('coverage_50_shape', '.2f'),
  '90 %, shape': ('coverage_90_shape', '.2f'),
}


def write_report(evaluation: Evaluation, dataset: Dataset, out: Path, num_pictures: int = 9) -> list[Path]:
  """Writes results.json, table.md and pictures/*.png into `out` and returns their paths.

  num_pictures: windows drawn, a third each of the best, the median and the worst by ADE of the top mode; 0 = no
  pictures at all.
  """
  out.mkdir(parents=True, exist_ok=True)
  written = [write_whole(out / 'results.json', json.dumps(evaluation.results, indent=1, allow_nan=False) + '\n')]
  written.append(write_whole(out / 'table.md', table(evaluation.results)))
  folder = out / 'pictures'
  for stale in folder.glob('*.png'):
    stale.unlink()
  if num_pictures:
    folder.mkdir(exist_ok=True)
    written.append(pictures.draw_calibration(evaluation, folder / 'calibration.png'))
    written.append(pictures.draw_anchors(evaluation, folder / 'anchors.png'))
    for name, row in picked_cases(evaluation, num_pictures):
      written.append(pictures.draw_case(evaluation, dataset, row, name, folder / f'{name}.png'))
  return written


def picked_cases(evaluation: Evaluation, count: int) -> list[tuple[str, int]]:
  """('best_1', row), ... of `count` windows, a third each best, median and worst; clips differ if they can."""
  error = np.asarray(_top_ade(evaluation))
  order = np.argsort(error, kind='stable')
  middle = np.argsort(np.abs(error - np.median(error)), kind='stable')
  chosen: list[tuple[str, int]] = []
  taken: set[int] = set()
  for i, (name, ranking) in enumerate((('best', order), ('median', middle), ('worst', order[::-1]))):
    want = count // 3 + (i < count % 3)
    ranked = [int(r) for r in ranking if r not in taken]
    first_of_clip: dict[int, int] = {}
    for row in ranked:
      first_of_clip.setdefault(int(evaluation.cases.clip[row]), row)
    rows = list(dict.fromkeys([*first_of_clip.values(), *ranked]))[:want]
    taken.update(rows)
    chosen += [(f'{name}_{k + 1}', row) for k, row in enumerate(rows)]
  return chosen


def _top_ade(evaluation: Evaluation) -> np.ndarray:
  mixture = evaluation.mixtures['policy']
  top = np.argmax(mixture.logits, axis=1)
  predicted = np.asarray(mixture.waypoints_in_robot)[np.arange(len(top)), top]
  return np.linalg.norm(predicted - evaluation.cases.waypoints, axis=-1).mean(axis=-1)


def table(results: dict[str, Any]) -> str:
  """The Markdown page: per group (all, then every source) the methods, calibration and the gain."""
  lines = ['# Open-loop evaluation', '']
  if results['is_synthetic']:
    lines += ['**Synthetic data: these figures show that the pipeline works, not how well S2E navigates.**', '']
  checkpoint = results.get('checkpoint', {})
  if checkpoint:
    lines.append(
      f'Checkpoint `{checkpoint["path"]}` ({checkpoint["model"]}, step {checkpoint["step"]}) on '
      f'{results["clips"]} of `{results["dataset"]["path"]}`.'
    )
  lines += [
    f'{results["num_windows"]} windows ({results["num_windows_with_goal"]} with a goal) of '
    f'{_clips(results["num_clips"])}. Value [{results["interval"]}]; no interval from a single clip.',
    '',
    *(f'> {note}' for note in results.get('notes', [])),
  ]
  groups = results['groups']
  shown = ['all'] if len(groups) == 2 else list(groups)  # one source: the same figures twice
  for name in shown:
    lines += ['', *_group_lines(results['sources'][0] if len(groups) == 2 else name, groups[name])]
  return '\n'.join(lines) + '\n'


def _group_lines(title: str, group: dict[str, Any]) -> list[str]:
  buckets = ', '.join(f'{count} {name}' for name, count in group['buckets'].items())
  methods = group['methods']
  lines = [f'## {title}: {group["num_windows"]} windows of {_clips(group["num_clips"])} ({buckets})', '']
  lines += _markdown(_COLUMNS, methods, list(methods))
  lines += [
    '',
    'Calibration: share of true waypoints inside an ellipse of the top or the assigned mode in metres, or of the '
    'assigned mode once truth is divided by its own v (shape). Ideal: 0.50 and 0.90.',
    '',
  ]
  lines += _markdown(_CALIBRATION, methods, [name for name in POLICIES if name in methods])
  lines.append('')
  for name, gain in group['gain'].items():
    lines.append(f'- `{name}`: ADE below the better of constant velocity and straight to goal: {_percent(gain)}.')
  return lines


def _markdown(columns: dict[str, tuple[str, str]], methods: dict[str, Any], names: Sequence[str]) -> list[str]:
  shown = {title: column for title, column in columns.items() if any(column[0] in methods[n] for n in names)}
  return interval_table('method', shown, {name: methods[name] for name in names})


def _clips(count: int) -> str:
  return f'{count} clip' + 's' * (count != 1)


def _percent(gain: dict[str, Any]) -> str:
  if gain['value'] is None:
    return 'an unknown share (their error is zero)'
  text = f'{gain["value"]:.1%}'
  return text if gain['low'] is None else f'{text} [{gain["low"]:.1%}, {gain["high"]:.1%}]'
