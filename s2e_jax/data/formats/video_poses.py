"""A video file with a text file of poses, 't x y z qx qy qz qw' per line, or a folder of such pairs.

The layout of CityWalker's labels, of DPVO and ORB-SLAM trajectories and of TUM files. Every frame's own time
stamp is used; poses are interpolated at it, inside the overlap of both.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2e_jax import geometry
from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base, video
from s2e_jax.data.formats.options import Options

OPTIONS = frozenset({'poses', 'plane', 'forward_axis', 'time_offset'})
_POSE_SUFFIXES = ('.txt', '.csv', '.tum')


def load_pose_text(path: Path) -> np.ndarray:
  """[N, 8] float64 t x y z qx qy qz qw; '#' lines and a header line are passed over.

  Numbers may be NaN. Raises ClipError 'bad_pose_file' naming the line that does not have eight numbers, and
  'unsorted_stamps'.
  """
  rows: list[list[float]] = []
  for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
    words = line.split('#')[0].replace(',', ' ').split()
    if not words:
      continue
    try:
      row = [float(word) for word in words]
    except ValueError:
      if not rows and words[0][0].isalpha() and words[0].lower() != 'nan':
        continue  # header
      raise ClipError('bad_pose_file', f'{path} line {number}: {line[:60]!r} is not numbers') from None
    if len(row) != 8:
      raise ClipError(
        'bad_pose_file', f'{path} line {number}: {len(row)} numbers, eight are needed: t x y z qx qy qz qw'
      )
    rows.append(row)
  if len(rows) < 2:
    raise ClipError('bad_pose_file', f'{path} holds {len(rows)} poses, at least 2 are needed')
  poses = np.array(rows)
  stamps = poses[np.isfinite(poses[:, 0]), 0]
  if (np.diff(stamps) <= 0).any():
    bad = int(np.argmax(np.diff(stamps) <= 0))
    raise ClipError(
      'unsorted_stamps',
      f'{path}: time stamps must increase strictly; {stamps[bad + 1]} comes after {stamps[bad]}; sort it',
    )
  return poses


def planar(poses: np.ndarray, plane: str, forward_axis: str | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Position [N, 2] m and yaw [N] rad (x ahead, y left, counter-clockwise) of [N, 7] x y z qx qy qz qw.

  plane 'xy': world z is up. plane 'xz': world y is down (a camera's own frame), so x_ahead = z, y_left = -x.
  forward_axis: the body axis that looks ahead, 'x' (robots) or 'z' (cameras); by default x in the plane xy and
  z in xz. Quaternions are normalised; a zero quaternion gives NaN.
  """
  xyz, quat = poses[:, :3], poses[:, 3:]
  with np.errstate(invalid='ignore', divide='ignore'):
    x, y, z, w = (quat / np.linalg.norm(quat, axis=1, keepdims=True)).T
  if (forward_axis or ('x' if plane == 'xy' else 'z')) == 'x':  # first column of the rotation matrix
    ahead = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=1)
  else:  # third column
    ahead = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1)
  if plane == 'xy':
    return xyz[:, :2], np.arctan2(ahead[:, 1], ahead[:, 0])
  return np.stack([xyz[:, 2], -xyz[:, 0]], axis=1), np.arctan2(-ahead[:, 0], ahead[:, 2])


def _pose_file(clip: Path, options: Options) -> Path | None:
  """Pose file of a video: --poses itself, or the same stem in --poses, beside the video, or in a poses folder."""
  if options.poses is not None and options.poses.is_file():
    return options.poses
  folders = (
    [options.poses] if options.poses else [clip.parent, clip.parent / 'poses', clip.parent.parent / 'poses']
  )
  for folder in folders:
    for suffix in _POSE_SUFFIXES:
      path = folder / (clip.stem + suffix)
      if path.is_file():
        return path
  return None


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per video file; videos without a pose file become refusals."""
  videos = [src] if src.is_file() else sorted(p for p in src.rglob('*') if p.suffix.lower() in video.SUFFIXES)
  if len(videos) > 1 and options.poses is not None and options.poses.is_file():
    raise ValueError(
      f'--poses={options.poses} is one file but --src={src} holds {len(videos)} videos; give a folder of '
      'pose files with the same names'
    )
  root = src if src.is_dir() else src.parent
  items = []
  for path in videos:
    item_id = base.safe_id(path.relative_to(root).with_suffix('').as_posix())
    poses = _pose_file(path, options)
    if poses is None:
      message = f'{path} has no pose file: expected {path.stem}.txt beside it, in poses/ or in --poses'
      items.append(base.refusal(item_id, path, 'missing_poses', message))
      continue
    load = functools.partial(_load, path, poses, item_id, root.resolve().name, options)
    items.append(base.Item(item_id, str(path), load))
  return items


def _load(
  path: Path, pose_path: Path, item_id: str, source: str, options: Options, tally: base.Tally
) -> Sequence[Clip]:
  times = video.frame_times(path)
  poses = load_pose_text(pose_path)
  finite = np.isfinite(poses).all(axis=1) & (np.abs(poses[:, 4:]).sum(axis=1) > 0)
  tally.note('pose_lines_not_finite', int((~finite).sum()), str(pose_path))
  if finite.sum() < 2:
    raise ClipError('nan_pose', f'{pose_path}: fewer than 2 finite poses')
  poses = poses[finite]
  offset = times[0] - poses[0, 0] if options.time_offset == 'start' else float(options.time_offset)
  stamps = poses[:, 0] + offset
  inside = (times >= stamps[0] - 1e-6) & (times <= stamps[-1] + 1e-6)
  if not inside.any():
    raise ClipError(
      'no_overlap',
      f'{path}: frames at {times[0]:.2f} to {times[-1]:.2f} s, poses at {stamps[0]:.2f} to {stamps[-1]:.2f} s: '
      'give --time_offset in seconds, or --time_offset=start if the first pose belongs to the first frame',
    )
  tally.drop('frame_outside_poses', int((~inside).sum()), str(path))
  times = times[inside]
  position, yaw = geometry.interpolate_poses(
    times, stamps, *planar(poses[:, 1:], options.plane, options.forward_axis)
  )
  # No label is made up across a hole in the poses.
  after = np.clip(np.searchsorted(stamps, times), 1, len(stamps) - 1)
  steps = np.diff(stamps)
  in_hole = steps[after - 1] > max(options.max_gap, 2.5 * float(np.median(steps)))
  in_hole &= np.minimum(times - stamps[after - 1], stamps[after] - times) > 1e-6
  tally.drop('frame_in_pose_gap', int(in_hole.sum()), str(path))
  times, position, yaw = times[~in_hole], position[~in_hole], yaw[~in_hole]
  half_frame = 0.5 * float(np.diff(times).min()) if len(times) > 1 else 0.5

  track = base.Track(
    item_id,
    times,
    position,
    yaw,
    lambda indices: video.read_frames(path, times[indices], half_frame),
    source=source,
    # Monocular odometry with a camera's own axes has no scale; robots' odometry has.
    is_metric=options.plane == 'xy',
  )
  return base.clips_of(track, options, tally)
