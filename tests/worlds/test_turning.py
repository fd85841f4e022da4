import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Walls
from s2e_jax.worlds.distance import clearance
from s2e_jax.worlds.expert import ExpertConfig, expert_command, expert_init
from s2e_jax.worlds.expert_rollout import STEP, Costs, Motion, moved
from s2e_jax.worlds.routes import UNREACHABLE
from s2e_jax.worlds.turning import HEADINGS, arc_length, turning_at, turning_ways
from s2e_jax.worlds.walled import walled_world
from tests.worlds import rooms

pytestmark = pytest.mark.usefixtures('compiled_quickly')

COCO = ROBOTS['coco']
CURVATURE, RADIUS, REACH = COCO.curvature, 0.33, 0.125
CELL = 0.1
search = jax.jit(turning_ways, static_argnames=('curvature', 'radius', 'reach'))


def field_to(goal, clear):
  """The field over cells of 0.1 m from (0, 0)."""
  return search(
    jnp.asarray(clear, jnp.float32), jnp.zeros(2), jnp.float32(CELL), jnp.asarray(goal, jnp.float32),
    curvature=CURVATURE, radius=RADIUS, reach=REACH,
  )  # fmt: skip


def shortest_in_the_open(poses, goal):
  """m of the shortest forward drive to a point outside both tightest circles: turn to face it, then straight on.

  The relaxed Dubins path (Bui et al. 1994), to the better side.
  """
  radius, lengths = 1 / CURVATURE, []
  to = goal - poses[:, :2]
  ahead = np.cos(poses[:, 2]) * to[:, 0] + np.sin(poses[:, 2]) * to[:, 1]
  left = np.cos(poses[:, 2]) * to[:, 1] - np.sin(poses[:, 2]) * to[:, 0]
  for side in (left, -left):
    off = np.hypot(ahead, side - radius)  # from the middle of the circle on that side
    straight = np.sqrt(np.maximum(off**2 - radius**2, 0))
    turned = np.arctan2(ahead, radius - side) - np.arctan2(straight, radius)
    lengths.append(np.where(off > radius, radius * np.mod(turned, 2 * np.pi) + straight, np.inf))
  return np.minimum(*lengths), np.isfinite(lengths).all(axis=0)


def test_in_the_open_it_is_the_shortest_drive():
  goal = np.array([6.0, 5.5])
  field = field_to(goal, np.full((120, 110), 5.0))
  rng = np.random.default_rng(0)
  poses = np.stack([rng.uniform(2, 10, 400), rng.uniform(2, 9, 400), rng.uniform(-np.pi, np.pi, 400)], axis=-1)
  exact, is_outside = shortest_in_the_open(poses, goal)
  is_far = is_outside & (np.linalg.norm(poses[:, :2] - goal, axis=-1) > 1.0)
  way, share = turning_at(field, *jnp.asarray(poses[is_far], jnp.float32).T)
  assert np.asarray(share).min() > 0.99
  # it ends 0.4 m before the goal, in whole arcs, and its places are those of cells
  error = np.asarray(way) + 0.4 - exact[is_far]
  assert is_far.sum() > 250
  assert abs(np.median(error)) < 0.5 * arc_length(CURVATURE)
  assert np.quantile(np.abs(error), 0.95) < 1.5 * arc_length(CURVATURE)


def test_way_falls_by_the_way_along_the_best_arcs():
  """From poses with a way, some arc of the robot's leads to a pose whose way is shorter by about that arc."""
  clear = np.asarray(rooms.walls_of(rooms.by_primitives()).distance)[::2, ::2]
  field = field_to(rooms.GOAL, clear)
  rng = np.random.default_rng(1)
  x, y, heading = rng.uniform(0.5, 11.5, 600), rng.uniform(0.5, 9.5, 600), rng.uniform(-np.pi, np.pi, 600)
  here, known = (np.asarray(v) for v in turning_at(field, *jnp.asarray([x, y, heading], jnp.float32)))
  length, best = 2 * arc_length(CURVATURE), np.full(600, np.inf)
  for turn in np.linspace(-1, 1, 9) * CURVATURE * length:
    chord = length * np.sinc(turn / 2 / np.pi)
    there = x + chord * np.cos(heading + turn / 2), y + chord * np.sin(heading + turn / 2), heading + turn
    way, share = (np.asarray(v) for v in turning_at(field, *jnp.asarray(there, jnp.float32)))
    best = np.minimum(best, np.where(share > 0.99, way, np.inf))
  is_on = (known > 0.99) & (here > 3)
  fall = here[is_on] - best[is_on]
  assert is_on.sum() > 80
  assert np.median(fall) == pytest.approx(length, rel=0.15)
  assert np.quantile(fall, 0.2) > 0.5 * length


