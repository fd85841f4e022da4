import functools

import jax
import numpy as np
import pytest
from scipy import stats

from s2e_jax import mixture as mx
from s2e_jax.structs import TrajectoryMixture

B, M, H = 5, 3, 7


@pytest.fixture(autouse=True)
def no_silent_broadcast():
  with jax.numpy_rank_promotion('raise'):
    yield


def random_mixture(seed, batch=(B,), modes=M, horizon=H, dtype=np.float32):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=(*batch, *shape))
  return TrajectoryMixture(
    logits=draw(modes).astype(dtype),
    mean=(np.cumsum(draw(modes, horizon, 2) + [1.0, 0.0], axis=-2)).astype(dtype),
    log_std=rng.uniform(-3, 2, (*batch, modes, horizon, 2)).astype(dtype),
    rho=rng.uniform(-0.5, 0.5, (*batch, modes, horizon)).astype(dtype),
    step_length=rng.uniform(0.05, 0.6, (*batch, modes)).astype(dtype),
  )


def random_targets(seed, batch=(B,), horizon=H, dtype=np.float32):
  rng = np.random.default_rng(seed)
  waypoints = np.cumsum(rng.normal([0.25, 0.0], 0.1, (*batch, horizon, 2)), axis=-2)
  lengths = rng.integers(1, horizon + 1, batch)
  return waypoints.astype(dtype), np.arange(horizon) < lengths[..., None]


def scipy_log_prob(mix, waypoints, mask):
  """Slow plain twin on scipy: [B, M]."""
  out = np.zeros(mix.logits.shape)
  for b, m, h in np.ndindex(*mix.rho.shape):
    if not mask[b, h]:
      continue
    sx, sy = np.exp(mix.log_std[b, m, h].astype(np.float64))
    c = mix.rho[b, m, h] * sx * sy
    normal = stats.multivariate_normal(mix.mean[b, m, h], [[sx * sx, c], [c, sy * sy]])
    out[b, m] += normal.logpdf(waypoints[b, h])
  return out


def test_density_equals_scipys_in_float64():
  with jax.enable_x64(True):
    mix = random_mixture(0, dtype=np.float64)
    waypoints, mask = random_targets(1, dtype=np.float64)
    ours = np.asarray(mx.log_prob(mix, waypoints, mask))
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, scipy_log_prob(mix, waypoints, mask), rtol=1e-11, atol=1e-11)


def test_density_in_float32_is_close_to_float64():
  mix, (waypoints, mask) = random_mixture(2), random_targets(3)
  np.testing.assert_allclose(mx.log_prob(mix, waypoints, mask), scipy_log_prob(mix, waypoints, mask), rtol=2e-5)


@pytest.mark.parametrize('metric', [False, True])
def test_mixture_equals_distrax_in_value_and_gradient(metric):
  mix, (waypoints, _) = random_mixture(4, batch=(2, B)), random_targets(5, batch=(2, B))
  mask = np.ones(waypoints.shape[:-1], bool)

  def ours(mix):
    return mx.mixture_log_prob(mx.in_metres(mix) if metric else mix, waypoints, mask)

  def theirs(mix):
    with jax.numpy_rank_promotion('allow'):
      return mx.as_distrax(mix, metric=metric).log_prob(waypoints.reshape(2, B, 2 * H))

  np.testing.assert_allclose(jax.jit(ours)(mix), jax.jit(theirs)(mix), rtol=2e-5, atol=1e-4)
  got = jax.jit(jax.grad(lambda m: ours(m).sum()))(mix)
  want = jax.jit(jax.grad(lambda m: theirs(m).sum()))(mix)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3 * np.abs(b).max())


def test_samples_of_the_public_distribution_have_its_moments():
  mix = random_mixture(6, batch=(), modes=2, horizon=3)
  with jax.numpy_rank_promotion('allow'):
    samples = mx.as_distrax(mix).sample(seed=jax.random.key(0), sample_shape=(40_000,))
  q = np.asarray(jax.nn.softmax(mix.logits))
  want = np.einsum('m,mhc->hc', q, mix.waypoints_in_robot)
  sigma = np.asarray(samples).std(axis=0).reshape(3, 2)
  np.testing.assert_array_less(np.abs(samples.reshape(-1, 3, 2).mean(axis=0) - want), 5 * sigma / 200)


