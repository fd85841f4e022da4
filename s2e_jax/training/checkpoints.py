"""The checkpoints of a run: the newest ones to resume from, the best one to use."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging

from s2e_jax.store.checkpoint import CheckpointStore, MismatchError
from s2e_jax.training import parallel, rundir
from s2e_jax.training.optim import TrainState

POLICY, TRAINER = 'policy', 'trainer'


def items_of(state: TrainState) -> dict[str, Any]:
  """What is stored of a state: 'policy' (the variables to judge and export) and 'trainer' (the rest)."""
  trainer = {
    'opt_state': state.opt_state,
    'counters': {'step': state.step, 'num_bad': state.num_bad, 'bad_streak': state.bad_streak},
  }
  if state.ema is not None:
    trainer['params'] = state.params  # 'policy' holds the average then
  return {POLICY: state.policy_variables, TRAINER: trainer}


def state_of(items: Mapping[str, Any], like: TrainState) -> TrainState:
  """Inverse of `items_of`."""
  policy, trainer = items[POLICY], items[TRAINER]
  has_ema = like.ema is not None
  return TrainState(
    params=trainer['params'] if has_ema else policy['params'],
    ema=policy['params'] if has_ema else None,
    model_state={k: v for k, v in policy.items() if k != 'params'},
    opt_state=trainer['opt_state'],
    **trainer['counters'],
  )


@dataclasses.dataclass(frozen=True)
class Resumed:
  """The host's part of a checkpoint: the loader's state and the metrics of a log interval that has begun."""

  loader_state: bytes
  interval: dict[str, Any]


class RunCheckpoints:
  """Writes and restores the checkpoints below a run's folder; every method is called on all processes."""

  def __init__(self, workdir: Path, keep: int, description: Mapping[str, Any]):
    """description: JSON-able, goes with every checkpoint; its 'policy' must be that of any already there."""
    self._newest = CheckpointStore(workdir / rundir.CHECKPOINTS, keep=keep)
    self._best = CheckpointStore(workdir / rundir.BEST, by_metric=True)
    self._description = dict(description)

  def restore_or(self, initial: TrainState) -> tuple[TrainState, Resumed | None]:
    """The newest state and the host's part of it, or `initial` and None when there is no checkpoint.

    Raises ValueError for a checkpoint of another model or of another number of processes.
    """
    step = self._newest.latest()
    if step is None:
      return initial, None
    where = f'checkpoint {self._newest.folder / str(step)}'
    description = self._newest.description(step)
    rundir.check_model(description['policy'], self._description['policy'], where)
    loaders = description['loader_states']
    if len(loaders) != jax.process_count():
      raise MismatchError(
        f'{where} was written by {len(loaders)} processes, this run has {jax.process_count()}; the data order '
        'can only be resumed with the same number'
      )
    stored = description['devices']['count']
    if stored != jax.device_count():
      logging.warning(
        '%s: written on %d devices, now %d: the run goes on, but not bit for bit',
        where,
        stored,
        jax.device_count(),
      )
    like = jax.eval_shape(lambda: items_of(initial))
    logging.info('resuming from %s', where)
    state = state_of(self._newest.restore(step, like), initial)
    return state, Resumed(base64.b64decode(loaders[jax.process_index()]), description['interval'])

  def save(self, state: TrainState, loader_state: bytes, interval: Mapping[str, Any]) -> None:
    """Starts to save a replicated state and the loaders' states behind it; nothing if the step is there.

    interval: JSON-able metrics of the log interval that has begun.
    """
    host = parallel.unreplicate(state)
    loaders = [base64.b64encode(s).decode() for s in parallel.gather_bytes(loader_state)]
    if int(host.step) not in self._newest.steps():
      extra = {'loader_states': loaders, 'interval': dict(interval)}
      self._newest.save(int(host.step), items_of(host), self._description | extra)

  def save_if_best(self, state: TrainState, metric: float, values: Mapping[str, Any]) -> bool:
    """Starts to save the policy of a replicated state if `metric` is the lowest so far; returns whether it is.

    values: scalars to put into the description, e.g. all validation figures.
    """
    if not self._best.is_better(metric):
      return False
    variables = parallel.unreplicate(state.policy_variables)
    step = int(parallel.unreplicate(state.step))
    scalars = {k: float(v) for k, v in values.items() if getattr(v, 'ndim', 0) == 0}
    self._best.save(step, {POLICY: variables}, self._description | {'validation': scalars}, metric=metric)
    return True

  def check(self) -> None:
    """Raises SaveError if a save in the background has failed."""
    self._newest.check()
    self._best.check()

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._best.close()
    self._newest.close()
