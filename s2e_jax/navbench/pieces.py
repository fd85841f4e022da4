"""What was driven, a file for every batch of episodes: nothing is driven twice.

A judgement that was killed goes on, one more policy only drives its own episodes, and several processes share one
folder. The name of a file is a hash of all that its content depends on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import re
import typing
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

import s2e_jax
from s2e_jax.closedloop.episodes import Traces
from s2e_jax.closedloop.policies import Contender
from s2e_jax.navbench.episode_files import EpisodeFile, hash_of
from s2e_jax.reporting import write_whole

_PACKAGE = Path(s2e_jax.__file__).parent


@dataclasses.dataclass(frozen=True)
class Part:
  """Which batches one of several processes drives: those whose number divided by `of` leaves `number` - 1."""

  number: int = 1
  of: int = 1

  def __post_init__(self) -> None:
    """Raises ValueError unless 1 <= number <= of."""
    if not 1 <= self.number <= self.of:
      raise ValueError(f'part={self.number}/{self.of} must be NUMBER/OF with 1 <= NUMBER <= OF, like 1/4')

  @classmethod
  def parse(cls, text: str) -> Part:
    """The part of '2/4', or the whole of ''. Raises ValueError naming the rule."""
    if not text:
      return cls()
    number, _, of = text.partition('/')
    if not (number.isdecimal() and of.isdecimal()):
      raise ValueError(f'part={text!r} must be NUMBER/OF with 1 <= NUMBER <= OF, like 1/4')
    return cls(int(number), int(of))

  def holds(self, batch: int) -> bool:
    """Whether this process drives batch number `batch`, from 0."""
    return batch % self.of == self.number - 1


WHOLE = Part()
FILE_NAME = re.compile(r'(?P<policy>.+)_(?P<first>\d{3,})_[0-9a-f]{16}\.npz')  # what `Pieces.path` gives


@dataclasses.dataclass(frozen=True)
class Pieces:
  """A folder of driven batches. about: all that they depend on beside policy and episodes, JSON-able."""

  folder: Path
  about: Mapping[str, Any]

  def path(self, contender: Contender, file: EpisodeFile, numbers: Sequence[int]) -> Path:
    """Where a contender's traces of these episodes of a file lie. Raises ValueError for one without identity."""
    if not contender.identity:
      raise ValueError(f'{contender.name} has no identity by which its traces could be found again; keep none')
    key = hash_of(
      {
        **self.about,
        'policy': contender.identity,
        'scene': file.scene_hash,
        'task': file.task,
        'episodes': [file.episodes[number].to_dict() for number in numbers],
      }
    )
    where = f'{file.scene_name}_{file.task}'
    return self.folder / where / f'{contender.name}_{numbers[0]:03d}_{key[:16]}.npz'

  def load(self, path: Path) -> Traces | None:
    """The traces of a file, None where there is none or it is broken: then they are driven anew."""
    if not path.is_file():
      return None
    try:
      return read_traces(path)
    except ValueError as error:
      logging.warning('%s', error)
      return None

  def save(self, path: Path, traces: Traces) -> None:
    """Writes the file; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays_of(traces))
    write_whole(path, packed.getvalue())


def read_traces(path: Path) -> Traces:
  """The traces of a kept file; ValueError for one that is broken or of another version."""
  try:
    with np.load(path, allow_pickle=False) as stored:
      return traces_of({name: stored[name] for name in stored.files})
  except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'driven={path} is broken or of another version of this program ({error}): judge again, which drives anew '
      'what cannot be read'
    ) from error


def about_judging(**settings: Any) -> dict[str, Any]:
  """Settings with the versions, which also decide what comes out, as JSON-able values."""
  versions = {name: metadata.version(name) for name in ('jax', 'jaxlib')}
  plain = json.loads(json.dumps(settings, default=repr))
  return {**plain, **versions, 'backend': jax.default_backend(), 'program': _hash_of_program()}


@functools.cache
def _hash_of_program() -> str:
  """SHA-256 of the package's modules: what another version of them drove is not taken for what this one would."""
  digest = hashlib.sha256()
  for path in sorted(_PACKAGE.rglob('*.py')):
    digest.update(f'{path.relative_to(_PACKAGE).as_posix()}\n'.encode() + path.read_bytes())
  return digest.hexdigest()


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
  """Every array of a tree, by names like 'scene/boxes/x'."""
  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    found[jax.tree_util.keystr(path, simple=True, separator='/')] = np.asarray(leaf)
  return found


def traces_of(arrays: Mapping[str, np.ndarray]) -> Traces:
  """The inverse of `arrays_of`. Raises KeyError where an array is missing."""
  return typing.cast(Traces, _built(Traces, arrays, ''))


def _built(kind: Any, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
  hints = typing.get_type_hints(kind)
  fields: dict[str, Any] = {}
  for field in dataclasses.fields(kind):
    name, hint = prefix + field.name, hints[field.name]
    inner = [k for k in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(k)]
    if not inner:
      fields[field.name] = arrays[name]
    elif type(None) in typing.get_args(hint) and not any(key.startswith(name + '/') for key in arrays):
      fields[field.name] = None
    else:
      fields[field.name] = _built(inner[0], arrays, name + '/')
  return kind(**fields)
