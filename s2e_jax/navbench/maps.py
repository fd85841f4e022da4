"""Maps of a splat scene for a robot on the ground: what is occupied, how far it is, and where it can drive."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.grid import Grid, closed
from s2e_jax.navbench.ground_field import GroundField, find_ground
from s2e_jax.navbench.mesh_cells import MeshCells, check_meets, with_mesh
from s2e_jax.navbench.occupancy import Band, clean, signed_distance, solid_layers, thin_parts

MAX_SLOPE = 0.3  # rise over run
MIN_DRIVABLE_AREA = 4.0  # m^2: on less there is no way to drive
_REFINE = 2  # occupancy is found on cells this many times smaller, so that walls do not swell by a cell
_GAP = 0.4  # m: seen ground is closed across gaps up to twice as wide, also up to the walls
FIELDS = ('occupied', 'distance', 'drivable', 'ground', 'is_seen')  # of the record below, over the grid


@dataclasses.dataclass(frozen=True)
class Maps:
  """Fields over a horizontal grid in the world.

  occupied: [nx, ny] bool, something solid in the height band over the cell. distance: [nx, ny] float32 m from the
  cell's centre to the nearest outline of what is occupied, negative inside. drivable: [nx, ny] bool, the largest
  connected region where the whole robot stands on seen, passable ground without touching. ground: [nx, ny] float32
  m, height of the floor. is_seen: [nx, ny] bool, the floor was seen. robot_radius: m that `drivable` was made for.
  """

  grid: Grid
  occupied: np.ndarray
  distance: np.ndarray
  drivable: np.ndarray
  ground: np.ndarray
  is_seen: np.ndarray
  robot_radius: float

  @property
  def drivable_area(self) -> float:
    """m^2 that the robot's centre can reach."""
    return float(self.drivable.sum()) * self.grid.area_of_cell

  def window(self, low: np.ndarray, high: np.ndarray) -> Maps:
    """The part of the maps that holds low..high (m, [2] each)."""
    first = np.clip(self.grid.cells(low), 0, np.array(self.grid.shape) - 1)
    last = np.clip(self.grid.cells(high), first, np.array(self.grid.shape) - 1)
    rows, columns = slice(int(first[0]), int(last[0]) + 1), slice(int(first[1]), int(last[1]) + 1)
    x, y = np.array(self.grid.origin) + first * self.grid.cell
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    fields = {name: getattr(self, name)[rows, columns] for name in FIELDS}
    return Maps(Grid((float(x), float(y)), self.grid.cell, shape), **fields, robot_radius=self.robot_radius)


def build_maps(
  gaussians: Gaussians,
  robot_radius: float,
  cell: float = 0.1,
  band: Band = Band(),
  max_slope: float = MAX_SLOPE,
) -> tuple[Maps, GroundField]:
  """The maps of gaussians in a world with z up and the floor near z = 0, and the ground they stand on.

  Raises ValueError when there is no ground, or too little of it is free for a robot of this radius (m).
  """
  return build_maps_with_mesh(gaussians, None, robot_radius, cell, band, max_slope)[:2]


