"""Plans of the indoor blocks: corridor, rooms, hall. Walls and a ceiling close them."""

from __future__ import annotations

import itertools

import numpy as np

from s2e_jax.navbench.blocks_parts import Coat, Part, Paving, Plan, box, cylinder, daylight, span
from s2e_jax.scene import Light

Rng = np.random.Generator

_CEILING = 2.7  # m
_DOOR = 2.1  # m, height of door openings
_CHAIRS = ('c8503c', '2f7f86', 'e0a92f', '5f7f3a', '35507e')


def _lamps() -> Light:
  """Light from the ceiling: a weak sun tells the walls of a room apart, no shadows."""
  return daylight((0.35, 0.6, 0.7), 0.3, 1.1, 'f2efe6', 'f2efe6')


def _ceiling(x0: float, x1: float, y0: float, y1: float, high: float = _CEILING) -> Part:
  return span(x0 - 0.5, x1 + 0.5, y0 - 0.5, y1 + 0.5, high + 0.2, Coat('c4bfb2', 'aaa598'), low=high)


def _lamp(x: float, y: float, half_x: float, half_y: float, ceiling: float = _CEILING) -> Part:
  return box(x, y, half_x, half_y, ceiling, Coat('ffffff'), kind='sign', low=ceiling - 0.06)


def _lintel(x0: float, x1: float, y0: float, y1: float, coat: Coat) -> Part:
  """The wall above a door opening."""
  return span(x0, x1, y0, y1, _CEILING, coat, low=_DOOR)


def _table(x: float, y: float, half_x: float, half_y: float, coat: Coat, yaw: float = 0.0) -> Part:
  return box(x, y, half_x, half_y, 0.75, coat, kind='bench', yaw=yaw)


def _chair(rng: Rng, x: float, y: float, back: tuple[float, float]) -> list[Part]:
  """A chair whose back is on the side of the unit vector `back`."""
  coat = Coat(_CHAIRS[int(rng.integers(len(_CHAIRS)))], '2a2622', 'panels', 0.45)
  thin = (0.04, 0.22) if back[0] else (0.22, 0.04)
  return [
    box(x, y, 0.22, 0.22, 0.45, coat, kind='bench'),
    box(x + 0.2 * back[0], y + 0.2 * back[1], *thin, 0.95, coat, kind='bench'),
  ]


