"""Loader and train-step benchmarks at s2e_tiny's size, on the embedded synthetic video."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import Row, interleaved
from s2e_jax.data.dataset import Dataset, open_dataset
from s2e_jax.data.loader import Loader, make_loader
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.sim.demonstrations import DemoOptions, write_demonstrations
from s2e_jax.structs import Observation, TrajectoryMixture
from s2e_jax.training import optim, parallel
from s2e_jax.training.pretrain import LossOptions, make_train_step

SEGMENTS, WINDOWS = 16, 8  # the default batch of configs/pretrain.py


@functools.cache
def _dataset() -> Dataset:
  """A synthetic dataset of 16 expert drives, made once per process."""
  path = Path(tempfile.mkdtemp(prefix='s2e_jax_bench_')) / 'synthetic'
  write_demonstrations(path, 16, 0, DemoOptions(slots='small'), progress=False)
  return open_dataset(path)


def _loader(segments: int = SEGMENTS) -> Loader:
  """The training loader with the default augmentation."""
  config = policy_config('s2e_tiny')
  spec = SegmentSpec(num_history=config.num_history, num_windows=WINDOWS)
  dataset = _dataset()
  size = config.image_height, config.image_width
  return make_loader(dataset, dataset.clip_indices('train'), spec, *size, segments, seed=0, train=True)


def loader_images_per_s() -> Row:
  """Frames read, decoded, augmented and batched with labels, against a plain loop that only decodes them."""
  num_batches = 48
  loader = _loader()
  batch = next(loader)
  frames_per_batch = batch.frames.shape[0] * batch.frames.shape[1]
  dataset = _dataset()
  encoded = [frame for i, clip in enumerate(dataset.clips) for frame in dataset.frames(i, range(clip.num_frames))]
  sample = list(itertools.islice(itertools.cycle(encoded), num_batches * frames_per_batch))

  def ours() -> None:
    for _ in range(num_batches):
      next(loader)
    loader.close()  # or it would read ahead, at no cost to itself, while the baseline is timed

  def plain_loop() -> None:
    for start in range(0, len(sample), frames_per_batch):
      part = sample[start : start + frames_per_batch]
      np.stack([np.asarray(cv2.imdecode(np.frombuffer(j, np.uint8), cv2.IMREAD_COLOR_RGB)) for j in part])

  return interleaved(
    'loader_images_per_s',
    ours,
    plain_loop,
    work=len(sample),
    unit='images/s (64x128, augmented)',
    baseline_name='one-thread OpenCV decoding alone',
  )


class PerWindowPolicy(Policy):
  """The policy that encodes the K frames of every window apart, as pipelines do that store windows."""

  def segments(
    self, frames: jax.Array, goal_in_robot: jax.Array, has_goal: jax.Array, train: bool = False
  ) -> tuple[TrajectoryMixture, None]:
    """As `Policy.segments`, without sharing frames between windows."""
    num_windows = has_goal.shape[-1]
    stacks = [frames[:, k : k + num_windows] for k in range(self.config.num_history)]
    return self(Observation(jnp.stack(stacks, axis=2), goal_in_robot, has_goal), train), None


def train_step_images_per_s() -> Row:
  """One optimiser step on 16 segments of 8 windows, against the same step that encodes every window apart."""
  config = policy_config('s2e_tiny')
  with _loader(SEGMENTS * jax.device_count() // jax.process_count()) as loader:
    host_batch = next(loader)
  batch = parallel.shard(host_batch)
  variables = Policy(config).init(jax.random.key(0), example_observation(config))
  optimizer = optim.make_optimizer(variables['params'], 1000, 1e-3, 50, 1.0, 0.05)

  def stepper(policy: Policy):
    step = parallel.pmap(make_train_step(policy, optimizer, LossOptions()))
    state = parallel.replicate(optim.init_state(variables, optimizer))
    return lambda: step(state, batch)

  images = host_batch.frames.shape[0] * host_batch.frames.shape[1]
  return interleaved(
    'train_step_images_per_s',
    stepper(Policy(config, axis_name=parallel.AXIS)),
    stepper(PerWindowPolicy(config, axis_name=parallel.AXIS)),
    work=images,
    unit='images/s (s2e_tiny)',
    baseline_name='every window encoded apart',
  )
