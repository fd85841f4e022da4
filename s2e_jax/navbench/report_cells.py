"""What a benchmark run hands to its report: cells (scene and task), cards of policies; figures, pooled."""

from __future__ import annotations

import collections
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s2e_jax.closedloop.metrics import driving_metrics
from s2e_jax.closedloop.run import Judged
from s2e_jax.navbench.episodes import TASKS, PlannedEpisode
from s2e_jax.navbench.scene_folder import PreparedScene

TASK_TITLES = {
  'empty': 'Empty',
  'obstacle': 'Obstacle',
  'pedestrian': 'Pedestrian',
  'both': 'Obstacle+Pedestrian',
  'long': 'Long',
}
_AT = 0.5  # m that a trace may start or have its goal beside what was planned

Figures = dict[str, np.ndarray]  # by name, [N] each


@dataclasses.dataclass(frozen=True)
class PolicyCard:
  """What a policy is. kind: 'BC', 'RL finetuned', 'baseline', 'expert', ... told: 'point goal', 'image goal' or
  'nothing'. senses: 'rgb', 'depth', 'nothing' or 'everything'. group: the method; policies of one group are its
  seeds, and their episodes are pooled. checkpoint, step, seed: where the parameters come from."""

  kind: str
  told: str
  senses: str
  group: str
  checkpoint: str = ''
  step: int | None = None
  seed: int | None = None

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Cell:
  """One scene and one task, driven by every policy.

  task: one of episodes.TASKS. planned: [B] episodes as they were driven, in the order of the rows of `judged`.
  judged: traces [B] in the world of the prepared scene and figures [B], by policy.
  """

  scene: str
  task: str
  prepared: PreparedScene
  planned: Sequence[PlannedEpisode]
  judged: Judged

  @property
  def title(self) -> str:
    """'scene, task'."""
    return f'{self.scene}, {TASK_TITLES[self.task]}'


def methods_of(policies: Mapping[str, PolicyCard]) -> dict[str, list[str]]:
  """Names of policies by method, in the order in which the methods first come."""
  methods: dict[str, list[str]] = {}
  for name, card in policies.items():
    methods.setdefault(card.group, []).append(name)
  return methods


def check(cells: Sequence[Cell], policies: Mapping[str, PolicyCard]) -> None:
  """Raises ValueError where cells or policies cannot be reported: nothing there, names that are given twice or
  mean two things, policies that drove other episodes than the rest, or seeds that are no seeds of one method."""
  if not cells:
    raise ValueError('no cells to report: judge at least one scene on one task')
  if not policies:
    raise ValueError('no policies to report: judge at least one')
  _check_policies(policies)
  twice = [key for key, n in collections.Counter((c.scene, c.task) for c in cells).items() if n > 1]
  if twice:
    raise ValueError(f'cells {twice} are given twice: a scene and a task make one cell, join its episodes')
  hashes: dict[str, str] = {}
  for cell in cells:
    if cell.task not in TASKS:
      raise ValueError(f'{cell.scene}: task={cell.task!r} must be one of {TASKS}')
    if hashes.setdefault(cell.scene, cell.prepared.hash) != cell.prepared.hash:
      raise ValueError(
        f'{cell.scene}: two scenes of this name with different hashes; give them names of their own'
      )
    _check_cell(cell, policies)


def _check_policies(policies: Mapping[str, PolicyCard]) -> None:
  folded = collections.Counter(name.strip().casefold() for name in policies)
  twice = [name for name in policies if folded[name.strip().casefold()] > 1]
  if twice:
    raise ValueError(f'policies {twice} can hardly be told apart: duplicate names need names of their own')
  for group, names in methods_of(policies).items():
    if group in policies and policies[group].group != group:
      raise ValueError(
        f'{group!r} is a policy of group {policies[group].group!r} and a group of others: duplicate name, '
        'rename one'
      )
    told = {(policies[n].kind, policies[n].told, policies[n].senses) for n in names}
    if len(told) > 1:
      raise ValueError(f'group {group!r} holds {sorted(told)}: seeds of one method are alike; split the group')
    sources = collections.Counter((policies[n].checkpoint, policies[n].step, policies[n].seed) for n in names)
    same = [source for source, n in sources.items() if n > 1]
    if same:
      raise ValueError(
        f'group {group!r}: several policies have (checkpoint, step, seed) = {same[0]}: the same parameters twice '
        'are no two seeds'
      )


def _check_cell(cell: Cell, policies: Mapping[str, PolicyCard]) -> None:
  where = f'{cell.scene}, task {cell.task}'
  for kind, named in (('traces', cell.judged.traces), ('figures', cell.judged.figures)):
    missing, strange = [n for n in policies if n not in named], [n for n in named if n not in policies]
    if missing or strange:
      raise ValueError(
        f'{where}: {kind} of policies {missing} are missing, and {strange} have no card: every policy drives '
        'every cell'
      )
  num = len(cell.planned)
  if not num:
    raise ValueError(f'{where}: no episodes')
  starts = np.array([e.start for e in cell.planned])
  goals = np.array([e.goals[-1] for e in cell.planned])
  for name in policies:
    traces = cell.judged.traces[name]
    counts = {len(traces.num_steps), len(cell.judged.figures[name]['success'])}
    if counts != {num}:
      raise ValueError(
        f'{where}: {name} drove {sorted(counts)} episodes and {num} are planned: all drive the same ones; give '
        'the planned ones that were driven'
      )
    for what, found, meant in (('start', traces.position[:, 0], starts), ('goal', traces.goal, goals)):
      away = np.linalg.norm(np.asarray(found, float) - meant, axis=-1)
      if not away.max() <= _AT:
        b = int(np.argmax(away))
        raise ValueError(
          f'{where}: {name}, row {b}: the {what} is {away[b]:.2f} m from the planned one: the traces are of other '
          'episodes, or not in the world of the scene'
        )


def cell_figures(cell: Cell, policies: Mapping[str, PolicyCard], top_speed: float) -> dict[str, Figures]:
  """All figures [B] by policy, in the order of `policies`. top_speed: m/s, see metrics.sct."""
  return {
    name: {**cell.judged.figures[name], **driving_metrics(cell.judged.traces[name], top_speed)}
    for name in policies
  }


def joined(parts: Sequence[Mapping[str, Figures]]) -> dict[str, Figures]:
  """Figures by policy of several cells, one after the other; those that all have."""
  common = [key for key in next(iter(parts[0].values())) if all(key in f for part in parts for f in part.values())]
  return {name: {key: np.concatenate([part[name][key] for part in parts]) for key in common} for name in parts[0]}


def over_seeds(figures: Mapping[str, Figures], names: Sequence[str]) -> Figures:
  """Figures [N] of a method: per episode the mean over its policies, NaN where none has the figure.

  Of intervals over these the unit is the episode, however many seeds drove it.
  """
  with warnings.catch_warnings():
    # an episode in which nobody has the figure is NaN, as it should be
    warnings.simplefilter('ignore', RuntimeWarning)
    return {
      key: np.nanmean([figures[name][key] for name in names], axis=0)
      for key in figures[names[0]]
      if key != 'failure'
    }
