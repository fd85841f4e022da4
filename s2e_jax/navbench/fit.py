"""Gaussians optimised until their pictures are those of a block, by descent through the splat rasteriser."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from s2e_jax.chunks import rows_in_chunks
from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.capture import Capture
from s2e_jax.render.splats.cameras import cameras_of
from s2e_jax.render.splats.draw import SplatPictures, draw_gaussians, draw_splats
from s2e_jax.render.splats.hierarchy import make_splat_scene, spatial_order
from s2e_jax.render.splats.options import WORD, SplatOptions
from s2e_jax.render.view import View

Params = dict[str, jax.Array]
Say = Callable[[str], None]

_LEAST_SCALE, _MOST_SCALE = 0.003, 1.5  # m
_BATCH = 4  # pictures that are judged at once
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-12)
# Groups of parameters and the fields of FitOptions that hold their rates; fields that weigh terms of the loss.
_RATES = {
  'mean': 'mean_rate',
  'log_scale': 'scale_rate',
  'rotation': 'rotation_rate',
  'logit': 'opacity_rate',
  'sh': 'colour_rate',
}
_WEIGHTS = ('square', 'detail', 'depth', 'coverage')


@dataclasses.dataclass(frozen=True)
class FitOptions:
  """How gaussians are fitted.

  steps: of Adam. views: pictures per step. *_rate: learning rate of means (m), logarithms of scales, quaternions,
  logits of opacities and coefficients; all fall to `last` of it along a cosine.
  square: weight of the squared error beside the absolute one. detail: of the error of differences between
  neighbouring pixels. depth: of the relative error of depth. coverage: of that of the share that is not sky.
  """

  steps: int = 240
  views: int = 2
  mean_rate: float = 1e-3
  scale_rate: float = 1.5e-2
  rotation_rate: float = 6e-3
  opacity_rate: float = 4e-2
  colour_rate: float = 1.5e-2
  last: float = 0.05
  square: float = 2.0
  detail: float = 0.2
  depth: float = 0.4
  coverage: float = 0.1

  def __post_init__(self) -> None:
    """Raises ValueError when an option breaks its rule."""
    if self.steps < 1 or self.views < 1:
      raise ValueError(f'steps={self.steps} and views={self.views} must be at least 1')


@dataclasses.dataclass(frozen=True)
class Quality:
  """How near pictures are to the truth. psnr: dB, mean over pictures. depth_error: median, relative."""

  psnr: float
  depth_error: float


@dataclasses.dataclass(frozen=True)
class FitReport:
  """before, after: quality on the held-out pictures. seconds: of the descent. loss: mean of the last steps."""

  before: Quality
  after: Quality
  seconds: float
  loss: float


def fit(
  initial: Gaussians,
  train: Capture,
  held_out: Capture,
  options: FitOptions = FitOptions(),
  seed: int = 0,
  say: Say = print,
) -> tuple[Gaussians, FitReport]:
  """The gaussians after the optimisation, on the host, and the report on pictures that took no part in it.

  Same arguments, same result. Raises ValueError when the number of gaussians is no multiple of WORD, and
  FloatingPointError when the loss stops being finite.
  """
  if initial.num % WORD:
    raise ValueError(f'{initial.num} gaussians must be a multiple of {WORD}')
  before = judge(initial, held_out)
  say(f'{initial.num} gaussians, before: {before.psnr:.2f} dB, depth off by {before.depth_error:.2%}')
  params = _params_of(initial)
  size = SplatOptions(height=train.depth.shape[1], width=train.depth.shape[2])
  state = _ADAM.init(params)
  data = jax.tree.map(jnp.asarray, (train.views, train.rgb, train.sky, train.coverage, train.depth))
  order = _orders(train.num, options, seed)
  # numbers, not options: another rate or weight compiles nothing anew
  first = {name: getattr(options, rate) for name, rate in _RATES.items()}
  weights: Params = {name: jnp.float32(getattr(options, name)) for name in _WEIGHTS}
  losses: list[jax.Array] = []
  started = time.monotonic()
  for i in range(options.steps):
    share = 0.5 * (1 + np.cos(np.pi * i / options.steps))
    rates = {name: np.float32(rate * (options.last + (1 - options.last) * share)) for name, rate in first.items()}
    params, state, loss = _step(params, state, data, order[i], rates, weights, size)
    losses.append(loss)
    if (i + 1) % 50 == 0 or i + 1 == options.steps:
      mean = float(np.mean([float(x) for x in losses[-50:]]))
      if not np.isfinite(mean):
        raise FloatingPointError(f'the loss is {mean} between steps {i - 48} and {i + 1}: lower the rates')
      spent = time.monotonic() - started
      left = spent / (i + 1) * (options.steps - i - 1)
      say(f'step {i + 1}/{options.steps}: loss {mean:.4f}, {(i + 1) / spent:.1f} steps/s, {left:.0f} s left')
  seconds = time.monotonic() - started
  fitted = jax.tree.map(np.asarray, _gaussians_of(params))
  after = judge(fitted, held_out)
  say(f'after: {after.psnr:.2f} dB, depth off by {after.depth_error:.2%}, {seconds:.0f} s')
  return fitted, FitReport(before, after, seconds, float(np.mean([float(x) for x in losses[-50:]])))


def _orders(num: int, options: FitOptions, seed: int) -> np.ndarray:
  """[steps, views] indices of pictures: every one comes as often as any other."""
  rng = np.random.default_rng(seed)
  needed = options.steps * options.views
  rounds = [rng.permutation(num) for _ in range(-(-needed // num))]
  return np.concatenate(rounds)[:needed].reshape(options.steps, options.views)


def _params_of(gaussians: Gaussians) -> Params:
  """Unbounded parameters of gaussians, in spatial order."""
  order = spatial_order(np.asarray(gaussians.mean))
  one = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float32)[order]), gaussians)
  opacity = jnp.clip(one.opacity, 1e-3, 1 - 1e-3)
  return {
    'mean': one.mean,
    'log_scale': jnp.log(one.scale),
    'rotation': one.rotation,
    'logit': jnp.log(opacity / (1 - opacity)),
    'sh': one.sh,
  }


def _gaussians_of(params: Params) -> Gaussians:
  rotation = params['rotation']
  return Gaussians(
    mean=params['mean'],
    scale=jnp.clip(jnp.exp(params['log_scale']), _LEAST_SCALE, _MOST_SCALE),
    rotation=rotation / jnp.linalg.norm(rotation, axis=-1, keepdims=True),
    opacity=jax.nn.sigmoid(params['logit']),
    sh=params['sh'],
  )


@functools.partial(jax.jit, static_argnames='size', donate_argnums=(0, 1))
def _step(
  params: Params, state: Any, data: Any, rows: jax.Array, rates: Params, weights: Params, size: SplatOptions
) -> tuple[Params, Any, jax.Array]:
  """One step of Adam; rates: [] by group of parameters, weights: [] by term of the loss."""
  some = jax.tree.map(lambda x: x[rows], data)
  loss, gradient = jax.value_and_grad(_loss)(params, some, weights, size)
  change, state = _ADAM.update(gradient, state, params)
  return {name: params[name] - rates[name] * change[name] for name in params}, state, loss


def _loss(params: Params, data: Any, weights: Params, size: SplatOptions) -> jax.Array:
  views, rgb, sky, coverage, depth = data
  drawn = draw_gaussians(_gaussians_of(params), cameras_of(views, size.height, size.width), size)
  off = drawn.before(sky) - rgb
  loss = jnp.abs(off).mean() + weights['square'] * (off * off).mean()
  loss += weights['detail'] * sum(jnp.abs(jnp.diff(off, axis=axis)).mean() for axis in (1, 2))
  loss += weights['coverage'] * jnp.abs(drawn.alpha - coverage).mean()
  # what is drawn holds coverage times depth
  known = depth > 0
  relative = (drawn.depth - drawn.alpha * depth) / jnp.where(known, depth, 1.0)
  return loss + weights['depth'] * jnp.where(known, jnp.minimum(jnp.abs(relative), 0.5), 0.0).mean()


def pictures(gaussians: Gaussians, views: View, height: int, width: int) -> SplatPictures:
  """Exact pictures of gaussians on the host from B views, numpy."""
  scene = make_splat_scene(gaussians, with_levels=False)
  parts = []
  for rows, num in rows_in_chunks(len(views.yaw), _BATCH):
    some = jax.tree.map(lambda x, rows=rows: jnp.asarray(x)[rows], views)
    drawn = _draw(scene, some, SplatOptions(height=height, width=width))
    parts.append(jax.tree.map(lambda x, num=num: np.asarray(x)[:num], drawn))
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)


@functools.partial(jax.jit, static_argnums=2)
def _draw(scene: Any, views: View, options: SplatOptions) -> SplatPictures:
  return draw_splats(scene, cameras_of(views, options.height, options.width), options)


def judge(gaussians: Gaussians, truth: Capture) -> Quality:
  """Quality of the gaussians' pictures against truth pictures."""
  drawn = pictures(gaussians, truth.views, *truth.depth.shape[1:])
  rgb = np.clip(drawn.before(jnp.asarray(truth.sky)), 0, 1)
  error = np.mean(np.square(rgb - truth.rgb), axis=(1, 2, 3))
  known = truth.depth > 0
  depth = (drawn.depth / np.maximum(drawn.alpha, 1e-3))[known]
  relative = np.abs(depth - truth.depth[known]) / truth.depth[known]
  return Quality(float(np.mean(-10 * np.log10(np.maximum(error, 1e-10)))), float(np.median(relative)))
