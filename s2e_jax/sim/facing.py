"""Starts in front of something: where a robot stands that has run into a thing, or is about to.

Training ends an episode at its first collision, so a policy never sees what the robots of judging see that
touch something and push on. Episodes that begin there show how to come away from it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from s2e_jax.robots import RobotDescription
from s2e_jax.sim.contacts import disc_offsets
from s2e_jax.worlds.distance import clearance, fence_distance
from s2e_jax.worlds.routes import UNREACHABLE, geodesic_at
from s2e_jax.worlds.world import World

NUM_CANDIDATES = 16
SPREAD = 3.0  # m standard deviation of the candidates around the straight line from start to goal
MAX_GAP = 0.3  # m between footprint and thing; half of the starts have none
MAX_ANGLE = math.radians(50)  # that the robot looks off straight at the thing
LEAST_WAY = 4.0  # m to the goal
PERSON_GAP = 0.6  # m to people
_OVERLAP = 0.01  # m that a start may reach into anything


def facing_start(world: World, robot: RobotDescription, key: jax.Array) -> tuple[World, jax.Array]:
  """`world` with its start in front of a thing or wall, turned towards it, and whether it touches it ([] bool).

  Consumes the key. About half of the starts touch, the others are up to MAX_GAP (m) away; the robot looks at most
  MAX_ANGLE off straight at the thing, keeps PERSON_GAP from people and can reach the goal from there. Where none
  of NUM_CANDIDATES places is like that, the world stays as it is.
  """
  scene, start, goal = world.scene, world.start_in_world, world.goal_in_world
  keys = jax.random.split(key, 4)
  u = jax.random.uniform(keys[0], (NUM_CANDIDATES, 1))
  points = start + u * (goal - start) + SPREAD * jax.random.normal(keys[1], (NUM_CANDIDATES, 2))
  gap = jnp.maximum(jax.random.uniform(keys[2], (NUM_CANDIDATES,), minval=-MAX_GAP, maxval=MAX_GAP), 0.0)
  angle = jax.random.uniform(keys[3], (NUM_CANDIDATES,), minval=-MAX_ANGLE, maxval=MAX_ANGLE)

  distance, normal = clearance(scene, points, height=robot.height)
  offsets = jnp.asarray(disc_offsets(robot), jnp.float32)
  radius = robot.footprint.width / 2
  # what is round or has a corner is no nearer than the straight edge that this supposes
  support = radius + jnp.max(offsets) * jnp.cos(angle)
  position = points + (support + gap - distance)[:, None] * normal
  yaw = jnp.arctan2(-normal[:, 1], -normal[:, 0]) + angle

  heading = jnp.stack([jnp.cos(yaw), jnp.sin(yaw)], axis=-1)
  discs = (position[:, None] + offsets[:, None] * heading[:, None]).reshape(-1, 2)
  to_things = clearance(scene, discs, height=robot.height)[0].reshape(NUM_CANDIDATES, -1)
  to_all = clearance(scene, discs, include_people=True, height=robot.height)[0].reshape(NUM_CANDIDATES, -1)
  to_fence = fence_distance(scene.ground, discs)[0].reshape(NUM_CANDIDATES, -1)
  is_clear = jnp.min(jnp.minimum(to_things, to_fence), axis=-1) > radius - _OVERLAP
  is_alone = (jnp.min(to_all, axis=-1) > radius + PERSON_GAP) | jnp.all(to_all == to_things, axis=-1)
  # from a step back, where the robot has room to turn
  way = geodesic_at(world.to_goal, scene.ground, position + (robot.radius - support)[:, None] * normal)
  # the thing that was nearest to a candidate still is
  is_at_it = jnp.min(to_things, axis=-1) < radius + MAX_GAP + 0.1
  is_good = is_clear & is_alone & is_at_it & (way > LEAST_WAY) & (way < UNREACHABLE)

  chosen = (jnp.cumsum(is_good) == 1) & is_good
  pick = lambda values, plain: jnp.where(
    jnp.any(is_good), jnp.sum(jnp.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), values, 0), axis=0), plain
  )
  world = world.replace(
    start_in_world=pick(position, start),
    start_yaw=pick(yaw, world.start_yaw),
    path_length=pick(way, world.path_length),
  )
  return world, jnp.any(chosen & (gap <= 0))
