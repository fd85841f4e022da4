"""What a pretraining run learns from: the dataset, its parts, its loaders, and how a checkpoint describes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from s2e_jax.contracts import camera_contract
from s2e_jax.data import windows
from s2e_jax.data.dataset import Dataset, fold_split, open_dataset, share_of
from s2e_jax.data.loader import make_loader
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.structs import MIN_STEP_LENGTH
from s2e_jax.training import parallel

SYNTHETIC_FOLDER = 'synthetic_data'
VAL_SEED = 0  # validation must be the same for every run, or best checkpoints could not be compared


@dataclasses.dataclass(frozen=True)
class Source:
  """An open dataset and the clips (indices into dataset.clips) that train and that choose the best checkpoint."""

  dataset: Dataset
  train: list[int]
  val: list[int]


def segment_spec(config: ConfigDict, policy: PolicyConfig) -> SegmentSpec:
  """How this run cuts windows."""
  return SegmentSpec(num_history=policy.num_history, horizon=policy.horizon, **config.window.to_dict())


def open_source(config: ConfigDict, workdir: Path, height: int, width: int) -> Source:
  """Opens config.data.path, or drives (once) the embedded synthetic video of height x width under `workdir`.

  Raises ValueError when there is no dataset, one of its parts is empty, or config.data.train_share
  is not in (0, 1].
  """
  path = Path(config.data.path) if config.data.path else workdir / SYNTHETIC_FOLDER
  if not config.data.path:
    logging.info('config.data.path is empty: the run uses SYNTHETIC video in %s', path)
    if jax.process_index() == 0 and not (path / 'dataset_info.json').exists():
      # the simulator takes seconds to import, and a dataset that is there does without it
      from s2e_jax.sim.demonstrations import DemoOptions, write_demonstrations

      synthetic = config.synthetic.to_dict()
      num_clips, seed = synthetic.pop('num_clips'), synthetic.pop('seed')
      options = DemoOptions(height=height, width=width, **synthetic)
      write_demonstrations(path, num_clips, seed, options)
    parallel.meet()
  dataset = open_dataset(path)
  data = config.data
  if data.folds > 1:
    folds = fold_split(dataset.clip_ids(), data.folds, data.fold)
    train, val = dataset.indices_of(folds['train']), dataset.indices_of(folds['val'])
    return Source(dataset, _share(dataset, train, data.train_share), val)
  for name in ('split_train', 'split_val'):
    if data[name] not in dataset.splits:
      raise ValueError(
        f'config.data.{name}={data[name]!r} must be one of the splits of {path}, {dataset.splits}; name another '
        'one, or cross-validate by clip with config.data.folds'
      )
  train = _share(dataset, dataset.clip_indices(data.split_train), data.train_share)
  return Source(dataset, train, dataset.clip_indices(data.split_val))


def _share(dataset: Dataset, clips: list[int], share: float) -> list[int]:
  """Those of the clips that `share_of` draws, in their order."""
  chosen = set(share_of([dataset.clips[i].clip_id for i in clips], share))
  return [i for i in clips if dataset.clips[i].clip_id in chosen]


def end_points(source: Source, spec: SegmentSpec) -> np.ndarray:
  """Normalised end points [n, 2] of every whole training window: what k-means anchors are computed from."""
  rng = np.random.default_rng(0)
  found = []
  for index in source.train:
    clip = source.dataset.clips[index]
    labels = windows.segment_labels(clip, windows.frame_grid(clip.stamps, spec.dt), spec, rng)
    waypoints, _ = windows.normalise(labels['waypoints_in_robot'], labels['waypoint_mask'])
    found.append(waypoints[labels['waypoint_mask'].all(axis=-1), -1])
  return np.concatenate(found)


def train_loader(source: Source, spec: SegmentSpec, policy: PolicyConfig, config: ConfigDict) -> Any:
  """Endless loader of this process's share of every training batch."""
  return _loader(source, source.train, spec, policy, config, config.seed, True)


def val_loader(source: Source, spec: SegmentSpec, policy: PolicyConfig, config: ConfigDict) -> Any:
  """One fixed pass over this process's share of the validation part."""
  return _loader(source, source.val, spec, policy, config, VAL_SEED, False)


def _loader(
  source: Source,
  clips: list[int],
  spec: SegmentSpec,
  policy: PolicyConfig,
  config: ConfigDict,
  seed: int,
  train: bool,
) -> Any:
  return make_loader(
    source.dataset,
    clips,
    spec,
    policy.image_height,
    policy.image_width,
    config.train.batch_segments // jax.process_count(),
    seed,
    train=train,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
    prefetch=config.data.prefetch,
    flip_prob=config.data.flip_prob,
    photometric=config.data.photometric,
    hue=config.data.hue,
  )


def describe(source: Source, spec: SegmentSpec, policy: PolicyConfig) -> dict[str, Any]:
  """JSON-able data, camera and normalisation parts of a checkpoint's description."""
  clips = [source.dataset.clips[i] for i in [*source.train, *source.val]]
  sources = sorted({clip.source for clip in clips})
  return {
    'data': {
      'path': str(source.dataset.path),
      'content_hash': source.dataset.content_hash,
      'sources': sources,
      'is_synthetic': all(source.startswith('synthetic') for source in sources),
      'licences': sorted({clip.licence for clip in clips}),
      'is_metric': all(clip.is_metric for clip in clips),
      'is_rate_assumed': any(clip.is_rate_assumed for clip in clips),
      'embodiments': sorted({clip.embodiment for clip in clips}),
      'train_clips': [source.dataset.clips[i].clip_id for i in source.train],
      'val_clips': [source.dataset.clips[i].clip_id for i in source.val],
    },
    'camera_contract': camera_contract(
      policy.image_height, policy.image_width, policy.num_history, 1.0 / spec.dt, (clip.camera for clip in clips)
    ),
    'normalisation': {
      'waypoint_unit': "mean length of the window's true steps, in metres",
      'min_step_length_m': MIN_STEP_LENGTH,
      'dt_s': spec.dt,
      'horizon': spec.horizon,
      'image_mean': list(policy.image_mean),
      'image_std': list(policy.image_std),
    },
  }
