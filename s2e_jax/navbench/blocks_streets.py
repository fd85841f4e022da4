"""Plans of the blocks between houses: street, crossing, alley, bend."""

from __future__ import annotations

import itertools
import math

import numpy as np

from s2e_jax.navbench.blocks_parts import (
  Coat,
  Part,
  Paving,
  Plan,
  bench,
  box,
  car,
  cylinder,
  daylight,
  house,
  lamp,
  leaf,
  planter,
  span,
  tree,
)

Rng = np.random.Generator

# Walls of houses and what is in them; shop fronts; paint of cars; leaves.
_RENDER = ('d98b4a', 'e8c77a', 'c65b4e', '8fb3a5', 'e3d9c3', '7c97b8', 'b9746a', 'd6b9a0')
_PANES = ('24404f', '3a2f2a', '2c5560', '4a5a4f')
SHOPS = ('2d6f73', '8c2f45', 'e0a92f', '35507e', '5f7f3a', 'c9603a')
_CARS = ('d8442f', '2f6fb0', 'e9e6dc', '3f8f6b', 'f0b52a', '6a4c93')
LEAVES = ('4f9a3f', '78a83a', '2f7d4f', '9aa83a')


def pick(rng: Rng, codes: tuple[str, ...]) -> str:
  """One of some colours."""
  return codes[int(rng.integers(len(codes)))]


def _upper(rng: Rng) -> Coat:
  return Coat(pick(rng, _RENDER), pick(rng, _PANES), 'windows', float(rng.uniform(2.2, 2.8)))


def _lower(rng: Rng) -> Coat:
  return Coat(pick(rng, SHOPS), 'd7e3e2' if rng.random() < 0.4 else '1e2a30', 'shopfront', 2.4)


def terrace(rng: Rng, x0: float, x1: float, face: float, out: float, num: int) -> list[Part]:
  """`num` houses wall to wall along y = face, standing on the side of the sign `out`, doors in them."""
  parts: list[Part] = []
  edges = np.linspace(x0, x1, num + 1)
  edges[1:-1] += rng.uniform(-0.8, 0.8, num - 1)
  for low, high in itertools.pairwise(edges):
    near, far = sorted((face, face + out * 4.0))
    parts += house(low, high, near, far, float(rng.uniform(6.0, 9.5)), _upper(rng), _lower(rng))
    door = float(rng.uniform(low + 1.2, high - 1.2))
    parts.append(box(door, face, 0.55, 0.06, 2.2, Coat(pick(rng, SHOPS), 'efe6d0', 'panels', 0.9), kind='wall'))
  return parts


def street_end(rng: Rng, x: float, out: float, y0: float, y1: float) -> list[Part]:
  """A house that closes a street at x."""
  near, far = sorted((x, x + out * 4.0))
  return house(near, far, y0, y1, float(rng.uniform(6.5, 9.0)), _upper(rng), _lower(rng))


def _street(rng: Rng) -> Plan:
  parts = [
    *terrace(rng, -17, 17, 6.5, 1, 4),
    *terrace(rng, -17, 17, -6.5, -1, 4),
    *street_end(rng, -17, -1, -10.5, 10.5),
    *street_end(rng, 17, 1, -10.5, 10.5),
  ]
  for x, y in ((-12.5, 2.1), (-5.5, 2.1), (6.5, 2.1), (-8.0, -2.1), (3.0, -2.1), (11.5, -2.1)):
    parts += car(x + float(rng.uniform(-0.6, 0.6)), y, pick(rng, _CARS), 0.0 if y < 0 else math.pi)
  for x, y in ((-14.5, -4.0), (-2.0, 4.0), (7.5, -4.0), (12.5, 4.0)):
    parts += tree(x, y, pick(rng, LEAVES), float(rng.uniform(4.4, 5.2)), float(rng.uniform(1.1, 1.4)))
  for x, y in ((-9.5, 3.7), (-3.5, -3.7), (9.0, 3.7)):
    parts += lamp(x, y)
  parts += [*bench(-6.5, 5.9, 0.0), *bench(1.0, -5.9, math.pi), *planter(3.6, 5.7, 0.9, 0.4, '5a9a3f')]
  parts += [*planter(-11.0, -5.6, 1.2, 0.45, '78a83a'), *planter(14.0, 5.6, 0.5, 0.5, '2f7d4f')]
  parts += [
    box(0.8, 4.6, 0.8, 0.6, 2.3, Coat('2f7f86', 'f2d36b', 'shopfront', 1.2), kind='kiosk'),
    cylinder(-1.0, -5.0, 0.28, 1.0, Coat('35507e', 'e9e6dc', 'bands', 0.8), kind='bin'),
    cylinder(11.0, 5.6, 0.28, 1.0, Coat('35507e', 'e9e6dc', 'bands', 0.8), kind='bin'),
    box(-13.0, 4.8, 0.5, 0.35, 1.2, Coat('e0a92f', '6b4a16', 'panels', 0.8), kind='box'),
    box(5.5, -5.0, 0.06, 0.45, 1.1, Coat('f4f1e4', 'c2402f', 'stripes', 0.6), kind='sign'),
  ]
  parts += [cylinder(x, 3.3, 0.1, 0.9, Coat('c2402f', 'f4f1e4', 'bands', 0.7), kind='bollard') for x in (1.6, 3.2)]
  paving = Paving(Coat('c9b596', '7d6d55', 'slabs', 1.6), road=(-3.0, 3.0), crossings=((1.2, 3.8, -3.0, 3.0),))
  light = daylight((-0.4, -0.7, 0.8), 0.75, 0.5, '5d92c9', 'd5e4ee')
  return Plan(parts, (-17.0, 17.0, -6.5, 6.5), (0.0, 0.0), paving, light)


