"""Files of an unfinished conversion: one per clip, each whole or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_MAGIC = b's2e-clip-1\n'


@contextlib.contextmanager
def explained(doing: str, where: Path) -> Iterator[None]:
  """Turns failures to write into an OSError that says what is safe and what to do."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    # The ArrayRecord writer reports a full disk as a RuntimeError with the system's words.
    full = getattr(error, 'errno', None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)
    remedy = 'free space' if full else 'remove the cause'
    raise OSError(
      errno.ENOSPC if full else getattr(error, 'errno', None) or errno.EIO,
      f'{"disk full" if full else "cannot write"} while {doing} ({error}); no half dataset is left behind, clips '
      f'already converted are kept in {where}: {remedy} and run the same command again',
    ) from error


def sync(path: Path) -> None:
  """Forces a written file onto the disk, so that a later rename never exposes an empty one."""
  with open(path, 'rb') as file:
    os.fsync(file.fileno())


def write_atomically(path: Path, *parts: bytes) -> None:
  """Writes `parts` to `path` by way of a temporary file, so that `path` is whole or absent."""
  temporary = path.with_name(path.name + '.tmp')
  try:
    with open(temporary, 'wb') as file:
      for part in parts:
        file.write(part)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def clip_file(folder: Path, clip_id: str) -> Path:
  """Where the clip is staged; a hash, because ids may hold '/' and be longer than a file name."""
  return folder / (hashlib.sha256(clip_id.encode()).hexdigest()[:40] + '.clip')


def write_clip(folder: Path, clip_id: str, split: str, parts: Sequence[bytes]) -> Path:
  """Stages the serialised records of one clip and returns their file."""
  header = {'clip_id': clip_id, 'split': split, 'lengths': [len(part) for part in parts]}
  file = clip_file(folder, clip_id)
  write_atomically(file, _MAGIC, json.dumps(header).encode() + b'\n', *parts)
  return file


def read_header(file: Path) -> tuple[dict[str, Any], int]:
  """Header of a staged clip and the offset of its first record."""
  with open(file, 'rb') as stream:
    if stream.readline() != _MAGIC:
      raise ValueError(f'{file} is not a staged clip; delete {file.parent.parent} and convert again')
    return json.loads(stream.readline()), stream.tell()


def read_records(file: Path) -> Iterator[bytes]:
  """Serialised records of a staged clip, in order."""
  header, offset = read_header(file)
  with open(file, 'rb') as stream:
    stream.seek(offset)
    for length in header['lengths']:
      yield stream.read(length)
