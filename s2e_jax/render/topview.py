"""Maps of scenes from above, for people to look at. Runs on the host (numpy, OpenCV)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import jax.numpy as jnp
import numpy as np

from s2e_jax import scene as scenes
from s2e_jax.scene import KIND, Scene

_GROUND = {
  'road': (96, 98, 104),
  'pavement': (206, 202, 194),
  'crossing': (236, 232, 214),
  'grass': (148, 172, 122),
}
_OUTSIDE = (40, 42, 46)
_ABOVE = (scenes.KIND['crown'], scenes.KIND['hedge'])  # drawn as foliage, not as walls
_SHIFT = 4  # OpenCV draws polygons with 1/16 pixel precision


@dataclasses.dataclass(frozen=True)
class MapView:
  """A window of the world seen from above, x to the right and y up.

  low, high: [2] m corners of the window. pixels_per_m: size of the picture.
  """

  low: np.ndarray
  high: np.ndarray
  pixels_per_m: float

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) in pixels."""
    width, height = np.ceil((self.high - self.low) * self.pixels_per_m).astype(int)
    return int(height), int(width)

  def pixels(self, points_in_world: np.ndarray) -> np.ndarray:
    """Pixels [*B, 2] (right, down) of world points [*B, 2]."""
    x = (points_in_world[..., 0] - self.low[0]) * self.pixels_per_m
    y = (self.high[1] - points_in_world[..., 1]) * self.pixels_per_m
    return np.stack([x, y], axis=-1)


def view_of_world(scene: Scene, pixels_per_m: float = 12.0, margin: float = 1.0) -> MapView:
  """A window that holds the bounds of one scene (no batch axis)."""
  s_low, s_high, d_low, d_high = (float(v) for v in scene.ground.bounds)
  s, d = np.meshgrid(np.linspace(s_low, s_high, 33), np.linspace(d_low, d_high, 33))
  x, y = _to_world(s, d, float(scene.ground.curvature))
  low = np.array([x.min(), y.min()]) - margin
  return MapView(low, np.array([x.max(), y.max()]) + margin, pixels_per_m)


def draw_ground(scene: Scene, view: MapView) -> np.ndarray:
  """[h, w, 3] uint8 RGB of the ground's areas; dark outside the bounds."""
  height, width = view.size
  x = view.low[0] + (np.arange(width) + 0.5) / view.pixels_per_m
  y = view.high[1] - (np.arange(height) + 0.5) / view.pixels_per_m
  px, py = np.meshgrid(x, y)
  ground = scene.ground
  s, d = scenes.to_street(jnp.asarray(px), jnp.asarray(py), ground.curvature)
  bounds = np.asarray(ground.bounds)
  inside = np.asarray((s >= bounds[0]) & (s <= bounds[1]) & (d >= bounds[2]) & (d <= bounds[3]))
  road = np.asarray(scenes.on_road(ground, s, d))
  paved = np.asarray(scenes.on_pavement(ground, s, d))
  picture = np.empty((height, width, 3), np.uint8)
  picture[:] = _GROUND['grass']
  picture[paved] = _GROUND['pavement']
  picture[road] = _GROUND['road']
  picture[road & paved] = _GROUND['crossing']
  picture[~inside] = (picture[~inside] * 0.45 + np.array(_OUTSIDE) * 0.55).astype(np.uint8)
  return picture


def draw_objects(picture: np.ndarray, scene: Scene, view: MapView) -> np.ndarray:
  """`picture` with every primitive of one scene drawn into it, in its own colour."""
  kind = np.asarray(scene.kind)
  colour = (np.clip(np.asarray(scene.colour), 0, 1) * 255).astype(int)
  boxes = {f.name: np.asarray(getattr(scene.boxes, f.name)) for f in dataclasses.fields(scene.boxes)}
  order = np.argsort(boxes['high'])  # tall things last, as seen from above
  for i in order:
    if boxes['high'][i] <= boxes['low'][i]:
      continue
    corners = _corners(*(boxes[name][i] for name in ('x', 'y', 'yaw', 'half_x', 'half_y')))
    fill_polygon(picture, view.pixels(corners), tuple(colour[i]), outline=(30, 30, 30))
  first = len(boxes['x'])
  for rounds in (scene.cylinders, scene.capsules):
    x, y, radius, low, high = (np.asarray(v) for v in (rounds.x, rounds.y, rounds.radius, rounds.low, rounds.high))
    for i in np.flatnonzero(high > low):
      shade = tuple(int(v) for v in colour[first + i])
      centre = view.pixels(np.array([x[i], y[i]]))
      if kind[first + i] in _ABOVE:
        _disc(picture, centre, radius[i] * view.pixels_per_m, shade, alpha=0.45)
      else:
        is_person = kind[first + i] == KIND['person']
        _disc(picture, centre, radius[i] * view.pixels_per_m, (214, 60, 50) if is_person else shade)
    first += len(x)
  return picture


