"""What is odd about a clip: jumps, gaps, repeated frames, wrong axes, scales and rates that nobody knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import median_filter

from s2e_jax import geometry
from s2e_jax.structs import Camera

# kind -> what it means and what to do about it
ANOMALIES = {
  'nan_pose': 'position or yaw is not a number',
  'unsorted_stamps': 'time stamps do not increase',
  'position_jump': 'one step is far longer than its neighbours: odometry reset or lost frames',
  'missing_frames': 'the gap between two stamps is over 1.5 times the usual one',
  'duplicated_frame': 'same bytes as the frame before: a frozen camera or padded video',
  'shared_frame': 'same bytes as a frame of another clip: the clip is stored twice, perhaps in two splits',
  'bad_image': 'not a readable JPEG of the size that the camera block states',
  'backwards': 'moves against its heading',
  'heading_disagrees': 'yaw does not point where the clip moves: wrong axes, sign or unit',
  'implausible_speed': 'typical speed does not fit a ground robot: wrong scale or wrong rate',
}
NOTES = {
  'scale_not_metric': 'positions are not known to be in metres',
  'rate_assumed': 'no time stamps: a nominal rate was assumed, so speeds follow from it',
  'camera_assumed': 'intrinsics are a guess: overlays show directions, not exact places',
  'licence_unknown': 'the source states no licence: do not publish data, pictures or models made from it',
  'never_moves': 'the clip stays within 0.5 m',
}

_GAP = 1.5  # times the usual interval
_JUMP_FACTOR, _JUMP_SPEED = 3.0, 1.5  # a jump exceeds 3 x the local median speed + 1.5 m/s
_LOOK_AHEAD = 0.5  # s over which the direction of motion is measured
_MIN_MOTION = 0.1  # m; shorter displacements have no direction
_MIN_SAMPLES = 6  # directions needed to judge a clip's axes
_MAX_OFFSET = np.pi / 6  # rad between yaw and motion, over a whole clip
_MIN_AGREEMENT = 0.6  # length of the mean of unit vectors at yaw - motion
_BACKWARDS = np.deg2rad(120)
_SPEEDS = {'car': (0.2, 45.0)}  # m/s, typical speed while moving
_DEFAULT_SPEEDS = (0.05, 6.0)

Array = np.ndarray


class Poses(Protocol):
  """The part of a clip that is judged: `clips.Clip` and `dataset.ClipInfo` both have it."""

  @property
  def clip_id(self) -> str: ...
  @property
  def licence(self) -> str: ...
  @property
  def stamps(self) -> Array: ...
  @property
  def position(self) -> Array: ...
  @property
  def yaw(self) -> Array: ...
  @property
  def camera(self) -> Camera: ...
  @property
  def embodiment(self) -> str: ...
  @property
  def is_metric(self) -> bool: ...
  @property
  def is_rate_assumed(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Finding:
  """One oddity: kind (of ANOMALIES or NOTES), clip, frame (None: the whole clip) and a detail for a person."""

  kind: str
  clip_id: str
  frame: int | None
  detail: str

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form."""
    return dataclasses.asdict(self)


def check_poses(clip: Poses) -> list[Finding]:
  """Findings about stamps and poses of one clip, in the order of its frames."""
  found: list[Finding] = []

  def add(kind: str, frame: int | None, detail: str) -> None:
    found.append(Finding(kind, clip.clip_id, frame, detail))

  if clip.camera.model == 'unknown':
    add(
      'camera_assumed',
      None,
      f'fx {clip.camera.fx:.0f} px for {clip.camera.width} px, {clip.camera.mount_height} m',
    )
  if clip.licence.lower() in ('', 'unknown'):
    add('licence_unknown', None, f'licence {clip.licence!r}')
  if not clip.is_metric:
    add('scale_not_metric', None, 'is_metric is False')
  stamps, position, yaw = (np.asarray(a, np.float64) for a in (clip.stamps, clip.position, clip.yaw))
  if clip.is_rate_assumed and len(stamps) > 1:
    add('rate_assumed', None, f'{(len(stamps) - 1) / (stamps[-1] - stamps[0]):.3g} Hz')
  bad = ~(np.isfinite(position).all(axis=1) & np.isfinite(yaw))
  for frame in np.flatnonzero(bad):
    add('nan_pose', int(frame), f'position {position[frame].tolist()}, yaw {yaw[frame]}')
  step = np.diff(stamps)
  for frame in np.flatnonzero(~(step > 0)):
    add('unsorted_stamps', int(frame) + 1, f'{stamps[frame + 1]!r} s after {stamps[frame]!r} s')
  if bad.any() or not (step > 0).all() or len(stamps) < 3:
    return found  # nothing below means anything then
  # Frames chosen from a faster recording come at two alternating intervals; the longer one is usual as well.
  usual = float(np.quantile(step, 0.75))
  for frame in np.flatnonzero(step > _GAP * usual):
    add('missing_frames', int(frame) + 1, f'{step[frame]:.3f} s after the frame before, usually {usual:.3f} s')
  speed = np.hypot(*np.diff(position, axis=0).T) / step
  local = median_filter(speed, size=9, mode='nearest')
  slack = _JUMP_SPEED if clip.is_metric else 2 * float(np.quantile(speed, 0.9))
  is_jump = speed > _JUMP_FACTOR * local + slack
  for frame in np.flatnonzero(is_jump):
    add('position_jump', int(frame) + 1, f'{speed[frame] * step[frame]:.2f} m at once, {speed[frame]:.1f} m/s')
  _check_heading(clip, stamps, position, yaw, is_jump, add)
  _check_scale(clip, position, speed, add)
  return found


