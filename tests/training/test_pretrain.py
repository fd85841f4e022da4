import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from s2e_jax import mixture
from s2e_jax.policy.policy import example_observation
from s2e_jax.training import parallel, pretrain
from tests.training.small_pretraining import make_state, random_batch, small_policy

pytestmark = pytest.mark.usefixtures('compiled_quickly')

OPTIONS = pretrain.LossOptions()
PLAIN = dict(steps=150, learning_rate_peak=5e-3, warmup_steps=0, weight_decay=0.0)


@pytest.fixture(scope='module')
def shared():
  """(policy, fresh state, compiled step, list of its traces) on 8 devices, for several tests."""
  policy = small_policy()
  state, tx = make_state(policy, **PLAIN)
  inner, traces = pretrain.make_train_step(policy, tx, OPTIONS), []
  step = parallel.pmap(lambda s, b: traces.append(1) or inner(s, b))
  return policy, state, step, traces


def test_the_loss_is_the_mean_over_all_valid_windows_and_the_gradient_is_of_that(shared):
  policy, state, step, _ = shared
  batch = random_batch(policy, 3)
  few = batch.window_mask & (np.random.default_rng(0).uniform(size=batch.window_mask.shape) < 0.2)
  batch = dataclasses.replace(batch, window_mask=few)
  _, metrics = step(parallel.replicate(state), parallel.shard(batch))
  metrics = parallel.unreplicate(metrics)

  @jax.jit
  @jax.value_and_grad
  def one_window(params, at):  # compiled once; the sum over windows is a loop in Python
    prediction = policy.apply(
      {'params': params}, batch.frames, batch.goal_in_robot, batch.has_goal, method='segments'
    )[0]
    window, waypoints, mask = jax.tree.map(
      lambda x: jnp.asarray(x)[at[0], at[1]], (prediction, batch.waypoints_in_robot, batch.waypoint_mask)
    )
    return mixture.pretrain_loss(window, jnp.asarray(policy.config.anchors), waypoints, mask)['loss']

  each = [one_window(state.params, at) for at in np.argwhere(batch.window_mask)]
  loss, grads = jax.tree.map(lambda *x: np.mean(x, axis=0), *each)
  assert metrics['count'] == few.sum() > 3
  np.testing.assert_allclose(metrics['loss'] / metrics['count'], loss, rtol=1e-5)
  np.testing.assert_allclose(metrics['grad_norm'], optax.tree.norm(grads), rtol=1e-4)


def test_a_batch_without_valid_windows_and_masked_nan_do_no_harm(shared):
  policy, state, step, _ = shared
  batch = random_batch(policy, 0)
  batch = dataclasses.replace(batch, window_mask=np.zeros_like(batch.window_mask))
  after, metrics = parallel.unreplicate(step(parallel.replicate(state), parallel.shard(batch)))
  jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
  assert metrics['count'] == 0 and metrics['bad_streak'] == 0 and np.isfinite(metrics['loss'])


def test_a_non_finite_batch_is_skipped_and_counted(shared):
  policy, state, step, _ = shared
  batch = random_batch(policy, 0)
  waypoints = batch.waypoints_in_robot.copy()
  b, w = np.argwhere(batch.window_mask)[0]  # one window on one device
  waypoints[b, w, 0] = np.inf
  bad = dataclasses.replace(batch, waypoints_in_robot=waypoints)
  state = parallel.replicate(state)
  after, metrics = step(state, parallel.shard(bad))
  jax.tree.map(np.testing.assert_array_equal, *(parallel.unreplicate(s.params) for s in (after, state)))
  assert parallel.unreplicate(metrics)['bad_streak'] == 1
  again, metrics = step(after, parallel.shard(batch))
  metrics = parallel.unreplicate(metrics)
  assert (metrics['bad_streak'], metrics['num_bad']) == (0, 1)
  assert int(parallel.unreplicate(again.step)) == 2