def _corridor(rng: Rng) -> Plan:
  """A corridor of 2.6 m with doors and niches that turns left after 20 m; a lobby at the turn."""
  lower = Coat('4f8a86', '3a6a66', 'panels', 1.8)
  upper = Coat('e8dcc0', 'd8c8a4', 'panels', 1.8)
  rail = 1.1
  parts: list[Part] = []

  def wall(x0: float, x1: float, y0: float, y1: float) -> None:
    """Two colours, one above the other."""
    parts.append(span(x0, x1, y0, y1, rail, lower))
    parts.append(span(x0, x1, y0, y1, _CEILING, upper, low=rail))

  # along x: y from -1.3 to 1.3; niches of 1.2 m depth; then along y from x = 16 to 20
  wall(-4.0, 1.0, 1.3, 3.2)
  wall(3.5, 9.0, 1.3, 3.2)
  wall(11.5, 16.6, 1.3, 3.2)
  wall(1.0, 3.5, 2.6, 3.2)
  wall(9.0, 11.5, 2.6, 3.2)
  wall(-4.0, 5.5, -3.2, -1.3)
  wall(5.5, 8.0, -3.2, -2.6)
  wall(8.0, 16.0, -3.2, -1.3)
  wall(16.0, 20.8, -3.2, -2.6)
  wall(-4.6, -4.0, -3.2, 3.2)
  wall(20.2, 20.8, -2.6, 12.6)
  wall(16.0, 16.6, 3.2, 12.6)
  wall(16.0, 20.8, 12.6, 13.2)
  parts += [_ceiling(-4.6, 20.8, -3.2, 13.2)]
  for x in (-2.0, 2.2, 6.4, 10.6, 14.6):
    parts.append(_lamp(x, 0.0, 0.9, 0.15))
  for y in (2.0, 6.0, 10.0):
    parts.append(_lamp(18.4, y, 0.15, 0.9))
  colours = ('b5643c', '8c2f45', '35507e', '5f7f3a', 'c9803a')
  for i, (x, y) in enumerate(((-1.6, 1.3), (6.2, 1.3), (13.6, 1.3), (-2.6, -1.3), (2.4, -1.3), (11.6, -1.3))):
    frame = Coat(colours[i % len(colours)], 'f0e6d0', 'panels', 1.1)
    parts.append(box(x, y, 0.5, 0.05, _DOOR, frame, kind='wall'))
  for i, (x, y) in enumerate(((16.6, 6.0), (20.2, 3.4), (20.2, 9.6), (16.6, 11.0))):
    frame = Coat(colours[(i + 2) % len(colours)], 'f0e6d0', 'panels', 1.1)
    parts.append(box(x, y, 0.05, 0.5, _DOOR, frame, kind='wall'))
  parts += [
    box(2.2, 2.3, 0.9, 0.28, 0.45, Coat('c9803a', '6b3f1a', 'planks', 1.0), kind='bench'),
    box(10.2, 2.3, 0.5, 0.3, 1.8, Coat('d8442f', 'f4f1e4', 'shopfront', 0.8), kind='kiosk'),
    box(6.7, -2.3, 0.8, 0.28, 0.45, Coat('c9803a', '6b3f1a', 'planks', 1.0), kind='bench'),
    cylinder(4.3, 0.95, 0.24, 0.7, Coat('35507e', 'e9e6dc', 'bands', 0.6), kind='bin'),
    cylinder(8.8, -0.95, 0.28, 0.5, Coat('a85a3a'), kind='planter'),
    cylinder(8.8, -0.95, 0.3, 1.3, Coat('4f9a3f', '2c5a22', 'foliage', 1.0), kind='hedge', low=0.5),
    cylinder(19.6, -2.0, 0.32, 0.5, Coat('a85a3a'), kind='planter'),
    cylinder(19.6, -2.0, 0.36, 1.4, Coat('4f9a3f', '2c5a22', 'foliage', 1.0), kind='hedge', low=0.5),
    box(17.1, -2.0, 0.4, 0.5, 1.1, Coat('e0a92f', '7a5a16', 'panels', 0.8), kind='box'),
    box(18.9, 4.9, 0.5, 0.5, 0.9, Coat('c99a5a', '6b4a20', 'planks', 1.0), kind='box', yaw=0.3),
    cylinder(17.2, 8.6, 0.24, 0.7, Coat('35507e', 'e9e6dc', 'bands', 0.6), kind='bin'),
    box(19.7, 11.4, 0.4, 0.9, 0.45, Coat('c9803a', '6b3f1a', 'planks', 1.0), kind='bench'),
    box(float(rng.uniform(-0.4, 0.4)), -0.95, 0.3, 0.3, 0.8, Coat('8f9a9f', '4a5256', 'bands', 0.5), kind='bin'),
  ]
  paving = Paving(Coat('c8b48a', '8a744a', 'checks', 1.3), contrast=0.3)
  return Plan(parts, (-4.0, 20.2, -2.6, 12.6), (-2.0, 0.0), paving, _lamps(), is_indoor=True)


