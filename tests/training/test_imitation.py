"""Supervised variants on the toy world: they learn the expert's commands, in whose states, and what stays."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import command_mixture
from s2e_jax.training import epochs, imitation, parallel, variants
from s2e_jax.training.imitation import ImitationOptions
from s2e_jax.training.rollout import Guidance, Roller, begun_anew, first_actor
from tests.training.toy_agent import ENVS, STEPS, make_agent
from tests.training.toy_world import ToyBatch, toy_expert

pytestmark = pytest.mark.usefixtures('compiled_quickly')

ITERATIONS = 30
OPTIONS = ImitationOptions(num_epochs=3, num_minibatches=2)


def roller_of(agent, keeps_frames, share):
  """(roller, actor before its first step)."""
  batch, expert = ToyBatch(ENVS), toy_expert(share)
  actor = first_actor(batch, agent, jax.random.key(10), keeps_frames, expert)
  return Roller(batch, agent, STEPS, keeps_frames, expert=expert), actor


@functools.cache
def trained(variant, share):
  """(learner before, learner after, rollouts, mean reward and figures of every iteration)."""
  agent, optimizer, labels, learner = make_agent(variant)
  roller, actor = roller_of(agent, variant == 'sft_full', share)

  @functools.partial(jax.pmap, axis_name=parallel.AXIS, devices=jax.devices()[:1])
  def iteration(learner, actor, key):
    actor, rollout, counts = roller.roll_out(learner.params, {}, actor, learner.privileged_stats)
    learner, figures = imitation.update(agent, optimizer, labels, OPTIONS, learner, {}, rollout, key)
    return learner, actor, rollout, counts, figures

  one = lambda tree: jax.tree.map(lambda x: x[None], tree)
  state, actor = one(learner), one(actor)
  rollouts, rewards, figures = [], [], []
  for i in range(ITERATIONS):
    state, actor, rollout, counts, of_update = iteration(state, actor, jax.random.key(i)[None])
    rollouts.append(jax.tree.map(lambda x: np.asarray(x)[0], rollout))
    rewards.append(float(counts['reward'][0] / counts['steps'][0]))
    figures.append({name: float(value[0]) for name, value in of_update.items()})
  return learner, jax.tree.map(lambda x: np.asarray(x)[0], state), rollouts, np.array(rewards), figures


@functools.cache
def held_out():
  """(context-free) frames, goals and wanted commands of worlds that no training saw."""
  batch = ToyBatch(200)
  state = batch.blank(jax.random.key(999))
  for _ in range(3):
    state = batch._step(state, jnp.zeros((200, 2)))
  return state.obs['frames'][:, -1], state.obs['goal_in_robot'], state.pipeline_state['want']


def error_of(variant, learner):
  """[2] mean absolute error of the judged command, for episodes that begin with the frame."""
  agent, *_ = make_agent(variant)
  frames, goal, want = held_out()

  @jax.jit
  def commands(params):
    tokens = jnp.repeat(agent.encode(params, {}, frames)[:, None], 3, axis=1)
    mixture = agent.commands(params, {}, agent.context(params, {}, tokens, goal))
    return command_mixture.mode_command(mixture)

  return np.abs(np.asarray(commands(learner.params)) - np.asarray(want)).mean(axis=0)


def test_sft_comes_close_to_the_expert_where_it_never_was_and_trains_the_branches_alone():
  before, after, rollouts, rewards, figures = trained('sft', 1.0)
  first, last = error_of('sft', before), error_of('sft', after)
  assert first.sum() > 0.4 and last.sum() < 0.5 * first.sum()
  assert figures[-1]['loss'] < figures[0]['loss'] - 1 and figures[-1]['learning_rate'] == pytest.approx(3e-3)
  assert figures[-1]['error_v'] < figures[0]['error_v'] and figures[-1]['error_w'] < figures[0]['error_w']
  for rollout in rollouts[1:]:  # the first begins the episodes
    np.testing.assert_array_equal(rollout.command, rollout.label)
  assert rewards[1:] == pytest.approx(1.0)
  labels = jax.tree.leaves(variants.variant_labels(before.params, 'sft'))
  assert {variants.TRAIN, variants.FROZEN} == set(labels)
  for label, x, y in zip(labels, jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
    assert np.array_equal(x, y) == (label == variants.FROZEN)


def test_sft_full_moves_the_encoder_and_neither_critic_nor_exploration():
  before, after, _, _, _ = trained('sft_full', 1.0)
  assert error_of('sft_full', after).sum() < 0.5 * error_of('sft_full', before).sum()
  for x, y in zip(
    jax.tree.leaves(before.params['policy']['encoder']),
    jax.tree.leaves(after.params['policy']['encoder']),
    strict=True,
  ):
    assert not np.array_equal(x, y)
  for group in ('critic', 'exploration'):
    for x, y in zip(jax.tree.leaves(before.params[group]), jax.tree.leaves(after.params[group]), strict=True):
      np.testing.assert_array_equal(x, y)


def test_dagger_drives_itself_as_it_is_judged_and_drives_better():
  before, after, rollouts, rewards, _ = trained('dagger', 0.0)
  agent, *_ = make_agent('dagger')
  first, last = rollouts[0], rollouts[-1]
  mixture = agent.steered(before.params, agent.trajectories(before.params, {}, first.context))
  np.testing.assert_allclose(first.command, command_mixture.mode_command(mixture), atol=1e-5)  # nothing is drawn
  assert (last.command != last.label).all()
  np.testing.assert_array_equal(last.label, last.privileged[..., :2])  # what the toy wants in that state
  np.testing.assert_allclose(last.reward, 1 - np.abs(last.command - last.label).sum(-1), atol=1e-5)
  assert rewards[-5:].mean() > rewards[1:6].mean() + 0.2
  assert error_of('dagger', after).sum() < 0.5 * error_of('dagger', before).sum()


def test_the_expert_drives_its_share_of_whole_episodes_and_remembers_nothing_of_the_last_one():
  """The toy's expert counts its steps: its count is the age of the episode."""
  agent, _, _, learner = make_agent('dagger')
  roller, actor = roller_of(agent, False, 0.4)
  roll_out = jax.jit(roller.roll_out)
  drives, episodes, ages = [], 0, []
  for i in range(30):
    actor, rollout, _ = roll_out(learner.params, {}, actor, learner.privileged_stats)
    rollout = jax.tree.map(np.asarray, rollout)
    ages.append(np.asarray(actor.env.pipeline_state['age']))
    np.testing.assert_array_equal(actor.guidance.memory['count'], ages[-1])
    if not i:
      continue  # it begins the episodes
    is_expert = (rollout.command == rollout.label).all(-1)
    ends = rollout.terminated | rollout.truncated
    # who drives changes only where an episode has ended
    assert not ((is_expert[1:] != is_expert[:-1]) & ~ends[:-1]).any()
    drives.append(is_expert[1:][ends[:-1]])
    episodes += drives[-1].size
  assert np.ptp(np.stack(ages)) > 3
  assert episodes > 300 and np.concatenate(drives).mean() == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize('num', [1, 7, 300])
