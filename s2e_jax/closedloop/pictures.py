"""Maps of judged episodes with every policy's way, and films of two policies side by side. Runs on the host."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.closedloop.episodes import Traces
from s2e_jax.closedloop.metrics import CLASSES, contact_edges, episode_metrics
from s2e_jax.render import topview
from s2e_jax.render.render import RenderOptions, render
from s2e_jax.render.view import view_of
from s2e_jax.scene import Scene, ground_height, to_street
from s2e_jax.sim.film import require_pyav, write_mp4
from s2e_jax.structs import DT, Footprint

# of policies in their order; the last one again for whoever comes after
_COLOURS = ((30, 90, 220), (230, 110, 20), (20, 140, 70), (150, 60, 180), (90, 90, 90), (180, 30, 60))
_PAPER, _INK, _CONTACT = (250, 249, 246), (34, 36, 40), (200, 20, 20)
_PEOPLE, _WALKED = (214, 60, 50), (228, 170, 160)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE, _LEAST_WIDTH = 22, 440  # pixels of a line of text, and of a caption


def episode_at(traces: Traces, b: int) -> Traces:
  """Episode b without its batch axis."""
  picked: Traces = jax.tree.map(lambda x: np.asarray(x)[b], traces)
  return picked


def without_people(scene: Scene, num_people: int) -> Scene:
  """One scene (no batch axis) on the host with the capsules of its people empty, for a map they walk over."""
  capsules = scene.capsules
  gone = np.arange(len(np.asarray(capsules.high))) < 2 * num_people
  high: Any = np.where(gone, capsules.low, capsules.high)
  return dataclasses.replace(scene, capsules=dataclasses.replace(capsules, high=high))


def draw_episode(
  traces: Mapping[str, Traces], b: int, footprint: Footprint, title: str = '', pixels_per_m: float = 20.0
) -> np.ndarray:
  """[h, w, 3] uint8 map of episode b: the way of every policy, crosses where contacts count, and how each ended.

  People are drawn where they stood at the start, with the ways they went while the first policy drove.
  """
  episodes = {name: episode_at(t, b) for name, t in traces.items()}
  first = next(iter(episodes.values()))
  scene = without_people(first.scene, len(first.is_person))
  view = topview.view_of_world(scene, pixels_per_m)
  picture = topview.draw_map(scene, view)
  for i in np.flatnonzero(first.is_person):
    walked = first.people[: first.num_steps + 1, i]
    topview.draw_path(picture, view, walked, _WALKED, 1)
    cv2.circle(picture, _pixel(view, walked[0]), max(2, int(0.28 * view.pixels_per_m)), _PEOPLE, -1, cv2.LINE_AA)
  topview.draw_goal(picture, view, first.goal)
  for colour, episode in zip(_colours(len(episodes)), episodes.values(), strict=True):
    n = int(episode.num_steps)
    topview.draw_path(picture, view, episode.position[: n + 1], colour, 2)
    for t in np.flatnonzero(contact_edges(episode.contact[None])[0]):
      at = _pixel(view, episode.position[t + 1])
      cv2.drawMarker(picture, at, _CONTACT, cv2.MARKER_TILTED_CROSS, 12, 2, cv2.LINE_AA)
    topview.draw_robot(
      picture, view, episode.position[n], float(episode.yaw[n]), footprint.length, footprint.width, colour
    )
  lines = [(title, _INK)] if title else []
  for colour, name in zip(_colours(len(traces)), traces, strict=True):
    lines.append((f'{name}: {_account(traces[name], b)}', colour))
  return _with_caption(_fitted(picture, max(picture.shape[1], _LEAST_WIDTH)), lines)


def write_maps(
  traces: Mapping[str, Traces], rows: Sequence[int], footprint: Footprint, folder: Path, first: int = 0
) -> list[Path]:
  """Writes episode_N.png for rows of the batch; N counts from `first`, the number of row 0 in its split."""
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for b in rows:
    paths.append(folder / f'episode_{first + b:04d}.png')
    picture = draw_episode(traces, b, footprint, f'episode {first + b}')
    cv2.imwrite(str(paths[-1]), picture[..., ::-1])
  return paths


def telling_rows(figures: Mapping[str, Mapping[str, np.ndarray]], count: int) -> list[int]:
  """Rows of at most `count` episodes: first where policies differ most in success, then in completion.

  Of two policies, those in which the one that arrives more often did better come first: the picture then shows
  what the table says.
  """
  success = np.stack([f['success'] for f in figures.values()])
  completion = np.stack([f['rc'] for f in figures.values()])
  spread = success.std(axis=0) + 0.1 * completion.std(axis=0)
  if len(figures) == 2:
    gain = np.asarray(success[1], float) - success[0]
    spread += 0.2 * np.sign(gain.mean()) * gain
  return [int(b) for b in np.argsort(-spread, kind='stable')[:count]]


def side_by_side(
  path: str | Path,
  traces: Mapping[str, Traces],
  b: int,
  footprint: Footprint,
  options: RenderOptions | None = None,
) -> Path:
  """Writes an mp4 of episode b driven by two policies: both cameras above a map of both ways, in real time.

  traces: of two policies by name, on the host. options: of the pictures, by default 180 x 320; they are drawn anew
  from the traces, without the sway of a gait. Raises ValueError without PyAV, or for other than two policies.
  """
  require_pyav()
  if len(traces) != 2:
    raise ValueError(f'a film side by side shows two policies, not {len(traces)} ({", ".join(traces)})')
  options = options or RenderOptions(180, 320)
  write_mp4(path, film_frames(traces, b, footprint, options), 1 / DT)
  return Path(path)


def film_frames(
  traces: Mapping[str, Traces], b: int, footprint: Footprint, options: RenderOptions
) -> Iterator[np.ndarray]:
  """Frames [h, w, 3] uint8 of even size of `side_by_side`; the last one stays for a second."""
  episodes = [episode_at(t, b) for t in traces.values()]
  pictures = [np.asarray(redrawn(e.scene, e.position, e.yaw, e.people, options)) for e in episodes]
  ends = [_account(t, b) for t in traces.values()]
  colours = _colours(2)
  scene = without_people(episodes[0].scene, len(episodes[0].is_person))
  width = 2 * options.width
  view = topview.view_of_world(scene)
  view = dataclasses.replace(view, pixels_per_m=view.pixels_per_m * width / view.size[1])
  ground = topview.draw_goal(topview.draw_map(scene, view), view, episodes[0].goal)
  last = max(int(e.num_steps) for e in episodes)
  for t in [*range(last + 1), *[last] * round(1 / DT)]:
    top, below = [], ground.copy()
    for episode, camera, end, colour, name in zip(episodes, pictures, ends, colours, traces, strict=True):
      n = min(t, int(episode.num_steps))
      text = f'{name}  {n * DT:5.2f} s  {float(episode.speed[n]):.2f} m/s'
      text = f'{name}: {end}' if t >= episode.num_steps else text
      touches = 0 < t <= episode.num_steps and bool(episode.contact[t - 1])
      strip = _with_caption(camera[n], [(text, _CONTACT if touches else colour)])
      top.append(strip)
      topview.draw_path(below, view, episode.position[: n + 1], colour, 2)
      for i in np.flatnonzero(episode.is_person):
        cv2.circle(below, _pixel(view, episode.people[n, i]), 4, colour, 1, cv2.LINE_AA)
      at, yaw = episode.position[n], float(episode.yaw[n])
      topview.draw_robot(below, view, at, yaw, footprint.length, footprint.width, colour)
    row = np.concatenate(top, axis=1)
    frame = np.concatenate([row, _fitted(below, width)], axis=0)
    yield np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : width // 2 * 2])


def with_people_at(scene: Scene, before: jax.Array, now: jax.Array) -> Scene:
  """One scene with its people moved from `before` to `now` [N, 2] (m); who is absent stays so."""
  num, ground = len(now), scene.ground
  floor = lambda points: ground_height(ground, *to_street(points[:, 0], points[:, 1], ground.curvature))
  # body i is capsule i and its head capsule N + i; both rise and sink with the ground
  both, climb = jnp.concatenate([now, now]), jnp.tile(floor(now) - floor(before), 2)
  old = jax.tree.map(jnp.asarray, scene.capsules)
  capsules = dataclasses.replace(
    old,
    x=old.x.at[: 2 * num].set(both[:, 0]),
    y=old.y.at[: 2 * num].set(both[:, 1]),
    low=old.low.at[: 2 * num].add(climb),
    high=old.high.at[: 2 * num].add(climb),
  )
  return dataclasses.replace(scene, capsules=capsules)


@functools.partial(jax.jit, static_argnames='options')
def redrawn(
  scene: Scene, position: jax.Array, yaw: jax.Array, people: jax.Array, options: RenderOptions
) -> jax.Array:
  """[T, h, w, 3] uint8: one scene, given as at its start, from T poses while people [T, N, 2] (m) walk."""
  scenes = jax.vmap(lambda now: with_people_at(scene, people[0], now))(people)
  floor = ground_height(scene.ground, *to_street(position[:, 0], position[:, 1], scene.ground.curvature))
  drawn = render(scenes, view_of(scenes.mount, position, yaw, floor), options).rgb
  assert drawn is not None
  return drawn


def _account(traces: Traces, b: int) -> str:
  """How episode b ended, when, and how often it touched something."""
  one = jax.tree.map(lambda x: np.asarray(x)[b : b + 1], traces)
  figures = {name: float(values[0]) for name, values in episode_metrics(one).items()}
  end = CLASSES[int(figures['failure'])].replace('_', ' ')
  return f'{end}, {figures["seconds"]:.0f} s, {figures["contacts"]:.0f} contacts'


def _colours(count: int) -> list[tuple[int, int, int]]:
  return [_COLOURS[min(i, len(_COLOURS) - 1)] for i in range(count)]


def _pixel(view: topview.MapView, point: np.ndarray) -> tuple[int, int]:
  x, y = view.pixels(np.asarray(point))
  return round(float(x)), round(float(y))


def _with_caption(picture: np.ndarray, lines: Sequence[tuple[str, Sequence[int]]]) -> np.ndarray:
  """`picture` below lines of (text, colour) on paper."""
  strip = np.full((len(lines) * _LINE + 6, picture.shape[1], 3), _PAPER, np.uint8)
  for i, (text, colour) in enumerate(lines):
    cv2.putText(strip, text, (8, (i + 1) * _LINE - 4), _FONT, 0.45, tuple(colour), 1, cv2.LINE_AA)
  return np.concatenate([strip, picture], axis=0)


def _fitted(picture: np.ndarray, width: int) -> np.ndarray:
  """`picture` cut or filled up with paper to `width` pixels."""
  picture = picture[:, :width]
  fill = np.full((picture.shape[0], width - picture.shape[1], 3), _PAPER, np.uint8)
  return np.concatenate([picture, fill], axis=1)
