import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2e_jax.openloop import metrics

H = 10


def drive(speed=1.0, turn=0.0, horizon=H):
  """An arc: `speed` m/s, `turn` rad/s."""
  t = 0.25 * np.arange(1, horizon + 1)
  if turn == 0:
    return np.stack([speed * t, 0 * t], -1)
  return speed / turn * np.stack([np.sin(turn * t), 1 - np.cos(turn * t)], -1)


def scene(seed, n=60, m=4):
  rng = np.random.default_rng(seed)
  truth = np.stack([drive(s, w) for s, w in zip(rng.choice([0, 1, 2], n), rng.normal(0, 0.4, n), strict=True)])
  predicted = truth[:, None] * rng.uniform(0.6, 1.4, (n, m, 1, 1)) + rng.normal(0, 0.1, (n, m, 1, 1))
  confidence = rng.dirichlet(np.ones(m), n).round(1)  # rounded: many ties
  return predicted, confidence, truth


def plain_ap(fde, radius, confidence):
  """Slow plain twin: sweep the thresholds, then integrate the envelope of precision over recall."""
  n, m = confidence.shape
  points = []
  for threshold in sorted(set(confidence.ravel()), reverse=True):
    tp = claimed = 0
    for i in range(n):
      hits = [j for j in range(m) if fde[i, j] < radius[i]]
      one = max(hits, key=lambda j, i=i: confidence[i, j]) if hits else None
      for j in range(m):
        if confidence[i, j] >= threshold:
          claimed += 1
          tp += j == one
    points.append((tp / n, tp / claimed))
  area, last = 0.0, 0.0
  for i, (recall, _) in enumerate(points):
    area += (recall - last) * max(p for _, p in points[i:])
    last = recall
  return area


@pytest.mark.parametrize('seed', range(4))
def test_map_equals_its_plain_twin(seed):
  predicted, confidence, truth = scene(seed)
  got = metrics.MeanAveragePrecision(predicted, confidence, truth)()
  bucket, fde, radius = (
    metrics.bucket_of(truth),
    metrics.displacement(predicted, truth)[1],
    metrics.hit_radius(truth),
  )
  want = {}
  for i, name in enumerate(metrics.BUCKETS):
    rows = bucket == i
    assert rows.any()
    want[name] = plain_ap(fde[rows], radius[rows], confidence[rows])
    assert got[f'AP_{name}'] == pytest.approx(want[name])
  assert got['mAP'] == pytest.approx(np.mean([want[k] for k in ('straight', 'left', 'right')]))
  assert got['mAP_with_stationary'] == pytest.approx(np.mean(list(want.values())))


def test_average_precision_by_hand():
  # falling confidence: hit, miss, hit, miss of three windows; the third window is never found
  confidence = np.array([[0.9, 0.1], [0.8, 0.6], [0.3, 0.2]])
  is_true = np.array([[1, 0], [0, 1], [0, 0]], bool)
  # recall 1/3 at precision 1, recall 2/3 at precision 2/3
  assert metrics.AveragePrecision(confidence, is_true)() == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_envelope_lifts_precision_to_the_best_beyond():
  # miss, hit, hit: precision 0, 1/2, 2/3; the envelope makes both recall steps count 2/3
  confidence = np.array([[0.9, 0.5], [0.4, 0.0]])
  is_true = np.array([[0, 1], [1, 0]], bool)
  assert metrics.AveragePrecision(confidence, is_true)() == pytest.approx(2 / 3)


def test_one_mode_of_equal_confidence_scores_its_hit_rate_squared():
  truth = np.stack([drive(1.0)] * 4)
  predicted = truth[:, None].copy()
  predicted[3] += 5.0
  score = metrics.MeanAveragePrecision(predicted, np.ones((4, 1)), truth)()
  assert score['mAP'] == pytest.approx(0.75 * 0.75)
  assert np.isnan(score['AP_left'])


def test_a_second_hit_of_the_same_window_is_a_false_positive():
  truth = drive(1.0)[None]
  confidence = np.array([[0.3, 0.7]])
  found = metrics.true_positives(np.stack([truth[0], truth[0] + 0.01])[None], confidence, truth)
  np.testing.assert_array_equal(found, [[False, True]])


