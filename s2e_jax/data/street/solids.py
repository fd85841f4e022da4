"""Upright solids: each covers one interval of rows per image column, painted from far to near."""

from __future__ import annotations

import math

import numpy as np

from s2e_jax.data.street import world
from s2e_jax.data.street.light import Looks, Rays
from s2e_jax.data.street.things import BOX, SPHERE, Thing

_NEAR = 0.05  # metres in front of the lens
_BEHIND = -3.0  # metres: solids further behind the lens cannot reach into the view

Array = np.ndarray


class Solids:
  """The parts of all things of a clip, ready to be drawn from anywhere at any time."""

  def __init__(self, things: list[Thing], looks: Looks, rays: Rays):
    """things: what stands or walks in the clip."""
    self._things, self._looks, self._rays = things, looks, rays
    parts = [(index, thing, part) for index, thing in enumerate(things) for part in thing.parts]
    self._parts = [part for _, _, part in parts]
    self._owner = np.array([index for index, _, _ in parts], int)
    self._is_round = np.array([part.shape != BOX for part in self._parts], bool)
    self._yaw = np.array([thing.yaw for _, thing, _ in parts], float)
    self._size = np.array([part.size for part in self._parts], float).reshape(-1, 2)
    offset = np.array([part.offset for part in self._parts], float).reshape(-1, 2)
    c, s = np.cos(self._yaw), np.sin(self._yaw)
    self._offset = np.stack([c * offset[:, 0] - s * offset[:, 1], s * offset[:, 0] + c * offset[:, 1]], axis=-1)

  def draw(self, image: Array, owners: Array | None, reach: Array, eye: Array, yaw: float, time: float) -> None:
    """Paints the solids nearer than `reach` [columns] (m) into image [rows, columns, 3].

    owners: [rows, columns], filled with the index of the thing that each ray meets, if given. time: s.
    """
    if not self._parts:
      return
    places = np.stack([thing.position_at(time) for thing in self._things])
    delta = places[self._owner] + self._offset - eye
    c, s = math.cos(yaw), math.sin(yaw)
    centre = np.stack([c * delta[:, 0] + s * delta[:, 1], c * delta[:, 1] - s * delta[:, 0]], axis=-1)
    chosen = np.flatnonzero((centre[:, 0] > _BEHIND) & (np.hypot(*centre.T) < world.VIEW_RANGE))
    enter, leave, azimuth = self._meet(chosen, centre[chosen], yaw)
    is_shown = enter < reach
    for k in np.argsort(-centre[chosen, 0], kind='stable'):
      columns = np.flatnonzero(is_shown[k])
      if len(columns):
        span = slice(columns[0], columns[-1] + 1)
        view = image[:, span], None if owners is None else owners[:, span]
        self._paint(chosen[k], *view, is_shown[k, span], enter[k, span], leave[k, span], azimuth[k, span])

  def _meet(self, chosen: Array, centre: Array, yaw: float) -> tuple[Array, Array, Array]:
    """Depth where each column's plane enters and leaves each part, and the world azimuth of the face it enters by.

    chosen: [P] parts. centre: [P, 2] m ahead and to the left of the lens. Returns three [P, columns] float32;
    enter is inf where a part is missed. The ray is depth * (1, -right), so that its parameter is the depth.
    """
    right = self._rays.right[None]
    x, y = np.float32(centre[:, :1]), np.float32(centre[:, 1:])
    turn = (self._yaw[chosen] - yaw)[:, None].astype(np.float32)
    size = self._size[chosen].astype(np.float32)
    a, b = 1 + right**2, x - y * right
    disc = b * b - a * (x * x + y * y - size[:, :1] ** 2)
    root = np.sqrt(np.maximum(disc, 0))
    enter, leave = (b - root) / a, (b + root) / a
    azimuth = np.arctan2(-enter * right - y, enter - x)
    # Boxes: the ray in the frame of the box, cut by two pairs of sides.
    c, s = np.cos(turn), np.sin(turn)
    dir_x, dir_y = c - s * right, -s - c * right
    with np.errstate(divide='ignore', invalid='ignore'):
      half_x, half_y = np.abs(size[:, :1] / dir_x), np.abs(size[:, 1:] / dir_y)
      mid_x, mid_y = (c * x + s * y) / dir_x, (c * y - s * x) / dir_y
      box_enter = np.maximum(mid_x - half_x, mid_y - half_y)
      box_leave = np.minimum(mid_x + half_x, mid_y + half_y)
      by_x = mid_x - half_x > mid_y - half_y
    box_azimuth = turn + np.where(by_x, np.where(dir_x > 0, math.pi, 0), np.where(dir_y > 0, -1, 1) * math.pi / 2)
    is_round = self._is_round[chosen][:, None]
    is_met = np.where(is_round, disc > 0, box_leave > box_enter)
    enter, leave = np.where(is_round, enter, box_enter), np.where(is_round, leave, box_leave)
    is_met &= leave > _NEAR
    enter = np.where(is_met, np.maximum(enter, _NEAR), np.inf)
    return enter, leave, (np.where(is_round, azimuth, box_azimuth) + yaw).astype(np.float32)

  def _paint(
    self, p: int, image: Array, owners: Array | None, is_shown: Array, enter: Array, leave: Array, azimuth: Array
  ) -> None:
    """Paints part p where `is_shown` [columns]: its front, and its top where the lens is above it."""
    part, eye = self._parts[p], self._rays.eye_height
    is_sphere, low, high = part.shape == SPHERE, part.low, part.high
    if is_sphere:
      # A column cuts an (ellipsoidal) disc out of the sphere, whose half height shrinks to the sides.
      depth = np.where(is_shown, (enter + leave) / 2, 1)
      half = (high - low) / 2 * np.minimum(np.where(is_shown, leave - enter, 0) / (2 * part.size[0]), 1)
      edge = top = (eye - (low + high) / 2 - half) / depth
      end = (eye - (low + high) / 2 + half) / depth
    else:
      edge, end = (eye - high) / enter, (eye - low) / enter
      top = np.minimum(edge, (eye - high) / leave) if high < eye else edge
      if low > eye:
        end = np.maximum(end, (eye - low) / leave)
    first, last = np.searchsorted(self._rays.down, [top[is_shown].min(), end[is_shown].max()])
    if first >= last:
      return
    down = self._rays.down[first:last, None]
    mask = (down >= top) & (down < end) & is_shown
    colour = np.array(part.colour, np.float32)
    light = self._looks.facing(azimuth, 0.55, 0.6)[:, None]
    front = (colour * light)[None]
    if is_sphere:
      front = front * (1.15 - 0.5 * (down - top) / np.maximum(end - top, 1e-6))[..., None]
    elif part.period or low < 0.05:
      height = eye - down * np.where(is_shown, enter, 0)
      if part.period:
        is_odd = np.floor(height / part.period) % 2 == 1
        front = np.where(is_odd[..., None], (np.array(part.stripe, np.float32) * light)[None], front)
      if low < 0.05:
        front = front * np.clip(0.75 + height / 0.6, 0.75, 1)[..., None]  # darker at the foot
    if high < eye and not is_sphere:
      top_light = 1.05 if self._looks.sun is None else 0.6 + 0.5 * self._looks.sun_up
      front = np.where((down < edge)[..., None], colour * top_light, front)
    share = self._looks.haze_share(enter[:, None])
    np.copyto(
      image[first:last], front * share + (1 - share) * self._looks.far, where=mask[..., None], casting='same_kind'
    )
    if owners is not None:
      owners[first:last][mask] = self._owner[p]