def course_samples(stamps: Array, position: Array) -> tuple[Array, Array, Array]:
  """Frames i [n], later frames j [n] about 0.5 s on, and the direction of motion between them [n] (rad).

  Only where the clip moved far enough between the two to have a direction.
  """
  ahead = np.searchsorted(stamps, stamps + _LOOK_AHEAD - 1e-3)
  first = np.flatnonzero(ahead < len(stamps))
  last = ahead[first]
  delta = position[last] - position[first]
  moved = np.hypot(*delta.T) > _MIN_MOTION
  return first[moved], last[moved], np.arctan2(delta[moved, 1], delta[moved, 0])


def heading_fit(course: Array, heading: Array) -> tuple[float, float]:
  """Mean of course - heading (rad) and its agreement: 1 if that difference never changes, 0 if it is random."""
  mean = np.mean(np.exp(1j * (course - heading)))
  return float(np.angle(mean)), float(np.abs(mean))


def _check_heading(clip: Poses, stamps: Array, position: Array, yaw: Array, is_jump: Array, add: Any) -> None:
  """Compares yaw with the direction of motion."""
  first, last, course = course_samples(stamps, position)
  jumps = np.concatenate([[0], np.cumsum(is_jump)])
  whole = jumps[last] == jumps[first]
  first, last, course = first[whole], last[whole], course[whole]
  if len(first) == 0:
    return
  heading = np.angle(np.exp(1j * yaw[first]) + np.exp(1j * yaw[last]))
  offset, agreement = heading_fit(course, heading)
  if len(first) >= _MIN_SAMPLES and (agreement < _MIN_AGREEMENT or abs(offset) > _MAX_OFFSET):
    hint = 'no constant offset, mirror or unit explains it'
    mirror, mirrored = heading_fit(course, -heading)
    _, degrees = heading_fit(course, np.deg2rad((yaw[first] + yaw[last]) / 2))
    if degrees > 0.9 > agreement and np.abs(yaw).max() > 2 * np.pi:
      hint = 'yaw looks like degrees'
    elif mirrored > max(0.9, agreement + 0.1):
      hint = f'motion = {np.rad2deg(mirror):.0f} deg - yaw fits: yaw clockwise, or an axis mirrored or swapped'
    elif agreement > _MIN_AGREEMENT:
      hint = f'motion = yaw {np.rad2deg(offset):+.0f} deg fits: another forward axis'
    add('heading_disagrees', None, f'off by {np.rad2deg(offset):.0f} deg, agreement {agreement:.2f}; {hint}')
    return
  is_back = np.abs(geometry.wrap_angle(course - heading)) > _BACKWARDS
  for frame in first[is_back]:
    add('backwards', int(frame), f'moves against its heading over {_LOOK_AHEAD} s')


def _check_scale(clip: Poses, position: Array, speed: Array, add: Any) -> None:
  """Compares typical speeds with what robots of this embodiment do."""
  if np.ptp(position, axis=0).max() < 0.5:
    add('never_moves', None, f'within {np.ptp(position, axis=0).max():.2f} m')
    return
  low, high = _SPEEDS.get(clip.embodiment, _DEFAULT_SPEEDS)
  moving = speed[speed > 0.1 * np.quantile(speed, 0.9)]
  typical = float(np.median(moving)) if len(moving) else 0.0
  if clip.is_metric and not low <= typical <= high:
    add(
      'implausible_speed', None, f'typically {typical:.2f} m/s, expected {low} to {high} for {clip.embodiment!r}'
    )


def check_duplicates(clip_id: str, digests: Sequence[bytes]) -> list[Finding]:
  """Frames with the same digest as the one before."""
  return [
    Finding('duplicated_frame', clip_id, i, f'same bytes as frame {i - 1}')
    for i in range(1, len(digests))
    if digests[i] == digests[i - 1]
  ]
