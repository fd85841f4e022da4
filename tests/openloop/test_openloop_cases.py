import dataclasses

import numpy as np
import pytest

from s2e_jax import geometry
from s2e_jax.openloop import baselines
from s2e_jax.openloop.cases import batches, cut_cases

K, H = 3, 10


@dataclasses.dataclass
class Drive:
  """Stamps and poses of a clip."""

  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray


def arc(seconds=12.0, rate=4.0, speed=1.0, turn=0.0, start=(3.0, -2.0), yaw=0.7):
  t = np.arange(0, seconds, 1 / rate)
  heading = yaw + turn * t
  if turn:
    local = speed / turn * np.stack([np.sin(turn * t), 1 - np.cos(turn * t)], -1)
  else:
    local = np.stack([speed * t, 0 * t], -1)
  return Drive(100.0 + t, geometry.to_world_frame(local, np.array(start), np.full(len(t), yaw)), heading)


def test_every_full_window_appears_once():
  clips = [arc(6.0), arc(1.0), arc(9.0, rate=10.0)]
  cases = cut_cases(clips, [0, 1, 2], K)
  frames = [24, None, 36]
  for i, n in enumerate(frames):
    rows = cases.clip == i
    # K - 1 frames have no history yet, H have no full future
    assert rows.sum() == (0 if n is None else n - (K - 1) - H)
    assert len(set(map(tuple, cases.history[rows]))) == rows.sum()
  assert cases.waypoints.shape == (len(cases), H, 2)


def test_clips_outside_the_list_are_left_out():
  clips = [arc(), arc(speed=2.0)]
  assert set(cut_cases(clips, [1], K).clip) == {1}


def test_windows_do_not_reach_across_a_gap():
  clip = arc(12.0)
  clip.stamps[20:] += 5.0
  cases = cut_cases([clip], [0], K)
  assert all((row < 20).all() or (row >= 20).all() for row in cases.history)
  assert set(cases.history[:, -1]) == set(range(2, 20 - H)) | set(range(22, 48 - H))


def test_a_gap_in_a_fast_clip_repeats_no_window():
  clip = arc(12.0, rate=10.0)
  clip.stamps[60:] += 5.0
  cases = cut_cases([clip], [0], K)
  assert len(set(map(tuple, cases.history))) == len(cases)
  assert all(len(set(row)) == K and ((row < 60).all() or (row >= 60).all()) for row in cases.history)


def test_a_slow_clip_shows_each_present_once():
  cases = cut_cases([arc(20.0, rate=2.0)], [0], K)
  assert len(set(cases.history[:, -1])) == len(cases) > 20


def test_no_window_at_all_gives_empty_cases():
  cases = cut_cases([arc(1.0)], [0], K)
  assert len(cases) == 0 and cases.waypoints.shape == (0, H, 2)


def test_goal_is_the_own_position_ahead_or_at_the_end():
  cases = cut_cases([arc(12.0)], [0], K, goal_s=5.0)
  left = 11.75 - 0.25 * cases.history[:, -1]  # seconds to the last frame, at 1 m/s
  np.testing.assert_allclose(
    cases.goal_in_robot[cases.has_goal, 0], np.minimum(5, left)[cases.has_goal], atol=1e-5
  )
  np.testing.assert_array_equal(cases.has_goal, left > 2.5 + 1e-6)
  assert not cases.without_goals().has_goal.any()


def test_constant_velocity_is_exact_on_a_straight_drive():
  cases = cut_cases([arc(speed=1.3)], [0], K)
  np.testing.assert_allclose(baselines.constant_velocity(cases), cases.waypoints, atol=1e-4)


def test_constant_velocity_uses_only_the_past():
  clip = arc(12.0)
  cases = cut_cases([clip], [0], K)
  later = dataclasses.replace(clip, position=clip.position.copy())
  later.position[21:] += 3.0
  row = np.flatnonzero(cases.history[:, -1] == 20)
  changed = cut_cases([later], [0], K)
  np.testing.assert_array_equal(baselines.constant_velocity(cases)[row], baselines.constant_velocity(changed)[row])
  assert not np.allclose(cases.waypoints[row], changed.waypoints[row])


def test_straight_to_goal_drives_at_speed_and_stops_there():
  cases = cut_cases([arc(speed=1.0)], [0], K).take(np.array([0, 1, 2]))
  cases = dataclasses.replace(
    cases, goal_in_robot=np.array([[0.0, 8.0], [0.6, 0.8], [5.0, 5.0]]), has_goal=np.array([True, True, False])
  )
  predicted = baselines.straight_to_goal(cases)
  np.testing.assert_allclose(predicted[0], cases.times[:, None] * [0.0, 1.0], atol=1e-5)
  np.testing.assert_allclose(predicted[1, -1], [0.6, 0.8], atol=1e-5)
  np.testing.assert_allclose(predicted[2], cases.times[:, None] * [1.0, 0.0], atol=1e-5)


def test_learned_baselines_learn_from_the_training_windows_only():
  train = cut_cases([arc(20.0, turn=w, yaw=w) for w in (-0.2, -0.1, 0.1, 0.2, 0.0)], range(5), K)
  test = cut_cases([arc(20.0, turn=0.15)], [0], K)
  found = baselines.predict_all(test, train)
  np.testing.assert_allclose(found['mean_trajectory'][0], train.waypoints.mean(axis=0), rtol=1e-6)
  error = {name: np.linalg.norm(w - test.waypoints, axis=-1).mean() for name, w in found.items()}
  # arcs of one speed are a function of the goal, so the goal-only policy gets near the truth
  assert error['goal_only'] < 0.5 * error['straight_to_goal']
  assert error['goal_only'] < 0.5 * error['mean_trajectory']
  np.testing.assert_allclose(
    baselines.predict_all(test.without_goals(), train)['goal_only'], found['mean_trajectory'], rtol=1e-6
  )


def test_without_training_windows_only_the_baselines_that_do_not_learn_remain():
  test = cut_cases([arc()], [0], K)
  assert set(baselines.predict_all(test, None)) == {'constant_velocity', 'straight_to_goal', 'stand_still'}


def test_goal_only_survives_a_single_clip_and_no_goals():
  train = cut_cases([arc(20.0)], [0], K)
  test = cut_cases([arc(turn=0.1)], [0], K)
  for training in (train, train.without_goals()):
    assert np.isfinite(baselines.GoalOnly.fit(training)(test)).all()


@pytest.mark.parametrize('n', [0, 1, 7, 8])
def test_batches_show_every_case_once_at_one_size(n):
  shown = [(rows, real) for rows, real in batches(n, 4)]
  assert all(len(rows) == 4 for rows, _ in shown)
  np.testing.assert_array_equal(np.concatenate([rows[:real] for rows, real in shown] or [[]]), np.arange(n))
