"""Figures of judged episodes, worked by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from s2e_jax.closedloop import metrics
from s2e_jax.scene import KIND


def bools(text):
  return np.array([[c == 'x' for c in row] for row in text.split()])


def test_route_completion_by_hand():
  distance = np.array(
    [[11.0, 9.0, 6.0, 8.0], [11.0, 12.0, 13.0, 11.5], [11.0, 5.0, 0.5, 0.5], [0.8, 3.0, 3.0, 3.0]]
  )
  np.testing.assert_allclose(metrics.route_completion(distance), [0.5, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(
  ('contact', 'counted'),
  [
    ('.xxxx...', '.x......'),  # one contact is one, however long
    ('x......x', 'x......x'),  # the first step can begin one
    ('.x.x....', '.x......'),  # 0.5 s later: within the second
    ('.x...x..', '.x...x..'),  # exactly 1 s later counts
    ('.x.x.x..', '.x...x..'),  # the second counts from the last one counted, not the last one seen
    ('.x.xxx..', '.x......'),  # what began too early is not counted later
  ],
)
def test_contacts_are_rising_edges_a_second_apart(contact, counted):
  np.testing.assert_array_equal(metrics.contact_edges(bools(contact)), bools(counted))


def test_contacts_of_several_episodes_do_not_mix():
  np.testing.assert_array_equal(metrics.contact_edges(bools('x..x.. .x...x')), bools('x..... .x...x'))


def test_spl_by_hand():
  found = metrics.spl(np.array([True, True, False, True]), np.full(4, 11.0), np.array([10.0, 20.0, 10.0, 8.0]))
  np.testing.assert_allclose(found, [1.0, 0.5, 0.0, 1.0])


def test_sct_by_hand():
  success, shortest = np.array([True, True, False, True]), np.full(4, 11.0)
  found = metrics.sct(success, shortest, np.array([5.0, 20.0, 20.0, 4.0]), top_speed=2.0)
  np.testing.assert_allclose(found, [1.0, 0.25, 0.0, 1.0])  # 10 m at 2 m/s take 5 s
  with pytest.raises(ValueError, match='top_speed=0'):
    metrics.sct(success, shortest, np.ones(4), 0.0)


def test_intrusion_by_hand():
  gap = np.array([[2.0, 0.4, 0.49, 0.5, 0.1], [0.3, 0.3, 0.3, 0.3, 0.3], [1e3] * 5, [9.0] * 5])
  found = metrics.intrusion_share(gap, np.array([3, 4, 4, 4]))
  np.testing.assert_allclose(found, [0.5, 1.0, np.nan, 0.0])  # the fifth moment of the first is after its end


def test_jerk_by_hand():
  speed = np.array([[0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 1.0, 0.0, 0.5, 9.0], [0.0, 1.0, 1.0, 1.0, 1.0]])
  found = metrics.jerk(speed, np.array([4, 3, 1]))
  np.testing.assert_allclose(found, [0.0, (2.0 + 1.5) / 2 * 16, np.nan])


def line(start, end, num):
  return np.linspace(start, end, num)


def classified(position, yaw=None, way=None, contact=None):
  position = np.asarray(position, float)
  n = len(position)
  yaw = np.zeros(n) if yaw is None else yaw
  way = np.full(n, 9.0) if way is None else way
  contact = np.zeros(n - 1, bool) if contact is None else contact
  found = metrics.failure_class(
    np.array([False]),
    np.array([n - 1]),
    position[None],
    np.asarray(yaw)[None],
    np.asarray(way)[None],
    contact[None],
  )
  return metrics.CLASSES[int(found[0])]


def test_classes_of_failure_by_hand():
  num = 241
  t = np.arange(num) * 0.25
  still, along = np.zeros((num, 2)), np.stack([0.3 * t, 0 * t], -1)
  assert classified(still) == 'wrong_stop'
  pushing = np.zeros(num - 1, bool)
  pushing[-11:] = True  # 2.75 of the last 10 s
  assert classified(still, contact=pushing) == 'collision_stuck'
  pushing[-11] = pushing[-10] = False  # 2.25 s
  assert classified(still, contact=pushing) == 'wrong_stop'
  earlier = np.zeros(num - 1, bool)
  earlier[50:90] = True
  assert classified(still, contact=earlier) == 'wrong_stop'
  assert classified(still, yaw=0.5 * t) == 'oscillation'  # turns on the spot
  to_and_fro = np.stack([0.4 * np.sin(2 * t), 0 * t], -1)
  assert classified(to_and_fro) == 'oscillation'
  circles = np.stack([3 * np.cos(t / 2), 3 * np.sin(t / 2)], -1)
  assert classified(circles, way=9 + np.sin(t / 2)) == 'oscillation'
  assert classified(along, way=20 - 0.3 * t) == 'time_out'
  assert classified(along, way=5 + 0.3 * t) == 'off_route'
  assert classified(along, way=np.concatenate([line(30, 10, 121), line(10, 16, 120)])) == 'off_route'
  assert classified(along, way=np.concatenate([line(30, 10, 121), line(10, 14, 120)])) == 'time_out'


def test_what_follows_the_end_of_an_episode_plays_no_part():
  position = np.zeros((1, 100, 2))
  position[0, :, 0] = np.minimum(np.arange(100), 60)
  zeros = np.zeros((1, 100))
  found = metrics.failure_class(
    np.array([False]), np.array([60]), position, zeros, 99 - position[..., 0], zeros[:, 1:] > 0
  )
  assert metrics.CLASSES[int(found[0])] == 'time_out'


def test_episode_metrics_by_hand():
  """Two episodes of four steps: one arrives after three; the other bumps into a person and is bumped into."""
  position = np.array([[[0, 0], [1, 0], [2, 0], [3, 0], [3, 0]], [[0, 0], [0, 1], [0, 2], [0, 1], [0, 1]]], float)
  traces = SimpleNamespace(
    position=position,
    yaw=np.zeros((2, 5)),
    way=np.array([[5.0, 4, 3, 1, 1], [9.0, 7, 6, 7, 7]]),
    gap=np.array([[1e3] * 5, [2.0, 0.4, 0.0, 0.7, 0.9]]),
    contact=bools('.... .xx.'),
    by_robot=bools('.... .x..'),
    hit_kind=np.array([[0] * 4, [0, KIND['person'], 0, 0]]),
    num_steps=np.array([3, 4]),
    has_arrived=np.array([True, False]),
    nan_actions=np.array([0, 2]),
    goal=np.array([[4.0, 0.0], [0.0, 6.0]]),
    path_length=np.array([4.5, 9.0]),
    num_goals=np.ones(2, int),
  )
  found = metrics.episode_metrics(traces)
  expected = {
    'success': [1, 0], 'rc': [1, 0.4], 'rc_way': [1, 3 / 8], 'contacts': [0, 1], 'contact_share': [0, 0.5],
    'contacts_by_robot': [0, 1], 'contacts_with_people': [0, 1], 'hit_by_people': [0, 0], 'metres': [3, 3],
    'seconds': [0.75, 1.0], 'spl': [1, 0], 'time_to_goal': [0.75, np.nan], 'speed': [4, 3],
    'person_gap': [np.nan, 0.0], 'nan_commands': [0, 2],
  }  # fmt: skip
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, err_msg=name)
  assert set(found) == {*expected, 'failure'} and found['failure'][0] == 0
  traces.by_robot = bools('.... ....')
  found = metrics.episode_metrics(traces)
  assert found['contacts_by_robot'].tolist() == [0, 0] and found['hit_by_people'].tolist() == [0, 1]


def test_driving_metrics_by_hand():
  traces = SimpleNamespace(
    speed=np.array([[0.0, 1, 2, 2, 2], [0.0, 0, 0, 1, 1]]),
    gap=np.array([[1e3] * 5, [2.0, 0.4, 0.0, 0.7, 0.9]]),
    num_steps=np.array([3, 4]),
    has_arrived=np.array([True, False]),
    path_length=np.array([2.0, 9.0]),
    clearance=np.array([[0.9, 0.3, 0.5, 0.5, 0.5], [1e3] * 5]),
  )
  found = metrics.driving_metrics(traces, top_speed=4.0)
  expected = {'sct': [0.25 / 0.75, 0], 'intrusion': [np.nan, 0.4], 'clearance': [0.3, np.nan], 'jerk': [8, 32 / 3]}
  assert set(found) == set(expected)
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, err_msg=name)
