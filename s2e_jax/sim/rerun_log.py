"""Episodes as a recording for the rerun viewer; an extra, where `rerun-sdk` is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from s2e_jax.render import topview
from s2e_jax.sim.drives import Drives
from s2e_jax.sim.film import scene_at
from s2e_jax.structs import DT


def is_available() -> bool:
  """Whether rerun is installed."""
  return importlib.util.find_spec('rerun') is not None


def write(path: str | Path, drives: Drives) -> None:
  """Writes drives (on the host) as one .rrd file: camera, map, tracks, commands and rewards of every episode."""
  import rerun as rr

  recording = rr.RecordingStream('s2e_jax')
  recording.save(str(path))
  for b in range(drives.has_arrived.shape[0]):
    root = f'episode_{b}'
    length = int(drives.is_active[:, b].sum())
    scene = scene_at(drives, b)
    view = topview.view_of_world(scene)
    recording.log(f'{root}/map', rr.Image(topview.draw_map(scene, view)), static=True)
    recording.log(f'{root}/map/goal', rr.Points2D([view.pixels(drives.goal[b])], radii=[6.0]), static=True)
    recording.log(f'{root}/map/route', rr.LineStrips2D([view.pixels(drives.route[b])]), static=True)
    for t in range(length):
      recording.set_time('episode_time', duration=t * DT)
      recording.log(f'{root}/camera', rr.Image(drives.frames[t, b]).compress(jpeg_quality=90))
      recording.log(f'{root}/map/robot', rr.LineStrips2D([view.pixels(drives.position[: t + 1, b])]))
      people = drives.people[t, b][drives.is_person[t, b]]
      recording.log(f'{root}/map/people', rr.Points2D(view.pixels(people), radii=[4.0]))
      for name, value in (('speed', drives.speed[t, b]), ('turn', drives.command[t, b, 1])):
        recording.log(f'{root}/command/{name}', rr.Scalars(float(value)))
      for name, value in drives.reward_terms.items():
        recording.log(f'{root}/rewards/{name}', rr.Scalars(float(np.asarray(value)[t, b])))
