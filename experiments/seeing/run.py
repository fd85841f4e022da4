"""What the frozen features of a pretrained policy see: linear probes, and what other images do to it.

Run: python -m experiments.seeing.run --checkpoint=RUN --data=datasets/A,datasets/B,datasets/C [--json=PATH]
         [--reference=RUN]    how far the tokens are from those of this policy: what finetuning did to them
The datasets are expert drives, which know the distances ahead (python -m s2e_jax.demos). A probe is a ridge
regression on the context tokens of one half of the clips and is judged on the other half.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from scipy import stats

from s2e_jax.compilation import set_up_compilation
from s2e_jax.data.dataset import open_dataset
from s2e_jax.data.loader import make_loader
from s2e_jax.data.segments import SegmentPlan
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.policy import Policy
from s2e_jax.reporting import write_whole
from s2e_jax.structs import CLEARANCE_RANGE, SegmentBatch
from s2e_jax.training.restore import load_policy

NEAR = 3.0  # m: a sector is occupied where something is nearer
BLOCKED = 0.3  # m of mean distance between the expert's way and the straight line to the goal: it avoids something
_RIDGE = 1.0  # per sample, of standardised features
_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Seen:
  """N windows. context: [N, (K+1) D]. clearances: [N, S] m. clip: [N]. errors: ADE m of the best mode with its own
  images, `swapped` with those of another window; `straight` of waypoints straight at the goal.
  """

  context: np.ndarray
  clearances: np.ndarray
  clip: np.ndarray
  errors: np.ndarray
  swapped: np.ndarray
  straight: np.ndarray


def look(policy: Policy, variables: Any, path: Path, split: str, seed: int = 0) -> Seen:
  """Everything that is measured about the windows with a goal of one split of a dataset."""
  dataset, c = open_dataset(path), policy.config
  spec = SegmentSpec(c.num_history, 8, c.horizon, goal_dropout=0.0)
  clips = [i for i, clip in enumerate(dataset.clips) if clip.split == split]
  loader = make_loader(dataset, clips, spec, c.image_height, c.image_width, _BATCH, seed, train=False)

  @jax.jit
  def measure(batch: SegmentBatch, other: jax.Array) -> tuple[jax.Array, ...]:
    apply = functools.partial(policy.apply, variables)

    def judged(frames: jax.Array) -> tuple[jax.Array, jax.Array]:
      context: Any = apply(frames, batch.goal_in_robot, batch.has_goal, method='segment_contexts')
      found: Any = apply(context, method='decode')
      best = jnp.argmax(found.logits, axis=-1)[..., None, None, None]
      way = jnp.take_along_axis(found.waypoints_in_robot, best, axis=2)[:, :, 0]
      return context, _mean_distance(way, batch.waypoints_in_robot)

    context, errors = judged(batch.frames)
    _, swapped = judged(other)
    # straight at the goal, at the speed of the expert
    step = jnp.linalg.norm(batch.waypoints_in_robot[:, :, -1], axis=-1) / c.horizon
    along = step[..., None] * jnp.arange(1, c.horizon + 1)
    unit = batch.goal_in_robot / jnp.maximum(jnp.linalg.norm(batch.goal_in_robot, axis=-1, keepdims=True), 1e-6)
    straight = _mean_distance(along[..., None] * unit[:, :, None], batch.waypoints_in_robot)
    return context, errors, swapped, straight

  plan = SegmentPlan(dataset.clips, clips, spec, train=False, seed=seed)
  clip_of = np.array([plan.segment(0, i).clip_index for i in range(plan.num_segments)] + [-1] * _BATCH)
  rows: list[list[np.ndarray]] = []
  before: Any = None
  number = 0
  with loader:
    for batch in loader:
      # pictures of the batch before are of other clips
      other = batch.frames[::-1] if before is None else before
      context, errors, swapped, straight = (np.asarray(x) for x in measure(batch, other))
      keep = batch.window_mask & batch.has_goal & np.isfinite(batch.clearances).all(-1)
      clip = np.broadcast_to(clip_of[number : number + len(keep), None], keep.shape)
      columns = context.reshape(*keep.shape, -1), np.asarray(batch.clearances), clip, errors, swapped, straight
      rows.append([x[keep] for x in columns])
      before, number = batch.frames, number + len(keep)
  return Seen(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def _mean_distance(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.linalg.norm(a - b, axis=-1).mean(axis=-1)


def ridge(features: np.ndarray, targets: np.ndarray, is_train: np.ndarray) -> np.ndarray:
  """Predictions [N, T] of targets [N, T] by a linear map of features [N, F] that was fitted to some rows."""
  mean, std = features[is_train].mean(0), features[is_train].std(0) + 1e-6
  x = np.concatenate([(features - mean) / std, np.ones((len(features), 1))], axis=1)
  a, y = x[is_train], targets[is_train]
  weights = np.linalg.solve(a.T @ a + _RIDGE * len(a) * 1e-3 * np.eye(x.shape[1]), a.T @ y)
  return x @ weights


def area_under_curve(score: np.ndarray, truth: np.ndarray) -> float:
  """Probability that a positive scores above a negative (Mann and Whitney); NaN where one kind is missing."""
  if truth.all() or not truth.any():
    return float('nan')
  statistic = stats.mannwhitneyu(score[truth], score[~truth]).statistic
  return float(statistic / (truth.sum() * (~truth).sum()))


def probe(train: Seen, test: Seen) -> dict[str, float]:
  """Linear probes fitted to `train` and judged on `test` windows: AUC of occupied sectors, R2 of distances."""
  both = np.concatenate([train.context, test.context])
  is_train = np.arange(len(both)) < len(train.context)
  ways = np.log(np.maximum(np.concatenate([train.clearances, test.clearances]), 0.1))
  nearest = ways.min(axis=1, keepdims=True)
  occupied = (np.exp(ways) < NEAR).astype(float)
  told = ridge(both, np.concatenate([ways, nearest, occupied], axis=1), is_train)[~is_train]
  num = ways.shape[1]
  areas = [area_under_curve(told[:, num + 1 + s], occupied[~is_train, s] > 0) for s in range(num)]
  residual = ((told[:, num] - nearest[~is_train, 0]) ** 2).mean()
  return {
    'sector_auc': float(np.nanmean(areas)),
    'least_sector_auc': float(np.nanmin(areas)),
    'nearest_r2': float(1 - residual / nearest[~is_train].var()),
    'all_r2': float(1 - ((told[:, :num] - ways[~is_train]) ** 2).mean() / ways[~is_train].var(0).mean()),
  }


def drift(seen: Seen, reference: Seen) -> dict[str, float]:
  """How far context tokens are from those of another policy for the same windows.

  token_drift: mean distance between the two, over the mean spread of the reference's own tokens: 0 for the same
  tokens, about 1.4 for tokens of other windows. token_r2: share of the reference's variance that a linear map of
  the tokens gives back, fitted to one half of the clips and judged on the other: 1 where nothing was lost.
  """
  spread = np.linalg.norm(reference.context - reference.context.mean(axis=0), axis=1).mean()
  distance = np.linalg.norm(seen.context - reference.context, axis=1).mean()
  is_train = _fitted(seen)
  wanted = reference.context[~is_train]
  residual = ridge(seen.context, reference.context, is_train)[~is_train] - wanted
  return {
    'token_drift': float(distance / spread),
    'token_r2': float(1 - (residual**2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum()),
  }


def halves(seen: Seen) -> tuple[Seen, Seen]:
  """Two sets of windows that share no clip: probes are fitted to one and judged on the other."""
  is_train = _fitted(seen)
  pick = lambda mask: Seen(*(getattr(seen, f.name)[mask] for f in dataclasses.fields(Seen)))
  return pick(is_train), pick(~is_train)


def _fitted(seen: Seen) -> np.ndarray:
  """[N] which windows probes are fitted to: those of every second clip."""
  return seen.clip % 2 == 0


def check_reference(policy: PolicyConfig, reference: PolicyConfig) -> None:
  """Raises ValueError where the tokens of two policies for the same windows cannot be laid side by side."""
  for name in ('width', 'num_history', 'horizon'):
    own, other = getattr(policy, name), getattr(reference, name)
    if own != other:
      raise ValueError(
        f'--reference has {name}={other}, --checkpoint {own}: tokens are compared one by one; give a policy of '
        'the same shape'
      )


def main(argv: list[str]) -> None:
  """Prints and writes the table."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  set_up_compilation()
  given = flags.FLAGS
  policy, variables, description = load_policy(given.checkpoint, given.which)
  reference = load_policy(given.reference, given.which) if given.reference else None
  if reference is not None:
    check_reference(policy.config, reference[0].config)
  rows = []
  for path in map(Path, given.data):
    seen = look(policy, variables, path, given.split)
    train, test = halves(seen)
    blocked = seen.straight > BLOCKED
    own, other = seen.errors[blocked].mean(), seen.swapped[blocked].mean()
    drifted = {}
    if reference is not None:
      drifted = drift(seen, look(reference[0], reference[1], path, given.split))
    rows.append(
      {
        'data': path.name,
        'windows': len(seen.errors),
        **{name: round(value, 3) for name, value in (probe(train, test) | drifted).items()},
        'ade_m': round(float(seen.errors.mean()), 3),
        'straight_m': round(float(seen.straight.mean()), 3),
        'avoiding_windows': int(blocked.sum()),
        'avoiding_ade_m': round(float(own), 3),
        'avoiding_straight_m': round(float(seen.straight[blocked].mean()), 3),
        'other_images': round(float(other / own - 1), 3),
      }
    )
    print(rows[-1], flush=True)
  columns = list(rows[0])
  print('| ' + ' | '.join(columns) + ' |\n|---|' + '---:|' * (len(columns) - 1))
  for row in rows:
    print('| ' + ' | '.join(str(row[column]) for column in columns) + ' |')
  if given.json:
    about = {'checkpoint_step': description.get('step'), 'split': given.split, 'near_m': NEAR, 'rows': rows}
    write_whole(Path(given.json), json.dumps(about | {'range_m': CLEARANCE_RANGE}, indent=1) + '\n')


if __name__ == '__main__':
  flags.DEFINE_string('checkpoint', None, 'A run or a checkpoint.', required=True)
  flags.DEFINE_string('which', 'best', 'Of a run: best, latest or a step.')
  flags.DEFINE_string('reference', '', 'A run or a checkpoint of the same shape.')
  flags.DEFINE_list('data', None, 'Folders of expert drives.', required=True)
  flags.DEFINE_string('split', 'val', 'Of the datasets.')
  flags.DEFINE_string('json', '', 'File to write.')
  app.run(main)
