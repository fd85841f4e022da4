"""Environment benchmark: the whole step of 256 rendered environments."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
from brax.envs.base import State

from experiments.bench.timing import Row, interleaved
from experiments.sim_costs.run import make_batch, make_run
from s2e_jax.sim.batch import UrbanBatch, camera_pictures
from s2e_jax.sim.episode import next_key

ENVS, STEPS = 256, 16


def _select_step(batch: UrbanBatch, state: State, action: jax.Array) -> State:
  """The step as vmapped wrappers do it: a new world for everybody in every step, taken where an episode ended."""
  env = batch.env
  after = jax.vmap(env.step)(state.replace(obs=state.obs['state']), action)
  old = after.pipeline_state
  fresh = jax.vmap(env.begin)(jax.vmap(next_key)(old.key), jnp.ones(batch.num_envs))
  done = after.done > 0
  choose = lambda new, old: jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), new, old)
  episode, vector = jax.tree.map(choose, (fresh.pipeline_state, fresh.obs), (old, after.obs))
  assert batch.options is not None
  frames = camera_pictures(episode, batch.options)
  obs = {'state': vector, 'goal_in_robot': episode.goal_in_robot, 'frames': frames[:, None]}
  return after.replace(pipeline_state=episode, obs=obs)


def env_step() -> Row:
  """256 environments of 32 primitives with people, resets and 64x128 pictures, against resets by selection."""
  batch = make_batch(ENVS)
  run = make_run(batch, STEPS)
  state = batch.reset(jax.random.key(0))
  for seed in range(3):  # episodes that began together drift apart
    state, _ = run(state, jax.random.key(seed))
  action = jnp.tile(jnp.array([0.5, 0.2]), (ENVS, 1))
  select = jax.jit(lambda state: _select_step(batch, state, action))
  return interleaved(
    'env_step',
    lambda: run(state, jax.random.key(9)),
    lambda: select(state),
    work=ENVS * STEPS,
    baseline_work=ENVS,
    unit='rendered policy steps/s (256 environments, 64x128)',
    baseline_name='a new world for everybody, selected where done',
    rounds=5,
    warmup=1,
  )


def env_step_wide_vectors() -> Row:
  """The same with 512-bit vectors, as the commands ask for, against the 256 bits that XLA prefers by itself."""
  batch = make_batch(ENVS)
  shapes = jax.eval_shape(batch.blank, jax.random.key(0)), jax.eval_shape(jax.random.key, 0)
  lowered = jax.jit(make_run(batch, STEPS)).lower(*shapes)
  wide, narrow = (lowered.compile({'xla_cpu_prefer_vector_width': width}) for width in ('512', '256'))
  state = batch.blank(jax.random.key(0))
  for seed in range(3):
    state, _ = wide(state, jax.random.key(seed))
  return interleaved(
    'env_step_wide_vectors',
    lambda: wide(state, jax.random.key(9)),
    lambda: narrow(state, jax.random.key(9)),
    work=ENVS * STEPS,
    unit='rendered policy steps per CPU second (256 environments, 64x128)',
    baseline_name='256-bit vectors',
    rounds=9,
    warmup=1,
    clock=time.process_time,
  )
