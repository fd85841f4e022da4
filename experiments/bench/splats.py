"""Splat rasteriser benchmarks, 96x192 pixels, spherical harmonics of degree 3 or as a file has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.timing import Row, Unavailable, interleaved
from s2e_jax.gaussians import Gaussians
from s2e_jax.render.splats.cameras import Cameras, look_at
from s2e_jax.render.splats.draw import draw_gaussians, draw_splats
from s2e_jax.render.splats.hierarchy import SplatScene, make_splat_scene
from s2e_jax.render.splats.options import ALPHA_MAX, ALPHA_MIN, STOP, SplatOptions
from s2e_jax.render.splats.project import geometry_of, project

HEIGHT, WIDTH = 96, 192
EXACT = SplatOptions(HEIGHT, WIDTH)
SHOWROOM = Path(__file__).resolve().parents[3] / 'shared' / 'data' / 'splats' / 'lacadiere_showroom'


@functools.cache
def street(num: int = 50_000, degree: int = 3) -> Gaussians:
  """Gaussians with the statistics of a street that was reconstructed: ground, two facades, crowns, boxes."""
  rng = np.random.default_rng(0)
  kind = rng.choice(4, num, p=(0.35, 0.4, 0.15, 0.1))
  along = rng.uniform(0, 60, num)
  side, wide, high = rng.choice((-1, 1), num), rng.uniform(-8, 8, num), 9 * rng.beta(1.2, 1.6, num)
  noise = rng.normal(size=(num, 3))
  places = (
    np.stack([along, wide, 0.01 * noise[:, 0]], 1),
    np.stack([along, 8.0 * side + 0.05 * noise[:, 0], high], 1),
    np.stack([8 * np.floor(along / 8) + 4, 4.8 * side, np.full(num, 3.6)], 1) + 0.6 * noise,
    np.stack([6 * np.floor(along / 6) + 3, 3.2 * side, np.full(num, 0.6)], 1) + 0.4 * np.clip(noise, -1, 1),
  )
  up, aside = np.array([0, 0, 1.0]), np.stack([np.zeros(num), -side, np.zeros(num)], 1)
  normal = np.where((kind == 0)[:, None], up, np.where((kind == 1)[:, None], aside, noise))
  normal /= np.linalg.norm(normal, axis=1, keepdims=True)
  # quaternion that turns z into the normal
  turn = np.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], np.zeros(num)], 1) + 1e-9
  scale = 0.75 * np.sqrt((16 + 18) * 60 / num) * np.exp(0.45 * rng.normal(size=(num, 3)))
  scale[:, 2] *= 0.15
  sh = 0.06 * rng.normal(size=(num, (degree + 1) ** 2, 3))
  sh[:, 0] = rng.uniform(-1.2, 1.2, (num, 3))
  place = np.choose(kind[:, None], places)
  fields = (place, np.clip(scale, 1e-3, 0.6), turn, np.clip(rng.beta(2.2, 0.9, num), 0.02, 0.995), sh)
  return Gaussians(*(np.asarray(field, np.float32) for field in fields))


def street_cameras(num: int) -> Cameras:
  """Cameras at a robot's height along the street."""
  rng = np.random.default_rng(1)
  position = np.stack([rng.uniform(2, 30, num), rng.uniform(-2.5, 2.5, num), np.full(num, 0.6)], 1)
  target = position + np.stack([np.full(num, 10.0), rng.uniform(-4, 4, num), np.full(num, -0.5)], 1)
  return look_at(jnp.asarray(position, jnp.float32), jnp.asarray(target, jnp.float32), 1.0, HEIGHT, WIDTH)


@functools.cache
def _street_scene() -> SplatScene:
  return jax.tree.map(jnp.asarray, make_splat_scene(street()))


def drawing(scene: SplatScene, cameras: Cameras, options: SplatOptions) -> Callable[[], Any]:
  """The call that draws a scene from cameras."""
  scene = jax.tree.map(jnp.asarray, scene)
  draw = jax.jit(lambda scene, cameras: draw_splats(scene, cameras, options))
  return lambda: draw(scene, cameras)


