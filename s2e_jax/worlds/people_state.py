"""The record of the people of one world, how many of what sort there are, and how they enter the scene."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import Rounds, Scene, ground_height, to_street, to_world

NUM_WAYPOINTS = 6  # corners of a person's path
MIN_SPEED, MAX_SPEED = 0.5, 2.0  # m/s, of the speeds that people prefer; nobody ever walks faster


@dataclasses.dataclass(frozen=True)
class PeopleConfig:
  """What sort of people there are; shares are probabilities.

  speed_mean, speed_std: m/s of the normal distribution of preferred speeds, cut to MIN_SPEED..MAX_SPEED.
  scripted: follow their path and step around others late. yielding: of the others, those who make way for the
    robot; the rest treat only a standing robot as an obstacle.
  grouped: that somebody walks or stands together with the one before. standing: groups (and single people) who
    stand, talk and stay. hidden: people who wait behind something beside the robot's route and step out in front
    of it, where the scene has such a place.
  turning: paths that turn a corner, cross a road or take the cross street, where the scene allows one.
  """

  speed_mean: float = 1.45
  speed_std: float = 0.32
  scripted: float = 0.2
  yielding: float = 0.6
  grouped: float = 0.45
  standing: float = 0.12
  hidden: float = 0.15
  turning: float = 0.35

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not field.name.startswith('speed') and not 0 <= value <= 1:
        raise ValueError(f'people.{field.name}={value!r} must be a probability')
    if not MIN_SPEED <= self.speed_mean <= MAX_SPEED:
      raise ValueError(f'people.speed_mean={self.speed_mean!r} must lie in {MIN_SPEED}..{MAX_SPEED} m/s')
    if self.speed_std < 0:
      raise ValueError(f'people.speed_std={self.speed_std!r} must not be negative')


@struct.dataclass
class People:
  """N people of one world; absent ones stand still outside every computation.

  position, velocity: [N, 2] m and m/s in the world; velocity is what brought them here in the last step.
  present: [N] bool. radius, height: [N] m.
  preferred_speed: [N] m/s, 0 for those who stand. is_scripted, yields: [N] bool, see PeopleConfig.
  group: [N] int32, the same for those who are together (the slot of the group's first member).
  waypoints: [N, 6, 2] corners (s, d) of the path in the street frame. target: [N] int32 the corner walked to,
    direction: [N] int32 +1 or -1, first: [N] int32 the corner where one turns round on the way back (the other
    end is the last one).
  wait: [N] s that a person still stands before walking on. trigger: [N] m, a robot nearer than this ends the wait.
  clock: [N] s, own time, begins at random. stuck: [N] s without getting ahead.
  """

  position: jax.Array
  velocity: jax.Array
  present: jax.Array
  radius: jax.Array
  height: jax.Array
  preferred_speed: jax.Array
  is_scripted: jax.Array
  yields: jax.Array
  group: jax.Array
  waypoints: jax.Array
  target: jax.Array
  direction: jax.Array
  first: jax.Array
  wait: jax.Array
  trigger: jax.Array
  clock: jax.Array
  stuck: jax.Array


def no_people(num: int) -> People:
  """A record of `num` slots in which nobody is present."""
  zero, none = jnp.zeros(num), jnp.zeros(num, bool)
  return People(
    position=jnp.zeros((num, 2)),
    velocity=jnp.zeros((num, 2)),
    present=none,
    radius=zero + 0.25,
    height=zero + 1.7,
    preferred_speed=zero,
    is_scripted=none,
    yields=none,
    group=jnp.arange(num),
    waypoints=jnp.zeros((num, NUM_WAYPOINTS, 2)),
    target=jnp.ones(num, jnp.int32),
    direction=jnp.ones(num, jnp.int32),
    first=jnp.zeros(num, jnp.int32),
    wait=zero,
    trigger=zero,
    clock=zero,
    stuck=zero,
  )


def walkers(
  scene: Scene, paths_in_world: jax.Array, speed: float | jax.Array = 1.3, num: int | None = None
) -> People:
  """People who walk up and down given paths: for hand-drawn scenes. They are reactive and yield.

  paths_in_world: [N, L, 2] m, 2 <= L <= 6 corners; everybody starts at the first one, at full speed. speed: [N] or
  one for all (m/s). num: slots, N when None; the others stay absent.
  """
  count, corners, _ = paths_in_world.shape
  num = count if num is None else num
  if not (2 <= corners <= NUM_WAYPOINTS and num >= count):
    raise ValueError(f'{count} paths of {corners} corners do not fit {num} people of 2 to {NUM_WAYPOINTS} corners')
  s, d = to_street(paths_in_world[..., 0], paths_in_world[..., 1], scene.ground.curvature)
  street = jnp.stack([s, d], axis=-1)
  street = jnp.concatenate([jnp.repeat(street[:, :1], NUM_WAYPOINTS - corners, 1), street], axis=1)
  ahead = paths_in_world[:, 1] - paths_in_world[:, 0]
  ahead = ahead / jnp.maximum(jnp.linalg.norm(ahead, axis=-1, keepdims=True), 1e-6)
  speed = jnp.broadcast_to(jnp.asarray(speed, jnp.float32), (count,))
  start = NUM_WAYPOINTS - corners

  def fill(values: jax.Array, empty: jax.Array) -> jax.Array:
    return jnp.concatenate([values.astype(empty.dtype), empty[count:]])

  empty = no_people(num)
  return dataclasses.replace(
    empty,
    position=fill(paths_in_world[:, 0], empty.position),
    velocity=fill(ahead * speed[:, None], empty.velocity),
    present=jnp.arange(num) < count,
    preferred_speed=fill(speed, empty.preferred_speed),
    yields=jnp.arange(num) < count,
    waypoints=fill(street, empty.waypoints),
    target=jnp.full(num, start + 1, jnp.int32),
    first=jnp.full(num, start, jnp.int32),
  )


def place_people(scene: Scene, people: People) -> Scene:
  """`scene` with the bodies and heads of the people in its capsule slots; whoever is absent is empty there.

  Person i is the body in capsule i and the head in capsule N + i. Kinds, colours and all other capsules stay.
  """
  num = people.present.shape[0]
  capsules = scene.capsules
  if capsules.x.shape[0] < 2 * num:
    raise ValueError(f'{num} people do not fit into {capsules.x.shape[0]} capsules: raise slots.people')
  x, y = people.position[:, 0], people.position[:, 1]
  floor = ground_height(scene.ground, *to_street(x, y, scene.ground.curvature))
  top = floor + people.height
  head = 0.065 * people.height
  # the body ends in a cap under the chin
  shoulders = top - 1.75 * head

  def written(old: jax.Array, body: jax.Array, head: jax.Array) -> jax.Array:
    return jnp.concatenate([body, head, old[2 * num :]])

  return dataclasses.replace(
    scene,
    capsules=Rounds(
      x=written(capsules.x, x, x),
      y=written(capsules.y, y, y),
      radius=written(capsules.radius, people.radius, head),
      low=written(capsules.low, floor, top - 2 * head),
      high=written(
        capsules.high, jnp.where(people.present, shoulders, floor), jnp.where(people.present, top, top - 2 * head)
      ),
    ),
  )


def goals_in_world(people: People, scene: Scene) -> jax.Array:
  """[N, 2] m, the corner of the path that everybody walks to now."""
  chosen = jnp.arange(NUM_WAYPOINTS) == people.target[:, None]
  s, d = jnp.sum(jnp.where(chosen[..., None], people.waypoints, 0.0), axis=1).T
  return jnp.stack(to_world(s, d, scene.ground.curvature), axis=-1)
