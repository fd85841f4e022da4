"""Splat scenes of known geometry: ground, boxes and cylinders covered by flat gaussians, noise and floaters."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from s2e_jax.gaussians import SH_C0, Gaussians


@dataclasses.dataclass(frozen=True)
class Solid:
  """Upright, from the ground to `height` m; half_y None makes a cylinder of radius half_x."""

  x: float
  y: float
  half_x: float
  half_y: float | None
  height: float
  yaw: float = 0.0

  def distance(self, points):
    offset = points - np.array([self.x, self.y])
    if self.half_y is None:
      return np.hypot(*np.moveaxis(offset, -1, 0)) - self.half_x
    cos, sin = np.cos(self.yaw), np.sin(self.yaw)
    u = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - self.half_x
    v = np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - self.half_y
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0)


@dataclasses.dataclass(frozen=True)
class World:
  """solids on a ground of slope (rise per m of x) within low..high m, sampled every `spacing` m."""

  solids: tuple
  low: tuple = (-8.0, -5.0)
  high: tuple = (8.0, 5.0)
  slope: float = 0.0
  spacing: float = 0.08

  def ground(self, points):
    return self.slope * points[..., 0]

  def distance(self, points):
    """m to the nearest solid, negative inside."""
    return np.min([solid.distance(points) for solid in self.solids], axis=0)


def courtyard():
  """A walled court of 16 x 10 m with a wall that leaves a gap, and things of many sizes."""
  walls = [
    Solid(0, 4.75, 7.75, 0.25, 2.5), Solid(0, -4.75, 7.75, 0.25, 2.5),
    Solid(7.5, 0, 0.25, 4.5, 2.5), Solid(-7.5, 0, 0.25, 4.5, 2.5),
    Solid(0.5, -2.0, 0.2, 2.45, 2.2),
  ]  # fmt: skip
  things = [
    Solid(-4, 1.5, 1.0, 0.5, 0.8, 0.5), Solid(4, -2, 0.5, 1.2, 1.4, -0.3), Solid(3, 2.5, 0.8, 0.8, 0.5, 0.8),
    Solid(-5, -2.5, 0.4, None, 1.0), Solid(5.5, 1.0, 0.25, None, 2.0), Solid(-2, -1.0, 0.6, None, 0.6),
  ]  # fmt: skip
  return World(tuple(walls + things))


def splat(world, seed=0, noise=0.012, num_floaters=150, sh_degree=0):
  """Gaussians of a world: every surface but the ground below solids, as a reconstruction would see it."""
  rng = np.random.default_rng(seed)
  parts = [_ground(world, rng)]
  for solid in world.solids:
    parts.append(_box(world, solid, rng) if solid.half_y is not None else _cylinder(world, solid, rng))
  points, normals = (np.concatenate(group) for group in zip(*parts, strict=True))
  num = len(points)
  points = points + noise * rng.normal(size=points.shape)
  normals = normals + 0.08 * rng.normal(size=normals.shape)
  scale = 0.75 * world.spacing * np.exp(0.3 * rng.normal(size=(num, 3)))
  scale[:, 2] *= 0.15
  opacity = np.clip(rng.beta(5, 1.2, num), 0.05, 0.99)
  floaters = rng.uniform((*world.low, -0.5), (*world.high, 2.5), (num_floaters, 3))
  points = np.concatenate([points, floaters])
  normals = np.concatenate([normals, rng.normal(size=(num_floaters, 3))])
  scale = np.concatenate([scale, 0.03 * np.exp(0.4 * rng.normal(size=(num_floaters, 3)))])
  opacity = np.concatenate([opacity, rng.uniform(0.05, 0.5, num_floaters)])
  colour = rng.uniform(0.2, 0.8, (len(points), 3))
  sh = np.concatenate(
    [(colour - 0.5)[:, None] / SH_C0, 0.1 * rng.normal(size=(len(points), (sh_degree + 1) ** 2 - 1, 3))], 1
  )
  as32 = lambda x: np.asarray(x, np.float32)
  return Gaussians(as32(points), as32(scale), as32(_facing(normals, rng)), as32(opacity), as32(sh))


def turned(gaussians, rotation, scale=1.0):
  """The same scene in a file whose axes are turned: p_in_file = scale * rotation @ p."""
  own = Rotation.from_quat(gaussians.rotation[:, [1, 2, 3, 0]])
  quaternion = (Rotation.from_matrix(rotation) * own).as_quat()[:, [3, 0, 1, 2]].astype(np.float32)
  mean = (scale * gaussians.mean @ np.asarray(rotation).T).astype(np.float32)
  return gaussians.replace(mean=mean, scale=gaussians.scale * np.float32(scale), rotation=quaternion)


def _facing(normals, rng):
  """[N, 4] w, x, y, z that turn the z axis to the normals, with a random spin."""
  z = normals / np.linalg.norm(normals, axis=1, keepdims=True)
  x = np.cross(z, rng.normal(size=z.shape))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  matrix = np.stack([x, np.cross(z, x), z], axis=-1)
  return Rotation.from_matrix(matrix).as_quat()[:, [3, 0, 1, 2]]


def _ground(world, rng):
  num = int(np.prod(np.subtract(world.high, world.low)) / world.spacing**2)
  plan = rng.uniform(world.low, world.high, (num, 2))
  plan = plan[world.distance(plan) > 0] if world.solids else plan
  normal = np.array([-world.slope, 0, 1.0])
  return np.column_stack([plan, world.ground(plan)]), np.broadcast_to(normal, (len(plan), 3))


def _box(world, solid, rng):
  half = np.array([solid.half_x, solid.half_y, solid.height / 2])
  points, normals = [], []
  for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1)):
    a, b = (k for k in range(3) if k != axis)
    num = max(4, int(4 * half[a] * half[b] / world.spacing**2))
    face = rng.uniform(-half, half, (num, 3))
    face[:, axis] = sign * half[axis]
    points.append(face)
    normals.append(np.broadcast_to(sign * np.eye(3)[axis], (num, 3)))
  return _placed(world, solid, np.concatenate(points) + [0, 0, half[2]], np.concatenate(normals))


def _cylinder(world, solid, rng):
  num = max(20, int(2 * np.pi * solid.half_x * solid.height / world.spacing**2))
  turn = rng.uniform(0, 2 * np.pi, num)
  side = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(num)])
  points = side * solid.half_x + np.column_stack([np.zeros((num, 2)), rng.uniform(0, solid.height, num)])
  lid = max(10, int(np.pi * solid.half_x**2 / world.spacing**2))
  turn, radius = rng.uniform(0, 2 * np.pi, lid), solid.half_x * np.sqrt(rng.uniform(size=lid))
  top = np.column_stack([radius * np.cos(turn), radius * np.sin(turn), np.full(lid, solid.height)])
  return _placed(
    world, solid, np.concatenate([points, top]), np.concatenate([side, np.tile([0, 0, 1.0], (lid, 1))])
  )


def _placed(world, solid, points, normals):
  turn = Rotation.from_euler('z', solid.yaw)
  foot = world.ground(np.array([solid.x, solid.y]))
  return turn.apply(points) + [solid.x, solid.y, foot], turn.apply(normals)