@functools.cache
def loss_and_gradient(rule):
  """Jitted: ((sum of losses, all values), gradient)."""

  def loss(*args):
    out = mx.pretrain_loss(*args, rule)
    return out['loss'].sum(), out

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def plain_loss(mix, anchors, waypoints, mask, rule):
  """Slow plain twin of the loss terms, window by window in float64."""
  nll, ce, vel, modes = [], [], [], []
  for b in range(len(mask)):
    n = int(mask[b].sum())
    w = waypoints[b, :n].astype(np.float64)
    v = max(0.01, np.linalg.norm(np.diff(np.vstack([[0, 0], w]), axis=0), axis=1).mean())
    t = w / v
    mean = mix.mean[b, :, :n].astype(np.float64)
    if rule == 'anchor_endpoint':
      h = int(np.argmin([np.linalg.norm(a - t[-1] * mask.shape[1] / n) for a in anchors]))
    elif rule == 'ade':
      h = int(np.argmin([np.linalg.norm(mean[m] - t, axis=1).mean() for m in range(len(mean))]))
    else:
      angle = lambda p: np.arctan2(p[1], p[0])
      gaps = [abs((angle(mean[m, -1]) - angle(t[-1]) + np.pi) % (2 * np.pi) - np.pi) for m in range(len(mean))]
      h = int(np.argmin(gaps))
    one = jax.tree.map(lambda x, b=b: x[b : b + 1], mix)
    target = np.zeros((1, mask.shape[1], 2))
    target[0, :n] = t
    nll.append(-scipy_log_prob(one, target, mask[b : b + 1])[0, h] / n)
    logits = mix.logits[b].astype(np.float64)
    ce.append(np.log(np.exp(logits).sum()) - logits[h])
    vel.append(((mix.step_length[b, h] - v) / 0.25) ** 2)
    modes.append(h)
  return np.array(nll), np.array(ce), np.array(vel), np.array(modes)


