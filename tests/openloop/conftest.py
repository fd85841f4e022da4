"""A small dataset of two sources whose frames say which clip and frame they are."""

import numpy as np
import pytest
import simplejpeg

from s2e_jax.data.clips import Clip
from s2e_jax.data.dataset import DatasetWriter, open_dataset
from s2e_jax.structs import Camera

HEIGHT, WIDTH = 16, 24


def marked_clip(number, num_frames=32, rate=4.0):
  """Frame i of clip `number` is one colour: red 20 times the number, green 4 times i."""
  t = np.arange(num_frames) / rate
  yaw = 0.5 + 0.15 * (number - 2) * t
  speed = 0.5 + 0.25 * number
  steps = np.stack([np.cos(yaw), np.sin(yaw)], -1) * speed / rate
  image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  frames = []
  for i in range(num_frames):
    image[..., 0], image[..., 1] = 20 * number, 4 * i
    frames.append(simplejpeg.encode_jpeg(image, quality=98, colorsubsampling='444'))
  return Clip(
    clip_id=f'set/{number}',
    source=f'source_{number % 2}',
    licence='CC0-1.0',
    frames=frames,
    stamps=1000.0 + t,
    position=np.cumsum(steps, axis=0),
    yaw=yaw,
    camera=Camera.guess(WIDTH, HEIGHT, mount_height=0.4),
    is_rate_assumed=number == 4,
  )


@pytest.fixture(scope='session')
def marked_dataset(tmp_path_factory):
  """Clips 0-4 train, 5 val, 6-8 test; of sources source_0 and source_1."""
  path = tmp_path_factory.mktemp('openloop') / 'marked'
  writer = DatasetWriter(path, 'marked')
  for number in range(9):
    writer.add(marked_clip(number), 'train' if number < 5 else 'val' if number == 5 else 'test')
  writer.finish()
  return open_dataset(path)
