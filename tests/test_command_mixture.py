"""The command mixture: distrax, scipy and integration on a grid; gradients through F_d; the first PPO ratio."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from s2e_jax import command_mixture as cm
from s2e_jax.controller import CommandLimits
from s2e_jax.robots import ROBOTS
from s2e_jax.structs import TrajectoryMixture

B, M, H = 5, 3, 4
LIMITS = CommandLimits.of(ROBOTS['delivery'])
SIDE = 600  # cells of the grid along v and w


@pytest.fixture(autouse=True)
def no_silent_broadcast():
  with jax.numpy_rank_promotion('raise'):
    yield


def random_mixture(seed, batch=(B,), modes=M, shared_std=False, spread=1.0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  std = rng.uniform(0.15, 0.6, (2,) if shared_std else (*batch, modes, 2))
  return cm.CommandMixture(
    logits=rng.normal(size=(*batch, modes)).astype(dtype),
    mean=(spread * rng.uniform([-0.4, -1.5], [1.5, 1.5], (*batch, modes, 2))).astype(dtype),
    log_std=np.log(std).astype(dtype),
  )


def random_trajectories(seed, batch=(B,), modes=M, dtype=np.float32):
  rng = np.random.default_rng(seed)
  steps = rng.normal([1.0, 0.0], [0.1, 0.15], (*batch, modes, H, 2))
  return TrajectoryMixture(
    logits=rng.normal(size=(*batch, modes)).astype(dtype),
    mean=np.cumsum(steps, axis=-2).astype(dtype),
    log_std=rng.normal(size=(*batch, modes, H, 2)).astype(dtype),
    rho=rng.uniform(-0.5, 0.5, (*batch, modes, H)).astype(dtype),
    step_length=rng.uniform(0.1, 0.3, (*batch, modes)).astype(dtype),
  )


@functools.cache
def jitted(name, estimator=None):
  """Compiled once: 'log_prob', or 'entropy' by an estimator."""
  function = getattr(cm, name)
  return jax.jit(functools.partial(function, estimator=estimator) if estimator else function)


def grid_of(mixture):
  """Commands [SIDE * SIDE, 2] that cover a mixture without batch axes, and the area of a cell."""
  std = np.broadcast_to(np.exp(mixture.log_std), mixture.mean.shape)
  low, high = (mixture.mean - 8 * std).min(axis=0), (mixture.mean + 8 * std).max(axis=0)
  axes = [np.linspace(a, b, SIDE) for a, b in zip(low, high, strict=True)]
  points = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
  return points.astype(np.float32), float(np.prod((high - low) / (SIDE - 1)))


@functools.cache
def quadrature():
  """Jitted: entropy of a mixture on a grid by distrax's density, with its gradient."""

  def entropy(mixture, points, cell):
    with jax.numpy_rank_promotion('allow'):
      log_p = cm.as_distrax(mixture).log_prob(points)
    return -(jnp.exp(log_p) * log_p).sum() * cell

  return jax.jit(jax.value_and_grad(entropy))


def true_entropy(mixture):
  return quadrature()(mixture, *grid_of(mixture))[0]


@pytest.mark.parametrize('shared_std', [False, True])
def test_log_prob_equals_distrax_in_value_and_gradient(shared_std):
  mix = random_mixture(0, (2, B), shared_std=shared_std)
  command = np.random.default_rng(1).normal(size=(2, B, 2)).astype(np.float32)

  def theirs(mix, command):
    with jax.numpy_rank_promotion('allow'):
      return cm.as_distrax(mix).log_prob(command)

  for f, g in (
    (cm.log_prob, theirs),
    *((jax.grad(lambda m, c, f=f: f(m, c).sum()) for f in (cm.log_prob, theirs)),),
  ):
    got, want = jax.jit(f)(mix, command), jax.jit(g)(mix, command)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), got, want)
  assert jitted('log_prob')(mix, command).shape == (2, B)


@pytest.mark.parametrize('seed', [2, 3])
def test_the_density_integrates_to_one(seed):
  mix = random_mixture(seed, ())
  points, cell = grid_of(mix)
  spread = jax.tree.map(lambda x: np.broadcast_to(x, (len(points), *x.shape)), mix)
  np.testing.assert_allclose(
    np.exp(np.asarray(jitted('log_prob')(spread, points), np.float64)).sum() * cell, 1, rtol=1e-4
  )