@pytest.mark.parametrize('rule', mx.ASSIGNMENTS)
def test_loss_equals_its_plain_twin(rule):
  batch = 40
  mix, (waypoints, mask) = random_mixture(7, (batch,)), random_targets(8, (batch,))
  anchors = np.array([[6, 1], [7, 0], [6, -1]], np.float32)
  nll, ce, vel, modes = plain_loss(mix, anchors, waypoints, mask, rule)
  assert len(set(modes)) == M  # the comparison sees every mode
  waypoints = np.where(mask[..., None], waypoints, np.nan)  # masked values must not matter
  weighted = functools.partial(mx.pretrain_loss, assignment=rule, score_weight=0.7, velocity_weight=0.3)
  out = jax.jit(weighted)(mix, anchors, waypoints, mask)
  np.testing.assert_array_equal(np.argmax(out['mode_used'], axis=-1), modes)
  np.testing.assert_allclose(out['nll'], nll, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(out['score_ce'], ce, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(out['velocity_mse'], vel, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(out['loss'], nll + 0.7 * ce + 0.3 * vel, rtol=1e-4, atol=1e-5)


def test_diagnostics_are_what_they_say():
  mix, (waypoints, mask) = random_mixture(10), random_targets(11)
  out = jax.jit(mx.pretrain_loss)(mix, np.ones((M, 2), np.float32), waypoints, mask)
  p = np.exp(mix.logits) / np.exp(mix.logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(out['score_entropy'], stats.entropy(p, axis=-1), rtol=1e-5)
  sigma = np.exp(mix.log_std).reshape(B, -1)
  np.testing.assert_allclose(out['sigma_mean'], sigma.mean(1), rtol=1e-5)
  np.testing.assert_allclose(out['sigma_min'], sigma.min(1), rtol=1e-5)
  np.testing.assert_allclose(out['sigma_max'], sigma.max(1), rtol=1e-5)
  np.testing.assert_allclose(out['rho_abs'], np.abs(mix.rho).reshape(B, -1).mean(1), rtol=1e-5)
  top = np.argmax(mix.logits, -1)
  for b in range(B):
    error = np.linalg.norm(mix.waypoints_in_robot[b, top[b]] - waypoints[b], axis=-1)[mask[b]]
    np.testing.assert_allclose(out['ade_top'][b], error.mean(), rtol=1e-5)


def test_unimodal_variant_has_no_score_loss():
  mix, (waypoints, mask) = random_mixture(12, modes=1), random_targets(13)
  out = jax.jit(mx.pretrain_loss)(mix, np.zeros((1, 2), np.float32), waypoints, mask)
  np.testing.assert_array_equal(out['score_ce'], 0)
  np.testing.assert_array_equal(out['mode_used'], 1)


@pytest.mark.parametrize('rule', mx.ASSIGNMENTS)
@pytest.mark.parametrize(
  'log_std, rho, far',
  [(-3, 0.5, 1), (2, -0.5, 1), (-3, -0.5, 1e6), (-80, 0.0, 1), (80, 0.5, 1), (-80, 1.0, 1e6), (0, -1.2, 1e6)],
)
def test_values_and_gradients_are_finite_at_extremes(rule, log_std, rho, far):
  mix = random_mixture(14, (4,))
  mix = mix.replace(
    log_std=np.full_like(mix.log_std, log_std),
    rho=np.full_like(mix.rho, rho),
    logits=mix.logits * np.float32(100 if far > 1 else 1),
  )
  waypoints, mask = random_targets(15, (4,))
  waypoints = waypoints * np.float32(far)
  waypoints[1] = 0.0  # stands still
  mask[2] = False  # nothing to learn from
  mix.mean[3] = 0.0  # predicts no motion at all
  waypoints[3] = mix.mean[3, 0]
  anchors = np.ones((M, 2), np.float32)

  (_, out), gradient = loss_and_gradient(rule)(mix, anchors, waypoints, mask)
  terms = {k: v for k, v in out.items() if not k.startswith('sigma')}  # exp(80)**2 is honestly infinite
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((terms, gradient)))
  assert all((np.asarray(leaf)[2] == 0).all() for leaf in jax.tree.leaves(gradient))
  assert all(out[k][2] == 0 for k in ('loss', 'nll', 'score_ce', 'velocity_mse'))


@pytest.mark.parametrize('rho', [0.4999, 0.5, 0.95])
def test_density_near_the_bounds_of_rho_equals_scipys(rho):
  mix, (waypoints, mask) = random_mixture(16), random_targets(17)
  mix = mix.replace(rho=np.full_like(mix.rho, rho))
  np.testing.assert_allclose(mx.log_prob(mix, waypoints, mask), scipy_log_prob(mix, waypoints, mask), rtol=1e-4)


def test_only_the_assigned_mode_gets_a_gradient_on_its_trajectory():
  mix, (waypoints, mask) = random_mixture(18), random_targets(19)
  anchors = np.ones((M, 2), np.float32)
  (_, out), gradient = loss_and_gradient('pred_direction')(mix, anchors, waypoints, mask)
  moved = np.abs(gradient.mean).sum(axis=(-1, -2)) > 0
  np.testing.assert_array_equal(moved, np.asarray(out['mode_used']) > 0)
  np.testing.assert_array_equal(np.abs(gradient.step_length) > 0, moved)


def test_direction_decides_not_distance():
  # mode 0 ends near the truth but to the other side; mode 1 points the same way, far beyond
  mean = np.zeros((1, 2, 4, 2), np.float32)
  mean[0, 0, :, 0], mean[0, 0, :, 1] = np.arange(1, 5), -0.5
  mean[0, 1] = np.arange(1, 5)[:, None] * [10.0, 1.2]
  mix = random_mixture(20, (1,), 2, 4).replace(mean=mean)
  target = np.stack([np.arange(1, 5), 0.12 * np.arange(1, 5)], -1)[None].astype(np.float32)
  mask = np.ones((1, 4), bool)
  anchors = np.array([[4, 0], [0, 4]], np.float32)
  assert mx.assign(mix, anchors, target, mask, 'pred_direction')[0] == 1
  assert mx.assign(mix, anchors, target, mask, 'ade')[0] == 0
  assert mx.assign(mix, anchors, target, mask, 'anchor_endpoint')[0] == 0


def test_a_standing_robot_chooses_by_distance():
  mix = random_mixture(21, (1,))
  mix.mean[0, 2] = 0.0
  still = np.zeros((1, H, 2), np.float32)
  assert mx.assign(mix, np.ones((M, 2), np.float32), still, np.ones((1, H), bool), 'pred_direction')[0] == 2


def test_unknown_assignment_names_the_known_ones():
  mix, (waypoints, mask) = random_mixture(22), random_targets(23)
  with pytest.raises(ValueError, match='pred_direction'):
    mx.assign(mix, np.ones((M, 2), np.float32), waypoints, mask, 'direction')


def test_velocity_scale_is_the_mean_of_valid_steps():
  waypoints = np.array([[[0.3, 0.0], [0.3, 0.4], [9.0, 9.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]], np.float32)
  mask = np.array([[True, True, False], [True, True, True]])
  normalised, v = mx.normalise_targets(waypoints, mask)
  np.testing.assert_allclose(v, [0.35, 0.01], rtol=1e-6)
  np.testing.assert_allclose(normalised[0], waypoints[0] / 0.35 * mask[0, :, None], rtol=1e-6)


def test_straight_motion_at_one_metre_per_second_has_v_of_a_quarter_metre():
  waypoints = np.stack([0.25 * np.arange(1, 11), np.zeros(10)], -1).astype(np.float32)
  _, v = mx.normalise_targets(waypoints, np.ones(10, bool))
  np.testing.assert_allclose(v, 0.25, rtol=1e-6)


def test_last_valid_marks_one_waypoint():
  mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]], bool)
  want = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]], bool)
  np.testing.assert_array_equal(mx.last_valid(mask), want)


