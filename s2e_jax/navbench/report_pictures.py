"""Pictures of judged episodes over the scene's own ground plan. Runs on the host."""

from __future__ import annotations

import colorsys
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from s2e_jax.closedloop.metrics import contact_edges
from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.map_pictures import ground_plan
from s2e_jax.navbench.report_cells import Cell, PolicyCard, methods_of
from s2e_jax.navbench.routes import resampled
from s2e_jax.navbench.scene_folder import PreparedScene

Rgb = tuple[int, int, int]
# Of methods in their order: apart from each other, and from the map, on light and on dark pages.
_COLOURS: tuple[Rgb, ...] = (
  (37, 99, 235), (234, 112, 12), (13, 148, 104), (168, 60, 200), (214, 40, 90), (8, 145, 178), (140, 100, 20),
  (90, 100, 115),
)  # fmt: skip
_PAPER, _INK, _CONTACT = (250, 249, 246), (34, 36, 40), (220, 20, 20)
_THING, _THING_EDGE, _PEOPLE, _WAY = (238, 170, 90), (150, 80, 15), (225, 50, 60), (110, 112, 118)
_STAR = (255, 205, 40)
_FADE = 0.5  # of paper over the ground plan, so that lines stand out
_REFINE = 2  # plan pixels per map cell
_OVER = 2  # drawn so many times larger, then shrunk: smooth lines
_GOAL_RADIUS, _MARGIN, _LEAST_SPAN = 1.0, 1.5, 8.0  # m
_PALETTE = 160  # colours of a stored picture beside the inks: a third of the size, and nobody sees it
_SEE_THROUGH = 0.6  # of the discs where policies ended: they often end in one place


@dataclasses.dataclass(frozen=True)
class Ink:
  """How a policy is drawn everywhere: its method's colour, and which of the method's seeds it is (dashes)."""

  rgb: Rgb
  seed: int = 0

  @property
  def dash(self) -> float:
    """m of each dash and gap: none for the first seed, long for the second, short for the others."""
    return (0.0, 0.35, 0.15)[min(self.seed, 2)]

  @property
  def css(self) -> str:
    """'#rrggbb'."""
    return '#{:02x}{:02x}{:02x}'.format(*self.rgb)


def inks_of(policies: Mapping[str, PolicyCard]) -> dict[str, Ink]:
  """The ink of every policy, and of every method under its own name."""
  inks: dict[str, Ink] = {}
  for i, (method, names) in enumerate(methods_of(policies).items()):
    inks.setdefault(method, Ink(colour(i)))
    inks.update({name: Ink(colour(i), seed) for seed, name in enumerate(names)})
  return inks


def colour(i: int) -> Rgb:
  """The i-th colour of methods; beyond the chosen ones hues go round."""
  if i < len(_COLOURS):
    return _COLOURS[i]
  r, g, b = colorsys.hls_to_rgb(0.618034 * i % 1.0, 0.42, 0.65)
  return round(255 * r), round(255 * g), round(255 * b)


@dataclasses.dataclass(frozen=True)
class Plan:
  """A scene from above. picture: [h, w, 3] uint8, faded, y up. low: (x, y) m of its lower left. pixel: m."""

  picture: np.ndarray
  low: tuple[float, float]
  pixel: float


def plan_of(prepared: PreparedScene) -> Plan:
  """The ground plan in its own colours, faded, with what is occupied darkened."""
  maps = prepared.maps
  colours = ground_plan(prepared.gaussians, maps, _REFINE) * 255
  faded = (1 - _FADE) * colours + _FADE * np.array(_PAPER)
  occupied = np.kron(maps.occupied, np.ones((_REFINE, _REFINE), bool))
  faded[occupied] = 0.45 * colours[occupied] + 0.3 * np.array(_INK)
  picture = np.ascontiguousarray(faded.transpose(1, 0, 2)[::-1]).astype(np.uint8)
  return Plan(picture, maps.grid.origin, maps.grid.cell / _REFINE)


