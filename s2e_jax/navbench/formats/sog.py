"""SOG (spatially ordered gaussians, PlayCanvas): lossless WebP planes and a `meta.json`, in a folder or a zip.

One pixel per gaussian. Positions are 16 bits over two planes between `mins` and `maxs` of sign(x) ln(1 + |x|);
quaternions the smallest three of w x y z with 252 + the place of the largest in alpha. Version 2 looks scales
(logarithms) and coefficients up in codebooks of 256 and stores the opacity itself; version 1 spreads bytes between
`mins` and `maxs` and stores the opacity's logit. Further coefficients are a palette: 16-bit labels into centroids,
64 to a row.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy import special

from s2e_jax.navbench.formats import webp
from s2e_jax.navbench.formats.packing import REST_PER_CHANNEL, exp_scale, record, smallest_three, with_rest
from s2e_jax.navbench.formats.stored import (
  MAX_JSON_BYTES,
  SplatFileError,
  Stored,
  bad_file,
  check_count,
  opened_zip,
  parse_json,
  read_bounded,
)

META = 'meta.json'
_PALETTE_COLUMNS = 64
_MAX_LABELS = 2**16
_REMEDY = 'copy or export the scene again'

Fetch = Callable[[str, int], bytes]  # (name, most bytes) -> content


def read(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `.sog` bundle, of a folder with a `meta.json`, or of that file.

  Raises ValueError on damaged or missing planes and on other versions.
  """
  if path.is_dir():
    path = path / META
  if zipfile.is_zipfile(path):
    with opened_zip(path) as bundle:
      return _read(path, bundle_fetch(path, bundle), max_gaussians)
  return _read(path, folder_fetch(path.parent), max_gaussians, path.name)


def folder_fetch(folder: Path) -> Fetch:
  """Files of a folder by their relative names; ValueError for names that lead out of it and for missing files."""

  def fetch(name: str, most: int) -> bytes:
    file = folder / safe_name(name, folder)
    if not file.is_file():
      raise bad_file(file, 'no such file', 'a file of the scene', 'copy the whole scene')
    return read_bounded(file, most)

  return fetch


def bundle_fetch(path: Path, bundle: zipfile.ZipFile) -> Fetch:
  """Files of a zip beside its `meta.json`; what they unfold to is checked before they are unfolded."""
  metas = [name for name in bundle.namelist() if PurePosixPath(name).name == META]
  if len(metas) != 1:
    raise bad_file(path, f'{len(metas)} files {META} in the zip', 'one', 'give a .sog bundle of one scene')
  prefix = metas[0].removesuffix(META)

  def fetch(name: str, most: int) -> bytes:
    try:
      info = bundle.getinfo(prefix + name)
    except KeyError as error:
      raise bad_file(path, f'no {name!r} in the zip', 'all planes of the scene', _REMEDY) from error
    if info.file_size > most:
      raise bad_file(path, f'{info.file_size} bytes of {name}', f'at most {most}', _REMEDY)
    return bundle.read(info)

  return fetch


def safe_name(name: Any, where: Path) -> str:
  """A relative file name as it is; ValueError when it leads out of its folder."""
  parts = PurePosixPath(name).parts if isinstance(name, str) else ()
  if not parts or '..' in parts or parts[0].startswith('/') or '\\' in name or ':' in parts[0]:
    raise bad_file(where, f'the file name {name!r}', 'a name inside the folder', 'do not trust this file')
  return name


def _read(path: Path, fetch: Fetch, max_gaussians: int, meta_name: str = META) -> Stored:
  meta = parse_json(fetch(meta_name, MAX_JSON_BYTES), path)
  version = meta.get('version', 1)
  try:
    if version not in (1, 2):
      raise ValueError(f'version {version!r}')
    num = int(meta['count'] if version == 2 else meta['means']['shape'][0])
  except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
    raise bad_file(
      path, f'{META} without a count of version 1 or 2 ({error})', 'the meta.json of a SOG scene', _REMEDY
    ) from error
  check_count(path, num, max_gaussians)
  try:
    return _decode(path, meta, version, num, fetch)
  except SplatFileError:
    raise
  except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
    message = f'{META} in which {type(error).__name__}: {error}'
    raise bad_file(path, message, f'the fields of SOG version {version}', _REMEDY) from error