def _crossing(rng: Rng) -> Plan:
  parts: list[Part] = []
  # four corner houses, and one that closes each arm
  for sx in (-1, 1):
    for sy in (-1, 1):
      x0, x1 = sorted((sx * 4.5, sx * 16.0))
      y0, y1 = sorted((sy * 4.5, sy * 16.0))
      parts += house(x0, x1, y0, y1, float(rng.uniform(6.0, 9.0)), _upper(rng), _lower(rng))
  for out in (-1, 1):
    parts += street_end(rng, out * 15.5, out, -4.5, 4.5)
    near, far = sorted((out * 15.5, out * 19.5))
    parts += house(-4.5, 4.5, near, far, float(rng.uniform(6.0, 8.0)), _upper(rng), _lower(rng))
  for x, y, yaw in (
    (-10.5, 1.6, math.pi),
    (9.5, -1.6, 0.0),
    (-1.6, 10.0, -math.pi / 2),
    (1.6, -10.5, math.pi / 2),
  ):
    parts += car(x, y, pick(rng, _CARS), yaw)
  for x, y in ((-6.5, 3.4), (6.8, 3.4), (-13.5, -3.4), (3.4, 6.5), (-3.4, -7.0), (3.4, -13.0)):
    parts += tree(x, y, pick(rng, LEAVES), float(rng.uniform(4.2, 4.8)), float(rng.uniform(0.9, 1.1)))
  for sx, sy in ((-1, -1), (1, 1), (1, -1), (-1, 1)):
    post = Coat('3c4148', 'e0a92f', 'bands', 0.9)
    parts.append(cylinder(sx * 3.3, sy * 3.3, 0.09, 2.4, post, kind='pole'))
    light_box = Coat('22262b', 'd8442f', 'dots', 0.6)
    parts.append(box(sx * 3.3, sy * 3.3, 0.16, 0.16, 3.1, light_box, kind='sign', low=2.4))
  parts += [*bench(-9.5, -4.0, math.pi), *bench(12.0, 4.0, 0.0), *bench(4.0, 10.5, -math.pi / 2)]
  parts += [*planter(-4.0, 7.5, 0.4, 1.1, '78a83a'), *planter(6.0, -3.9, 1.1, 0.4, '2f7d4f')]
  parts += [
    box(-12.0, 3.7, 0.9, 0.7, 2.4, Coat('8c2f45', 'f2e6c8', 'shopfront', 1.2), kind='kiosk'),
    cylinder(4.0, 4.9, 0.28, 1.0, Coat('5f7f3a', 'e9e6dc', 'bands', 0.8), kind='bin'),
    cylinder(-3.6, -11.5, 0.28, 1.0, Coat('5f7f3a', 'e9e6dc', 'bands', 0.8), kind='bin'),
    box(1.0, 13.8, 0.9, 0.5, 1.0, Coat('e0a92f', '22262b', 'stripes', 0.8), kind='barrier'),
  ]
  paving = Paving(
    Coat('b7a8a0', '6d605a', 'hexagons', 1.8),
    road=(-2.7, 2.7),
    cross_road=(-2.7, 2.7),
    crossings=((-5.2, -3.2, -2.7, 2.7), (-2.7, 2.7, 3.2, 5.2)),
  )
  light = daylight((0.6, -0.5, 0.7), 0.8, 0.45, '4f86c2', 'f0e3cf')
  return Plan(parts, (-15.5, 15.5, -15.5, 15.5), (0.0, 0.0), paving, light)


