"""Episode files of a scene: versioned, hashed, and bound to the scene they were drawn for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2e_jax.navbench.episodes import PlannedEpisode, blocked_share
from s2e_jax.reporting import write_whole

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class EpisodeFile:
  """Episodes of one task. scene_name, scene_hash: of their scene. robot_radius: m they were drawn for.

  turn_radius: m of the tightest turn of that robot, 0 where it turns on the spot.
  """

  task: str
  scene_name: str
  scene_hash: str
  seed: int
  robot_radius: float
  episodes: tuple[PlannedEpisode, ...]
  sha256: str = ''
  turn_radius: float = 0.0


def hash_of(content: Any) -> str:
  """SHA-256 of JSON-able content: the same for the same values, however the file is laid out."""
  return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def episode_path(folder: Path, task: str) -> Path:
  """Where the episodes of a task lie in a scene's folder."""
  return folder / f'episodes_{task}.json'


def write_episodes(
  folder: Path,
  task: str,
  episodes: Sequence[PlannedEpisode],
  *,
  scene_name: str,
  scene_hash: str,
  seed: int,
  robot_radius: float,
  turn_radius: float = 0.0,
) -> Path:
  """Writes `episodes_<task>.json`; the same episodes give the same bytes. turn_radius: see `EpisodeFile`."""
  content: dict[str, Any] = {
    'format_version': FORMAT_VERSION,
    'task': task,
    'scene_name': scene_name,
    'scene_hash': scene_hash,
    'seed': seed,
    'robot_radius': robot_radius,
    'straight_blocked_share': round(blocked_share(episodes), 4),
    'episodes': [episode.to_dict() for episode in episodes],
  }
  if turn_radius:
    content['turn_radius'] = turn_radius
  content = json.loads(json.dumps(content))
  content['sha256'] = hash_of(content)
  return write_whole(episode_path(folder, task), _laid_out(content))


def read_episodes(path: Path, scene_hash: str | None = None) -> EpisodeFile:
  """The episodes of a file; scene_hash: of the scene at hand, None takes any.

  Raises ValueError when the file is of another format version, was changed, or belongs to another scene.
  """
  content = json.loads(Path(path).read_text())
  version = content.get('format_version')
  if version != FORMAT_VERSION:
    raise ValueError(
      f'{path}: format_version={version!r}, this program reads {FORMAT_VERSION}: prepare the scene again'
    )
  stated = content.pop('sha256', None)
  found = hash_of(content)
  if stated != found:
    raise ValueError(
      f'{path}: sha256 {_short(stated)} is stated but the content has {_short(found)}: the file was changed '
      'after it was written; restore it or prepare the scene again'
    )
  if scene_hash is not None and content['scene_hash'] != scene_hash:
    raise ValueError(
      f'{path}: its episodes belong to scene {content["scene_name"]!r} with hash {_short(content["scene_hash"])}, '
      f'but the scene at hand has hash {_short(scene_hash)}: take the folder they came with, or prepare the scene '
      'again'
    )
  episodes = tuple(PlannedEpisode.from_dict(fields) for fields in content['episodes'])
  return EpisodeFile(
    content['task'], content['scene_name'], content['scene_hash'], content['seed'], content['robot_radius'],
    episodes, found, content.get('turn_radius', 0.0),
  )  # fmt: skip


def _laid_out(content: dict[str, Any]) -> str:
  """JSON with a line per field and per episode: short, and a change of one episode is a change of one line."""
  as_json = lambda value: json.dumps(value, allow_nan=False)
  fields = [f'"{key}": {as_json(value)}' for key, value in content.items() if key != 'episodes']
  episodes = ',\n  '.join(as_json(episode) for episode in content['episodes'])
  return '{\n ' + ',\n '.join([*fields, f'"episodes": [\n  {episodes}\n ]']) + '\n}\n'


def _short(digest: str | None) -> str:
  return digest[:16] if digest else 'none'
