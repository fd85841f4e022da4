"""Things of the procedural street: their parts, a catalogue of them, and where they are put."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from s2e_jax.data.street.world import Street

CYLINDER, BOX, SPHERE = 0, 1, 2

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Part:
  """One upright solid of a thing.

  shape: CYLINDER, BOX or SPHERE. offset: (forward, left) m in the frame of the thing. size: (radius, radius) or
  half (length, width). low, high: z of bottom and top. colour, stripe: RGB in [0, 1]; stripes of `period` m in
  height alternate the two (0 = plain).
  """

  shape: int
  size: tuple[float, float]
  low: float
  high: float
  colour: Colour
  offset: tuple[float, float] = (0.0, 0.0)
  stripe: Colour = (0.0, 0.0, 0.0)
  period: float = 0.0


@dataclasses.dataclass(frozen=True)
class Thing:
  """Something that stands or walks: parts around `position`, moving with `velocity` from `start` to `stop` s.

  s, d: place on the street. radius: of its outline on the ground. is_obstacle: stands on the walkable ground, so
  the drive has to go round it.
  """

  name: str
  parts: tuple[Part, ...]
  position: np.ndarray
  yaw: float
  radius: float
  s: float
  d: float
  is_obstacle: bool = False
  velocity: tuple[float, float] = (0.0, 0.0)
  start: float = 0.0
  stop: float = 0.0

  def position_at(self, time: float) -> np.ndarray:
    """[2] m at `time` (s)."""
    return self.position + np.asarray(self.velocity) * min(max(time - self.start, 0.0), self.stop - self.start)


def _pick(rng: np.random.Generator, *colours: Colour) -> Colour:
  """One of `colours`, a little changed."""
  base = np.array(colours[rng.integers(len(colours))])
  r, g, b = np.clip(base * rng.uniform(0.85, 1.15) + rng.normal(0, 0.02, 3), 0.02, 1)
  return float(r), float(g), float(b)


CLOTHES = (
  (0.7, 0.15, 0.15),
  (0.15, 0.25, 0.6),
  (0.85, 0.8, 0.7),
  (0.15, 0.45, 0.3),
  (0.8, 0.6, 0.15),
  (0.2, 0.2, 0.22),
)


def person_parts(rng: np.random.Generator) -> tuple[Part, ...]:
  """A standing person: legs, torso, head, hair."""
  tall = rng.uniform(0.9, 1.08)
  trousers = _pick(rng, (0.12, 0.14, 0.22), (0.3, 0.26, 0.2), (0.15, 0.15, 0.15))
  skin = _pick(rng, (0.85, 0.65, 0.5), (0.5, 0.35, 0.25), (0.95, 0.78, 0.65))
  shirt = _pick(rng, *CLOTHES)
  return (
    Part(CYLINDER, (0.085, 0.085), 0.0, 0.82 * tall, trousers, offset=(0.0, 0.1)),
    Part(CYLINDER, (0.085, 0.085), 0.0, 0.82 * tall, trousers, offset=(0.0, -0.1)),
    Part(CYLINDER, (0.2, 0.2), 0.78 * tall, 1.42 * tall, shirt),
    Part(SPHERE, (0.125, 0.125), 1.45 * tall, 1.7 * tall, skin),
  )


def _box(rng: np.random.Generator) -> tuple[Part, ...]:
  colour = _pick(rng, (0.6, 0.42, 0.22), (0.35, 0.4, 0.45), (0.25, 0.4, 0.6), (0.75, 0.7, 0.6))
  size = float(rng.uniform(0.2, 0.31)), float(rng.uniform(0.2, 0.31))
  high = rng.uniform(0.35, 1.0)
  return (Part(BOX, size, 0.0, high, colour, stripe=_pick(rng, colour), period=high / 3),)


def _bin(rng: np.random.Generator) -> tuple[Part, ...]:
  colour = _pick(rng, (0.1, 0.35, 0.2), (0.25, 0.25, 0.28), (0.6, 0.35, 0.1))
  return (
    Part(CYLINDER, (0.26, 0.26), 0.0, 0.9, colour),
    Part(CYLINDER, (0.28, 0.28), 0.9, 0.98, (0.1, 0.1, 0.1)),
  )


def _bollard(rng: np.random.Generator) -> tuple[Part, ...]:
  red, white = (0.8, 0.1, 0.08), (0.95, 0.95, 0.92)
  return (Part(CYLINDER, (0.11, 0.11), 0.0, float(rng.uniform(0.8, 1.1)), red, stripe=white, period=0.22),)


def _pole(rng: np.random.Generator) -> tuple[Part, ...]:
  colour = _pick(rng, (0.35, 0.37, 0.4), (0.2, 0.3, 0.25))
  sign = _pick(rng, (0.1, 0.25, 0.7), (0.8, 0.1, 0.1), (0.9, 0.8, 0.1))
  return (
    Part(CYLINDER, (0.07, 0.07), 0.0, 2.9, colour),
    Part(BOX, (0.04, 0.3), 2.1, 2.7, sign, offset=(-0.1, 0.0)),
  )


def _planter(rng: np.random.Generator) -> tuple[Part, ...]:
  box = _pick(rng, (0.55, 0.5, 0.45), (0.45, 0.3, 0.2))
  return (Part(BOX, (0.29, 0.29), 0.0, 0.45, box), Part(SPHERE, (0.34, 0.34), 0.35, 1.03, (0.15, 0.4, 0.12)))


def _cone(rng: np.random.Generator) -> tuple[Part, ...]:
  orange = (0.95, 0.4, 0.05)
  return (
    Part(BOX, (0.17, 0.17), 0.0, 0.05, orange),
    Part(CYLINDER, (0.14, 0.14), 0.05, 0.3, orange),
    Part(CYLINDER, (0.1, 0.1), 0.3, 0.5, (0.95, 0.95, 0.95)),
    Part(CYLINDER, (0.06, 0.06), 0.5, 0.7, orange),
  )


def _tree(rng: np.random.Generator) -> tuple[Part, ...]:
  green = _pick(rng, (0.18, 0.4, 0.12), (0.3, 0.42, 0.12), (0.5, 0.35, 0.1))
  r, low = float(rng.uniform(0.8, 1.3)), rng.uniform(1.8, 2.4)
  return (
    Part(CYLINDER, (0.13, 0.13), 0.0, low + 0.4, (0.3, 0.2, 0.12)),
    Part(SPHERE, (r, r), low, low + 2 * r, green),
  )


def _lamp(rng: np.random.Generator) -> tuple[Part, ...]:
  return (
    Part(CYLINDER, (0.07, 0.07), 0.0, 4.6, (0.25, 0.27, 0.3)),
    Part(SPHERE, (0.2, 0.2), 4.4, 4.8, (0.95, 0.95, 0.85)),
  )


def _car(rng: np.random.Generator) -> tuple[Part, ...]:
  paint = _pick(rng, (0.7, 0.08, 0.08), (0.75, 0.76, 0.78), (0.1, 0.2, 0.45), (0.9, 0.9, 0.9), (0.12, 0.12, 0.13))
  glass = (0.12, 0.16, 0.2)
  axles = tuple(Part(BOX, (0.3, 0.85), 0.0, 0.55, (0.05, 0.05, 0.05), offset=(x, 0.0)) for x in (-1.3, 1.3))
  return (
    *axles,
    Part(BOX, (2.1, 0.84), 0.28, 0.82, paint),
    Part(BOX, (1.15, 0.74), 0.82, 1.28, glass, offset=(-0.2, 0.0)),
    Part(BOX, (1.05, 0.72), 1.28, 1.4, paint, offset=(-0.2, 0.0)),
  )


def barrier_parts(half_length: float) -> tuple[Part, ...]:
  """A red-and-white works barrier, `half_length` m to each side of its middle."""
  red, white = (0.85, 0.12, 0.1), (0.95, 0.95, 0.93)
  posts = tuple(
    Part(CYLINDER, (0.05, 0.05), 0.0, 1.05, (0.3, 0.3, 0.3), offset=(0.0, y * half_length))
    for y in (-0.9, 0.0, 0.9)
  )
  return (*posts, Part(BOX, (0.04, half_length), 0.35, 1.0, red, stripe=white, period=0.3))


# name -> (parts, radius on the ground)
OBSTACLES = {
  'box': (_box, 0.45), 'bin': (_bin, 0.28), 'bollard': (_bollard, 0.11), 'pole': (_pole, 0.1),
  'planter': (_planter, 0.42), 'cone': (_cone, 0.25), 'person': (person_parts, 0.25),
}  # fmt: skip
SCENERY = {'tree': (_tree, 0.2), 'lamp': (_lamp, 0.1), 'car': (_car, 2.3)}


def make_thing(
  street: Street,
  name: str,
  s: float,
  d: float,
  parts: Sequence[Part],
  radius: float,
  turn: float = 0.0,
  **fields: Any,
) -> Thing:
  """A thing at place (s, d), its x axis along the street, turned left by `turn` (rad)."""
  position = street.place(np.array(s), np.array(d))
  return Thing(name, tuple(parts), position, float(street.heading_at(s)) + turn, radius, s, d, **fields)


def scatter_obstacles(
  street: Street, first: float, last: float, clearance: float, rng: np.random.Generator
) -> list[Thing]:
  """Obstacles on the walkable ground between s = first and last; beside each, `clearance` m are free on one side.

  clearance: m between the outline and the far edge of the walkable ground, on the wider side.
  """
  things: list[Thing] = []
  s = first + rng.uniform(0, 4)
  names = list(OBSTACLES)
  while s < last:
    name = names[rng.integers(len(names))]
    make, radius = OBSTACLES[name]
    # A thing in the very middle would leave the side to chance; too far aside it would not matter.
    least = max(0.15, clearance + radius - street.half_width)
    most = max(least, min(0.7 * street.half_width, street.half_width - radius))
    d = float(rng.choice([-1, 1]) * rng.uniform(least, most))
    turn = rng.uniform(-0.5, 0.5)
    things.append(make_thing(street, name, s, d, make(rng), radius, turn, is_obstacle=True))
    s += rng.uniform(4.5, 10.0)
  return things


def scatter_scenery(street: Street, rng: np.random.Generator) -> list[Thing]:
  """Trees, lamps and parked cars beside the walkable ground, along the whole street."""
  things: list[Thing] = []

  def row(name: str, e: float, gap: tuple[float, float]) -> None:
    s = rng.uniform(0, gap[1])
    while s < street.length:
      make, radius = SCENERY[name]
      turn = 0.0 if name == 'car' else rng.uniform(-3, 3)
      things.append(make_thing(street, name, s, street.side * e, make(rng), radius, turn))
      s += rng.uniform(*gap)

  if street.kind == 'corridor':
    return things
  if street.kind == 'park':
    for sign in (-1, 1):
      for _ in range(2):
        row('tree', sign * (street.half_width + rng.uniform(0.8, 4.5)), (5.0, 16.0))
    row('lamp', street.half_width + 0.4, (14.0, 22.0))
    return things
  materials, edges = street.band_materials, street.band_edges
  curb = edges[materials.index('asphalt', materials.index('dashes'))]  # upper edge of the near lane
  if 'grass' in materials[:-2]:
    row('tree', (-street.half_width + curb) / 2, (7.0, 15.0))
  row('lamp', curb + 0.1, (13.0, 22.0))
  if rng.random() < 0.7:
    row('car', curb - 1.15, (5.5, 16.0))
  if rng.random() < 0.5:
    row('car', edges[1] + 1.15, (5.5, 20.0))
  row('tree', edges[0] - 0.6, (8.0, 18.0))
  return things
