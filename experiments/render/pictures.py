"""Contact sheets of random worlds: python -m experiments.render.pictures --out=runs/pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.view import View, view_of
from s2e_jax.scene import SLOTS, Scene, ground_height, to_street
from s2e_jax.worlds.config import WorldConfig
from s2e_jax.worlds.generate import make_generator

OUT = flags.DEFINE_string('out', 'runs/pictures', 'folder of the PNG files')
LOOK = flags.DEFINE_list('look', ['A', 'B', 'C-near', 'C-far'], 'looks to draw')
ROWS = flags.DEFINE_integer('rows', 8, 'pictures under one another')
COLUMNS = flags.DEFINE_integer('columns', 8, 'pictures beside one another')
HEIGHT = flags.DEFINE_integer('height', 96, 'pixels')
WIDTH = flags.DEFINE_integer('width', 192, 'pixels')
SEED = flags.DEFINE_integer('seed', 0, 'seed of the worlds')


def random_worlds(look: str, num: int, seed: int) -> tuple[Scene, View]:
  """num worlds of a look, seen from where their robots start."""
  generate = make_generator(WorldConfig(slots=SLOTS['standard'], look=look))
  worlds = jax.jit(jax.vmap(generate, (0, None)))(jax.random.split(jax.random.key(seed), num), jnp.float32(1.0))
  scene, pos = worlds.scene, worlds.start_in_world
  ground = scene.ground
  s, d = jax.vmap(to_street)(pos[:, 0], pos[:, 1], ground.curvature)
  z = jax.vmap(ground_height)(ground, s, d)
  return scene, view_of(scene.mount, pos, worlds.start_yaw, z)


def sheet(pictures: np.ndarray, columns: int, gap: int = 4) -> np.ndarray:
  """One RGB image of pictures [N, h, w, 3], row by row with white lines between them."""
  padded = np.pad(pictures, ((0, -len(pictures) % columns), (0, gap), (0, gap), (0, 0)), constant_values=255)
  rows = padded.reshape(-1, columns, *padded.shape[1:])
  return np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)[:-gap, :-gap]


def main(_: list[str]) -> None:
  """Writes one sheet per look."""
  folder = Path(OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  options = RenderOptions(height=HEIGHT.value, width=WIDTH.value)
  draw = jax.jit(lambda scene, view: render(scene, view, options).rgb)
  for look in LOOK.value:
    scene, view = random_worlds(look, ROWS.value * COLUMNS.value, SEED.value)
    image = sheet(np.asarray(draw(scene, view)), COLUMNS.value)
    path = folder / f'{look}.png'
    cv2.imwrite(str(path), image[..., ::-1])
    print(f'wrote {path}')


if __name__ == '__main__':
  app.run(main)
