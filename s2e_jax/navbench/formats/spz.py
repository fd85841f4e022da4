"""The `.spz` format of Niantic: one byte or a few per value, versions 1 to 3 in gzip, version 4 in zstd streams.

Positions are 24-bit fixed point (half floats in version 1), log scales byte / 16 - 10, opacities byte / 255, first
coefficients (byte / 255 - 0.5) / 0.15, further ones (byte - 128) / 128 with the channel running fastest.
Quaternions are x y z bytes up to version 2, then the smallest three of x y z w with 10 bits each. Axes are right,
up, back unless an extension record says otherwise; they are handed out as they are.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s2e_jax.navbench.formats.packing import REST_PER_CHANNEL, exp_scale, record, smallest_three, with_rest
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_bytes, check_count

MAGIC = b'NGSP'
GZIP_MAGIC = b'\x1f\x8b'
FRAME_NOTE = 'axes as stored: .spz files have x right, y up, z back unless their writer chose otherwise'
EXTENSION_NOTE = 'extension records are not read; one of them may name other axes'
_HEADER = struct.Struct('<4sIIBBBB')
_HEADER_4 = struct.Struct('<I12x')
_HAS_EXTENSIONS = 2
# What a byte of the two compressed forms unfolds to at most: more is stated only by damaged or hostile files.
_MOST_PER_GZIP_BYTE = 1032
_MOST_PER_ZSTD_BYTE = 2**15
_REMEDY = 'copy or export the file again'


class Info(NamedTuple):
  """Header fields."""

  version: int
  num: int
  degree: int
  fractional_bits: int
  flags: int
  num_streams: int


def read(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `.spz` file; raises ValueError on damaged files and versions beyond 4."""
  data = path.read_bytes()
  is_gzip = data.startswith(GZIP_MAGIC)
  unzip = zlib.decompressobj(wbits=31)
  head = _inflate(unzip, data, _HEADER.size, path) if is_gzip else data[: _HEADER.size]
  if len(head) < _HEADER.size or not head.startswith(MAGIC):
    raise bad_file(path, f'{head[:4]!r} and {len(head)} bytes', f'a header that begins {MAGIC!r}', _REMEDY)
  info = Info(*_HEADER.unpack(head)[1:])
  if not 1 <= info.version <= 4 or (is_gzip and info.version == 4):
    raise bad_file(path, f'version {info.version}{" in gzip" * is_gzip}', 'version 1 to 4', 'save it as version 3')
  if info.degree >= len(REST_PER_CHANNEL) or info.fractional_bits > 24:
    raise bad_file(
      path, f'degree {info.degree}, {info.fractional_bits} fractional bits', 'at most 4 and 24', _REMEDY
    )
  check_count(path, info.num, max_gaussians)
  sizes = _stream_sizes(info)
  if info.version == 4:
    streams = _zstd_streams(path, data, info, sizes)
  elif is_gzip:
    check_bytes(path, info.num, sum(sizes), len(data) * _MOST_PER_GZIP_BYTE, 'bytes when unfolded at most')
    body = _inflate(unzip, unzip.unconsumed_tail, sum(sizes), path)
    streams = _split(path, info, body, sizes)
  else:
    streams = _split(path, info, data[_HEADER.size :], sizes)
  return _decode(path, info, streams)


def _inflate(unzip: zlib._Decompress, data: bytes, most: int, path: Path) -> bytes:
  try:
    return unzip.decompress(data, most)
  except zlib.error as error:
    raise bad_file(path, f'damaged gzip data ({error})', 'a gzip stream', _REMEDY) from error


def _stream_sizes(info: Info) -> list[int]:
  """Bytes of positions, opacities, colours, scales, rotations and further coefficients."""
  position = 6 if info.version == 1 else 9
  rotation = 4 if info.version >= 3 else 3
  return [info.num * n for n in (position, 1, 3, 3, rotation, 3 * REST_PER_CHANNEL[info.degree])]


def _split(path: Path, info: Info, body: bytes, sizes: list[int]) -> list[np.ndarray]:
  check_bytes(path, info.num, sum(sizes), len(body))
  ends = np.cumsum(sizes)
  return [np.frombuffer(body, np.uint8, size, end - size) for size, end in zip(sizes, ends, strict=True)]


