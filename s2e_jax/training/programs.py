"""The two programs of finetuning, a rollout and the epochs over it, compiled beside whatever a run begins with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from s2e_jax.training import parallel
from s2e_jax.training.finetune_startup import Setup
from s2e_jax.training.ppo import Learner
from s2e_jax.training.rollout import Actor, Rollout

_UPDATE_STREAM = 2  # of the run's seed

RollOut = Callable[..., tuple[Actor, Rollout, dict[str, jax.Array]]]
Update = Callable[..., tuple[Learner, dict[str, jax.Array]]]


def make_roll_out(setup: Setup) -> RollOut:
  """Pmapped (learner, model_state, actor) -> (actor, rollout, sums over all devices)."""

  def roll_out(learner: Learner, model_state: Any, actor: Actor) -> Any:
    actor, rollout, counts = setup.roller.roll_out(learner.params, model_state, actor, learner.privileged_stats)
    return actor, rollout, parallel.psum(counts)

  return parallel.pmap(roll_out, donate=(2,))


def make_update(setup: Setup, seed: int) -> Update:
  """Pmapped (learner, model_state, rollout, count [] uint32) -> (learner, figures); count tells updates apart."""

  def update(learner: Learner, model_state: Any, rollout: Rollout, count: jax.Array) -> Any:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _UPDATE_STREAM), count)
    key = jax.random.fold_in(key, parallel.device_index())
    return setup.update(learner, model_state, rollout, key)

  return parallel.pmap(update, donate=(0,))


def begin_to_compile(
  setup: Setup, seed: int, learner: Learner, model_state: Any, actors: Actor
) -> tuple[RollOut, Update]:
  """Both programs for the replicated learner and model state and for these actors; nothing is run.

  Traces them here, which needs the interpreter, and leaves the compilation to threads, which do not: the first
  call of a program waits for what is left of it. Of several processes each compiles at its first calls.
  """
  roll_out, rolled = parallel.compiled_beside(make_roll_out(setup), learner, model_state, actors)
  count = parallel.replicate(np.uint32(0))
  rollout = None if rolled is None else rolled[1]
  update, _ = parallel.compiled_beside(make_update(setup, seed), learner, model_state, rollout, count)
  return roll_out, update