def _alley(rng: Rng) -> Plan:
  """A passage of 3 m that turns twice, between brick walls, with a yard half way."""
  brick = lambda: Coat(pick(rng, ('b0583c', 'a3694a', '8f5a4f', 'c4835a')), 'd8c8b4', 'bond', 1.8)
  render = lambda: Coat(pick(rng, ('d6c49a', '9db0a8', 'c9a48a')), '5d5a50', 'windows', 2.6)
  parts = [
    span(-14, 3.0, 1.6, 5.0, 6.0, brick(), kind='building'),
    span(-14, -2.0, -5.0, -1.6, 5.5, render(), kind='building'),
    span(-2.0, 0.0, -9.0, -1.6, 5.5, brick(), kind='building'),
    span(3.0, 7.0, -2.6, 5.0, 6.0, render(), kind='building'),
    span(-2.0, 3.0, -13.5, -9.0, 6.0, render(), kind='building'),
    span(3.0, 16.0, -13.5, -9.6, 5.0, brick(), kind='building'),
    span(7.0, 16.0, -6.0, -2.6, 5.5, brick(), kind='building'),
    span(16.0, 17.0, -13.5, -2.6, 4.0, Coat('6f7f6a', '3c4a3a', 'planks', 2.2), kind='wall'),
    span(-15.0, -14.0, -5.0, 5.0, 4.0, Coat('7a5a3c', '3f2c1a', 'planks', 2.2), kind='wall'),
  ]
  door = lambda x, y, hx, hy: box(x, y, hx, hy, 2.1, Coat(pick(rng, SHOPS), 'efe6d0', 'panels', 0.9), kind='wall')
  parts += [door(-9.0, 1.6, 0.5, 0.06), door(-5.0, -1.6, 0.5, 0.06), door(0.0, -5.0, 0.06, 0.5)]
  parts += [door(10.0, -6.0, 0.5, 0.06), door(12.8, -9.6, 0.5, 0.06), door(3.0, 0.0, 0.06, 0.5)]
  container = lambda colour: Coat(colour, '1c2420', 'panels', 0.9)
  parts += [
    box(-11.2, 1.1, 0.7, 0.45, 1.2, container('2f7f4f'), kind='bin'),
    box(-7.0, -1.1, 0.7, 0.45, 1.2, container('35507e'), kind='bin'),
    box(-3.2, 1.1, 0.6, 0.45, 1.2, container('e0a92f'), kind='bin'),
    box(2.4, -2.2, 0.5, 0.6, 1.2, container('2f7f4f'), kind='bin'),
    box(0.6, -6.6, 0.5, 0.5, 0.9, Coat('c08a4a', '6b4a20', 'planks', 1.0), kind='box', yaw=0.2),
    box(0.55, -6.6, 0.35, 0.35, 1.5, Coat('b07a3a', '6b4a20', 'planks', 1.0), kind='box', low=0.9, yaw=0.5),
    box(5.2, -3.3, 0.9, 0.6, 0.8, Coat('c08a4a', '6b4a20', 'planks', 1.0), kind='box'),
    box(9.0, -9.0, 0.6, 0.5, 1.1, container('8c2f45'), kind='bin'),
    box(14.6, -6.5, 0.9, 0.4, 1.3, container('35507e'), kind='bin'),
    cylinder(-9.8, -1.25, 0.3, 0.9, Coat('4a6f8f', 'd8d0b8', 'bands', 0.8), kind='barrel'),
    cylinder(3.4, -9.0, 0.3, 0.9, Coat('d8442f', 'd8d0b8', 'bands', 0.8), kind='barrel'),
    cylinder(4.1, -9.1, 0.3, 0.9, Coat('4a6f8f', 'd8d0b8', 'bands', 0.8), kind='barrel'),
    cylinder(11.6, -6.5, 0.3, 0.9, Coat('3f8f6b', 'd8d0b8', 'bands', 0.8), kind='barrel'),
  ]
  # pipes down the walls, and an arch over the passage
  for x, y in ((-12.6, 1.5), (-3.9, -1.5), (0.1, -3.3), (2.9, -0.9), (8.3, -6.1), (6.4, -9.5)):
    parts.append(cylinder(x, y, 0.09, 5.0, Coat('5f6a70', 'c2402f', 'bands', 1.6), kind='pole'))
  parts += [
    span(-6.5, -5.7, -1.6, 1.6, 4.2, brick(), kind='wall', low=2.6),
    span(12.0, 12.8, -9.6, -6.0, 4.0, brick(), kind='wall', low=2.6),
    box(13.6, -8.6, 0.05, 0.5, 1.1, Coat('f4f1e4', 'c2402f', 'stripes', 0.6), kind='sign', yaw=0.4),
  ]
  paving = Paving(Coat('8f8a80', '4f4a42', 'cobbles', 3.0), contrast=0.4)
  light = daylight((-0.5, -0.25, 0.9), 0.65, 0.6, '7aa6cf', 'dde5ea')
  return Plan(parts, (-14.0, 16.0, -9.6, 1.6), (-12.0, -0.2), paving, light)


