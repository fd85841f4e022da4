"""A dataset and a config small enough to train on within a test."""

import numpy as np
import pytest
import simplejpeg

from configs import pretrain as pretrain_config
from s2e_jax.data import dataset as dataset_lib
from s2e_jax.data.clips import Clip
from s2e_jax.structs import Camera

HEIGHT, WIDTH = 16, 32


def drive(clip_id, seed, num_frames=40, turn=0.0):
  """A clip whose pictures show how fast the robot turns: the left half darkens with it."""
  rng = np.random.default_rng(seed)
  stamps = 0.25 * np.arange(num_frames)
  yaw = turn * stamps
  speed = 0.8
  steps = 0.25 * speed * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
  position = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
  frames = []
  for _ in range(num_frames):
    image = rng.integers(100, 120, (HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 2] += np.uint8(60 + 200 * turn)
    frames.append(simplejpeg.encode_jpeg(image, quality=95))
  return Clip(
    clip_id=clip_id, source='drawn', licence='none', frames=frames, stamps=stamps,
    position=position.astype(np.float32), yaw=yaw.astype(np.float32), camera=Camera.guess(WIDTH, HEIGHT),
  )  # fmt: skip


@pytest.fixture(scope='session')
def drawn_dataset(tmp_path_factory):
  """Folder of an internal dataset of 6 training, 2 validation and 1 test clips."""
  path = tmp_path_factory.mktemp('drawn') / 'data'
  writer = dataset_lib.DatasetWriter(path, 'drawn')
  for i in range(9):
    split = 'train' if i < 6 else 'val' if i < 8 else 'test'
    writer.add(drive(f'drive_{i}', i, turn=(-0.2, 0.0, 0.2)[i % 3]), split)
  writer.finish()
  return path


@pytest.fixture(scope='session')
def make_config(drawn_dataset):
  """make_config(**{'train.keep': 1}) -> locked config: 12 steps, 8 segments each, a few thousand parameters."""

  def make(data=None, **leaves):
    config = pretrain_config.get_config(f'data={drawn_dataset if data is None else data},steps=12,batch=8')
    small = dict(
      image_height=HEIGHT, image_width=WIDTH, num_history=3, width=16, num_context_layers=1, num_decoder_layers=1,
      num_heads=2, mlp_dim=24, num_anchors=4,
    )  # fmt: skip
    config.policy.update(small)
    config.window.num_windows = 4
    config.data.update(num_threads=1, prefetch=2)
    config.train.update(log_every=2, eval_every=4, checkpoint_every=3, keep=2)
    config.update_from_flattened_dict(leaves)
    return config

  return make