@dataclasses.dataclass(frozen=True)
class Window:
  """The part of the world that a picture shows. low: (x, y) m. size: (width, height) pixels. scale: pixels/m."""

  low: tuple[float, float]
  size: tuple[int, int]
  scale: float

  def pixel(self, point: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """(column, row) of a point (x, y) m, in drawing pixels."""
    x, y = (np.asarray(point, float) - np.array(self.low)) * self.scale
    return round(float(x) * _OVER), round((self.size[1] - float(y)) * _OVER)

  def length(self, metres: float, least: int = 1) -> int:
    """Drawing pixels of so many metres."""
    return max(round(metres * self.scale * _OVER), least)


def window_over(points: np.ndarray, width: int, aspect: float | None = None) -> Window:
  """The window of `width` pixels that holds points [N, 2] m with a margin; aspect: height by width, None suits the
  points."""
  points = points[np.isfinite(points).all(axis=1)]
  low, high = points.min(axis=0) - _MARGIN, points.max(axis=0) + _MARGIN
  span = np.maximum(high - low, _LEAST_SPAN)
  ratio = float(np.clip(span[1] / span[0], 0.6, 1.25)) if aspect is None else aspect
  span = np.array([max(span[0], span[1] / ratio), max(span[1], span[0] * ratio)])
  x, y = (low + high) / 2 - span / 2
  return Window((float(x), float(y)), (width, round(width * ratio / 2) * 2), width / float(span[0]))


def ground_in(plan: Plan, window: Window) -> np.ndarray:
  """[_OVER h, _OVER w, 3] uint8: the plan as a window shows it, to draw on."""
  width, height = window.size[0] * _OVER, window.size[1] * _OVER
  per = 1 / (window.scale * _OVER * plan.pixel)  # plan pixels per drawing pixel
  left = (window.low[0] - plan.low[0]) / plan.pixel
  top = plan.picture.shape[0] - ((window.low[1] - plan.low[1]) / plan.pixel + height * per)
  matrix = np.array([[per, 0, left], [0, per, top]])
  flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
  return cv2.warpAffine(plan.picture, matrix, (width, height), flags=flags, borderValue=_PAPER)


def draw_plan_of_episode(picture: np.ndarray, window: Window, planned: PlannedEpisode) -> None:
  """Things, the planned way, start (a ring with its heading) and goals with the circle of arrival."""
  for thing in planned.things:
    if thing.half_y is None:
      at, radius = window.pixel((thing.x, thing.y)), window.length(thing.half_x, 2)
      cv2.circle(picture, at, radius, _THING, -1, cv2.LINE_AA)
      cv2.circle(picture, at, radius, _THING_EDGE, _OVER, cv2.LINE_AA)
    else:
      outline = np.array([window.pixel(corner) for corner in thing.corners()], np.int32)
      cv2.fillPoly(picture, [outline], _THING, cv2.LINE_AA)
      cv2.polylines(picture, [outline], True, _THING_EDGE, _OVER, cv2.LINE_AA)
  draw_line(picture, window, np.array(planned.way), _WAY, _OVER, dash=0.2)
  tip = np.array(planned.start) + 0.8 * np.array([np.cos(planned.start_yaw), np.sin(planned.start_yaw)])
  cv2.arrowedLine(picture, window.pixel(planned.start), window.pixel(tip), _INK, 2 * _OVER, cv2.LINE_AA, 0, 0.25)
  cv2.circle(picture, window.pixel(planned.start), 6 * _OVER, (255, 255, 255), -1, cv2.LINE_AA)
  cv2.circle(picture, window.pixel(planned.start), 6 * _OVER, _INK, 2 * _OVER, cv2.LINE_AA)
  for i, goal in enumerate(planned.goals):
    is_last = i == len(planned.goals) - 1
    if is_last:
      cv2.circle(picture, window.pixel(goal), window.length(_GOAL_RADIUS), _INK, _OVER, cv2.LINE_AA)
    draw_star(picture, window.pixel(goal), (9 if is_last else 6) * _OVER)


def draw_star(picture: np.ndarray, at: tuple[int, int], radius: int) -> None:
  """A golden star of so many drawing pixels."""
  turn = np.pi / 2 + np.arange(10) * np.pi / 5
  reach = radius * np.where(np.arange(10) % 2, 0.45, 1.0)
  corners = np.round(np.array(at) + np.stack([reach * np.cos(turn), -reach * np.sin(turn)], axis=1)).astype(
    np.int32
  )
  cv2.fillPoly(picture, [corners], _STAR, cv2.LINE_AA)
  cv2.polylines(picture, [corners], True, _INK, _OVER, cv2.LINE_AA)


def draw_line(
  picture: np.ndarray, window: Window, points: np.ndarray, rgb: Rgb, width: int, dash: float = 0.0
) -> None:
  """A polyline through points [N, 2] m; dash: m of each dash and gap, 0 draws it through."""
  pixels = lambda part: np.array([window.pixel(p) for p in part], np.int32)
  if dash <= 0 or len(points) < 2 or not np.linalg.norm(np.diff(points, axis=0), axis=1).any():
    cv2.polylines(picture, [pixels(points)], False, rgb, width, cv2.LINE_AA)
    return
  fine = resampled(points, dash)
  for i in range(0, len(fine) - 1, 2):
    cv2.line(picture, window.pixel(fine[i]), window.pixel(fine[i + 1]), rgb, width, cv2.LINE_AA)


def draw_robot(
  picture: np.ndarray, window: Window, position: np.ndarray, yaw: float, radius: float, rgb: Rgb
) -> None:
  """A disc of the robot's radius (m), with its heading."""
  at = window.pixel(position)
  cv2.circle(picture, at, window.length(radius, 4), rgb, -1, cv2.LINE_AA)
  cv2.circle(picture, at, window.length(radius, 4), (255, 255, 255), _OVER, cv2.LINE_AA)
  tip = np.asarray(position) + radius * np.array([np.cos(yaw), np.sin(yaw)])
  cv2.line(picture, at, window.pixel(tip), (255, 255, 255), _OVER, cv2.LINE_AA)


def draw_contacts(
  picture: np.ndarray, window: Window, position: np.ndarray, contact: np.ndarray, rgb: Rgb = _CONTACT
) -> None:
  """Crosses where contacts [T] bool count, on positions [T+1, 2] m."""
  for t in np.flatnonzero(contact_edges(contact[None])[0]):
    at = window.pixel(position[t + 1])
    for drawn, width in ((_INK, 5 * _OVER), (rgb, 2 * _OVER)):
      cv2.drawMarker(picture, at, drawn, cv2.MARKER_TILTED_CROSS, 11 * _OVER, width, cv2.LINE_AA)


def draw_people(
  picture: np.ndarray, window: Window, people: np.ndarray, is_person: np.ndarray, trail: bool = False
) -> None:
  """People where they are at the last of the moments [T, N, 2] m; trail: and the ways that they went."""
  for i in np.flatnonzero(is_person):
    if trail and len(people) > 1:
      draw_line(picture, window, people[:, i], _PEOPLE, _OVER)
    at = window.pixel(people[0 if trail else -1, i])
    cv2.circle(picture, at, window.length(0.28, 3), _PEOPLE, -1, cv2.LINE_AA)
    cv2.circle(picture, at, window.length(0.28, 3), (255, 255, 255), _OVER, cv2.LINE_AA)


def draw_episode(cell: Cell, b: int, plan: Plan, inks: Mapping[str, Ink], width: int = 720) -> np.ndarray:
  """[h, width, 3] uint8: episode b as every policy drove it, with contacts and where each one ended.

  People are drawn where they stood at the start, with the ways they went while the first policy drove.
  """
  planned, traces = cell.planned[b], cell.judged.traces
  ends = {name: int(t.num_steps[b]) for name, t in traces.items()}
  driven = {name: np.asarray(t.position[b, : ends[name] + 1], float) for name, t in traces.items()}
  window = window_over(np.concatenate([np.array([*planned.way, *planned.goals]), *driven.values()]), width)
  picture = ground_in(plan, window)
  draw_plan_of_episode(picture, window, planned)
  first = next(iter(traces))
  people = np.asarray(traces[first].people[b, : ends[first] + 1], float)
  draw_people(picture, window, people, np.asarray(traces[first].is_person[b]), trail=True)
  radius = cell.prepared.maps.robot_radius
  for name in inks_in_order(traces, inks):
    draw_line(picture, window, driven[name], (255, 255, 255), 5 * _OVER)
    draw_line(picture, window, driven[name], inks[name].rgb, 3 * _OVER, dash=inks[name].dash)
    yaw, below = float(traces[name].yaw[b, ends[name]]), picture.copy()
    draw_robot(picture, window, driven[name][-1], yaw, radius, inks[name].rgb)
    cv2.addWeighted(picture, _SEE_THROUGH, below, 1 - _SEE_THROUGH, 0, picture)
  for name in traces:
    contact = np.asarray(traces[name].contact[b, : ends[name]], bool)
    draw_contacts(picture, window, driven[name], contact, inks[name].rgb)
  _scale_bar(picture, window)
  return shrunk(picture)


def inks_in_order(traces: Mapping[str, Any], inks: Mapping[str, Ink]) -> list[str]:
  """Policies with the first one last, so that it lies on top."""
  return [name for name in reversed(list(traces)) if name in inks]


def shrunk(picture: np.ndarray) -> np.ndarray:
  """A drawing at its final size."""
  size = (picture.shape[1] // _OVER, picture.shape[0] // _OVER)
  return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def png(picture: np.ndarray) -> bytes:
  """A small PNG of [h, w, 3] uint8, in few colours."""
  from PIL import Image

  whole = Image.fromarray(picture)
  found = whole.quantize(_PALETTE).getpalette() or []
  # A palette by frequency would lose the colour of a policy that drives a short way.
  inks = [_PAPER, _INK, _CONTACT, _THING, _THING_EDGE, _PEOPLE, _WAY, _STAR, *_COLOURS]
  pale = [tuple((np.array(rgb) * 0.6 + 102).astype(int).tolist()) for rgb in _COLOURS]
  palette = Image.new('P', (1, 1))
  palette.putpalette([*found[: 3 * _PALETTE], *(int(v) for rgb in [*inks, *pale] for v in rgb)])
  buffer = io.BytesIO()
  whole.quantize(palette=palette, dither=Image.Dither.NONE).save(buffer, format='PNG', optimize=True)
  return buffer.getvalue()


def _scale_bar(picture: np.ndarray, window: Window) -> None:
  length = max(v for v in (1, 2, 5, 10, 20, 50) if v == 1 or v * window.scale <= 0.25 * window.size[0])
  x, y = 14 * _OVER, picture.shape[0] - 14 * _OVER
  end = x + window.length(length)
  cv2.rectangle(picture, (x - 6 * _OVER, y - 20 * _OVER), (end + 6 * _OVER, y + 8 * _OVER), _PAPER, -1)
  cv2.line(picture, (x, y), (end, y), _INK, 3 * _OVER)
  cv2.putText(
    picture, f'{length} m', (x, y - 6 * _OVER), cv2.FONT_HERSHEY_SIMPLEX, 0.45 * _OVER, _INK, _OVER, cv2.LINE_AA
  )
