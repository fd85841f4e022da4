import numpy as np
import pytest
from scipy import stats

from s2e_jax.openloop import calibration
from s2e_jax.structs import TrajectoryMixture

M, H = 3, 5


def mixture_of(n, seed=0, modes=M):
  rng = np.random.default_rng(seed)
  return TrajectoryMixture(
    logits=rng.normal(size=(n, modes)).astype(np.float32),
    mean=rng.normal(0, 2, (n, modes, H, 2)).astype(np.float32),
    log_std=rng.uniform(-1, 1, (n, modes, H, 2)).astype(np.float32),
    rho=rng.uniform(-0.5, 0.5, (n, modes, H)).astype(np.float32),
    step_length=rng.uniform(0.1, 0.5, (n, modes)).astype(np.float32),
  )


def draw(mix, seed=1):
  """Modes and trajectories in metres drawn from the mixture itself, with numpy."""
  rng = np.random.default_rng(seed)
  q = np.exp(mix.logits) / np.exp(mix.logits).sum(1, keepdims=True)
  mode = np.array([rng.choice(q.shape[1], p=p / p.sum()) for p in q.astype(float)])
  rows = np.arange(len(mode))
  noise = rng.normal(size=(len(mode), H, 2))
  rho, std = mix.rho[rows, mode], np.exp(mix.log_std[rows, mode])
  z = np.stack([noise[..., 0], rho * noise[..., 0] + np.sqrt(1 - rho**2) * noise[..., 1]], -1)
  return mode, (mix.step_length[rows, mode][:, None, None] * (mix.mean[rows, mode] + std * z)).astype(np.float32)


def test_likelihood_in_metres_equals_scipys():
  mix = mixture_of(6)
  mode, truth = draw(mix)
  values, _ = calibration.window_calibration(mix, truth, mode)
  for n in range(6):
    per_mode = []
    for m in range(M):
      v, log_density = float(mix.step_length[n, m]), 0.0
      for h in range(H):
        sx, sy = v * np.exp(mix.log_std[n, m, h].astype(float))
        c = float(mix.rho[n, m, h]) * sx * sy
        normal = stats.multivariate_normal(v * mix.mean[n, m, h], [[sx * sx, c], [c, sy * sy]])
        log_density += normal.logpdf(truth[n, h])
      per_mode.append(log_density)
    log_q = mix.logits[n] - np.log(np.exp(mix.logits[n]).sum())
    assert values['nll_metres'][n] == pytest.approx(-np.logaddexp.reduce(log_q + per_mode) / H, rel=1e-4)


def test_a_mixture_covers_its_own_samples():
  mix = mixture_of(4000)
  mode, truth = draw(mix)
  values, per_waypoint = calibration.window_calibration(mix, truth, mode)
  for coverage, name in ((0.5, 'coverage_50_assigned'), (0.9, 'coverage_90_assigned')):
    assert values[name].mean() == pytest.approx(coverage, abs=0.015)
    np.testing.assert_allclose(per_waypoint[name].mean(axis=0), coverage, atol=0.03)
  assert values['coverage_90_top'].mean() < 0.85  # the top mode alone is not the mixture
  found = calibration.reliability(np.exp(mix.logits) / np.exp(mix.logits).sum(1, keepdims=True), mode)
  assert found['ece'] < 0.03


def test_overconfident_ellipses_are_found_out():
  mix = mixture_of(2000)
  mode, truth = draw(mix)
  values, _ = calibration.window_calibration(mix.replace(log_std=mix.log_std - 0.7), truth, mode)
  assert values['coverage_90_assigned'].mean() < 0.5


def test_ellipse_radius_is_that_of_chi_squared():
  assert calibration.ellipse_radius2(0.9) == pytest.approx(stats.chi2.ppf(0.9, 2))


def test_reliability_by_hand():
  confidence = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35]])
  found = calibration.reliability(confidence, np.array([0, 1, 0]), num_bins=10)
  assert found['count'] == [2, 0, 0, 1, 0, 0, 1, 0, 0, 2]
  assert found['observed'][9] == 0.5 and found['observed'][0] == 0.5 and found['observed'][6] == 1.0
  assert found['observed'][1] is None
  assert found['ece'] == pytest.approx((2 * 0.45 + 0.35 + 0.35 + 2 * 0.45) / 6)


def test_mode_statistics_show_collapse():
  mix = mixture_of(50)
  collapsed = mix.replace(logits=np.zeros_like(mix.logits))
  found = calibration.mode_statistics(collapsed, np.zeros(50, int))
  assert found['score_entropy'] == pytest.approx(found['score_entropy_max'])
  assert found['assigned_share'] == [1.0, 0.0, 0.0]


def test_an_error_of_speed_alone_leaves_the_coverage_of_shapes():
  mix = mixture_of(2000)
  mode, truth = draw(mix)
  slow = mix.replace(step_length=mix.step_length * 0.3)
  right, _ = calibration.window_calibration(mix, truth, mode)
  wrong, _ = calibration.window_calibration(slow, truth, mode)
  assert wrong['coverage_90_assigned'].mean() < right['coverage_90_assigned'].mean() - 0.2
  np.testing.assert_allclose(wrong['coverage_90_shape'], right['coverage_90_shape'])


def test_coverage_of_shapes_judges_the_truth_in_units_of_its_own_v():
  mix = mixture_of(1, modes=1)
  steps = np.linalg.norm(np.diff(mix.mean[0, 0], axis=0, prepend=np.zeros((1, 2))), axis=-1)
  shape = mix.replace(mean=mix.mean / steps.mean(), log_std=np.full_like(mix.log_std, -3))
  truth = 0.37 * shape.mean[:, 0]
  values, _ = calibration.window_calibration(shape, truth, np.zeros(1, int))
  assert values['coverage_50_shape'][0] == 1
