"""Gaussians in the PLY layout of 3D Gaussian Splatting (Kerbl et al., 2023): read and written.

One element `vertex`: x y z, nx ny nz (zero), f_dc_0..2, f_rest_0..(3K-1), opacity, scale_0..2, rot_0..3. Scales
are natural logarithms, the opacity is a logit, f_rest holds all K values of red, then of green, then of blue, rot
is w x y z.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import special

from s2e_jax.gaussians import MAX_SH_DEGREE, Gaussians
from s2e_jax.navbench.formats import ply, ply_compressed
from s2e_jax.navbench.formats.packing import REST_PER_CHANNEL, degree_of_rest, exp_scale
from s2e_jax.navbench.formats.stored import Stored, bad_file, check_count

MEAN = ('x', 'y', 'z')
NORMAL = ('nx', 'ny', 'nz')
DC = ('f_dc_0', 'f_dc_1', 'f_dc_2')
SCALE = ('scale_0', 'scale_1', 'scale_2')
ROTATION = ('rot_0', 'rot_1', 'rot_2', 'rot_3')
REQUIRED = (*MEAN, *DC, 'opacity', *SCALE, *ROTATION)
# Rows handled at a time: few enough to stay in the processor's cache while their columns are picked out.
_BLOCK = 2**14
# Opacities nearer to 0 or 1 are written as this far from it: their logits would be infinite.
_MARGIN = 1e-7


def read(path: Path, max_gaussians: int) -> Stored:
  """Gaussians of a `.ply` file, plain or in PlayCanvas' compressed layout.

  Raises ValueError for damaged files and for PLY files of other things: points, meshes, surfels.
  """
  header = ply.read_header(path)
  vertex = header.element('vertex')
  if vertex is None:
    elements = [e.name for e in header.elements]
    raise bad_file(path, f'elements {elements}', "an element 'vertex'", 'give the PLY file of a splat scene')
  if ply_compressed.MARK in vertex.names:
    return ply_compressed.read(header, max_gaussians)
  missing = [name for name in REQUIRED if name not in vertex.names]
  if missing:
    raise bad_file(
      path,
      f'{_what(header, vertex)} (no {", ".join(missing)})',
      'gaussians with f_dc_*, opacity, scale_* and rot_*',
      'give the point_cloud.ply that the training of a splat wrote',
    )
  check_count(path, vertex.count, max_gaussians)
  rest_names = sorted((n for n in vertex.names if n.startswith('f_rest_')), key=_number)
  degree = degree_of_rest(len(rest_names), path, 'properties f_rest_*')
  if rest_names != [f'f_rest_{i}' for i in range(len(rest_names))]:
    raise bad_file(path, 'gaps in f_rest_*', f'f_rest_0 to f_rest_{len(rest_names) - 1}', 'export it again')
  kept = min(degree, MAX_SH_DEGREE)
  # the first REST_PER_CHANNEL[kept] values of red, then of green, then of blue
  per_channel = np.arange(len(rest_names)).reshape(3, -1)[:, : REST_PER_CHANNEL[kept]]
  names = (*MEAN, *SCALE, *ROTATION, 'opacity', *DC, *(f'f_rest_{i}' for i in per_channel.ravel()))
  table = lambda *shape: np.empty((vertex.count, *shape), np.float32)
  gaussians = Gaussians(
    mean=table(3), scale=table(3), rotation=table(4), opacity=table(), sh=table((kept + 1) ** 2, 3)
  )
  for part, columns in _blocks(ply.read_elements(header, {'vertex'})['vertex'], names):
    gaussians.mean[part] = columns[:, 0:3]
    gaussians.scale[part] = exp_scale(columns[:, 3:6])
    gaussians.rotation[part] = columns[:, 6:10]
    gaussians.opacity[part] = special.expit(columns[:, 10])
    gaussians.sh[part, 0] = columns[:, 11:14]
    gaussians.sh[part, 1:] = np.moveaxis(columns[:, 14:].reshape(len(columns), 3, -1), 1, 2)
  notes = (f'spherical harmonics of degree {degree} cut to {kept}',) if degree > kept else ()
  return Stored(gaussians, '3dgs ply', header.encoding, notes)


def _number(name: str) -> int:
  tail = name.rpartition('_')[2]
  return int(tail) if tail.isascii() and tail.isdigit() else -1


def _what(header: ply.Header, vertex: ply.Element) -> str:
  """What a PLY file without gaussians holds, in words."""
  names = set(vertex.names)
  if {'scale_0', 'scale_1', 'rot_0'} <= names and 'scale_2' not in names:
    return 'flat surfels of 2D Gaussian Splatting'
  if any(e.name in ('face', 'tristrips') and e.count for e in header.elements):
    return f'a mesh of {vertex.count} vertices'
  if names & {'red', 'r', 'diffuse_red'}:
    return f'{vertex.count} coloured points'
  return f'{vertex.count} points'


def _blocks(rows: np.ndarray, names: Sequence[str]) -> Iterator[tuple[slice, np.ndarray]]:
  """Part after part of the rows, with the named fields as [B, len(names)] float32."""
  fields = rows.dtype.names or ()
  places = [fields.index(name) for name in names]
  is_table = rows.dtype == np.dtype([(name, '<f4') for name in fields])
  for start in range(0, len(rows), _BLOCK):
    part = slice(start, min(start + _BLOCK, len(rows)))
    block = np.array(rows[part])
    if is_table:
      yield part, block.view('<f4').reshape(len(block), len(fields))[:, places]
      continue
    with np.errstate(
      over='ignore', invalid='ignore'
    ):  # doubles beyond float32 become infinite and are counted as such
      yield part, np.stack([block[name].astype(np.float32) for name in names], axis=1)


def property_names(sh_degree: int) -> tuple[str, ...]:
  """Properties in the order of the original layout: 17 of them for degree 0, 62 for degree 3."""
  rest = tuple(f'f_rest_{i}' for i in range(3 * REST_PER_CHANNEL[sh_degree]))
  return (*MEAN, *NORMAL, *DC, *rest, 'opacity', *SCALE, *ROTATION)


def write_ply(path: str | Path, gaussians: Gaussians) -> Path:
  """Writes gaussians in the 3DGS layout, binary little endian, whole or not at all; returns the path.

  Opacities are kept 1e-7 away from 0 and 1, whose logits are infinite. Raises ValueError when there are none, or
  when scales are not positive.
  """
  path = Path(path)
  if gaussians.num == 0 or not (np.asarray(gaussians.scale) > 0).all():
    raise ValueError(f'{path}: {gaussians.num} gaussians; at least one is needed, all with scales > 0')
  names = property_names(gaussians.sh_degree)
  lines = ['ply', 'format binary_little_endian 1.0', f'element vertex {gaussians.num}']
  header = '\n'.join([*lines, *(f'property float {name}' for name in names), 'end_header', '']).encode()
  num_rest = 3 * REST_PER_CHANNEL[gaussians.sh_degree]
  temporary = path.with_name(path.name + '.tmp')
  try:
    with temporary.open('wb') as file:
      file.write(header)
      for start in range(0, gaussians.num, _BLOCK):
        part = slice(start, start + _BLOCK)
        mean = np.asarray(gaussians.mean[part], np.float32)
        sh = np.asarray(gaussians.sh[part], np.float32)
        opacity = np.clip(np.asarray(gaussians.opacity[part], np.float64), _MARGIN, 1 - _MARGIN)
        table = np.concatenate(
          [
            mean,
            np.zeros_like(mean),
            sh[:, 0],
            np.moveaxis(sh[:, 1:], 2, 1).reshape(len(mean), num_rest),
            special.logit(opacity)[:, None],
            np.log(np.asarray(gaussians.scale[part], np.float32)),
            np.asarray(gaussians.rotation[part], np.float32),
          ],
          axis=1,
        )
        file.write(table.astype('<f4').tobytes())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  return path