def test_there_is_no_way_out_of_a_closed_room_nor_from_inside_a_wall():
  clear = np.full((80, 80), 1.0)
  clear[40:44] = -0.1
  field = field_to((6.0, 4.0), clear)
  assert field.way.shape == (HEADINGS, 80, 80) and field.way.dtype == jnp.float16
  way = np.asarray(field.way)
  assert (way[:, :44] >= UNREACHABLE).all() and (way[:, 50:70, 20:60] < UNREACHABLE).any(axis=0).all()
  _, share = turning_at(field, jnp.array([2.0]), jnp.array([4.0]), jnp.array([0.0]))
  assert float(share[0]) == 0.0


def test_headings_go_round():
  field = field_to((4.0, 4.0), np.full((80, 80), 5.0))
  x, y = jnp.full(3, 2.0), jnp.full(3, 2.5)
  way, _ = turning_at(field, x, y, jnp.array([-0.3, 2 * math.pi - 0.3, -4 * math.pi - 0.3]))
  np.testing.assert_allclose(way, way[0], rtol=1e-4)


def driven(world, steps=160):
  """Places [T, 3, 2] of the discs of coco's footprint, driven by the expert with the lag that it plans with."""
  config = ExpertConfig()
  costs = Costs(COCO, 0.5, 0.08, 0.2, 0.15, 1.0, 1.0, 0.3, 0.15, config.goal_radius)

  def step(carry, _):
    memory, motion = carry
    pos = jnp.stack([motion.x[0], motion.y[0]])
    velocity = jnp.stack([motion.v[0], motion.w[0]])
    command, memory = expert_command(COCO, config, memory, world, world.people, pos, motion.heading[0], velocity)
    motion = moved(costs, motion, command[:1], command[1:])
    ahead = jnp.stack([motion.cos[0], motion.sin[0]])
    pos = jnp.stack([motion.x[0], motion.y[0]])
    return (memory, motion), pos + costs.reach * jnp.array([-1.0, 0.0, 1.0])[:, None] * ahead

  one = lambda value: jnp.reshape(jnp.asarray(value, jnp.float32), (1,))
  yaw = world.start_yaw
  still = Motion(
    one(world.start_in_world[0]), one(world.start_in_world[1]), one(yaw), one(jnp.cos(yaw)), one(jnp.sin(yaw)),
    one(0), one(0), one(0),
  )  # fmt: skip
  return jax.lax.scan(step, (expert_init(COCO, config, world), still), None, length=steps)[1]


def test_the_expert_turns_where_there_is_room_before_it_goes_where_there_is_none():
  """It stands in a room with its back to the passage that leads to the goal."""
  axes = (CELL * np.arange(num) for num in (120, 70))
  x, y = np.meshgrid(*axes, indexing='ij')
  room = np.minimum.reduce([x - 4.0, 11.5 - x, y - 0.5, 6.5 - y])  # wide
  passage = np.minimum.reduce([x - 0.5, 8.0 - x, 0.6 - np.abs(y - 3.5)])  # 1.2 m wide, to the goal
  walls = Walls(jnp.asarray(np.maximum(room, passage), jnp.float32), jnp.zeros(2), jnp.float32(CELL))
  begin = lambda yaw: walled_world(
    jax.random.key(0), walls, jnp.array([6.5, 3.5]), yaw, jnp.array([1.2, 3.5]), slots=rooms.SLOTS, radius=0.35
  )
  world = begin(0.0)
  trail = np.asarray(jax.jit(driven)(world))
  arrived = int(np.argmax(np.linalg.norm(trail[:, 1] - np.array([1.2, 3.5]), axis=-1) < 1.0))
  trail = trail[: arrived + 1]
  gap = np.asarray(clearance(world.scene, jnp.asarray(trail.reshape(-1, 2)))[0]) - COCO.footprint.width / 2
  driven_m = np.linalg.norm(np.diff(trail[:, 1], axis=0), axis=-1).sum()
  assert 0 < arrived * STEP < 20 and driven_m > 9  # 4.3 m behind it: it drove a circle first
  assert gap.min() > 0


def test_only_a_car_between_walls_searches_its_turns():
  begin = lambda robot: jax.eval_shape(lambda world: expert_init(robot, ExpertConfig(), world), world)
  walls = Walls(jnp.full((60, 50), 2.0), jnp.zeros(2), jnp.float32(CELL))
  ends = jnp.array([2.0, 2.0]), 0.0, jnp.array([4.0, 3.0])
  world = jax.eval_shape(lambda: walled_world(jax.random.key(0), walls, *ends, slots=rooms.SLOTS))
  assert begin(COCO).field.turning.way.shape == (HEADINGS, 60, 50)
  assert begin(ROBOTS['delivery']).field.turning is None
  world = dataclasses.replace(world, scene=dataclasses.replace(world.scene, walls=None))
  assert begin(COCO).field.turning is None