def test_a_small_set_is_learned_by_heart_with_one_compilation(shared):
  policy, state, step, traces = shared
  batch = random_batch(policy, 1)
  mask = batch.window_mask & (np.arange(batch.window_mask.shape[1]) < 1)
  batch = parallel.shard(dataclasses.replace(batch, window_mask=mask))
  state, losses, errors = parallel.replicate(state), [], []
  for _ in range(150):
    state, metrics = step(state, batch)
    metrics = pretrain.means(
      {k: v for k, v in parallel.unreplicate(metrics).items() if k in ('loss', 'ade_top', 'count')}
    )
    losses.append(metrics['loss'])
    errors.append(metrics['ade_top'])
  assert losses[-1] < losses[0] - 3.0
  assert errors[-1] < 0.3 * errors[0]
  assert len(traces) == 1


def test_the_encoder_learns_at_its_own_rate(shared):
  policy, state, step, _ = shared
  batch = parallel.shard(random_batch(policy, 0))
  plain, _ = step(parallel.replicate(state), batch)
  slow_state, tx = make_state(policy, **(PLAIN | dict(encoder_lr_scale=0.1)))
  slow, _ = parallel.pmap(pretrain.make_train_step(policy, tx, OPTIONS))(parallel.replicate(slow_state), batch)
  plain, slow = (
    jax.tree.map(lambda a, b: a - np.asarray(b), parallel.unreplicate(s.params), state.params)
    for s in (plain, slow)
  )
  assert np.abs(plain['encoder']['patches']['kernel']).max() > 1e-3
  jax.tree.map(lambda a, b: np.testing.assert_allclose(0.1 * a, b, atol=2e-7), plain['encoder'], slow['encoder'])
  for group in plain:
    if group != 'encoder':
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-7), plain[group], slow[group])


def test_the_clearance_head_learns_what_the_data_know_and_nothing_else():
  policy = small_policy(clearance_head=True)
  batch = random_batch(policy, 3)
  variables = jax.jit(policy.init)(jax.random.key(0), example_observation(policy.config))
  weighted = pretrain.LossOptions(clearance_weight=2.0)
  both = jax.jit(lambda v: [pretrain.window_sums(policy, o, v, batch, train=True)[0] for o in (weighted, OPTIONS)])
  sums, plain = both(variables)
  np.testing.assert_allclose(sums['loss'], plain['loss'] + 2.0 * sums['clearance'], rtol=1e-5)

  # by hand: the mean over known sectors of squared errors of logarithms
  told = jnp.log(jnp.array([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]]))
  known = jnp.array([[2.0, jnp.nan, 4.0], [jnp.nan] * 3])
  np.testing.assert_allclose(pretrain.clearance_error(told, known), [np.log(2.0) ** 2 / 2, 0.0], rtol=1e-6)
  gradient = jax.grad(lambda t: pretrain.clearance_error(t, known).sum())(told)
  assert np.isfinite(gradient).all() and gradient[0, 1] == 0 and gradient[0, 0] != 0


def test_an_interval_averages_over_windows_and_leaves_bad_steps_out():
  interval = pretrain.Interval()
  for total, count, norm, bad, streak in ((6.0, 2, 1.0, 0, 0), (np.nan, 5, np.nan, 1, 1), (18.0, 6, 3.0, 1, 0)):
    used = np.array([count, 0.0])
    interval.add(
      {'loss': total, 'mode_used': used, 'count': count, 'grad_norm': norm, 'num_bad': bad, 'bad_streak': streak}
    )
  values = interval.take()
  assert values['train/loss'] == 3.0 and values['train/count'] == 8.0
  np.testing.assert_array_equal(values['train/mode_used'], [1.0, 0.0])
  assert values['optim/grad_norm'] == 2.0 and values['optim/num_bad'] == 1
  assert interval.take()['train/count'] == 0.0
