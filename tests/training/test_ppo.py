"""PPO on a toy world with pictures: the caches against naive twins, ratios, advantages, rates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import command_mixture
from s2e_jax.structs import Observation
from s2e_jax.training import epochs, parallel, ppo, variants
from s2e_jax.training.ppo import PPOOptions
from s2e_jax.training.rollout import Roller, first_actor, normalised
from tests.training.toy_agent import ENVS, HISTORY, STEPS, make_agent
from tests.training.toy_world import HEIGHT, NUM_STATE, WIDTH, ToyBatch


@functools.cache
def rolled(variant, keeps_frames):
  """(agent, labels, optimizer, learner, actor after, rollout, counts) of the same steps, cached or with frames."""
  agent, optimizer, labels, learner = make_agent(variant)
  roller = Roller(ToyBatch(ENVS), agent, STEPS, keeps_frames)
  actor = first_actor(ToyBatch(ENVS), agent, jax.random.key(0), keeps_frames)
  roll = jax.jit(roller.roll_out)
  actor, _, _ = roll(learner.params, {}, actor, learner.privileged_stats)
  actor, rollout, counts = roll(learner.params, {}, actor, learner.privileged_stats)
  return agent, optimizer, labels, learner, actor, rollout, counts


def stacks_of(rollout):
  """[T, B, K, h, w, 3] by the obvious loop; what precedes the piece is in its first K - 1 frames."""
  frames, begins = np.asarray(rollout.frames), np.asarray(rollout.begins)
  stacks = np.zeros((STEPS, ENVS, HISTORY, HEIGHT, WIDTH, 3), np.uint8)
  for b in range(ENVS):
    now = [frames[0, b]] * HISTORY
    for f in range(frames.shape[0]):
      now = [frames[f, b]] * HISTORY if begins[f, b] else now[1:] + [frames[f, b]]
      if f >= HISTORY - 1:
        stacks[f - HISTORY + 1, b] = now
  return stacks


def test_stored_contexts_are_those_of_whole_stacks_of_frames():
  agent, _, _, learner, _, cached, _ = rolled('ram', False)
  *_, kept, _ = rolled('ram', True)
  np.testing.assert_array_equal(cached.command, kept.command)
  assert np.asarray(kept.begins).sum() > 10 and np.asarray(cached.terminated).any()
  assert np.asarray(cached.truncated).any()
  stacks = stacks_of(kept).reshape(-1, HISTORY, HEIGHT, WIDTH, 3)
  goal = kept.goal.reshape(-1, 2)

  def naive(policy, obs):
    return policy.context(policy.encode_frames(obs.frames), obs.goal_in_robot, obs.has_goal)

  obs = Observation(jnp.asarray(stacks), goal, jnp.ones(goal.shape[0], bool))

  @jax.jit
  def anew(params, obs, command):
    context = agent.policy.apply({'params': params['policy']}, obs, method=naive)
    return context, command_mixture.log_prob(agent.commands(params, {}, context), command)

  wanted, old = anew(learner.params, obs, cached.command.reshape(-1, 2))
  np.testing.assert_allclose(cached.context.reshape(wanted.shape), wanted, atol=2e-5)
  np.testing.assert_allclose(old, cached.log_prob.reshape(-1), atol=2e-4)


def test_a_temperature_draws_better_modes_more_often_and_changes_no_best_one():
  agent, *_, learner, _, rollout, _ = rolled('ram', False)
  cold = dataclasses.replace(agent, temperature=0.5)
  context = rollout.context[0]
  warm, sharp = (a.commands(learner.params, {}, context) for a in (agent, cold))
  share = jax.nn.softmax(warm.logits)
  squared = share**2 / (share**2).sum(axis=-1, keepdims=True)
  assert float(jnp.abs(share - squared).max()) > 0.01
  np.testing.assert_allclose(jax.nn.softmax(sharp.logits), squared, rtol=1e-4, atol=1e-6)
  for how in (command_mixture.mode_command, lambda mixture: mixture.mean):
    np.testing.assert_array_equal(how(sharp), how(warm))


def gradient_of(variant, keeps_frames, chunk=0):
  agent, _, labels, learner, _, rollout, _ = rolled(variant, keeps_frames)
  options = PPOOptions(chunk=chunk)

  @functools.partial(jax.pmap, axis_name=parallel.AXIS, devices=jax.devices()[:1])
  def compute(learner, rollout):
    samples, _, _ = ppo.samples_of(rollout, learner, options)
    trainable, frozen = variants.split(learner.params, labels)
    loss = lambda t, s, k: ppo.ppo_loss(agent, options, variants.merge(t, frozen), {}, s, k)
    return epochs.mean_gradient(loss, trainable, samples, chunk, jax.random.key(0))

  one = lambda tree: jax.tree.map(lambda x: x[None], tree)
  return jax.tree.map(lambda x: np.asarray(x)[0], compute(one(learner), one(rollout)))


@pytest.fixture(scope='module')
def cached_gradient():
  return gradient_of('ram', False)


def close(a, b, scale):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=scale * max(np.abs(y).max(), 1e-3))


def test_the_cached_update_is_the_naive_one(cached_gradient):
  """The naive pipeline encodes every frame again for every gradient."""
  gradient, figures = gradient_of('ram', True)
  close(cached_gradient[0], gradient, 1e-4)
  assert figures['policy_loss'] == pytest.approx(cached_gradient[1]['policy_loss'], abs=1e-5)
  assert figures['value_loss'] == pytest.approx(cached_gradient[1]['value_loss'], rel=1e-4)


def test_chunks_change_nothing(cached_gradient):
  gradient, figures = gradient_of('ram', False, chunk=20)
  close(gradient, cached_gradient[0], 1e-4)
  assert figures['kl'] == pytest.approx(cached_gradient[1]['kl'], abs=1e-6)


def test_the_first_ratio_is_one(cached_gradient):
  assert cached_gradient[1]['ratio_max'] == pytest.approx(
    1.0, abs=1e-5
  )  # programs of other shapes round otherwise
  assert cached_gradient[1]['clip_fraction'] == 0 and cached_gradient[1]['kl'] < 1e-8


def test_samples_carry_advantages_of_a_plain_loop():
  _, _, _, learner, _, rollout, _ = rolled('ram', False)
  options = PPOOptions(gamma=0.9, lam=0.8)
  stats = learner.return_stats.replace(mean=jnp.array([0.7]), std=jnp.array([1.9]))
  learner = dataclasses.replace(learner, return_stats=stats)
  compute = jax.pmap(
    lambda x, y: ppo.samples_of(x, y, options), axis_name=parallel.AXIS, devices=jax.devices()[:1]
  )
  samples, returns, figures = compute(
    jax.tree.map(lambda x: x[None], rollout), jax.tree.map(lambda x: x[None], learner)
  )
  value = np.asarray(rollout.value, np.float64) * 1.9 + 0.7
  after = np.concatenate([value[1:], np.asarray(rollout.last_value)[None] * 1.9 + 0.7])
  advantage, wanted = np.zeros(ENVS), np.zeros((STEPS, ENVS))
  for t in reversed(range(STEPS)):
    for b in range(ENVS):
      end, late = bool(rollout.terminated[t, b]), bool(rollout.truncated[t, b])
      following = 0.0 if end else value[t, b] if late else after[t, b]
      delta = float(rollout.reward[t, b]) + 0.9 * following - value[t, b]
      advantage[b] = delta + (0.0 if end or late else 0.9 * 0.8 * advantage[b])
    wanted[t] = advantage
  np.testing.assert_allclose(returns[0], wanted + value, atol=1e-4)
  scaled = (wanted - wanted.mean()) / wanted.std()
  np.testing.assert_allclose(samples.advantage[0].reshape(STEPS, ENVS), scaled, atol=1e-4)
  np.testing.assert_allclose(samples.target[0].reshape(STEPS, ENVS), (wanted + value - 0.7) / 1.9, atol=1e-4)
  spread = np.mean((wanted + value) ** 2) - np.mean(wanted + value) ** 2
  assert figures['explained_variance'][0] == pytest.approx(1 - np.mean(wanted**2) / spread, abs=1e-3)
  np.testing.assert_allclose(
    samples.privileged[0], normalised(rollout.privileged, learner.privileged_stats).reshape(-1, NUM_STATE)
  )


def test_an_update_that_is_not_finite_changes_nothing_but_is_counted():
  agent, optimizer, labels, learner, _, rollout, _ = rolled('ram', False)
  rollout = dataclasses.replace(rollout, reward=rollout.reward.at[2, 3].set(jnp.nan))
  options = PPOOptions(num_epochs=3, num_minibatches=2)
  run = jax.pmap(
    lambda learner, rollout: ppo.update(
      agent, optimizer, labels, options, learner, {}, rollout, jax.random.key(0)
    ),
    axis_name=parallel.AXIS,
    devices=jax.devices()[:1],
  )
  after, figures = run(*jax.tree.map(lambda x: x[None], (learner, rollout)))
  assert figures['bad_updates'][0] == options.num_epochs * options.num_minibatches
  for x, y in zip(jax.tree.leaves(learner.params), jax.tree.leaves(after.params), strict=True):
    np.testing.assert_array_equal(x, y[0])


@pytest.mark.parametrize(('kl', 'wanted'), [(0.03, 2e-3), (0.02, 3e-3), (0.004, 4.5e-3), (0.006, 3e-3)])
def test_the_learning_rate_follows_the_kl(kl, wanted):
  options = PPOOptions(target_kl=0.01, rate_factor=1.5, rate_range=(1e-5, 1e-2))
  assert ppo.adapted_rate(jnp.float32(3e-3), jnp.float32(kl), options) == pytest.approx(wanted)
  fixed = dataclasses.replace(options, target_kl=0.0)
  assert ppo.adapted_rate(jnp.float32(3e-3), jnp.float32(kl), fixed) == pytest.approx(3e-3)


def test_the_learning_rate_stays_in_its_range():
  options = PPOOptions(rate_range=(1e-3, 2e-3))
  assert ppo.adapted_rate(jnp.float32(1.1e-3), jnp.float32(1.0), options) == pytest.approx(1e-3)
  assert ppo.adapted_rate(jnp.float32(1.9e-3), jnp.float32(0.0), options) == pytest.approx(2e-3)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('num_epochs', 0), ('num_minibatches', 0), ('clip', 0.0), ('gamma', 1.5), ('lam', -0.1), ('entropy', 'exact'),
    ('rate_range', (1e-3, 1e-4)), ('entropy_weight', -1.0), ('target_kl', float('nan')),
  ],
)  # fmt: skip
def test_numbers_that_break_a_rule_are_named(field, value):
  with pytest.raises(ValueError, match=f'ppo.{field}='):
    PPOOptions(**{field: value})
