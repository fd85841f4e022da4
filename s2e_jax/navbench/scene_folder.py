"""The folder of a prepared scene, written and read back: scene.json, gaussians.npz, maps.npz and episodes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.episode_files import EpisodeFile, episode_path, hash_of, read_episodes
from s2e_jax.navbench.frame import Similarity
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import FIELDS, Maps
from s2e_jax.reporting import write_whole

FORMAT_VERSION = 1
SCENE_FILE, GAUSSIANS_FILE, MAPS_FILE, PICTURES = 'scene.json', 'gaussians.npz', 'maps.npz', 'pictures'
_REMEDY = 'prepare the scene again with python -m s2e_jax.navbench.prepare'
_FLOAT16_MIN, _FLOAT16_MAX = 6.2e-5, 6.5e4  # of normal numbers


@dataclasses.dataclass(frozen=True)
class PreparedScene:
  """A scene that episodes are driven in. World: z up, metres, floor near z = 0.

  hash: of everything below; episode files carry it. world_from_file: places of the source file in the world.
  about: the content of scene.json.
  """

  name: str
  hash: str
  folder: Path
  world_from_file: Similarity
  gaussians: Gaussians
  maps: Maps
  about: dict[str, Any]

  def episodes(self, task: str) -> EpisodeFile:
    """Episodes of a task, checked to belong to this scene; raises ValueError with the tasks there are."""
    path = episode_path(self.folder, task)
    if not path.is_file():
      there = sorted(p.stem.removeprefix('episodes_') for p in self.folder.glob('episodes_*.json'))
      raise ValueError(f'{self.folder}: no episodes of task {task!r}, there are {there}: {_REMEDY} --tasks={task}')
    return read_episodes(path, self.hash)


def packed(gaussians: Gaussians) -> dict[str, np.ndarray]:
  """Arrays for storage: centres in float32, opacity in 8 bits, the rest in float16, below what a picture shows."""
  scale = np.clip(np.asarray(gaussians.scale), _FLOAT16_MIN, _FLOAT16_MAX)
  return {
    'mean': np.asarray(gaussians.mean, np.float32),
    'scale': scale.astype(np.float16),
    'rotation': np.asarray(gaussians.rotation).astype(np.float16),
    'opacity': np.round(np.clip(np.asarray(gaussians.opacity), 0, 1) * 255).astype(np.uint8),
    'sh': np.clip(np.asarray(gaussians.sh), -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16),
  }


def unpacked(arrays: Mapping[str, np.ndarray]) -> Gaussians:
  """The gaussians in float32, inverse of `packed` but for rounding."""
  rotation = arrays['rotation'].astype(np.float32)
  return Gaussians(
    mean=arrays['mean'],
    scale=arrays['scale'].astype(np.float32),
    rotation=rotation / np.linalg.norm(rotation, axis=1, keepdims=True),
    opacity=arrays['opacity'].astype(np.float32) / np.float32(255),
    sh=arrays['sh'].astype(np.float32),
  )


def write_scene(
  folder: Path, name: str, gaussians: Gaussians, maps: Maps, world_from_file: Similarity, about: Mapping[str, Any]
) -> PreparedScene:
  """Writes scene.json, gaussians.npz and maps.npz, the description last, and returns what `load_scene` would.

  about: JSON-able facts for scene.json; they are part of the hash.
  """
  folder.mkdir(parents=True, exist_ok=True)
  # A folder that is half rewritten must not load: the description comes back when everything it names is there.
  (folder / SCENE_FILE).unlink(missing_ok=True)
  arrays, fields = packed(gaussians), _map_arrays(maps)
  write_whole(folder / GAUSSIANS_FILE, _npz(arrays))
  write_whole(folder / MAPS_FILE, _npz(fields, compress=True))
  content: dict[str, Any] = {
    'format_version': FORMAT_VERSION,
    'name': name,
    **about,
    'world_from_file': world_from_file.to_dict(),
    'robot_radius': maps.robot_radius,
    'gaussians_sha256': hash_of_arrays(arrays),
    'maps_sha256': hash_of_arrays(fields),
  }
  content = json.loads(json.dumps(content, allow_nan=False))
  content['hash'] = hash_of(content)
  write_whole(folder / SCENE_FILE, json.dumps(content, indent=1, allow_nan=False) + '\n')
  return PreparedScene(name, content['hash'], folder, world_from_file, unpacked(arrays), maps, content)


def load_scene(folder: str | Path) -> PreparedScene:
  """The scene of a folder that `prepare` wrote.

  Raises ValueError when a file is missing, cut short or changed, or of another format version.
  """
  folder = Path(folder)
  path = folder / SCENE_FILE
  if not path.is_file():
    raise ValueError(f'{folder}: no {SCENE_FILE}; a scene is a folder that was prepared whole: {_REMEDY}')
  content = json.loads(path.read_text())
  version = content.get('format_version')
  if version != FORMAT_VERSION:
    raise ValueError(f'{path}: format_version={version!r}, this program reads {FORMAT_VERSION}: {_REMEDY}')
  stated = content.pop('hash', None)
  if stated != hash_of(content):
    raise ValueError(f'{path}: its hash {str(stated)[:16]} does not fit its content, it was changed: {_REMEDY}')
  arrays = _read_arrays(folder / GAUSSIANS_FILE, content['gaussians_sha256'])
  fields = _read_arrays(folder / MAPS_FILE, content['maps_sha256'])
  return PreparedScene(
    content['name'],
    stated,
    folder,
    Similarity.from_dict(content['world_from_file']),
    unpacked(arrays),
    _maps(fields, content['robot_radius']),
    {**content, 'hash': stated},
  )


def hash_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names, types, shapes and values: not of how an archive packs them."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    digest.update(f'{name} {array.dtype.str} {array.shape};'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def hash_of_source(path: Path) -> str:
  """SHA-256 of a file, or of all files below a folder with their names."""
  if path.is_file():
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  digest = hashlib.sha256()
  for part in sorted(p for p in path.rglob('*') if p.is_file()):
    digest.update(f'{part.relative_to(path).as_posix()} {hash_of_source(part)};'.encode())
  return digest.hexdigest()


def _map_arrays(maps: Maps) -> dict[str, np.ndarray]:
  return {
    **{name: getattr(maps, name) for name in FIELDS},
    'origin': np.array(maps.grid.origin, np.float64),
    'cell': np.array(maps.grid.cell, np.float64),
  }


def _maps(fields: Mapping[str, np.ndarray], robot_radius: float) -> Maps:
  nx, ny = fields['occupied'].shape
  x, y = fields['origin']
  grid = Grid((float(x), float(y)), float(fields['cell']), (nx, ny))
  return Maps(grid, **{name: fields[name] for name in FIELDS}, robot_radius=float(robot_radius))


def _npz(arrays: Mapping[str, np.ndarray], compress: bool = False) -> bytes:
  buffer = io.BytesIO()
  save: Any = np.savez_compressed if compress else np.savez
  save(buffer, **arrays)
  return buffer.getvalue()


def _read_arrays(path: Path, sha256: str) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(f'{path}: cannot be read ({error}): {_REMEDY}') from error
  found = hash_of_arrays(arrays)
  if found != sha256:
    raise ValueError(
      f'{path}: sha256 {found[:16]} of its arrays, {SCENE_FILE} states {sha256[:16]}: the files do not belong '
      f'together: {_REMEDY}'
    )
  return arrays
