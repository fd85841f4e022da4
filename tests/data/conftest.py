"""Small clips and datasets that the data tests share."""

import cv2
import numpy as np
import pytest
import simplejpeg

from s2e_jax.data.clips import Clip
from s2e_jax.data.dataset import DatasetWriter, open_dataset
from s2e_jax.structs import Camera, Footprint


def small_clip(clip_id='drive-0', num_frames=41, height=24, width=40, rate=4.0, seed=0, start=1_700_000_000.125):
  """A winding drive whose frame i is a smooth picture of its own."""
  rng = np.random.default_rng([seed, num_frames])
  coarse = rng.integers(0, 256, (num_frames, 3, 5, 3), dtype=np.uint8)
  frames = [
    simplejpeg.encode_jpeg(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), quality=90)
    for image in coarse
  ]
  stamps = start + np.arange(num_frames) / rate
  yaw = 0.3 + 0.8 * np.sin((stamps - start) / 3 + seed)
  step = (0.9 + 0.4 * np.cos(stamps - start)) / rate
  position = np.cumsum(np.stack([step * np.cos(yaw), step * np.sin(yaw)], axis=1), axis=0) + [431_000.5, -57.25]
  return Clip(
    clip_id=clip_id,
    source=f'source-{seed % 2}',
    licence='CC0-1.0',
    frames=frames,
    stamps=stamps,
    position=position,
    yaw=yaw,
    camera=Camera(width, height, 31.7, 30.3, 19.4, 12.1, 'pinhole', (0.01, -0.2), 0.31, 0.12, 0.05),
    footprint=Footprint(0.7, 0.45),
    embodiment='wheeled',
    is_rate_assumed=bool(seed % 2),
  )


@pytest.fixture(scope='session')
def make_clip():
  """The builder of small clips."""
  return small_clip


@pytest.fixture(scope='session')
def small_dataset(tmp_path_factory):
  """Dataset of 6 clips in 2 splits: lengths around a segment, several records per clip, one clip too short."""
  path = tmp_path_factory.mktemp('data') / 'small'
  writer = DatasetWriter(path, 'small', frames_per_record=16, max_shard_bytes=60_000)
  for seed, num_frames in enumerate((41, 23, 67, 12, 5)):
    writer.add(small_clip(f'set/drive-{seed}', num_frames, seed=seed), 'train')
  writer.add(small_clip('set/drive-9', 33, seed=9), 'test')
  writer.finish()
  return open_dataset(path)
