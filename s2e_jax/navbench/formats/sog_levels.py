"""Streamed SOG (PlayCanvas): a `lod-meta.json` whose tree names, per level of detail, parts of many SOG scenes.

Level 0 is the finest. A copy on disk often holds only some levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats import sog
from s2e_jax.navbench.formats.stored import (
  MAX_JSON_BYTES,
  Level,
  Stored,
  bad_file,
  check_count,
  join,
  parse_json,
  read_bounded,
)

META = 'lod-meta.json'
MAX_DEPTH = 200
_REMEDY = 'copy or export the scene again'

Part = tuple[int, int]  # offset, count
Parts = dict[int, dict[str, list[Part]]]  # level -> file name -> parts of it


def read(path: Path, level: int | None, max_gaussians: int, with_environment: bool = False) -> Stored:
  """Gaussians of one level: the given one, or the finest whose files are all there.

  path: the `lod-meta.json` or its folder. with_environment: adds the far surroundings that the scene names.
  Raises ValueError when no level is complete, or the given one is not there in full.
  """
  path = path / META if path.is_dir() else path
  parts, environment = _parts(path)
  levels = {
    index: Level(
      sum(count for ranges in files.values() for _, count in ranges),
      tuple(name for name in files if not _is_there(path.parent, name)),
    )
    for index, files in sorted(parts.items())
  }
  complete = {index: found.num_gaussians for index, found in levels.items() if found.is_complete}
  listed = ', '.join(f'{index} ({num} gaussians)' for index, num in complete.items()) or 'none'
  if not complete:
    missing = levels[max(levels)].missing
    raise bad_file(path, f'no complete level; {missing[0]} is missing', 'all files of a level', 'copy one level')
  level = min(complete) if level is None else level
  if level not in complete:
    raise ValueError(f'{path}: level={level} is not there in full; complete levels: {listed}')
  check_count(
    path, complete[level], max_gaussians, f'complete levels: {listed}; choose a level or raise max_gaussians'
  )

  found = []
  versions = set()
  notes: list[str] = []
  for name, ranges in parts[level].items():
    stored = sog.read(path.parent / name, max_gaussians)
    found.append(_cut(path, name, stored.gaussians, ranges))
    versions.add(stored.version)
    notes += stored.notes
  if environment is not None and with_environment:
    far = sog.read(path.parent / sog.safe_name(environment, path), max_gaussians).gaussians
    check_count(path, complete[level] + far.num, max_gaussians)
    found.append(far)
    notes.append(f'with {far.num} gaussians of the environment {environment}')
  elif environment is not None:
    notes.append(f'without the environment {environment}')
  elif with_environment:
    notes.append('the scene names no environment')
  return Stored(
    join(found), 'streamed sog', '/'.join(sorted(versions)), tuple(dict.fromkeys(notes)), level, levels
  )


def _is_there(folder: Path, name: str) -> bool:
  """Whether a part's `meta.json` or bundle and all planes it names are on disk."""
  file = folder / name
  if not file.is_file():
    return False
  if file.suffix != '.json' or file.stat().st_size > MAX_JSON_BYTES:
    return True
  meta = parse_json(file.read_bytes(), file)
  groups = (group for group in meta.values() if isinstance(group, dict))
  planes = [plane for group in groups for plane in group.get('files', ())]
  return all((file.parent / sog.safe_name(plane, file)).is_file() for plane in planes)


def _parts(path: Path) -> tuple[Parts, str | None]:
  """What every level is made of, and the name of the environment; raises ValueError on a damaged tree."""
  meta = parse_json(read_bounded(path), path)
  names, tree = meta.get('filenames'), meta.get('tree')
  if not isinstance(names, list) or not isinstance(tree, dict):
    raise bad_file(path, f'the fields {sorted(meta)}', "'filenames' and 'tree' of a streamed SOG", _REMEDY)
  names = [sog.safe_name(name, path) for name in names]
  parts: Parts = {}
  pending: list[tuple[Any, int]] = [(tree, 0)]
  try:
    while pending:
      node, depth = pending.pop()
      if depth > MAX_DEPTH:
        raise ValueError(f'nested deeper than {MAX_DEPTH}')
      for level, part in node.get('lods', {}).items():
        index, offset, count = part['file'], int(part['offset']), int(part['count'])
        if index < 0 or offset < 0 or count < 0 or int(level) < 0:
          raise ValueError(f'negative numbers in {part}')
        if count:
          parts.setdefault(int(level), {}).setdefault(names[index], []).append((offset, count))
      pending += [(child, depth + 1) for child in node.get('children') or ()]
  except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
    raise bad_file(
      path, f'a damaged tree ({type(error).__name__}: {error})', 'nodes with lods', _REMEDY
    ) from error
  if not parts:
    raise bad_file(path, 'a tree without gaussians', 'at least one level', _REMEDY)
  return parts, meta.get('environment')


def _cut(path: Path, name: str, gaussians: Gaussians, ranges: list[Part]) -> Gaussians:
  """The parts of a file that belong to a level, in the file's order."""
  if max(offset + count for offset, count in ranges) > gaussians.num:
    raise bad_file(path, f'{gaussians.num} gaussians in {name}', f'those of {ranges[-1]}', _REMEDY)
  keep = np.zeros(gaussians.num, bool)
  for offset, count in ranges:
    if keep[offset : offset + count].any():
      raise bad_file(path, f'overlapping parts of {name}', 'every gaussian once per level', _REMEDY)
    keep[offset : offset + count] = True
  if keep.all():
    return gaussians
  return Gaussians(
    mean=gaussians.mean[keep],
    scale=gaussians.scale[keep],
    rotation=gaussians.rotation[keep],
    opacity=gaussians.opacity[keep],
    sh=gaussians.sh[keep],
  )
