"""Things put beside a way: of catalogue sizes, with outlines to measure distances to, never in the last gap."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import Maps
from s2e_jax.worlds.catalogue import THINGS

BESIDE = 0.8  # m to either side of the way that things stand within
KEEP_CLEAR = 1.8  # m of way at both ends without things
_ROOM_AT_ENDS = 0.5  # m between the robot's disc and any thing, at the start and at every goal
_ROOM = 0.05  # m that a way past things leaves beyond the robot's radius


@dataclasses.dataclass(frozen=True)
class PlacedThing:
  """An upright box or cylinder. thing: its name in `worlds.catalogue.THINGS`; kind: its name in `scene.KINDS`.

  x, y: m, yaw: rad, in the world. half_x, half_y: m half sides in its own frame; half_y is None for a cylinder of
  radius half_x. low, high: m, z of bottom and top in the world.
  """

  thing: str
  kind: str
  x: float
  y: float
  yaw: float
  half_x: float
  half_y: float | None
  low: float
  high: float

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, inverse of `PlacedThing(**fields)`."""
    return dataclasses.asdict(self)

  def distance(self, points: np.ndarray) -> np.ndarray:
    """[...] m from points [..., 2] to the outline, negative inside."""
    offset = np.asarray(points) - np.array([self.x, self.y])
    if self.half_y is None:
      return np.hypot(offset[..., 0], offset[..., 1]) - self.half_x
    cos, sin = np.cos(self.yaw), np.sin(self.yaw)
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - self.half_x
    across = np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - self.half_y
    beyond = np.hypot(np.maximum(along, 0), np.maximum(across, 0))
    return beyond + np.minimum(np.maximum(along, across), 0)

  def corners(self) -> np.ndarray:
    """[4, 2] m corners of its box, or of the box around its circle."""
    half_y = self.half_x if self.half_y is None else self.half_y
    own = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * np.array([self.half_x, half_y])
    cos, sin = np.cos(self.yaw), np.sin(self.yaw)
    return own @ np.array([[cos, sin], [-sin, cos]]) + np.array([self.x, self.y])


def distance_with(maps: Maps, things: Sequence[PlacedThing]) -> np.ndarray:
  """[nx, ny] m signed distance of a map's cells to its obstacles and to the things."""
  distance = maps.distance.astype(float)
  centres = maps.grid.centres()
  for thing in things:
    distance = np.minimum(distance, thing.distance(centres))
  return distance


def drivable_around(maps: Maps, distance: np.ndarray, must_reach: np.ndarray) -> np.ndarray | None:
  """[nx, ny] bool: the part of the drivable region that joins points [P, 2] past things; None where they are cut.

  distance: [nx, ny] m of `distance_with`.
  """
  is_past = distance > maps.robot_radius + _ROOM
  labels, _ = ndimage.label(maps.drivable & (is_past | (distance >= maps.distance)))
  own = maps.grid.at(labels, must_reach, outside=0)
  return labels == own[0] if own[0] and (own == own[0]).all() else None


def place_things(
  maps: Maps, way: np.ndarray, goals: np.ndarray, num: int, rng: np.random.Generator
) -> list[PlacedThing]:
  """At most `num` things near a way (points [n, 2], evenly spaced, from start to last goal) that leave one open.

  goals: [G, 2]. Positions that stand in something, crowd start or goals, or cut the way are drawn again.
  """
  ends = np.concatenate([way[:1], goals])
  along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
  placed: list[PlacedThing] = []
  distance, centres = maps.distance.astype(float), maps.grid.centres()
  names = sorted(THINGS)
  for _ in range(6 * num):
    if len(placed) == num or along[-1] <= 2 * KEEP_CLEAR:
      break
    thing = _draw(names[int(rng.integers(len(names)))], maps, way, along, rng)
    if not _stands_free(maps.grid, thing, maps, ends):
      continue
    with_it = np.minimum(distance, thing.distance(centres))
    if drivable_around(maps, with_it, ends) is None:
      continue
    placed.append(thing)
    distance = with_it
  return placed


def _draw(name: str, maps: Maps, way: np.ndarray, along: np.ndarray, rng: np.random.Generator) -> PlacedThing:
  thing = THINGS[name]
  at = rng.uniform(KEEP_CLEAR, along[-1] - KEEP_CLEAR)
  i = int(np.clip(np.searchsorted(along, at), 1, len(way) - 1))
  ahead = way[i] - way[i - 1]
  heading = float(np.arctan2(ahead[1], ahead[0]))
  x, y = way[i] + rng.uniform(-BESIDE, BESIDE) * np.array([-np.sin(heading), np.cos(heading)])
  half_x = rng.uniform(*thing.half_x)
  half_y = rng.uniform(*(thing.half_y or thing.half_x))
  height, turn = rng.uniform(*thing.height), rng.uniform(-thing.turn, thing.turn)
  low = float(maps.grid.sample(maps.ground, np.array([x, y])))
  short = lambda value: round(float(value), 3)
  return PlacedThing(
    name, thing.kind, short(x), short(y), short(heading + turn), short(half_x),
    None if thing.half_y is None else short(half_y), short(low), short(low + height),
  )  # fmt: skip


def _stands_free(grid: Grid, thing: PlacedThing, maps: Maps, ends: np.ndarray) -> bool:
  feet = np.concatenate([thing.corners(), [[thing.x, thing.y]]])
  if not grid.at(maps.is_seen, feet[-1:], outside=False).all() or not (grid.sample(maps.distance, feet) > 0).all():
    return False
  return bool((thing.distance(ends) > maps.robot_radius + _ROOM_AT_ENDS).all())
