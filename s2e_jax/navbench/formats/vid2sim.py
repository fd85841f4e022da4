"""The released scenes of Vid2Sim and NavBench-GS, by the names of their files.

ROOT/vid2sim_raw/NNNN/{point_cloud.ply, tsdf_fusion_post.ply, config.yaml} and
ROOT/vid2sim_starting_ending_position.json. Nothing large is read here: see `read.read_gaussians` and
`mesh.read_mesh`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from s2e_jax.navbench.formats.stored import bad_file, parse_json, read_bounded

RAW = 'vid2sim_raw'
POSITIONS = 'vid2sim_starting_ending_position.json'
SPLAT, MESH, CONFIG = 'point_cloud.ply', 'tsdf_fusion_post.ply', 'config.yaml'
MAX_CONFIG_BYTES = 2**20
_START, _GOAL = ('start',), ('end', 'goal')


@dataclasses.dataclass(frozen=True)
class Vid2SimScene:
  """One scene. splat, mesh: its files, None where absent. config: what `config.yaml` holds, empty without it.

  routes: [P, 2, 3] start and goal positions in the frame of the scene; P is 0 where none are given.
  """

  name: str
  splat: Path | None
  mesh: Path | None
  config: dict[str, Any]
  routes: np.ndarray


def read_vid2sim(root: str | Path) -> list[Vid2SimScene]:
  """Scenes in a copy of the release, sorted by name; root: the folder that holds `vid2sim_raw`, or that folder.

  Raises ValueError when there are none, when a file has another layout, or when routes name a scene that is not
  among them while none of the scenes has one.
  """
  root = Path(root)
  raw = root if root.name == RAW else root / RAW
  folders = sorted(f for f in raw.iterdir() if f.is_dir()) if raw.is_dir() else []
  folders = [f for f in folders if (f / SPLAT).is_file() or (f / MESH).is_file()]
  if not folders:
    raise bad_file(root, f'no scene with {SPLAT} or {MESH}', f'{RAW}/NNNN/', 'give the folder of the release')
  positions = raw.parent / POSITIONS
  routes = read_routes(positions) if positions.is_file() else {}
  scenes = [_scene(folder, routes) for folder in folders]
  if routes and not any(len(scene.routes) for scene in scenes):
    raise bad_file(
      positions, f'scenes {sorted(routes)[:5]}', f'some of {[f.name for f in folders][:5]}', 'check the names'
    )
  return scenes


def splat_of(path: Path) -> Path:
  """The splat in a scene's folder of the release; any other path, that of a SOG folder included, as it is."""
  inside = path / SPLAT
  return inside if inside.is_file() and not any(path.glob('*meta.json')) else path


def mesh_beside(splat: Path) -> Path | None:
  """The mesh that lies beside a scene's splat in the release, None where there is none."""
  mesh = splat.with_name(MESH)
  return mesh if splat.name == SPLAT and mesh.is_file() else None


def _scene(folder: Path, routes: dict[str, np.ndarray]) -> Vid2SimScene:
  file = lambda name: folder / name if (folder / name).is_file() else None
  # the release pads numbers with zeros; the JSON file may not
  number = folder.name.lstrip('0') or '0'
  own = routes.get(folder.name, routes.get(number, np.zeros((0, 2, 3))))
  config = file(CONFIG)
  return Vid2SimScene(folder.name, file(SPLAT), file(MESH), read_config(config) if config else {}, own)


def read_config(path: Path) -> dict[str, Any]:
  """The mapping in a YAML file; raises ValueError when it is damaged or something else. Tags run nothing."""
  try:
    config = yaml.safe_load(read_bounded(path, MAX_CONFIG_BYTES))
  except (yaml.YAMLError, RecursionError) as error:
    raise bad_file(path, f'damaged YAML ({error})', 'a mapping', 'copy the file again') from error
  if config is not None and not isinstance(config, dict):
    raise bad_file(path, f'YAML of a {type(config).__name__}', 'a mapping', 'copy the file again')
  return config or {}


def read_routes(path: Path) -> dict[str, np.ndarray]:
  """[P, 2, 3] starts and goals of every scene.

  Accepted, per scene: {'start': [x, y, z], 'end' or 'goal': [x, y, z]}, a list of these, one pair
  [[x, y, z], [x, y, z]] or a list of pairs. Raises ValueError on anything else.
  """
  content = parse_json(read_bounded(path), path)
  return {str(scene): _pairs(value, f'{path}, scene {scene!r}') for scene, value in content.items()}


def _pairs(value: Any, where: str) -> np.ndarray:
  if isinstance(value, dict):
    value = [value]
  if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
    value = [[_named(item, _START, where), _named(item, _GOAL, where)] for item in value]
  try:
    pairs = np.asarray(value, np.float64)
  except (TypeError, ValueError):
    pairs = np.empty(0)
  pairs = pairs[None] if pairs.shape == (2, 3) else pairs
  if pairs.ndim != 3 or pairs.shape[1:] != (2, 3) or len(pairs) == 0 or not np.isfinite(pairs).all():
    raise bad_file(
      where,
      f'{str(value)[:120]}',
      "{'start': [x, y, z], 'end' or 'goal': [x, y, z]}, a pair of positions, or a list of these",
      'bring the file to that form',
    )
  return pairs


def _named(item: dict[str, Any], names: tuple[str, ...], where: str) -> Any:
  present = [name for name in names if name in item]
  if len(present) != 1:
    raise bad_file(where, f'the fields {sorted(item)}', f'one of {names}', 'bring the file to that form')
  return item[present[0]]
