"""PPO learns on a toy world with pictures: what moves, what stays, and that devices never drift apart."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.training import parallel, ppo, variants
from s2e_jax.training.ppo import PPOOptions
from s2e_jax.training.rollout import Roller, first_actor
from tests.training.toy_agent import ENVS, STEPS, make_agent
from tests.training.toy_world import ToyBatch

pytestmark = pytest.mark.usefixtures('compiled_quickly')

OPTIONS = PPOOptions(num_epochs=3, num_minibatches=2, entropy_weight=0.0, rate_range=(1e-4, 3e-3))


def train(variant, iterations, options, seed=0):
  """(learner before, learner after, mean reward and figures of every iteration) on two devices."""
  agent, optimizer, labels, learner = make_agent(variant)
  keeps = variant in ('ppo_full', 'ppo_scratch')
  roller = Roller(ToyBatch(ENVS), agent, STEPS, keeps, group=options.group)
  pmap = functools.partial(jax.pmap, axis_name=parallel.AXIS, devices=jax.devices()[:2])
  actors = [first_actor(ToyBatch(ENVS), agent, jax.random.key(10 + i), keeps) for i in range(2)]
  # placed as pmap places its results, or the second call would compile anew
  actors = pmap(lambda x: x)(jax.tree.map(lambda *x: jnp.stack(x), *actors))
  state = pmap(lambda x: x)(jax.tree.map(lambda x: jnp.stack([x, x]), learner))
  traces = []

  @pmap
  def iteration(state, actor, count):
    traces.append(1)
    actor, rollout, counts = roller.roll_out(state.params, {}, actor, state.privileged_stats)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), count), parallel.device_index())
    state, figures = ppo.update(agent, optimizer, labels, options, state, {}, rollout, key)
    return state, actor, parallel.psum(counts), figures

  rewards, last = [], {}
  for i in range(iterations):
    state, actors, counts, last = iteration(state, actors, jnp.full(2, i, jnp.uint32))
    rewards.append(float(counts['reward'][0] / counts['steps'][0]))
  assert len(traces) == 1
  for leaf in jax.tree.leaves(state):  # devices never drift apart
    np.testing.assert_array_equal(leaf[0], leaf[1])
  return learner, jax.tree.map(lambda x: np.asarray(x)[0], state), np.array(rewards), last


@pytest.fixture(scope='module')
def ram_run():
  return train('ram', 40, OPTIONS)


def test_ram_learns_from_the_picture_and_leaves_the_rest_untouched(ram_run):
  before, after, rewards, _ = ram_run
  assert rewards[-5:].mean() > rewards[:5].mean() + 0.25
  labels = jax.tree.leaves(variants.variant_labels(before.params, 'ram'))
  for label, x, y in zip(labels, jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
    assert np.array_equal(x, y) == (label == variants.FROZEN)
  assert int(after.privileged_stats.count) == 40 * 2 * ENVS * STEPS


def test_copies_of_one_state_that_are_compared_teach_too():
  _, _, rewards, _ = train('ram', 40, dataclasses.replace(OPTIONS, group=4))
  assert rewards[-5:].mean() > rewards[:5].mean() + 0.15


@pytest.mark.parametrize('variant', ['ppo_full', 'decoder_ft'])
def test_other_variants_learn_too(variant):
  before, after, rewards, _ = train(variant, 25, OPTIONS)
  assert rewards[-5:].mean() > rewards[:5].mean() + 0.1
  moved = not np.array_equal(
    jax.tree.leaves(before.params['policy']['encoder'])[0], jax.tree.leaves(after.params['policy']['encoder'])[0]
  )
  assert moved == (variant == 'ppo_full')
