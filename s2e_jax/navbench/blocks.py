"""The default scenes of the benchmark as blocks of primitives: what splats are fitted to, and the truth on them.

A block is a scene record, exact everywhere, drawn by hand and varied by a seed. The splats that ship with the
package are reconstructions of its pictures; its distances are what maps found in those splats are judged by.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from s2e_jax.navbench import blocks_indoor, blocks_squares, blocks_streets
from s2e_jax.navbench.blocks_parts import Plan, assemble
from s2e_jax.scene import Scene, Walls
from s2e_jax.worlds.distance import clearance

BAND = 1.4  # m above the ground up to which things stand in a robot's or its camera's way
ROBOT_RADIUS = 0.4  # m
_CHUNK = 8192  # points whose distances are taken at once


@dataclasses.dataclass(frozen=True)
class Block:
  """One default scene. name: of BLOCKS. seed: what its varied details were drawn from.

  scene: the record, without people. bounds: m (x0, x1, y0, y1) that hold everything a robot can reach. start: m
  (x, y) of a free place; what can be reached from it is the walkable area. is_indoor: no sun reaches the ground.
  """

  name: str
  seed: int
  scene: Scene
  bounds: tuple[float, float, float, float]
  start: tuple[float, float]
  is_indoor: bool


BLOCKS: dict[str, Callable[[np.random.Generator], Plan]] = {
  **blocks_streets.PLANS,
  **blocks_squares.PLANS,
  **blocks_indoor.PLANS,
}


def make_block(name: str, seed: int = 0) -> Block:
  """The block of a name, the same for the same seed; ValueError for a name that is not in BLOCKS."""
  if name not in BLOCKS:
    raise ValueError(f'block {name!r} must be one of {sorted(BLOCKS)}')
  rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
  plan = BLOCKS[name](rng)
  scene = assemble(plan.parts, plan.bounds, plan.paving, plan.light)
  return Block(name, seed, scene, plan.bounds, plan.start, plan.is_indoor)


def truth_walls(block: Block, cell: float = 0.1, height: float = BAND) -> Walls:
  """Exact signed distances (m) of a block's things on a grid over its bounds, negative inside (see `scene.Walls`).

  cell: m. height: m above the ground up to which things count. Things end at the grid: behind the walls round the
  block it is free again, but cannot be reached (`walkable`).
  """
  x0, x1, y0, y1 = block.bounds
  x, y = np.arange(x0 + cell / 2, x1, cell), np.arange(y0 + cell / 2, y1, cell)
  points = np.stack(np.meshgrid(x, y, indexing='ij'), axis=-1).reshape(-1, 2).astype(np.float32)
  padded = np.concatenate([points, np.repeat(points[:1], -len(points) % _CHUNK, 0)])
  parts = [
    np.asarray(_distances(block.scene, jnp.asarray(padded[i : i + _CHUNK]), height))
    for i in range(0, len(padded), _CHUNK)
  ]
  distance = np.concatenate(parts)[: len(points)].reshape(len(x), len(y))
  return Walls(
    distance=jnp.asarray(distance, jnp.float32),
    origin=jnp.asarray([x[0], y[0]], jnp.float32),
    cell=jnp.asarray(cell, jnp.float32),
  )


@jax.jit
def _distances(scene: Scene, points: jax.Array, height: float) -> jax.Array:
  return clearance(scene, points, height=height)[0]


def walkable(block: Block, walls: Walls, radius: float = ROBOT_RADIUS) -> np.ndarray:
  """[I, J] bool: cells of `truth_walls` that a disc of `radius` m can reach from the block's start.

  Raises ValueError when the start itself is not free.
  """
  free = np.asarray(walls.distance) > radius
  labels, _ = ndimage.label(free, structure=np.ones((3, 3)))
  at = np.round((np.asarray(block.start) - np.asarray(walls.origin)) / float(walls.cell)).astype(int)
  label = labels[tuple(at)]
  if not label:
    raise ValueError(f'start {block.start} of block {block.name!r} is not {radius} m from everything')
  return labels == label
