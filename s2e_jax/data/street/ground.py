"""The map of the ground: street coordinates and sunlight at every place that a drive can see."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
from scipy.spatial import cKDTree

from s2e_jax.data.street import world
from s2e_jax.data.street.light import Looks
from s2e_jax.data.street.things import BOX, Thing

_CELL = 0.2  # metres per cell
_WALL_SHADOW = 4.0  # metres of wall height that cast shadows

Array = np.ndarray


def _grid(low: Array, cell: float, rows: int, columns: int) -> Array:
  """[rows, columns, 2] world points `cell` m apart from the corner `low`."""
  return np.stack(np.meshgrid(low[0] + np.arange(columns) * cell, low[1] + np.arange(rows) * cell), axis=-1)


def _doubled(grid: Array) -> Array:
  """[2 r - 1, 2 c - 1, n]: a grid [r, c, n] with the middles between its points filled in linearly."""
  rows, columns, n = grid.shape
  out = np.empty((2 * rows - 1, 2 * columns - 1, n))
  out[::2, ::2] = grid
  out[1::2, ::2] = (grid[1:] + grid[:-1]) / 2
  out[:, 1::2] = (out[:, 2::2] + out[:, :-2:2]) / 2
  return out


def street_coordinates(street: world.Street, points: Array) -> Array:
  """[*B, 2] (s, e) of world points [*B, 2]; beyond the ends of the street it goes on straight."""
  flat = points.reshape(-1, 2)
  nearest = cKDTree(street.centre[::2]).query(flat)[1] * 2
  # Measured along the tangent of the nearest point, so that the spacing of the points does not show.
  delta, heading = flat - street.centre[nearest], street.heading[nearest]
  c, s = np.cos(heading), np.sin(heading)
  along = nearest * world.SPACING + delta[:, 0] * c + delta[:, 1] * s
  across = street.side * (delta[:, 1] * c - delta[:, 0] * s)
  return np.stack([along, across], axis=-1).reshape(points.shape)


class GroundMap:
  """s, e (m) and sunlight (0 in shadow, 1 in the sun) on a grid of the ground round a path."""

  def __init__(self, street: world.Street, things: list[Thing], looks: Looks, path: Array):
    """path: [T, 2] m of robot positions; the map reaches VIEW_RANGE beyond them."""
    low, high = path.min(axis=0) - world.VIEW_RANGE, path.max(axis=0) + world.VIEW_RANGE
    columns, rows = np.ceil((high - low) / (2 * _CELL)).astype(int) + 1
    self._low = low
    # Street coordinates are smooth, so every other cell is enough.
    coordinates = _doubled(street_coordinates(street, _grid(low, 2 * _CELL, rows, columns)))
    light = self._sunlight(street, things, looks, coordinates.shape[:2])
    self._cells = np.dstack([coordinates, light]).astype(np.float32)

  def look_up(self, ahead: Array, left: Array, eye: Array, yaw: float) -> Array:
    """[r, c, 3] s, e, sunlight at ground points [r, c] given ahead and to the left of an eye at [2] m, yaw rad."""
    c, s = math.cos(yaw) / _CELL, math.sin(yaw) / _CELL
    x0, y0 = (eye - self._low) / _CELL
    x, y = c * ahead - s * left + x0, s * ahead + c * left + y0
    return cv2.remap(
      self._cells, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )

  def _sunlight(self, street: world.Street, things: list[Thing], looks: Looks, shape: tuple[int, ...]) -> Array:
    """[rows, columns] in [0, 1]: 0 in the shadow of walls and of things that do not walk."""
    if looks.sun is None:
      return np.ones(shape)
    azimuth, elevation = looks.sun
    away = -np.array([math.cos(azimuth), math.sin(azimuth)]) / math.tan(elevation)
    light = np.full(shape, 255, np.uint8)

    def cast(outline: Array, height: float) -> None:
      hull = cv2.convexHull(np.concatenate([outline, outline + away * height]).astype(np.float32))[:, 0]
      pixels = np.round((hull - self._low) / _CELL * 16).astype(np.int32)
      cv2.fillConvexPoly(light, pixels, 0, lineType=cv2.LINE_AA, shift=4)

    turns = np.arange(8) * math.pi / 4
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    square = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    for thing in things:
      if any(thing.velocity):
        continue
      c, s = math.cos(thing.yaw), math.sin(thing.yaw)
      for part in thing.parts:
        corners = square if part.shape == BOX else circle
        outline = thing.position + (np.array(part.offset) + corners * part.size) @ np.array([[c, s], [-s, c]])
        cast(outline + away * part.low, part.high - part.low)
    if street.kind == 'street':
      along = np.arange(0, street.length, 2.0)
      for e in (street.wall_high, street.wall_low):
        edge = street.place(along, np.full(along.shape, street.side * (e + 0.3 * np.sign(e))))
        for a, b in itertools.pairwise(edge):
          cast(np.stack([a, b]), _WALL_SHADOW)
    return cv2.GaussianBlur(light, (0, 0), 0.8) / 255.0
