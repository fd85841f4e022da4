"""Films of episodes: the robot's camera beside a map, with commands and rewards per term. Runs on the host."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from s2e_jax.render import topview
from s2e_jax.scene import KIND, KINDS, Scene
from s2e_jax.sim.drives import Drives
from s2e_jax.structs import DT, Footprint

_PAPER, _INK, _FAINT = (250, 249, 246), (34, 36, 40), (150, 150, 150)
_GAIN, _COST = (38, 140, 90), (200, 70, 50)
_TRAIL, _ROUTE, _PEOPLE = (30, 90, 220), (250, 250, 250), (214, 60, 50)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL = 176  # pixels of the strip below the pictures
_TRAIL_STEPS = 8  # of a person's last steps that the map shows


@dataclasses.dataclass(frozen=True)
class Moment:
  """One step of an episode.

  picture: [h, w, 3] uint8, what the camera shows. position: [2] m, yaw: rad of the robot.
  people: [N, 2] m of those who are present. command: (v m/s, w rad/s). speed: m/s.
  rewards: weighted value per term in this step. time: s since the episode began. note: e.g. 'arrived'.
  """

  picture: np.ndarray
  position: np.ndarray
  yaw: float
  people: np.ndarray
  command: tuple[float, float]
  speed: float
  rewards: Mapping[str, float]
  time: float
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Episode:
  """Moments of one episode in one scene (no batch axis), and its task.

  static_scene: drawn once as the map, without people. goal: [2] m. route: [L, 2] m, the planner's way.
  length, width: m of the robot's footprint.
  """

  static_scene: Scene
  goal: np.ndarray
  route: np.ndarray
  length: float
  width: float
  moments: Sequence[Moment]


def require_pyav() -> None:
  """Raises ValueError with the remedy where films cannot be written."""
  if importlib.util.find_spec('av') is None:
    raise ValueError("films need PyAV, which is not installed: pip install 's2e_jax[data]'")


def scene_at(drives: Drives, b: int) -> Scene:
  """Scene of episode b without its people, for a map that they walk over."""
  scene: Scene = jax.tree.map(lambda x: np.asarray(x)[b], drives.scene)
  is_person = np.asarray(scene.kind) == KIND['person']
  capsules = scene.capsules
  gone = is_person[-len(capsules.high) :]
  high: Any = np.where(gone, capsules.low, capsules.high)
  return dataclasses.replace(scene, capsules=dataclasses.replace(capsules, high=high))


def episode_of(drives: Drives, b: int, footprint: Footprint) -> Episode:
  """Episode b of a batch of drives on the host."""
  length = int(drives.is_active[:, b].sum())
  if drives.has_arrived[b]:
    end = 'arrived'
  elif drives.has_collided[b]:
    kind = KINDS[int(drives.hit_kind[b])] if drives.hit_kind[b] else 'fence'
    end = f'collided with {kind}' if drives.hit_by_robot[b] else f'hit by {kind}'
  else:
    end = 'time out'
  moments = [
    Moment(
      picture=drives.frames[t, b],
      position=drives.position[t, b],
      yaw=float(drives.yaw[t, b]),
      people=drives.people[t, b][drives.is_person[t, b]],
      command=(float(drives.command[t, b, 0]), float(drives.command[t, b, 1])),
      speed=float(drives.speed[t, b]),
      rewards={name: float(value[t, b]) for name, value in drives.reward_terms.items()},
      time=t * DT,
      note=end if t == length - 1 else '',
    )
    for t in range(length)
  ]
  return Episode(scene_at(drives, b), drives.goal[b], drives.route[b], footprint.length, footprint.width, moments)


def summary_of(episode: Episode) -> dict[str, Any]:
  """JSON-able account of one episode: how it ended, seconds, metres, return, and the return of each term."""
  steps = np.diff(np.stack([m.position for m in episode.moments]), axis=0)
  terms: dict[str, float] = {}
  for moment in episode.moments:
    for name, value in moment.rewards.items():
      terms[name] = terms.get(name, 0.0) + value
  return {
    'ended': episode.moments[-1].note,
    'seconds': len(episode.moments) * DT,
    'metres': float(np.hypot(*steps.T).sum()),
    'return': sum(terms.values()),
    'terms': terms,
  }


def film_frames(episode: Episode, height: int = 360) -> Iterable[np.ndarray]:
  """Frames [height + panel, w, 3] uint8 of one episode: camera left, map right, rewards below."""
  view = topview.view_of_world(episode.static_scene)
  scale = height / view.size[0]
  view = dataclasses.replace(view, pixels_per_m=view.pixels_per_m * scale)
  base = topview.draw_map(episode.static_scene, view)
  topview.draw_path(base, view, episode.route, _ROUTE, 1)
  topview.draw_goal(base, view, episode.goal)
  total = 0.0
  for i, moment in enumerate(episode.moments):
    total += sum(moment.rewards.values())
    top = _map_at(base, view, episode, i)
    h, w = moment.picture.shape[:2]
    camera = cv2.resize(
      moment.picture, (round(w * top.shape[0] / h), top.shape[0]), interpolation=cv2.INTER_NEAREST
    )
    row = np.concatenate([camera, top], axis=1)
    row = row[:, : row.shape[1] // 2 * 2]
    frame = np.concatenate([row, _panel(moment, total, row.shape[1])], axis=0)
    yield np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2])


def _map_at(base: np.ndarray, view: topview.MapView, episode: Episode, i: int) -> np.ndarray:
  """The map with robot, people and what they have walked so far."""
  picture = base.copy()
  moments = episode.moments[: i + 1]
  topview.draw_path(picture, view, np.stack([m.position for m in moments]), _TRAIL, 2)
  for back, moment in enumerate(reversed(moments[-_TRAIL_STEPS:])):
    for person in moment.people:
      centre = tuple(int(v) for v in view.pixels(person))
      radius = max(1, int(0.28 * view.pixels_per_m)) if back == 0 else 1
      cv2.circle(picture, centre, radius, _PEOPLE, -1, cv2.LINE_AA)
  now = episode.moments[i]
  return topview.draw_robot(picture, view, now.position, now.yaw, episode.length, episode.width)


def _text(picture: np.ndarray, text: str, at: tuple[int, int], colour: Sequence[int] = _INK, size: float = 0.42):
  cv2.putText(picture, text, at, _FONT, size, tuple(colour), 1, cv2.LINE_AA)


def _panel(moment: Moment, total: float, width: int) -> np.ndarray:
  """[_PANEL, width, 3] strip with time, command and one bar per reward term of this step."""
  panel = np.full((_PANEL, width, 3), _PAPER, np.uint8)
  v, w = moment.command
  head = f'{moment.time:5.2f} s   command {v:+.2f} m/s {w:+.2f} rad/s   speed {moment.speed:.2f} m/s'
  head += f'   return {total:+.3f}'
  _text(panel, head, (10, 18))
  if moment.note:
    _text(
      panel,
      moment.note,
      (width - 12 - 9 * len(moment.note), 18),
      _GAIN if moment.note == 'arrived' else _COST,
      0.5,
    )
  names = list(moment.rewards)
  columns = 2 if width > 560 else 1
  rows = -(-len(names) // columns)
  step = (_PANEL - 30) / max(rows, 1)
  span = max(max((abs(v) for v in moment.rewards.values()), default=0.0), 0.05)
  for k, name in enumerate(names):
    column, row = divmod(k, rows)
    left, y = 10 + column * width // columns, int(36 + row * step)
    value = moment.rewards[name]
    _text(panel, name, (left, y + 4), _INK if value else _FAINT, 0.38)
    middle = left + 215
    bar = int(60 * np.clip(value / span, -1, 1))
    cv2.line(panel, (middle, y - 5), (middle, y + 5), _FAINT, 1)
    if bar:
      cv2.rectangle(panel, (middle, y - 3), (middle + bar, y + 3), _GAIN if value > 0 else _COST, -1)
    _text(panel, f'{value:+.4f}', (middle + 68, y + 4), _INK if value else _FAINT, 0.38)
  return panel


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> int:
  """Writes [h, w, 3] uint8 frames (even sizes, all equal) as an H.264 mp4; returns their number.

  The file appears when it is whole. Raises ValueError without PyAV, or when there are no frames.
  """
  require_pyav()
  import av

  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  count = 0
  with av.open(str(partial), 'w', format='mp4') as container:
    stream: Any = None
    for frame in frames:
      if stream is None:
        stream = container.add_stream('libx264', rate=round(fps))
        stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], 'yuv420p'
        stream.options = {'crf': '20'}
      for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')):
        container.mux(packet)
      count += 1
    if stream is not None:
      for packet in stream.encode():
        container.mux(packet)
  if not count:
    partial.unlink(missing_ok=True)
    raise ValueError(f'no frames to write to {path}')
  partial.replace(path)
  return count


def contact_sheet(pictures: np.ndarray, columns: int = 8, gap: int = 3) -> np.ndarray:
  """[H, W, 3] uint8: pictures [N, h, w, 3] in rows of `columns`, `gap` pixels of white between them."""
  n, h, w, _ = pictures.shape
  rows = -(-n // columns)
  sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
  for i, picture in enumerate(pictures):
    row, column = divmod(i, columns)
    y, x = gap + row * (h + gap), gap + column * (w + gap)
    sheet[y : y + h, x : x + w] = picture
  return sheet
