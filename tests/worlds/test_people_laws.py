"""The laws of walking against slow plain twins, and the promises of the barriers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.scene import SLOTS
from s2e_jax.worlds import people_steering as steering
from s2e_jax.worlds.builders import empty_scene, with_box, with_cylinder
from s2e_jax.worlds.people_paths import is_blocked, nearest_object, offset_paths, point_along
from s2e_jax.worlds.people_spawn import static_outlines

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SLOTS_HERE = SLOTS['small']
NUM = 5
ANGLES = np.array(steering.HEADINGS)


@pytest.fixture(scope='module')
def street():
  scene = empty_scene(SLOTS_HERE)
  scene = with_box(scene, 1, 2.0, 0.5, 0.8, 0.3, 1.2, yaw=0.7)
  scene = with_box(scene, 4, -3.0, 1.0, 0.4, 1.1, 2.0, yaw=-0.2)
  scene = with_box(scene, 5, 0.0, 0.0, 0.5, 0.5, 1.0, low=2.5)  # overhead: nobody runs into it
  scene = with_cylinder(scene, 2, 0.0, -1.5, 0.35, 1.0)
  return static_outlines(scene, SLOTS_HERE.people)


@pytest.fixture(scope='module')
def plain(street):
  return jax.tree.map(np.asarray, street)


@pytest.fixture(scope='module')
def draw():
  rng = np.random.default_rng(3)
  position = np.stack([rng.uniform(-6, 6, NUM), rng.uniform(-2.5, 2.5, NUM)], axis=-1)
  turn = rng.uniform(-np.pi, np.pi, NUM)
  aim = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
  return rng, position, aim


def rotated(vector, angle):
  c, s = np.cos(angle), np.sin(angle)
  return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def slow_distance(shape, points):
  """Signed distance (m) of points [..., 2] to the nearest outline, one outline after the other."""
  best = np.full(np.shape(points)[:-1], 1e3)
  for b in np.flatnonzero(shape.is_solid[: len(shape.x)]):
    x, y = points[..., 0] - shape.x[b], points[..., 1] - shape.y[b]
    turn = np.exp(-1j * np.arctan2(shape.sin[b], shape.cos[b])) * (x + 1j * y)
    qu, qv = np.abs(turn.real) - shape.half_x[b], np.abs(turn.imag) - shape.half_y[b]
    best = np.minimum(best, np.hypot(np.maximum(qu, 0), np.maximum(qv, 0)) + np.minimum(np.maximum(qu, qv), 0))
  for i in np.flatnonzero(shape.is_solid[len(shape.x) :]):
    away = np.hypot(points[..., 0] - shape.disc_x[i], points[..., 1] - shape.disc_y[i])
    best = np.minimum(best, away - shape.radius[i])
  return best


def slow_way(shape, position, heading, reach):
  """The way to the first grown outline, found by looking at it every centimetre."""
  ways = np.arange(0.01, 8, 0.01)
  near = slow_distance(shape, position + ways[:, None] * heading) < reach
  return ways[near.argmax()] if near.any() else steering.FREE


def test_the_free_way_past_objects_ends_where_a_walk_in_small_steps_ends(street, plain, draw):
  _, position, aim = draw
  reach = 0.3
  heading = steering.headings_around(jnp.asarray(aim, jnp.float32))
  fast = np.asarray(steering.free_way_past_objects(street, jnp.asarray(position), heading, jnp.full(NUM, reach)))
  checked = 0
  for n in range(NUM):
    if slow_distance(plain, position[n]) < reach + 0.05:
      continue
    for k in range(len(ANGLES)):
      direction = rotated(aim[n], ANGLES[k])
      np.testing.assert_allclose(heading[n, k], direction, atol=1e-5)
      # grown boxes keep their sharp corners: they reach at most (sqrt(2) - 1) reach farther than round ones
      near = slow_way(plain, position[n], direction, reach * np.sqrt(2))
      far = slow_way(plain, position[n], direction, reach)
      assert min(near, 8) - 0.02 <= min(fast[n, k], 8) <= min(far, 8) + 0.02
      checked += far < 8
  assert checked > 10


def test_the_time_to_moving_discs_is_found_by_a_walk_in_small_steps(draw):
  rng, position, aim = draw
  num = 6
  centre, velocity = rng.uniform(-4, 4, (num, 2)), rng.uniform(-1, 1, (num, 2))
  reach = rng.uniform(0.6, 1.4, (num, NUM))
  counts = np.ones((num, NUM), bool)
  counts[1] = False
  begin = np.linalg.norm(centre[:, None] - position, axis=-1)
  counts &= begin > reach + 0.05  # the law shrinks discs that hold the person already
  walk = 1.3 * np.asarray(steering.headings_around(jnp.asarray(aim, jnp.float32)))
  inputs = (jnp.asarray(v) for v in (centre, velocity, reach, counts, position, walk))
  fast = np.asarray(steering.time_to_discs(*inputs))
  time = np.arange(0, 12, 0.002)
  hits = 0
  for n in range(NUM):
    for k in range(len(ANGLES)):
      best = 12.0
      for m in np.flatnonzero(counts[:, n]):
        apart = centre[m] - position[n] + time[:, None] * (velocity[m] - walk[n, k])
        meets = np.linalg.norm(apart, axis=-1) < reach[m, n]
        best = min(best, time[meets.argmax()] if meets.any() else 12.0)
      assert best == pytest.approx(min(fast[n, k], 12), abs=0.01)
      hits += best < 12
  assert hits > 10


def test_the_choice_of_a_heading_is_the_cheapest_of_all():
  rng = np.random.default_rng(0)
  way = rng.choice([0.2, 0.8, 2.0, 5.0, 40.0], (NUM, len(ANGLES)))
  off = rng.random((NUM, len(ANGLES))) < 0.3
  velocity = rng.uniform(-1, 1, (NUM, 2))
  heading = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)[None].repeat(NUM, 0)
  best, speed, pace = steering.choose_heading(*(jnp.asarray(v) for v in (way, off, heading, velocity)))
  for n in range(NUM):
    costs = []
    for k, angle in enumerate(ANGLES):
      f = min(way[n, k] / steering.HORIZON, 1)
      t = min(max(np.cos(angle), 0), f)
      cost = (np.cos(angle) * t - 1) ** 2 + (np.sin(angle) * t) ** 2  # how far from an aim straight ahead
      cost += steering.TIGHT * max(1 - way[n, k], 0) + steering.OFF_PAVEMENT * off[n, k]
      cost += steering.RIGHT_HAND * (angle > 0) + steering.SIDEWAYS * (1 - np.cos(angle))
      costs.append(cost - steering.INERTIA * heading[n, k] @ velocity[n])
    k = int(np.argmin(costs))
    np.testing.assert_allclose(best[n], heading[n, k], atol=1e-6)
    assert speed[n] == pytest.approx(min(way[n, k], steering.HORIZON) / steering.STOPPING_TIME, rel=1e-5)
    assert pace[n] == pytest.approx(np.clip(np.cos(ANGLES[k]) + 0.5, 0.4, 1), rel=1e-5)


def test_the_social_force_is_the_sum_over_all_others(draw):
  rng, position, aim = draw
  other, reach, counts = rng.uniform(-3, 3, (4, 2)), rng.uniform(0.4, 0.6, (NUM, 4)), rng.random((NUM, 4)) < 0.7
  fast = steering.social_force(*(jnp.asarray(v) for v in (position, reach, other, counts, aim)))
  for n in range(NUM):
    total = np.zeros(2)
    for m in np.flatnonzero(counts[n]):
      apart = position[n] - other[m]
      distance = np.sqrt(apart @ apart + 1e-6)
      away = apart / distance
      # Helbing and Molnar: exponential in the gap, weaker from behind
      strength = 0.5 * np.exp((reach[n, m] - distance) / 0.25) * (0.3 + 0.35 * (1 - away @ aim[n]))
      total += min(strength, 0.8) * away
    np.testing.assert_allclose(fast[n], total, atol=1e-5)


def test_no_velocity_that_comes_out_of_the_barriers_breaks_one():
  rng = np.random.default_rng(1)
  for _ in range(20):
    velocity = rng.uniform(-2, 2, (NUM, 2))
    angle = rng.uniform(-np.pi, np.pi, (NUM, 7))
    normal = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    allowed = rng.choice([0.0, 0.05, 0.5, 3.0], (NUM, 7))
    safe = np.asarray(steering.obey_barriers(*(jnp.asarray(v) for v in (velocity, normal, allowed))))
    assert (-(safe[:, None] * normal).sum(-1) - allowed).max() < 1e-5
    # where nothing is in the way nothing changes
    free = (-(velocity[:, None] * normal).sum(-1) <= allowed).all(-1)
    np.testing.assert_allclose(safe[free], velocity[free], atol=1e-6)


@pytest.mark.parametrize('dt', [0.25, 0.1])
def test_the_safe_approach_stops_in_front_of_a_wall_without_braking_hard(dt):
  gap, speed, hardest = 3.0, 2.0, 0.0
  for _ in range(200):
    new = min(speed, float(steering.safe_approach(jnp.float32(gap), dt)))
    hardest, speed = max(hardest, (speed - new) / dt), new
    gap -= speed * dt
    assert gap > -1e-6
  assert gap < 0.02
  assert hardest < steering.BRAKING * 1.2
  assert float(steering.safe_approach(jnp.float32(-5.0), dt)) == -1.0  # out again, but not at once


def test_the_nearest_object_is_the_nearest_of_all(street, plain, draw):
  rng, *_ = draw
  points = rng.uniform(-6, 6, (3, 40, 2))
  fast = nearest_object(street, jnp.asarray(points[..., 0]), jnp.asarray(points[..., 1]))
  slow = [[slow_distance(plain, p) for p in row] for row in points]
  np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_a_leg_is_blocked_where_a_walk_along_it_meets_something_large(street, plain):
  ground = empty_scene(SLOTS_HERE).ground
  rng = np.random.default_rng(5)
  paths = rng.uniform((-6, -2.5), (6, 2.5), (4, 3, 6, 2))
  fast = np.asarray(is_blocked(ground, street, jnp.asarray(paths), jnp.full((4, 3), 0.0)))
  assert fast.shape == (4, 3, 5)
  is_large = np.arange(len(plain.is_solid)) < len(plain.x)
  large = dataclasses.replace(plain, is_solid=plain.is_solid & is_large)
  slow = np.zeros_like(fast)
  for i, j, leg in np.ndindex(fast.shape):
    a, b = paths[i, j, leg], paths[i, j, leg + 1]
    slow[i, j, leg] = slow_distance(large, a + np.linspace(0, 1, 4000)[:, None] * (b - a)).min() < 0
  assert 5 < slow.sum() < 55
  np.testing.assert_array_equal(fast, slow)


def test_paths_are_moved_sideways_and_measured():
  path = jnp.array([[0.0, 0], [4, 0], [4, 0], [4, -3], [4, -6], [8, -6]])
  moved = offset_paths(path, jnp.float32(0.5))
  np.testing.assert_allclose(moved, [[0, 0.5], [4, 0.5], [4.5, 0.5], [4.5, -3], [4.5, -5.5], [8, -5.5]], atol=1e-5)
  point, leg, step = point_along(path, jnp.float32(0.0), jnp.float32(0.5))  # 14 m long
  np.testing.assert_allclose(point, [4, -3], atol=1e-5)
  assert int(leg) in (2, 3)
  np.testing.assert_allclose(step, [0, -1], atol=1e-5)