def _zstd_streams(path: Path, data: bytes, info: Info, sizes: list[int]) -> list[np.ndarray]:
  """Streams of a version 4 file: a table of sizes in its header zone, then one zstd frame each."""
  try:
    import pyarrow
  except ModuleNotFoundError as error:
    raise ValueError(
      f"{path}: .spz version 4 needs the package 'pyarrow' for zstd; pip install 's2e_jax[data]', or save the "
      'file as version 3'
    ) from error
  if info.degree == 0:
    sizes = sizes[:5]
  if len(data) < _HEADER.size + _HEADER_4.size or info.num_streams < len(sizes):
    raise bad_file(path, f'{len(data)} bytes, {info.num_streams} streams', f'{len(sizes)} streams', _REMEDY)
  table_at = _HEADER_4.unpack_from(data, _HEADER.size)[0]
  at = table_at + 16 * info.num_streams
  check_bytes(path, info.num, at, len(data))
  table = np.frombuffer(data, '<u8', 2 * info.num_streams, table_at).reshape(-1, 2).tolist()
  streams = []
  for size, (packed, unpacked) in zip(sizes, table, strict=False):
    if unpacked != size or unpacked > packed * _MOST_PER_ZSTD_BYTE:
      raise bad_file(
        path, f'a stream of {unpacked} bytes in {packed}', f'{size} for {info.num} gaussians', _REMEDY
      )
    check_bytes(path, info.num, at + packed, len(data))
    try:
      raw = pyarrow.decompress(data[at : at + packed], decompressed_size=size, codec='zstd')
    except OSError as error:
      raise bad_file(path, f'damaged zstd data ({error})', 'a zstd frame', _REMEDY) from error
    streams.append(np.frombuffer(raw, np.uint8, size))
    at += packed
  return streams if info.degree else [*streams, np.empty(0, np.uint8)]


def _decode(path: Path, info: Info, streams: list[np.ndarray]) -> Stored:
  position, opacity, colour, scale, rotation, rest = (s.reshape(info.num, -1) for s in streams)
  if info.version == 1:
    mean: np.ndarray = position.view('<f2').astype(np.float32)
  else:
    fixed = np.zeros((info.num, 3, 4), np.uint8)
    fixed[:, :, 1:] = position.reshape(-1, 3, 3)
    # read as the upper three bytes of an integer: the shift back keeps the sign
    mean = (fixed.view('<i4')[..., 0] >> 8) / np.float32(2**info.fractional_bits)
  sh, notes = with_rest((colour / np.float32(255) - 0.5) / 0.15, _coefficients(info, rest), path)
  gaussians = record(
    mean=mean,
    scale=exp_scale(scale / np.float32(16) - 10),
    rotation=_quaternions(info, rotation),
    opacity=opacity[:, 0] / np.float32(255),
    sh=sh,
  )
  extension = (EXTENSION_NOTE,) if info.flags & _HAS_EXTENSIONS else ()
  return Stored(gaussians, 'spz', str(info.version), (FRAME_NOTE, *extension, *notes))


def _coefficients(info: Info, rest: np.ndarray) -> np.ndarray | None:
  if info.degree == 0:
    return None
  return (rest.astype(np.float32).reshape(info.num, REST_PER_CHANNEL[info.degree], 3) - 128) / 128


def _quaternions(info: Info, raw: np.ndarray) -> np.ndarray:
  """[N, 4] w, x, y, z."""
  if info.version < 3:
    xyz = raw / np.float32(127.5) - 1
    return np.concatenate([np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1, keepdims=True))), xyz], axis=1)
  packed = raw.copy().view('<u4')[:, 0]
  fields = np.stack([(packed >> at) & 1023 for at in (20, 10, 0)], axis=1)
  size = (fields & 511).astype(np.float32) * np.float32(np.sqrt(0.5) / 511)
  xyzw = smallest_three(np.where(fields & 512, -size, size), packed >> 30)
  return xyzw[:, [3, 0, 1, 2]]