def _rooms(rng: Rng) -> Plan:
  """A flat of five rooms round a hall, joined by door openings of 1.2 m."""
  paint = {
    'outer': Coat('e6dcc6', 'cdbf9f', 'panels', 2.0),
    'red': Coat('c9836a', 'b06a52', 'panels', 2.0),
    'blue': Coat('8fb0c0', '7494a6', 'panels', 2.0),
    'green': Coat('a9b98a', '8c9d6e', 'panels', 2.0),
  }
  parts: list[Part] = []

  def along_x(x0: float, x1: float, y: float, doors: tuple[float, ...], coat: Coat) -> None:
    """A wall at y with door openings at these x."""
    at = x0
    for door in doors:
      parts.append(span(at, door - 0.6, y - 0.08, y + 0.08, _CEILING, coat))
      parts.append(_lintel(door - 0.6, door + 0.6, y - 0.08, y + 0.08, coat))
      at = door + 0.6
    parts.append(span(at, x1, y - 0.08, y + 0.08, _CEILING, coat))

  def along_y(y0: float, y1: float, x: float, doors: tuple[float, ...], coat: Coat) -> None:
    at = y0
    for door in doors:
      parts.append(span(x - 0.08, x + 0.08, at, door - 0.6, _CEILING, coat))
      parts.append(_lintel(x - 0.08, x + 0.08, door - 0.6, door + 0.6, coat))
      at = door + 0.6
    parts.append(span(x - 0.08, x + 0.08, at, y1, _CEILING, coat))

  # outer walls; hall from y = -1.2 to 1.2; rooms above and below
  parts += [
    span(-8.3, 8.3, 6.0, 6.3, _CEILING, paint['outer']),
    span(-8.3, 8.3, -6.3, -6.0, _CEILING, paint['blue']),
  ]
  parts += [span(-8.3, -8.0, -6, 6, _CEILING, paint['green']), span(8.0, 8.3, -6, 6, _CEILING, paint['red'])]
  along_x(-8.0, 8.0, 1.2, (-5.6, 4.8), paint['red'])
  along_x(-8.0, 8.0, -1.2, (-2.0, 6.4), paint['green'])
  along_y(1.2, 6.0, -0.6, (4.6,), paint['blue'])
  along_y(-6.0, -1.2, -3.6, (-4.4,), paint['red'])
  along_y(-6.0, -1.2, 3.2, (-3.0,), paint['blue'])
  parts.append(_ceiling(-8.0, 8.0, -6.0, 6.0))
  for x, y in ((-4.5, 3.6), (3.6, 3.6), (-5.8, -3.6), (-0.2, -3.6), (5.6, -3.6), (-5.0, 0.0), (3.0, 0.0)):
    parts.append(_lamp(x, y, 0.5, 0.2))
  oak = Coat('b07a42', '6b4522', 'planks', 1.2)
  dark = Coat('6b4a35', '3a2719', 'planks', 1.2)
  books = Coat('7a5236', 'c8503c', 'stripes', 0.5)
  parts += [
    # living room: sofa, low table, shelf
    box(-4.4, 5.4, 1.2, 0.45, 0.45, Coat('35607e', '24445a', 'panels', 0.8), kind='bench'),
    box(-4.4, 5.8, 1.2, 0.15, 0.9, Coat('35607e', '24445a', 'panels', 0.8), kind='bench'),
    box(-4.3, 3.9, 0.6, 0.35, 0.4, oak, kind='bench'),
    box(-7.7, 3.4, 0.22, 1.0, 2.0, books, kind='box'),
    cylinder(-1.2, 1.9, 0.22, 0.45, Coat('a85a3a'), kind='planter'),
    cylinder(-1.2, 1.9, 0.3, 1.4, Coat('4f9a3f', '2c5a22', 'foliage', 1.0), kind='hedge', low=0.45),
    # dining room
    _table(3.0, 3.8, 1.0, 0.5, oak),
    *_chair(rng, 2.4, 4.7, (0, 1)),
    *_chair(rng, 3.6, 4.7, (0, 1)),
    *_chair(rng, 2.4, 2.9, (0, -1)),
    *_chair(rng, 3.6, 2.9, (0, -1)),
    box(7.6, 4.2, 0.3, 1.4, 0.95, dark, kind='box'),
    # kitchen: counters and a fridge
    box(-7.6, -4.4, 0.35, 1.5, 0.9, Coat('e9e4d8', '8a7a5a', 'panels', 0.7), kind='box'),
    box(-5.6, -5.65, 1.5, 0.35, 0.9, Coat('e9e4d8', '8a7a5a', 'panels', 0.7), kind='box'),
    box(-7.6, -2.3, 0.35, 0.4, 1.8, Coat('c8ced0', '7a8486', 'bands', 2.0), kind='box'),
    box(-5.5, -3.4, 0.5, 0.4, 0.85, dark, kind='bench'),
    # study
    _table(-1.4, -5.5, 0.8, 0.4, oak),
    *_chair(rng, -1.4, -4.7, (0, 1)),
    box(1.6, -5.75, 1.2, 0.2, 2.0, books, kind='box'),
    # bedroom
    box(6.6, -4.8, 1.0, 1.0, 0.5, Coat('d8cfe0', '8c5f7a', 'bands', 1.0), kind='bench'),
    box(7.75, -4.8, 0.15, 1.0, 1.0, dark, kind='bench'),
    box(4.0, -5.7, 0.6, 0.25, 2.1, dark, kind='box'),
    # hall
    box(-7.6, 0.3, 0.3, 0.5, 0.9, dark, kind='box'),
    box(1.4, 0.95, 0.6, 0.16, 0.85, oak, kind='box'),
    cylinder(7.5, 0.6, 0.22, 0.6, Coat('e0a92f', '6b4a16', 'bands', 0.5), kind='bin'),
  ]
  paving = Paving(Coat('c08f5c', '7a522c', 'planks', 1.8), contrast=0.4)
  return Plan(parts, (-8.0, 8.0, -6.0, 6.0), (0.0, 0.0), paving, _lamps(), is_indoor=True)


