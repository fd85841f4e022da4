"""The column renderer: per column the K nearest primitives, per pixel a choice among them.

The pixel pass runs over blocks of rows in a loop. The loop keeps memory small, is the only fence that stops XLA
from recomputing the column pass in every pixel, and lets blocks that lie above all horizons skip the ground.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from s2e_jax.fences import settle
from s2e_jax.render import entries, ground, paving, pixels, regions, shadows, sky
from s2e_jax.render.primitives import Primitives, primitives_of, sunlight_share
from s2e_jax.render.view import Rows, View
from s2e_jax.scene import SKY, Scene, num_slots

BLOCK = 16  # rows drawn at once; divides 32


@struct.dataclass
class Block:
  """What a block of h rows needs.

  words: int32 [17, B, h, 1], of `paving.surfaces_of`, then of `sky.sky_of`. numbers: [6, B, h, 1], slope v, then
  of `sky.sky_of`. bits: int32 [N, B, 1, W], bit i for row i: carriageway and pavement where rays meet the level of
  pavements, carriageway and crossing where they meet that of carriageways, then shadow on either level.
  """

  words: jax.Array
  numbers: jax.Array
  bits: jax.Array

  @property
  def v(self) -> jax.Array:
    """[B, h, 1] slopes."""
    return self.numbers[0]


def row_words(
  prims: Primitives, scene: Scene, view: View, u: jax.Array, rows: Rows, height: int, shadow: bool
) -> jax.Array:
  """int32 [N, 6, B, W] (4 without shadow), N = ceil(height / 32): bits of 32 rows each, as in `Block.bits`."""
  hold = functools.partial(settle, view.half_width[0] > 0)
  z = view.position[:, 2]
  # The two levels of the ground.
  levels = jnp.stack([scene.ground.curb_height - z, -z])
  c, s = jnp.cos(view.yaw)[:, None], jnp.sin(view.yaw)[:, None]
  find = lambda level: regions.border_spans(scene.ground, view.position, c + u * s, s - u * c, level, rows, height)
  borders = hold(*jax.vmap(find)(levels))
  spans: tuple[jax.Array, ...] = ()
  repeat = 2 if u.shape[1] % 2 == 0 else 1
  if shadow:
    coarse = u.reshape(u.shape[0], -1, repeat).mean(-1)
    leaves, tree = jax.tree.flatten(
      jax.vmap(lambda level: shadows.casters_of(prims, scene.light, view.yaw, level))(levels)
    )
    casters, rays = jax.tree.unflatten(tree, hold(*leaves))

    def cast(casters: shadows.Casters, rays: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
      boxes, rounds = shadows.shadow_intervals(casters, rays, prims.num_cylinders, coarse)
      return (
        shadows.row_spans(*boxes, level, rows, height),
        shadows.row_spans(*rounds, level, rows, height),
      )

    spans = hold(*jax.vmap(cast)(casters, rays, levels))

  def words(start: jax.Array) -> jax.Array:
    surface = jax.vmap(lambda *border: regions.region_bits(scene.ground, border, start))(*borders)
    bits = [surface[0][0], surface[1][0], surface[0][1], surface[2][1]]
    if shadow:
      dark = jax.vmap(lambda *parts: shadows.row_bits(list(parts), start))(*spans)
      bits += list(jnp.repeat(dark, repeat, -1))
    return jnp.stack(bits)

  starts = jnp.arange(0, height, 32, dtype=jnp.int32)
  slopes = rows.slopes(height)
  is_seen = jnp.stack([slopes[:, min(i + 31, height - 1)].min() < 0 for i in range(0, height, 32)])
  none = lambda start: jnp.zeros((6 if shadow else 4, *u.shape), jnp.int32)
  return lax.map(lambda x: lax.cond(x[1], words, none, x[0]), (starts, is_seen))


def draw(
  scene: Scene,
  view: View,
  u: jax.Array,
  rows: Rows,
  height: int,
  nearest: int,
  shadow: bool,
  want: tuple[str, ...],
) -> tuple[jax.Array | None, jax.Array | None]:
  """(int32 [B, h, W] 0xssbbggrr with the segmentation above the colour, depth float32 [B, h, W]).

  u: [B, W] slopes of the columns. What is not in `want` is None or not filled in.
  """
  width, num_blocks = u.shape[1], -(-height // BLOCK)
  total = num_blocks * BLOCK
  v, pixel = rows.slopes(total), rows.step
  hold = functools.partial(settle, view.half_width[0] > 0)
  leaves, tree = jax.tree.flatten(primitives_of(scene, view, *hold(sunlight_share(scene))))
  prims = jax.tree.unflatten(tree, hold(*leaves))
  (keys,) = hold(entries.nearness_keys(prims, u))
  slots, found = entries.nearest_slots(keys, min(nearest, num_slots(scene)))
  chosen = entries.entries_of(prims, scene.light, view.yaw, u, pixel, slots, found)
  c, s = jnp.cos(view.yaw)[:, None], jnp.sin(view.yaw)[:, None]
  dx, dy = (c + u * s)[:, None], (s - u * c)[:, None]
  ground_words, surface_patterns = paving.surfaces_of(scene.ground, scene.light, view.position[:, 2], v, pixel)
  sky_columns, sky_words, sky_numbers = sky.sky_of(scene.light, view, u, v)
  words = jnp.concatenate([ground_words, jnp.stack(sky_words)])
  expanded = ground.expand(scene.ground, 2)
  bits = row_words(prims, scene, view, u, rows, total, shadow and 'rgb' in want)
  parts = [lax.shift_right_logical(bits[i * BLOCK // 32], jnp.int32(i * BLOCK % 32)) for i in range(num_blocks)]
  split = lambda x: jnp.moveaxis(x.reshape(*x.shape[:2], num_blocks, BLOCK, 1), 2, 0)
  blocks = Block(split(words), split(jnp.stack([v, *sky_numbers])), jnp.stack(parts)[:, :, :, None])
  row_bit = jnp.left_shift(1, jnp.arange(BLOCK, dtype=jnp.int32))[:, None]

  def objects(block: Block) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
    names = pixels.LOOKS if 'rgb' in want else ('near', 'base')
    hit, look = pixels.front(chosen, block.v, names)
    depth = jnp.float32(0)
    if 'depth' in want:
      _, shape = pixels.front(chosen, block.v, pixels.SHAPES)
      depth = pixels.exact_distance(shape, block.v, u[:, None])
    return hit, look, depth

  def draw_block(block: Block, with_sky: bool, with_ground: bool) -> tuple[jax.Array | None, jax.Array | None]:
    is_object, look, depth = objects(block)
    behind = jnp.float32(0)
    segment = jnp.int32(SKY - 256)
    colour, bright = pixels.paint(look, block.v) if 'rgb' in want else (jnp.int32(0), jnp.int32(0))
    is_down: jax.Array = jnp.bool_(True)
    if with_ground:
      is_set = lambda word: (word & row_bit) != 0
      surface = tuple(is_set(block.bits[i]) for i in range(4))
      floor = ground.ground_hits(expanded, view.position, dx, dy, block.v, surface, 'depth' in want)
      if with_sky:
        is_down = block.v * ground.FAR < expanded.curb_height - view.position[:, 2, None, None]
      is_object = is_object & ((look['near'] * floor.distance > 1) | ~is_down)
      segment = jnp.where(is_down, ground.segment(floor) - 256, segment)
      behind = jnp.where(is_down, floor.distance, 0)
      if 'rgb' in want:
        in_shadow = jnp.where(floor.is_road, is_set(block.bits[5]), is_set(block.bits[4])) if shadow else None
        floor_colour, floor_bright = paving.paint(expanded, floor, block.words, surface_patterns, in_shadow)
        colour, bright = jnp.where(is_object, colour, floor_colour), jnp.where(is_object, bright, floor_bright)
    word = jnp.where(is_object, look['base'] & ~0xFFFFFF, segment << 24)
    if 'rgb' in want:
      colour = pixels.dim(colour, bright)
      if with_sky:
        beyond = sky.paint(sky_columns, block.words[15:], block.numbers[1:])
        colour = jnp.where(is_object | is_down if with_ground else is_object, colour, beyond)
      word = word | colour
    return (
      word if 'rgb' in want or 'segmentation' in want else None,
      jnp.where(is_object, depth, behind) if 'depth' in want else None,
    )

  branches = [
    functools.partial(draw_block, with_sky=s, with_ground=g)
    for s, g in ((True, False), (True, True), (False, True))
  ]

  def one(block: Block) -> tuple[jax.Array | None, jax.Array | None]:
    has_ground = block.v.min() < 0
    horizon = (scene.ground.curb_height - view.position[:, 2]) / ground.FAR
    no_sky = (block.v.max((1, 2)) < horizon).all()
    return lax.switch(has_ground.astype(jnp.int32) + no_sky.astype(jnp.int32), branches, block)

  join = lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], total, width)[:, :height]
  return jax.tree.map(join, lax.map(one, blocks))


def unpack(word: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(rgb uint8 [..., 3], segmentation uint8 [...]) of packed pixels."""
  data = lax.bitcast_convert_type(word, jnp.uint8)
  return data[..., :3], data[..., 3]