def _decode(path: Path, meta: dict[str, Any], version: int, num: int, fetch: Fetch) -> Stored:
  def plane(group: str, index: int) -> np.ndarray:
    """[N, 4] bytes of a plane with one pixel per gaussian."""
    name = meta[group]['files'][index]
    most = 16 * num + 2**16
    pixels = webp.decode(fetch(name, 4 * most), f'{path}: {name}', most).reshape(-1, 4)
    if len(pixels) < num:
      raise bad_file(path, f'{len(pixels)} pixels in {name}', f'{num}, one per gaussian', _REMEDY)
    return pixels[:num]

  def bounds(group: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.broadcast_to(np.asarray(meta[group][side], np.float64), size) for side in ('mins', 'maxs'))
    return low, high

  low, high = bounds('means', 3)
  steps = plane('means', 0)[:, :3] + plane('means', 1)[:, :3] * np.float64(256)
  spread = low + (high - low) * steps / 65535
  mean = np.sign(spread) * np.expm1(np.abs(spread))
  quaternion = plane('quats', 0)
  others = (quaternion[:, :3] / np.float32(255) - 0.5) * np.sqrt(2)
  is_tagged = quaternion[:, 3] >= 252
  rotation = smallest_three(others, np.where(is_tagged, quaternion[:, 3] - np.int64(252), 0))
  rotation[~is_tagged] = 0  # counted as zero quaternions later
  scale, colour = plane('scales', 0)[:, :3], plane('sh0', 0)
  if version == 2:
    log_scale = _look_up(meta['scales']['codebook'], scale, path)
    dc, opacity = _look_up(meta['sh0']['codebook'], colour[:, :3], path), colour[:, 3] / np.float32(255)
  else:
    low, high = bounds('scales', 3)
    log_scale = low + (high - low) * scale / 255
    low, high = bounds('sh0', 4)
    values = low + (high - low) * colour / 255
    dc, opacity = values[:, :3], special.expit(values[:, 3])
  rest, notes = None, list[str]()
  if meta.get('shN') is not None:
    rest, notes = _further(path, meta['shN'], version, plane('shN', 1), fetch)
  sh, more = with_rest(dc, rest, path)
  gaussians = record(mean, exp_scale(log_scale), rotation, opacity, sh)
  return Stored(gaussians, 'sog', str(version), (*notes, *more))


def _look_up(codebook: Any, indices: np.ndarray, path: Path) -> np.ndarray:
  table = np.asarray(codebook, np.float32)
  if table.ndim != 1 or len(table) <= indices.max():
    raise bad_file(path, f'a codebook of shape {table.shape}', f'more than {indices.max()} values', _REMEDY)
  return table[indices]


def _further(
  path: Path, meta: dict[str, Any], version: int, label_plane: np.ndarray, fetch: Fetch
) -> tuple[np.ndarray, list[str]]:
  """[N, K, 3] coefficients from labels into the palette, and notes."""
  name = meta['files'][0]
  most = _MAX_LABELS * REST_PER_CHANNEL[3]
  centroids = webp.decode(fetch(name, 4 * most), f'{path}: {name}', most)
  per_channel = centroids.shape[1] // _PALETTE_COLUMNS
  stated = meta.get('bands')
  if per_channel not in REST_PER_CHANNEL[1:4] or stated not in (None, REST_PER_CHANNEL.index(per_channel)):
    raise bad_file(
      path, f'a palette {centroids.shape[1]} pixels wide, {stated} bands', '64 x 3, 8 or 15 pixels', _REMEDY
    )
  palette = centroids[..., :3].reshape(-1, per_channel, 3)
  if version == 2:
    values = _look_up(meta['codebook'], palette, path)
  else:
    low, high = float(meta['mins']), float(meta['maxs'])
    values = (low + (high - low) * palette.astype(np.float32) / 255).astype(np.float32)
  labels = label_plane[:, 0] + label_plane[:, 1].astype(np.int64) * 256
  is_outside = labels >= min(len(values), int(meta.get('count', len(values))))
  rest = values[np.where(is_outside, 0, labels)]
  rest[is_outside] = 0
  return rest, [f'{is_outside.sum()} labels beyond the palette: colour without direction'] * bool(is_outside.any())
