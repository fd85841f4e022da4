"""Gaussians in PlayCanvas' compressed PLY: four packed integers each, scaled by the bounds of chunks of 256.

Elements: `chunk` with the bounds of positions, log scales and (in newer files) colours; `vertex` with
packed_position and packed_scale (11, 10, 11 bits), packed_rotation (2 bits: which of w x y z is largest; 3 x 10:
the others) and packed_color (4 x 8: colour and opacity); optional `sh` with one byte per f_rest value.
"""

from __future__ import annotations

import numpy as np

from s2e_jax.navbench.formats import ply
from s2e_jax.navbench.formats.packing import (
  REST_PER_CHANNEL,
  dc_of_colour,
  degree_of_rest,
  exp_scale,
  record,
  smallest_three,
  with_rest,
)
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_count

MARK = 'packed_position'
CHUNK_SIZE = 256
_PACKED = ('packed_position', 'packed_rotation', 'packed_scale', 'packed_color')
_REMEDY = 'export it again'


def read(header: ply.Header, max_gaussians: int) -> Stored:
  """Gaussians of a compressed PLY file whose header was read; raises ValueError on anything out of place."""
  path = header.path
  vertex, chunk, sh_element = (header.element(name) for name in ('vertex', 'chunk', 'sh'))
  assert vertex is not None
  if {p.name: p.type for p in vertex.properties if p.name in _PACKED} != dict.fromkeys(_PACKED, 'u4'):
    raise bad_file(path, f'vertex properties {vertex.names}', f'uint {", ".join(_PACKED)}', _REMEDY)
  check_count(path, vertex.count, max_gaussians)
  num_chunks = -(-vertex.count // CHUNK_SIZE)
  bounds = [f'{side}{kind}_{axis}' for kind in ('', '_scale') for side in ('min', 'max') for axis in 'xyz']
  if chunk is None or chunk.count != num_chunks or not set(bounds) <= set(chunk.names):
    has = 'no element' if chunk is None else f'{chunk.count} rows of {chunk.names}'
    raise bad_file(path, f'{has} for chunks', f'{num_chunks} rows with {", ".join(bounds)}', _REMEDY)
  num_rest = 0
  if sh_element is not None:
    num_rest = len(sh_element.names)
    expected = tuple((f'f_rest_{i}', 'u1') for i in range(num_rest))
    if sh_element.count != vertex.count or tuple((p.name, p.type) for p in sh_element.properties) != expected:
      raise bad_file(path, f'{sh_element.count} rows of sh', f'{vertex.count} of uchar f_rest_0...', _REMEDY)
  degree = degree_of_rest(num_rest, path, 'properties f_rest_*')

  elements = ply.read_elements(header, {'vertex', 'chunk', 'sh'})
  packed = {name: np.ascontiguousarray(elements['vertex'][name]) for name in _PACKED}
  rows = np.arange(vertex.count) // CHUNK_SIZE

  def between(unit: np.ndarray, kind: str, axes: str) -> np.ndarray:
    """[N, 3] from [N, 3] in 0..1 and the bounds of the chunks."""
    low, high = (
      np.stack([elements['chunk'][f'{side}{kind}_{a}'] for a in axes], axis=1)[rows] for side in ('min', 'max')
    )
    return low * (1 - unit) + high * unit

  rotation = packed['packed_rotation']
  others = (np.stack([_bits(rotation, at, 10) for at in (20, 10, 0)], axis=1) - 0.5) * np.sqrt(2)
  colour = np.stack([_bits(packed['packed_color'], at, 8) for at in (24, 16, 8, 0)], axis=1)
  rgb = between(colour[:, :3], '', 'rgb') if 'min_r' in chunk.names else colour[:, :3]
  rest = None
  if num_rest:
    raw = np.stack([elements['sh'][f'f_rest_{i}'] for i in range(num_rest)], axis=1)
    # bytes are centres of 256 bins of [-4, 4], but the first and the last are its ends
    unit = np.where(raw == 0, 0, np.where(raw == 255, 1, (raw + np.float32(0.5)) / 256))
    rest = np.moveaxis((unit * 8 - 4).reshape(len(raw), 3, REST_PER_CHANNEL[degree]), 1, 2)
  sh, notes = with_rest(dc_of_colour(rgb), rest, path)
  gaussians = record(
    mean=between(_eleven_ten_eleven(packed['packed_position']), '', 'xyz'),
    scale=exp_scale(between(_eleven_ten_eleven(packed['packed_scale']), '_scale', 'xyz')),
    rotation=smallest_three(others, rotation >> 30),
    opacity=colour[:, 3],
    sh=sh,
  )
  return Stored(gaussians, 'compressed ply', header.encoding, notes)


def _bits(packed: np.ndarray, at: int, num: int) -> np.ndarray:
  """`num` bits above bit `at` as 0..1."""
  most = (1 << num) - 1
  return ((packed >> at) & most).astype(np.float32) / np.float32(most)


def _eleven_ten_eleven(packed: np.ndarray) -> np.ndarray:
  return np.stack([_bits(packed, 21, 11), _bits(packed, 11, 10), _bits(packed, 0, 11)], axis=1)
