"""Pictures of an inspection: futures drawn on frames and from above, and a contact sheet."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from s2e_jax import geometry
from s2e_jax.data import overlay
from s2e_jax.data.dataset import ClipInfo, Dataset
from s2e_jax.structs import DT

HORIZON_S = 2.5  # the policy's waypoints
GOAL_S = 10.0  # how far ahead the goal of a picture lies, or the end of the clip
_SHEET_COLUMNS, _SHEET_WIDTH = 4, 400


@dataclasses.dataclass(frozen=True)
class Future:
  """The future of one frame, in the robot frame, metres.

  waypoints: [h, 2] every 0.25 s to 2.5 s (fewer at the end of a clip). to_goal: [n, 2] on to the goal.
  goal_s: seconds to the goal.
  """

  waypoints: np.ndarray
  to_goal: np.ndarray
  goal_s: float


def future_of(clip: ClipInfo, frame: int) -> Future:
  """The recorded future of one frame of a clip."""
  now = clip.stamps[frame]
  end = min(clip.stamps[-1], now + GOAL_S)
  # A hair of slack, so that rounded stamps do not cost the last waypoint.
  times = now + DT * np.arange(1, int((end - now) / DT + 1e-3) + 1)
  position = np.asarray(clip.position, np.float64)
  points, _ = geometry.interpolate_poses(times, clip.stamps, position, np.asarray(clip.yaw, np.float64))
  in_robot = geometry.to_robot_frame(points, position[frame], np.float64(clip.yaw[frame]))
  num = round(HORIZON_S / DT)
  return Future(in_robot[:num], in_robot[max(0, min(num, len(in_robot)) - 1) :], float(end - now))


def choose_frames(clips: Sequence[ClipInfo], num_pictures: int, seed: int = 0) -> list[tuple[int, int]]:
  """(position in `clips`, frame) of up to `num_pictures` frames: sources in turn, clips spread, futures ahead."""
  rng = np.random.default_rng(seed)
  by_source: dict[str, list[int]] = {}
  for i in rng.permutation(len(clips)):
    by_source.setdefault(clips[i].source, []).append(int(i))
  queues = [by_source[source] for source in sorted(by_source)]
  order = [queue[k] for k in range(max(map(len, queues), default=0)) for queue in queues if k < len(queue)]
  chosen: dict[tuple[int, int], None] = {}
  for turn in range(4 * num_pictures):
    if len(chosen) >= num_pictures or not order:
      break
    i = order[turn % len(order)]
    stamps = clips[i].stamps
    ready = np.flatnonzero(stamps <= stamps[-1] - HORIZON_S)
    frame = int(rng.choice(ready)) if len(ready) else 0
    chosen.setdefault((i, frame))
  return sorted(chosen)


def warnings_of(clip: ClipInfo) -> list[str]:
  """What is assumed about a clip, to be marked on its pictures."""
  marks = {
    'camera assumed': clip.camera.model == 'unknown',
    'scale not metric': not clip.is_metric,
    'rate assumed': clip.is_rate_assumed,
    'synthetic': clip.source == 'synthetic' or clip.embodiment == 'synthetic',
  }
  return [mark for mark, is_set in marks.items() if is_set]


def frame_with_future(image: np.ndarray, clip: ClipInfo, frame: int, min_width: int = 720) -> np.ndarray:
  """The frame [h, w, 3] uint8 enlarged, with its future on the ground, the goal and what is assumed."""
  future = future_of(clip, frame)
  picture, camera = overlay.enlarged(image, clip.camera, min_width)
  width = clip.footprint.width
  if len(future.to_goal) > 1:
    # The colour of what lies beyond the horizon, half as wide.
    picture = overlay.draw_path(
      picture, future.to_goal, camera, overlay.ORANGE, width / 2, alpha=0.35, dots=False, from_robot=False
    )
  picture = overlay.draw_path(picture, future.waypoints, camera, overlay.BLUE, width)
  if len(future.to_goal):
    picture = overlay.draw_goal(picture, future.to_goal[-1], camera)
  marks = warnings_of(clip)
  lines = [f'{clip.clip_id}  frame {frame}  {clip.stamps[frame] - clip.stamps[0]:.2f} s']
  return overlay.draw_text(picture, lines + ([', '.join(marks)] if marks else []))


def _save_picture(picture: np.ndarray, clip: ClipInfo, frame: int, path: Path) -> None:
  """Frame and top-down view side by side, as PNG."""
  future = future_of(clip, frame)
  figure = Figure(figsize=(13, 4.6), layout='constrained')
  FigureCanvasAgg(figure)
  left, right = figure.subplots(1, 2, width_ratios=[2.1, 1])
  left.imshow(picture)
  left.set_axis_off()
  goal = future.to_goal[-1] if len(future.to_goal) else None
  if goal is not None:
    path_on = np.concatenate([future.waypoints[-1:], future.to_goal])
    right.plot(
      path_on[:, 1],
      path_on[:, 0],
      color=overlay.as_matplotlib(overlay.ORANGE),
      label=f'to the goal, {future.goal_s:.1f} s',
    )
  overlay.draw_top_down(
    right,
    future.waypoints,
    overlay.BLUE,
    label=f'{len(future.waypoints) * DT:g} s ahead',
    goal_in_robot=goal,
    footprint=clip.footprint,
  )
  overlay.finish_top_down(right)
  right.legend(loc='best', fontsize=8)
  unit = 'm' if clip.is_metric else 'unknown unit'
  right.set_title(f'{clip.source}: from above ({unit})', fontsize=9)
  figure.savefig(path, dpi=90)


def save_pictures(dataset: Dataset, clip_indices: Sequence[int], num_pictures: int, folder: Path) -> list[Path]:
  """Writes overlay_*.png and contact_sheet.png to `folder`; returns their paths, the sheet first."""
  clips = [dataset.clips[i] for i in clip_indices]
  tiles, paths = [], []
  for number, (k, frame) in enumerate(choose_frames(clips, num_pictures)):
    (jpeg,) = dataset.frames(clip_indices[k], [frame])
    try:
      image = simplejpeg.decode_jpeg(jpeg)
    except ValueError:
      continue  # counted as bad_image
    picture = frame_with_future(image, clips[k], frame)
    path = folder / f'overlay_{number:03d}.png'
    _save_picture(picture, clips[k], frame, path)
    paths.append(path)
    tiles.append(picture)
  if not tiles:
    return []
  sheet = folder / 'contact_sheet.png'
  cv2.imwrite(str(sheet), contact_sheet(tiles)[..., ::-1])
  return [sheet, *paths]


def contact_sheet(
  pictures: Sequence[np.ndarray], columns: int = _SHEET_COLUMNS, width: int = _SHEET_WIDTH
) -> np.ndarray:
  """One image [h, w, 3] of all pictures in rows, each `width` pixels wide."""
  columns = min(columns, len(pictures))
  small = [
    cv2.resize(p, (width, max(1, round(p.shape[0] * width / p.shape[1]))), interpolation=cv2.INTER_AREA)
    for p in pictures
  ]
  rows = []
  for start in range(0, len(small), columns):
    row = small[start : start + columns]
    height = max(p.shape[0] for p in row)
    canvas = np.full((height + 4, columns * (width + 4), 3), 255, np.uint8)
    for i, p in enumerate(row):
      canvas[: p.shape[0], i * (width + 4) : i * (width + 4) + width] = p
    rows.append(canvas)
  return np.concatenate(rows)
