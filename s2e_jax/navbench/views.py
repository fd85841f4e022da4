"""Eye-level pictures of a prepared scene: what robots will see at the starts of its episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import image

from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.scene_folder import PreparedScene
from s2e_jax.render.compose import to_bytes
from s2e_jax.render.splats.cameras import cameras_of
from s2e_jax.render.splats.draw import draw_splats
from s2e_jax.render.splats.hierarchy import SplatScene, make_splat_scene
from s2e_jax.render.splats.options import SplatOptions
from s2e_jax.render.view import View
from s2e_jax.robots import ROBOTS, CameraMount

NUM_VIEWS = 12
_SKY = (0.75, 0.82, 0.9)
VIEWS_FILE = 'views.png'


def view_at(places: np.ndarray, yaw: np.ndarray, floor: np.ndarray, mount: CameraMount) -> View:
  """Views of robots at places [B, 2] m with headings yaw [B] rad on a floor [B] m, camera as mounted."""
  ahead = mount.forward * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
  position = np.concatenate([places + ahead, (floor + mount.height)[:, None]], axis=1)
  num = len(places)
  return View(
    position=jnp.asarray(position, jnp.float32),
    yaw=jnp.asarray(yaw, jnp.float32),
    tan_pitch=jnp.full(num, math.tan(mount.pitch)),
    half_width=jnp.full(num, math.tan(mount.hfov / 2)),
  )


def views_along_ways(
  scene: PreparedScene, episodes: Sequence[PlannedEpisode], num: int, mount: CameraMount
) -> View:
  """`num` views from places along the ways of the episodes, spread evenly, looking ahead."""
  places, yaws = [], []
  for k in range(num):
    way = np.array(episodes[k % len(episodes)].way)
    step = np.linalg.norm(np.diff(way, axis=0), axis=1)
    at = (k // len(episodes) + 0.3) / (num // len(episodes) + 1) * step.sum()
    i = min(int(np.searchsorted(np.cumsum(step), at)), len(step) - 1)
    share = (at - step[:i].sum()) / max(step[i], 1e-6)
    places.append(way[i] + share * (way[i + 1] - way[i]))
    yaws.append(np.arctan2(*(way[i + 1] - way[i])[::-1]))
  place = np.array(places)
  return view_at(place, np.array(yaws), scene.maps.grid.sample(scene.maps.ground, place), mount)


def draw_views(splats: SplatScene, views: View, height: int, width: int, chunk: int = 2) -> np.ndarray:
  """[B, h, w, 3] uint8 of the splats alone before a pale sky, `chunk` cameras at once."""
  options = SplatOptions(height, width, tile=16)
  draw = jax.jit(lambda scene, cameras: to_bytes(draw_splats(scene, cameras, options).before(jnp.array(_SKY))))
  splats = jax.tree.map(jnp.asarray, splats)
  pictures = []
  for first in range(0, views.yaw.shape[0], chunk):
    part = jax.tree.map(lambda x, first=first: x[first : first + chunk], views)
    pictures.append(np.asarray(draw(splats, cameras_of(part, height, width))))
  return np.concatenate(pictures)


def write_views(
  scene: PreparedScene, episodes: Mapping[str, Sequence[PlannedEpisode]], folder: Path, num: int = NUM_VIEWS
) -> list[Path]:
  """Writes a sheet of `num` (even) views along the ways of the first task's episodes and returns [its path]."""
  planned = next(iter(episodes.values()))
  views = views_along_ways(scene, planned, num, ROBOTS['delivery'].mount)
  pictures = draw_views(make_splat_scene(scene.gaussians, with_levels=False), views, 192, 384)
  columns = 3 if num % 3 == 0 else 2
  rows = [np.concatenate(list(pictures[k : k + columns]), axis=1) for k in range(0, num - num % columns, columns)]
  path = folder / VIEWS_FILE
  temporary = path.with_name(path.name + '.tmp')
  image.imsave(temporary, np.concatenate(rows, axis=0), format='png')
  temporary.replace(path)
  return [path]
