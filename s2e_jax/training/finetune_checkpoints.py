"""Checkpoints of a finetuning run: learner, environments and counters, all of every device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from absl import logging

from s2e_jax.store.checkpoint import CheckpointStore, MismatchError
from s2e_jax.training import parallel, rundir
from s2e_jax.training.checkpoints import POLICY, TRAINER
from s2e_jax.training.finetune_startup import Setup
from s2e_jax.training.ppo import Learner
from s2e_jax.training.rollout import Actor

ACTORS = 'actors'


@dataclasses.dataclass(frozen=True)
class Counters:
  """iteration: rollouts learned from. updates: as many, but never set back. rollbacks: so far."""

  iteration: int = 0
  updates: int = 0
  rollbacks: int = 0


class FinetuneCheckpoints:
  """Writes and restores the checkpoints of a finetuning run; every method is called on all processes."""

  def __init__(self, workdir: Path, keep: int, setup: Setup) -> None:
    """Opens the folders `checkpoints` and `best` of a run."""
    self._store = CheckpointStore(workdir / rundir.CHECKPOINTS, keep=keep)
    self._best = CheckpointStore(workdir / rundir.BEST, by_metric=True)
    self._model_state = setup.model_state
    self._description = setup.description

  def newest(self) -> int | None:
    """Iteration of the newest checkpoint; None where nothing has been saved yet."""
    self._store.wait()  # what is still being written is the newest
    return self._store.latest()

  def restore_or(self, learner: Learner, actors: Actor) -> tuple[Learner, Actor, Counters]:
    """The newest learner (host), actors (local devices) and counters; those given where there is no checkpoint.

    Raises MismatchError for a checkpoint of another model, number of environments or of devices.
    """
    step = self.newest()
    if step is None:
      return learner, actors, Counters()
    where = f'checkpoint {self._store.folder / str(step)}'
    stored = self._store.description(step)
    rundir.check_model(stored['policy'], self._description['policy'], where)
    devices = stored['devices']['count']
    if devices != jax.device_count():
      raise MismatchError(
        f'{where} holds the environments of {devices} devices, here are {jax.device_count()}; resume on as many '
        f'(on CPUs: JAX_NUM_CPU_DEVICES={devices})'
      )
    like = jax.eval_shape(lambda: self._items(learner, actors))
    like[ACTORS] = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((jax.device_count(), *x.shape[1:]), x.dtype), like[ACTORS]
    )
    items = self._store.restore(step, like)
    policy, trainer = items[POLICY], items[TRAINER]
    restored = Learner(params={'policy': policy['params'], **trainer.pop('params')}, **trainer)
    logging.info('resuming from %s', where)
    return restored, parallel.scatter(items[ACTORS]), Counters(**stored['counters'])

  def save(self, learner: Learner, actors: Actor, counters: Counters) -> None:
    """Starts to save a replicated learner and the actors of all devices; nothing if the iteration is there."""
    host, everywhere = parallel.unreplicate(learner), parallel.gather(actors)
    if counters.iteration in self._store.steps():
      return
    description = self._description | {'counters': dataclasses.asdict(counters)}
    self._store.save(counters.iteration, self._items(host, everywhere), description)

  def save_if_best(self, variables: Any, counters: Counters, figures: dict[str, float]) -> bool:
    """Starts to save a policy if its trial was the best so far; returns whether it was.

    figures: of `trials`. Success counts, route completion only between equals. Its step is the number of updates:
    after a rollback, iterations are numbered as they have been before.
    """
    metric = 2 - figures['validation/success'] - 1e-3 * figures['validation/route_completion']
    if not self._best.is_better(metric) or counters.updates in self._best.steps():
      return False
    description = self._description | {'counters': dataclasses.asdict(counters), 'validation': figures}
    self._best.save(counters.updates, {POLICY: variables}, description, metric=metric)
    return True

  def _items(self, learner: Learner, actors: Actor) -> dict[str, Any]:
    others = {name: tree for name, tree in learner.params.items() if name != 'policy'}
    trainer = {
      'params': others,
      'opt_state': learner.opt_state,
      'privileged_stats': learner.privileged_stats,
      'return_stats': learner.return_stats,
    }
    policy = {'params': learner.params['policy'], **self._model_state}
    return {POLICY: policy, TRAINER: trainer, ACTORS: actors}

  def check(self) -> None:
    """Raises SaveError if a save in the background has failed."""
    self._store.check()
    self._best.check()

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._best.close()
    self._store.close()
