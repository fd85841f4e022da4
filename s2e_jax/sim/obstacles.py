"""What a robot may touch within one policy step: the nearest primitives of its scene, the fence and the walls."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.robots import RobotDescription
from s2e_jax.scene import Boxes, Rounds, Scene, to_world
from s2e_jax.sim.lanes import Leading, in_lanes, once
from s2e_jax.worlds.walls import sampled

CLEARANCE_UNDER = 0.05  # m: what ends lower than this above the ground is driven over
FAR = 1e3  # m: distance of what is not there


@struct.dataclass
class Obstacles:
  """The K primitives nearest to the robot during one policy step, as upright rounded boxes, and the fence.

  x, y: [K] m, centres in the world at the start of the step. cos, sin: [K] of the headings. half_x, half_y: [K] m
  half sides, 0 of what is round. radius: [K] m of the rounding, -FAR of what is not there. vx, vy: [K] m/s of
  people, else 0. slot: [K] slot in the scene, a whole number.
  curvature: [] 1/m of the street. sides: [2] m, lowest and highest d of the world. ends: [4, 2] x, y and inward
  normal (x, y) of its two end lines.
  walls: the scene's `Walls`, None for none.
  """

  x: jax.Array
  y: jax.Array
  cos: jax.Array
  sin: jax.Array
  half_x: jax.Array
  half_y: jax.Array
  radius: jax.Array
  vx: jax.Array
  vy: jax.Array
  slot: jax.Array
  curvature: jax.Array
  sides: jax.Array
  ends: jax.Array
  walls: Leading | None = None


def _rounded_box(x: jax.Array, y: jax.Array, half_x: jax.Array, half_y: jax.Array) -> tuple[jax.Array, ...]:
  """Signed distance of points to boxes and its gradient (x, y), in the boxes' own frames."""
  qx, qy = jnp.abs(x) - half_x, jnp.abs(y) - half_y
  out_x, out_y = jnp.maximum(qx, 0.0), jnp.maximum(qy, 0.0)
  length = jnp.sqrt(jnp.maximum(out_x * out_x + out_y * out_y, 1e-20))
  depth = jnp.maximum(qx, qy)
  is_inside = depth <= 0  # the very middle of what is round too: the gradient is a unit vector everywhere
  along_x = (qx >= qy).astype(jnp.float32)
  grad_x = jnp.where(is_inside, along_x, out_x / length) * jnp.where(x < 0, -1.0, 1.0)
  grad_y = jnp.where(is_inside, 1 - along_x, out_y / length) * jnp.where(y < 0, -1.0, 1.0)
  return jnp.where(is_inside, depth, length), grad_x, grad_y


def obstacles_near(
  robot: RobotDescription,
  scene: Scene,
  position: jax.Array,
  people_velocity: jax.Array | None = None,
  ground_z: jax.Array | None = None,
  *,
  nearest: int = 6,
) -> Obstacles:
  """The `nearest` primitives that a robot at position [2] m may touch within a policy step, fence and walls.

  people_velocity: [N, 2] m/s in the world of the person in each body slot, held during the step (None: nobody
  moves). ground_z: [] m under the robot (None: the pavement's).
  """
  if people_velocity is None:
    people_velocity = jnp.zeros((0, 2))
  ground = scene.ground
  floor = ground.curb_height if ground_z is None else ground_z
  found: Obstacles = _finder(robot.height, nearest)(
    (scene.boxes, scene.cylinders, scene.capsules),
    (ground.curvature, ground.bounds),
    position,
    people_velocity,
    floor,
  )
  return found if scene.walls is None else dataclasses.replace(found, walls=Leading(scene.walls))


@functools.lru_cache(maxsize=16)
def _finder(robot_height: float, nearest: int) -> Callable[..., Obstacles]:
  """`_obstacles_near` for one element, to be vmapped."""
  return in_lanes(functools.partial(_obstacles_near, robot_height, nearest))


