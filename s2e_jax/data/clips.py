"""One clip: what every foreign format is turned into and what the internal dataset stores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from s2e_jax.structs import NUM_CLEARANCES, Camera, Footprint


class ClipError(ValueError):
  """A clip breaks a rule; `reason` is a short stable word that conversions count by."""

  def __init__(self, reason: str, message: str):
    """reason: e.g. 'nan_pose'; message: value, rule and remedy for a person."""
    super().__init__(message)
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Skip:
  """Something a reader could not use: counted by `reason`, reported with `where` and `message`."""

  reason: str
  where: str
  message: str


@dataclasses.dataclass(frozen=True)
class Clip:
  """One continuous drive.

  clip_id: unique within the dataset; letters, digits, '.', '_', '-' and '/'.
  source: name of the dataset it comes from; licence: its licence as stated there ('unknown' if not).
  frames: T encoded JPEG images, all of camera.width x camera.height pixels.
  stamps: [T] float64 seconds, strictly increasing.
  position: [T, 2] float32 metres relative to `origin`, in a fixed world frame (x, y on the ground, z up).
  yaw: [T] float32 radians, counter-clockwise, heading of the camera.
  origin: float64 (2,) metres, what was subtracted from the source's positions to keep float32 exact.
  is_rate_assumed: the source has no time stamps; they come from a nominal rate.
  is_metric: positions are known to be in metres.
  clearances: [T, NUM_CLEARANCES] float32 metres to the nearest thing in each sector ahead, see `SegmentBatch`;
    NaN where nobody knows, or None.
  embodiment: e.g. 'wheeled', 'quadruped', 'car', 'handheld', 'synthetic'.
  """

  clip_id: str
  source: str
  licence: str
  frames: Sequence[bytes]
  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray
  camera: Camera
  footprint: Footprint = Footprint()
  embodiment: str = 'unknown'
  origin: tuple[float, float] = (0.0, 0.0)
  is_rate_assumed: bool = False
  is_metric: bool = True
  clearances: np.ndarray | None = None

  def __len__(self) -> int:
    """Number of frames T."""
    return len(self.frames)


def checked_clip(clip: Clip, min_frames: int = 2) -> Clip:
  """`clip` with canonical dtypes and a local origin; raises ClipError naming the rule it breaks.

  Rules: equal lengths; at least `min_frames`; finite poses; finite, strictly increasing stamps; clearances that
  are not negative. Frames are not decoded here (readers do that where they resize).
  """
  where = f'clip {clip.clip_id!r}'
  t = len(clip.frames)
  position = np.asarray(clip.position, np.float64)
  stamps, yaw = np.asarray(clip.stamps, np.float64), np.asarray(clip.yaw, np.float64)
  if position.shape != (t, 2) or stamps.shape != (t,) or yaw.shape != (t,):
    raise ClipError(
      'length_mismatch',
      f'{where}: {t} frames, stamps {stamps.shape}, position {position.shape}, yaw {yaw.shape}: '
      'all must have one row per frame',
    )
  if t < min_frames:
    raise ClipError('too_short', f'{where}: {t} frames, at least {min_frames} are needed')
  if not (np.isfinite(position).all() and np.isfinite(yaw).all()):
    bad = np.flatnonzero(~(np.isfinite(position).all(axis=1) & np.isfinite(yaw)))
    raise ClipError('nan_pose', f'{where}: poses must be finite; frame {bad[0]} and {len(bad) - 1} more are not')
  if not np.isfinite(stamps).all() or (np.diff(stamps) <= 0).any():
    late = int(np.flatnonzero(~(np.diff(stamps) > 0))[0]) + 1
    raise ClipError(
      'unsorted_stamps',
      f'{where}: time stamps must increase strictly; stamp {late} is {stamps[late]!r} after {stamps[late - 1]!r}',
    )
  clearances = clip.clearances
  if clearances is not None:
    clearances = np.asarray(clearances, np.float32)
    if clearances.shape != (t, NUM_CLEARANCES) or (clearances < 0).any():
      raise ClipError(
        'bad_clearances',
        f'{where}: clearances {clearances.shape} must be ({t}, {NUM_CLEARANCES}) metres and not negative; NaN '
        'where they are not known',
      )
  shift = position[0].copy()
  return dataclasses.replace(
    clip,
    stamps=stamps,
    position=(position - shift).astype(np.float32),
    yaw=np.asarray(yaw, np.float32),
    clearances=clearances,
    origin=(float(clip.origin[0] + shift[0]), float(clip.origin[1] + shift[1])),
  )
