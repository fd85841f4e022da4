"""Which clips of a dataset are judged, which the learning baselines learn from, and what a reader must know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from s2e_jax.data.dataset import Dataset, fold_split

PARTS = ('train', 'val', 'test')


@dataclasses.dataclass(frozen=True)
class Selection:
  """evaluated, training: indices into dataset.clips. label: what is evaluated, in words. notes: caveats."""

  evaluated: list[int]
  training: list[int]
  label: str
  notes: list[str]


def choose_clips(
  dataset: Dataset,
  description: Mapping[str, Any],
  split: str = '',
  folds: int | None = None,
  fold: int | None = None,
) -> Selection:
  """The clips to judge a checkpoint on.

  description: of the checkpoint; of it are used data.content_hash, data.train_clips, data.val_clips and, where
  `folds` and `fold` are None, config.data.folds and config.data.fold.
  split: 'train', 'val', 'test' (of the dataset, or of the fold if there are folds) or 'all'; '' = 'test', else
  'val', and 'all' for a dataset that the checkpoint was not trained on.
  Raises ValueError when the split does not exist, or when only clips trained on are left to choose from.
  """
  trained_on, recorded = description['data'], description.get('config', {}).get('data', {})
  is_own = dataset.content_hash == trained_on['content_hash']
  if folds is None and is_own:
    folds, fold = recorded.get('folds', 0), recorded.get('fold', 0) if fold is None else fold
  if split not in ('', 'all', *PARTS):
    raise ValueError(f"config.data.split={split!r} must be one of {PARTS}, 'all' or ''")
  if folds and folds > 1:
    parts = {
      name: dataset.indices_of(ids) for name, ids in fold_split(dataset.clip_ids(), folds, fold or 0).items()
    }
    where = f' of fold {fold or 0} of {folds}'
  else:
    parts, where = {name: dataset.clip_indices(name) for name in dataset.splits}, ''
    if not split and not is_own:
      split = 'all'
  if not split:
    split = next((name for name in ('test', 'val') if parts.get(name)), '')
    if not split:
      raise ValueError(
        f'{dataset.path} has only clips that the checkpoint was trained on; cross-validate (train and evaluate '
        'with config.data.folds), give other data with config.data.path, or ask for those with '
        'config.data.split=train'
      )
  if split != 'all' and not parts.get(split):
    raise ValueError(
      f'config.data.split={split!r} has no clips in {dataset.path}; it has {sorted(p for p in parts if parts[p])}'
    )
  evaluated = list(range(len(dataset.clips))) if split == 'all' else parts[split]
  known = set(dataset.clip_ids())
  if is_own:
    training = dataset.indices_of(i for i in trained_on['train_clips'] if i in known)
  else:
    training = [i for i in parts.get('train', []) if i not in set(evaluated)]
  label = 'all clips' if split == 'all' else f'the {split} clips{where}'
  return Selection(evaluated, training, label, _notes(dataset, evaluated, trained_on if is_own else {}))


def _notes(dataset: Dataset, evaluated: list[int], trained_on: Mapping[str, Any]) -> list[str]:
  clips = [dataset.clips[i] for i in evaluated]
  notes = []
  if seen := {clip.clip_id for clip in clips} & set(trained_on.get('train_clips', ())):
    notes.append(
      f'{len(seen)} of these {len(clips)} clips were trained on: the figures show fit, not generalisation.'
    )
  if seen := {clip.clip_id for clip in clips} & set(trained_on.get('val_clips', ())):
    notes.append(f'{len(seen)} of these {len(clips)} clips chose the checkpoint: its figures are flattered.')
  if assumed := sum(clip.is_rate_assumed for clip in clips):
    notes.append(f'{assumed} of these {len(clips)} clips have no time stamps: speeds follow from an assumed rate.')
  if scaleless := sum(not clip.is_metric for clip in clips):
    notes.append(f'{scaleless} of these {len(clips)} clips are not known to be in metres.')
  return notes