def _bend(rng: Rng) -> Plan:
  """A street that bends through a right angle round a green, with a chicane of planters."""
  radius, width = 15.0, 8.0
  parts: list[Part] = []
  inner, outer = radius - width / 2, radius + width / 2
  for i, angle in enumerate(np.linspace(0.06, math.pi / 2 - 0.06, 6)):
    middle = outer + 2.0
    x, y = middle * math.cos(angle), middle * math.sin(angle)
    high, low = _upper(rng), _lower(rng)
    half = middle * math.pi / 22 + 0.5
    parts += [
      box(x, y, 2.0, half, 3.2, low, kind='building', yaw=angle),
      box(x, y, 2.0, half, float(rng.uniform(6, 9)), high, kind='building', low=3.2, yaw=angle),
    ]
    if i < 5:
      angle = float(angle) + 0.14
      x, y = (inner - 1.4) * math.cos(angle), (inner - 1.4) * math.sin(angle)
      coat = leaf(pick(rng, LEAVES)) if i % 2 else Coat('b5643c', 'e3d2b4', 'bond', 1.8)
      parts.append(box(x, y, 1.4, 1.95, 2.2 if i % 2 else 3.0, coat, kind='hedge' if i % 2 else 'wall', yaw=angle))
  parts += street_end(rng, 0.0, -1, inner - 3, outer + 3)
  parts += house(inner - 3, outer + 3, -4.0, 0.0, 7.5, _upper(rng), _lower(rng))
  on_arc = lambda r, degrees: (r * math.cos(math.radians(degrees)), r * math.sin(math.radians(degrees)))
  for r, degrees in ((17.4, 20), (12.6, 43), (17.4, 68)):
    x, y = on_arc(r, degrees)
    parts += car(x, y, pick(rng, _CARS), math.radians(degrees + 90))
  for r, degrees in ((12.6, 14), (18.0, 33), (12.4, 64), (17.8, 84), (15.0, 29)):
    x, y = on_arc(r, degrees)
    parts += tree(x, y, pick(rng, LEAVES), float(rng.uniform(4.2, 5.0)), float(rng.uniform(0.9, 1.2)))
  for r, degrees in ((12.0, 26), (18.2, 52), (12.0, 77)):
    x, y = on_arc(r, degrees)
    parts += lamp(x, y)
  for r, degrees, size in ((14.9, 56, 1.0), (16.2, 7, 0.9), (14.4, 82, 0.9)):
    x, y = on_arc(r, degrees)
    trough = Coat('a85a3a', '6b3622', 'panels', 0.9)
    parts += [
      box(x, y, size, 0.45, 0.5, trough, kind='planter', yaw=math.radians(degrees)),
      box(x, y, size - 0.1, 0.35, 1.0, leaf('5a9a3f'), kind='hedge', low=0.5, yaw=math.radians(degrees)),
    ]
  for r, degrees in ((18.2, 42), (12.0, 71), (12.0, 5)):
    x, y = on_arc(r, degrees)
    parts += bench(x, y, math.radians(degrees + 90) if r < 15 else math.radians(degrees - 90))
  paving = Paving(Coat('b9b2aa', '6a625a', 'bond', 2.4), contrast=0.4)
  light = daylight((0.7, 0.2, 0.8), 0.75, 0.5, '6a9ccc', 'e9e4d6')
  return Plan(parts, (0.0, 19.2, 0.0, 19.2), on_arc(15.5, 45), paving, light)


PLANS = {'street': _street, 'crossing': _crossing, 'alley': _alley, 'bend': _bend}
