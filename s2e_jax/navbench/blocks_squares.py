"""Plans of the open blocks: plaza, park, market."""

from __future__ import annotations

import math

import numpy as np

from s2e_jax.navbench.blocks_parts import (
  Coat,
  Paving,
  Plan,
  bench,
  box,
  capsule,
  cylinder,
  daylight,
  lamp,
  leaf,
  span,
  statue,
  tree,
)
from s2e_jax.navbench.blocks_streets import LEAVES, Rng, pick, street_end, terrace


def _plaza(rng: Rng) -> Plan:
  parts = [
    *terrace(rng, -13, 13, 10.5, 1, 3),
    *terrace(rng, -13, 13, -10.5, -1, 3),
    *street_end(rng, -13, -1, -14.5, 14.5),
    *street_end(rng, 13, 1, -14.5, 14.5),
  ]
  parts += statue(0.0, 0.0)
  for x, y in ((-5.0, 4.2), (5.0, 4.2), (-5.0, -4.2), (5.0, -4.2)):
    leaves = pick(rng, LEAVES)
    parts += [box(x, y, 0.9, 0.9, 0.5, Coat('a85a3a', '6b3622', 'panels', 0.9), kind='planter')]
    parts += tree(x, y, leaves, float(rng.uniform(4.2, 5.0)), float(rng.uniform(1.1, 1.4)))
  parts += [
    box(-9.0, 0.5, 1.1, 1.4, 2.5, Coat('2d6f73', 'f6e3b4', 'shopfront', 1.2), kind='kiosk', yaw=0.1),
    box(9.3, -1.0, 1.0, 1.3, 2.5, Coat('e0a92f', '3a2f2a', 'shopfront', 1.2), kind='kiosk', yaw=-0.15),
    box(-9.0, 0.5, 1.4, 1.7, 2.65, Coat('f1ece0', 'c2402f', 'stripes', 0.8), kind='kiosk', low=2.5, yaw=0.1),
  ]
  for x, y, yaw in ((0.0, 4.4, 0.0), (0.0, -4.4, math.pi), (-5.2, 0.2, math.pi / 2), (5.4, 1.2, -math.pi / 2)):
    parts += bench(x, y, yaw)
  for x, y in ((8.2, 7.0), (9.9, 6.4), (-8.6, -7.2), (-10.3, -6.5), (-7.0, 8.0)):
    table = Coat('f1ece0', '8c2f45', 'bands', 0.5)
    parts += [cylinder(x, y, 0.4, 0.75, table, kind='barrel')]
    parts += [cylinder(x + 0.1, y + 0.75, 0.2, 0.5, Coat('8c2f45'), kind='barrel')]
  for x in (-3.2, -1.6, 1.6, 3.2):
    parts.append(cylinder(x, -7.4, 0.12, 0.9, Coat('35507e', 'e9e6dc', 'bands', 0.7), kind='bollard'))
  parts += [*lamp(-3.0, 7.6), *lamp(3.4, 7.6), *lamp(-11.5, -3.0), *lamp(11.3, 3.6)]
  paving = Paving(Coat('d8c8a8', '8b7652', 'checks', 2.0), contrast=0.3)
  light = daylight((0.3, 0.8, 0.9), 0.75, 0.5, '6aa0d0', 'e6ecef')
  return Plan(parts, (-13.0, 13.0, -10.5, 10.5), (0.0, -2.5), paving, light)


def _park(rng: Rng) -> Plan:
  hedge = leaf('4a8a3c')
  parts = [
    span(-16, 16, 10.0, 11.2, 2.4, hedge, kind='hedge'),
    span(-16, 16, -11.2, -10.0, 2.4, leaf('3c7d46'), kind='hedge'),
    span(-17.2, -16, -11.2, 11.2, 2.2, leaf('6a9a38'), kind='hedge'),
    span(16, 17.2, -11.2, 11.2, 3.0, Coat('c2705a', '7d3f30', 'bond', 1.6), kind='wall'),
    # hedges between the lawns, with ways through
    span(-10.0, -3.5, 4.2, 5.0, 1.2, hedge, kind='hedge'),
    span(2.5, 10.5, -4.6, -3.8, 1.2, leaf('6a9a38'), kind='hedge'),
    span(-8.4, -7.6, -8.0, -2.6, 1.2, leaf('3c7d46'), kind='hedge'),
    span(7.2, 8.0, 3.0, 8.2, 1.2, hedge, kind='hedge'),
  ]
  places = (
    (-13.5, 7.0), (-12.5, -1.9), (-13.0, -7.5), (-5.0, 8.0), (-4.5, -4.8), (-1.5, -8.2), (1.5, 6.8),
    (4.2, 2.4), (5.0, -7.8), (11.0, -7.4), (12.5, 2.2), (12.3, 7.8), (-8.0, 1.9), (9.8, -2.0),
  )  # fmt: skip
  for x, y in places:
    height, radius = float(rng.uniform(4.2, 5.6)), float(rng.uniform(1.1, 1.7))
    # crowns stay above heads
    height = max(height, 2 * radius + 1.8)
    parts += tree(x + float(rng.uniform(-0.3, 0.3)), y, pick(rng, LEAVES), height, radius)
  parts += [
    cylinder(-1.0, 0.0, 1.5, 0.5, Coat('d6cdb8', '8d8676', 'slabs', 1.0), kind='planter'),
    cylinder(-1.0, 0.0, 0.35, 1.5, Coat('d6cdb8', '8d8676', 'bands', 0.8), kind='statue'),
    cylinder(-1.0, 0.0, 0.8, 1.7, Coat('79a9b8'), kind='statue', low=1.5),
  ]
  for x, y, yaw in ((-5.5, 1.9, 0.0), (2.6, -2.0, math.pi), (7.6, 1.9, 0.0), (-11.0, -2.0, math.pi)):
    parts += bench(x, y, yaw)
  parts += [*lamp(-10.0, 1.8), *lamp(0.8, 2.1), *lamp(5.2, -1.9), *lamp(13.6, -1.8)]
  parts += [
    cylinder(-3.6, -1.9, 0.28, 0.95, Coat('b5643c', '5a3018', 'bands', 0.7), kind='bin'),
    cylinder(9.2, 1.9, 0.28, 0.95, Coat('b5643c', '5a3018', 'bands', 0.7), kind='bin'),
    box(14.4, -5.0, 1.2, 1.6, 2.3, Coat('8a5a34', '4a2c16', 'planks', 1.6), kind='kiosk'),
    box(14.4, -5.0, 1.4, 1.8, 2.6, Coat('4f5f4a'), kind='kiosk', low=2.3),
    box(-14.6, 3.0, 0.06, 0.7, 1.6, Coat('35507e', 'f4f1e4', 'panels', 0.7), kind='sign'),
  ]
  paving = Paving(Coat('d9bf8a', '9a7d4a', 'noise', 2.5), band=(-1.4, 1.4), plazas=((-4.0, 2.0, -3.0, 3.0),))
  light = daylight((-0.7, 0.3, 0.9), 0.8, 0.45, '5f9bd6', 'dfeaf0')
  return Plan(parts, (-16.0, 16.0, -10.0, 10.0), (-6.0, 0.0), paving, light)


