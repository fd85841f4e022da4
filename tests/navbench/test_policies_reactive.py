"""Policies of few lines on a street drawn by hand, and the depth-based avoider behind its profile."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.closedloop.episodes import make_begin, make_drive, pictures_for, see_records
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.policies import DrivingPolicy, Told, at_goals, constant_arc, goal_seeker, told
from s2e_jax.controller import CommandLimits
from s2e_jax.navbench.policies.clearance_profile import clearance_profile, sector_middles
from s2e_jax.navbench.policies.reactive import ReactiveConfig, carried_along, free_ways, reactive
from s2e_jax.render.render import Pictures, RenderOptions
from s2e_jax.robots import ROBOTS
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.rewards import TERMS
from s2e_jax.structs import DT
from s2e_jax.worlds import builders

pytestmark = pytest.mark.usefixtures('compiled_quickly')

ROBOT = ROBOTS['delivery']
LIMITS = CommandLimits.of(ROBOT)
NUM, STEPS = 3, 72
ARC, STRAIGHT, AVOIDER = range(3)
FREE, BLOCKED = 0.0, 1.0
ARC_COMMAND = (0.6, 0.4)


@pytest.fixture(scope='module')
def street():
  """Level 0: a free pavement along x. Level 1: a box of 2.4 m across it. Starts lie beside one another."""
  with pytest.MonkeyPatch.context() as patch:
    # op by op these searches take many seconds
    for name in ('primitive_distances', 'fence_distance', 'free_space', 'geodesic', 'geodesic_at'):
      patch.setattr(builders, name, jax.jit(getattr(builders, name)))
    empty = builders.empty_scene()
    blocked = builders.with_box(empty, 0, 0.0, 0.0, 0.3, 1.2, 0.8)
    worlds = [builders.world_from(scene, (-5.0, 0.0), 0.0, (5.0, 0.0)) for scene in (empty, blocked)]

  def generator(key, level):
    world = jax.tree.map(lambda a, b: jnp.where(level < 0.5, a, b), *worlds)
    aside = jax.random.uniform(key, minval=-0.8, maxval=0.8)
    return world.replace(start_in_world=world.start_in_world + jnp.stack([0.0, aside]))

  rules = EnvConfig(ROBOT, time_limit=18.0, end_on_collision=False, weights={name: 0.0 for name in TERMS})
  return UrbanEnv(generator, rules)


@pytest.fixture(scope='module')
def drive(street):
  """(which, level) -> traces on the host; all policies are one program."""
  arc, seeker, avoider = constant_arc(), goal_seeker(LIMITS), reactive(ROBOT)

  def act(which, memory, shown, pictures):
    assert isinstance(shown, Told) and pictures.rgb is None
    by_arc, _ = arc.act(jnp.array(ARC_COMMAND), None, shown, None)
    by_seeker, _ = seeker.act(jnp.float32(1), None, shown, None)
    by_avoider, memory = avoider.act(None, memory, shown, pictures)
    return jnp.stack([by_arc, by_seeker, by_avoider])[which], memory

  program = make_drive(street, DrivingPolicy(avoider.init, act, avoider.options, senses=('depth',)))
  keys = jax.random.split(jax.random.key(4), NUM)

  def driven(which, level):
    return jax.device_get(program(jnp.int32(which), make_begin(street)(keys, jnp.float32(level))))

  yield driven
  assert program._cache_size() == 1


def test_a_constant_command_drives_a_circle(drive):
  """In closed form: after the lag, chords of a circle of radius speed / yaw rate, each yaw_rate * 0.25 s on."""
  traces, (_, w) = drive(ARC, FREE), ARC_COMMAND
  settled = slice(10, 30)
  for b in range(NUM):
    speed, yaw = traces.speed[b][settled], traces.yaw[b][settled]
    turn = np.diff(yaw)
    assert (
      np.ptp(speed) < 1e-3 and (1 - ROBOT.slip[1]) * ARC_COMMAND[0] - 1e-3 <= speed[0] <= ARC_COMMAND[0] + 1e-3
    )
    np.testing.assert_allclose(turn, turn[0], atol=1e-4)
    assert (1 - ROBOT.slip[1]) * w * DT - 1e-3 <= turn[0] <= w * DT + 1e-3
    chord = 2 * speed[0] * DT / turn[0] * math.sin(turn[0] / 2)
    along = yaw[:-1] + turn / 2
    expected = chord * np.stack([np.cos(along), np.sin(along)], axis=-1)
    np.testing.assert_allclose(np.diff(traces.position[b][settled], axis=0), expected, atol=2e-3)
  np.testing.assert_array_equal(traces.command[:, :5], np.broadcast_to(np.float32(ARC_COMMAND), (NUM, 5, 2)))


def test_the_avoider_arrives_untouched_where_the_straight_way_gets_stuck(drive):
  stuck, around = (episode_metrics(drive(which, BLOCKED)) for which in (STRAIGHT, AVOIDER))
  assert not stuck['success'].any() and (stuck['contacts'] >= 1).all()
  assert around['success'].all() and not around['contacts'].any()


def test_the_avoider_drives_straight_where_nothing_is_in_the_way(drive):
  figures = episode_metrics(drive(AVOIDER, FREE))
  assert figures['success'].all() and not figures['contacts'].any() and (figures['spl'] > 0.95).all()


def profile_by_brute_force(depth, mount, num_sectors, low, high, max_range):
  """Point by point from the intrinsics of the pinhole camera."""
  height, width = depth.shape
  camera = mount.camera(height, width)
  nearest = np.full(num_sectors, max_range)
  edges = np.linspace(-mount.hfov / 2, mount.hfov / 2, num_sectors + 1)
  for i in range(height):
    for j in range(width):
      z = float(depth[i, j])
      right, down = z * (j + 0.5 - camera.cx) / camera.fx, z * (i + 0.5 - camera.cy) / camera.fy
      x, y, above = z + mount.forward, -right, mount.height - down
      if z > 0 and low <= above <= high:
        sector = min(np.searchsorted(edges, math.atan2(y, x), side='right') - 1, num_sectors - 1)
        nearest[sector] = min(nearest[sector], math.hypot(x, y))
  return nearest


@pytest.mark.parametrize('robot', ['delivery', 'coco'])
def test_the_profile_is_that_of_every_pixel_on_its_own(robot):
  mount, rng = ROBOTS[robot].mount, np.random.default_rng(0)
  depth = rng.uniform(0.3, 7.0, (2, 18, 25)).astype(np.float32)
  depth[rng.random(depth.shape) < 0.3] = 0
  depth[0, :, :9] = 0  # nothing at all on the left
  found = jax.jit(lambda depth: clearance_profile(depth, mount, 13, 0.1, 1.2, 6.0))(depth)
  expected = [profile_by_brute_force(d, mount, 13, 0.1, 1.2, 6.0) for d in depth]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert (np.asarray(found)[0] == 6.0).any() and (np.asarray(found)[1] < 6.0).all()


def test_the_floor_is_no_obstacle_and_a_wall_is_where_it_stands(street):
  """Through the renderer: depth of the simulator's own camera."""
  mount = ROBOT.mount
  episodes = make_begin(street)(jax.random.split(jax.random.key(4), NUM), jnp.float32(BLOCKED))
  eye = reactive(ROBOT)
  profile_of = jax.jit(
    lambda e: clearance_profile(pictures_for(eye, see_records, None, e).depth, mount, 20, 0.1, 1.2, 8.0)
  )
  profile = np.asarray(profile_of(episodes))
  middles = sector_middles(mount, 20)
  for b in range(NUM):
    x, y = np.asarray(episodes.base.position[b])
    front = (-0.3 - x) / np.cos(middles)
    aside = y + front * np.sin(middles)
    is_box, is_street = np.abs(aside) < 1.0, (np.abs(aside) > 1.4) & (np.abs(middles) < 0.6)
    assert is_box.any() and is_street.any()
    np.testing.assert_allclose(profile[b][is_box], front[is_box], atol=0.12)
    assert (profile[b][is_street] == 8.0).all()


