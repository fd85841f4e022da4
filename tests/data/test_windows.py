import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.spatial.transform import Rotation

from s2e_jax.data import windows
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.structs import NUM_CLEARANCES

SPEC = SegmentSpec(num_history=3, num_windows=4, goal_dropout=0.3)


@dataclasses.dataclass
class Drive:
  """The part of a clip that labels are made of."""

  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray


def random_drive(seed, num_frames=60, rate=4.0, jitter=0.2):
  rng = np.random.default_rng(seed)
  stamps = 1.7e9 + np.cumsum(rng.uniform(1 - jitter, 1 + jitter, num_frames)) / rate
  yaw = rng.uniform(-3, 3) + np.cumsum(rng.normal(0, 0.3, num_frames))  # passes +-pi
  position = np.cumsum(rng.normal(0.2, 0.2, (num_frames, 2)), axis=0)
  return Drive(stamps, position, yaw)


def labels_by_hand(drive, present, spec, ahead, keep):
  """One window, one waypoint at a time, with scipy's interpolation and rotation."""
  where = interp1d(drive.stamps, drive.position, axis=0)
  turn = Rotation.from_euler('z', -drive.yaw[present])
  t0, end = drive.stamps[present], drive.stamps[-1]
  seen = lambda t: turn.apply(np.append(where(t) - drive.position[present], 0))[:2]
  points, mask = [], []
  for k in range(1, spec.horizon + 1):
    inside = t0 + k * spec.dt <= end + 1e-3
    mask.append(inside)
    points.append(seen(min(t0 + k * spec.dt, end)))
  goal_time = min(t0 + ahead, end)
  has_goal = keep >= spec.goal_dropout and goal_time > t0 + spec.horizon * spec.dt + 1e-3
  return np.array(points), mask, seen(goal_time) if has_goal else np.zeros(2), has_goal


@pytest.mark.parametrize('seed', range(6))
def test_labels_equal_the_slow_twin(seed):
  drive = random_drive(seed, num_frames=47)
  present = np.array([0, 20, 30, 37, 41, 43, 45, 46])
  spec = dataclasses.replace(SPEC, num_windows=8, min_waypoints=3)
  labels = windows.segment_labels(drive, present, spec, np.random.default_rng(seed))
  rng = np.random.default_rng(seed)
  ahead, keep = rng.uniform(spec.goal_min_s, spec.goal_max_s, 8), rng.uniform(size=8)
  for w, frame in enumerate(present):
    points, mask, goal, has_goal = labels_by_hand(drive, frame, spec, ahead[w], keep[w])
    np.testing.assert_allclose(labels['waypoints_in_robot'][w], points, atol=1e-5)
    np.testing.assert_array_equal(labels['waypoint_mask'][w], mask)
    np.testing.assert_allclose(labels['goal_in_robot'][w], goal, atol=1e-5)
    assert labels['has_goal'][w] == has_goal
    assert labels['window_mask'][w] == (sum(mask) >= 3)
  assert {k: v.dtype.name for k, v in labels.items()} == {
    'goal_in_robot': 'float32', 'has_goal': 'bool', 'waypoints_in_robot': 'float32', 'waypoint_mask': 'bool',
    'window_mask': 'bool', 'clearances': 'float32',
  }  # fmt: skip
  assert np.isnan(labels['clearances']).all()


def test_clearances_are_those_of_the_present_and_unknown_where_there_is_no_window():
  known = np.random.default_rng(1).uniform(0, 10, (60, NUM_CLEARANCES)).astype(np.float32)
  drive = random_drive(0)
  drive.clearances = known
  labels = windows.segment_labels(drive, [7, -1, 30], SPEC, np.random.default_rng(0))
  np.testing.assert_array_equal(labels['clearances'][[0, 2]], known[[7, 30]])
  assert np.isnan(labels['clearances'][1]).all()


