"""Checkpoints of gsplat: `.pt` (without PyTorch) and `.npz` with means, scales, quats, opacities, sh0 and shN.

Scales are logarithms, opacities logits, quaternions w x y z of any length, sh0 [N, 1, 3], shN [N, K, 3].
"""

from __future__ import annotations

import math
import re
import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from s2e_jax.navbench.formats.packing import degree_of_rest, exp_scale, record, with_rest
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_bytes, check_count, opened_zip
from s2e_jax.navbench.formats.torch_archive import Archive, Tensor

REQUIRED = ('means', 'scales', 'quats', 'opacities', 'sh0')
WANTED = (*REQUIRED, 'shN')
_REMEDY = 'give a checkpoint of gsplat trained with spherical harmonics'

# What numpy raises on headers that are no Python literals.
_BAD_HEADER = (ValueError, SyntaxError, TypeError, tokenize.TokenError)

Shaped = tuple[tuple[int, ...], Callable[[], np.ndarray]]  # stated shape, and how to get the values


def read_pt(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `torch.save` archive that holds `splats`; no code in it is run.

  Raises ValueError on anything but tensors and plain containers, and on damaged or foreign archives.
  """
  with opened_zip(path) as bundle:
    content = Archive(path, bundle).content
    splats = content.get('splats', content) if isinstance(content, dict) else None
    if not isinstance(splats, dict):
      raise bad_file(path, f'a saved {type(content).__name__}', "a dict with 'splats'", _REMEDY)
    tensors = {str(k): (v.shape, v.values) for k, v in splats.items() if isinstance(v, Tensor)}
    return _stored(path, tensors, max_gaussians, 'pt')


def read_npz(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of an `.npz` file with the arrays of a gsplat checkpoint; ValueError when they are not there."""
  with opened_zip(path) as bundle:
    members = {info.filename.removesuffix('.npy'): info for info in bundle.infolist()}
    arrays = {
      name: (_npy_shape(path, bundle, info) if name in WANTED else (), _npy_values(path, bundle, info))
      for name, info in members.items()
    }
    return _stored(path, arrays, max_gaussians, 'npz')


def _npy_shape(path: Path, bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
  """Shape that the header of an array states, after its bytes were found to be there."""
  try:
    with bundle.open(info) as file:
      version = np.lib.format.read_magic(file)
      read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
      shape, _, dtype = read(file)
      if dtype.hasobject:
        raise ValueError('it holds pickled objects, which are not read')
      num_bytes = math.prod(shape) * dtype.itemsize
      if num_bytes > info.file_size:
        raise ValueError(f'{num_bytes} bytes are stated, {info.file_size} are there')
  except _BAD_HEADER as error:
    raise bad_file(path, f'a bad array {info.filename!r} ({error})', 'plain numbers', _REMEDY) from error
  return shape


def _npy_values(path: Path, bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], np.ndarray]:
  def values() -> np.ndarray:
    try:
      with bundle.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
      raise bad_file(path, f'a bad array {info.filename!r} ({error})', 'plain numbers', _REMEDY) from error

  return values


def _stored(path: Path, arrays: dict[str, Shaped], max_gaussians: int, version: str) -> Stored:
  """Gaussians of named arrays whose shapes are checked before their values are fetched."""
  missing = [name for name in REQUIRED if name not in arrays]
  if missing:
    raise bad_file(path, f'{sorted(arrays)} without {", ".join(missing)}', ', '.join(REQUIRED), _REMEDY)
  shapes = {name: shape for name, (shape, _) in arrays.items()}
  num = shapes['means'][0] if shapes['means'] else 0
  check_count(path, num, max_gaussians)
  rest_shape = shapes.get('shN', (num, 0, 3))
  wanted: dict[str, Any] = {
    'means': [(num, 3)],
    'scales': [(num, 3)],
    'quats': [(num, 4)],
    'opacities': [(num,), (num, 1)],
    'sh0': [(num, 1, 3), (num, 3)],
    'shN': [(num, rest_shape[1] if len(rest_shape) == 3 else 0, 3)],
  }
  wrong = {name: shapes[name] for name in wanted if name in shapes and shapes[name] not in wanted[name]}
  if wrong:
    expected = {name: wanted[name][0] for name in wrong}
    raise bad_file(path, f'arrays of shapes {wrong}', f'{expected}', _REMEDY)
  degree_of_rest(3 * rest_shape[1], path, 'values in a row of shN')
  # an .npz may be compressed; no deflate stream unfolds to more than this
  check_bytes(path, num, 4 * num, 1032 * path.stat().st_size, 'bytes when unfolded at most')

  def values(name: str) -> np.ndarray:
    array = arrays[name][1]()
    if array.dtype.kind not in 'fiu':
      raise bad_file(path, f'{name} of type {array.dtype}', 'numbers', _REMEDY)
    with np.errstate(over='ignore'):
      return array.astype(np.float32)

  rest = values('shN') if rest_shape[1] else None
  sh, notes = with_rest(values('sh0').reshape(num, 3), rest, path)
  gaussians = record(
    mean=values('means'),
    scale=exp_scale(values('scales')),
    rotation=values('quats'),
    opacity=special.expit(values('opacities').reshape(num)),
    sh=sh,
  )
  return Stored(gaussians, 'gsplat checkpoint', version, (*notes, *_rank_notes(path)))


def _rank_notes(path: Path) -> tuple[str, ...]:
  """A note when the checkpoint is one of several that together hold the scene."""
  match = re.fullmatch(r'(.*_rank)\d+', path.stem)
  siblings = sorted(path.parent.glob(f'{match[1]}*{path.suffix}')) if match else []
  if len(siblings) < 2:
    return ()
  return (f'one of {len(siblings)} checkpoints *_rank*: training on several devices spreads a scene over them',)
