"""The `.ksplat` format of mkkellogg's GaussianSplats3D, version 0.1: sections of gaussians in three precisions.

A header of 4096 bytes, one of 1024 per section, then per section the sizes of its partly filled buckets, the
bucket centres and the gaussians: position, standard deviations, quaternion w x y z, red green blue opacity as
bytes, further coefficients degree by degree, the channel running slowest. Level 0 stores floats; levels 1 and 2
store positions as 16-bit offsets from the centre of their bucket and the rest as half floats; level 2 stores
further coefficients as bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats.packing import REST_PER_CHANNEL, dc_of_colour, record, with_rest
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_bytes, check_count, join

VERSION = (0, 1)
HEADER_BYTES = 4096
SECTION_BYTES = 1024
# versions, sections, (sections in use), (capacity), gaussians, level, (centre), range of byte coefficients
_HEADER = struct.Struct('<BBxxI8xIHxx12xff')
_SECTION = struct.Struct('<IIIIfHxxI4xIIH')
_COORDINATE = ('<f4', '<u2', '<u2')
_VALUE = ('<f4', '<f2', '<f2')
_COEFFICIENT = ('<f4', '<f2', 'u1')
_OFFSET_RANGE = 32767
_COEFFICIENT_RANGE = 1.5
_REMEDY = 'export the scene again'


class Section(NamedTuple):
  """Fields of a section header."""

  num: int
  capacity: int
  bucket_size: int
  num_buckets: int
  block_size: float
  bucket_bytes: int
  offset_range: int
  num_full: int
  num_partial: int
  degree: int


def is_header(head: bytes) -> bool:
  """Whether the first bytes of a file can be a header of this format (it has no magic number)."""
  if len(head) < _HEADER.size or tuple(head[:2]) != VERSION or head[2:4] != b'\0\0':
    return False
  _, _, num_sections, num, level, _, _ = _HEADER.unpack_from(head)
  return 0 < num_sections < 2**20 and num > 0 and level < len(_VALUE)


def read(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `.ksplat` file; raises ValueError on damaged files and other versions."""
  data = path.read_bytes()
  if len(data) < HEADER_BYTES:
    raise bad_file(
      path, f'{len(data)} bytes', f'a header of {HEADER_BYTES}', 'the file is cut short: copy it again'
    )
  major, minor, num_sections, num, level, low, high = _HEADER.unpack_from(data)
  if (major, minor) != VERSION or level >= len(_VALUE):
    raise bad_file(path, f'version {major}.{minor}, level {level}', 'version 0.1, level 0 to 2', _REMEDY)
  check_count(path, num, max_gaussians)
  at = HEADER_BYTES + num_sections * SECTION_BYTES
  check_bytes(path, num, at, len(data))
  parts: list[Gaussians] = []
  notes: tuple[str, ...] = ()
  for index in range(num_sections):
    section = Section(*_SECTION.unpack_from(data, HEADER_BYTES + index * SECTION_BYTES))
    if section.degree >= len(REST_PER_CHANNEL) or section.num > section.capacity:
      raise bad_file(path, f'a section with {section}', 'a degree of 0 to 3 and num <= capacity', _REMEDY)
    row = _row_type(level, section.degree)
    buckets_at = at + 4 * section.num_partial
    rows_at = buckets_at + section.bucket_bytes * section.num_buckets
    at = rows_at + row.itemsize * section.capacity
    check_bytes(path, section.num, rows_at + row.itemsize * section.num, len(data))
    if section.num:
      rows = np.frombuffer(data, row, section.num, rows_at)
      offset = _centres(path, data, section, buckets_at) if level else None
      part, more = _decode(path, section, rows, offset, (low or -_COEFFICIENT_RANGE, high or _COEFFICIENT_RANGE))
      parts.append(part)
      notes = tuple(dict.fromkeys(notes + more))
  if sum(part.num for part in parts) != num:
    raise bad_file(path, f'{sum(part.num for part in parts)} gaussians in sections', f'{num}', _REMEDY)
  return Stored(join(parts), 'ksplat', f'0.1 level {level}', notes)


def _row_type(level: int, degree: int) -> np.dtype:
  return np.dtype(
    [
      ('mean', _COORDINATE[level], 3),
      ('scale', _VALUE[level], 3),
      ('rotation', _VALUE[level], 4),
      ('colour', 'u1', 4),
      ('rest', _COEFFICIENT[level], (3 * REST_PER_CHANNEL[degree],)),
    ]
  )


def _centres(path: Path, data: bytes, section: Section, at: int) -> np.ndarray:
  """[num, 3] centre of the bucket of every gaussian: full buckets come first, the others state their sizes."""
  if section.bucket_bytes < 12:
    raise bad_file(path, f'buckets of {section.bucket_bytes} bytes', 'at least 12', _REMEDY)
  row = np.dtype({'names': ['centre'], 'formats': [('<f4', 3)], 'itemsize': section.bucket_bytes})
  centres = np.frombuffer(data, row, section.num_buckets, at)['centre']
  partial = np.frombuffer(data, '<u4', section.num_partial, at - 4 * section.num_partial)
  ends = np.cumsum(partial, dtype=np.int64) + section.num_full * section.bucket_size
  ranks = np.arange(section.num)
  bucket = np.where(
    ranks < section.num_full * section.bucket_size,
    ranks // max(section.bucket_size, 1),
    section.num_full + np.searchsorted(ends, ranks, side='right'),
  )
  if bucket.max() >= section.num_buckets:
    raise bad_file(path, f'{section.num_buckets} buckets', f'{bucket.max() + 1} for their gaussians', _REMEDY)
  return centres[bucket]


def _decode(
  path: Path, section: Section, rows: np.ndarray, offset: np.ndarray | None, byte_range: tuple[float, float]
) -> tuple[Gaussians, tuple[str, ...]]:
  mean: np.ndarray = rows['mean'].astype(np.float32)
  if offset is not None:
    half = section.offset_range or _OFFSET_RANGE
    mean = (mean - half) * np.float32(section.block_size / 2 / half) + offset
  rest: np.ndarray = rows['rest'].astype(np.float32)
  if rows['rest'].dtype == np.uint8:
    rest = byte_range[0] + rest / 255 * (byte_range[1] - byte_range[0])
  # degree by degree, each with all values of red, then of green, then of blue
  bands = np.split(rest, [n for n in (9, 24, 45) if n < rest.shape[1]], axis=1)
  by_degree = [np.moveaxis(band.reshape(len(rows), 3, band.shape[1] // 3), 1, 2) for band in bands]
  colour = rows['colour'] / np.float32(255)
  sh, notes = with_rest(dc_of_colour(colour[:, :3]), np.concatenate(by_degree, axis=1), path)
  return record(mean, rows['scale'], rows['rotation'], colour[:, 3], sh), notes