@given(st.integers(0, 10_000))
def test_weights_count_like_repeated_windows(seed):
  rng = np.random.default_rng(seed)
  predicted, confidence, truth = scene(seed, n=15)
  weight = rng.integers(0, 3, 15)
  repeat = lambda x: np.repeat(x, weight, axis=0)
  got = metrics.MeanAveragePrecision(predicted, confidence, truth)(weight.astype(float))
  if weight.sum():
    want = metrics.MeanAveragePrecision(repeat(predicted), repeat(confidence), repeat(truth))()
    for name in want:
      np.testing.assert_allclose(got[name], want[name], err_msg=name)


def test_perfect_and_confident_modes_score_one_and_standing_still_nothing():
  _, _, truth = scene(0)
  perfect = metrics.MeanAveragePrecision(truth[:, None], np.ones((len(truth), 1)), truth)()
  still = metrics.MeanAveragePrecision(0 * truth[:, None], np.ones((len(truth), 1)), truth)()
  assert perfect['mAP'] == perfect['mAP_with_stationary'] == 1
  assert still['mAP'] == 0 and still['AP_stationary'] == 1


def test_buckets_follow_the_bearing_of_the_end_point():
  truth = np.stack([drive(1.0), drive(1.0, 0.4), drive(1.0, -0.4), drive(0.05, 0.4), drive(1.0, 0.1)])
  assert [metrics.BUCKETS[i] for i in metrics.bucket_of(truth)] == [
    'straight', 'left', 'right', 'stationary', 'straight',
  ]  # fmt: skip


def test_hit_radius_grows_with_the_path():
  np.testing.assert_allclose(metrics.hit_radius(np.stack([drive(0.1), drive(2.0)])), [0.1, 1.0])


def test_displacements_by_hand():
  truth = np.array([[[1.0, 0.0], [2.0, 0.0]]])
  modes = np.array([[[[1.0, 3.0], [2.0, 4.0]], [[1.0, 1.0], [2.0, -1.0]], [[1.0, 0.0], [2.0, 2.0]]]])
  ade, fde = metrics.displacement(modes, truth)
  np.testing.assert_allclose(ade, [[3.5, 1.0, 1.0]])
  np.testing.assert_allclose(fde, [[4.0, 1.0, 2.0]])
  score = np.array([[0.5, 0.2, 0.3]])
  assert metrics.best_of_top(ade, score, 1)[0] == 3.5
  assert metrics.best_of_top(fde, score, 2)[0] == 2.0
  assert metrics.best_of_top(fde, score, 3)[0] == 1.0
  out = metrics.window_metrics(modes, score, truth)
  assert out['ade'][0] == out['minADE@1'][0] == 3.5 and out['minFDE@M'][0] == 1.0
  # the path is 2 m: hits end within 0.4 m, and no mode does
  assert out['miss_rate'][0] == out['miss_rate@M'][0] == 1


def test_heading_error_is_that_of_the_last_second():
  truth, other = drive(1.0)[None], drive(1.0, 0.4)[None]
  error = metrics.heading_error(other, truth)
  assert error[0] == pytest.approx(0.4 * 2.0, abs=1e-6)  # middle of the last second is at 2 s
  assert metrics.heading_error(0 * truth, truth)[0] == 0
  assert metrics.heading_error(-truth, truth)[0] == pytest.approx(np.pi)
  assert np.isnan(metrics.heading_error(truth, drive(0.05)[None])[0])


def test_a_unimodal_policy_has_the_metrics_of_its_mode():
  truth = drive(1.0)[None]
  out = metrics.window_metrics(truth[:, None] + 1.0, np.ones((1, 1)), truth)
  assert set(out) == {
    'ade', 'ade_at_true_speed', 'fde', 'minADE@1', 'minFDE@1', 'miss_rate', 'miss_rate@M', 'heading_error_deg',
  }  # fmt: skip


def test_at_the_true_speed_only_direction_and_shape_count():
  truth = np.cumsum(np.tile([0.3, 0.1], (2, 5, 1)), axis=1)
  np.testing.assert_allclose(metrics.ade_at_true_speed(7.0 * truth, truth), 0.0, atol=1e-12)
  left = truth * [1.0, -1.0]  # mirrored: the error is twice the true y, whatever the speed
  for speed in (0.2, 1.0, 3.0):
    np.testing.assert_allclose(metrics.ade_at_true_speed(speed * left, truth), 2 * truth[..., 1].mean(axis=-1))
  still = np.zeros_like(truth)
  np.testing.assert_allclose(metrics.ade_at_true_speed(still, truth), np.linalg.norm(truth, axis=-1).mean(axis=-1))
