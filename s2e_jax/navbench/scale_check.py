"""Figures of a prepared scene that a person knows from life: whether its metres are metres."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.ground_field import level_normals
from s2e_jax.navbench.maps import Maps
from s2e_jax.navbench.routes import RouteGraph

_CEILING = (1.7, 6.0)  # m above the ground where a ceiling is looked for
_COVER = 0.3  # part of the drivable cells that have to be under it


def scale_figures(gaussians: Gaussians, maps: Maps, graph: RouteGraph) -> dict[str, Any]:
  """JSON-able figures, metres and m^2. graph: of the drivable region.

  seen_extent: x and y of the seen ground. seen_area, drivable_area, occupied_area. longest_way: over the drivable
  region. free_width: (median, widest) between things on the drivable region. standing_height: (median, 90 %) of
  what stands beside it, without what reaches the ceiling, or 4 m outdoors. ceiling: median height over the
  drivable region, None under the open sky. ground_relief: between the lowest and highest 5 % of the drivable
  ground.
  """
  cell_area = maps.grid.area_of_cell
  seen = np.argwhere(maps.is_seen)
  drivable = maps.drivable
  ridge = drivable & (maps.distance >= _highest_around(maps.distance) - 1e-6)
  widths = 2 * maps.distance[ridge] if ridge.any() else 2 * maps.distance[drivable]
  above = np.asarray(gaussians.mean)[:, 2] - maps.grid.at(maps.ground, gaussians.mean, outside=np.nan)
  ceiling = _ceiling(gaussians, maps, above)
  short = lambda value: round(float(value), 2)
  return {
    'seen_extent': [short(v) for v in (np.ptp(seen, axis=0) + 1) * maps.grid.cell] if len(seen) else [0.0, 0.0],
    'seen_area': short(maps.is_seen.sum() * cell_area),
    'drivable_area': short(maps.drivable_area),
    'occupied_area': short(maps.occupied.sum() * cell_area),
    'longest_way': short(graph.longest_way),
    'free_width': [short(np.median(widths)), short(widths.max())],
    'standing_height': _standing(gaussians, maps, above, 4.0 if ceiling is None else ceiling - 0.5),
    'ceiling': ceiling,
    'ground_relief': short(np.ptp(np.percentile(maps.ground[drivable], [5, 95]))),
  }


def scale_lines(figures: dict[str, Any]) -> list[str]:
  """The figures as sentences, each with what to compare it to."""
  ceiling = figures['ceiling']
  x, y = figures['seen_extent']
  return [
    f'ground seen: {figures["seen_area"]:.0f} m^2 in {x:.1f} x {y:.1f} m (a flat 50-200 m^2, a block 100 m)',
    f'drivable: {figures["drivable_area"]:.0f} m^2, longest way {figures["longest_way"]:.1f} m, ground rises '
    f'{figures["ground_relief"]:.2f} m',
    f'free width: median {figures["free_width"][0]:.2f} m, widest {figures["free_width"][1]:.2f} m (a door '
    '0.8-1 m, a corridor 1-2 m, a pavement 2-4 m)',
    f'things beside it: median {figures["standing_height"][0]:.2f} m high, 90 % below '
    f'{figures["standing_height"][1]:.2f} m (a table 0.75 m, a door 2 m)',
    'ceiling: none found (open sky)' if ceiling is None else f'ceiling: {ceiling:.2f} m (rooms 2.4-3 m)',
  ]


def _highest_around(distance: np.ndarray) -> np.ndarray:
  return ndimage.maximum_filter(distance, 5, mode='nearest')


def _standing(gaussians: Gaussians, maps: Maps, above: np.ndarray, most: float) -> list[float]:
  """(median, 90 %) m over occupied cells of the height of their highest opaque gaussian, where below `most`."""
  solid = (np.asarray(gaussians.opacity) > 0.3) & (above > 0)
  cells = maps.grid.cells(np.asarray(gaussians.mean)[solid])
  top = np.zeros(maps.grid.shape)
  np.maximum.at(top, tuple(cells.T), above[solid])
  near = ndimage.binary_dilation(maps.drivable, iterations=round((maps.robot_radius + 0.5) / maps.grid.cell))
  things = maps.occupied & near & (top > 0) & (top < most)
  return [round(float(v), 2) for v in np.percentile(top[things], [50, 90])] if things.any() else [0.0, 0.0]


def _ceiling(gaussians: Gaussians, maps: Maps, above: np.ndarray) -> float | None:
  over = maps.grid.at(maps.drivable, gaussians.mean, outside=False)
  level = over & (np.asarray(gaussians.opacity) > 0.3) & (above > _CEILING[0]) & (above < _CEILING[1])
  level[level] &= level_normals(np.asarray(gaussians.rotation)[level], np.asarray(gaussians.scale)[level]) > 0.85
  if not level.any():
    return None
  cells = maps.grid.cells(np.asarray(gaussians.mean)[level])
  coarse = np.unique(cells // 3, axis=0)
  all_coarse = np.unique(np.argwhere(maps.drivable) // 3, axis=0)
  return round(float(np.median(above[level])), 2) if len(coarse) > _COVER * len(all_coarse) else None
