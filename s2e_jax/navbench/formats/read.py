"""Gaussians of a splat file or folder of any known format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats import checkpoints, ksplat, ply, ply_gaussians, sog, sog_levels, splat, spz
from s2e_jax.navbench.formats.ply_gaussians import write_ply
from s2e_jax.navbench.formats.stored import (
  MAX_JSON_BYTES,
  ReadReport,
  Stored,
  bad_file,
  opened_zip,
  parse_json,
  usable,
)
from s2e_jax.navbench.formats.vid2sim import splat_of

__all__ = ['ReadReport', 'read_gaussians', 'write_ply']

# With spherical harmonics of degree 3 about 2.4 GB, without about 0.6 GB.
MAX_GAUSSIANS = 10_000_000
KNOWN = '.ply, compressed .ply, .splat, .spz, .ksplat, .sog, meta.json or lod-meta.json, gsplat .pt or .npz'

Reader = Callable[[Path, int], Stored]


def read_gaussians(
  path: str | Path,
  level: int | None = None,
  *,
  max_gaussians: int = MAX_GAUSSIANS,
  with_environment: bool = False,
) -> tuple[Gaussians, ReadReport]:
  """Gaussians of a scene, numpy float32 in the frame of the file, and the report of what was left out.

  path: a file of a known format, told by its content, or the folder of a SOG scene or of a Vid2Sim scene (its
  point_cloud.ply is read). level: of a streamed SOG, 0 the finest; by default the finest whose files are all
  there. max_gaussians: more than these are refused before they are read. with_environment: of a streamed SOG,
  whether its far surroundings are added.

  Frame: none of the formats states one. 3DGS files mostly keep the frame of their camera poses (y down), `.spz` is
  y up, exports of viewers are often turned. Raises ValueError (mostly SplatFileError) when the file is missing,
  damaged, of another kind, has no usable gaussian, or has more than `max_gaussians`.
  """
  path = splat_of(Path(path))
  if not path.exists():
    raise bad_file(path, 'nothing', f'a splat scene ({KNOWN})', 'check the path')
  try:
    if _is_streamed(path):
      stored = sog_levels.read(path, level, max_gaussians, with_environment)
    else:
      reader = _reader(path)
      if level is not None:
        raise ValueError(f'{path}: level={level} is for streamed SOG scenes (lod-meta.json); leave it out')
      stored = reader(path, max_gaussians)
  except OSError as error:
    raise ValueError(f'{path} cannot be read ({error}); check the disk and the permissions') from error
  return usable(stored, path)


def _is_streamed(path: Path) -> bool:
  if path.is_dir():
    return (path / sog_levels.META).is_file()
  if path.suffix.lower() != '.json' or path.stat().st_size > MAX_JSON_BYTES:
    return False
  return 'tree' in parse_json(path.read_bytes(), path)


def _reader(path: Path) -> Reader:
  """The reader of a file's format; raises ValueError when it is none of the known ones."""
  if path.is_dir():
    if (path / sog.META).is_file():
      return sog.read
    names = sorted(f.name for f in path.iterdir())[:8]
    raise bad_file(path, f'a folder with {names}', f'{sog.META} or {sog_levels.META}', f'give one file ({KNOWN})')
  with path.open('rb') as file:
    head = file.read(64)
  if not head:
    raise bad_file(path, '0 bytes', f'a splat scene ({KNOWN})', 'copy the file again')
  suffix = path.suffix.lower()
  if head.startswith((ply.MAGIC + b'\n', ply.MAGIC + b'\r')):
    return ply_gaussians.read
  if head.startswith((spz.MAGIC, spz.GZIP_MAGIC)):
    return spz.read
  if head.startswith(b'PK\x03\x04'):
    return _zip_reader(path)
  if suffix == '.json':
    return sog.read
  # the last two have no magic number: a suffix goes before what the bytes could be
  if suffix == '.splat':
    return splat.read
  if suffix == '.ksplat' or ksplat.is_header(head):
    return ksplat.read
  if head.startswith(b'\x80') and suffix in ('.pt', '.pth', '.ckpt'):
    remedy = 'save it again with a torch of version 1.6 or later; pickles are not run'
    raise bad_file(path, 'a bare pickle', 'the zip archive of torch.save', remedy)
  if head.startswith(b'version https://git-lfs'):
    raise bad_file(path, 'a Git LFS pointer', 'the file it stands for', 'fetch it with git lfs pull')
  raise bad_file(path, f'bytes that begin {head[:8]!r}', f'one of {KNOWN}', 'export the scene as one of these')


def _zip_reader(path: Path) -> Reader:
  with opened_zip(path) as bundle:
    names = {name.rpartition('/')[2] for name in bundle.namelist()}
  if 'data.pkl' in names:
    return checkpoints.read_pt
  if sog.META in names:
    return sog.read
  if any(name.endswith('.npy') for name in names):
    return checkpoints.read_npz
  raise bad_file(
    path, f'a zip of {sorted(names)[:8]}', 'a .sog bundle, .npz or torch archive', f'give one of {KNOWN}'
  )
