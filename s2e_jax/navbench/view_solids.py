"""Bodies of the viewer's page as triangles: things, people, goals and the robot. numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from s2e_jax.closedloop.metrics import GOAL_RADIUS
from s2e_jax.robots import RobotDescription
from s2e_jax.scene import KINDS

Height = Callable[[np.ndarray], np.ndarray]  # points [..., 2] m -> [...] m, z of the floor there
_SIDES, _CAP = 24, 6  # corners of a circle, circles of half a sphere
_ROBOT, _GOAL = (234, 112, 12), (13, 148, 104)
_LINE = 0.03  # m, thickness of what lies on the floor


@dataclasses.dataclass(frozen=True)
class Solid:
  """A convex body to be shown. vertices: [V, 3] m around `position` [3] m. faces: [F, 3] int, counter-clockwise
  from outside. colour: red, green, blue 0 to 255."""

  name: str
  vertices: np.ndarray
  faces: np.ndarray
  position: np.ndarray
  colour: tuple[int, int, int]


def solids_of(scene: Any, row: int, height: Height, num_people: int) -> list[Solid]:
  """What stands in a scene (fields [B, ...]) beside its people; empty slots are left out.

  Things stand on the floor where their middle is.
  """
  found = []
  boxes, cylinders, capsules = scene.boxes, scene.cylinders, scene.capsules
  num_boxes, num_cylinders = boxes.x.shape[1], cylinders.x.shape[1]
  for slot in _filled(boxes, row):
    b = {f.name: float(getattr(boxes, f.name)[row, slot]) for f in dataclasses.fields(boxes)}
    rings = box_rings(b['half_x'], b['half_y'], b['low'], b['high'], b['yaw'])
    found.append(_solid(scene, row, slot, rings, (b['x'], b['y']), height))
  for slot in _filled(cylinders, row):
    c = _round(cylinders, row, slot)
    rings = circles([(c['radius'], c['low']), (c['radius'], c['high'])])
    found.append(_solid(scene, row, num_boxes + slot, rings, (c['x'], c['y']), height))
  for slot in _filled(capsules, row):
    if slot >= 2 * num_people:
      c = _round(capsules, row, slot)
      rings = capsule_rings(c['radius'], c['low'], c['high'])
      found.append(_solid(scene, row, num_boxes + num_cylinders + slot, rings, (c['x'], c['y']), height))
  return found


def box_rings(half_x: float, half_y: float, low: float, high: float, yaw: float = 0.0) -> np.ndarray:
  """[2, 4, 3] m: corners of a box, bottom and top, around its own middle, turned by `yaw`."""
  own = np.array([(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)])
  cos, sin = np.cos(yaw), np.sin(yaw)
  corners = own @ np.array([[cos, sin], [-sin, cos]])
  return np.stack([np.concatenate([corners, np.full((4, 1), z)], axis=1) for z in (low, high)])


def capsule_rings(radius: float, low: float, high: float) -> np.ndarray:
  """[2 _CAP + 2, _SIDES, 3] m: circles of an upright capsule around its axis, from its lowest point."""
  angle = np.linspace(0, np.pi / 2, _CAP + 1)
  lower = [(radius * np.sin(a), low + radius * (1 - np.cos(a))) for a in angle]
  return circles([*lower, *[(r, low + high - z) for r, z in reversed(lower)]])


def circles(profile: Sequence[tuple[float, float]]) -> np.ndarray:
  """[K, _SIDES, 3] m of (radius, z), K times, from below."""
  angle = np.arange(_SIDES) * 2 * np.pi / _SIDES
  flat = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  return np.stack([np.concatenate([r * flat, np.full((_SIDES, 1), z)], axis=1) for r, z in profile])


def stacked(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(vertices [K S, 3], faces [F, 3]) of K rings of S corners, counter-clockwise from above, from the lowest up.

  Neighbours are joined, both ends closed.
  """
  num, sides = rings.shape[:2]
  corner = np.arange(sides)
  following = (corner + 1) % sides
  below = (np.arange(num - 1) * sides)[:, None]
  a, b, c, d = below + corner, below + following, below + sides + following, below + sides + corner
  around = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
  fan = np.stack([np.zeros(sides - 2, int), corner[1:-1], corner[2:]], axis=-1)
  return rings.reshape(-1, 3), np.concatenate([around, fan[:, ::-1], fan + (num - 1) * sides])


def people_of(
  scene: Any, row: int, there: np.ndarray, num_people: int
) -> tuple[tuple[Solid, ...], tuple[Solid, ...]]:
  """(bodies, heads) of the people `there` [N] out of `num_people` slots, to be moved to where they walk."""
  first = scene.boxes.x.shape[1] + scene.cylinders.x.shape[1]

  def capsule(person: int, slot: int, name: str) -> Solid:
    c = _round(scene.capsules, row, slot)
    rings = capsule_rings(c['radius'], c['low'], c['high'])
    return Solid(f'{person}_{name}', *stacked(rings), np.zeros(3), _colour(scene, row, first + slot))

  bodies = tuple(capsule(int(i), int(i), 'body') for i in there)
  return bodies, tuple(capsule(int(i), num_people + int(i), 'head') for i in there)


def goal_marks(goals: np.ndarray, height: Height) -> list[Solid]:
  """A disc in which arrival counts and a pole for each of goals [L, 2] m."""
  marks = []
  for i, place in enumerate(raised(np.asarray(goals, np.float64), height)):
    disc, pole = [(GOAL_RADIUS, 0.01), (GOAL_RADIUS, _LINE)], [(0.03, 0.0), (0.03, 2.0)]
    for name, profile in (('disc', disc), ('pole', pole)):
      marks.append(Solid(f'goal_{i + 1}_{name}', *stacked(circles(profile)), place, _GOAL))
  return marks


def robot_solid(robot: RobotDescription) -> Solid:
  """The box of a robot's footprint and height, in the robot frame."""
  half_x, half_y = robot.footprint.length / 2, robot.footprint.width / 2
  return Solid('robot', *stacked(box_rings(half_x, half_y, 0.02, robot.height)), np.zeros(3), _ROBOT)


def raised(points: np.ndarray, height: Height) -> np.ndarray:
  """[..., 3] m: points [..., 2] on the floor."""
  return np.concatenate([points, height(points)[..., None]], axis=-1)


def _filled(part: Any, row: int) -> list[int]:
  return [int(slot) for slot in np.flatnonzero(np.asarray(part.high[row]) > np.asarray(part.low[row]))]


def _round(part: Any, row: int, slot: int) -> dict[str, float]:
  return {name: float(getattr(part, name)[row, slot]) for name in ('x', 'y', 'radius', 'low', 'high')}


def _colour(scene: Any, row: int, slot: int) -> tuple[int, int, int]:
  r, g, b = np.clip(np.round(np.asarray(scene.colour[row, slot], np.float64) * 255), 0, 255).astype(int)
  return int(r), int(g), int(b)


def _solid(
  scene: Any, row: int, slot: int, rings: np.ndarray, place: tuple[float, float], height: Height
) -> Solid:
  kind = KINDS[int(scene.kind[row, slot])]
  position = raised(np.array(place), height)
  return Solid(f'{slot}_{kind}', *stacked(rings), position, _colour(scene, row, slot))
