import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.scene import SLOTS, street_heading, to_street, to_world
from s2e_jax.sim import observe
from s2e_jax.sim.lidar import NUM_SECTORS, clearances_ahead, ray_distances, sector_clearances
from s2e_jax.sim.observe import (
  LAYOUT,
  STATE_SIZE,
  Pose,
  goal_features,
  people_features,
  state_vector,
  whereabouts,
)
from s2e_jax.sim.pavement import to_pavement_centre
from s2e_jax.worlds import builders
from s2e_jax.worlds.distance import FAR, outlines
from s2e_jax.worlds.people import no_people, place_people, walkers

look_around = jax.jit(whereabouts)
sectors = jax.jit(sector_clearances)
rays = jax.jit(ray_distances)


@pytest.fixture(scope='module')
def world():
  return builders.world_from(busy_scene(), (-3.0, 0.0), 0.0, (8.0, 0.0))


def pose_at(x, y, yaw=0.0, velocity=(0.0, 0.0), yaw_rate=0.0):
  return Pose(jnp.array([x, y]), jnp.float32(yaw), jnp.array(velocity), jnp.float32(yaw_rate))


def busy_scene():
  scene = builders.empty_scene(SLOTS['small'])
  scene = builders.with_box(scene, 0, 3.0, 0.5, 0.7, 0.3, 0.9, yaw=0.4)
  scene = builders.with_box(scene, 1, -4.0, 2.0, 6.0, 0.2, 3.0, kind='wall')
  scene = builders.with_box(scene, 2, 1.0, -3.0, 0.5, 0.5, 2.0, low=1.5, kind='sign')  # overhead
  scene = builders.with_cylinder(scene, 0, -1.5, -1.0, 0.4, 1.0)
  return builders.with_cylinder(scene, 1, 0.5, 1.2, 0.05, 1.0, kind='pole')


def brute_rays(shape, pos, angles, step=1e-3, reach=12.0):
  """Distance along rays by marching: what the closed forms have to agree with."""
  t = np.arange(0, reach, step)
  points = np.asarray(pos) + t[None, :, None] * np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
  x, y = points[..., 0], points[..., 1]
  hit = np.zeros(x.shape, bool)
  s = jax.tree.map(np.asarray, shape)
  for i in np.flatnonzero(s.is_solid[: len(s.x)]):
    u = s.cos[i] * (x - s.x[i]) + s.sin[i] * (y - s.y[i])
    v = s.cos[i] * (y - s.y[i]) - s.sin[i] * (x - s.x[i])
    hit |= (abs(u) <= s.half_x[i]) & (abs(v) <= s.half_y[i])
  for i in np.flatnonzero(s.is_solid[len(s.x) :]):
    hit |= np.hypot(x - s.disc_x[i], y - s.disc_y[i]) <= s.radius[i]
  return np.where(hit.any(1), t[hit.argmax(1)], FAR)


@pytest.mark.parametrize('pos', [(0.0, 0.0), (-3.1, 0.7), (2.0, 1.0)])
def test_rays_agree_with_marching(pos):
  shape = outlines(busy_scene())
  angles = np.linspace(-3.0, 3.2, 37)
  ours = np.asarray(rays(shape, jnp.array(pos), jnp.asarray(angles, jnp.float32))).min(-1)
  np.testing.assert_allclose(ours, brute_rays(shape, pos, angles), atol=2e-3)


def test_clearances_ahead_run_from_right_to_left():
  scene = builders.with_cylinder(builders.empty_scene(), 0, 4.0, -1.6, 0.3, 1.0)  # 22 degrees to the right
  scene = builders.with_cylinder(scene, 1, 2.0, 1.8, 0.3, 1.0)  # 42 degrees to the left
  scene = builders.with_cylinder(scene, 2, -1.0, 0.0, 0.3, 1.0)  # behind
  found = np.asarray(clearances_ahead(outlines(scene), jnp.zeros(2), jnp.float32(0.0)))
  near = math.hypot(4.0, 1.6) - 0.3, math.hypot(2.0, 1.8) - 0.3
  assert found[7] == pytest.approx(near[1], abs=1e-4)
  assert min(found[1:3]) == pytest.approx(near[0], abs=1e-2)
  np.testing.assert_array_equal(found[3:6], 10.0)
  turned = np.asarray(clearances_ahead(outlines(scene), jnp.zeros(2), jnp.float32(np.pi)))
  assert min(turned[3:5]) == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize('yaw', [0.0, 0.3, -2.9])