def _market(rng: Rng) -> Plan:
  """A walled court with a row of pillars along two sides and stalls under awnings."""
  wall = Coat('e2c48f', '9a7440', 'bond', 2.0)
  parts = [
    span(-12.5, 12.5, 9.0, 10.0, 5.0, Coat('d9a05a', '5a3a22', 'windows', 2.6), kind='building'),
    span(-12.5, 12.5, -10.0, -9.0, 5.0, wall, kind='building'),
    span(-13.5, -12.5, -10, 10, 5.0, Coat('c8744a', '5a2f22', 'windows', 2.6), kind='building'),
    span(12.5, 13.5, -10, 10, 5.0, wall, kind='building'),
    span(-12.5, 12.5, 6.6, 9.0, 3.4, Coat('a85a3a', '6b3622', 'planks', 2.0), kind='wall', low=3.1),
  ]
  for x in np.linspace(-10.5, 10.5, 7):
    parts.append(cylinder(float(x), 6.9, 0.25, 3.1, Coat('efe3c8', '9a8a68', 'bands', 1.5), kind='pole'))
  awnings = ('c2402f', '2f6fb0', '3f8f6b', 'e0a92f', '8c2f45', '2d6f73')
  stalls = ((-8.0, 3.0), (-2.0, 3.2), (4.2, 2.8), (-8.2, -3.0), (-2.2, -3.4), (4.0, -3.0), (9.4, 0.0))
  for i, (x, y) in enumerate(stalls):
    yaw = float(rng.uniform(-0.08, 0.08)) + (math.pi / 2 if i == 6 else 0.0)
    colour = awnings[i % len(awnings)]
    cos, sin = math.cos(yaw), math.sin(yaw)
    parts += [
      box(x, y, 1.4, 0.6, 0.9, Coat('9a6a3c', '4a2c16', 'planks', 1.2), kind='box', yaw=yaw),
      box(x, y, 1.7, 1.0, 2.5, Coat(colour, 'f4eeda', 'stripes', 0.8), kind='kiosk', low=2.2, yaw=yaw),
      box(x, y, 1.2, 0.4, 1.15, Coat(pick(rng, LEAVES), 'd8442f', 'dots', 0.7), kind='box', low=0.9, yaw=yaw),
    ]
    for side in (-1, 1):
      px, py = x + side * 1.5 * cos, y + side * 1.5 * sin
      parts.append(cylinder(px, py, 0.06, 2.2, Coat('efe3c8'), kind='pole'))
  for x, y in ((-11.5, -7.8), (-10.6, -8.2), (11.4, 5.2), (0.8, -8.2), (11.6, -7.6)):
    parts.append(cylinder(x, y, 0.36, 0.95, Coat('8a5a34', '3a2a1c', 'bands', 0.9), kind='barrel'))
  for x, y in ((-5.2, -0.1), (1.2, 0.4), (7.0, -6.2), (-11.4, 5.4), (5.0, -8.0)):
    yaw = float(rng.uniform(-0.5, 0.5))
    parts.append(box(x, y, 0.45, 0.4, 0.7, Coat('c99a5a', '6b4a20', 'planks', 1.0), kind='box', yaw=yaw))
  parts += [
    box(-11.9, 0.4, 0.55, 0.9, 2.2, Coat('2d6f73', 'efe6d0', 'panels', 0.9), kind='wall'),
    capsule(9.6, -7.4, 0.9, 2.2, 4.2, leaf('78a83a')),
    cylinder(9.6, -7.4, 0.16, 2.5, Coat('6b4a35', '4a3020', 'bands', 0.8), kind='trunk'),
    cylinder(9.6, -7.4, 0.8, 0.5, Coat('a85a3a', '6b3622', 'panels', 0.9), kind='planter'),
  ]
  paving = Paving(Coat('cfae86', '7a5a3a', 'bricks', 2.6), contrast=0.35)
  light = daylight((0.5, -0.6, 0.9), 0.7, 0.55, '5a96d2', 'f0e6d2')
  return Plan(parts, (-12.5, 12.5, -9.0, 9.0), (-5.0, 1.4), paving, light)


PLANS = {'plaza': _plaza, 'park': _park, 'market': _market}