def _hall(rng: Rng) -> Plan:
  """A warehouse with rows of shelves, pallets and pillars, closed by a high ceiling."""
  high = 4.5
  sheet = Coat('9fb2ba', '7d929c', 'stripes', 1.6)
  block = Coat('d0c6b2', 'a89a7e', 'bond', 2.2)
  parts = [
    span(-11.5, 11.5, 8.0, 8.5, high, sheet),
    span(-11.5, 11.5, -8.5, -8.0, high, block),
    span(-11.5, -11.0, -8, 8, high, block),
    span(11.0, 11.5, -8, 8, high, sheet),
    _ceiling(-11.0, 11.0, -8.0, 8.0, high),
  ]
  for x in (-7.0, 0.0, 7.0):
    for y in (-4.0, 4.0):
      parts.append(_lamp(x, y, 1.4, 0.2, high))
  goods = ('c99a5a', 'c8503c', '2f7f86', 'e0a92f', '5f7f3a', '35607e')
  for y in (-5.0, -1.6, 1.8, 5.2):
    for x0, x1 in ((-8.0, -1.2), (1.2, 8.0)):
      if (y, x0) == (1.8, 1.2):
        continue  # one row is gone: a place to turn
      steel = Coat('d9772e', 'a8551c')
      parts.append(span(x0, x1, y - 0.45, y + 0.45, 0.25, steel, kind='box'))
      parts.append(span(x0, x1, y - 0.5, y + 0.5, 1.6, steel, kind='box', low=1.45))
      edges = np.linspace(x0 + 0.2, x1 - 0.2, 4)
      for low, up in itertools.pairwise(edges):
        coat = Coat(goods[int(rng.integers(len(goods)))], '4a3a22', 'panels', 0.9)
        parts.append(span(low + 0.1, up - 0.1, y - 0.4, y + 0.4, float(rng.uniform(1.0, 1.4)), coat, low=0.25))
        coat = Coat(goods[int(rng.integers(len(goods)))], '4a3a22', 'panels', 0.9)
        parts.append(span(low + 0.1, up - 0.1, y - 0.4, y + 0.4, float(rng.uniform(2.2, 2.8)), coat, low=1.6))
  for x, y in ((-10.0, -6.6), (9.8, 6.4), (3.0, 2.0), (6.2, 1.2)):
    yaw = float(rng.uniform(-0.3, 0.3))
    parts.append(box(x, y, 0.6, 0.5, 0.15, Coat('c99a5a', '6b4a20', 'planks', 0.8), kind='box', yaw=yaw))
    parts.append(
      box(
        x, y, 0.55, 0.45, float(rng.uniform(0.7, 1.2)), Coat('d8b070', '8a6230', 'panels', 0.8), low=0.15, yaw=yaw
      )
    )
  for x in (-9.4, 9.4):
    parts.append(cylinder(x, 0.0, 0.25, high, Coat('e0b92f', '22262b', 'bands', 1.2), kind='pole'))
  parts += [
    box(-10.95, 4.0, 0.06, 1.3, 3.0, Coat('8c9aa0', '5f6c72', 'bands', 0.8), kind='wall'),
    box(-10.2, 0.6, 0.4, 0.5, 1.1, Coat('c8503c', 'f4f1e4', 'stripes', 0.6), kind='box'),
    box(10.6, -5.6, 0.3, 0.9, 2.0, Coat('5f7f3a', '33471e', 'panels', 0.9), kind='box'),
    cylinder(10.2, -2.8, 0.32, 0.95, Coat('2f6fb0', 'e9e6dc', 'bands', 0.9), kind='barrel'),
    cylinder(10.3, -2.1, 0.32, 0.95, Coat('2f6fb0', 'e9e6dc', 'bands', 0.9), kind='barrel'),
  ]
  paving = Paving(Coat('a8a59a', '6f6c62', 'panels', 1.6), contrast=0.35)
  return Plan(parts, (-11.0, 11.0, -8.0, 8.0), (0.0, 0.0), paving, _lamps(), is_indoor=True)


PLANS = {'corridor': _corridor, 'rooms': _rooms, 'hall': _hall}
