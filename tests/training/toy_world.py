"""A world of one rule with pictures, in the place of `UrbanBatch`: compiles in a second.

The picture is as bright as the robot should be fast, its colour says whether to turn left or right; it is drawn
anew in every step. Reward is 1 less the errors. Episodes end by chance (termination) or after a limit.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
from brax.envs.base import State

from s2e_jax.robots import ROBOTS
from s2e_jax.training.rollout import Expert

HEIGHT, WIDTH, NUM_STATE, LIMIT = 16, 32, 3, 7


class ToyBatch:
  """What `training.rollout` uses of an `UrbanBatch`."""

  def __init__(self, num_envs):
    self.num_envs = num_envs
    self.env = SimpleNamespace(observation_size=NUM_STATE, config=SimpleNamespace(robot=ROBOTS['delivery']))

  def blank(self, key):
    num = self.num_envs
    zero, none = jnp.zeros(num), jnp.zeros(num, bool)
    info = {
      'terminated': none, 'truncated': none, 'has_arrived': none, 'has_collided': none,
      'nan_actions': jnp.zeros(num, jnp.int32), 'reward_terms': {'fit': zero},
    }  # fmt: skip
    metrics = {'route_completion': zero, 'speed': zero, 'level': zero}
    keys = jax.random.bits(key, (num, 2), jnp.uint32)
    state = State(
      {'key': keys, 'age': jnp.full(num, -1, jnp.int32), 'want': jnp.zeros((num, 2))}, None, zero, zero
    )
    return state.replace(obs=self._seen(state.pipeline_state), metrics=metrics, info=info)

  def begins(self, state):
    return state.pipeline_state['age'] == 0

  def _seen(self, inner):
    want = inner['want']
    left = (want[:, 1] > 0)[:, None] * jnp.array([1.0, 0.0, 0.5]) + (want[:, 1] <= 0)[:, None] * jnp.array(
      [0, 1, 0.5]
    )
    colour = (200 * want[:, :1] * left).astype(jnp.uint8)
    frames = jnp.broadcast_to(colour[:, None, None, None], (self.num_envs, 1, HEIGHT, WIDTH, 3))
    goal = jnp.stack([5.0 + inner['age'], jnp.zeros(self.num_envs)], -1)
    state = jnp.concatenate([want, inner['age'][:, None] / LIMIT], -1)
    return {'frames': frames, 'goal_in_robot': goal, 'state': state}

  def _step(self, state, action):
    inner = state.pipeline_state

    def draw(key):
      ends, want, following = jax.random.split(jax.random.wrap_key_data(key), 3)
      low, high = jnp.array([0.1, -0.6]), jnp.array([1.0, 0.6])
      return jax.random.uniform(ends), jax.random.uniform(want, (2,), minval=low, maxval=high), following

    chance, want, keys = jax.vmap(draw)(inner['key'])
    error = jnp.abs(action - inner['want']).sum(-1)
    age = inner['age'] + 1
    terminated = (chance < 0.1) & (age > 0)
    truncated = (age >= LIMIT) & ~terminated
    done = terminated | truncated
    inner = {'key': jax.vmap(jax.random.key_data)(keys), 'age': jnp.where(done, 0, age), 'want': want}
    reward = 1 - error
    info = state.info | {
      'terminated': terminated, 'truncated': truncated, 'has_arrived': terminated,
      'has_collided': terminated & False, 'reward_terms': {'fit': reward},
    }  # fmt: skip
    metrics = state.metrics | {'speed': action[:, 0]}
    return state.replace(
      pipeline_state=inner, obs=self._seen(inner), reward=reward, done=done.astype(jnp.float32), info=info,
      metrics=metrics,
    )  # fmt: skip


def toy_expert(share):
  """It wants what the toy wants, and counts the steps of its episode from the age at which it began."""

  def act(env, memory):
    return env.pipeline_state['want'], {'count': memory['count'] + 1}

  return Expert(lambda env: {'count': env.pipeline_state['age']}, act, share)
