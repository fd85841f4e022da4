"""Truth pictures of a block from where a robot's camera may be: colours, sky, coverage and depth, on the host."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.chunks import rows_in_chunks
from s2e_jax.navbench.blocks import Block, truth_walls, walkable
from s2e_jax.render.light import display
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.view import View, column_slopes, rows_of
from s2e_jax.scene import SKY, Boxes, Rounds, Scene

_OVERSAMPLED = 2  # pixels that are drawn per side of one that is kept
_CHUNK = 8  # pictures that are drawn at once
_EDGE = 0.06  # by more do the depths of different things differ, relatively


@dataclasses.dataclass(frozen=True)
class Rig:
  """Distribution of cameras, uniform between (low, high). clearance: m between a camera and anything.

  height: m of the eye above the ground. tan_pitch, half_width: as in `view.View`.
  """

  clearance: float = 0.45
  height: tuple[float, float] = (0.4, 1.2)
  tan_pitch: tuple[float, float] = (-0.05, 0.2)
  half_width: tuple[float, float] = (0.85, 1.2)


@dataclasses.dataclass(frozen=True)
class Capture:
  """B truth pictures of h x w pixels; all but the views numpy.

  views: the cameras. rgb: [B, h, w, 3] float32 in 0..1, sRGB. sky: [B, h, w, 3] float32, what is seen where
  nothing is; below the horizon the colour of the horizon. coverage: [B, h, w] float32 share that is not sky.
  depth: [B, h, w] float32 m along the camera's axis, 0 in the sky and where a pixel holds several depths.
  """

  views: View
  rgb: np.ndarray
  sky: np.ndarray
  coverage: np.ndarray
  depth: np.ndarray

  @property
  def num(self) -> int:
    """Number of pictures B."""
    return len(self.rgb)


def sample_views(block: Block, num: int, seed: int, rig: Rig = Rig()) -> View:
  """`num` cameras spread over the walkable area of a block, looking anywhere; the same for the same seed."""
  rng = np.random.default_rng((seed, block.seed, num))
  walls = truth_walls(block)
  # a place counts when a robot can get there and the camera has room
  is_free = walkable(block, walls) & (np.asarray(walls.distance) > rig.clearance)
  cells = np.argwhere(is_free)
  chosen = _spread(cells * float(walls.cell), num, rng)
  jitter = rng.uniform(-0.4, 0.4, (num, 2)) * min(float(walls.cell), 0.05)
  place = np.asarray(walls.origin) + cells[chosen] * float(walls.cell) + jitter

  def drawn(span: tuple[float, float]) -> jax.Array:
    return jnp.asarray(rng.uniform(span[0], span[1], num), jnp.float32)

  return View(
    position=jnp.concatenate([jnp.asarray(place, jnp.float32), drawn(rig.height)[:, None]], axis=1),
    yaw=drawn((-np.pi, np.pi)),
    tan_pitch=drawn(rig.tan_pitch),
    half_width=drawn(rig.half_width),
  )


def _spread(places: np.ndarray, num: int, rng: np.random.Generator, tries: int = 6) -> np.ndarray:
  """Indices [num] of places [N, 2] that keep apart: each the best of some random ones."""
  chosen = [int(rng.integers(len(places)))]
  for _ in range(num - 1):
    some = rng.integers(len(places), size=tries)
    apart = np.linalg.norm(places[some][:, None] - places[chosen][None], axis=-1).min(1)
    chosen.append(int(some[apart.argmax()]))
  return np.array(chosen)


def capture(block: Block, views: View, height: int = 96, width: int = 192, nearest: int = 14) -> Capture:
  """Truth pictures of a block from B views (arrays with leading axis B), averaged over 2 x 2 parts per pixel.

  nearest: primitives that may be seen behind one another in an image column.
  """
  options = RenderOptions(
    height=_OVERSAMPLED * height, width=_OVERSAMPLED * width, nearest=nearest, shadow=not block.is_indoor
  )
  parts = []
  for rows, num in rows_in_chunks(len(views.yaw), _CHUNK):
    some = jax.tree.map(lambda x, rows=rows: jnp.asarray(x)[rows], views)
    parts.append(jax.tree.map(lambda x, num=num: np.asarray(x)[:num], _pictures(block.scene, some, options)))
  rgb, sky, coverage, depth = (np.concatenate([part[k] for part in parts]) for k in range(4))
  return Capture(views, rgb, sky, coverage, depth)


@functools.partial(jax.jit, static_argnums=2)
def _pictures(
  scene: Scene, views: View, options: RenderOptions
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  num = views.yaw.shape[0]
  scenes = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), scene)
  full = render(scenes, views, options, want=('rgb', 'segmentation', 'depth'))
  plain = dataclasses.replace(options, nearest=1, shadow=False)  # nothing to hide anything or to cast shadows
  bare = render(_without_things(scenes), views, plain, want=('rgb', 'segmentation'))
  assert full.rgb is not None and full.segmentation is not None and full.depth is not None
  assert bare.rgb is not None and bare.segmentation is not None
  to_float = lambda x: x.astype(jnp.float32) / 255
  horizon = display(scenes.light.horizon)
  sky = jnp.where((bare.segmentation == SKY)[..., None], to_float(bare.rgb), horizon[:, None, None])
  # a pixel shows one surface when it lies on one thing, which are convex, or when its depths are nearly the same
  low, high = _least(full.depth), -_least(-full.depth)
  segment = full.segmentation.astype(jnp.int32)
  is_one = (low > 0) & ((_least(segment) == -_least(-segment)) | (high - low < _EDGE * low))
  near = _mean(1 / jnp.maximum(full.depth, 1e-3)[..., None])[..., 0]  # is linear on planes
  coverage = _mean((full.segmentation != SKY).astype(jnp.float32)[..., None])[..., 0]
  depth = jnp.where(is_one, 1 / near, 0.0)
  return _mean(to_float(full.rgb)), _mean(sky), coverage, depth


def _without_things(scene: Scene) -> Scene:
  gone: dict[str, Boxes | Rounds] = {
    name: dataclasses.replace(part, low=part.low * 0, high=part.high * 0 - 1)
    for name, part in (('boxes', scene.boxes), ('cylinders', scene.cylinders), ('capsules', scene.capsules))
  }
  return dataclasses.replace(scene, **gone)  # type: ignore[arg-type]


def _blocks_of(x: jax.Array) -> jax.Array:
  """[B, h, k, w, k, ...] of pixels [B, k h, k w, ...]."""
  k = _OVERSAMPLED
  return x.reshape(x.shape[0], x.shape[1] // k, k, x.shape[2] // k, k, *x.shape[3:])


def _mean(x: jax.Array) -> jax.Array:
  return _blocks_of(x).mean((2, 4))


def _least(x: jax.Array) -> jax.Array:
  return _blocks_of(x).min((2, 4))


def world_points(views: View, depth: np.ndarray) -> np.ndarray:
  """[B, h, w, 3] m in the world of pixels with depth [B, h, w]; of depth 0 the camera's own place."""
  _, height, width = depth.shape
  u, v = np.asarray(column_slopes(views, width)), np.asarray(rows_of(views, height, width).slopes(height))
  views = jax.tree.map(np.asarray, views)
  c, s = np.cos(views.yaw)[:, None], np.sin(views.yaw)[:, None]
  x, y, z = (views.position[:, i, None, None] for i in range(3))
  ahead_x, ahead_y = (c + u * s)[:, None], (s - u * c)[:, None]
  return np.stack([x + depth * ahead_x, y + depth * ahead_y, z + depth * v[:, :, None]], axis=-1)