def build_maps_with_mesh(
  gaussians: Gaussians,
  triangles: np.ndarray | None,
  robot_radius: float,
  cell: float = 0.1,
  band: Band = Band(),
  max_slope: float = MAX_SLOPE,
) -> tuple[Maps, GroundField, MeshCells | None]:
  """As `build_maps`; what triangles [F, 3, 3] (m, in the same world) occupy in the band is occupied as well.

  The third is what the mesh brought, None without one. Raises ValueError also when the mesh does not meet the
  scene.
  """
  if not 0.02 <= cell <= 0.5:
    raise ValueError(f'cell={cell} m must be 0.02 to 0.5: smaller takes long, larger hides doors')
  if not robot_radius > 0:
    raise ValueError(f'robot_radius={robot_radius} m must be > 0')
  ground = find_ground(gaussians, cell)
  if triangles is not None:
    check_meets(triangles, ground.grid)
  layers = solid_layers(gaussians, ground, band, _REFINE)
  has_floor = _repeated(ground.has_support, _REFINE)
  fine = clean(layers, has_floor, band, cell / _REFINE)
  occupied, distance = _occupied(fine, cell)
  brought = None
  if triangles is not None:
    fine, of_mesh = with_mesh(fine, triangles, ground, has_floor, band, _REFINE)
    without, far = occupied, distance
    occupied, distance = _occupied(fine, cell)
    crossed = np.asarray(_blocks(of_mesh).any(axis=(1, 3)))
    brought = MeshCells.counted(crossed, occupied & ~without, far)
  drivable = drivable_region(ground, occupied, distance, robot_radius, max_slope)
  area = float(drivable.sum()) * ground.grid.area_of_cell
  if area < MIN_DRIVABLE_AREA:
    seen = float(ground.is_seen.sum()) * ground.grid.area_of_cell
    free = float((ground.is_seen & (distance > 0)).sum()) * ground.grid.area_of_cell
    raise ValueError(
      f'the largest drivable region is {area:.1f} m^2, a scene needs {MIN_DRIVABLE_AREA:g} m^2 (ground seen '
      f'{seen:.1f} m^2, of which free {free:.1f} m^2, robot radius {robot_radius:g} m, obstacles {band.low:g} to '
      f'{band.high:g} m above the ground): check up= and scale=, raise the lower end of the band if the ground is '
      'rough, or take a smaller robot'
    )
  # Rounded: the hash of a scene should not hang on the last bits of a sum.
  maps = Maps(
    ground.grid,
    occupied,
    np.round(distance, 3).astype(np.float32),
    drivable,
    np.round(ground.height, 3).astype(np.float32),
    ground.is_seen,
    float(robot_radius),
  )
  return maps, ground, brought


def distance_for_contact(maps: Maps) -> np.ndarray:
  """[nx, ny] float32 m to the nearest obstacle or unseen ground, negative inside.

  Nobody leaves what was scanned: where the ground was not seen, nothing is known to stand on.
  """
  is_unseen = np.pad(~maps.is_seen, 1, constant_values=True)
  edge = signed_distance(is_unseen, maps.grid.cell)[1:-1, 1:-1]
  # under things the ground is never seen: there their own outlines count
  edge = np.where(maps.occupied | (maps.distance < 0), np.inf, edge)
  return np.minimum(maps.distance, edge).astype(np.float32)


def drivable_region(
  ground: GroundField,
  occupied: np.ndarray,
  distance: np.ndarray,
  robot_radius: float,
  max_slope: float = MAX_SLOPE,
) -> np.ndarray:
  """[nx, ny] bool: the largest connected region where the robot's disc has seen, level ground and touches nothing.

  Ground hidden by the foot of a wall counts as seen; ground steeper than `max_slope` away from things does not.
  """
  cell = ground.grid.cell
  known = closed(ground.is_seen | occupied, _GAP / cell)
  # Beside walls and furniture the height field is interpolated: a slope there is none of the ground's.
  steep = (ground.slope() > max_slope) & (distance > robot_radius)
  passable = known & ~ndimage.binary_opening(steep, np.ones((2, 2)))
  from_edge = ndimage.distance_transform_edt(np.pad(passable, 1))[1:-1, 1:-1] * cell
  free = (distance > robot_radius) & (from_edge > robot_radius) & ground.is_seen
  labels, num = ndimage.label(free)
  if num == 0:
    return free
  size = np.bincount(labels.ravel())
  size[0] = 0
  return labels == int(size.argmax())


def _occupied(fine: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
  """Which cells of `cell` m are occupied, and the distance (m) from their centres to the outline of fine cells."""
  distance = _blocks(signed_distance(fine, cell / _REFINE)).mean(axis=(1, 3))
  # What is thinner than a cell is occupied wherever it is; elsewhere the outline decides.
  return (distance < -1e-4) | _blocks(thin_parts(fine)).any(axis=(1, 3)), distance


def _repeated(mask: np.ndarray, factor: int) -> np.ndarray:
  return mask.repeat(factor, axis=0).repeat(factor, axis=1)


def _blocks(fine: np.ndarray) -> np.ndarray:
  """[nx, refine, ny, refine] view of a field on the fine cells."""
  return fine.reshape(fine.shape[0] // _REFINE, _REFINE, fine.shape[1] // _REFINE, _REFINE)