def test_what_was_seen_moves_along_with_odometry():
  """Beside the numbers of a robot that turns left on the spot and one that drives straight on."""
  avoider = reactive(ROBOT, ReactiveConfig(num_remembered=2, num_sectors=3))
  shown = Told(jnp.ones((2, 2)), jnp.ones(2, bool), jnp.zeros(2), jnp.zeros(2))
  memory = dataclasses.replace(
    avoider.init(shown),
    points=jnp.broadcast_to(jnp.array([2.0, 1.0]), (2, 2, 3, 2)),
    speed=jnp.array([0.0, 1.0]),
    yaw_rate=jnp.array([1.0, 0.0]),
  )
  found = jax.jit(carried_along)(memory, jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
  c, s = math.cos(DT), math.sin(DT)
  expected = [[2 * c + s, c - 2 * s], [2.0 - DT, 1.0]]
  np.testing.assert_allclose(found.points[:, 1, 2], expected, atol=1e-6)
  np.testing.assert_allclose(found.direction, [-DT, 0.0])


def test_free_ways_end_where_a_disc_would_touch():
  points = jnp.array([[[2.0, 0.0], [0.0, 0.3]]])
  directions = np.array([0.0, math.pi / 2, -math.pi / 2, math.pi], np.float32)
  found = jax.jit(lambda points: free_ways(points, directions, 0.4, 5.0))(points)
  np.testing.assert_allclose(found, [[2.0 - 0.4, 0.0, 5.0, 5.0]], atol=1e-5)


@pytest.mark.parametrize('name', list(ROBOTS))
def test_commands_obey_the_limits_of_the_robot(name):
  robot, rng = ROBOTS[name], np.random.default_rng(1)
  avoider = reactive(robot)
  size = avoider.options.height, avoider.options.width
  shown = Told(
    jnp.asarray(rng.uniform(-9, 9, (16, 2)), jnp.float32), jnp.ones(16, bool), jnp.zeros(16), jnp.zeros(16)
  )
  depth = jnp.asarray(rng.uniform(0.2, 9.0, (16, 1, 1)) * np.ones(size), jnp.float32)
  command, _ = jax.jit(avoider.act)(None, avoider.init(shown), shown, Pictures(depth=depth))
  v, w = np.asarray(command).T
  assert (v >= 0).all() and (v <= robot.max_speed + 1e-6).all() and (np.abs(w) <= robot.max_yaw_rate + 1e-6).all()
  if robot.drive == 'ackermann':
    assert (np.abs(w) <= v * math.tan(robot.max_steer) / robot.wheelbase + 1e-5).all()
  assert v.max() > 0.2 and np.abs(w).max() > 0.1


def test_those_who_are_told_no_point_learn_of_none(street):
  episodes = make_begin(street)(jax.random.split(jax.random.key(4), NUM), jnp.float32(FREE))
  assert np.asarray(told(episodes).goal_in_robot)[:, 0].all()
  for goal in ('image', 'none'):
    assert not np.asarray(told(episodes, goal).goal_in_robot).any()
  there = jax.jit(at_goals)(episodes, episodes.base.position)
  np.testing.assert_allclose(there.base.position, episodes.world.goal_in_world)
  assert (np.abs(there.base.yaw) < 0.3).all()  # the way leads along x


def test_a_policy_with_an_image_goal_is_shown_it_and_what_it_senses(street):
  """Traced, not compiled."""
  options = RenderOptions(6, 8, shadow=False)

  def act(params, memory, shown, pictures):
    assert shown.goal_picture.shape == (NUM, 6, 8, 3) and shown.goal_picture.dtype == jnp.uint8
    assert pictures.rgb.shape == (NUM, 6, 8, 3) and pictures.depth.shape == (NUM, 6, 8)
    assert pictures.segmentation is None
    return jnp.zeros((NUM, 2)), memory

  def init(shown):
    assert shown.goal_picture.shape == (NUM, 6, 8, 3)
    return jnp.zeros(())

  policy = DrivingPolicy(init, act, options, senses=('rgb', 'depth'), goal='image')
  episodes = jax.eval_shape(make_begin(street), jax.random.split(jax.random.key(4), NUM), jnp.float32(FREE))
  assert jax.eval_shape(make_drive(street, policy), None, episodes).position.shape == (NUM, STEPS + 1, 2)


def test_senses_and_goals_are_checked():
  blind = constant_arc()
  assert blind.senses == () and blind.goal == 'none' and reactive(ROBOT).senses == ('depth',)
  for changes, message in (
    (dict(options=RenderOptions(), senses=('lidar',)), "senses=.'lidar',. must name at least one of"),
    (dict(goal='text'), "goal='text' must be one of"),
    (dict(goal='image'), 'it needs options'),
  ):
    with pytest.raises(ValueError, match=message):
      dataclasses.replace(blind, **changes)
  only_rgb = lambda *given: Pictures(rgb=jnp.zeros((1, 2, 2, 3), jnp.uint8))
  with pytest.raises(ValueError, match=r"pictures have no \['depth'\]"):
    pictures_for(reactive(ROBOT), only_rgb, None, None)
  with pytest.raises(ValueError, match=r'low=1\.5 must be below high=1\.2'):
    ReactiveConfig(low=1.5)
