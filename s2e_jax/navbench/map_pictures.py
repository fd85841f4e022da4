"""The picture of a prepared scene: its ground plan in its own colours, the maps, and the episodes on them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.gaussians import SH_C0, Gaussians
from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.maps import Maps
from s2e_jax.reporting import write_whole

_CUT = 1.6  # m above the ground: the plan looks down from here, below ceilings and tree crowns
_PAPER, _SEEN = (1.0, 1.0, 0.985), (0.90, 0.89, 0.86)
_DRIVABLE, _OCCUPIED = (0.72, 0.87, 0.74), (0.16, 0.18, 0.22)
_THING, _START, _GOAL = '#c8641e', '#1f5fbf', '#c0273a'
_LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MAX_DRAWN = 8  # episodes per map: more cover one another


def ground_plan(gaussians: Gaussians, maps: Maps, refine: int = 2) -> np.ndarray:
  """[nx * refine, ny * refine, 3] colours in 0..1 seen from above, cut at 1.6 m above the ground.

  Each opaque gaussian is drawn as a square of its own size, the highest last.
  """
  grid = maps.grid.refined(refine)
  mean = np.asarray(gaussians.mean)
  above = mean[:, 2] - maps.grid.at(maps.ground, mean, outside=np.nan)
  chosen = np.flatnonzero((above > -0.3) & (above < _CUT) & (np.asarray(gaussians.opacity) > 0.3))
  chosen = chosen[np.argsort(mean[chosen, 2], kind='stable')]
  colour = np.clip(0.5 + SH_C0 * np.asarray(gaussians.sh)[chosen, 0], 0, 1)
  width = np.median(np.asarray(gaussians.scale)[chosen], axis=1)
  reach = np.clip(np.round(width / grid.cell), 0, 3).astype(int)
  cells = grid.cells(mean[chosen])
  plan = np.broadcast_to(np.array(_PAPER), (*grid.shape, 3)).copy()
  rank = np.full(grid.shape, -1, np.int64)
  order = np.arange(len(chosen))
  for dx in range(-3, 4):
    for dy in range(-3, 4):
      spot = cells + np.array([dx, dy])
      drawn = (reach >= max(abs(dx), abs(dy))) & grid.holds(spot)
      np.maximum.at(rank, tuple(spot[drawn].T), order[drawn])
  plan[rank >= 0] = colour[rank[rank >= 0]]
  return plan


def map_colours(maps: Maps) -> np.ndarray:
  """[nx, ny, 3] in 0..1: paper, seen ground, drivable ground, and what is occupied."""
  picture = np.broadcast_to(np.array(_PAPER), (*maps.grid.shape, 3)).copy()
  for mask, colour in ((maps.is_seen, _SEEN), (maps.drivable, _DRIVABLE), (maps.occupied, _OCCUPIED)):
    picture[mask] = colour
  return picture


def write_map(
  path: Path,
  name: str,
  gaussians: Gaussians,
  maps: Maps,
  episodes: Mapping[str, Sequence[PlannedEpisode]],
  lines: Sequence[str] = (),
) -> Path:
  """Writes one PNG: the ground plan, the maps with distance contours, and a map of episodes per task.

  lines: printed below, such as those of the scale check.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  x, y = maps.grid.origin
  extent = (x, x + maps.grid.shape[0] * maps.grid.cell, y, y + maps.grid.shape[1] * maps.grid.cell)
  window = _window(maps)
  shape = (window[3] - window[2]) / (window[1] - window[0])
  small = min(max(len(episodes), 1), 5)
  rows = -(-len(episodes) // small)
  heights = [_tall(11.0, shape)] + rows * [_tall(22.0 / small, shape)]
  foot = 0.35 + 0.24 * len(lines)
  height = sum(heights) + 0.75 + foot
  figure = Figure(figsize=(22, height), dpi=80, facecolor='white')
  FigureCanvasAgg(figure)
  spec = figure.add_gridspec(
    1 + rows, 2 * small, height_ratios=heights, left=0.012, right=0.995, top=1 - 0.75 / height,
    bottom=foot / height, wspace=0.06, hspace=0.08,
  )  # fmt: skip
  axes = [figure.add_subplot(spec[0, :small]), figure.add_subplot(spec[0, small:])]
  for i in range(len(episodes)):
    column = 2 * (i % small)
    axes.append(figure.add_subplot(spec[1 + i // small, column : column + 2]))
  base = map_colours(maps)
  _show(axes[0], ground_plan(gaussians, maps), extent, window, 'from above, cut at 1.6 m')
  _show(axes[1], base, extent, window, 'occupied, drivable, m to the nearest thing')
  _contours(axes[1], maps)
  _scale_bar(axes[0], window)
  for ax, (task, planned) in zip(axes[2:], episodes.items(), strict=True):
    drawn = planned[:_MAX_DRAWN]
    count = f'{len(planned)}' if len(drawn) == len(planned) else f'{len(drawn)} of {len(planned)}'
    _show(ax, base, extent, window, f'{task}: {count} episodes, from dots to stars')
    _draw_episodes(ax, drawn)
  figure.suptitle(name, fontsize=17, x=0.012, ha='left', y=1 - 0.12 / height, va='top', weight='bold')
  figure.text(0.012, 0.12 / height, '\n'.join(lines), fontsize=11.5, va='bottom', family='monospace', color='#333')
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', metadata={'Software': None})
  return write_whole(path, buffer.getvalue())


def _tall(width: float, shape: float) -> float:
  """Inches of a panel of this width, with its title."""
  return min(max(width * shape, 0.35 * width), 1.5 * width) + 0.45


def _window(maps: Maps) -> tuple[float, float, float, float]:
  """(x_low, x_high, y_low, y_high) m of what is seen, with a margin."""
  cells = np.argwhere(maps.is_seen | maps.drivable)
  low, high = maps.grid.centres(cells.min(axis=0)) - 1.0, maps.grid.centres(cells.max(axis=0)) + 1.0
  return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def _show(ax: Any, picture: np.ndarray, extent: tuple, window: tuple, title: str) -> None:
  ax.imshow(picture.transpose(1, 0, 2), origin='lower', extent=extent, interpolation='nearest')
  ax.set_xlim(window[0], window[1])
  ax.set_ylim(window[2], window[3])
  ax.set_aspect('equal')
  ax.set_title(title, fontsize=12, loc='left')
  ax.tick_params(labelsize=7, length=2)
  for spine in ax.spines.values():
    spine.set_color('#bbb')


def _contours(ax: Any, maps: Maps) -> None:
  field = np.where(maps.is_seen, maps.distance, np.nan).T
  if not np.nanmax(field) > _LEVELS[0]:
    return
  centres = maps.grid.centres()
  lines = ax.contour(
    centres[:, 0, 0],
    centres[0, :, 1],
    field,
    levels=_LEVELS,
    colors='#3a5a78',
    linewidths=(0.5, 0.9, 0.7, 0.7, 0.7),
  )
  ax.clabel(lines, levels=[v for v in lines.levels if v >= 0.5], fontsize=7, fmt='%g')


def _scale_bar(ax: Any, window: tuple) -> None:
  width = window[1] - window[0]
  length = max(v for v in (1, 2, 5, 10, 20, 50, 100, 200) if v <= max(1.0, 0.25 * width))
  x, y = window[0] + 0.04 * width, window[2] + 0.03 * (window[3] - window[2])
  ax.plot([x, x + length], [y, y], color='black', lw=3, solid_capstyle='butt')
  ax.annotate(f'{length} m', (x + length / 2, y), (0, 4), textcoords='offset points', ha='center', fontsize=9)


def _draw_episodes(ax: Any, episodes: Sequence[PlannedEpisode]) -> None:
  from matplotlib import colormaps

  colours = colormaps['tab20'](np.arange(max(len(episodes), 1)) % 20)
  for colour, episode in zip(colours, episodes, strict=False):
    for thing in episode.things:
      outline = thing.corners()
      if thing.half_y is None:
        turn = np.linspace(0, 2 * np.pi, 24)
        outline = np.array([thing.x, thing.y]) + thing.half_x * np.stack([np.cos(turn), np.sin(turn)], axis=1)
      ax.fill(*outline.T, facecolor=(*colour[:3], 0.9), edgecolor=_THING, lw=0.7, zorder=3)
    ax.plot(*np.array(episode.way).T, color=colour, lw=1.7, zorder=4)
    ax.plot(*episode.start, 'o', color=colour, mec=_START, ms=6, zorder=5)
    tip = 0.9 * np.array([np.cos(episode.start_yaw), np.sin(episode.start_yaw)])
    ax.annotate(
      '', np.array(episode.start) + tip, episode.start, arrowprops={'arrowstyle': '->', 'color': _START}, zorder=5
    )
    for goal in episode.goals:
      ax.plot(*goal, '*', color=colour, mec=_GOAL, ms=11, mew=0.7, zorder=6)
