"""Worlds between walls: ways and people in a corridor that is drawn by primitives and by a grid of distances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import KIND, Boxes, Rounds, Walls
from s2e_jax.worlds import routes
from s2e_jax.worlds.expert import ExpertConfig, expert_init
from s2e_jax.worlds.people import spawn_among_walls, spawn_people, step_people
from s2e_jax.worlds.walled import Furniture, route_grid, walled_scene, walled_world
from tests.worlds import rooms

pytestmark = pytest.mark.usefixtures('compiled_quickly')

BATCH, NUM, STEPS, DT = 12, rooms.SLOTS.people, 240, 0.25
AWAY = 2.0
FINE = (120, 100)
ROBOT = ROBOTS['delivery']
geodesic_at = jax.jit(routes.geodesic_at)


@pytest.fixture(scope='module')
def twins():
  scene = rooms.by_primitives()
  return scene, rooms.by_walls(scene)


@pytest.fixture(scope='module')
def ways():
  """(scene, grid) -> to_goal over a grid of ways of that shape."""

  def find(scene, grid):
    free = routes.free_space(scene, 0.375, grid=grid)
    return free, routes.geodesic(scene, free, jnp.array(rooms.GOAL))

  return jax.jit(find, static_argnums=1)


def test_ways_are_as_long_as_between_primitives(twins, ways):
  points = rooms.free_points(twins[0], 300, 0.45)
  (free, to_goal), (free_too, to_goal_too) = (ways(scene, FINE) for scene in twins)
  assert to_goal.shape == free.shape == FINE
  assert (np.isfinite(free) != np.isfinite(free_too)).mean() < 0.01
  lengths = [np.asarray(geodesic_at(g, twins[0].ground, points)) for g in (to_goal, to_goal_too)]
  assert lengths[0].max() < routes.UNREACHABLE
  np.testing.assert_allclose(lengths[1], lengths[0], rtol=0.02, atol=0.01)


def test_a_finer_grid_tells_the_same_way(twins, ways):
  points = rooms.free_points(twins[1], 300, 0.6)
  coarse, fine = (
    np.asarray(geodesic_at(ways(twins[1], grid)[1], twins[1].ground, points)) for grid in (routes.SHAPE, FINE)
  )
  np.testing.assert_allclose(fine, coarse, rtol=0.04, atol=0.05)


def test_the_reference_path_leads_round_the_turn(twins, ways):
  scene = twins[1]
  start, goal = jnp.array(rooms.START), jnp.array(rooms.GOAL)
  path = jax.jit(routes.reference_path)(ways(scene, FINE)[1], scene.ground, start, goal)
  np.testing.assert_allclose(path[-1], goal)
  assert np.asarray(rooms.to_things(scene, path)).min() > 0.3


@pytest.fixture(scope='module')
def crowds(twins):
  places = jnp.asarray(rooms.free_points(twins[0], 256, 0.5))
  clear = jnp.array([rooms.START, rooms.GOAL])
  spawn = lambda key: spawn_among_walls(key, twins[1], NUM, NUM, places, clear, AWAY)
  return jax.jit(jax.vmap(spawn))(jax.random.split(jax.random.key(5), BATCH))


def test_people_spawn_clear_of_walls_of_each_other_and_of_start_and_goal(twins, crowds):
  there = np.asarray(crowds.present)
  assert there.mean() > 0.9
  position = np.asarray(crowds.position)
  gap = np.asarray(rooms.to_things(twins[0], position.reshape(-1, 2))).reshape(there.shape) - crowds.radius
  assert gap[there].min() > 0.15
  for point in (rooms.START, rooms.GOAL):
    assert np.linalg.norm(position - np.array(point), axis=-1)[there].min() > AWAY
  apart = np.linalg.norm(position[:, :, None] - position[:, None], axis=-1)
  pairs = there[:, :, None] & there[:, None] & ~np.eye(NUM, dtype=bool)
  assert apart[pairs].min() > 0.6


def test_the_legs_of_their_paths_are_free(twins, crowds):
  corners = np.asarray(crowds.waypoints)
  share = np.linspace(0, 1, 30)[:, None]
  points = corners[:, :, :-1, None] + (corners[:, :, 1:] - corners[:, :, :-1])[:, :, :, None] * share
  gap = np.asarray(rooms.to_things(twins[0], points.reshape(-1, 2).astype(np.float32)))
  gap = gap.reshape(points.shape[:-1])[np.asarray(crowds.present)]
  assert gap.min() > 0.25
  walks = np.asarray(crowds.present & (crowds.preferred_speed > 0))
  legs = np.linalg.norm(np.diff(corners, axis=2), axis=-1)[walks]
  assert (legs.sum(-1) > 4).mean() > 0.9


@jax.jit
def walk(crowds, scene, robot, robot_velocity):
  """Everybody 60 s long beside a robot that stays where it is: positions and velocities [B, T, N, 2]."""

  def one(people):
    def step(people, _):
      people = step_people(people, scene, robot, robot_velocity, DT)
      return people, (people.position, people.velocity)

    return jax.lax.scan(step, people, None, length=STEPS)[1]

  return jax.vmap(one)(crowds)


def test_people_are_never_in_a_wall_and_get_about(twins, crowds):
  robot = jnp.array([9.5, 3.0])
  position, velocity = (np.asarray(x) for x in walk(crowds, twins[1], robot, jnp.zeros(2)))
  there = np.broadcast_to(np.asarray(crowds.present)[:, None], position.shape[:-1])
  gap = np.asarray(rooms.to_things(twins[0], position.reshape(-1, 2))).reshape(there.shape)
  gap = gap - np.asarray(crowds.radius)[:, None]
  assert gap[there].min() > -0.005
  walks = np.asarray(crowds.present & (crowds.preferred_speed > 0))
  speed = np.linalg.norm(velocity, axis=-1).mean(1)[walks]
  assert speed.mean() > 0.6 and np.linalg.norm(velocity, axis=-1).max() <= 2.0 + 1e-4


def test_nobody_is_squeezed_through_a_thin_wall(twins, crowds):
  """A sheet 10 cm thick across the first corridor: who wants to get past stays on this side."""
  axes = (rooms.CELL * np.arange(num) for num in rooms.SHAPE)
  x, _ = np.meshgrid(*axes, indexing='ij')
  sheet = jnp.asarray(np.abs(x - 6.0) - 0.05, jnp.float32)
  walls = twins[1].walls
  scene = dataclasses.replace(twins[1], walls=walls.replace(distance=jnp.minimum(walls.distance, sheet)))
  corners = jnp.stack([jnp.linspace(4.8, 8.5, 6), jnp.linspace(1.0, 3.0, 6)], -1)
  in_line = jnp.stack([jnp.full(NUM, 5.5), jnp.linspace(0.8, 3.2, NUM)], -1)
  people = crowds.replace(
    position=jnp.broadcast_to(in_line, crowds.position.shape),
    waypoints=jnp.broadcast_to(corners, crowds.waypoints.shape),
    target=jnp.full_like(crowds.target, 5),
    preferred_speed=jnp.full_like(crowds.preferred_speed, 1.9),
    present=jnp.ones_like(crowds.present),
  )
  # a robot that seems to come at them from behind
  position, _ = walk(people, scene, jnp.array([4.5, 2.0]), jnp.array([1.5, 0.0]))
  assert np.asarray(position[..., 0] + people.radius[:, None]).max() < 5.95 + 0.005


def furniture():
  box = Boxes(*(jnp.array([v]) for v in (10.0, 5.0, 0.3, 0.4, 0.25, 0.0, 0.9)))
  return Furniture(
    box,
    Rounds(*(jnp.array([v]) for v in (3.0, 1.0, 0.2, 0.0, 1.0))),
    jnp.array([KIND['bench'], KIND['bollard']]),
    jnp.full((2, 3), 0.4),
  )


def test_a_world_is_made_in_one_program_for_many_tasks(twins):
  places = jnp.asarray(rooms.free_points(twins[0], 64, 0.6))
  walls = twins[1].walls
  make = lambda key, start, goal: walled_world(
    key, walls, start, 0.5, goal, furniture(), 3, places, slots=rooms.SLOTS, grid=(96, 80)
  )
  keys = jax.random.split(jax.random.key(1), 3)
  starts, goals = jnp.tile(jnp.array(rooms.START), (3, 1)), jnp.array([rooms.GOAL, (8.0, 1.2), (2.0, 3.0)])
  worlds = jax.jit(jax.vmap(make))(keys, starts, goals)
  assert worlds.to_goal.shape == (3, 96, 80) and worlds.scene.walls.distance.shape == (3, *rooms.SHAPE)
  straight = np.linalg.norm(goals - starts, axis=-1)
  length = np.asarray(worlds.path_length)
  assert (length > straight - 0.1).all() and length[0] > straight[0] + 1 and length.max() < 20
  assert (np.asarray(worlds.people.present).sum(-1) <= 3).all()
  kinds = np.asarray(worlds.scene.kind[0])
  assert kinds[0] == KIND['bench'] and kinds[rooms.SLOTS.boxes] == KIND['bollard']
  assert (kinds[6:12] == KIND['person']).all()
  at = jnp.array([(10.0, 5.0), (3.0, 1.0), (5.0, 2.0), (6.0, 1.0)])
  gap = np.asarray(rooms.to_things(jax.tree.map(lambda x: x[0], worlds.scene), at))
  np.testing.assert_array_equal(gap > 0, [False, False, False, True])


def test_the_expert_plans_on_the_worlds_own_grid(twins):
  walls = twins[1].walls
  start, goal = jnp.array(rooms.START), jnp.array(rooms.GOAL)

  def begun(key):
    world = walled_world(key, walls, start, 0.0, goal, slots=rooms.SLOTS, grid=FINE)
    return expert_init(ROBOT, ExpertConfig(), world)

  state = jax.eval_shape(begun, jax.random.key(0))
  assert {x.shape for x in jax.tree.leaves(state.field)} == {FINE}


def test_a_grid_of_ways_is_as_fine_as_the_walls_but_not_finer_than_asked():
  sized = lambda *shape: Walls(jnp.zeros(shape), jnp.zeros(2), jnp.float32(0.1))
  assert route_grid(sized(150, 90)) == (150, 90)
  assert route_grid(sized(400, 301)) == (200, 151)
  assert route_grid(sized(400, 301), 100) == (100, 76)


def test_what_does_not_fit_is_refused_before_anything_is_compiled(twins):
  key, walls = jax.random.key(0), twins[1].walls
  start, goal = jnp.array(rooms.START), jnp.array(rooms.GOAL)
  for changes, message in (
    ({'start': jnp.array([5.0, 2.1])}, r'start=\(5, 2.1\) lies -0.2'),
    ({'goal': jnp.array([3.0, 3.4])}, 'goal=.* the robot needs 0.375 m'),
    ({'goal': jnp.array([-3.0, 3.4])}, 'goal=.* lies -3'),
    ({'start': jnp.zeros((2, 2))}, 'use vmap'),
    ({'num_people': 9}, 'slots.people=3'),
    ({'num_people': 2}, 'need free_points'),
    ({'num_people': 2, 'free_points': jnp.zeros((0, 2))}, 'at least one place'),
    ({'radius': 0.0}, 'must be > 0'),
    ({'walls': walls.replace(cell=jnp.float32(0.02))}, 'give metres'),
    ({'walls': walls.replace(distance=walls.distance[0])}, 'must be'),
    ({'furniture': furniture().replace(kind=jnp.zeros(3, jnp.int32))}, '1 boxes, then 1 cylinders'),
  ):
    call = {'key': key, 'walls': walls, 'start': start, 'yaw': 0.0, 'goal': goal, 'slots': rooms.SLOTS} | changes
    with pytest.raises(ValueError, match=message):
      walled_world(**call)
  many = furniture().replace(boxes=jax.tree.map(lambda x: jnp.repeat(x, 7), furniture().boxes))
  with pytest.raises(ValueError, match='7 boxes of furniture do not fit the 5 slots'):
    walled_scene(walls, many, slots=rooms.SLOTS)
  with pytest.raises(ValueError, match='use spawn_among_walls'):
    spawn_people(key, twins[1], NUM, 2, start[None])
  with pytest.raises(ValueError, match='use spawn_people'):
    spawn_among_walls(key, twins[0], NUM, 2, start[None], start[None])
