"""Group-relative advantages: by a plain loop, by hand, and through the rollout of the toy world."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import command_mixture
from s2e_jax.training import groups, ppo
from s2e_jax.training.ppo import PPOOptions
from s2e_jax.training.rollout import Roller, first_actor
from tests.training.toy_agent import ENVS, make_agent
from tests.training.toy_world import ToyBatch

pytestmark = pytest.mark.usefixtures('compiled_quickly')

GAMMA = 0.9


def looped(rewards, values, last_value, terminated, truncated, size):
  """One environment after the other, one step after the other."""
  num_steps, num = rewards.shape
  returns, lengths = np.zeros(num), np.full(num, num_steps)
  for b in range(num):
    scale = 1.0
    for t in range(num_steps):
      returns[b] += scale * rewards[t, b]
      scale *= GAMMA
      if terminated[t, b] or truncated[t, b]:
        lengths[b] = t + 1
        returns[b] += 0.0 if terminated[t, b] else scale * values[t, b]
        break
    else:
      returns[b] += scale * last_value[b]
  advantages = np.zeros((num_steps, num))
  for start in range(0, num, size):
    members = slice(start, start + size)
    relative = (returns[members] - returns[members].mean()) / returns[members].std()
    for i, b in enumerate(range(start, start + size)):
      advantages[: lengths[b], b] = relative[i]
  return advantages


def test_advantages_are_those_of_a_plain_loop():
  rng = np.random.default_rng(0)
  shape = 7, 12
  rewards, values = rng.normal(size=shape), rng.normal(size=shape)
  last = rng.normal(size=shape[1])
  terminated = rng.random(shape) < 0.15
  truncated = (rng.random(shape) < 0.15) & ~terminated
  found = groups.group_advantages(
    *(jnp.asarray(x, jnp.float32) for x in (rewards, values, last)),
    jnp.asarray(terminated), jnp.asarray(truncated), GAMMA, 4,
  )  # fmt: skip
  np.testing.assert_allclose(found, looped(rewards, values, last, terminated, truncated, 4), atol=1e-5)


def test_members_who_did_equally_well_teach_nothing():
  none = jnp.zeros((3, 4), bool)
  rewards = jnp.array([[1.0, 1.0, 0.0, 2.0]] + [[0.0] * 4] * 2)
  found = groups.group_advantages(rewards, jnp.zeros((3, 4)), jnp.zeros(4), none, none, GAMMA, 2)
  np.testing.assert_allclose(found, [[0, 0, -1, 1]] * 3, atol=1e-6)


def test_modes_are_taken_in_the_order_of_their_scores():
  logits = jnp.array([[0.0, 3.0, 1.0]] * 3 + [[2.0, -1.0, 0.5]] * 3)
  np.testing.assert_array_equal(groups.ranked_modes(logits, 3), [1, 2, 0, 0, 2, 1])


@pytest.mark.parametrize('keeps_frames', [False, True])
def test_a_rollout_begins_in_copies_and_sends_them_along_other_anchors(keeps_frames):
  agent, _, _, learner = make_agent('ppo_full' if keeps_frames else 'ram')
  batch, size = ToyBatch(ENVS), 3
  plain = Roller(batch, agent, 4, keeps_frames)
  params = learner.params | {'exploration': {'log_std': jnp.log(jnp.array([0.03, 0.03]))}}
  actor = first_actor(batch, agent, jax.random.key(0), keeps_frames)
  actor, _, _ = jax.jit(plain.roll_out)(params, {}, actor, learner.privileged_stats)
  grouped = dataclasses.replace(plain, group=size)
  _, rollout, _ = jax.jit(grouped.roll_out)(params, {}, actor, learner.privileged_stats)

  # every group saw one state, which one of its members was in
  state = np.asarray(rollout.privileged[0]).reshape(-1, size, 3)
  np.testing.assert_array_equal(state, state[:, :1].repeat(size, axis=1))
  was = np.asarray(actor.env.obs['state']).reshape(-1, size, 3)
  leaders = [int(np.flatnonzero((was[g] == state[g, 0]).all(-1))[0]) for g in range(len(was))]
  assert len(set(leaders)) > 1
  if keeps_frames:
    frames = np.asarray(rollout.frames[:3]).reshape(3, -1, size, *rollout.frames.shape[2:])
    np.testing.assert_array_equal(frames, frames[:, :, :1].repeat(size, axis=2))
    context = jax.jit(lambda p, samples: ppo.contexts_of(agent, p, {}, samples))(params, _samples(rollout))[:, 0]
  else:
    context = rollout.context[0]

  # each member went along another mode first
  mixture = jax.jit(lambda p, context: agent.commands(p, {}, context))(params, context)
  mode = groups.ranked_modes(mixture.logits, size)
  assert len(set(np.asarray(mode[:size]).tolist())) == size
  mean = jnp.take_along_axis(mixture.mean, mode[:, None, None], axis=1)[:, 0]
  assert float(jnp.abs(rollout.command[0] - mean).max()) < 0.03 * 5
  np.testing.assert_allclose(
    rollout.log_prob[0], command_mixture.log_prob(mixture, rollout.command[0]), rtol=1e-4, atol=1e-3
  )


def _samples(rollout):
  swap = lambda x: jnp.swapaxes(x, 0, 1)
  nothing = jnp.zeros(())
  return ppo.Samples(
    None, swap(rollout.frames), swap(rollout.begins), swap(rollout.goal), *[nothing] * 6
  )  # fmt: skip


@pytest.mark.parametrize('group', [-2, 1])
def test_groups_of_one_are_refused(group):
  with pytest.raises(ValueError, match=f'ppo.group={group} must be 0'):
    PPOOptions(group=group)
