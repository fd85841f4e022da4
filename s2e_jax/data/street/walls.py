"""Walls of the street: found once per image column by marching over the ground map, then painted."""

from __future__ import annotations

import math

import numpy as np

from s2e_jax.data.street import textures, world
from s2e_jax.data.street.ground import GroundMap
from s2e_jax.data.street.light import Looks, Rays

CEILING = 2.6  # metres above the floor of a corridor
_NUM_STEPS = 96  # samples of the march
_ENTRY = 0.5  # metres of street per entry of the table of buildings

Array = np.ndarray


class Walls:
  """Buildings, hedges or corridor walls on both sides of a street."""

  def __init__(self, street: world.Street, looks: Looks, rays: Rays):
    """Draws the looks of both sides from the street's own seed."""
    self._street, self._looks, self._rays = street, looks, rays
    self._steps = np.geomspace(0.15, world.VIEW_RANGE, _NUM_STEPS).astype(np.float32)[:, None]
    rng = np.random.default_rng(street.wall_seed)
    kinds = {'street': ('windows', 'shops', 'brick'), 'park': ('hedge',), 'corridor': ('corridor',)}[street.kind]
    self._texels = textures.wall_atlas(kinds, rng).reshape(-1, 3)
    n = math.ceil((street.length + 2 * world.VIEW_RANGE) / _ENTRY)
    self._kind = np.zeros((2, n), np.int64)
    self._height = np.zeros((2, n), np.float32)
    self._colour = np.ones((2, n, 3), np.float32)
    plain = np.clip(rng.uniform(0.65, 0.9) + rng.normal(0, 0.05, 3), 0.3, 1)
    for side in range(2):
      at = 0
      while at < n:
        here = slice(at, at + int(rng.uniform(6, 15) / _ENTRY))
        self._kind[side, here] = rng.integers(len(kinds))
        tall = {'street': rng.uniform(4, 13), 'park': rng.uniform(0.9, 2.4), 'corridor': CEILING}
        self._height[side, here] = tall[street.kind]
        if street.kind == 'street':
          warm = rng.uniform(0, 0.12) * np.array([1, 0.2, -1])
          self._colour[side, here] = np.clip(rng.uniform(0.45, 0.85) + rng.normal(0, 0.05, 3) + warm, 0.1, 1)
        elif street.kind == 'corridor':
          self._colour[side, here] = plain
        at = here.stop

  def draw(self, image: Array, ground: GroundMap, eye: Array, yaw: float) -> Array:
    """Paints the walls into image [rows, columns, 3]; returns the depth [columns] (m) at which they end the view.

    A hedge ends the view as well: behind it stands nothing that is drawn.
    """
    depth, s, is_high, is_seen = self._find(ground, eye, yaw)
    entry = np.clip(((s + world.VIEW_RANGE) / _ENTRY).astype(int), 0, self._kind.shape[1] - 1)
    side = is_high.astype(int)
    high = self._rays.eye_height - self._rays.down[:, None] * depth
    rows, columns = np.nonzero((high > 0) & (high < self._height[side, entry]) & is_seen)
    n, scale = textures.TEXELS, textures.TEXELS / textures.WALL_TILE
    # One texel should not be smaller than a ray is wide on the wall.
    level = textures.level_of(depth / self._rays.focal * scale * 1.4)
    column = (s * scale).astype(int) % n + (self._kind[side, entry] * textures.NUM_LEVELS + level) * n * n
    row = (high[rows, columns] * scale).astype(int) % n
    texel = np.take(self._texels, column[columns] + row * n, axis=0)
    texel *= (self._colour[side, entry] * self._light(s, is_high)[:, None])[columns]
    self._looks.fade(texel, depth[columns, None])
    image[rows, columns] = texel
    return depth

  def _find(self, ground: GroundMap, eye: Array, yaw: float) -> tuple[Array, Array, Array, Array]:
    """Per column: depth of its wall, s there, whether it is the one at high e, whether there is one at all."""
    street, right, steps = self._street, self._rays.right, self._steps
    columns = np.arange(len(right))
    e = ground.look_up(np.broadcast_to(steps, (_NUM_STEPS, len(right))), -steps * right, eye, yaw)[..., 1]
    outside = (e > street.wall_high) | (e < street.wall_low)
    outside[-1] = True
    hit = np.maximum(outside.argmax(axis=0), 1)
    is_high = e[hit, columns] > street.wall_high
    limit = np.where(is_high, street.wall_high, street.wall_low).astype(np.float32)
    near, far = steps[hit - 1, 0], steps[hit, 0]
    before, after = e[hit - 1, columns], e[hit, columns]
    for _ in range(3):  # false position
      share = np.clip((limit - before) / np.where(after == before, 1, after - before), 0, 1)
      depth = near + share * (far - near)
      found = ground.look_up(depth[None], (-depth * right)[None], eye, yaw)[0]
      is_past = np.where(is_high, found[:, 1] > limit, found[:, 1] < limit)
      near, before = np.where(is_past, near, depth), np.where(is_past, before, found[:, 1])
      far, after = np.where(is_past, depth, far), np.where(is_past, found[:, 1], after)
    is_seen = np.abs(found[:, 1] - limit) < 0.5
    return np.where(is_seen, depth, 2 * world.VIEW_RANGE).astype(np.float32), found[:, 0], is_high, is_seen

  def _light(self, s: Array, is_high: Array) -> Array:
    """[columns] light on walls that face the middle of the street."""
    if self._looks.sun is None:
      return np.where(is_high, 0.85, 0.95)
    towards_middle = np.where(is_high, -1, 1) * self._street.side * math.pi / 2
    return self._looks.facing(self._street.heading_at(s) + towards_middle, 0.55, 0.55)
