"""Worlds between walls of any shape (`scene.Walls`): a plaza with some furniture and people on it, and a task."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.robots import CameraMount
from s2e_jax.scene import KIND, SLOTS, Boxes, Ground, Light, Mount, Rounds, Scene, Slots, Walls
from s2e_jax.worlds.builders import empty_scene, mount_of, plain_light
from s2e_jax.worlds.people_among_walls import spawn_among_walls
from s2e_jax.worlds.people_state import PeopleConfig, no_people, place_people
from s2e_jax.worlds.routes import SHAPE, free_space, geodesic, geodesic_at
from s2e_jax.worlds.walls import bounds_of, check_walls, walls_distance
from s2e_jax.worlds.world import World

MAX_CELLS = 200  # of the grid of ways along the longer side, unless the caller wants more
KEEP_CLEAR = 2.0  # m around start and goal where nobody spawns


@struct.dataclass
class Furniture:
  """N boxes and M cylinders that stand in a walled world, beside its walls; they are drawn and touched.

  boxes, cylinders: [N], [M] as in a scene, the ground lies at z = 0. kind: [N + M] int32 of KINDS, boxes first.
  colour: [N + M, 3] RGB in 0..1.
  """

  boxes: Boxes
  cylinders: Rounds
  kind: jax.Array
  colour: jax.Array


def no_furniture() -> Furniture:
  """A record of nothing."""
  none = jnp.zeros(0)
  return Furniture(Boxes(*[none] * 7), Rounds(*[none] * 5), jnp.zeros(0, jnp.int32), jnp.zeros((0, 3)))


def route_grid(walls: Walls, max_cells: int = MAX_CELLS) -> tuple[int, int]:
  """Shape of a grid of ways over the walls: cells some times as large, `max_cells` of them at most, 8 at least."""
  rows, columns = walls.distance.shape[-2:]
  stride = -(-max(rows, columns) // max_cells)
  return max(-(-rows // stride), 8), max(-(-columns // stride), 8)


def _padded(values: jax.Array, num: int) -> jax.Array:
  """`values` [N, ...] with zeros up to `num` rows."""
  return jnp.concatenate([values, jnp.zeros((num - values.shape[0], *values.shape[1:]), values.dtype)])


def plaza(walls: Walls) -> Ground:
  """Flat pavement over all of the walls' grid, at z = 0, without street or curb."""
  bounds = bounds_of(walls)
  ground = empty_scene(curb_height=0.0, road=(0.0, -1.0), paved=(0.0, -1.0)).ground
  nowhere = jnp.array([0.0, -1.0, 0.0, -1.0])
  return dataclasses.replace(ground, plazas=jnp.stack([bounds, nowhere]), bounds=bounds)


def walled_scene(
  walls: Walls,
  furniture: Furniture | None = None,
  mount: Mount | None = None,
  light: Light | None = None,
  slots: Slots = SLOTS['small'],
) -> Scene:
  """The scene of a walled world, without people; arguments as for `walled_world`.

  ValueError for more furniture than slots, or shapes that do not fit each other.
  """
  furniture = no_furniture() if furniture is None else furniture
  num_boxes, num_cylinders = furniture.boxes.x.shape[0], furniture.cylinders.x.shape[0]
  for name, num, most in (
    ('boxes', num_boxes, slots.boxes),
    ('cylinders', num_cylinders, slots.cylinders),
  ):
    if num > most:
      raise ValueError(f'{num} {name} of furniture do not fit the {most} slots; raise slots.{name}')
  num = num_boxes + num_cylinders
  if furniture.kind.shape != (num,) or furniture.colour.shape != (num, 3):
    raise ValueError(
      f'furniture.kind {furniture.kind.shape} and colour {furniture.colour.shape} must be [{num}] and [{num}, 3]: '
      f'{num_boxes} boxes, then {num_cylinders} cylinders'
    )
  people = jnp.full(2 * slots.people, KIND['person'], jnp.int32)
  kind = jnp.concatenate(
    [
      _padded(furniture.kind[:num_boxes].astype(jnp.int32), slots.boxes),
      _padded(furniture.kind[num_boxes:].astype(jnp.int32), slots.cylinders),
      _padded(people, slots.capsules),
    ]
  )
  colour = jnp.concatenate(
    [
      _padded(furniture.colour[:num_boxes], slots.boxes),
      _padded(furniture.colour[num_boxes:], slots.cylinders),
      jnp.full((slots.capsules, 3), 0.5),
    ]
  )
  return Scene(
    boxes=jax.tree.map(lambda x: _padded(jnp.asarray(x, jnp.float32), slots.boxes), furniture.boxes),
    cylinders=jax.tree.map(lambda x: _padded(jnp.asarray(x, jnp.float32), slots.cylinders), furniture.cylinders),
    capsules=Rounds(*(jnp.zeros(slots.capsules) for _ in range(5))),
    kind=kind,
    colour=colour,
    accent=0.5 * colour,
    pattern=jnp.zeros(slots.num, jnp.int32),
    scale=jnp.ones(slots.num),
    ground=plaza(walls),
    light=plain_light() if light is None else light,
    mount=mount_of(CameraMount()) if mount is None else mount,
    walls=walls,
  )


