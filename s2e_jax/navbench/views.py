"""Eye-level pictures of a prepared scene: what robots will see at the starts of its episodes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib import image

from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.fit import pictures
from s2e_jax.navbench.scene_folder import PreparedScene
from s2e_jax.render.compose import to_bytes
from s2e_jax.render.view import View, view_of
from s2e_jax.reporting import write_whole
from s2e_jax.robots import ROBOTS, CameraMount
from s2e_jax.worlds.builders import mount_of

NUM_VIEWS = 12
_SKY = (0.75, 0.82, 0.9)
VIEWS_FILE = 'views.png'


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
  floor = scene.maps.grid.sample(scene.maps.ground, place)
  return view_of(mount_of(mount), *(jnp.asarray(x, jnp.float32) for x in (place, yaws, floor)))


def write_views(
  scene: PreparedScene, episodes: Mapping[str, Sequence[PlannedEpisode]], folder: Path, num: int = NUM_VIEWS
) -> list[Path]:
  """Writes a sheet of `num` (even) views along the ways of the first task's episodes and returns [its path]."""
  planned = next(iter(episodes.values()))
  views = views_along_ways(scene, planned, num, ROBOTS['delivery'].mount)
  shots = to_bytes(pictures(scene.gaussians, views, 192, 384).before(jnp.array(_SKY)))
  columns = 3 if num % 3 == 0 else 2
  rows = [np.concatenate(list(shots[k : k + columns]), axis=1) for k in range(0, num - num % columns, columns)]
  content = io.BytesIO()
  image.imsave(content, np.concatenate(rows, axis=0), format='png')
  return [write_whole(folder / VIEWS_FILE, content.getvalue())]
