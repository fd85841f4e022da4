"""Layouts: what a street is like, how the way runs through it and what stands across the way.

A layout is a distribution: every number is a range (low, high) that a scene draws from uniformly. Layouts of one
name are variants of it and share its weight. To add one, add a `Layout` to LAYOUTS.

The way has coordinates (u, e): u metres along its middle from the start, e metres to the left. It leads along the
pavement, which has the road on its right (scenes are mirrored at random), and may turn; see `street.Route`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from s2e_jax.scene import KIND

Range = tuple[float, float]
TURNS = ('none', 'corner', 'road')  # how the way turns: not, round a corner, or across the road and on
NUM_PIECES = 6
# Where a piece ends across the way: the edges of the pavement, or the edges of the lane that stays free.
ANCHORS = ('right', 'left', 'lane_right', 'lane_left')


@dataclasses.dataclass(frozen=True)
class Piece:
  """A wall-like box of a layout.

  low, high: (anchor, m to the left of it) where it ends across the way.
  at: its middle is `at[0]` gaps and `at[1]` pieces' half lengths behind the first place for pieces.
  half: half of its length along the way, in gaps and half lengths.
  """

  low: tuple[str, float]
  high: tuple[str, float]
  at: tuple[float, float]
  half: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Layout:
  """One kind of street; ranges in metres unless said otherwise.

  pavement: width of the robot's pavement. road: width of the carriageway on its right, 0 = none. far_pavement:
    beyond the road. verge_left, verge_right: between the pavements and what encloses the street.
  depth: of a plaza on the left of the pavement, 0 = none. curvature: 1/m, of either sign.
  cross_road, cross_pavement: widths of a cross street; `cross_road` 0 = none. zebra: half width of a crossing.
  const, wave, noise: how the free lane swerves, as shares of the room it has: to one side, from side to side
    every `gap`, at random.
  gap: between pieces. half: half length of a piece. height: of pieces.
  turn: one of TURNS. left, right: kind that encloses the street on this side, '' = open.
  piece: kind of the pieces. pieces: up to NUM_PIECES.
  is_rare: belongs to look C only.
  """

  pavement: Range = (2.6, 4.4)
  road: Range = (5.5, 8.0)
  far_pavement: Range = (1.8, 3.0)
  verge_left: Range = (0.0, 0.0)
  verge_right: Range = (0.0, 0.0)
  depth: Range = (0.0, 0.0)
  curvature: Range = (0.0, 0.0)
  cross_road: Range = (0.0, 0.0)
  cross_pavement: Range = (2.6, 4.0)
  zebra: Range = (1.6, 2.4)
  const: Range = (0.0, 0.0)
  wave: Range = (0.0, 0.0)
  noise: Range = (0.8, 1.0)
  gap: Range = (4.0, 4.0)
  half: Range = (0.1, 0.1)
  height: Range = (1.0, 1.0)
  turn: str = 'none'
  left: str = 'building'
  right: str = 'building'
  piece: str = 'wall'
  pieces: tuple[Piece, ...] = ()
  is_rare: bool = False


NUMBERS = tuple(f.name for f in dataclasses.fields(Layout) if f.type == 'Range')


def _alternating(num: int) -> tuple[Piece, ...]:
  """Pieces that close the way from the right and from the left in turn."""
  ends = ((('right', 0.0), ('lane_right', 0.0)), (('lane_left', 0.0), ('left', 0.0)))
  return tuple(Piece(*ends[i % 2], at=(float(i), 1.0)) for i in range(num))


def _gates(num: int) -> tuple[Piece, ...]:
  """Pairs of pieces that leave only the lane free."""
  sides = ((('right', 0.0), ('lane_right', 0.0)), (('lane_left', 0.0), ('left', 0.0)))
  return tuple(Piece(*side, at=(float(i), 1.0)) for i in range(num) for side in sides)


# A pocket that is open towards the start: its back first, so that a scene with few slots has it.
_POCKET = (
  Piece(('right', 0.0), ('lane_right', 0.0), at=(1.0, 0.0), half=(0.0, 1.0)),
  Piece(('lane_right', -0.2), ('lane_right', 0.0), at=(0.5, 0.0), half=(0.5, 0.0)),
  Piece(('right', 0.0), ('right', 0.2), at=(0.5, 0.0), half=(0.5, 0.0)),
)

_PARK = Layout(
  pavement=(2.4, 3.6),
  road=(0.0, 0.0),
  far_pavement=(0.0, 0.0),
  verge_left=(2.0, 7.0),
  verge_right=(2.0, 7.0),
  left='hedge',
  right='hedge',
)
_ALLEY = Layout(pavement=(3.4, 5.4), road=(0.0, 0.0), far_pavement=(0.0, 0.0))
_SUBURB = Layout(pavement=(2.2, 3.2), verge_left=(1.5, 4.5), verge_right=(1.0, 4.0))
_CORNER = Layout(noise=(0.3, 0.8), cross_road=(5.5, 7.5), turn='corner', pavement=(2.8, 4.0))
_SLALOM = Layout(
  pavement=(3.4, 4.6),
  wave=(0.85, 1.0),
  noise=(0.0, 0.0),
  gap=(3.4, 4.8),
  half=(0.05, 0.12),
  height=(0.9, 1.2),
  piece='barrier',
  pieces=_alternating(6),
)
_NARROW = Layout(
  pavement=(2.8, 4.6),
  const=(-1.0, 1.0),
  wave=(0.0, 0.6),
  noise=(0.0, 0.0),
  gap=(5.0, 8.0),
  half=(0.4, 1.5),
  height=(1.2, 3.0),
  pieces=_gates(3),
)
_DEAD_END = Layout(
  pavement=(4.2, 6.0),
  const=(1.0, 1.0),
  noise=(0.0, 0.0),
  gap=(2.2, 3.6),
  half=(0.1, 0.2),
  height=(1.2, 2.6),
  pieces=_POCKET,
)


def _variant(base: Layout, **changes: object) -> Layout:
  return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


LAYOUTS: dict[str, tuple[Layout, ...]] = {
  'straight': (Layout(), _SUBURB, _ALLEY, _PARK),
  'curve': tuple(_variant(base, curvature=(1 / 60, 1 / 24)) for base in (Layout(), _SUBURB, _PARK)),
  'corner': (_CORNER, _variant(_CORNER, verge_left=(1.0, 3.0), left='wall')),
  'crossing': (
    Layout(pavement=(2.6, 3.2), road=(5.0, 6.5), far_pavement=(2.4, 3.0), noise=(0.2, 0.6), turn='road'),
    Layout(cross_road=(4.5, 6.0), noise=(0.2, 0.6)),
  ),
  'plaza': (
    Layout(depth=(5.0, 10.0), noise=(1.0, 1.0), const=(-0.6, 0.6)),
    _variant(_ALLEY, pavement=(9.0, 14.0), noise=(1.0, 1.0), const=(-0.4, 0.4)),
  ),
  'narrow': (_NARROW, _variant(_NARROW, road=(0.0, 0.0), far_pavement=(0.0, 0.0))),
  'dead_end': (_DEAD_END, _variant(_DEAD_END, road=(0.0, 0.0), far_pavement=(0.0, 0.0))),
  'slalom': (_SLALOM, _variant(_SLALOM, piece='planter', height=(0.5, 0.8), half=(0.15, 0.3))),
  'chicane': (
    _variant(
      _SLALOM, wave=(1.0, 1.0), gap=(5.0, 6.0), half=(0.6, 1.1), height=(1.4, 2.2), piece='wall', is_rare=True
    ),
  ),
  'courtyard': (
    Layout(
      pavement=(10.0, 15.0), road=(0.0, 0.0), far_pavement=(0.0, 0.0), const=(-0.7, 0.7), wave=(0.2, 0.5),
      noise=(0.0, 0.0), gap=(8.0, 11.0), half=(0.15, 0.3), height=(1.6, 2.8), pieces=_gates(3), is_rare=True,
    ),
  ),
}  # fmt: skip
COMMON = tuple(name for name, variants in LAYOUTS.items() if not variants[0].is_rare)
RARE = tuple(name for name, variants in LAYOUTS.items() if variants[0].is_rare)


@dataclasses.dataclass(frozen=True)
class LayoutTable:
  """V variants of layouts as arrays, from which a scene takes one row.

  names: of the variants' layouts. ranges: [V, F, 2] of NUMBERS. shares: [V] cumulative weights.
  turn: [V] index of TURNS. left, right, piece: [V] index of KINDS, 0 = none.
  ends: [V, NUM_PIECES, 2, 5] weights of ANCHORS and offset of both ends across; places: [V, NUM_PIECES, 4] of
    `at` and `half`; has_piece: [V, NUM_PIECES].
  """

  names: tuple[str, ...]
  ranges: np.ndarray
  shares: np.ndarray
  turn: np.ndarray
  left: np.ndarray
  right: np.ndarray
  piece: np.ndarray
  ends: np.ndarray
  places: np.ndarray
  has_piece: np.ndarray


def layout_table(weights: Mapping[str, float]) -> LayoutTable:
  """The table of layouts of these names; a layout's weight is shared by its variants."""
  named = [(name, v, weights[name] / len(LAYOUTS[name])) for name in weights for v in LAYOUTS[name]]
  num = len(named)
  ends, places = np.zeros((num, NUM_PIECES, 2, 5), np.float32), np.zeros((num, NUM_PIECES, 4), np.float32)
  has_piece = np.zeros((num, NUM_PIECES), bool)
  for i, (_, variant, _) in enumerate(named):
    for j, piece in enumerate(variant.pieces):
      has_piece[i, j], places[i, j] = True, (*piece.at, *piece.half)
      for end, (anchor, offset) in enumerate((piece.low, piece.high)):
        ends[i, j, end, ANCHORS.index(anchor)], ends[i, j, end, 4] = 1.0, offset
  share = np.array([weight for *_, weight in named], np.float32)
  kinds = {side: [KIND[getattr(v, side) or 'empty'] for _, v, _ in named] for side in ('left', 'right', 'piece')}
  return LayoutTable(
    names=tuple(name for name, *_ in named),
    ranges=np.array([[getattr(v, name) for name in NUMBERS] for _, v, _ in named], np.float32),
    shares=np.cumsum(share) / share.sum(),
    turn=np.array([TURNS.index(v.turn) for _, v, _ in named]),
    ends=ends,
    places=places,
    has_piece=has_piece,
    **{side: np.array(values) for side, values in kinds.items()},
  )
