"""What readers share: gaussians as a file stores them, which of them are usable, and the report about it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.gaussians import MAX_SH_DEGREE, Gaussians

# Beyond these no scene exists; such gaussians come from diverged training or from bytes that are something else.
MAX_SCALE = 1e4
MAX_COORDINATE = 1e6
MIN_QUATERNION_NORM = 1e-8
MAX_JSON_BYTES = 2**26


class SplatFileError(ValueError):
  """A file that cannot be read; the message says what was found, what was expected, and what to do."""


@dataclasses.dataclass(frozen=True)
class Level:
  """A level of detail that a file names: how many gaussians it has, and which of its files are not on disk."""

  num_gaussians: int
  missing: tuple[str, ...] = ()

  @property
  def is_complete(self) -> bool:
    """Whether all of its files are there."""
    return not self.missing


@dataclasses.dataclass(frozen=True)
class Stored:
  """Gaussians as a file stores them: finite or not, quaternions of any length.

  format, version: as the reader found them. levels: level -> what is there; empty without levels of detail.
  """

  gaussians: Gaussians
  format: str
  version: str
  notes: tuple[str, ...] = ()
  level: int | None = None
  levels: dict[int, Level] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ReadReport:
  """What was read and what was left out.

  num_read: gaussians in the file (of the chosen level). dropped: reason -> gaussians left out, each counted once,
  under the first reason that holds: 'non_finite', 'zero_quaternion', 'non_positive_opacity',
  'non_positive_scale', 'absurd_scale' (a standard deviation above 1e4) or 'absurd_position' (a coordinate beyond
  1e6). sh_degree: 0 to 3. level, levels: as in `Stored`. notes: what a user should know, in words.
  """

  path: str
  format: str
  version: str
  num_read: int
  dropped: dict[str, int]
  sh_degree: int
  level: int | None = None
  levels: dict[int, Level] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()

  @property
  def num_dropped(self) -> int:
    """Gaussians left out, for all reasons."""
    return sum(self.dropped.values())

  @property
  def num_kept(self) -> int:
    """Gaussians handed out."""
    return self.num_read - self.num_dropped


def bad_file(path: Path | str, found: str, expected: str, remedy: str) -> SplatFileError:
  """The error of a file that cannot be read: what was found in it, what should be there, what to do."""
  return SplatFileError(f'{path}: found {found}, expected {expected}; {remedy}')


def check_count(path: Path, num: int, max_gaussians: int, remedy: str = '') -> None:
  """Raises ValueError when a file states no gaussians, or more than are to be read into memory."""
  if num <= 0:
    raise bad_file(path, f'{num} gaussians', 'at least one', 'export the scene again')
  if num > max_gaussians:
    raise SplatFileError(
      f'{path} states {num} gaussians, more than max_gaussians={max_gaussians}; '
      + (remedy or 'thin the scene out, convert it to a streamed SOG and choose a level, or raise max_gaussians')
    )


def check_bytes(path: Path, num: int, needed: int, has: int, what: str = 'bytes') -> None:
  """Raises ValueError when `num` gaussians need more bytes than there are: before anything is allocated."""
  if needed > has:
    raise bad_file(
      path, f'{has} {what}', f'{needed} for the {num} gaussians it states', 'the file is cut short: copy it again'
    )


def read_bounded(path: Path, most: int = MAX_JSON_BYTES) -> bytes:
  """Content of a small file; raises ValueError when it has more than `most` bytes."""
  size = path.stat().st_size
  if size > most:
    raise bad_file(path, f'{size} bytes', f'at most {most}', 'copy or export the file again')
  return path.read_bytes()


def parse_json(data: bytes, where: Path | str) -> dict[str, Any]:
  """The object in a JSON file; raises ValueError when it is damaged or something else."""
  try:
    content = json.loads(data)
  except (ValueError, RecursionError) as error:
    raise bad_file(where, f'damaged JSON ({error})', 'a JSON object', 'copy or export the file again') from error
  if not isinstance(content, dict):
    raise bad_file(where, f'JSON of a {type(content).__name__}', 'an object', 'copy or export the file again')
  return content


@contextlib.contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
  """A zip file for reading; whatever shows inside the block that it is damaged is raised as ValueError."""
  try:
    with zipfile.ZipFile(path) as bundle:
      yield bundle
  except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, zlib.error) as error:
    raise bad_file(path, f'a damaged zip ({error})', 'a whole one', 'copy or export the file again') from error


def join(parts: Sequence[Gaussians]) -> Gaussians:
  """Gaussians of several records in one; spherical harmonics are filled up to the highest degree."""
  most = max(part.sh.shape[1] for part in parts)
  padded = [np.pad(part.sh, ((0, 0), (0, most - part.sh.shape[1]), (0, 0))) for part in parts]
  return Gaussians(
    mean=np.concatenate([part.mean for part in parts]),
    scale=np.concatenate([part.scale for part in parts]),
    rotation=np.concatenate([part.rotation for part in parts]),
    opacity=np.concatenate([part.opacity for part in parts]),
    sh=np.concatenate(padded),
  )


def _faults(gaussians: Gaussians) -> dict[str, np.ndarray]:
  """Reason -> [N] whether it holds, in the order in which a gaussian is counted."""
  g = gaussians
  finite = np.isfinite(g.opacity)
  for array in (g.mean, g.scale, g.rotation, g.sh.reshape(g.num, -1)):
    finite &= np.isfinite(array).all(axis=1)
  with np.errstate(invalid='ignore', over='ignore'):
    norm = np.sqrt(np.square(g.rotation).sum(axis=1))
    return {
      'non_finite': ~finite,
      'zero_quaternion': norm < MIN_QUATERNION_NORM,
      'non_positive_opacity': g.opacity <= 0,
      'non_positive_scale': (g.scale <= 0).any(axis=1),
      'absurd_scale': (g.scale > MAX_SCALE).any(axis=1),
      'absurd_position': (np.abs(g.mean) > MAX_COORDINATE).any(axis=1),
    }


def usable(stored: Stored, path: Path) -> tuple[Gaussians, ReadReport]:
  """Gaussians that can be drawn, with unit quaternions and opacity at most 1, and the report about the others.

  Raises ValueError when none is left, or when more than half are left out for another reason than no opacity: then
  the bytes are not what they are taken for, and the rest would be noise.
  """
  found = stored.gaussians
  keep = np.ones(found.num, bool)
  dropped = {}
  for reason, is_bad in _faults(found).items():
    count = int((is_bad & keep).sum())
    if count:
      dropped[reason] = count
      keep &= ~is_bad
  listed = ', '.join(f'{reason} {count}' for reason, count in dropped.items())
  num_broken = sum(dropped.values()) - dropped.get('non_positive_opacity', 0)
  if num_broken > found.num / 2:
    raise bad_file(
      path,
      f'{num_broken} of {found.num} gaussians that cannot be ({listed})',
      f'finite values, scales above 0 and up to {MAX_SCALE:g} and coordinates up to {MAX_COORDINATE:g}',
      'the file is damaged, of another format, or of a training run that diverged',
    )
  if not keep.any():
    raise bad_file(path, f'no usable gaussian ({listed})', 'at least one', 'export the scene again')
  rows = slice(None) if keep.all() else keep
  rotation = found.rotation[rows]
  gaussians = Gaussians(
    mean=np.ascontiguousarray(found.mean[rows]),
    scale=np.ascontiguousarray(found.scale[rows]),
    rotation=rotation / np.sqrt(np.square(rotation).sum(axis=1, keepdims=True)),
    opacity=np.minimum(found.opacity[rows], np.float32(1)),
    sh=np.ascontiguousarray(found.sh[rows]),
  )
  assert gaussians.sh_degree <= MAX_SH_DEGREE
  report = ReadReport(
    path=str(path),
    format=stored.format,
    version=stored.version,
    num_read=found.num,
    dropped=dropped,
    sh_degree=gaussians.sh_degree,
    level=stored.level,
    levels=stored.levels,
    notes=stored.notes,
  )
  return gaussians, report
