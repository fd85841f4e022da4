"""What the robot and its critic know of the state without a camera: one flat vector, named by slices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.geometry import rotate, to_robot_frame
from s2e_jax.scene import Ground, Walls, on_pavement, street_heading, to_street
from s2e_jax.sim.lidar import NUM_SECTORS, sector_clearances
from s2e_jax.sim.pavement import to_pavement_centre
from s2e_jax.structs import Footprint
from s2e_jax.worlds.distance import FAR, Outlines, fence_distance
from s2e_jax.worlds.people import People
from s2e_jax.worlds.routes import geodesic_at

LIDAR_RANGE = 10.0  # m
NUM_PEOPLE_SEEN = 3
ROUTE_RANGE = 40.0  # m of way to the goal at which its entry is 1
_LOOK_AROUND, _NUM_LOOKS = 0.75, 8  # m, directions: where the route's direction is felt for

# Slices of the state vector, in order: name -> number of entries.
LAYOUT = {
  'goal': 3,  # clip(distance, 0.1, 200) / 200, cosine and sine of its bearing; with GPS noise where there is any
  'route': 3,  # way to the goal / 40 m (at most 1), cosine and sine of the bearing in which it shrinks fastest
  'velocity': 3,  # forward and left m/s, rad/s
  'last_command': 2,  # m/s, rad/s
  'clearances': NUM_SECTORS,  # distance / 10 m by sector, counted to the left from straight ahead
  'people': 5 * NUM_PEOPLE_SEEN,  # nearest first: is there, position / 10 m, velocity m/s as seen by the robot
  'pavement': 4,  # way to the middle of the pavement in robot frame / 5 m, share of half its width, is off it
  'street': 2,  # cosine and sine of the street's direction as seen by the robot
  'fence': 3,  # distance / 10 m (at most 1), inward normal in robot frame
}
STATE_SIZE = sum(LAYOUT.values())


@struct.dataclass
class Pose:
  """Where the robot is and how it moves.

  position: [2] m, yaw: [] rad in the world. velocity: [2] m/s forward and left. yaw_rate: [] rad/s.
  """

  position: jax.Array
  yaw: jax.Array
  velocity: jax.Array
  yaw_rate: jax.Array


def goal_features(goal_in_robot: jax.Array) -> jax.Array:
  """[*B, 3] of goals [*B, 2] (m): (clip(d, 0.1, 200) / 200, cos, sin of the bearing), as in S2E's release."""
  d = jnp.linalg.norm(goal_in_robot, axis=-1, keepdims=True)
  unit = goal_in_robot / jnp.maximum(d, 1e-6)
  ahead = jnp.concatenate([jnp.ones_like(d), jnp.zeros_like(d)], axis=-1)
  return jnp.concatenate([jnp.clip(d, 0.1, 200.0) / 200.0, jnp.where(d < 1e-6, ahead, unit)], axis=-1)


def route_features(to_goal: jax.Array, ground: Ground, pose: Pose) -> tuple[jax.Array, jax.Array]:
  """Way [] (m) from here to the goal, and the three entries of 'route'."""
  angles = jnp.arange(_NUM_LOOKS) * (2 * jnp.pi / _NUM_LOOKS)
  around = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
  points = pose.position + _LOOK_AROUND * jnp.concatenate([jnp.zeros((1, 2)), around])
  ways = geodesic_at(to_goal, ground, points)
  weight = jax.nn.softmax((jnp.min(ways[1:]) - ways[1:]) / (0.2 * _LOOK_AROUND))
  bearing = rotate(jnp.sum(weight[:, None] * around, axis=0), -pose.yaw)
  unit = bearing / jnp.maximum(jnp.linalg.norm(bearing), 1e-6)
  return ways[0], jnp.concatenate([jnp.minimum(ways[:1] / ROUTE_RANGE, 1.0), unit])


