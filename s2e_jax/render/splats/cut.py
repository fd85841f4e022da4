"""What of a scene one camera draws: units in its view, as coarse as its budget asks for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.render.splats.cameras import Cameras
from s2e_jax.render.splats.hierarchy import MERGED, SplatScene
from s2e_jax.render.splats.options import WORD, SplatOptions

# Sizes in pixels that a merged gaussian may have, tried from fine to coarse; the last one takes any.
SIZES = tuple(float(x) for x in 0.25 * 1.25 ** np.arange(24)) + (1e9,)


def check_budget(scene: SplatScene, options: SplatOptions) -> None:
  """Raises ValueError where even the coarsest level may exceed the budget."""
  least = scene.levels[-1] * WORD
  if options.budget and options.budget < min(least, scene.capacity):
    raise ValueError(
      f'budget={options.budget} is less than the {least} gaussians of the coarsest of {len(scene.levels)} levels: '
      f'use at least {least}' + ('' if len(scene.levels) > 1 else ', or a scene with levels')
    )


def in_view(scene: SplatScene, camera: Cameras, options: SplatOptions) -> jax.Array:
  """[U] bool: the unit's bounding sphere may touch what the camera sees."""
  r = camera.cam_from_world
  x, y, z = (jnp.sum(r[k] * scene.centre, axis=-1) + camera.translation[k] for k in range(3))
  (fx, fy), (cx, cy) = camera.focal, camera.centre

  def outside(a: jax.Array, focal: jax.Array, edge: jax.Array) -> jax.Array:
    """Distance beyond the plane through the camera and an edge of the image."""
    return (a * focal - edge * z) / jnp.sqrt(focal * focal + edge * edge)

  beyond = jnp.maximum(outside(x, fx, options.width - cx), outside(-x, fx, cx))
  beyond = jnp.maximum(beyond, jnp.maximum(outside(y, fy, options.height - cy), outside(-y, fy, cy)))
  # the blur makes splats a few pixels larger than the spheres know
  slack = 2.0 * jnp.maximum(z + scene.radius, 0) / jnp.minimum(fx, fy)
  return (beyond < scene.radius + slack) & (z + scene.radius > options.near) & (scene.radius > 0)


def choose_units(scene: SplatScene, camera: Cameras, options: SplatOptions) -> tuple[jax.Array, jax.Array]:
  """(unit numbers [n], whether they are drawn [n]) for one camera; n WORD is the budget, or the whole finest
  level.

  Of every place the coarsest level is taken whose gaussians are smaller than a limit in pixels, a limit of SIZES
  at which all fits and the next smaller one would not: so nothing is ever left out.
  """
  is_in_view = in_view(scene, camera, options)
  finest = scene.levels[0]
  if not options.budget or scene.capacity <= options.budget:
    return jnp.arange(finest), is_in_view[:finest]
  position = -jnp.sum(camera.cam_from_world * camera.translation[:, None], axis=0)
  distance = jnp.sqrt(jnp.sum((scene.centre - position) ** 2, axis=-1)) - scene.radius
  in_pixels = jnp.max(camera.focal) * scene.size / jnp.maximum(distance, options.near)
  first = np.cumsum((0, *scene.levels))

  def drawn(limit: jax.Array) -> jax.Array:
    """[U] bool: drawn at this limit."""
    parts, above = [], jnp.zeros(scene.levels[-1], bool)
    for level in reversed(range(len(scene.levels))):
      here = slice(first[level], first[level + 1])
      above = above[: scene.levels[level]]
      fits = in_pixels[here] < limit if level else jnp.ones(finest, bool)
      parts.append(fits & ~above)
      if level:
        above = jnp.repeat(fits | above, MERGED, total_repeat_length=scene.levels[level] * MERGED)
    return jnp.concatenate(parts[::-1]) & is_in_view

  room = options.budget // WORD
  limits = jnp.array((0.0, *SIZES))

  def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    low, high = ends
    middle = (low + high) // 2
    fits = drawn(limits[middle]).sum() <= room
    return jnp.where(fits, low, middle + 1), jnp.where(fits, middle, high)

  # the last limit takes the coarsest level everywhere, which fits by `check_budget`
  _, best = jax.lax.fori_loop(0, len(SIZES).bit_length(), halve, (jnp.int32(0), jnp.int32(len(SIZES))))
  chosen = drawn(limits[best])
  units = jnp.nonzero(chosen, size=room, fill_value=0)[0]
  return units, jnp.arange(room) < chosen.sum()
