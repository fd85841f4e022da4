"""Triangle meshes of PLY files, such as the `tsdf_fusion_post.ply` that comes with a Vid2Sim scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2e_jax.navbench.formats import ply
from s2e_jax.navbench.formats.stored import bad_file

_LISTS = ('vertex_indices', 'vertex_index')


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
  """Vertices [V, 3] float32 in the frame of the file and faces [F, 3] int32, rows of vertices.

  Raises ValueError when the file is missing, is not a triangle mesh, is damaged, or has faces of vertices that do
  not exist.
  """
  path = Path(path)
  if not path.is_file():
    found = 'a folder' if path.is_dir() else 'nothing'
    raise bad_file(path, found, 'a PLY file of a triangle mesh', 'check the path')
  header = ply.read_header(path)
  face, vertex = header.element('face'), header.element('vertex')
  name = next((n for n in _LISTS if face is not None and n in face.names), None)
  if name is None or vertex is None or not {'x', 'y', 'z'} <= set(vertex.names):
    raise bad_file(
      path, f'elements {[e.name for e in header.elements]}', 'vertices and faces', 'give a triangle mesh'
    )
  elements = ply.read_elements(header, {'vertex', 'face'})
  with np.errstate(over='ignore', invalid='ignore'):  # what does not fit is refused below
    vertices = np.stack([elements['vertex'][axis] for axis in 'xyz'], axis=1).astype(np.float32)
  indices = elements['face'][name]
  if len(vertices) == 0 or len(indices) == 0 or indices.ndim != 2 or indices.shape[1] != 3:
    raise bad_file(
      path, f'{len(vertices)} vertices, faces {indices.shape}', 'triangles', 'triangulate the mesh and export it'
    )
  if not np.isfinite(vertices).all() or indices.min() < 0 or indices.max() >= len(vertices):
    raise bad_file(
      path, 'faces of vertices that do not exist, or values that are not finite', 'a sound mesh', 'repair the mesh'
    )
  return vertices, indices.astype(np.int32)