def test_samples_follow_the_mixture():
  mix, n = random_mixture(4, ()), 20_000
  many = jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), mix)
  commands = np.asarray(jax.jit(cm.sample)(jax.random.key(0), many))
  q, std = np.asarray(jax.nn.softmax(mix.logits)), np.exp(mix.log_std)
  for i in range(2):
    cdf = lambda x, i=i: stats.norm.cdf(x[:, None], mix.mean[:, i], std[:, i]) @ q
    assert stats.kstest(commands[:, i], cdf).pvalue > 0.01
  with jax.numpy_rank_promotion('allow'):
    theirs = np.asarray(cm.as_distrax(mix).sample(seed=jax.random.key(1), sample_shape=(n,)))
  # v and w of one sample come from one mode: the product moment sees it
  centre = q @ mix.mean
  product = lambda c: (c - centre)[:, 0] * (c - centre)[:, 1]
  error = np.hypot(product(commands).std(), product(theirs).std()) / np.sqrt(n)
  assert abs(product(commands).mean() - product(theirs).mean()) < 4 * error
  assert abs(q @ np.prod(mix.mean - centre, axis=1)) > 8 * error


def test_a_sample_needs_its_key_only():
  mix = random_mixture(5, shared_std=True)
  draw = jax.jit(cm.sample)
  one, same, other = (draw(jax.random.key(k), mix) for k in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert (one != other).all() and one.shape == (B, 2)


@pytest.mark.parametrize('shared_std', [False, True])
@pytest.mark.parametrize('spread', [0.2, 1.0])
def test_estimators_enclose_the_true_entropy(shared_std, spread):
  mix = random_mixture(6, (), shared_std=shared_std, spread=spread)
  truth = true_entropy(mix)
  low, pairwise, bound = (jitted('entropy', e)(mix) for e in ('pairwise_lower', 'pairwise', 'bound'))
  assert low < truth - 2e-4 < truth + 2e-4 < pairwise < bound - 2e-4


def test_estimators_are_exact_where_modes_lie_apart_or_are_one():
  apart = random_mixture(7, ()).replace(mean=np.float32([[0, 0], [30, 0], [0, 30]]))
  q = np.asarray(jax.nn.softmax(apart.logits))
  parts = [stats.norm(scale=np.exp(apart.log_std[m])).entropy().sum() for m in range(M)]
  alike = random_mixture(8, (), shared_std=True).replace(mean=np.full((M, 2), 0.3, np.float32))
  for estimator in ('bound', 'pairwise', 'pairwise_lower'):
    entropy = jitted('entropy', estimator)
    np.testing.assert_allclose(entropy(apart), q @ parts + stats.entropy(q), rtol=1e-5)
    surplus = stats.entropy(np.asarray(jax.nn.softmax(alike.logits))) if estimator == 'bound' else 0.0
    np.testing.assert_allclose(
      entropy(alike), stats.norm(scale=np.exp(alike.log_std)).entropy().sum() + surplus, rtol=1e-5
    )


def test_pairwise_estimators_equal_their_formula_on_scipy_and_distrax():
  import distrax

  mix = random_mixture(9, ())
  q, std = np.asarray(jax.nn.softmax(mix.logits), np.float64), np.exp(mix.log_std)
  x = np.linspace(-8, 8, 4001)

  def bhattacharyya(m, n):
    overlap = [
      np.trapezoid(
        np.sqrt(stats.norm.pdf(x, mix.mean[m, i], std[m, i]) * stats.norm.pdf(x, mix.mean[n, i], std[n, i])), x
      )
      for i in range(2)
    ]
    return -np.log(overlap).sum()

  def kl(m, n):
    a, b = (distrax.MultivariateNormalDiag(mix.mean[k], std[k]) for k in (m, n))
    return float(a.kl_divergence(b))

  for estimator, distance in (('pairwise', kl), ('pairwise_lower', bhattacharyya)):
    want = 0.0
    for m in range(M):
      overlap = sum(q[n] * np.exp(-distance(m, n)) for n in range(M))
      want += q[m] * (stats.norm(scale=std[m]).entropy().sum() - np.log(overlap))
    np.testing.assert_allclose(jitted('entropy', estimator)(mix), want, rtol=1e-4)


def test_monte_carlo_is_unbiased_in_value_and_gradient():
  mix = random_mixture(10, (), spread=0.5)
  truth, want = quadrature()(mix, *grid_of(mix))
  estimate = lambda m, key: cm.entropy(m, 'monte_carlo', key, num_samples=4)
  many = jax.jit(jax.vmap(jax.value_and_grad(estimate), (None, 0)))
  values, gradients = many(mix, jax.random.split(jax.random.key(0), 3000))
  for got, exact in zip(jax.tree.leaves((values, gradients)), jax.tree.leaves((truth, want)), strict=True):
    error = np.asarray(got).std(axis=0) / np.sqrt(3000)
    assert error.max() < 0.02
    np.testing.assert_array_less(np.abs(np.asarray(got).mean(axis=0) - exact), 4.5 * error + 1e-4)


@pytest.mark.parametrize('estimator', cm.ESTIMATORS)
def test_entropy_is_the_same_over_any_batch_axes_and_grows_with_std(estimator):
  mix = random_mixture(11, (2, B), shared_std=True)
  key = jax.random.key(0) if estimator == 'monte_carlo' else None

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def gradient_and_values(mix):
    values = cm.entropy(mix, estimator, key)
    return values.sum(), values

  gradient, values = gradient_and_values(mix)
  assert values.shape == (2, B)
  assert (gradient.log_std > 0).all() and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  if key is None:
    _, flat = gradient_and_values(mix.replace(logits=mix.logits.reshape(-1, M), mean=mix.mean.reshape(-1, M, 2)))
    np.testing.assert_allclose(values.ravel(), flat, rtol=1e-5)


def test_kl_estimate_averages_to_the_divergence():
  old = random_mixture(12, ())
  new = old.replace(mean=old.mean + np.float32(0.05), logits=old.logits + np.float32([0.2, 0, -0.2]))
  points, cell = grid_of(old)
  wide = lambda m, n: jax.tree.map(lambda x: np.broadcast_to(x, (n, *x.shape)), m)
  log_old, log_new = (np.asarray(jitted('log_prob')(wide(m, len(points)), points), np.float64) for m in (old, new))
  truth = (np.exp(log_old) * (log_old - log_new)).sum() * cell
  n = 40_000
  commands = jax.jit(cm.sample)(jax.random.key(3), wide(old, n))
  log_ratio = jitted('log_prob')(wide(new, n), commands) - jitted('log_prob')(wide(old, n), commands)
  estimates = np.asarray(cm.kl_estimate(log_ratio))
  assert (estimates >= 0).all()
  error = estimates.std() / np.sqrt(n)
  assert 20 * error < truth and abs(estimates.mean() - truth) < 4 * error
  np.testing.assert_array_equal(cm.kl_estimate(jnp.zeros(3)), 0)
  assert np.isfinite(cm.kl_estimate(jnp.float32([-1e6, 1e6, 100]))).all()


def test_the_deterministic_command_is_the_mean_of_the_top_mode():
  mix = random_mixture(13, (2, B), shared_std=True)
  top = np.argmax(mix.logits, axis=-1)
  assert len(set(top.ravel())) == M
  got = jax.jit(cm.mode_command)(mix)
  for index in np.ndindex(2, B):
    np.testing.assert_array_equal(got[index], mix.mean[index][top[index]])


def policy_log_prob(trajectories, log_std, command):
  return cm.log_prob(cm.command_mixture(trajectories, log_std, LIMITS), command)


def test_the_first_ppo_ratio_is_exactly_one():
  trajectories, log_std = random_trajectories(14, (64,), 8), cm.restored_log_std()

  @jax.jit
  def act(trajectories, log_std, key):
    mixture = cm.command_mixture(trajectories, log_std, LIMITS)
    command = cm.sample(key, mixture)
    return command, cm.log_prob(mixture, command), mixture

  command, stored, mixture = act(trajectories, log_std, jax.random.key(0))
  assert (np.asarray(command) > [LIMITS.max_speed, LIMITS.max_yaw_rate]).any()  # unclamped
  again = jax.jit(policy_log_prob)(trajectories, log_std, command)
  np.testing.assert_array_equal(np.exp(again - stored), 1.0)
  np.testing.assert_array_equal(again, jitted('log_prob')(mixture, command))

  def loss(trajectories, log_std):
    ratio = jnp.exp(policy_log_prob(trajectories, log_std, command) - stored)
    return ratio.mean(), ratio

  (_, ratio), _ = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(trajectories, log_std)
  np.testing.assert_array_equal(ratio, 1.0)


@pytest.mark.parametrize('rule, lookahead, read', [('arc', 2, 1), ('arc', 4, 3), ('first', 2, 0)])
def test_gradients_flow_through_the_controller(rule, lookahead, read):
  trajectories, command = random_trajectories(15), np.random.default_rng(16).normal(size=(B, 2)).astype(np.float32)

  def total(trajectories, log_std):
    mixture = cm.command_mixture(trajectories, log_std, LIMITS, lookahead, rule)
    return cm.log_prob(mixture, command).sum()

  gradient, of_std = jax.jit(jax.grad(total, (0, 1)))(trajectories, cm.restored_log_std())
  assert (np.abs(gradient.mean[:, :, read]) > 0).all() and (np.delete(gradient.mean, read, axis=2) == 0).all()
  for leaf in (gradient.logits, gradient.step_length, of_std):
    assert np.isfinite(leaf).all() and (np.abs(leaf) > 0).all()
  assert not gradient.log_std.any() and not gradient.rho.any()


def test_gradients_equal_finite_differences():
  with jax.enable_x64(True):
    trajectories = random_trajectories(17, dtype=np.float64)
    command = np.random.default_rng(18).normal(size=(B, 2))
    point = (trajectories.logits, trajectories.mean, trajectories.step_length, np.log([0.3, 0.4]))
    rng = np.random.default_rng(19)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), point)

    def f(point):
      logits, mean, step_length, log_std = point
      return policy_log_prob(
        trajectories.replace(logits=logits, mean=mean, step_length=step_length), log_std, command
      )

    f = jax.jit(f)
    _, got = jax.jit(lambda p, d: jax.jvp(f, (p,), (d,)))(point, direction)
    move = lambda h: jax.tree.map(lambda x, d: x + h * d, point, direction)
    np.testing.assert_allclose(got, (f(move(1e-6)) - f(move(-1e-6))) / 2e-6, rtol=1e-5, atol=1e-6)