def people_features(people: People, pose: Pose) -> jax.Array:
  """[15] of the nearest people: is there, position / 10 m, velocity (m/s) as the robot sees it; 0 for nobody."""
  num = people.present.shape[0]
  position = to_robot_frame(people.position, pose.position, pose.yaw)
  velocity = rotate(people.velocity, -pose.yaw) - pose.velocity
  rows = jnp.concatenate([jnp.ones((num, 1)), jnp.clip(position / 10.0, -3.0, 3.0), velocity], axis=-1)
  left = jnp.where(people.present, jnp.linalg.norm(position, axis=-1), jnp.inf)
  seen = []
  for _ in range(min(num, NUM_PEOPLE_SEEN)):
    nearest = (jnp.arange(num) == jnp.argmin(left)) & jnp.isfinite(left)
    seen.append(jnp.sum(jnp.where(nearest[:, None], rows, 0.0), axis=0))
    left = jnp.where(nearest, jnp.inf, left)
  seen += [jnp.zeros(5)] * (NUM_PEOPLE_SEEN - len(seen))
  return jnp.concatenate(seen)


def person_gap(people: People, pose: Pose, footprint: Footprint) -> jax.Array:
  """Distance [] (m) between the robot's outline and the nearest person's; FAR without people."""
  if not people.present.shape[0]:
    return jnp.full((), FAR)
  position = to_robot_frame(people.position, pose.position, pose.yaw)
  outside = jnp.maximum(jnp.abs(position) - jnp.array([footprint.length, footprint.width]) / 2, 0.0)
  gap = jnp.sqrt(jnp.sum(outside * outside, axis=-1)) - people.radius
  return jnp.min(jnp.where(people.present, gap, FAR))


def path_offset(path: jax.Array, position: jax.Array) -> jax.Array:
  """Distance [] (m) from position [2] to the polyline path [L, 2]."""
  start, step = path[:-1], path[1:] - path[:-1]
  along = jnp.sum((position - start) * step, axis=-1) / jnp.maximum(jnp.sum(step * step, axis=-1), 1e-9)
  away = start + jnp.clip(along, 0.0, 1.0)[:, None] * step - position
  return jnp.sqrt(jnp.min(jnp.sum(away * away, axis=-1)))


@struct.dataclass
class Whereabouts:
  """What both rewards and observation need of a pose in a scene.

  way: [] m of way to the goal. route: [3] see LAYOUT. to_centre: [2] m in the world to the pavement's middle.
  share: [] that distance over half its width. is_off: [] bool, beside any pavement. heading: [] rad of the street.
  """

  way: jax.Array
  route: jax.Array
  to_centre: jax.Array
  share: jax.Array
  is_off: jax.Array
  heading: jax.Array


def whereabouts(to_goal: jax.Array, ground: Ground, pose: Pose) -> Whereabouts:
  """The whereabouts of one pose."""
  s, d = to_street(pose.position[0], pose.position[1], ground.curvature)
  heading = street_heading(s, ground.curvature)
  to_centre, share = to_pavement_centre(ground, s, d)
  way, route = route_features(to_goal, ground, pose)
  return Whereabouts(way, route, rotate(to_centre, heading), share, ~on_pavement(ground, s, d), heading)


def state_vector(
  pose: Pose,
  around: Whereabouts,
  goal_in_robot: jax.Array,
  last_command: jax.Array,
  people: People,
  shape: Outlines,
  ground: Ground,
  walls: Walls | None = None,
) -> jax.Array:
  """[STATE_SIZE] float32, the entries of LAYOUT one after another; always finite.

  shape: outlines of the scene with the people in it (`distance.outlines`). walls: of the scene.
  """
  fence, inward = (x[0] for x in fence_distance(ground, pose.position[None]))
  relative = around.heading - pose.yaw
  parts = {
    'goal': goal_features(goal_in_robot),
    'route': around.route,
    'velocity': jnp.concatenate([pose.velocity, pose.yaw_rate[None]]),
    'last_command': last_command,
    'clearances': sector_clearances(shape, pose.position, pose.yaw, LIDAR_RANGE, walls=walls) / LIDAR_RANGE,
    'people': people_features(people, pose),
    'pavement': jnp.concatenate(
      [
        rotate(around.to_centre, -pose.yaw) / 5.0,
        jnp.minimum(around.share, 4.0)[None],
        around.is_off.astype(jnp.float32)[None],
      ]
    ),
    'street': jnp.stack([jnp.cos(relative), jnp.sin(relative)]),
    'fence': jnp.concatenate([jnp.clip(fence / 10.0, -1.0, 1.0)[None], rotate(inward, -pose.yaw)]),
  }
  return jnp.concatenate([parts[name].astype(jnp.float32) for name in LAYOUT])
