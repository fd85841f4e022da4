"""A small procedural navigation video with exact poses: the embedded default when no real data are given.

Run: python -m s2e_jax.data.synthetic --dst=FOLDER [--clips=72] [--seconds=30] [--seed=0] [--overwrite]

Streets, park paths and corridors with obstacles, seen by a level 95 degree camera 0.6 m above the ground, driven
at 0.3 to 1.4 m/s by an expert that follows the way as fast as such a way allows, passes obstacles early, slowly
and with room, and stands still for people who cross and works that close the way. It shows that the pipeline
works; it says nothing about real video.
"""

from __future__ import annotations

import argparse
import math
import os

import cv2
import numpy as np
import simplejpeg
from tqdm import tqdm

from s2e_jax.data.clips import Clip
from s2e_jax.data.dataset import DatasetWriter, Summary
from s2e_jax.data.street import drive, light, render
from s2e_jax.structs import Camera, Footprint

SOURCE = 'synthetic'
LICENCE = 'Apache-2.0 (generated)'
RATE = 4.0  # Hz
_VERSION = 2  # of the generated content: raise it when the same seed gives other clips
_HFOV = math.radians(95)
_MIN_SECONDS, _MAX_SECONDS = 3.0, 300.0
_QUALITY = 92


def synthetic_camera(height: int = 64, width: int = 128) -> Camera:
  """The camera of the generated video: level, 95 degrees wide, horizon a little above the middle."""
  focal = width / 2 / math.tan(_HFOV / 2)
  return Camera(
    width, height, focal, focal, width / 2, 0.42 * height, model='pinhole', mount_height=0.6, mount_forward=0.2
  )


def make_clip(index: int, seconds: float, seed: int, height: int = 64, width: int = 128) -> Clip:
  """Clip number `index` of the generated video; depends on these arguments alone."""
  rng = np.random.default_rng([seed, index])
  camera = synthetic_camera(height, width)
  street, things, run = drive.make_drive(seconds, RATE, rng)
  looks = light.make_looks(street.kind == 'corridor', rng)
  renderer = render.Renderer(street, things, camera, looks, run.position, rng)
  frames = [
    simplejpeg.encode_jpeg(np.ascontiguousarray(renderer.frame(*pose)), quality=_QUALITY, colorsubsampling='420')
    for pose in zip(run.position, run.yaw, run.stamps, strict=True)
  ]
  return Clip(
    clip_id=f'synthetic/{index:04d}_{street.kind}_{street.layout}',
    source=SOURCE,
    licence=LICENCE,
    frames=frames,
    stamps=run.stamps,
    position=run.position,
    yaw=run.yaw,
    camera=camera,
    footprint=Footprint(2 * drive.ROBOT_RADIUS, 2 * drive.ROBOT_RADIUS),
    embodiment='synthetic',
  )


def assign_splits(num_clips: int, seed: int) -> list[str]:
  """Split of each clip: a tenth (at least one) each for val and test, drawn at random, the rest for train."""
  num_held = max(1, round(0.1 * num_clips))
  splits = ['val'] * num_held + ['test'] * num_held + ['train'] * (num_clips - 2 * num_held)
  order = np.random.default_rng([seed, num_clips, 1]).permutation(num_clips)
  return [splits[i] for i in order]


def write_synthetic(
  path: str | os.PathLike,
  num_clips: int,
  seconds: float,
  seed: int,
  height: int = 64,
  width: int = 128,
  progress: bool = True,
  *,
  overwrite: bool = False,
) -> Summary:
  """Writes `num_clips` clips of `seconds` at 4 Hz as an internal dataset at `path`; same arguments, same bytes.

  Goes on where a killed call stopped. Raises ValueError when an argument breaks its rule or `path` holds a
  dataset already and `overwrite` is False.
  """
  if num_clips < 3:
    raise ValueError(f'num_clips={num_clips} must be at least 3, one each for train, val and test')
  if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
    raise ValueError(
      f'seconds={seconds} must be from {_MIN_SECONDS} (a window looks 2.5 s ahead) to {_MAX_SECONDS} (a street '
      'lies in memory); for more video raise num_clips'
    )
  if seed < 0:
    raise ValueError(f'seed={seed} must not be negative')
  if height < 16 or width < 16:
    raise ValueError(f'height={height}, width={width} must be at least 16 pixels')
  options = {
    'version': _VERSION,
    'num_clips': num_clips,
    'seconds': seconds,
    'seed': seed,
    'size': [height, width],
  }
  writer = DatasetWriter(path, 's2e_synthetic', overwrite=overwrite, options=options)
  splits = assign_splits(num_clips, seed)
  done = {clip_id.split('_')[0] for clip_id in writer.resumed}
  threads = cv2.getNumThreads()
  # Frames are far too small for OpenCV's own threads: handing out the work costs more than doing it.
  cv2.setNumThreads(1)
  try:
    for index in tqdm(range(num_clips), desc='synthetic video', unit='clip', disable=not progress):
      if f'synthetic/{index:04d}' not in done:
        writer.add(make_clip(index, seconds, seed, height, width), splits[index])
  finally:
    cv2.setNumThreads(threads)
  return writer.finish()


def main(argv: list[str] | None = None) -> None:
  """Command line; see the module."""
  parser = argparse.ArgumentParser(
    prog='python -m s2e_jax.data.synthetic', description='Write a small procedural navigation video.'
  )
  parser.add_argument('--dst', required=True, help='folder of the dataset to write')
  parser.add_argument('--clips', type=int, default=72, help='number of clips')
  parser.add_argument('--seconds', type=float, default=30.0, help='length of a clip')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--height', type=int, default=64, help='pixels')
  parser.add_argument('--width', type=int, default=128, help='pixels')
  parser.add_argument('--overwrite', action='store_true', help='replace a dataset that is there')
  args = parser.parse_args(argv)
  try:
    summary = write_synthetic(
      args.dst, args.clips, args.seconds, args.seed, args.height, args.width, overwrite=args.overwrite
    )
  except ValueError as error:
    parser.exit(2, f'error: {error}\n')
  hours = sum(summary.hours.values())
  print(f'{args.dst}: {args.clips} synthetic clips, {sum(summary.frames.values())} frames, {hours:.2f} h')


if __name__ == '__main__':
  main()
