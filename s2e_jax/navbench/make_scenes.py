"""Makes the default scenes anew: python -m s2e_jax.navbench.make_scenes [--names=street,park] [--out=DIR].

Takes pictures of each block, fits gaussians to them, writes NAME.spz and NAME.json into DIR (by default where the
package keeps them), and with --sheets=DIR pictures of truth, start and result side by side. Minutes per scene.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.blocks import BLOCKS, make_block
from s2e_jax.navbench.blocks_shipped import FOLDER, write_shipped
from s2e_jax.navbench.capture import Capture, capture, sample_views
from s2e_jax.navbench.fit import FitOptions, FitReport, fit, judge, pictures
from s2e_jax.navbench.fit_start import start_gaussians
from s2e_jax.navbench.formats.read import read_gaussians
from s2e_jax.navbench.spz_write import write_spz

Say = Callable[[str], None]
_LEAST_OPACITY = 1 / 255  # of a gaussian in the file


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a scene is made with.

  num: gaussians. train: pictures that they are fitted to, of train_size (height, width) pixels. held_out,
  held_size: the same of those that quality is stated on; larger, so that the fit's pixels do not flatter it.
  nearest: as in `capture.capture`.
  """

  num: int = 49152
  train: int = 160
  train_size: tuple[int, int] = (64, 128)
  held_out: int = 16
  held_size: tuple[int, int] = (96, 192)
  nearest: int = 14
  fit: FitOptions = FitOptions()


@dataclasses.dataclass(frozen=True)
class Made:
  """facts: as written. start, gaussians: before and after, as read back. truth: the held-out pictures."""

  facts: dict[str, Any]
  start: Gaussians
  gaussians: Gaussians
  truth: Capture


def held_out_pictures(name: str, seed: int = 0, settings: Settings = Settings()) -> Capture:
  """The truth pictures that a scene's quality is stated on; they take no part in its fit."""
  block = make_block(name, seed)
  views = sample_views(block, settings.held_out, seed=2 * seed + 1)
  return capture(block, views, *settings.held_size, nearest=settings.nearest)


def make_scene(
  name: str, out: str | Path, seed: int = 0, settings: Settings = Settings(), say: Say = print
) -> Made:
  """Fits the scene of a block and writes its two files into `out`; the same files for the same arguments.

  Quality is that of the gaussians as they are read back from the file. Raises as `make_block`, `start_gaussians`
  and `fit` do.
  """
  started = time.monotonic()
  block = make_block(name, seed)
  views = sample_views(block, settings.train, seed=2 * seed)
  train = capture(block, views, *settings.train_size, nearest=settings.nearest)
  truth = held_out_pictures(name, seed, settings)
  say(f'{name}: {train.num} + {truth.num} pictures, {time.monotonic() - started:.0f} s')
  start = start_gaussians(train, settings.num, seed)
  fitted, report = fit(start, train, truth, settings.fit, seed, say)
  # none is dropped, so that all scenes have as many and what is compiled for one serves all
  kept = dataclasses.replace(fitted, opacity=np.maximum(fitted.opacity, _LEAST_OPACITY))
  with tempfile.TemporaryDirectory() as folder:
    stored, _ = read_gaussians(write_spz(Path(folder) / f'{name}.spz', kept))
  report = FitReport(report.before, judge(stored, truth), report.seconds, report.loss)
  facts = write_shipped(out, block, kept, report)
  say(
    f'{name}: {facts["num_gaussians"]} gaussians, {facts["num_bytes"] / 1e6:.2f} MB, held-out PSNR '
    f'{report.before.psnr:.2f} -> {report.after.psnr:.2f} dB, depth off by {report.before.depth_error:.2%} -> '
    f'{report.after.depth_error:.2%}, {report.seconds:.0f} s of fitting, {time.monotonic() - started:.0f} s in all'
  )
  return Made(facts, start, stored, truth)


def contact_sheet(made: Made, num: int = 6, enlarged: int = 2) -> np.ndarray:
  """[H, W, 3] uint8: rows of truth, start and result, `num` held-out views of them."""
  few = jax.tree.map(lambda x: x[:num], made.truth.views)
  size = made.truth.depth.shape[1:]
  columns = [made.truth.rgb[:num]]
  for gaussians in (made.start, made.gaussians):
    columns.append(np.clip(pictures(gaussians, few, *size).before(jnp.asarray(made.truth.sky[:num])), 0, 1))
  sheet = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
  whole = (sheet * 255 + 0.5).astype(np.uint8)
  return cv2.resize(whole, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_NEAREST)


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; name scenes with --names=street,park')
  out = Path(_OUT.value)
  settings = Settings(num=_NUM.value, train=_PICTURES.value, fit=FitOptions(steps=_STEPS.value))
  for name in _NAMES.value or sorted(BLOCKS):
    made = make_scene(name, out, _SEED.value, settings, lambda line: print(line, flush=True))
    if _SHEETS.value:
      folder = Path(_SHEETS.value)
      folder.mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(folder / f'{name}.png'), cv2.cvtColor(contact_sheet(made), cv2.COLOR_RGB2BGR))


if __name__ == '__main__':
  _NAMES = flags.DEFINE_list('names', None, 'scenes to make; all by default')
  _OUT = flags.DEFINE_string('out', str(FOLDER), 'folder that the files go to')
  _SHEETS = flags.DEFINE_string('sheets', None, 'folder for pictures of truth, start and result')
  _SEED = flags.DEFINE_integer('seed', 0, 'what the details of the blocks and the cameras are drawn from')
  _NUM = flags.DEFINE_integer('num', Settings.num, 'gaussians per scene', lower_bound=32)
  _PICTURES = flags.DEFINE_integer(
    'pictures', Settings.train, 'pictures per scene that are fitted to', lower_bound=1
  )
  _STEPS = flags.DEFINE_integer('steps', FitOptions.steps, 'steps of the optimisation', lower_bound=1)
  app.run(main)
