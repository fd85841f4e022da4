"""Which segments an epoch consists of: every window of every clip, frames shared by overlapping windows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from s2e_jax.data import windows
from s2e_jax.data.index import ClipInfo
from s2e_jax.data.windows import SegmentSpec


@dataclasses.dataclass(frozen=True)
class Segment:
  """One segment: frame_indices [F] and present_indices [W] (-1: no such window) of clips[clip_index]."""

  clip_index: int
  frame_indices: np.ndarray
  present_indices: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Piece:
  """Part of a clip without holes; num_segments of them make an epoch.

  grids: per phase the clip's frame indices on the 4 Hz grid. counts: per phase, how many leading grid places have
  enough future for a window.
  """

  clip_index: int
  grids: tuple[np.ndarray, ...]
  counts: tuple[int, ...]
  num_segments: int


class SegmentPlan:
  """Enumerates segments, the same for every process.

  A clip with holes between its stamps is treated as several; each begins with its first frame repeated, which is
  what a robot does when its history is reset. Training: every epoch holds every window with at least
  spec.min_waypoints true waypoints; segments overlap by as little as it takes to fill all of them with windows, at
  places drawn anew each epoch, and clips faster than 4 Hz are seen on another grid of frames each epoch.
  Otherwise: one fixed tiling in which every window with a full future occurs exactly once.

  num_segments: per epoch. num_windows: of an epoch (train: on the first grid). too_short: ids of clips without any
  window.
  """

  def __init__(
    self, clips: Sequence[ClipInfo], clip_indices: Sequence[int], spec: SegmentSpec, train: bool, seed: int
  ):
    """clips: all clips; clip_indices: those to use. ValueError when none of them holds a window."""
    self.spec = spec if train else dataclasses.replace(spec, min_waypoints=spec.horizon)
    self.train, self.seed = train, seed
    self._pieces: list[_Piece] = []
    self.too_short: list[str] = []
    self.num_windows = 0
    for clip_index in clip_indices:
      stamps = clips[clip_index].stamps
      edges = [0, *(np.flatnonzero(windows.is_hole(stamps, spec.max_gap_s)) + 1), len(stamps)]
      found = 0
      for start, stop in itertools.pairwise(edges):
        piece = self._piece(int(clip_index), stamps[start:stop], int(start))
        if piece.num_segments:
          self._pieces.append(piece)
        found += len(np.unique(piece.grids[0][: piece.counts[0]]))
      self.num_windows += found
      if not found:
        self.too_short.append(clips[clip_index].clip_id)
    if not self._pieces:
      need = self.spec.min_waypoints * spec.dt
      raise ValueError(
        f'no window can be cut from {len(self.too_short)} clips: each needs at least {need} s of driving after '
        'its first frame; use longer clips or a smaller min_waypoints'
      )
    self._first = np.cumsum([0] + [piece.num_segments for piece in self._pieces])
    self.num_segments = int(self._first[-1])

  def _piece(self, clip_index: int, stamps: np.ndarray, start: int) -> _Piece:
    """The piece of a clip that has `stamps` (without holes) and begins at frame `start`."""
    spec = self.spec
    phases = range(windows.num_phases(stamps, spec.dt) if self.train else 1)
    grids = [windows.frame_grid(stamps, spec.dt, phase) for phase in phases]
    is_window = windows.num_true_waypoints(stamps, spec) >= spec.min_waypoints  # a prefix: there are no holes
    counts = [int(is_window[grid].sum()) for grid in grids]
    return _Piece(
      clip_index, tuple(start + grid for grid in grids), tuple(counts), -(-counts[0] // spec.num_windows)
    )

  def segment(self, epoch: int, number: int) -> Segment:
    """Segment `number` (0 .. num_segments - 1) of an epoch."""
    which = int(np.searchsorted(self._first, number, side='right')) - 1
    piece, k = self._pieces[which], int(number - self._first[which])
    spec, n = self.spec, piece.num_segments
    phase, rng = 0, None
    if self.train:
      # All segments of a piece must agree on grid and overlaps, so these depend on piece and epoch alone.
      rng = np.random.default_rng((self.seed, 0, epoch, which))
      phase = int(rng.integers(len(piece.grids)))
    grid, count = piece.grids[phase], piece.counts[phase]
    start = k * spec.num_windows
    if rng is not None and n > 1:
      spare = max(0, n * spec.num_windows - count)
      start -= int(np.sort(np.concatenate([[0], rng.integers(0, spare + 1, n - 2), [spare]]))[k])
    places = start + np.arange(spec.num_windows)
    present = grid[np.minimum(places, len(grid) - 1)]
    # Below 4 Hz the grid repeats frames; a present that is the one before it again would only count it twice.
    is_again = (places > 0) & (present == grid[np.clip(places - 1, 0, len(grid) - 1)])
    # Frames after the last window serve nobody: repeating the last one spares the decoding.
    last = max(0, min(count - 1, int(places[-1])))
    history = np.clip(start + np.arange(1 - spec.num_history, spec.num_windows), 0, last)
    return Segment(
      clip_index=piece.clip_index,
      frame_indices=grid[history],
      present_indices=np.where((places < count) & ~is_again, present, -1),
    )