def test_far_commands_and_extreme_parameters_stay_finite():
  trajectories = random_trajectories(20)
  value_and_grad = jax.jit(jax.value_and_grad(lambda *a: policy_log_prob(*a).sum(), (0, 1)))
  for far in (1e3, 1e19, -3e38, np.inf):
    for parameter in (-1e6, -3.0, 1e6):
      for logits in (1.0, 1e4):
        pushed = trajectories.replace(logits=trajectories.logits * np.float32(logits))
        command = np.full((B, 2), far, np.float32)
        out = value_and_grad(pushed, np.full(2, parameter, np.float32), command)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))


def test_exploration_starts_as_asked_and_stays_bounded():
  for std in (cm.EXPLORATION_STD, (0.05, 1.2)):
    restored = cm.restored_log_std(std)
    np.testing.assert_array_equal(cm.bounded_log_std(restored), restored)
    np.testing.assert_allclose(jnp.exp(restored), std, rtol=1e-6)
  for std in ((0.3,), (0.0, 0.4), (0.3, 1.9), (-0.3, 0.4)):
    with pytest.raises(ValueError, match='exploration std'):
      cm.restored_log_std(std)
  wild = np.float32([-1e6, -10, -4, 1, 10, 1e6])
  low, high = np.log(np.float32(cm.STD_RANGE))
  value, slope = jax.jit(jax.vmap(jax.value_and_grad(cm.bounded_log_std)))(wild)
  assert (value >= low).all() and (value <= high).all() and (slope[1:-1] > 1e-6).all()


def test_unknown_estimators_and_missing_keys_are_refused():
  mix = random_mixture(21)
  with pytest.raises(ValueError, match='pairwise'):
    cm.entropy(mix, 'exact')
  with pytest.raises(ValueError, match='key'):
    cm.entropy(mix, 'monte_carlo')
