"""From a depth picture to the distance of the nearest obstacle in every direction, in the robot frame."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.geometry import arctan2
from s2e_jax.robots import CameraMount


def pixel_slopes(mount: CameraMount, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Metres to the left [w] and metres up [h] per metre along the axis, of the pixels of a level camera."""
  camera = mount.camera(height, width)
  left = (camera.cx - (np.arange(width) + 0.5)) / camera.fx
  up = (camera.cy - (np.arange(height) + 0.5)) / camera.fy
  return left.astype(np.float32), up.astype(np.float32)


def sector_middles(mount: CameraMount, num_sectors: int) -> np.ndarray:
  """[S] rad, bearings of the middles of the sectors that the camera's field of view is cut into, right to left."""
  return ((np.arange(num_sectors) + 0.5) / num_sectors - 0.5) * mount.hfov


def clearance_profile(
  depth: jax.Array, mount: CameraMount, num_sectors: int, low: float, high: float, max_range: float
) -> jax.Array:
  """[B, S] m from the robot origin to the nearest obstacle of each sector (`sector_middles`), at most max_range.

  depth: [B, h, w] m along the camera's axis, 0 where there is nothing. An obstacle is whatever a pixel shows
  between `low` and `high` (m) above the floor, taken to be level and as far below the camera as `mount` says.
  """
  num, height, width = depth.shape
  left, up = pixel_slopes(mount, height, width)
  x, y = depth + mount.forward, depth * left
  above = mount.height + depth * up[:, None]
  is_obstacle = (depth > 0) & (above >= low) & (above <= high)
  reach = jnp.where(is_obstacle, jnp.sqrt(x * x + y * y), max_range)
  # seen from the robot's origin, which lies behind the lens, nothing is farther aside than seen through it
  share = arctan2(y, x) / mount.hfov + 0.5
  sector = jnp.clip(jnp.floor(share * num_sectors).astype(jnp.int32), 0, num_sectors - 1)
  nearest = lambda sector, reach: jnp.full(num_sectors, max_range).at[sector].min(reach)
  return jax.vmap(nearest)(sector.reshape(num, -1), reach.reshape(num, -1))


def lowest_row_reach(mount: CameraMount, height: int, width: int, above: float) -> float:
  """m along the axis from where on something `above` metres high is inside the picture; inf if it never is."""
  _, up = pixel_slopes(mount, height, width)
  drop = mount.height - above
  if drop <= 0:
    return 0.0
  return drop / -float(up[-1]) if up[-1] < 0 else math.inf
