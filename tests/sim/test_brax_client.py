"""Brax's own PPO, a client that we did not write, trains on the state-only observation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.wrappers import training
from brax.training.agents.ppo import networks
from brax.training.agents.ppo import train as ppo

from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig

pytestmark = pytest.mark.usefixtures('compiled_quickly')


def device_put_replicated(tree, devices):
  """Stand-in for the function that left JAX in 0.10: a copy on each device, with a leading device axis."""
  mesh = jax.sharding.Mesh(np.array(devices), ('i',))
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('i'))
  copies = lambda x: jax.device_put(jnp.broadcast_to(x, (len(devices), *jnp.shape(x))), place)
  return jax.tree.map(copies, tree)


@pytest.fixture
def env(street_world):
  """Goals 3 to 7 m away, to the left or right of the robot's heading; brax keeps the time."""

  def generator(key, level):
    u = jax.random.uniform(key, (2,))
    start = jnp.stack([3.0 - 4.0 * u[0], 0.0])
    return street_world.replace(start_in_world=start, start_yaw=1.6 * (u[1] - 0.5))

  return UrbanEnv(generator, EnvConfig(action='unit', time_limit=0.0))


def test_braxs_wrappers_accept_the_environment(env):
  wrapped = training.wrap(env, episode_length=3)
  keys = jax.random.split(jax.random.PRNGKey(0), 4)
  state = jax.jit(wrapped.reset)(keys)
  step = jax.jit(wrapped.step)
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
  first = state
  for _ in range(3):
    state = step(state, jnp.zeros((4, 2)))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == shapes
  np.testing.assert_array_equal(state.done, 1)
  np.testing.assert_array_equal(state.info['truncation'], 1)
  np.testing.assert_array_equal(state.obs, first.obs)
  assert set(state.info['episode_metrics']) >= {'reward/arrival', 'success', 'sum_reward', 'length'}


@pytest.mark.slow
def test_braxs_ppo_learns_to_reach_the_goal(env, monkeypatch):
  monkeypatch.setattr(jax, 'device_put_replicated', device_put_replicated, raising=False)
  log = []
  ppo.train(
    environment=env,
    num_timesteps=200_000,
    max_devices_per_host=1,
    num_envs=64,
    episode_length=60,
    unroll_length=20,
    batch_size=64,
    num_minibatches=8,
    num_updates_per_batch=4,
    num_evals=5,
    num_eval_envs=64,
    learning_rate=1e-3,
    entropy_cost=3e-3,
    discounting=0.99,
    gae_lambda=0.95,
    reward_scaling=5.0,
    normalize_observations=True,
    network_factory=functools.partial(
      networks.make_ppo_networks, policy_hidden_layer_sizes=(64, 64), value_hidden_layer_sizes=(64, 64)
    ),
    progress_fn=lambda step, metrics: log.append(
      {name: float(metrics[f'eval/episode_{name}']) for name in ('reward', 'success')}
    ),
    seed=1,
  )
  assert all(np.isfinite(list(entry.values())).all() for entry in log)
  assert log[-1]['success'] > log[0]['success'] + 0.3
  assert log[-1]['reward'] > log[0]['reward'] + 0.2