def _obstacles_near(
  robot_height: float,
  nearest: int,
  parts: tuple[Boxes, Rounds, Rounds],
  fence: tuple[jax.Array, jax.Array],
  position: jax.Array,
  people_velocity: jax.Array,
  floor: jax.Array,
) -> Obstacles:
  """`obstacles_near` with a batch in the last axis."""
  low, top = floor + CLEARANCE_UNDER, floor + robot_height
  b, c, p = parts
  curvature, bounds = fence

  def is_there(part: Boxes | Rounds) -> jax.Array:
    return (part.high > part.low) & (part.low < top) & (part.high > low)

  # A capsule counts with its widest slice between the robot's floor and top.
  cut = jnp.maximum(jnp.maximum(p.low + p.radius - top, low - (p.high - p.radius)), 0.0)
  wide = jnp.sqrt(jnp.maximum(p.radius**2 - cut**2, 0.0))
  walk = jnp.pad(people_velocity, ((0, p.x.shape[0] - people_velocity.shape[0]), (0, 0), (0, 0)))
  is_needed = jnp.isfinite(position).any()
  box_cos, box_sin = once((jnp.cos(b.yaw), jnp.sin(b.yaw)), is_needed)
  rel_x, rel_y = position[0] - b.x, position[1] - b.y
  box_distance, _, _ = _rounded_box(
    rel_x * box_cos + rel_y * box_sin, rel_y * box_cos - rel_x * box_sin, b.half_x, b.half_y
  )
  # Who walks may come closer during the step.
  reach = 0.25 * (jnp.abs(walk[:, 0]) + jnp.abs(walk[:, 1]))
  distance = once(
    jnp.concatenate(
      [
        jnp.where(is_there(b), box_distance, FAR),
        jnp.where(is_there(c), jnp.hypot(position[0] - c.x, position[1] - c.y) - c.radius, FAR),
        jnp.where(is_there(p), jnp.hypot(position[0] - p.x, position[1] - p.y) - wide - reach, FAR),
      ]
    ),
    is_needed,
  )
  # Ranks by counting: sorting and gathering are slow when vmapped on a CPU.
  index = np.arange(distance.shape[0])
  is_earlier = (index < index[:, None])[:, :, None]
  closer = (distance < distance[:, None]) | ((distance == distance[:, None]) & is_earlier)
  rank = once(closer.sum(1), is_needed)
  sections = [b.x.shape[0], b.x.shape[0] + c.x.shape[0]]
  rank_of_parts = jnp.split(rank, sections)
  places = np.arange(min(nearest, distance.shape[0]))[:, None]

  def chosen(boxes: jax.Array | None, rounds: jax.Array | None, capsules: jax.Array | None) -> jax.Array:
    """[K, B]: a field of the nearest primitives; 0 for parts that lack it."""
    total = jnp.zeros((places.shape[0], position.shape[-1]))
    for ranks, field in zip(rank_of_parts, (boxes, rounds, capsules), strict=True):
      if field is not None:
        for n in range(field.shape[0]):
          total = jnp.where(ranks[n] == places, field[n], total)
    return total

  end_x, end_y = to_world(bounds[:2], jnp.zeros_like(bounds[:2]), curvature)
  heading = curvature * bounds[:2]
  inward = np.array([[1.0], [-1.0]], np.float32)
  return Obstacles(
    x=chosen(b.x, c.x, p.x),
    y=chosen(b.y, c.y, p.y),
    cos=chosen(box_cos - 1, None, None) + 1,
    sin=chosen(box_sin, None, None),
    half_x=chosen(b.half_x, None, None),
    half_y=chosen(b.half_y, None, None),
    radius=chosen(
      jnp.where(is_there(b), 0.0, -FAR), jnp.where(is_there(c), c.radius, -FAR), jnp.where(is_there(p), wide, -FAR)
    ),
    vx=chosen(None, None, walk[:, 0]),
    vy=chosen(None, None, walk[:, 1]),
    slot=chosen(*jnp.split(jnp.asarray(index[:, None], jnp.float32), sections)),
    curvature=curvature,
    sides=bounds[2:],
    ends=jnp.stack([end_x, end_y, inward * jnp.cos(heading), inward * jnp.sin(heading)]),
  )


