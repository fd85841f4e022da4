"""Front door: pictures of splats, of a scene made ready (fast) or of gaussians being fitted (with gradients)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.gaussians import Gaussians
from s2e_jax.render.splats.blend import blend_tiles, from_tiles, to_tiles
from s2e_jax.render.splats.cameras import Cameras
from s2e_jax.render.splats.cut import check_budget, choose_units
from s2e_jax.render.splats.hierarchy import SplatScene
from s2e_jax.render.splats.lists import Lists, make_lists
from s2e_jax.render.splats.options import WORD, SplatOptions
from s2e_jax.render.splats.project import NUM_FEATURES, geometry_of, project


@struct.dataclass
class SplatPictures:
  """B pictures of h x w pixels, not yet in front of anything.

  rgb: [B, h, w, 3] colour times coverage, sRGB in about 0..1. alpha: [B, h, w] coverage. depth: [B, h, w] m along
  the camera's axis times coverage: divide by alpha for the mean depth.
  """

  rgb: jax.Array
  alpha: jax.Array
  depth: jax.Array

  def before(self, background: jax.Array) -> jax.Array:
    """[B, h, w, 3] in front of a background that broadcasts against it."""
    return self.rgb + (1 - self.alpha[..., None]) * background


def draw_splats(
  scene: SplatScene,
  cameras: Cameras,
  options: SplatOptions,
  limit: jax.Array | None = None,
  wanted: jax.Array | None = None,
) -> SplatPictures:
  """Pictures of one scene from B cameras; pure, static shapes.

  limit: [B, h, w] m, depth from which on the scene is hidden, by things that are drawn otherwise (inf: by
  nothing). wanted: [B] bool, None for all; where pictures are drawn one after the other, as on CPUs, the others
  are empty and take no time, elsewhere all are drawn. Exact, or with a budget within what its coarser levels can
  tell; nothing in view is left out. Raises ValueError when the budget cannot hold the coarsest level.
  """
  check_budget(scene, options)
  scene = jax.tree.map(jnp.asarray, scene)
  is_together = jax.default_backend() != 'cpu' if options.together is None else options.together
  if not is_together and cameras.focal.shape[0] > 1:
    options = dataclasses.replace(options, together=True)

    def alone(given: tuple[Cameras, jax.Array | None]) -> SplatPictures:
      camera, hidden_from = jax.tree.map(lambda x: x[None], given)
      pictures = draw_splats(scene, camera, options, hidden_from)
      return jax.tree.map(lambda x: x[0], pictures)

    if wanted is None:
      return lax.map(alone, (cameras, limit))
    nothing = lambda given: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(alone, given))
    return lax.map(lambda given: lax.cond(given[0], alone, nothing, given[1]), (wanted, (cameras, limit)))

  def prepare(camera: Cameras) -> tuple[jax.Array, Lists]:
    units, is_drawn = choose_units(scene, camera, options)
    geometry = scene.geometry[units].transpose(1, 0, 2).reshape(scene.geometry.shape[1], -1)
    sh = scene.sh[units].transpose(1, 0, 2).reshape(scene.sh.shape[1], -1)
    geometry = geometry.at[9].multiply(jnp.repeat(is_drawn, WORD))
    return _sorted(geometry, sh, camera, options)

  features, lists = lax.map(prepare, cameras)
  return _blended(features, lists, options, limit)


def draw_gaussians(gaussians: Gaussians, cameras: Cameras, options: SplatOptions) -> SplatPictures:
  """Pictures of N gaussians (a multiple of WORD) from B cameras, exact, with gradients of every parameter.

  Raises ValueError for another N: pad with gaussians of opacity 0.
  """
  num = gaussians.mean.shape[0]
  if num % WORD:
    raise ValueError(f'{num} gaussians must be a multiple of {WORD}: pad with gaussians of opacity 0')
  geometry, sh = geometry_of(gaussians)
  features, lists = lax.map(lambda camera: _sorted(geometry, sh, camera, options), cameras)
  return _blended(features, lists, options, None)


def _sorted(geometry: jax.Array, sh: jax.Array, camera: Cameras, options: SplatOptions) -> tuple[jax.Array, Lists]:
  """Features [M, 12] of one camera's gaussians by depth, and the tiles' lists of them."""
  prints = project(geometry, sh, camera, options)
  order, lists = make_lists(prints, options)
  return prints.features[order], lists


def _blended(features: jax.Array, lists: Lists, options: SplatOptions, limit: jax.Array | None) -> SplatPictures:
  nothing = jnp.zeros((1, NUM_FEATURES))
  table = jnp.concatenate([features.reshape(-1, NUM_FEATURES), nothing])
  hidden_from = None if limit is None else to_tiles(limit, options)
  image = from_tiles(blend_tiles(table, lists, hidden_from, options), options)
  return SplatPictures(rgb=image[..., :3], alpha=image[..., 4], depth=image[..., 3])