def test_sector_clearances_are_the_least_of_dense_rays(yaw):
  shape = outlines(busy_scene())
  for pos in np.random.default_rng(0).uniform((-6, -1.5), (6, 1.4), (12, 2)):
    pos = jnp.asarray(pos, jnp.float32)
    ours = np.asarray(sectors(shape, pos, jnp.float32(yaw), 9.0))
    bearings = (np.arange(NUM_SECTORS * 400) + 0.5) * (2 * np.pi / (NUM_SECTORS * 400))
    dense = np.asarray(rays(shape, pos, jnp.asarray(yaw + bearings, jnp.float32))).min(-1)
    dense = np.minimum(dense.reshape(NUM_SECTORS, 400).min(-1), 9.0)
    assert ours.shape == (16,)
    assert (ours <= dense + 1e-4).all()
    # a pole may stand between two dense rays: let the ends of a sector differ by one ray
    np.testing.assert_allclose(ours, dense, atol=0.06)


def test_sectors_count_to_the_left_from_straight_ahead():
  scene = builders.with_cylinder(builders.empty_scene(), 0, 0.3, 2.0, 0.2, 1.0)
  clear = np.asarray(sectors(outlines(scene), jnp.zeros(2), jnp.float32(0.0)))
  assert np.flatnonzero(clear < 10).tolist() == [3]  # at 81 degrees to the left
  turned = np.asarray(sectors(outlines(scene), jnp.zeros(2), jnp.float32(np.pi / 2)))
  assert np.flatnonzero(turned < 10).tolist() == [15]  # just right of straight ahead
  assert clear[3] == pytest.approx(np.hypot(0.3, 2.0) - 0.2, abs=1e-5) == turned[15]


def test_inside_an_obstacle_the_clearance_is_zero():
  scene = builders.with_box(builders.empty_scene(), 0, 0.0, 0.0, 1.0, 1.0, 1.0)
  clear = np.asarray(sectors(outlines(scene), jnp.zeros(2), jnp.float32(0.1)))
  np.testing.assert_array_equal(clear, 0.0)


@pytest.mark.parametrize('curvature', [0.0, 0.03])
def test_the_middle_of_the_pavement_is_where_it_is_drawn(curvature):
  # road d -9..-2, paved -12..2.5: pavements are centred at d = 0.25 and -10.5
  ground = builders.empty_scene(curvature=curvature, crossings=[(4.0, 6.0, -9.0, -2.0)]).ground
  for s, d, away, share in [
    (1.0, 0.25, 0.0, 0.0), (2.0, 2.5, -2.25, 1.0), (-3.0, -2.0, 2.25, 1.0), (0.0, -11.0, 0.5, 1 / 3),
    (0.0, -3.0, 3.25, 3.25 / 2.25), (5.0, -5.0, 0.0, 0.0),
  ]:  # fmt: skip
    way, ours = to_pavement_centre(ground, jnp.float32(s), jnp.float32(d))
    np.testing.assert_allclose(way, [0.0, away], atol=1e-5)
    np.testing.assert_allclose(ours, share, atol=1e-5)


def test_pavements_of_a_cross_street_and_of_a_street_without_road_count():
  ground = builders.empty_scene(cross_road=(6.0, 10.0), cross_paved=(4.0, 12.0)).ground
  way, share = to_pavement_centre(ground, jnp.float32(4.5), jnp.float32(-5.0))
  np.testing.assert_allclose([*way, share], [0.5, 0.0, 0.5], atol=1e-5)
  alley = builders.empty_scene(road=(0.0, -1.0), paved=(-1.0, 3.0)).ground
  way, share = to_pavement_centre(alley, jnp.float32(2.0), jnp.float32(2.0))
  np.testing.assert_allclose([*way, share], [0.0, -1.0, 0.5], atol=1e-5)


def test_goals_are_encoded_as_in_the_release():
  goals = jnp.array([[3.0, 4.0], [0.0, 0.0], [-500.0, 0.0], [0.0, -0.02]])
  expected = [[5 / 200, 0.6, 0.8], [0.1 / 200, 1, 0], [1, -1, 0], [0.1 / 200, 0, -1]]
  np.testing.assert_allclose(goal_features(goals), expected, atol=1e-6)