def _painter(num_visible: int) -> Callable[[], jax.Array]:
  """A painter without tiles: gaussians in view by depth, 64 at a time over all pixels until all are opaque."""
  scene, cameras = _street_scene(), street_cameras(1)
  # in the scene's own order, by which equal depths are told apart
  geometry, sh = (
    x[: scene.levels[0]].transpose(1, 0, 2).reshape(x.shape[1], -1) for x in (scene.geometry, scene.sh)
  )
  y, x = (jnp.asarray(v.reshape(-1)) for v in np.mgrid[:HEIGHT, :WIDTH] + 0.5)
  group, room = 64, -(-num_visible // 64) * 64

  @jax.jit
  def paint(geometry: jax.Array, sh: jax.Array) -> jax.Array:
    camera = jax.tree.map(lambda v: v[0], cameras)
    prints = project(geometry, sh, camera, EXACT)
    order = jnp.argsort(jnp.where(prints.is_seen, prints.features[:, 6], jnp.inf))[:room]
    features = jnp.where(prints.is_seen[order][:, None], prints.features[order], 0.0)

    def more(carry: Any) -> Any:
      first, through, *channels = carry
      f = jax.lax.dynamic_slice_in_dim(features, first, group)
      dx, dy = x - f[:, 0, None], y - f[:, 1, None]
      raw = f[:, 5, None] * jnp.exp(
        -0.5 * (f[:, 2, None] * dx * dx + f[:, 4, None] * dy * dy) - f[:, 3, None] * dx * dy
      )
      alpha = jnp.where(raw >= ALPHA_MIN, jnp.minimum(raw, ALPHA_MAX), 0.0)
      depth = f[:, 6, None] + f[:, 10, None] * dx + f[:, 11, None] * dy
      for k in range(group):
        behind = through * (1 - alpha[k])
        weight = jnp.where(behind > STOP, through * alpha[k], 0.0)
        through = behind
        values: tuple[Any, ...] = (f[k, 7], f[k, 8], f[k, 9], depth[k], 1.0)
        channels = [c + weight * v for c, v in zip(channels, values, strict=True)]
      return (first + group, through, *channels)

    zero = jnp.zeros(HEIGHT * WIDTH)
    goes_on = lambda carry: (carry[0] < room) & jnp.any(carry[1] > STOP)
    carry = jax.lax.while_loop(goes_on, more, (0, zero + 1, zero, zero, zero, zero, zero))
    return jnp.stack(carry[2:], -1).reshape(HEIGHT, WIDTH, 5)

  return lambda: paint(geometry, sh)


def _num_visible() -> int:
  geometry, sh = geometry_of(jax.tree.map(jnp.asarray, street()))
  camera = jax.tree.map(lambda v: v[0], street_cameras(1))
  return int(jax.jit(lambda g, s: project(g, s, camera, EXACT).is_seen.sum())(geometry, sh))


def splat_vs_painter() -> Row:
  """The exact rasteriser against a painter that visits every pixel with every gaussian in view."""
  num = _num_visible()
  ours, theirs = drawing(_street_scene(), street_cameras(1), EXACT), _painter(num)
  error = float(jnp.abs(ours().rgb[0] - theirs()[..., :3]).mean())
  if error > 1e-5:
    raise AssertionError(f'the two pictures differ by {error:.1e} on average')
  return interleaved(
    'splat_vs_painter',
    ours,
    theirs,
    work=1,
    unit=f'frames/s (50,000 gaussians, {num:,} in view)',
    baseline_name='all pixels x all gaussians in view, until opaque',
    rounds=5,
  )


def splat_gradient() -> Row:
  """Picture and gradients of all parameters against the picture: 1 / ratio is what they cost together."""
  gaussians = jax.tree.map(jnp.asarray, street(20_000, degree=0))
  num = gaussians.mean.shape[0] // 32 * 32
  gaussians = jax.tree.map(lambda x: x[:num], gaussians)
  cameras = street_cameras(1)
  loss = lambda g: jnp.square(draw_gaussians(g, cameras, EXACT).rgb - 0.5).mean()
  forward, both = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
  return interleaved(
    'splat_gradient',
    lambda: both(gaussians),
    lambda: forward(gaussians),
    work=1,
    unit='pictures with gradients/s (20,000 gaussians)',
    baseline_name='the picture alone',
    rounds=5,
  )


@functools.cache
def showroom() -> Gaussians:
  """A flat that was really scanned, 747 k gaussians; `Unavailable` without the data."""
  from s2e_jax.navbench.formats.read import read_gaussians

  if not SHOWROOM.is_dir():
    raise Unavailable('needs the scanned flat, shared/data/splats/lacadiere_showroom beside the checkout')
  return read_gaussians(SHOWROOM)[0]


def showroom_cameras() -> Cameras:
  """Four cameras at a robot's height: in the living room, the dining room and the corridor."""
  position = np.array([(1.8, -9.0, -0.2), (-0.5, -9.2, -0.2), (5.0, -1.0, -0.2), (2.0, -2.0, -0.2)])
  yaw = np.array([1.4, 3.0, 3.6, -1.7])
  ahead = np.stack([np.cos(yaw), np.sin(yaw), np.full(4, -0.05)], 1)
  at = jnp.asarray(position, jnp.float32)
  return look_at(at, at + jnp.asarray(ahead, jnp.float32), 1.0, HEIGHT, WIDTH)


def splat_lod() -> Row:
  """A budget of 65,536 gaussians against the exact picture, on a real scan."""
  scene, cameras = jax.tree.map(jnp.asarray, make_splat_scene(showroom())), showroom_cameras()
  coarse = drawing(scene, cameras, SplatOptions(HEIGHT, WIDTH, budget=65_536))
  exact = drawing(scene, cameras, EXACT)
  error = jnp.mean((coarse().before(0.0) - exact().before(0.0)) ** 2, axis=(1, 2, 3))
  psnr = float(-10 * jnp.log10(error).mean())
  return interleaved(
    'splat_lod',
    coarse,
    exact,
    work=4,
    unit=f'frames/s (747 k gaussians, budget 65,536, PSNR {psnr:.1f} dB to exact)',
    baseline_name='exact',
    rounds=5,
  )