@settings(max_examples=40, deadline=None)
@given(
  st.integers(0, 2**31), st.floats(-7, 7), st.floats(-500, 500), st.floats(-500, 500), st.floats(-1e6, 1e6),
  st.integers(-3, 3),
)  # fmt: skip
def test_rotating_and_shifting_the_world_changes_nothing(seed, angle, x, y, later, turns):
  drive = random_drive(seed)
  c, s = math.cos(angle), math.sin(angle)
  moved = Drive(
    drive.stamps + later,
    drive.position @ np.array([[c, s], [-s, c]]) + [x, y],
    drive.yaw + angle + 2 * math.pi * turns,
  )
  present = [5, 30, -1, 55]
  here = windows.segment_labels(drive, present, SPEC, np.random.default_rng(seed))
  there = windows.segment_labels(moved, present, SPEC, np.random.default_rng(seed))
  for name, label in here.items():
    # Stamps near 1.7e9 s resolve 2.4e-7 s, so a shift in time moves points by about a micrometre.
    np.testing.assert_allclose(label, there[name], atol=2e-5, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(st.floats(-math.pi, math.pi), st.sampled_from([4.0, 10.0, 30.0, 7.3]), st.integers(0, 20))
def test_straight_motion_at_1_m_per_s_has_steps_of_a_quarter_metre(heading, rate, present):
  stamps = np.arange(int(8 * rate)) / rate
  drive = Drive(stamps, np.outer(stamps, [math.cos(heading), math.sin(heading)]), np.full(len(stamps), heading))
  labels = windows.segment_labels(drive, [present], SPEC, np.random.default_rng(0))
  true = np.stack([0.25 * np.arange(1, 11), np.zeros(10)], axis=1)
  np.testing.assert_allclose(labels['waypoints_in_robot'][0], true, atol=1e-5)
  normalised, step_length = windows.normalise(labels['waypoints_in_robot'], labels['waypoint_mask'])
  np.testing.assert_allclose(step_length, [0.25], rtol=1e-5)
  np.testing.assert_allclose(normalised[0], true / 0.25, atol=1e-4)


def test_normalising_counts_true_steps_only_and_has_a_floor():
  rng = np.random.default_rng(0)
  waypoints = rng.normal(0, 1, (3, 2, 10, 2)).astype(np.float32)
  num_true = np.array([[10, 4], [1, 0], [7, 10]])
  waypoints[2, 1] = 1e-4
  mask = np.arange(10) < num_true[..., None]
  normalised, step_length = windows.normalise(waypoints, mask)
  for i in np.ndindex(3, 2):
    points = np.concatenate([[[0, 0]], waypoints[i][: num_true[i]]])
    lengths = [math.dist(a, b) for a, b in itertools.pairwise(points)]
    v = max(0.01, np.mean(lengths)) if lengths else 0.01
    assert step_length[i] == pytest.approx(v, rel=1e-5)
    np.testing.assert_allclose(normalised[i] * v, waypoints[i], rtol=1e-4)
  again, lengths = windows.normalise(jnp.asarray(waypoints), jnp.asarray(mask))
  np.testing.assert_allclose(again, normalised, rtol=1e-5)
  np.testing.assert_allclose(lengths, step_length, rtol=1e-5)
  assert normalised.dtype == step_length.dtype == np.float32


def test_goals_lie_beyond_the_horizon_and_are_drawn_uniformly():
  stamps = np.arange(240) / 4
  drive = Drive(stamps, np.stack([stamps, 0 * stamps], axis=1), 0 * stamps)  # 1 m/s: the goal's x is its time
  spec = SegmentSpec(num_history=1, num_windows=2000, goal_min_s=5, goal_max_s=20, goal_dropout=0.5)
  labels = windows.segment_labels(drive, np.full(2000, 8), spec, np.random.default_rng(1))
  goals = labels['goal_in_robot'][labels['has_goal']]
  assert abs(labels['has_goal'].mean() - 0.5) < 0.04
  assert goals[:, 0].min() >= 5 and goals[:, 0].max() <= 20
  np.testing.assert_allclose(np.quantile(goals[:, 0], [0.25, 0.5, 0.75]), [8.75, 12.5, 16.25], atol=0.7)
  assert not labels['goal_in_robot'][~labels['has_goal']].any()


def test_a_goal_past_the_end_becomes_the_end_or_nothing_within_the_horizon():
  stamps = np.arange(41) / 4
  drive = Drive(stamps, np.stack([stamps, 0 * stamps], axis=1), 0 * stamps)
  spec = SegmentSpec(num_history=1, num_windows=41, goal_min_s=5, goal_max_s=20, goal_dropout=0)
  labels = windows.segment_labels(drive, np.arange(41), spec, np.random.default_rng(1))
  left = 10 - stamps
  np.testing.assert_array_equal(labels['has_goal'], left > 2.5)
  near = labels['has_goal'] & (left <= 5)
  np.testing.assert_allclose(labels['goal_in_robot'][near, 0], left[near], atol=1e-5)
  assert (labels['goal_in_robot'][labels['has_goal'], 0] <= left[labels['has_goal']] + 1e-5).all()
  np.testing.assert_array_equal(labels['waypoint_mask'].sum(1), np.clip(np.arange(40, -1, -1), 0, 10))
  np.testing.assert_array_equal(labels['window_mask'], np.arange(41) <= 35)


def test_windows_that_do_not_exist_are_masked_and_finite():
  labels = windows.segment_labels(random_drive(0), [-1, 3, -1, -1], SPEC, np.random.default_rng(0))
  np.testing.assert_array_equal(labels['window_mask'], [False, True, False, False])
  np.testing.assert_array_equal(labels['waypoint_mask'].any(1), [False, True, False, False])
  assert not labels['has_goal'][[0, 2, 3]].any()
  assert np.isnan(labels.pop('clearances')).all()  # nobody knows them here
  assert all(np.isfinite(label).all() for label in labels.values())


def test_nothing_is_learned_across_a_hole():
  drive = random_drive(3, num_frames=40, jitter=0)
  drive.stamps[20:] += 1.5
  spec = dataclasses.replace(SPEC, goal_dropout=0, min_waypoints=5, num_windows=6)
  labels = windows.segment_labels(drive, [3, 12, 14, 16, 19, 20], spec, np.random.default_rng(0))
  np.testing.assert_array_equal(labels['waypoint_mask'].sum(1), [10, 7, 5, 3, 0, 10])
  np.testing.assert_array_equal(labels['has_goal'], [True, False, False, False, False, True])
  # The goal of the first window is the last pose before the hole: it is at most 4 s away.
  turn = Rotation.from_euler('z', -drive.yaw[3])
  at_hole = turn.apply(np.append(drive.position[19] - drive.position[3], 0))[:2]
  np.testing.assert_allclose(labels['goal_in_robot'][0], at_hole, atol=1e-5)


@pytest.mark.parametrize('rate', [4.0, 3.7, 4.3])
def test_a_clip_at_about_4_hz_keeps_every_frame(rate):
  rng = np.random.default_rng(0)
  stamps = (np.arange(50) + rng.uniform(-0.2, 0.2, 50)) / rate
  np.testing.assert_array_equal(windows.frame_grid(stamps), np.arange(50))
  assert windows.num_phases(stamps) == 1


@pytest.mark.parametrize('rate, phases', [(10.0, 3), (30.0, 8), (8.0, 2), (2.0, 1), (5.1, 2)])
def test_other_rates_use_the_frames_nearest_to_the_grid(rate, phases):
  stamps = 3.7 + np.arange(int(12 * rate)) / rate
  assert windows.num_phases(stamps) == phases
  for phase in range(phases):
    grid = windows.frame_grid(stamps, phase=phase)
    times = [stamps[phase] + 0.25 * i for i in range(len(grid))]
    for frame, time in zip(grid, times, strict=True):
      assert abs(stamps[frame] - time) <= np.abs(stamps - time).min() + 1e-9
    assert times[-1] <= stamps[-1] + 1e-3 < times[-1] + 0.25 + 2e-3
  seen = np.unique(np.concatenate([windows.frame_grid(stamps, phase=p) for p in range(phases)]))
  if rate >= 8:
    assert len(seen) > 0.7 * len(stamps)


@pytest.mark.parametrize(
  'change, word',
  [
    ({'num_history': 0}, 'num_history'),
    ({'num_windows': 0}, 'num_windows'),
    ({'goal_min_s': 2.0}, 'goal_min_s'),
    ({'goal_max_s': 4.0}, 'goal_max_s'),
    ({'goal_dropout': 1.5}, 'goal_dropout'),
    ({'min_waypoints': 11}, 'min_waypoints'),
    ({'dt': 0.0}, 'dt'),
    ({'max_gap_s': 0.0}, 'max_gap_s'),
  ],
)
def test_specs_that_make_no_sense_are_errors(change, word):
  with pytest.raises(ValueError, match=word):
    dataclasses.replace(SPEC, **change)