def test_people_are_listed_from_the_nearest_in_the_robots_frame():
  scene = builders.empty_scene()
  paths = jnp.array([[[6.0, 0.0], [7.0, 0.0]], [[2.0, 1.0], [2.0, 2.0]]])
  people = walkers(scene, paths, jnp.array([1.0, 1.5]), num=4)
  pose = pose_at(2.0, 0.0, yaw=np.pi / 2, velocity=(0.5, 0.0))
  rows = np.asarray(people_features(people, pose)).reshape(3, 5)
  np.testing.assert_allclose(rows[0], [1, 0.1, 0, 1.0, 0.0], atol=1e-6)  # ahead, walks away 1 m/s faster
  np.testing.assert_allclose(rows[1], [1, 0, -0.4, -0.5, -1.0], atol=1e-6)
  np.testing.assert_array_equal(rows[2], 0)
  np.testing.assert_array_equal(people_features(no_people(0), pose), 0)


def test_the_route_points_down_the_way_to_the_goal(world):
  for yaw in (0.0, 1.0):
    around = look_around(world.to_goal, world.scene.ground, pose_at(5.0, 0.0, yaw))
    np.testing.assert_allclose(around.route[1:], [np.cos(yaw), -np.sin(yaw)], atol=0.1)
    assert float(around.way) == pytest.approx(3.0, rel=0.08)


def test_the_state_vector_has_every_entry_in_its_place(world):
  people = walkers(world.scene, jnp.array([[[0.0, 0.5], [3.0, 0.5]]]), 1.0, num=4)
  scene = place_people(world.scene, people)
  pose = pose_at(-2.0, -0.3, 0.5, (0.8, 0.05), 0.3)
  around = look_around(world.to_goal, scene.ground, pose)
  last = jnp.array([1.0, -0.2])
  goal = jnp.array([3.0, 4.0])
  state = jax.jit(state_vector)(pose, around, goal, last, people, outlines(scene), scene.ground)
  assert state.shape == (STATE_SIZE,) and state.dtype == jnp.float32
  ends = np.cumsum(list(LAYOUT.values()))
  part = dict(zip(LAYOUT, np.split(np.asarray(state), ends[:-1]), strict=True))
  np.testing.assert_allclose(part['goal'], [5 / 200, 0.6, 0.8], atol=1e-6)
  np.testing.assert_allclose(part['velocity'], [0.8, 0.05, 0.3], atol=1e-6)
  np.testing.assert_allclose(part['last_command'], last)
  clear = sectors(outlines(scene), pose.position, pose.yaw) / observe.LIDAR_RANGE
  np.testing.assert_allclose(part['clearances'], clear, atol=1e-6)
  assert part['people'][0] == 1 and part['people'][5] == 0
  np.testing.assert_allclose(part['street'], [np.cos(0.5), -np.sin(0.5)], atol=1e-6)
  assert part['pavement'][3] == 0
  # pavement centre at d = 0.25: 0.55 m to the left of the street's direction
  np.testing.assert_allclose(part['pavement'][:2] * 5, [0.55 * np.sin(0.5), 0.55 * np.cos(0.5)], atol=1e-5)
  assert part['fence'][0] == pytest.approx(0.43, abs=1e-5)  # d = 4 lies 4.3 m away
  np.testing.assert_allclose(part['fence'][1:], [-np.sin(0.5), -np.cos(0.5)], atol=1e-5)


def test_the_state_is_finite_wherever_the_robot_is(world):
  scene = world.scene
  rng = np.random.default_rng(1)
  points = np.concatenate([rng.uniform(-60, 60, (200, 2)), [[3.0, 0.5], [8.0, 0.0], [-1.5, -1.0]]]).astype('f')

  def look(point):
    pose = pose_at(0.0, 0.0).replace(position=point)
    around = whereabouts(world.to_goal, scene.ground, pose)
    return state_vector(
      pose, around, world.goal_in_world - point, jnp.zeros(2), world.people, outlines(scene), scene.ground
    )

  states = np.asarray(jax.jit(jax.vmap(look))(points))
  assert np.isfinite(states).all()
  assert np.abs(states).max() <= 40


def test_street_coordinates_round_trip_where_observations_use_them():
  s, d = to_street(*to_world(jnp.float32(7.0), jnp.float32(-1.5), 0.04), 0.04)
  np.testing.assert_allclose([s, d], [7.0, -1.5], atol=1e-4)
  assert float(street_heading(s, 0.04)) == pytest.approx(0.28, abs=1e-4)
