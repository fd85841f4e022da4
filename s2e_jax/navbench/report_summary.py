"""The figures of a benchmark run as one JSON-able record: per task, per cell, methods over seeds, and tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s2e_jax.closedloop.intervals import contacts_per_100m, mcnemar, mean_interval, paired_difference
from s2e_jax.closedloop.metrics import CLASSES, GOAL_RADIUS, PERSONAL_SPACE, REFRACTORY
from s2e_jax.closedloop.report import summarise
from s2e_jax.navbench.episodes import TASKS, blocked_share
from s2e_jax.navbench.published import published
from s2e_jax.navbench.report_cells import Cell, Figures, PolicyCard, joined, methods_of, over_seeds
from s2e_jax.structs import DT

FORMAT_VERSION = 1
BEFORE, AFTER = 'S2E-BC', 'S2E-Full'  # groups whose difference is what finetuning by RL gained
_DIFFERENCES = ('success', 'rc', 'contacts', 'spl')
_OF_SEEDS = ('success', 'rc', 'contacts')
_OF_CELLS = (
  'success',
  'rc',
  'rc_way',
  'contacts',
  'contact_share',
  'spl',
  'sct',
  'seconds',
  'intrusion',
  'clearance',
)
_NOT_AVERAGED = ('metres', 'seconds', 'nan_commands')


def results_of(
  cells: Sequence[Cell],
  figures: Sequence[Mapping[str, Figures]],
  policies: Mapping[str, PolicyCard],
  settings: Mapping[str, Any],
  top_speed: float,
  num_resamples: int = 2000,
) -> dict[str, Any]:
  """What results.json holds.

  figures: of `report_cells.cell_figures`, per cell. {'settings', 'protocol', 'scenes': {name: facts}, 'policies':
  {name: card}, 'methods': {group: names}, 'tasks': {task: `closedloop.report.summarise`'s of all policies, and
  'methods', 'method_pairs'}, 'cells': [of one scene and task], 'finetuning', 'published'}. Intervals are {'value',
  'low', 'high', 'n'}.
  """
  methods = methods_of(policies)
  tasks: dict[str, Any] = {}
  for task in (t for t in TASKS if any(c.task == t for c in cells)):
    pooled = joined([f for c, f in zip(cells, figures, strict=True) if c.task == task])
    tasks[task] = summarise(pooled, num_resamples) | _of_methods(pooled, methods, num_resamples)
  return {
    'benchmark': 'NavBench-GS',
    'format_version': FORMAT_VERSION,
    'settings': dict(settings),
    'protocol': protocol_of(cells, top_speed, num_resamples),
    'scenes': {cell.scene: _facts(cell) for cell in cells},
    'policies': {name: card.to_dict() for name, card in policies.items()},
    'methods': methods,
    'tasks': tasks,
    'cells': [_of_cell(c, f, num_resamples) for c, f in zip(cells, figures, strict=True)],
    'finetuning': _finetuning(tasks),
    'published': published(),
  }


def protocol_of(cells: Sequence[Cell], top_speed: float, num_resamples: int) -> dict[str, Any]:
  """The rules of judging as numbers; time limits are read off the traces."""
  limits: dict[str, set[float]] = {}
  for cell in cells:
    some = next(iter(cell.judged.traces.values()))
    limits.setdefault(cell.task, set()).add(some.command.shape[1] * DT)
  return {
    'success_radius': GOAL_RADIUS,
    'time_limit': {task: sorted(seconds) for task, seconds in limits.items()},
    'period': DT,
    'contact_ends_episode': False,
    'contact_refractory': REFRACTORY,
    'personal_space': PERSONAL_SPACE,
    'top_speed': float(top_speed),
    'is_deterministic': True,
    'num_resamples': num_resamples,
  }


def metrics_of(figures: Figures, num_resamples: int, keys: Sequence[str] | None = None) -> dict[str, Any]:
  """Intervals of figures [N] over episodes, with contacts_per_100m; keys: of these figures only."""
  chosen = [k for k in figures if k not in _NOT_AVERAGED] if keys is None else [k for k in keys if k in figures]
  found = {
    key: mean_interval(figures[key], num_resamples, is_share=key == 'success')
    for key in chosen
    if key != 'failure'
  }
  found['contacts_per_100m'] = contacts_per_100m(figures, num_resamples)
  return found


def _of_methods(
  pooled: Mapping[str, Figures], methods: Mapping[str, Sequence[str]], num_resamples: int
) -> dict[str, Any]:
  means = {group: over_seeds(pooled, names) for group, names in methods.items()}
  return {
    'methods': {
      group: {
        'metrics': metrics_of(means[group], num_resamples),
        'failures': _tally(pooled, names),
        'num_seeds': len(names),
        'seeds': {name: {key: float(pooled[name][key].mean()) for key in _OF_SEEDS} for name in names},
      }
      for group, names in methods.items()
    },
    'method_pairs': [
      {
        'first': a,
        'second': b,
        'difference': {
          key: paired_difference(means[a][key], means[b][key], num_resamples) for key in _DIFFERENCES
        },
        'mcnemar': _mcnemar(means[a]['success'], means[b]['success']),
      }
      for a, b in itertools.combinations(methods, 2)
    ],
  }  # fmt: skip


def _mcnemar(ours: np.ndarray, others: np.ndarray) -> dict[str, Any]:
  """McNemar's test of shares of arrivals [N] over seeds: an episode counts once, for whom it went better.

  With one seed each it is the usual test; with more it is the sign test over episodes, which seeds do not inflate.
  """
  return mcnemar(ours > others, others > ours)


def _tally(figures: Mapping[str, Figures], names: Sequence[str]) -> dict[str, int]:
  """Episodes of all these policies by how they ended."""
  ends = np.concatenate([figures[name]['failure'] for name in names]).astype(int)
  return dict(zip(CLASSES, np.bincount(ends, minlength=len(CLASSES)).tolist(), strict=True))


def _of_cell(cell: Cell, figures: Mapping[str, Figures], num_resamples: int) -> dict[str, Any]:
  return {
    'scene': cell.scene,
    'task': cell.task,
    'num_episodes': len(cell.planned),
    'straight_blocked_share': blocked_share(cell.planned),
    'mean_way_length': float(np.mean([e.way_length for e in cell.planned])),
    'policies': {
      name: {'metrics': metrics_of(f, num_resamples, _OF_CELLS), 'failures': _tally(figures, [name])}
      for name, f in figures.items()
    },
  }


def _facts(cell: Cell) -> dict[str, Any]:
  about, maps = cell.prepared.about, cell.prepared.maps
  return {
    'hash': cell.prepared.hash,
    'source_sha256': about.get('source', {}).get('sha256'),
    'num_gaussians': about.get('num_gaussians'),
    'drivable_area': round(maps.drivable_area, 2),
    'robot_radius': maps.robot_radius,
  }


def _finetuning(tasks: Mapping[str, Any]) -> dict[str, Any] | None:
  """AFTER minus BEFORE per task, and what was lost on `empty`; None where one of the two was not judged.

  forgetting_on_empty: SR of BEFORE minus SR of AFTER, so that more is worse; None without the task.
  """
  gain: dict[str, Any] = {}
  for task, found in tasks.items():
    for pair in found['method_pairs']:
      if {pair['first'], pair['second']} == {BEFORE, AFTER}:
        is_turned = pair['first'] == BEFORE
        gain[task] = {key: _turned(i) if is_turned else i for key, i in pair['difference'].items()}
  if not gain:
    return None
  forgotten = _turned(gain['empty']['success']) if 'empty' in gain else None
  return {'before': BEFORE, 'after': AFTER, 'gain': gain, 'forgetting_on_empty': forgotten}


def _turned(of: Mapping[str, Any]) -> dict[str, Any]:
  """The interval of the negative."""
  negative = lambda x: None if x is None else -x + 0.0
  return {'value': negative(of['value']), 'low': negative(of['high']), 'high': negative(of['low']), 'n': of['n']}
