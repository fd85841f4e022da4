"""Images/s of the loader alone, of the train step alone and of both together, and the share of time spent waiting.

Run: python -m experiments.throughput.run [--data=DATASET] [--rounds=5] [--steps=20] [--json=PATH]
Default batch of configs/pretrain.py at s2e_tiny (16 segments of 12 frames); without --data on synthetic video. The
three are timed in turn in every round, so that the ratios hold on a machine whose speed drifts.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from s2e_jax.data.dataset import open_dataset
from s2e_jax.data.loader import make_loader
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.sim.demonstrations import DemoOptions, write_demonstrations
from s2e_jax.training import optim, parallel
from s2e_jax.training.feed import Feed
from s2e_jax.training.pretrain import LossOptions, make_train_step

_DATA = flags.DEFINE_string('data', '', "Internal dataset; '' = synthetic video made for the occasion.")
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Rounds; medians are reported.')
_STEPS = flags.DEFINE_integer('steps', 20, 'Steps per measurement.')
_JSON = flags.DEFINE_string('json', '', 'File to write the result to.')
SEGMENTS, WINDOWS = 16, 8


def measure(data: Path, rounds: int, steps: int) -> dict[str, Any]:
  """Medians over rounds: images/s of loader, step and both; data-wait share; both / step alone."""
  config = policy_config('s2e_tiny')
  spec = SegmentSpec(num_history=config.num_history, num_windows=WINDOWS)
  dataset = open_dataset(data)
  size = config.image_height, config.image_width, SEGMENTS
  new_loader: Callable[[], Any] = lambda: make_loader(
    dataset, dataset.clip_indices('train'), spec, *size, seed=0, train=True
  )
  variables = Policy(config).init(jax.random.key(0), example_observation(config))
  optimizer = optim.make_optimizer(variables['params'], 10_000, 1e-3, 100, 1.0, 0.05)
  step = parallel.pmap(make_train_step(Policy(config, axis_name=parallel.AXIS), optimizer, LossOptions()))
  state = parallel.replicate(optim.init_state(variables, optimizer))
  loader, fed = new_loader(), new_loader()
  feed = Feed(fed, parallel.shard)
  batch = parallel.shard(next(loader))

  def load() -> float:
    """The same batches as the feed gives, up to the host array."""
    for _ in range(steps):
      next(loader)
    return 0.0

  def train() -> float:
    for _ in range(steps):
      out = step(state, batch)[1]
    jax.block_until_ready(out)
    return 0.0

  def both() -> float:
    feed.waited_s = 0.0
    for _ in range(steps):
      out = step(state, next(feed)[0])[1]
      jax.block_until_ready(out)
    return feed.waited_s

  for warm in (load, train, both):
    warm()
  times = np.zeros((rounds, 4))
  for r in range(rounds):
    for i, part in enumerate((load, train, both)):
      begin = time.perf_counter()
      waited = part()
      times[r, i] = time.perf_counter() - begin
    times[r, 3] = waited / times[r, 2]
    loader.close()  # otherwise it reads ahead while the others are timed
  feed.close()
  fed.close()
  images = steps * SEGMENTS * spec.num_frames
  rates = images / np.median(times[:, :3], axis=0)
  return {
    'loader_images_per_s': float(rates[0]),
    'step_images_per_s': float(rates[1]),
    'together_images_per_s': float(rates[2]),
    'together_over_step': float(np.median(times[:, 1] / times[:, 2])),
    'loader_over_step': float(np.median(times[:, 1] / times[:, 0])),
    'data_wait_share': float(np.median(times[:, 3])),
    'data_wait_share_worst': float(times[:, 3].max()),
  }


def main(argv: list[str]) -> None:
  """Prints and writes the result."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  logging.set_verbosity(logging.WARNING)
  with tempfile.TemporaryDirectory() as scratch:
    data = Path(_DATA.value) if _DATA.value else Path(scratch) / 'synthetic'
    if not _DATA.value:
      write_demonstrations(data, 16, 0, DemoOptions(slots='small'), progress=False)
    result = measure(data, _ROUNDS.value, _STEPS.value)
  device = jax.devices()[0].device_kind
  result |= {'hardware': f'{os.cpu_count()} cores, {jax.device_count()} x {device}', 'jax': jax.__version__}
  for name, value in result.items():
    print(f'{name:24s} {value:.3f}' if isinstance(value, float) else f'{name:24s} {value}')
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(result | {'date': time.strftime('%Y-%m-%d')}, indent=2) + '\n')


if __name__ == '__main__':
  app.run(main)
