"""The default scenes that ship with the package: splats fitted to blocks, and the facts that belong to them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.blocks import Block, make_block
from s2e_jax.navbench.fit import FitReport
from s2e_jax.navbench.formats.read import read_gaussians
from s2e_jax.navbench.spz_write import spz_bytes
from s2e_jax.reporting import write_whole
from s2e_jax.scene import Light

FOLDER = Path(__file__).parent / 'scenes'


@dataclasses.dataclass(frozen=True)
class ShippedScene:
  """gaussians: numpy, in the block's world (z up, metres, ground z = 0). facts: the JSON beside them.

  block: what they were fitted to, the source of the truth. path: the `.spz` file.
  """

  gaussians: Gaussians
  facts: dict[str, Any]
  block: Block
  path: Path

  @property
  def light(self) -> Light:
    """Sun and sky of the pictures that the gaussians were fitted to."""
    return Light(**{name: jnp.asarray(value, jnp.float32) for name, value in self.facts['light'].items()})


def shipped_names(folder: str | Path = FOLDER) -> tuple[str, ...]:
  """Names of the scenes in a folder, in alphabetical order."""
  return tuple(sorted(path.stem for path in Path(folder).glob('*.json')))


def load_shipped(name: str, folder: str | Path = FOLDER) -> ShippedScene:
  """The scene of this name; ValueError for a name that is not there, or a damaged file."""
  folder = Path(folder)
  if name not in shipped_names(folder):
    raise ValueError(f'default scene {name!r} must be one of {list(shipped_names(folder))}')
  facts = json.loads((folder / f'{name}.json').read_text())
  path = folder / facts['file']
  gaussians, _ = read_gaussians(path)
  return ShippedScene(gaussians, facts, make_block(facts['name'], facts['seed']), path)


def write_shipped(folder: str | Path, block: Block, gaussians: Gaussians, report: FitReport) -> dict[str, Any]:
  """Writes NAME.spz and NAME.json into a folder, each whole or not at all; returns the facts.

  report: of the gaussians as they are read back from the file.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  content = spz_bytes(gaussians)
  light = block.scene.light
  facts = {
    'name': block.name,
    'seed': block.seed,
    'file': f'{block.name}.spz',
    'up': 'z',
    'scale': 1.0,
    'bounds': [float(x) for x in block.bounds],
    'start': [float(x) for x in block.start],
    'is_indoor': block.is_indoor,
    'num_gaussians': gaussians.num,
    'num_bytes': len(content),
    'held_out': {
      when: {'psnr': round(quality.psnr, 2), 'depth_error': round(quality.depth_error, 5)}
      for when, quality in (('before', report.before), ('after', report.after))
    },
    'light': {f.name: _plain(getattr(light, f.name)) for f in dataclasses.fields(light)},
  }
  write_whole(folder / f'{block.name}.spz', content)
  write_whole(folder / f'{block.name}.json', json.dumps(facts, indent=2) + '\n')
  return facts


def _plain(value: jax.Array) -> Any:
  return np.round(np.asarray(value, float), 6).tolist()
