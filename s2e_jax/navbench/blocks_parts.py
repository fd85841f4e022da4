"""What the default scenes are put together from: parts, things made of several, and the scene of a list of parts.

World frame: x, y on the ground, z up, metres; the ground is the plane z = 0. Colours are sRGB hex codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from s2e_jax.scene import KIND, PATTERN, SURFACES, Boxes, Light, Rounds, Scene, Slots
from s2e_jax.worlds.builders import empty_scene
from s2e_jax.worlds.looks import linear

Point = Sequence[float]
SHAPES = ('box', 'cylinder', 'capsule')
# The same for all blocks: what is compiled for one serves all.
SLOTS = Slots(boxes=80, cylinders=28, people=0, rounds=20)


class Coat(NamedTuple):
  """Look of a surface: colour and second colour of its pattern, one of `scene.PATTERNS`, m of its cell."""

  colour: str
  accent: str = '303030'
  pattern: str = 'plain'
  scale: float = 1.0


class Part(NamedTuple):
  """One primitive. shape: of SHAPES. half_x, half_y: m, half sides of a box; the others have half_x as radius."""

  shape: str
  kind: str
  x: float
  y: float
  half_x: float
  half_y: float
  low: float
  high: float
  yaw: float
  coat: Coat


@dataclasses.dataclass(frozen=True)
class Paving:
  """The ground: `coat` all over, or `grass` with `coat` on rectangles and in a band; `road` is a carriageway.

  road, cross_road: (low, high) m of y resp. x, None for none. band: the same of y that is paved, None for all.
  plazas, crossings: up to two rectangles (x0, x1, y0, y1) each. contrast: 0..1 of the patterns.
  """

  coat: Coat
  road: Point | None = None
  cross_road: Point | None = None
  band: Point | None = None
  plazas: Sequence[Point] = ()
  crossings: Sequence[Point] = ()
  asphalt: Coat = Coat('4a4a50', pattern='asphalt', scale=3.0)
  grass: Coat = Coat('6c8f3c', pattern='grass', scale=4.0)
  contrast: float = 0.45


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a block is made from; bounds, start and is_indoor as in `blocks.Block`."""

  parts: Sequence[Part]
  bounds: tuple[float, float, float, float]
  start: tuple[float, float]
  paving: Paving
  light: Light
  is_indoor: bool = False


def box(
  x: float,
  y: float,
  half_x: float,
  half_y: float,
  high: float,
  coat: Coat,
  *,
  kind: str = 'box',
  low: float = 0.0,
  yaw: float = 0.0,
) -> Part:
  """An upright box from z = low to high."""
  return Part('box', kind, x, y, half_x, half_y, low, high, yaw, coat)


