"""Clips of smooth random pictures along winding drives: enough to exercise the machinery, nothing to learn."""

from __future__ import annotations

import os

import cv2
import numpy as np
import simplejpeg

from s2e_jax.data.clips import Clip
from s2e_jax.data.dataset import DatasetWriter, Summary
from s2e_jax.structs import DT, Camera

SPLITS = ('train', 'train', 'train', 'train', 'val', 'test')


def write_drawn(
  path: str | os.PathLike, num_clips: int, seconds: float, seed: int, height: int, width: int
) -> Summary:
  """Writes `num_clips` clips of `seconds` at 4 Hz as an internal dataset at `path`; same arguments, same bytes."""
  writer = DatasetWriter(path, 'drawn')
  for i in range(num_clips):
    rng = np.random.default_rng([seed, i])
    length = round(seconds / DT)
    coarse = rng.integers(0, 256, (length, 6, 10, 3), dtype=np.uint8)
    stamps = np.arange(length) * DT
    yaw = rng.uniform(-3, 3) + 0.8 * np.sin(stamps / 3 + i)
    step = (0.9 + 0.4 * np.cos(stamps + i)) * DT
    writer.add(
      Clip(
        clip_id=f'drawn/{i:04d}',
        source='drawn',
        licence='Apache-2.0 (generated)',
        frames=[
          simplejpeg.encode_jpeg(
            np.ascontiguousarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)), quality=90
          )
          for image in coarse
        ],
        stamps=stamps,
        position=np.cumsum(np.stack([step * np.cos(yaw), step * np.sin(yaw)], axis=1), axis=0),
        yaw=yaw,
        camera=Camera.guess(width, height),
      ),
      SPLITS[i % len(SPLITS)],
    )
  return writer.finish()