def draw_path(
  picture: np.ndarray, view: MapView, points_in_world: np.ndarray, colour: tuple[int, int, int], width: int = 2
) -> np.ndarray:
  """`picture` with a line through world points [N, 2]."""
  if len(points_in_world) > 1:
    line = np.round(view.pixels(np.asarray(points_in_world)) * 2**_SHIFT).astype(np.int32)
    cv2.polylines(picture, [line], False, colour, width, cv2.LINE_AA, _SHIFT)
  return picture


def draw_robot(
  picture: np.ndarray,
  view: MapView,
  position: Sequence[float] | np.ndarray,
  yaw: float,
  length: float,
  width: float,
  colour: tuple[int, int, int] = (30, 90, 220),
) -> np.ndarray:
  """`picture` with the footprint of a robot and a line that shows its heading."""
  corners = _corners(position[0], position[1], yaw, length / 2, width / 2)
  fill_polygon(picture, view.pixels(corners), colour, outline=(255, 255, 255))
  ahead = np.asarray(position) + np.array([np.cos(yaw), np.sin(yaw)]) * length * 0.8
  return draw_path(picture, view, np.stack([np.asarray(position), ahead]), (255, 255, 255), 2)


def draw_goal(picture: np.ndarray, view: MapView, goal: np.ndarray, radius: float = 1.0) -> np.ndarray:
  """`picture` with the ring inside which the robot has arrived."""
  centre = tuple(int(v) for v in np.round(view.pixels(np.asarray(goal)) * 2**_SHIFT))
  ring = int(radius * view.pixels_per_m * 2**_SHIFT)
  cv2.circle(picture, centre, ring, (20, 150, 60), 2, cv2.LINE_AA, _SHIFT)
  cv2.circle(picture, centre, 3 * 2**_SHIFT, (20, 150, 60), -1, cv2.LINE_AA, _SHIFT)
  return picture


def draw_map(scene: Scene, view: MapView | None = None) -> np.ndarray:
  """[h, w, 3] uint8 map of one scene."""
  view = view or view_of_world(scene)
  return draw_objects(draw_ground(scene, view), scene, view)


def fill_polygon(
  picture: np.ndarray, pixels: np.ndarray, colour: Sequence[int], outline: tuple[int, int, int] | None = None
) -> None:
  """Fills the polygon [N, 2] (pixels) in place."""
  points = np.round(pixels * 2**_SHIFT).astype(np.int32)
  cv2.fillPoly(picture, [points], tuple(int(c) for c in colour), cv2.LINE_AA, _SHIFT)
  if outline:
    cv2.polylines(picture, [points], True, outline, 1, cv2.LINE_AA, _SHIFT)


def _corners(x: float, y: float, yaw: float, half_x: float, half_y: float) -> np.ndarray:
  """Corners [4, 2] of an oriented rectangle."""
  c, s = np.cos(yaw), np.sin(yaw)
  local = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * np.array([half_x, half_y])
  return np.array([x, y]) + local @ np.array([[c, s], [-s, c]])


def _disc(
  picture: np.ndarray, centre: np.ndarray, radius: float, colour: tuple[int, ...], alpha: float = 1.0
) -> None:
  canvas = picture.copy() if alpha < 1 else picture
  at = tuple(int(v) for v in np.round(centre * 2**_SHIFT))
  cv2.circle(canvas, at, max(1, int(radius * 2**_SHIFT)), colour, -1, cv2.LINE_AA, _SHIFT)
  if alpha < 1:
    cv2.addWeighted(canvas, alpha, picture, 1 - alpha, 0, picture)


def _to_world(s: np.ndarray, d: np.ndarray, curvature: float) -> tuple[np.ndarray, np.ndarray]:
  x, y = scenes.to_world(jnp.asarray(s), jnp.asarray(d), jnp.float32(curvature))
  return np.asarray(x), np.asarray(y)