def test_memories_of_all_that_begin_are_made_whatever_their_number(num):
  expert = toy_expert(0.5)
  state = ToyBatch(num).blank(jax.random.key(0))
  state.pipeline_state['age'] = jnp.arange(num)
  old = Guidance({'count': jnp.full(num, 77)}, jnp.ones(num, bool))
  begins = jnp.arange(num) % 3 == 0
  after = jax.jit(functools.partial(begun_anew, expert))(old, state, begins, jax.random.key(1))
  np.testing.assert_array_equal(after.memory['count'], np.where(begins, np.arange(num), 77))
  assert np.asarray(after.is_driving)[~np.asarray(begins)].all()
  if num == 300:
    assert 0.3 < np.asarray(after.is_driving)[np.asarray(begins)].mean() < 0.7


def test_the_loss_is_the_log_density_of_the_label_and_chunks_change_nothing():
  agent, _, labels, learner = make_agent('sft')
  _, _, rollouts, _, _ = trained('sft', 1.0)
  samples = imitation.samples_of(rollouts[3])
  assert samples.label.shape == (STEPS * ENVS, 2)
  of = functools.partial(imitation.imitation_loss, agent, OPTIONS)
  loss, figures = jax.jit(lambda params: of(params, {}, samples))(learner.params)
  mixture = jax.jit(lambda params: agent.commands(params, {}, samples.context))(learner.params)
  weights = np.asarray(jax.nn.softmax(mixture.logits), np.float64)
  away = (samples.label[:, None] - np.asarray(mixture.mean, np.float64)) / np.array([0.1, 0.15])
  density = np.exp(-0.5 * (away**2).sum(-1)) / (2 * np.pi * 0.1 * 0.15)
  density = np.maximum((weights * density).sum(-1), 1e-300)
  assert float(loss) == pytest.approx(-np.log(density).mean(), rel=1e-3)
  best = np.asarray(mixture.mean)[np.arange(STEPS * ENVS), weights.argmax(-1)]
  error = np.abs(best - samples.label).mean(0)
  assert [float(figures['error_v']), float(figures['error_w'])] == pytest.approx(list(error), rel=1e-4)
  weighed = dataclasses.replace(OPTIONS, judged_weight=0.5)
  more, _ = jax.jit(lambda params: imitation.imitation_loss(agent, weighed, params, {}, samples))(learner.params)
  assert float(more - loss) == pytest.approx(0.5 * (error[0] / 0.1 + error[1] / 0.15), rel=1e-3)

  trainable, frozen = variants.split(learner.params, labels)
  merged = lambda trainable, samples, key: of(variants.merge(trainable, frozen), {}, samples)
  gradient = jax.jit(epochs.mean_gradient, static_argnums=(0, 3))
  whole, parts = (gradient(merged, trainable, samples, chunk, jax.random.key(0)) for chunk in (0, 20))
  for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-4 * max(np.abs(x).max(), 1e-3))


def test_an_update_that_is_not_finite_is_left_out_and_counted():
  agent, optimizer, labels, learner = make_agent('sft')
  rollout = trained('sft', 1.0)[2][3]
  label = rollout.label.copy()
  label[2, 3] = np.nan
  run = jax.pmap(
    lambda l, r: imitation.update(agent, optimizer, labels, OPTIONS, l, {}, r, jax.random.key(0)),
    axis_name=parallel.AXIS,
    devices=jax.devices()[:1],
  )
  after, figures = run(*jax.tree.map(lambda x: x[None], (learner, rollout.replace(label=label))))
  assert figures['bad_updates'][0] == OPTIONS.num_epochs  # one minibatch of every epoch has it
  assert np.isfinite(figures['loss'][0])
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('std', (0.0, 0.1)), ('std', (0.1,)), ('std', (0.1, float('inf'))), ('std', (0.1, float('nan'))),
    ('judged_weight', -1.0), ('judged_weight', float('inf')), ('judged_weight', float('nan')),
    ('expert_share', 1.1), ('expert_share', -0.1), ('expert_share', float('nan')),
  ],
)  # fmt: skip
def test_numbers_that_break_a_rule_are_named(field, value):
  with pytest.raises(ValueError, match=f'imitation.{field}='):
    ImitationOptions(**{field: value})