def span(
  x0: float, x1: float, y0: float, y1: float, high: float, coat: Coat, *, kind: str = 'wall', low: float = 0.0
) -> Part:
  """A box over x0..x1, y0..y1."""
  return box((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, high, coat, kind=kind, low=low)


def cylinder(
  x: float, y: float, radius: float, high: float, coat: Coat, *, kind: str = 'pole', low: float = 0.0
) -> Part:
  """An upright cylinder from z = low to high."""
  return Part('cylinder', kind, x, y, radius, radius, low, high, 0.0, coat)


def capsule(
  x: float, y: float, radius: float, low: float, high: float, coat: Coat, *, kind: str = 'crown'
) -> Part:
  """An upright capsule from z = low to high, at least a sphere."""
  return Part('capsule', kind, x, y, radius, radius, low, max(high, low + 2 * radius), 0.0, coat)


def tree(x: float, y: float, leaves: str, height: float = 4.5, radius: float = 1.2) -> list[Part]:
  """A trunk under a crown."""
  foot = height - 2 * radius
  return [
    cylinder(x, y, 0.16, foot + 0.4, Coat('6b4a35', '4a3020', 'bands', 0.8), kind='trunk'),
    capsule(x, y, radius, foot, height, Coat(leaves, _darker(leaves), 'foliage', 1.8)),
  ]


def car(x: float, y: float, colour: str, yaw: float = 0.0) -> list[Part]:
  """A parked car of 4.2 x 1.7 m."""
  back_x, back_y = x - 0.2 * np.cos(yaw), y - 0.2 * np.sin(yaw)
  glass = Coat('26333d', colour, 'shopfront', 0.5)
  return [
    box(x, y, 2.1, 0.85, 0.9, Coat(colour, '17191c', 'vehicle'), kind='vehicle', yaw=yaw),
    box(back_x, back_y, 1.15, 0.76, 1.45, glass, kind='vehicle', low=0.9, yaw=yaw),
  ]


def bench(x: float, y: float, yaw: float = 0.0, colour: str = '9a5b2c') -> list[Part]:
  """A bench of 1.7 m with a back."""
  coat = Coat(colour, '4a2c16', 'planks', 1.2)
  behind_x, behind_y = x - 0.26 * np.sin(yaw), y + 0.26 * np.cos(yaw)
  return [
    box(x, y, 0.85, 0.26, 0.45, coat, kind='bench', yaw=yaw),
    box(behind_x, behind_y, 0.85, 0.05, 0.9, coat, kind='bench', yaw=yaw),
  ]


def lamp(x: float, y: float, colour: str = '2f4f4a') -> list[Part]:
  """A lamp post with a globe."""
  return [
    cylinder(x, y, 0.09, 3.4, Coat(colour), kind='pole'),
    capsule(x, y, 0.25, 3.3, 3.8, Coat('f6efd8'), kind='pole'),
  ]


def statue(x: float, y: float, stone: str = 'd9d2c0') -> list[Part]:
  """A figure on a stepped pedestal."""
  return [
    box(x, y, 1.1, 1.1, 0.35, Coat(stone, '8d8676', 'slabs', 1.0), kind='statue'),
    box(x, y, 0.6, 0.6, 1.5, Coat(stone, '8d8676', 'panels', 0.8), kind='statue', low=0.35),
    capsule(x, y, 0.32, 1.5, 3.1, Coat('4f7a6a'), kind='statue'),
    capsule(x, y, 0.2, 3.0, 3.4, Coat('4f7a6a'), kind='statue'),
  ]


def planter(x: float, y: float, half_x: float, half_y: float, leaves: str, pot: str = 'b5643c') -> list[Part]:
  """A trough with a clipped bush."""
  return [
    box(x, y, half_x, half_y, 0.5, Coat(pot, _darker(pot), 'panels', 0.9), kind='planter'),
    box(x, y, half_x - 0.1, half_y - 0.1, 1.0, leaf(leaves), kind='hedge', low=0.5),
  ]


def house(
  x0: float, x1: float, y0: float, y1: float, height: float, upper: Coat, lower: Coat, storey: float = 3.2
) -> list[Part]:
  """A building with a ground floor of its own look."""
  return [
    span(x0, x1, y0, y1, storey, lower, kind='building'),
    span(x0, x1, y0, y1, height, upper, kind='building', low=storey),
  ]


def leaf(colour: str) -> Coat:
  """Foliage of a hedge."""
  return Coat(colour, _darker(colour), 'foliage', 1.8)


def _darker(code: str) -> str:
  return ''.join(f'{int(code[i : i + 2], 16) * 5 // 9:02x}' for i in (0, 2, 4))


def daylight(sun: Point, strength: float, ambient: float, zenith: str, horizon: str) -> Light:
  """Clear air; sun: direction to it, of any length."""
  direction = np.asarray(sun, np.float32) / np.linalg.norm(sun)
  one = jnp.float32
  return Light(
    sun=jnp.asarray(direction),
    sun_strength=one(strength),
    ambient=one(ambient),
    zenith=jnp.asarray(linear(zenith)),
    horizon=jnp.asarray(linear(horizon)),
    fog=one(0.0),
    exposure=one(1.0),
    white_balance=jnp.ones(3),
  )


def assemble(parts: Sequence[Part], bounds: Point, paving: Paving, light: Light) -> Scene:
  """The scene of these parts; bounds: m (x0, x1, y0, y1). Raises ValueError for more parts than SLOTS."""
  by_shape = [[part for part in parts if part.shape == shape] for shape in SHAPES]
  room = (SLOTS.boxes, SLOTS.cylinders, SLOTS.capsules)
  for shape, some, slots in zip(SHAPES, by_shape, room, strict=True):
    if len(some) > slots:
      raise ValueError(f'{len(some)} parts of shape {shape!r} do not fit into {slots} slots: leave some out')
  nothing = (0.0, -1.0)
  scene = empty_scene(
    SLOTS,
    bounds=bounds,
    road=paving.road or nothing,
    cross_road=paving.cross_road or nothing,
    paved=paving.band or (bounds[2] - 100.0, bounds[3] + 100.0),
    plazas=paving.plazas,
    crossings=paving.crossings,
    curb_height=0.0,
  )
  none = Part('', 'empty', 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, Coat('808080'))
  boxes, cylinders, capsules = (
    [*some, *[none] * (slots - len(some))] for some, slots in zip(by_shape, room, strict=True)
  )
  ordered = [*boxes, *cylinders, *capsules]
  column = lambda some, name: jnp.asarray([getattr(part, name) for part in some], jnp.float32)
  rounds = lambda some: Rounds(*(column(some, name) for name in ('x', 'y', 'half_x', 'low', 'high')))
  surfaces = [paving.asphalt, paving.coat, paving.coat, paving.grass, Coat('ece8da')]
  assert len(surfaces) == len(SURFACES)
  colours = lambda codes: jnp.asarray(np.stack([linear(code) for code in codes]))
  patterns = lambda coats: jnp.asarray([PATTERN[coat.pattern] for coat in coats], jnp.int32)
  scales = lambda coats: jnp.asarray([coat.scale for coat in coats], jnp.float32)
  coats = [part.coat for part in ordered]
  return dataclasses.replace(
    scene,
    boxes=Boxes(*(column(boxes, name) for name in ('x', 'y', 'yaw', 'half_x', 'half_y', 'low', 'high'))),
    cylinders=rounds(cylinders),
    capsules=rounds(capsules),
    kind=jnp.asarray([KIND[part.kind] for part in ordered], jnp.int32),
    colour=colours([coat.colour for coat in coats]),
    accent=colours([coat.accent for coat in coats]),
    pattern=patterns(coats),
    scale=scales(coats),
    ground=dataclasses.replace(
      scene.ground,
      colour=colours([coat.colour for coat in surfaces]),
      pattern=patterns(surfaces),
      scale=scales(surfaces),
      contrast=jnp.full(len(SURFACES), paving.contrast, jnp.float32),
    ),
    light=light,
  )
