"""Drawn clutter, shared by the tests of the renderer; compiled once per process."""

import functools

import jax
import numpy as np
import pytest

from experiments.render.clutter import clutter
from s2e_jax.render.render import WANTED, RenderOptions, render
from s2e_jax.scene import Slots

# One size for nearly all tests, so that they share their programs.
SIZE = {'height': 48, 'width': 80, 'nearest': 16}


@functools.lru_cache
def compiled(options, want):
  return jax.jit(lambda scene, view: render(scene, view, options, want))


@pytest.fixture(scope='session')
def pictures():
  """Function (scene, view, want=all, **options) -> Pictures of numpy arrays, by default of SIZE."""

  def draw(scene, view, want=WANTED, **options):
    return jax.tree.map(np.asarray, compiled(RenderOptions(**(SIZE | options)), tuple(want))(scene, view))

  return draw


@pytest.fixture(scope='session')
def small_clutter():
  """Five scenes and views of 7 boxes, 4 cylinders, 3 people, 2 balls, with every ground feature somewhere."""
  scene, view = clutter(5, Slots(7, 4, 3, 2), seed=3, curvature=0.02)
  scene = jax.tree.map(np.array, scene)
  ground = scene.ground
  ground.cross_road[1], ground.cross_paved[1] = [8, 13], [6, 15]
  ground.crossings[1] = [[4, 7, ground.road[1, 0], ground.road[1, 1]], [8, 13, -9, -6]]
  ground.cross_road[2], ground.cross_paved[2] = [-3, 2], [-5, 4]
  ground.plazas[3] = [[5, 14, -12, 1], [20, 30, 2, 30]]
  ground.curvature[4] = -0.03
  return scene, view