def walled_world(
  key: jax.Array,
  walls: Walls,
  start: jax.Array,
  yaw: jax.Array | float,
  goal: jax.Array,
  furniture: Furniture | None = None,
  num_people: jax.Array | int = 0,
  free_points: jax.Array | None = None,
  mount: Mount | None = None,
  light: Light | None = None,
  slots: Slots = SLOTS['small'],
  radius: float = 0.375,
  grid: tuple[int, ...] | None = None,
  people_config: PeopleConfig = PeopleConfig(),
) -> World:
  """The world of a robot of `radius` (m) at start [2] (m), heading yaw [] (rad), that has to reach goal [2] (m).

  Pure, to be vmapped and jitted; consumes the key. walls: make sure of them by `check_walls` where they come from.
  furniture: where the caller puts it; it is not moved out of anybody's way. num_people: how many walk about, of
  slots.people at most, between free_points [F, 2] (m), see `spawn_among_walls`; none without free points.
  mount, light: the defaults of hand-drawn worlds when None. grid: cells of the ways (`route_grid` when None).
  `path_length` is UNREACHABLE or more where no way leads to the goal: nothing is checked that depends on values
  inside a program. With plain arrays, ValueError for walls that are none and for a start or goal that leaves the
  robot no room; always for records that do not fit each other.
  """
  start, goal = jnp.asarray(start, jnp.float32), jnp.asarray(goal, jnp.float32)
  if start.shape != (2,) or goal.shape != (2,):
    raise ValueError(f'start {start.shape} and goal {goal.shape} must be [2]; use vmap for many worlds')
  if walls.distance.ndim != 2 or min(walls.distance.shape) < 2:
    raise ValueError(f'walls.distance {walls.distance.shape} must be [I, J] with at least 2 cells along each side')
  if not radius > 0:
    raise ValueError(f'radius={radius!r} must be > 0')
  if isinstance(num_people, int) and not 0 <= num_people <= slots.people:
    raise ValueError(f'num_people={num_people} must be 0 to slots.people={slots.people}')
  if isinstance(num_people, int) and num_people and free_points is None:
    raise ValueError(f'num_people={num_people} need free_points to stand on')
  grid = route_grid(walls) if grid is None else grid
  if min(grid) < 2:
    raise ValueError(f'grid={grid} must have at least 2 cells along each side; streets have {SHAPE}')
  points = jnp.stack([start, goal])
  if not _is_traced((walls, points)):
    check_walls(walls)
    _check_room(walls, points, radius)

  scene = walled_scene(walls, furniture, mount, light, slots)
  people = no_people(slots.people)
  if free_points is not None and slots.people:
    people = spawn_among_walls(
      key, scene, slots.people, num_people, free_points, points, KEEP_CLEAR, people_config
    )
  to_goal = geodesic(scene, free_space(scene, radius, grid=grid), goal)
  length = geodesic_at(to_goal, scene.ground, start[None])[0]
  return World(
    scene=place_people(scene, people),
    people=people,
    start_in_world=start,
    start_yaw=jnp.asarray(yaw, jnp.float32),
    goal_in_world=goal,
    to_goal=to_goal,
    path_length=length,
    layout=jnp.int32(-1),
  )


def _is_traced(tree: Any) -> bool:
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _check_room(walls: Walls, points: jax.Array, radius: float) -> None:
  distances = np.asarray(walls_distance(walls, points)[0])
  for name, point, distance in zip(('start', 'goal'), np.asarray(points), distances, strict=True):
    if distance < radius:
      raise ValueError(
        f'{name}=({point[0]:g}, {point[1]:g}) lies {distance:.2f} m from the walls, the robot needs {radius} m'
      )
