"""Renderer of the procedural street: what a level pinhole camera on the robot sees.

Nearly everything stands upright, so one image column is one vertical plane through the lens: ground pixels are
looked up in a map of street coordinates, walls are found once per column, and every solid covers one interval of
rows per column.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from s2e_jax.data.street import textures, world
from s2e_jax.data.street.ground import GroundMap
from s2e_jax.data.street.light import Looks, Rays
from s2e_jax.data.street.solids import Solids
from s2e_jax.data.street.things import Thing
from s2e_jax.data.street.walls import CEILING, Walls
from s2e_jax.structs import Camera

Array = np.ndarray


class Renderer:
  """Draws one clip's street and things: `frame(position, yaw, time)` gives one picture."""

  def __init__(
    self,
    street: world.Street,
    things: list[Thing],
    camera: Camera,
    looks: Looks,
    path: Array,
    rng: np.random.Generator,
  ):
    """path: [T, 2] m of robot positions; rng: textures now, sensor noise frame by frame."""
    self.street, self.things, self.camera, self.looks = street, things, camera, looks
    self._rng = rng
    self.rays = Rays.of(camera)
    self._ground = GroundMap(street, things, looks, path)
    self._walls = Walls(street, looks, self.rays)
    self._solids = Solids(things, looks, self.rays)
    grounds = textures.ground_atlas(street.band_materials, rng)
    if looks.is_indoor:
      grounds = np.concatenate([grounds, textures.ceiling()[None]])
    self._num_grounds = len(grounds)
    self._grounds = grounds.reshape(-1, 3)
    self._edges = street.band_edges.astype(np.float32)
    self._sky = textures.sky(looks.far, looks.weather, rng)

  def frame(self, position: Array, yaw: float, time: float) -> Array:
    """[h, w, 3] uint8 RGB seen by a robot at `position` [2] m with `yaw` rad at `time` s."""
    return self.frame_and_owners(position, yaw, time, want_owners=False)[0]

  def frame_and_owners(
    self, position: Array, yaw: float, time: float, want_owners: bool = True
  ) -> tuple[Array, Array | None]:
    """`frame`, and [h n, w n] int16: the thing that each ray meets, -1 for street and sky (n = SUPERSAMPLE)."""
    eye = position + self.camera.mount_forward * np.array([math.cos(yaw), math.sin(yaw)])
    rays, horizon = self.rays, self.rays.horizon
    image = np.empty((len(rays.down), len(rays.right), 3), np.float32)
    owners = np.full(image.shape[:2], -1, np.int16) if want_owners else None
    if self.looks.is_indoor:
      self._draw_flat(image[:horizon], rays.down[:horizon], rays.eye_height - CEILING, eye, yaw)
    else:
      self._draw_sky(image[:horizon], yaw)
    self._draw_flat(image[horizon:], rays.down[horizon:], rays.eye_height, eye, yaw)
    reach = self._walls.draw(image, self._ground, eye, yaw)
    self._solids.draw(image, owners, reach, eye, yaw, time)
    return self._develop(image), owners

  def _draw_sky(self, image: Array, yaw: float) -> None:
    """The sky above the horizon."""
    turn = (yaw - np.arctan(self.rays.right)) * (textures.SKY_COLUMNS / (2 * math.pi))
    rows = np.minimum((-self.rays.down[: len(image)] * (textures.SKY_ROWS - 1)).astype(int), textures.SKY_ROWS - 1)
    image[:] = self._sky[rows[:, None], turn.astype(int)[None] % textures.SKY_COLUMNS]

  def _draw_flat(self, image: Array, down: Array, height: float, eye: Array, yaw: float) -> None:
    """The horizontal plane `height` m below the lens (a ceiling above it if negative) on rows of slope `down`."""
    depth = np.minimum(height / down, 4 * world.VIEW_RANGE)[:, None]
    left = -depth * self.rays.right
    found = self._ground.look_up(np.broadcast_to(depth, left.shape), left, eye, yaw)
    n, scale = textures.TEXELS, textures.TEXELS / textures.GROUND_TILE
    # One texel should not be smaller than a ray is long on the ground.
    level = textures.level_of(depth * depth / (abs(height) * self.rays.focal) * scale * 0.7)
    i, j = np.floor(found[..., :2] * scale).astype(int).transpose(2, 0, 1) % n
    if height > 0:
      ground = np.searchsorted(self._edges, found[..., 1].ravel()).reshape(i.shape)
    else:
      ground = np.full(i.shape, self._num_grounds - 1)
    texel = np.take(self._grounds, ((ground * textures.NUM_LEVELS + level) * n + i) * n + j, axis=0)
    if self.looks.sun:
      texel *= (0.62 + 0.5 * self.looks.sun_up * found[..., 2])[..., None]
    else:
      texel *= 0.95
    self.looks.fade(texel, depth[..., None])
    image[:] = texel

  def _develop(self, image: Array) -> Array:
    """Averages the rays of each pixel, then tint, brightness, sensor noise and rounding."""
    small: Array = cv2.resize(image, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA)
    small *= (self.looks.tint * (self.looks.brightness * 255)).astype(np.float32)
    small += self.looks.noise * self._rng.standard_normal(small.shape, np.float32)
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)
