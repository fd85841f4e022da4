"""Small splat scenes."""

import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.gaussians import Gaussians
from s2e_jax.render.splats.cameras import look_at


def make_blobs(num, seed=0, degree=0, spread=3.0, size=0.12):
  """`num` gaussians in a box before the cameras of `make_cameras`, flat and round, faint and opaque."""
  rng = np.random.default_rng(seed)
  scale = size * np.exp(0.6 * rng.normal(size=(num, 3)))
  scale[: num // 2, 2] *= 0.1
  sh = 0.1 * rng.normal(size=(num, (degree + 1) ** 2, 3))
  sh[:, 0] = rng.uniform(-1.5, 1.5, (num, 3))
  return Gaussians(
    mean=rng.uniform([2.0, -spread, -spread / 2], [9.0, spread, spread / 2], (num, 3)).astype(np.float32),
    scale=scale.astype(np.float32),
    rotation=rng.normal(size=(num, 4)).astype(np.float32),
    opacity=rng.beta(2, 1, num).astype(np.float32).clip(0.02, 0.995),
    sh=sh.astype(np.float32),
  )


def make_cameras(num, height, width):
  rng = np.random.default_rng(1)
  position = rng.uniform([-0.5, -1.0, 0.0], [0.5, 1.0, 0.6], (num, 3)).astype(np.float32)
  target = rng.uniform([4.0, -0.5, -0.2], [5.0, 0.5, 0.2], (num, 3)).astype(np.float32)
  return look_at(jnp.asarray(position), jnp.asarray(target), 0.8, height, width)


@pytest.fixture(scope='session')
def blobs():
  return make_blobs


@pytest.fixture(scope='session')
def cameras():
  return make_cameras
