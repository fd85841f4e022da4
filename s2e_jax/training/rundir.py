"""A run's folder: one config for its whole life, one writer at a time, and everything needed to repeat it.

config.json, description.json, parameters.txt, metrics.jsonl, tensorboard/, checkpoints/ (newest few), best/.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from s2e_jax import trees
from s2e_jax.reporting import write_whole

CONFIG, DESCRIPTION, PARAMETERS = 'config.json', 'description.json', 'parameters.txt'
CHECKPOINTS, BEST = 'checkpoints', 'best'

# Leaves that a resumed run may change: they move no parameter. data.path may move with its dataset, whose content
# is compared instead.
NEUTRAL = frozenset(
  {
    'train.log_every', 'train.eval_every', 'train.checkpoint_every', 'train.keep', 'train.max_bad_steps',
    'data.num_threads', 'data.num_workers', 'data.prefetch', 'data.path',
  }
)  # fmt: skip


def is_run(folder: Path) -> bool:
  """Whether the folder is a run's: runs of a sweep have numbers for names, as checkpoints do."""
  return any((folder / name).is_dir() for name in (CHECKPOINTS, BEST))


def write_text(path: Path, text: str) -> None:
  """Writes a file whole or not at all; only in the first process."""
  if jax.process_index() == 0:
    write_whole(path, text)


def write_json(path: Path, value: Any) -> None:
  """`write_text` of indented JSON."""
  write_text(path, json.dumps(value, indent=2) + '\n')


@contextlib.contextmanager
def locked(workdir: Path, wait: bool = False) -> Iterator[None]:
  """Makes `workdir` and holds it for this run; the kernel lets go of it when the process dies.

  Raises ValueError when another process trains there: two would delete each other's checkpoints. wait: until it
  has ended, instead.
  """
  if jax.process_index() != 0:
    yield
    return
  workdir.mkdir(parents=True, exist_ok=True)
  handle = os.open(workdir / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise ValueError(
        f'workdir={workdir} is in use by another process; wait for it or choose another folder'
      ) from error
    yield
  finally:
    os.close(handle)


def flatten(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dicts -> {'a.b': value}; empty dicts stay values."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def config_differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
  """One line per leaf in which two configs differ and that may not change within a run."""
  a, b = flatten(stored), flatten(given)
  absent = object()
  return [
    f'{name}: stored {_shown(a.get(name, absent), absent)}, given {_shown(b.get(name, absent), absent)}'
    for name in sorted(a.keys() | b.keys())
    if name not in NEUTRAL and a.get(name, absent) != b.get(name, absent)
  ]


def _shown(value: Any, absent: object) -> str:
  return 'nothing' if value is absent else repr(value)


def open_run(workdir: Path, config: Mapping[str, Any]) -> None:
  """Makes `workdir` with its config.json, or checks `config` against the one that is there.

  config: JSON-able. Raises ValueError that lists the differences of a run that was started with another config.
  """
  path = workdir / CONFIG
  config = json.loads(json.dumps(config))
  if path.exists():
    if lines := config_differences(json.loads(path.read_text()), config):
      raise ValueError(
        f'workdir={workdir} holds a run with another config; give the same one to resume, or another workdir:\n  '
        + '\n  '.join(lines)
      )
  elif any((workdir / name).exists() for name in (CHECKPOINTS, BEST)):
    raise ValueError(f'workdir={workdir} holds checkpoints but no {CONFIG}; choose another workdir')
  write_json(path, config)


def check_data(workdir: Path, content_hash: str) -> None:
  """Raises ValueError when the run in `workdir` was started on other data than `content_hash`."""
  path = workdir / DESCRIPTION
  if path.exists():
    stored = json.loads(path.read_text())['data']['content_hash']
    if stored != content_hash:
      raise ValueError(
        f'workdir={workdir} was started on other data: content {stored[:12]}, given {content_hash[:12]}; '
        'point config.data.path at the same dataset, or choose another workdir'
      )


def environment() -> dict[str, Any]:
  """JSON-able record of code and machine: git commit (None outside a checkout), package versions, devices."""
  packages = {}
  for requirement in importlib.metadata.requires('s2e_jax') or ():
    name = requirement.split(';')[0].strip()
    name = name[: next((i for i, c in enumerate(name) if not (c.isalnum() or c in '-_.')), len(name))]
    if 'extra ==' not in requirement:
      packages[name] = importlib.metadata.version(name)
  return {
    'git': _git(),
    'packages': {
      's2e_jax': importlib.metadata.version('s2e_jax'),
      'python': platform.python_version(),
      **packages,
    },
    'devices': {
      'kind': jax.devices()[0].device_kind,
      'backend': jax.default_backend(),
      'count': jax.device_count(),
      'processes': jax.process_count(),
    },
  }


def _git() -> dict[str, Any] | None:
  """Commit of the checkout that this package runs from, and whether tracked files differ from it."""
  root = Path(__file__).resolve().parents[2]

  def git(*words: str) -> str:
    return subprocess.run(
      ['git', '-C', str(root), *words], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()

  try:
    if Path(git('rev-parse', '--show-toplevel')).resolve() != root:
      return None  # installed inside some other project's checkout
    return {'commit': git('rev-parse', 'HEAD'), 'is_dirty': bool(git('status', '--porcelain', '-uno'))}
  except (OSError, subprocess.SubprocessError):
    return None


def check_model(stored: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
  """Raises ValueError naming both models when a checkpoint's policy (its `to_dict`) is not the one given."""
  lines = [
    f'{name}: checkpoint {stored.get(name)!r}, this run {given.get(name)!r}'
    for name in sorted(stored.keys() | given.keys())
    if stored.get(name) != given.get(name)
  ]
  if lines:
    raise ValueError(
      f'{where} holds the model {stored.get("name")!r}, this run builds {given.get("name")!r}; they differ in:\n  '
      + '\n  '.join(lines)
    )


def parameter_table(params: Any) -> str:
  """Text table: path, shape, count and learning-rate group of every parameter, and the totals."""
  rows = [
    (path, 'x'.join(map(str, leaf.shape)) or 'scalar', f'{int(leaf.size):,}')
    for path, leaf in zip(trees.paths(params), jax.tree.leaves(params), strict=True)
  ]
  groups = [(name, '', f'{trees.count_parameters(tree):,}') for name, tree in params.items()]
  rows += [('', '', ''), *groups, ('total (all trainable)', '', f'{trees.count_parameters(params):,}')]
  wide = [max(len(row[i]) for row in rows) for i in range(3)]
  return '\n'.join(f'{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}'.rstrip() for a, b, c in rows) + '\n'