def test_loss_under_jit_over_two_batch_axes_equals_flat():
  mix, (waypoints, mask) = random_mixture(24, (2, 3)), random_targets(25, (2, 3))
  anchors = np.random.default_rng(0).normal(size=(M, 2)).astype(np.float32)
  for rule in mx.ASSIGNMENTS:
    loss = jax.jit(functools.partial(mx.pretrain_loss, assignment=rule))
    nested = loss(mix, anchors, waypoints, mask)
    flatten = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])
    flat = loss(jax.tree.map(flatten, mix), anchors, flatten(waypoints), flatten(mask))
    for name in nested:
      np.testing.assert_allclose(flatten(nested[name]), flat[name], rtol=1e-6, atol=1e-6)


def test_normalised_targets_are_those_of_the_data_room():
  from s2e_jax.data import windows

  waypoints, mask = random_targets(26, (2, 30))
  waypoints[0, 0] = 0.0
  ours, v = mx.normalise_targets(waypoints, mask)
  theirs, theirs_v = windows.normalise(waypoints, mask)
  np.testing.assert_allclose(v, theirs_v, rtol=1e-6)
  np.testing.assert_allclose(np.asarray(ours)[mask], theirs[mask], rtol=1e-5)


def test_labels_of_another_shape_are_refused_while_tracing():
  mixture = TrajectoryMixture(
    logits=jax.numpy.zeros((3, 4)), mean=jax.numpy.zeros((3, 4, 5, 2)), log_std=jax.numpy.zeros((3, 4, 5, 2)),
    rho=jax.numpy.zeros((3, 4, 5)), step_length=jax.numpy.ones((3, 4)),
  )  # fmt: skip
  good = (jax.numpy.zeros((4, 2)), jax.numpy.ones((3, 5, 2)), jax.numpy.ones((3, 5), bool))
  mx.pretrain_loss(mixture, *good)
  for i, wrong in enumerate([jax.numpy.zeros((5, 2)), jax.numpy.ones((3, 1, 2)), jax.numpy.ones((1, 5), bool)]):
    with pytest.raises(AssertionError, match='shape'):
      mx.pretrain_loss(mixture, *(*good[:i], wrong, *good[i + 1 :]))
