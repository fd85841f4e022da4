"""Checkpoints that describe themselves: atomic, asynchronous, the newest few and the best one kept apart.

On disk, one folder per step: every named tree as an Orbax item (`policy`, `trainer`, ...) beside `description`,
a JSON item that says what the arrays are. Orbax writes into a temporary folder and renames it when all of it is
there, so a folder named by a bare step number is whole; old ones are renamed away before they are deleted, so a
deletion that is cut short leaves no half folder either. Several processes must share the file system.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from s2e_jax import trees

DESCRIPTION = 'description'
_TRASH = '.trash'


class SaveError(OSError):
  """A checkpoint could not be written; the ones before it are intact."""


class MismatchError(ValueError):
  """A checkpoint does not fit what it is loaded into."""


def to_nested(tree: Any) -> dict[str, Any]:
  """`tree` as nested dicts of host arrays, one level per path part: the form that is stored.

  Leaves become numpy arrays of their own (several processes may not store host-local jax arrays, and a caller may
  donate its buffers while an asynchronous save is still writing). Raises ValueError for a leaf without elements.
  """
  nested: dict[str, Any] = {}
  for key_path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    *parents, name = trees.path_of(key_path).split('/')
    array = np.array(leaf)
    if array.size == 0:
      raise ValueError(f'{trees.path_of(key_path)} has shape {array.shape}: empty arrays cannot be stored')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = array
  return nested


def fit(stored: Any, like: Any, where: str) -> Any:
  """Stored nested dicts in the structure of `like` (arrays or jax.ShapeDtypeStruct).

  Raises MismatchError that lists every path that is missing, unknown, or of another shape or dtype.
  """
  have = dict(zip(trees.paths(stored), jax.tree.leaves(stored), strict=True))
  want = dict(zip(trees.paths(like), jax.tree.leaves(like), strict=True))
  lines = [f'missing in the checkpoint: {p} {_kind(want[p])}' for p in want if p not in have]
  lines += [f'unknown to this model: {p} {_kind(have[p])}' for p in have if p not in want]
  lines += [
    f'differs: {p} is {_kind(have[p])} in the checkpoint, {_kind(want[p])} here'
    for p in want
    if p in have and _kind(have[p]) != _kind(want[p])
  ]
  if lines:
    raise MismatchError(
      f'{where} does not fit this model in {len(lines)} places; load it with the config in its description:\n  '
      + '\n  '.join(lines)
    )
  return jax.tree.unflatten(jax.tree.structure(like), [have[p] for p in want])


def _kind(leaf: Any) -> str:
  return f'{leaf.dtype}{list(leaf.shape)}'


class CheckpointStore:
  """Folder of checkpoints.

  The newest `keep` are kept. With `by_metric`, instead the `keep` of lowest metric are (save needs `metric` then).
  `read_only` never changes the folder: safe beside a run that is writing it; a folder has one writing store at a
  time. Every method is called on all processes.
  """

  def __init__(self, folder: str | Path, *, keep: int = 1, by_metric: bool = False, read_only: bool = False):
    """Opens `folder`, makes it if need be and removes what killed processes left half done."""
    if keep < 1:
      raise ValueError(f'keep={keep} must be at least 1: a run without a checkpoint cannot resume')
    self.folder = Path(folder).absolute()
    self._writes = not read_only and jax.process_index() == 0
    self._empty_trash()
    if self._writes:
      _set_impostors_aside(self.folder)
    best = dict(best_fn=lambda m: m['metric'], best_mode='min', keep_checkpoints_without_metrics=False)
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        todelete_subdir=None if read_only else _TRASH,
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        save_root_metadata=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=self.folder.name),
        **(best if by_metric else {}),
      ),
    )
    self._by_metric = by_metric
    self._saving: int | None = None
    self._best = math.inf
    if by_metric:
      self._best = min((self.description(step).get('metric', math.inf) for step in self.steps()), default=math.inf)

  def steps(self) -> list[int]:
    """Steps of whole checkpoints, oldest first (those still being written are not among them)."""
    return whole_steps(self.folder)

  def latest(self) -> int | None:
    """The newest step, None if there is none."""
    return max(self.steps(), default=None)

  def best(self) -> int | None:
    """The step of lowest metric, None if there is none."""
    return min(self.steps(), key=lambda s: (self.description(s).get('metric', math.inf), s), default=None)

  def is_better(self, metric: float) -> bool:
    """Whether `metric` is finite and below every metric saved so far."""
    return math.isfinite(metric) and metric < self._best

  def save(self, step: int, items: Mapping[str, Any], description: Mapping[str, Any], metric: float | None = None):
    """Starts to write a checkpoint; returns when the caller may change its arrays again.

    items: name -> pytree of arrays. description: JSON-able; `step` and `metric` are added.
    Raises SaveError when this save or the one before it failed (disk full, folder gone).
    """
    description = dict(description) | {'step': int(step)} | ({} if metric is None else {'metric': float(metric)})
    # A copy, because it is written in the background; and what is not JSON-able is no full disk.
    description = json.loads(json.dumps(description))
    arrays = {name: to_nested(tree) for name, tree in items.items()}
    self.wait()
    self._saving = step
    args: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items()}
    args[DESCRIPTION] = ocp.args.JsonSave(description)
    metrics = {'metric': float(metric)} if self._by_metric and metric is not None else None
    try:
      self._manager.save(step, args=ocp.args.Composite(**args), metrics=metrics, force=True)
    except Exception as error:
      raise self._save_error(error) from error
    if metric is not None:
      self._best = min(self._best, metric)

  def check(self) -> None:
    """Raises SaveError if a save in the background has failed meanwhile; does not wait."""
    try:
      self._manager.check_for_errors()
    except Exception as error:
      raise self._save_error(error) from error

  def wait(self) -> None:
    """Returns when everything that was saved is on disk; raises SaveError when it could not be."""
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._save_error(error) from error
    self._saving = None
    self._empty_trash()

  def close(self) -> None:
    """Waits, then releases the folder."""
    self.wait()
    self._manager.close()

  def description(self, step: int) -> dict[str, Any]:
    """The description of one checkpoint."""
    return dict(self._read(step, {DESCRIPTION: ocp.args.JsonRestore()})[DESCRIPTION])

  def load(self, step: int, *names: str) -> dict[str, Any]:
    """name -> nested dicts of numpy arrays of the named items, as stored. Absent items are left out."""
    present = [name for name in names if (self.folder / str(step) / name).is_dir()]
    restored = self._read(step, {name: ocp.args.StandardRestore() for name in present})
    return {name: restored[name] for name in present}

  def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
    """name -> tree of numpy arrays in the structure of `like[name]`; MismatchError lists every bad path."""
    loaded = self.load(step, *like)
    where = f'checkpoint {self.folder / str(step)}'
    if absent := [name for name in like if name not in loaded]:
      raise MismatchError(f'{where} holds no {absent}; it cannot be resumed from, only evaluated')
    return {name: fit(loaded[name], like[name], f'{where}, item {name!r},') for name in like}

  def _read(self, step: int, args: dict[str, Any]) -> Any:
    if step not in self.steps():
      raise ValueError(f'{self.folder} has no checkpoint of step {step}; it has {self.steps()}')
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:
      others = [s for s in self.steps() if s != step]
      raise ValueError(
        f'checkpoint {self.folder / str(step)} cannot be read ({type(error).__name__}: {error}); '
        f'delete that folder to go on from another one: {others}'
      ) from error

  def _save_error(self, error: BaseException) -> SaveError:
    if isinstance(error, SaveError):
      return error
    code, reason = _errno_of(error), f'{type(error).__name__}: {error}'
    free = shutil.disk_usage(self.folder if self.folder.is_dir() else self.folder.anchor).free
    if code == errno.ENOSPC:
      reason = f'the disk is full, {free / 2**20:.0f} MiB free'
    message = (
      f'checkpoint of step {self._saving} could not be saved in {self.folder}: {reason}. Whole checkpoints are '
      f'intact: steps {self.steps()}. Free some space (or mend the folder), then run the same command to resume.'
    )
    return SaveError(code, message)

  def _empty_trash(self) -> None:
    if self._writes and (trash := self.folder / _TRASH).is_dir():
      shutil.rmtree(trash, ignore_errors=True)


def _errno_of(error: BaseException | None) -> int:
  """The system's error number behind `error`; storage libraries wrap it or only quote its text."""
  while error is not None:
    if isinstance(error, OSError) and error.errno:
      return error.errno
    if any(words in str(error) for words in ('No space left on device', 'RESOURCE_EXHAUSTED')):
      return errno.ENOSPC
    error = error.__cause__ or error.__context__
  return errno.EIO


def _set_impostors_aside(folder: Path) -> None:
  """Renames what only looks like a checkpoint: counted among the newest, it would push a whole one out."""
  for path in folder.iterdir() if folder.is_dir() else ():
    if path.name.isdigit() and not (path / DESCRIPTION).is_dir():
      path.rename(path.with_name(f'{path.name}.incomplete'))


def whole_steps(folder: str | Path) -> list[int]:
  """Steps of whole checkpoints in `folder`, ascending: folders named by a bare number that hold a description."""
  folder = Path(folder)
  if not folder.is_dir():
    return []
  found = [p for p in folder.iterdir() if p.name.isdigit()]
  for path in (p for p in found if not (p / DESCRIPTION).is_dir()):
    logging.warning('%s is not a whole checkpoint: ignored', path)
  return sorted(int(p.name) for p in found if (p / DESCRIPTION).is_dir())
