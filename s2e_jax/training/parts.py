"""Where the time of an iteration goes: the parts of a rollout, each timed alone on the environments of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

from s2e_jax.sim.batch import camera_pictures
from s2e_jax.training.finetune_startup import Setup
from s2e_jax.training.ppo import Learner
from s2e_jax.training.rollout import Actor, normalised

_TRIES = 3  # of which the least counts
PARTS = ('render', 'encode', 'decide')


def seconds_of_parts(setup: Setup, learner: Learner, model_state: Any, actors: Actor) -> dict[str, float]:
  """Seconds per policy step of all environments of one device, compiled beforehand, by name of PARTS.

  render: the pictures. encode: their tokens and the context. decide: trajectories, command and value. What a
  rollout takes beyond them is the simulator: physics, people, contacts, rewards, resets.
  learner: on the host. actors: of the local devices, of which the first is timed.
  """
  agent, options = setup.agent, setup.batch.options
  assert options is not None  # finetuning has pictures
  one = jax.tree.map(lambda x: x.addressable_shards[0].data[0], actors)
  goal, frames = one.env.obs['goal_in_robot'], one.env.obs['frames'][:, -1]
  privileged = normalised(one.env.obs['state'], learner.privileged_stats)

  def encode(params: Any, frames: jax.Array, tokens: jax.Array, goal: jax.Array) -> tuple[jax.Array, jax.Array]:
    return agent.encode(params, model_state, frames), agent.context(params, model_state, tokens, goal)

  def decide(params: Any, context: jax.Array, goal: jax.Array, privileged: jax.Array) -> tuple[Any, jax.Array]:
    return agent.commands(params, model_state, context), agent.value(params, context, goal, privileged)

  encode, decide = jax.jit(encode), jax.jit(decide)
  params = jax.device_put(learner.params)
  seen = params, frames, one.tokens, goal
  calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    'render': (jax.jit(lambda episodes: camera_pictures(episodes, options)), (one.env.pipeline_state,)),
    'encode': (encode, seen),
    'decide': (decide, (params, encode(*seen)[1], goal, privileged)),
  }
  return {name: _least_seconds(call, arguments) for name, (call, arguments) in calls.items()}


def shares(parts: dict[str, float], steps: float, rollout_s: float, total_s: float) -> dict[str, float]:
  """'time/PART_share' of total_s (s) that holds `steps` steps and a rollout of rollout_s; the rest is 'simulate'.

  Where the parts alone take longer than the rollout did, they share it.
  """
  if not parts or total_s <= 0:
    return {}
  taken = {name: seconds * steps for name, seconds in parts.items()}
  scale = min(1.0, rollout_s / max(sum(taken.values()), 1e-9))
  found = {f'time/{name}_share': seconds * scale / total_s for name, seconds in taken.items()}
  return found | {'time/simulate_share': max(rollout_s / total_s - sum(found.values()), 0.0)}


def _least_seconds(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
  jax.block_until_ready(call(*arguments))
  times = []
  for _ in range(_TRIES):
    begin = time.perf_counter()
    jax.block_until_ready(call(*arguments))
    times.append(time.perf_counter() - begin)
  return min(times)