def obstacle_gaps(
  obstacles: Obstacles, x: jax.Array, y: jax.Array, time: jax.Array | float
) -> tuple[jax.Array, ...]:
  """Signed distance [N, K] m of points (x, y) [N] to the obstacles, and unit normals (x, y) [N, K] away from them,
  `time` s into the policy step."""
  o = obstacles
  rel_x, rel_y = x[:, None] - (o.x + o.vx * time), y[:, None] - (o.y + o.vy * time)
  distance, grad_x, grad_y = _rounded_box(
    rel_x * o.cos + rel_y * o.sin, rel_y * o.cos - rel_x * o.sin, o.half_x, o.half_y
  )
  return distance - o.radius, grad_x * o.cos - grad_y * o.sin, grad_x * o.sin + grad_y * o.cos


def fence_gaps(obstacles: Obstacles, x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
  """Distance [N] m of points (x, y) [N] to the fence, positive inside, and its unit normals (x, y) [N] inward."""
  # The street's d is the distance across it (scene.to_street), and grows along (-kappa x, 1 - kappa y).
  k = obstacles.curvature
  ax, ay = -k * x, 1 - k * y
  root = jnp.sqrt(ax * ax + ay * ay)
  d = (2 * y - k * (x * x + y * y)) / (1 + root)
  low, high = d - obstacles.sides[0], obstacles.sides[1] - d
  sign = jnp.where(low < high, 1.0, -1.0) / root
  side = jnp.minimum(low, high)
  end_x, end_y, normal_x, normal_y = obstacles.ends
  first = (x - end_x[0]) * normal_x[0] + (y - end_y[0]) * normal_y[0]
  last = (x - end_x[1]) * normal_x[1] + (y - end_y[1]) * normal_y[1]
  end = jnp.minimum(first, last)
  at_end, at_first = end < side, first < last
  return (
    jnp.where(at_end, end, side),
    jnp.where(at_end, jnp.where(at_first, normal_x[0], normal_x[1]), ax * sign),
    jnp.where(at_end, jnp.where(at_first, normal_y[0], normal_y[1]), ay * sign),
  )


def wall_gaps(obstacles: Obstacles, x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
  """Signed distance [N, B] m of points (x, y) [N, B] to the walls, and unit normals (x, y) [N, B] away from them.

  Batches in the last axis only: the grids themselves lie in front (`lanes.Leading`).
  """
  assert obstacles.walls is not None
  walls = obstacles.walls.tree
  num, *shape = walls.distance.shape
  grids = walls.distance.reshape(num, -1)
  # one grid for all, or one for each
  row = np.zeros(1, np.int32) if num == 1 else np.arange(num, dtype=np.int32)
  take = lambda index: grids.at[row, index].get(mode='clip')
  return sampled(take, tuple(shape), (walls.origin[:, 0], walls.origin[:, 1]), walls.cell, x, y)


def wall_gaps_ahead(
  obstacles: Obstacles, x: jax.Array, y: jax.Array, way_x: jax.Array, way_y: jax.Array, reach: float
) -> tuple[jax.Array, ...]:
  """The two places of the walls that a point may run into: distances [N, 2, B] m, and unit normals [N, 2, B].

  x, y, way_x, way_y: [N, B] points and how they move (any length). The first place is the nearest one. The second
  is the nearest one to where the point gets to when it slides `reach` m along the first: the other wall of a
  corner, which a grid of distances does not tell of before it is the nearer one.
  """
  gap, nx, ny = wall_gaps(obstacles, x, y)
  is_left = nx * way_y > ny * way_x
  along_x, along_y = jnp.where(is_left, -ny, ny), jnp.where(is_left, nx, -nx)
  next_x, next_y = x + reach * along_x, y + reach * along_y
  depth, mx, my = wall_gaps(obstacles, next_x, next_y)
  # from that place of the surface to the point
  to_x, to_y = x - (next_x - depth * mx), y - (next_y - depth * my)
  length = jnp.sqrt(jnp.maximum(to_x * to_x + to_y * to_y, 1e-12))
  is_inside = (gap <= 0) | (length < 1e-3)
  pair = lambda first, second: jnp.stack([first, second], 1)
  return (
    # no place is nearer than the nearest: where the grid has no clear normal the second one is not on a surface
    pair(gap, jnp.where(is_inside, FAR, jnp.maximum(length, gap))),
    pair(nx, jnp.where(is_inside, 1.0, to_x / length)),
    pair(ny, jnp.where(is_inside, 0.0, to_y / length)),
  )
