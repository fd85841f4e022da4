"""Open-loop evaluation of a policy on clips, beside the baselines: windows in, results and predictions out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from s2e_jax import mixture as mx
from s2e_jax.data.dataset import Dataset
from s2e_jax.data.loader import decode_frame
from s2e_jax.openloop import baselines, bootstrap, calibration, metrics
from s2e_jax.openloop.cases import Cases, batches, cut_cases
from s2e_jax.structs import DT, Observation, TrajectoryMixture

Predict = Callable[[Observation], TrajectoryMixture]

POLICIES = ('policy', 'policy_goal_free')
RIVALS = ('constant_velocity', 'straight_to_goal')  # what a policy that sees must beat


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """results: JSON-able. The rest is what pictures are made from: cases (with goals), mixtures and the modes [N]
  assigned to the truth by name of POLICIES, waypoints [N, H, 2] of every baseline, anchors [M, 2] (normalised)."""

  results: dict[str, Any]
  cases: Cases
  mixtures: dict[str, TrajectoryMixture]
  assigned: dict[str, np.ndarray]
  baselines: dict[str, np.ndarray]
  anchors: np.ndarray


def evaluate_openloop(
  predict: Predict,
  dataset: Dataset,
  clip_indices: Sequence[int],
  *,
  training_indices: Sequence[int],
  anchors: Any,
  num_history: int,
  image_height: int,
  image_width: int,
  horizon: int = 10,
  batch_size: int = 64,
  goal_s: float = 10.0,
  assignment: str = 'pred_direction',
  num_resamples: int = 1000,
  num_threads: int = 2,
) -> Evaluation:
  """Judges `predict` on every full window of the clips, with its goal and without.

  predict: Observation of `batch_size` windows -> mixture; jitted by the caller, always called with one shape.
  training_indices: clips that the two learning baselines may learn from (empty: they are left out).
  anchors: [M, 2] normalised; assignment: the rule of `mixture.assign` for calibration. goal_s: seconds from the
  present to the goal. num_resamples: of clips, for the intervals.
  Raises ValueError when no clip has a window, before anything is compiled.
  """
  for name, value in (('batch_size', batch_size), ('num_resamples', num_resamples)):
    if value < 1:
      raise ValueError(f'{name}={value} must be at least 1')
  cut = lambda which: cut_cases(dataset.clips, which, num_history, horizon, goal_s=goal_s)
  cases = cut(clip_indices)
  if not len(cases):
    raise ValueError(
      f'none of the {len(clip_indices)} clips holds a window: each needs {num_history} frames of history and '
      f'{horizon * DT:g} s of future at 4 Hz; use longer clips or another split'
    )
  others = baselines.predict_all(cases, cut(training_indices) if len(training_indices) else None)
  mixtures = _predictions(predict, dataset, cases, image_height, image_width, batch_size, num_threads)
  is_seen = jnp.ones(cases.waypoints.shape[:2], bool)
  target, _ = mx.normalise_targets(jnp.asarray(cases.waypoints), is_seen)
  anchors = np.asarray(anchors, np.float32)
  assign = jax.jit(lambda mixture: mx.assign(mixture, jnp.asarray(anchors), target, is_seen, assignment))
  assigned = {name: np.asarray(assign(mixture)) for name, mixture in mixtures.items()}
  results = summarise(dataset, cases, mixtures, assigned, others, num_resamples)
  results['settings'] = {
    'goal_s': goal_s,
    'assignment': assignment,
    'num_history': num_history,
    'horizon': horizon,
    'image_size': [image_height, image_width],
    'num_resamples': num_resamples,
  }
  return Evaluation(results, cases, mixtures, assigned, others, anchors)


def summarise(
  dataset: Dataset,
  cases: Cases,
  mixtures: dict[str, TrajectoryMixture],
  assigned: dict[str, np.ndarray],
  others: dict[str, np.ndarray],
  num_resamples: int,
) -> dict[str, Any]:
  """results.json's figures; see `Evaluation` for the arguments.

  groups: {'all' and every source: {'num_windows', 'num_clips', 'methods': {method: {metric: interval}},
  'gain': {policy: interval}}}, gain being the share by which its ADE is below the better of RIVALS.
  calibration: {policy: reliability, coverage per waypoint, mode statistics}. per_clip: ADE of every method, as
  it is and at the true speed, so that folds can be pooled.
  """
  methods = {
    name: (np.asarray(m.waypoints_in_robot), np.asarray(jax.nn.softmax(m.logits))) for name, m in mixtures.items()
  }
  methods |= {name: (w[:, None], np.ones((len(cases), 1))) for name, w in others.items()}
  values = {name: metrics.window_metrics(*method, cases.waypoints) for name, method in methods.items()}
  shares = {}
  for name, mixture in mixtures.items():
    more, shares[name] = calibration.window_calibration(mixture, cases.waypoints, assigned[name])
    values[name] |= more

  source = np.array([dataset.clips[i].source for i in cases.clip])
  sources = sorted(set(source.tolist()))
  groups = {'all': np.arange(len(cases))} | {s: np.flatnonzero(source == s) for s in sources}
  return {
    'is_synthetic': any(s.startswith('synthetic') for s in sources),
    'sources': sources,
    'num_windows': len(cases),
    'num_windows_with_goal': int(cases.has_goal.sum()),
    'num_clips': len(set(cases.clip)),
    'interval': f'{bootstrap.LEVEL:.0%} percentile bootstrap over clips',
    'groups': {name: _group(rows, cases, methods, values, num_resamples) for name, rows in groups.items()},
    'calibration': {
      name: {
        'coverage_by_waypoint': {key: share.mean(axis=0).tolist() for key, share in shares[name].items()},
        'reliability': calibration.reliability(methods[name][1], assigned[name]),
        'modes': calibration.mode_statistics(mixture, assigned[name]),
      }
      for name, mixture in mixtures.items()
    },
    'per_clip': {
      dataset.clips[i].clip_id: {
        'source': dataset.clips[i].source,
        'num_windows': int((cases.clip == i).sum()),
        **{
          key: {name: float(v[key][cases.clip == i].mean()) for name, v in values.items()}
          for key in ('ade', 'ade_at_true_speed')
        },
      }
      for i in sorted(set(cases.clip))
    },
  }


def _group(
  rows: np.ndarray,
  cases: Cases,
  methods: dict[str, tuple[np.ndarray, np.ndarray]],
  values: dict[str, dict[str, np.ndarray]],
  num_resamples: int,
) -> dict[str, Any]:
  """Intervals of every metric of every method on the windows `rows`."""
  clip, truth = cases.clip[rows], cases.waypoints[rows]
  ade = {name: v['ade'][rows] for name, v in values.items()}
  table = {}
  for name, (predicted, score) in methods.items():
    table[name] = {key: bootstrap.mean_interval(v[rows], clip, num_resamples) for key, v in values[name].items()}
    average_precision = metrics.MeanAveragePrecision(predicted[rows], score[rows], truth)
    table[name] |= bootstrap.weighted_intervals(average_precision, clip, min(num_resamples, 300))
  counts = np.bincount(metrics.bucket_of(truth), minlength=len(metrics.BUCKETS))
  return {
    'num_windows': len(rows),
    'num_clips': len(set(clip)),
    'buckets': dict(zip(metrics.BUCKETS, counts.tolist(), strict=True)),
    'methods': table,
    'gain': {
      name: bootstrap.gain_interval(ade[name], [ade[r] for r in RIVALS], clip, num_resamples)
      for name in POLICIES
      if name in ade
    },
  }


def _predictions(
  predict: Predict, dataset: Dataset, cases: Cases, height: int, width: int, batch_size: int, num_threads: int
) -> dict[str, TrajectoryMixture]:
  """Mixtures of numpy arrays over all windows, by name of POLICIES."""
  parts: dict[str, list[TrajectoryMixture]] = {name: [] for name in POLICIES}
  total = -(-len(cases) // batch_size)
  stream = _observations(dataset, cases, height, width, batch_size, num_threads)
  for observation, num_real in tqdm(stream, total=total, desc='open loop', unit='batch', mininterval=1.0):
    for name in POLICIES:
      shown = observation
      if name == 'policy_goal_free':
        shown = dataclasses.replace(observation, has_goal=np.zeros_like(observation.has_goal))
      found = jax.tree.map(lambda leaf, n=num_real: np.asarray(leaf, np.float32)[:n], predict(shown))
      parts[name].append(found)
  joined = {name: jax.tree.map(lambda *leaves: np.concatenate(leaves), *part) for name, part in parts.items()}
  for name, mixture in joined.items():
    if bad := [f for f, leaf in vars(mixture).items() if not np.isfinite(leaf).all()]:
      raise ValueError(f'{name} predicts values that are not finite in {bad}; evaluate another checkpoint')
  return joined


def _observations(
  dataset: Dataset, cases: Cases, height: int, width: int, batch_size: int, num_threads: int
) -> Iterator[tuple[Observation, int]]:
  """(padded observation of `batch_size` windows, number of real ones); every frame is decoded once."""
  images: dict[tuple[int, int], np.ndarray] = {}
  decoded = functools.partial(decode_frame, height=height, width=width)

  with ThreadPoolExecutor(num_threads) as pool:
    for rows, num_real in batches(len(cases), batch_size):
      keys = [[(int(cases.clip[row]), int(f)) for f in cases.history[row]] for row in rows]
      wanted = {key for history in keys for key in history}
      images = {key: image for key, image in images.items() if key in wanted}
      for clip in sorted({clip for clip, _ in wanted}):
        frames = sorted(f for c, f in wanted if c == clip and (c, f) not in images)
        for frame, image in zip(frames, pool.map(decoded, dataset.frames(clip, frames)), strict=True):
          images[clip, frame] = image
      leaves: Any = {
        'frames': np.stack([np.stack([images[key] for key in history]) for history in keys]),
        'goal_in_robot': cases.goal_in_robot[rows].astype(np.float32),
        'has_goal': cases.has_goal[rows],
      }
      yield Observation(**leaves), num_real
