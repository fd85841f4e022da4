"""A prepared scene as programs want it: walls, floor, light and splats, in shapes that several scenes share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.gaussians import SH_C0, Array, Gaussians
from s2e_jax.navbench.grid import filled_from_nearest
from s2e_jax.navbench.maps import Maps, distance_for_contact
from s2e_jax.navbench.scene_folder import PreparedScene
from s2e_jax.render.splats.hierarchy import SplatScene, make_splat_scene, padded_scene
from s2e_jax.scene import Light, Walls
from s2e_jax.worlds.builders import plain_light

NUM_FREE_POINTS = 512  # of the drivable region, between which people walk
_ALBEDO = 0.35  # linear, of a world that is grey on average
_EXPOSURES, _BALANCES = (0.35, 1.6), (0.75, 1.35)  # beyond these the guess is not trusted
_EYE = 2.0  # m: gaussians above this do not count for the light


@struct.dataclass
class Scenery:
  """What all episodes of one scene share.

  splats: what is drawn. walls: what is touched. floor: [I, J] m, height of the ground at the middles of the walls'
  cells. free_points: [F, 2] m, places where people may walk. light: for things and people in the scene.
  """

  splats: SplatScene
  walls: Walls
  floor: Array
  free_points: Array
  light: Light


def free_points(maps: Maps, num: int = NUM_FREE_POINTS, seed: int = 0) -> np.ndarray:
  """[num, 2] float32 m, cell centres spread over the drivable region, drawn from the seed."""
  cells = np.argwhere(maps.drivable)
  rng = np.random.default_rng(seed)
  chosen = rng.choice(len(cells), num, replace=len(cells) < num)
  return maps.grid.centres(cells[chosen]).astype(np.float32)


def light_of(gaussians: Gaussians) -> Light:
  """Exposure and white balance at which things look as bright and as warm as the scene around them.

  Takes the world to be grey on average. Most light comes from above, as under clouds or lamps.
  """
  scale = np.sort(np.asarray(gaussians.scale), axis=1)
  weight = np.asarray(gaussians.opacity) * scale[:, 1] * scale[:, 2]
  is_low = np.abs(np.asarray(gaussians.mean)[:, 2]) < _EYE
  weight = np.where(is_low, np.minimum(weight, np.quantile(weight, 0.99)), 0)
  colour = np.clip(0.5 + SH_C0 * np.asarray(gaussians.sh)[:, 0], 0, 1)
  gain = (weight[:, None] * colour**2.2).sum(0) / max(weight.sum(), 1e-12) / _ALBEDO
  exposure = float(np.clip(gain.mean(), *_EXPOSURES))
  balance = np.clip(gain / max(gain.mean(), 1e-6), *_BALANCES)
  light = plain_light()
  return dataclasses.replace(
    light,
    sun=jnp.array([0.2, -0.3, 0.93]),
    sun_strength=jnp.float32(0.45),
    ambient=jnp.float32(0.75),
    exposure=jnp.float32(exposure),
    white_balance=jnp.asarray(balance, jnp.float32),
  )


def make_sceneries(scenes: Sequence[PreparedScene], lights: Sequence[Light | None] | None = None) -> list[Scenery]:
  """Sceneries of prepared scenes, all of the same shapes, so that one program serves them all.

  lights: of scenes that know theirs, else it is guessed. What is added lies inside walls or is never in view.
  Raises ValueError when there is no scene, or cells differ in size.
  """
  if not scenes:
    raise ValueError('0 scenes: name at least one')
  cells = {scene.name: scene.maps.grid.cell for scene in scenes}
  if len(set(cells.values())) > 1:
    raise ValueError(f'cells of {cells} m differ: prepare the scenes again with one --cell')
  shape = tuple(max(scene.maps.grid.shape[k] for scene in scenes) for k in range(2))
  splats = [make_splat_scene(scene.gaussians) for scene in scenes]
  depth = max(len(s.levels) for s in splats)
  levels = tuple(max(s.levels[k] if k < len(s.levels) else 0 for s in splats) for k in range(depth))
  lights = [None] * len(scenes) if lights is None else lights
  sceneries = []
  for scene, own, light in zip(scenes, splats, lights, strict=True):
    maps = scene.maps
    pad = [(0, most - num) for most, num in zip(shape, maps.grid.shape, strict=True)]
    sceneries.append(
      Scenery(
        splats=padded_scene(own, levels),
        walls=Walls(
          distance=jnp.asarray(np.pad(distance_for_contact(maps), pad, constant_values=-maps.grid.cell)),
          origin=jnp.asarray(maps.grid.centres(np.zeros(2, int)), jnp.float32),
          cell=jnp.float32(maps.grid.cell),
        ),
        floor=np.pad(filled_from_nearest(maps.ground, maps.is_seen), pad, mode='edge'),
        free_points=free_points(maps),
        light=light_of(scene.gaussians) if light is None else light,
      )
    )
  return sceneries
