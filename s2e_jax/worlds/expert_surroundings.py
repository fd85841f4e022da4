"""What the expert sees: things, walls, people and fence around the robot, and the goal's way from every place."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import Ground, Scene, Walls, to_street
from s2e_jax.worlds.distance import FAR, Outlines, outlines
from s2e_jax.worlds.people_state import People
from s2e_jax.worlds.routes import UNREACHABLE, cell_centres, cell_sizes
from s2e_jax.worlds.turning import Turning
from s2e_jax.worlds.walls import seen_from, walls_at

CLOSED = 20.0  # cost of a metre of way in cells where the robot does not fit


@struct.dataclass
class Surroundings:
  """What a robot could run into, relative to where it stands now.

  things: outlines of everything but people; those that cannot be touched lie FAR away.
  person_x, person_y, person_radius, person_vx, person_vy, person_speed: [K].
  s, d: [] street coordinates of the robot. ground: of the scene. goal_x, goal_y: []. walls: of the scene, if any.
  """

  things: Outlines
  person_x: jax.Array
  person_y: jax.Array
  person_radius: jax.Array
  person_vx: jax.Array
  person_vy: jax.Array
  person_speed: jax.Array
  s: jax.Array
  d: jax.Array
  ground: Ground
  goal_x: jax.Array
  goal_y: jax.Array
  walls: Walls | None = None


@struct.dataclass
class Field:
  """Where to go from every cell of the grid of `routes`, all [I, J].

  to_goal: m of least costly way to the goal (`routes.geodesic`). cost: of a metre of way. down_x, down_y: unit
  vector in the world along the way to the goal, 0 where there is none. turning: ways between walls of a robot
  that has to drive to turn, from poses instead of places.
  """

  to_goal: jax.Array
  cost: jax.Array
  down_x: jax.Array
  down_y: jax.Array
  turning: Turning | None = None


def field_of(to_goal: jax.Array, free: jax.Array, ground: Ground) -> Field:
  """The field of a grid of distances (`routes.geodesic`) over a grid of costs (`routes.free_space`)."""
  s, d = cell_centres(ground, to_goal.shape)
  step_s, step_d = cell_sizes(ground, to_goal.shape)

  def slope(before: jax.Array, after: jax.Array, step: jax.Array) -> jax.Array:
    # upwind: towards the lower neighbour, so that nothing behind a wall counts
    drop = (to_goal - jnp.minimum(before, after)) / step
    return jnp.where(drop > 0, jnp.where(after < before, drop, -drop), 0.0)

  wide = jnp.pad(to_goal, 1, constant_values=2 * UNREACHABLE)
  along = slope(wide[:-2, 1:-1], wide[2:, 1:-1], step_s * (1 - ground.curvature * d))
  across = slope(wide[1:-1, :-2], wide[1:-1, 2:], step_d)
  scale = 1 / jnp.maximum(jnp.sqrt(along * along + across * across), 1e-6)
  cos, sin = jnp.cos(ground.curvature * s)[:, None] * scale, jnp.sin(ground.curvature * s)[:, None] * scale
  cost = jnp.where(jnp.isfinite(free), free, CLOSED)
  return Field(to_goal, cost, cos * along - sin * across, sin * along + cos * across)


def surroundings_of(scene: Scene, people: People, goal: jax.Array, pos: jax.Array, height: float) -> Surroundings:
  """What of a scene a robot of this height (m) at pos [2] (m) could run into, the people in it, the goal [2] (m).

  The scene's slots of people (bodies and heads) are left out: people count where `people` says.
  """
  shape = outlines(scene, height)
  num_boxes, first = shape.x.shape[0], scene.cylinders.x.shape[0]
  last = first + 2 * people.present.shape[0]

  def but_people(values: jax.Array) -> jax.Array:
    return jnp.concatenate([values[:first], values[last:]])

  aside = jnp.where(shape.is_solid & ~shape.is_person, 0.0, FAR)
  here = jnp.where(people.present, 0.0, FAR)
  s, d = to_street(pos[0], pos[1], scene.ground.curvature)
  slots_but_people = lambda values: jnp.concatenate([values[:num_boxes], but_people(values[num_boxes:])])
  things = dataclasses.replace(
    shape,
    x=shape.x - pos[0] + aside[:num_boxes],
    y=shape.y - pos[1],
    disc_x=but_people(shape.disc_x - pos[0] + aside[num_boxes:]),
    disc_y=but_people(shape.disc_y - pos[1]),
    radius=but_people(shape.radius),
    is_solid=slots_but_people(shape.is_solid),
    is_person=slots_but_people(shape.is_person),
  )
  return Surroundings(
    things=things,
    person_x=people.position[:, 0] - pos[0] + here,
    person_y=people.position[:, 1] - pos[1],
    person_radius=people.radius,
    person_vx=people.velocity[:, 0],
    person_vy=people.velocity[:, 1],
    person_speed=jnp.linalg.norm(people.velocity, axis=-1),
    s=s,
    d=d,
    ground=scene.ground,
    goal_x=goal[0] - pos[0],
    goal_y=goal[1] - pos[1],
    walls=None if scene.walls is None else seen_from(scene.walls, pos),
  )


def static_clearance(near: Surroundings, x: jax.Array, y: jax.Array) -> jax.Array:
  """Distance [...] (m) of points x, y [...] (relative) to the nearest outline or wall; 0 inside rectangles."""
  things = near.things
  square = jnp.full(x.shape, FAR * FAR)
  for i in range(things.x.shape[0]):
    dx, dy = x - things.x[i], y - things.y[i]
    u = jnp.abs(things.cos[i] * dx + things.sin[i] * dy) - things.half_x[i]
    v = jnp.abs(things.cos[i] * dy - things.sin[i] * dx) - things.half_y[i]
    u, v = jnp.maximum(u, 0), jnp.maximum(v, 0)
    square = jnp.minimum(square, u * u + v * v)
  distance = jnp.sqrt(square)
  for i in range(things.radius.shape[0]):
    dx, dy = x - things.disc_x[i], y - things.disc_y[i]
    distance = jnp.minimum(distance, jnp.sqrt(dx * dx + dy * dy) - things.radius[i])
  return distance if near.walls is None else jnp.minimum(distance, walls_at(near.walls, x, y)[0])


def person_clearance(near: Surroundings, x: jax.Array, y: jax.Array, time: jax.Array, drift: float) -> jax.Array:
  """Distance [...] (m) of points x, y [...] (relative) to the nearest person, `time` (s) from now.

  People grow by `drift` metres for every metre that they are predicted ahead; those who stand do not.
  """
  distance = jnp.full(x.shape, FAR)
  for i in range(near.person_x.shape[0]):
    dx = x - (near.person_x[i] + time * near.person_vx[i])
    dy = y - (near.person_y[i] + time * near.person_vy[i])
    distance = jnp.minimum(
      distance, jnp.sqrt(dx * dx + dy * dy) - near.person_radius[i] - drift * time * near.person_speed[i]
    )
  return distance


def near_street(near: Surroundings, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Street coordinates of relative points to second order in their distance: cheap, exact on straight streets."""
  k = near.ground.curvature
  c, s = jnp.cos(k * near.s), jnp.sin(k * near.s)
  along, across = c * x + s * y, c * y - s * x
  # the parallel of the street through the robot bends with this curvature
  bend = k / (1 - k * near.d)
  return near.s + along / (1 - k * near.d - k * across), near.d + across - 0.5 * bend * along * along


def fence_clearance(near: Surroundings, s: jax.Array, d: jax.Array) -> jax.Array:
  """Distance [...] (m) of street points s, d [...] to the bounds of the world from inside."""
  b = near.ground.bounds
  along = jnp.minimum(s - b[0], b[1] - s) * (1 - near.ground.curvature * d)
  return jnp.minimum(along, jnp.minimum(d - b[2], b[3] - d))


def cells(ground: Ground, grid: tuple[int, ...], s: jax.Array, d: jax.Array) -> jax.Array:
  """Index [...] int32 into a raveled grid of this shape, of the cells that hold street points s, d [...]."""
  step_s, step_d = cell_sizes(ground, grid)
  row = jnp.clip((s - ground.bounds[0]) / step_s, 0, grid[0] - 1).astype(jnp.int32)
  column = jnp.clip((d - ground.bounds[2]) / step_d, 0, grid[1] - 1).astype(jnp.int32)
  return row * grid[1] + column
