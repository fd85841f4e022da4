"""Hand-drawn worlds: an empty street, things put into it one by one, and the world made of it.

Runs on the host; places are checked, so that a test or a user learns at once what does not fit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.robots import CameraMount
from s2e_jax.scene import (
  KIND,
  KINDS,
  PATTERN,
  PATTERNS,
  SLOTS,
  SURFACES,
  Boxes,
  Ground,
  Light,
  Mount,
  Rounds,
  Scene,
  Slots,
  ground_height,
  to_street,
)
from s2e_jax.worlds.distance import fence_distance, primitive_distances
from s2e_jax.worlds.people_state import People, no_people, place_people
from s2e_jax.worlds.routes import UNREACHABLE, free_space, geodesic, geodesic_at
from s2e_jax.worlds.world import World

Point = Sequence[float]
_ABSENT = (0.0, -1.0)
_NOWHERE = (0.0, -1.0, 0.0, -1.0)
# Colours and patterns of SURFACES in a hand-drawn street.
_GROUND_COLOUR = ((0.09, 0.09, 0.1), (0.4, 0.4, 0.38), (0.33, 0.31, 0.28), (0.08, 0.17, 0.04), (0.75, 0.75, 0.72))
_GROUND_PATTERN = ('asphalt', 'plain', 'slabs', 'grass', 'plain')
_GROUND_SCALE = (0.1, 1.0, 0.5, 0.1, 1.0)


def mount_of(camera: CameraMount) -> Mount:
  """The scene's record of a robot's camera."""
  values = (camera.height, camera.forward, math.tan(camera.pitch), math.tan(camera.hfov / 2))
  return Mount(*(jnp.asarray(v, jnp.float32) for v in values))


def plain_light() -> Light:
  """A clear day: the sun 45 degrees up, behind and to the left of a robot that looks along the street."""
  sun = np.array([-0.5, 0.5, math.sqrt(0.5)], np.float32)
  return Light(
    sun=jnp.asarray(sun),
    sun_strength=jnp.float32(1.0),
    ambient=jnp.float32(0.5),
    zenith=jnp.array([0.25, 0.45, 0.85], jnp.float32),
    horizon=jnp.array([0.75, 0.85, 0.95], jnp.float32),
    fog=jnp.float32(0.0),
    exposure=jnp.float32(1.0),
    white_balance=jnp.ones(3),
  )


def empty_scene(
  slots: Slots = SLOTS['small'],
  *,
  bounds: Point = (-15.0, 15.0, -12.0, 4.0),
  road: Point = (-9.0, -2.0),
  paved: Point = (-12.0, 2.5),
  crossings: Sequence[Point] = (),
  plazas: Sequence[Point] = (),
  cross_road: Point = _ABSENT,
  cross_paved: Point = _ABSENT,
  curvature: float = 0.0,
  curb_height: float = 0.12,
  mount: CameraMount = CameraMount(),
) -> Scene:
  """A street without anything on it: a road right of the pavement that the x axis runs along.

  Ranges are of s or d in the street frame (m), crossings and plazas up to two rectangles (s_low, s_high, d_low,
  d_high); see `scene.Ground`. road=(0, -1) leaves the road out. ValueError for bounds without an inside.
  """
  if not (bounds[0] < bounds[1] and bounds[2] < bounds[3]):
    raise ValueError(f'bounds={tuple(bounds)} must be (s_low, s_high, d_low, d_high) with low < high')

  def rectangles(name: str, given: Sequence[Point]) -> jax.Array:
    if len(given) > 2:
      raise ValueError(f'{len(given)} {name} are more than the 2 a scene has room for')
    return jnp.asarray([*given, *[_NOWHERE] * (2 - len(given))], jnp.float32)

  def array(values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)

  ground = Ground(
    curvature=array(curvature),
    road=array(road),
    paved=array(paved),
    cross_road=array(cross_road),
    cross_paved=array(cross_paved),
    crossings=rectangles('crossings', crossings),
    plazas=rectangles('plazas', plazas),
    curb_height=array(curb_height),
    bounds=array(bounds),
    colour=array(_GROUND_COLOUR),
    pattern=jnp.asarray([PATTERN[name] for name in _GROUND_PATTERN], jnp.int32),
    scale=array(_GROUND_SCALE),
    contrast=jnp.full(len(SURFACES), 0.3),
  )
  num = slots.num
  return Scene(
    boxes=Boxes(*(jnp.zeros(slots.boxes) for _ in range(7))),
    cylinders=Rounds(*(jnp.zeros(slots.cylinders) for _ in range(5))),
    capsules=Rounds(*(jnp.zeros(slots.capsules) for _ in range(5))),
    kind=jnp.zeros(num, jnp.int32),
    colour=jnp.full((num, 3), 0.5),
    accent=jnp.full((num, 3), 0.3),
    pattern=jnp.zeros(num, jnp.int32),
    scale=jnp.ones(num),
    ground=ground,
    light=plain_light(),
    mount=mount_of(mount),
  )


def _floor(scene: Scene, x: float, y: float) -> float:
  """z (m) of the ground at a world point."""
  return float(ground_height(scene.ground, *to_street(jnp.float32(x), jnp.float32(y), scene.ground.curvature)))


def _finished(
  scene: Scene, slot: int, kind: str, colour: Point, accent: Point, pattern: str, scale: float
) -> Scene:
  """`scene` with the appearance of one slot."""
  for name, value, known in (('kind', kind, KINDS[1:]), ('pattern', pattern, PATTERNS)):
    if value not in known:
      raise ValueError(f'{name}={value!r} must be one of {known}')
  return dataclasses.replace(
    scene,
    kind=scene.kind.at[slot].set(KIND[kind]),
    colour=scene.colour.at[slot].set(jnp.asarray(colour, jnp.float32)),
    accent=scene.accent.at[slot].set(jnp.asarray(accent, jnp.float32)),
    pattern=scene.pattern.at[slot].set(PATTERN[pattern]),
    scale=scene.scale.at[slot].set(scale),
  )


def _check_slot(what: str, i: int, num: int) -> None:
  if not 0 <= i < num:
    raise ValueError(f'{what} {i} does not fit: the scene has {num} slots for it; raise slots.{what}')


def _check_size(**sizes: float) -> None:
  for name, value in sizes.items():
    if not value > 0:
      raise ValueError(f'{name}={value!r} must be > 0')


def _write(record: Any, i: int, **values: float) -> Any:
  return dataclasses.replace(
    record, **{name: getattr(record, name).at[i].set(value) for name, value in values.items()}
  )


def with_box(
  scene: Scene,
  i: int,
  x: float,
  y: float,
  half_x: float,
  half_y: float,
  height: float,
  yaw: float = 0.0,
  low: float | None = None,
  kind: str = 'box',
  colour: Point = (0.55, 0.35, 0.15),
  accent: Point = (0.25, 0.15, 0.07),
  pattern: str = 'plain',
  scale: float = 0.3,
) -> Scene:
  """`scene` with an upright box in box slot i: centre x, y (m in the world), half sides, height above `low`.

  low: z (m) of its bottom; None stands it on the ground. ValueError for a slot or size that does not exist.
  """
  _check_slot('boxes', i, scene.boxes.x.shape[-1])
  _check_size(half_x=half_x, half_y=half_y, height=height)
  low = _floor(scene, x, y) if low is None else low
  boxes = _write(scene.boxes, i, x=x, y=y, yaw=yaw, half_x=half_x, half_y=half_y, low=low, high=low + height)
  return _finished(dataclasses.replace(scene, boxes=boxes), i, kind, colour, accent, pattern, scale)


def with_cylinder(
  scene: Scene,
  i: int,
  x: float,
  y: float,
  radius: float,
  height: float,
  low: float | None = None,
  kind: str = 'bollard',
  colour: Point = (0.3, 0.3, 0.32),
  accent: Point = (0.8, 0.8, 0.8),
  pattern: str = 'plain',
  scale: float = 0.3,
) -> Scene:
  """`scene` with an upright cylinder in cylinder slot i; arguments as for `with_box`."""
  _check_slot('cylinders', i, scene.cylinders.x.shape[-1])
  _check_size(radius=radius, height=height)
  low = _floor(scene, x, y) if low is None else low
  cylinders = _write(scene.cylinders, i, x=x, y=y, radius=radius, low=low, high=low + height)
  slot = scene.boxes.x.shape[-1] + i
  return _finished(dataclasses.replace(scene, cylinders=cylinders), slot, kind, colour, accent, pattern, scale)


def with_capsule(
  scene: Scene,
  i: int,
  x: float,
  y: float,
  radius: float,
  low: float,
  high: float,
  kind: str = 'crown',
  colour: Point = (0.12, 0.25, 0.06),
  accent: Point = (0.05, 0.1, 0.03),
  pattern: str = 'foliage',
  scale: float = 0.3,
) -> Scene:
  """`scene` with an upright capsule from z = low to high in capsule slot i; high = low + 2 radius is a sphere."""
  _check_slot('capsules', i, scene.capsules.x.shape[-1])
  _check_size(radius=radius)
  if high - low < 2 * radius - 1e-6:
    raise ValueError(f'high - low = {high - low} must be at least 2 radius = {2 * radius}')
  capsules = _write(scene.capsules, i, x=x, y=y, radius=radius, low=low, high=high)
  slot = scene.boxes.x.shape[-1] + scene.cylinders.x.shape[-1] + i
  return _finished(dataclasses.replace(scene, capsules=capsules), slot, kind, colour, accent, pattern, scale)


def world_from(
  scene: Scene,
  start: Point,
  yaw: float,
  goal: Point,
  people: People | None = None,
  robot_radius: float = 0.375,
) -> World:
  """The world of a hand-drawn scene: a robot at `start` (m), heading `yaw` (rad), that has to reach `goal` (m).

  Raises ValueError when the start or the goal lies on or too near something (which it names), beyond the fence, or
  when no way leads from one to the other.
  """
  people = no_people(0) if people is None else people
  points = jnp.asarray([start, goal], jnp.float32)
  distance, _ = primitive_distances(scene, points)
  is_person = scene.kind == KIND['person']
  distances = np.asarray(jnp.where(is_person, 1e3, distance))
  fence = np.asarray(fence_distance(scene.ground, points)[0])
  for name, point, row, inside in zip(('start', 'goal'), (start, goal), distances, fence, strict=True):
    at = f'{name}=({point[0]:g}, {point[1]:g})'
    if inside < robot_radius:
      raise ValueError(f'{at} must lie {robot_radius} m inside the bounds of the scene, not {inside:.2f} m')
    slot = int(row.argmin()) if row.size else 0
    if row.size and row[slot] < robot_radius:
      raise ValueError(
        f'{at} lies {row[slot]:.2f} m from the {KINDS[int(scene.kind[slot])]} in slot {slot}, '
        f'the robot needs {robot_radius} m: move one of them'
      )
  to_goal = geodesic(scene, free_space(scene, robot_radius), points[1])
  length = geodesic_at(to_goal, scene.ground, points[:1])[0]
  if length >= UNREACHABLE:
    raise ValueError(f'no way leads from start=({start[0]:g}, {start[1]:g}) to goal=({goal[0]:g}, {goal[1]:g})')
  if people.present.shape[0]:
    scene = place_people(scene, people)
  return World(scene, people, points[0], jnp.float32(yaw), points[1], to_goal, length, jnp.int32(-1))
