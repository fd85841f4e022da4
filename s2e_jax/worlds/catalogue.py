"""Things that stand on pavements: what sizes they have and where they stand. Looks choose among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from s2e_jax.scene import KIND

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Thing:
  """One type of thing; ranges in metres.

  kind: its name in `scene.KINDS`. half_x, half_y: half sides along and across the way (a cylinder has half_x as
  its radius and no half_y). height: of its top. turn: rad of random turn to either side.
  """

  kind: str
  half_x: Range
  half_y: Range | None
  height: Range
  turn: float = 0.3


# Each is a box if it has half_y, else a cylinder.
THINGS = {
  'litter_bin': Thing('bin', (0.22, 0.34), (0.22, 0.34), (0.85, 1.2)),
  'bench': Thing('bench', (0.6, 0.95), (0.2, 0.28), (0.42, 0.5), 0.12),
  'parcel': Thing('box', (0.18, 0.5), (0.18, 0.5), (0.25, 1.0), 1.5),
  'flower_box': Thing('planter', (0.3, 0.8), (0.25, 0.4), (0.4, 0.7)),
  'works_barrier': Thing('barrier', (0.04, 0.07), (0.4, 0.9), (0.9, 1.1), 0.5),
  'board': Thing('sign', (0.05, 0.2), (0.28, 0.4), (0.8, 1.2), 0.6),
  'low_wall': Thing('wall', (0.3, 0.9), (0.12, 0.2), (0.5, 1.0), 0.1),
  'clipped_hedge': Thing('hedge', (0.4, 1.0), (0.22, 0.4), (0.6, 1.2), 0.1),
  'cone': Thing('cone', (0.14, 0.22), None, (0.45, 0.75)),
  'bollard': Thing('bollard', (0.07, 0.13), None, (0.7, 1.1)),
  'round_bin': Thing('bin', (0.2, 0.3), None, (0.8, 1.1)),
  'post': Thing('pole', (0.05, 0.08), None, (2.4, 3.2)),
  'tub': Thing('planter', (0.28, 0.48), None, (0.4, 0.65)),
  # only in look C
  'kiosk': Thing('kiosk', (0.6, 1.0), (0.5, 0.8), (2.1, 2.6), 0.3),
  'scooter': Thing('scooter', (0.5, 0.62), (0.08, 0.14), (0.95, 1.15), 1.5),
  'barrel': Thing('barrel', (0.26, 0.36), None, (0.8, 1.0)),
  'statue': Thing('statue', (0.28, 0.5), None, (1.5, 2.4)),
}
# In rows along the curb; a tree is a trunk with a crown on it, as wide as its slot allows.
STREET_FURNITURE = {
  'tree': Thing('trunk', (0.09, 0.2), None, (2.1, 2.9)),
  'lamp': Thing('pole', (0.06, 0.1), None, (4.0, 6.5)),
  'row_bollard': Thing('bollard', (0.06, 0.12), None, (0.7, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class ThingTable:
  """T things as arrays: cumulative shares [T], kind [T] and ranges [T, 4, 2] of half_x, half_y, height, turn."""

  names: tuple[str, ...]
  shares: np.ndarray
  kind: np.ndarray
  ranges: np.ndarray


def thing_table(
  things: Mapping[str, Thing], weights: Mapping[str, float], is_box: bool | None = None
) -> ThingTable:
  """The table of things with these weights; is_box keeps the boxes only, or the cylinders only.

  A table needs at least one thing: where nothing is left it holds one of kind 'empty'.
  """
  unknown = set(weights) - set(things)
  if unknown:
    raise ValueError(f'unknown things {sorted(unknown)}; known: {sorted(things)}')
  names = tuple(
    name
    for name in weights
    if weights[name] > 0 and (is_box is None or (things[name].half_y is not None) == is_box)
  )
  if not names:
    return ThingTable((), np.ones(1, np.float32), np.zeros(1, int), np.full((1, 4, 2), 0.1, np.float32))
  share = np.array([weights[name] for name in names], np.float32)
  rows = [things[name] for name in names]
  ranges = [(t.half_x, t.half_y or t.half_x, t.height, (-t.turn, t.turn)) for t in rows]
  return ThingTable(
    names,
    np.cumsum(share) / share.sum(),
    np.array([KIND[t.kind] for t in rows]),
    np.array(ranges, np.float32),
  )