def normals_of(points: np.ndarray, depth: np.ndarray, position: np.ndarray) -> np.ndarray:
  """Unit normals [B, h, w, 3] of the surface at points [B, h, w, 3], towards the cameras at position [B, 3].

  From the neighbour of less different depth on each axis of the image; 0 where there is none on one of them.
  """

  def along(axis: int) -> tuple[np.ndarray, np.ndarray]:
    step = np.diff(points, axis=axis)
    known = np.minimum(*(np.take(depth, range(a, depth.shape[axis] - 1 + a), axis=axis) for a in (0, 1))) > 0
    jump = np.where(known, np.abs(np.diff(depth, axis=axis)), np.inf)
    pad = lambda x, before, fill: np.pad(
      x, [(0, 0)] * axis + [(before, 1 - before)] + [(0, 0)] * (x.ndim - axis - 1), constant_values=fill
    )
    to_next, to_last = pad(jump, 0, np.inf), pad(jump, 1, np.inf)
    chosen = np.where((to_next <= to_last)[..., None], pad(step, 0, 0.0), pad(step, 1, 0.0))
    return chosen, np.minimum(to_next, to_last) < np.inf

  (down, has_down), (across, has_across) = along(1), along(2)
  normal = np.cross(down, across)
  length = np.linalg.norm(normal, axis=-1, keepdims=True)
  normal = np.where(length > 1e-12, normal / np.maximum(length, 1e-12), 0.0)
  facing = np.sign(np.sum((position[:, None, None] - points) * normal, axis=-1, keepdims=True))
  return normal * facing * (has_down & has_across)[..., None]
