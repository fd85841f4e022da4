"""How one person chooses a velocity: look around for the most direct free way, keep apart, never run into things.

The choice of heading and speed is the visual heuristic of Moussaid, Helbing and Theraulaz (PNAS 2011): of several
headings take the one that leads closest to the aim before the first collision, and walk no faster than allows to
stop in time. A social force (Helbing and Molnar 1995) keeps people apart; barriers at the level of velocities make
contact impossible.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from s2e_jax.scene import Ground, on_pavement
from s2e_jax.worlds.distance import Outlines

# Headings considered, rad left of the way to the aim. 16 of them fill whole vector registers.
HEADINGS = tuple(
  math.radians(a) for a in (0, -7, 7, -15, 15, -24, 24, -35, 35, -48, 48, -66, 66, -90, 90, 180)
)  # fmt: skip
HORIZON, SHORT_HORIZON = 6.0, 1.2  # m that reactive and inattentive people look ahead
STOPPING_TIME = 0.7  # s, walk no faster than free distance over this
SPACE = 0.35  # m kept free when planning around somebody, WALL_SPACE around something
WALL_SPACE = 0.2
OFF_PAVEMENT = 0.25  # price of a heading that leaves the pavement, in units of turning by 90 degrees
TIGHT = 0.5  # price of a way that ends at once; none of one that is free for 1 m
SIDEWAYS = 0.05  # price of turning away by 90 degrees
INERTIA = 0.1  # gain of going on as before, per m/s
RIGHT_HAND = 0.01  # price of passing on the left, so that two who meet do not dodge to the same side
BRAKING = 2.5  # m/s^2 that barriers reckon with
FREE = 1e3  # m or s, of a way that nothing blocks
_TOUCH = 0.01


def free_way_past_objects(shape: Outlines, position: jax.Array, heading: jax.Array, reach: jax.Array) -> jax.Array:
  """Metres [N, K] from position [N, 2] along unit headings [N, K, 2] to the first object; FREE when there is none.

  Objects are grown by reach [N] (m), but never so far that they hold the person already.
  """
  ex, ey = heading[..., 0], heading[..., 1]
  # objects lead, so that the minimum runs over a major axis and everything else is one plain loop
  dx, dy = position[:, 0] - shape.x[:, None], position[:, 1] - shape.y[:, None]
  cos, sin = shape.cos[:, None], shape.sin[:, None]
  u, v = cos * dx + sin * dy, cos * dy - sin * dx
  gap = jnp.maximum(jnp.abs(u) - shape.half_x[:, None], jnp.abs(v) - shape.half_y[:, None])
  grow = jnp.minimum(reach, gap - _TOUCH)
  num_boxes = shape.x.shape[0]
  # a box that is not there gets a negative side, which nothing hits
  half_u = jnp.where(shape.is_solid[:num_boxes, None], shape.half_x[:, None] + grow, -1.0)
  half_v = shape.half_y[:, None] + grow
  eu = cos[..., None] * ex + sin[..., None] * ey
  ev = cos[..., None] * ey - sin[..., None] * ex
  per_u = 1 / jnp.where(jnp.abs(eu) < 1e-5, 1e-5, eu)
  per_v = 1 / jnp.where(jnp.abs(ev) < 1e-5, 1e-5, ev)
  mid_u, mid_v = -u[..., None] * per_u, -v[..., None] * per_v
  wide_u, wide_v = half_u[..., None] * jnp.abs(per_u), half_v[..., None] * jnp.abs(per_v)
  near = jnp.maximum(mid_u - wide_u, mid_v - wide_v)
  far = jnp.minimum(mid_u + wide_u, mid_v + wide_v)
  hit = (near < far) & (far > 0)
  way = jnp.min(jnp.where(hit, jnp.maximum(near, 0.0), FREE), axis=0, initial=FREE)
  discs = jnp.stack([shape.disc_x, shape.disc_y], axis=-1)
  is_there = shape.is_solid[num_boxes:, None]
  reach = shape.radius[:, None] + reach
  return jnp.minimum(way, time_to_discs(discs, jnp.zeros_like(discs), reach, is_there, position, heading))


def time_to_discs(
  centre: jax.Array, velocity: jax.Array, reach: jax.Array, counts: jax.Array, position: jax.Array, walk: jax.Array
) -> jax.Array:
  """Seconds [N, K] until a point at position [N, 2] with velocity walk [N, K, 2] meets a moving disc, or FREE.

  centre, velocity: [M, 2]. reach: [M, N] m, radius of the disc grown by the body; reduced where they overlap
  already. counts: [M, N] bool (or [M, 1]).
  """
  rx, ry = centre[:, 0, None] - position[:, 0], centre[:, 1, None] - position[:, 1]
  square = rx * rx + ry * ry
  reach = jnp.minimum(reach, jnp.sqrt(square) - _TOUCH)
  c = jnp.where(counts, square - reach * reach, 1e6)
  wx = walk[..., 0] - velocity[:, 0, None, None]
  wy = walk[..., 1] - velocity[:, 1, None, None]
  a = wx * wx + wy * wy + 1e-9
  b = rx[..., None] * wx + ry[..., None] * wy
  root = b * b - a * c[..., None]
  hit = (root > 0) & (b > 0)
  time = (b - jnp.sqrt(jnp.maximum(root, 0.0))) / a
  return jnp.min(jnp.where(hit, jnp.maximum(time, 0.0), FREE), axis=0, initial=FREE)


def headings_around(aim: jax.Array) -> jax.Array:
  """Unit vectors [N, K, 2]: aim [N, 2] turned by HEADINGS."""
  c, s = jnp.array([math.cos(a) for a in HEADINGS]), jnp.array([math.sin(a) for a in HEADINGS])
  ax, ay = aim[:, :1], aim[:, 1:]
  return jnp.stack([c * ax - s * ay, s * ax + c * ay], axis=-1)


def leaves_pavement(ground: Ground, s: jax.Array, d: jax.Array, heading: jax.Array, ahead: float) -> jax.Array:
  """[N, K] bool: a person now on the pavement at (s, d) [N] is off it or out of the world `ahead` m on."""
  k = ground.curvature
  c, w = jnp.cos(k * s)[:, None], jnp.sin(k * s)[:, None]
  next_s = s[:, None] + ahead * (c * heading[..., 0] + w * heading[..., 1]) / (1 - k * d)[:, None]
  next_d = d[:, None] + ahead * (c * heading[..., 1] - w * heading[..., 0])
  b = ground.bounds
  outside = (next_s < b[0]) | (next_s > b[1]) | (next_d < b[2]) | (next_d > b[3])
  return (~on_pavement(ground, next_s, next_d) & on_pavement(ground, s, d)[:, None]) | outside


def choose_heading(
  way: jax.Array, off: jax.Array, heading: jax.Array, velocity: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The best of headings [N, K, 2], the speed [N] (m/s) at which one can stop in time, and the share of the
  preferred speed [N] at which one walks so far aside.

  way: [N, K] m free. off: [N, K] bool, leaves the pavement. velocity: [N, 2] m/s, to hold on to a decision.
  """
  cos = jnp.array([math.cos(a) for a in HEADINGS])
  aside = jnp.array([RIGHT_HAND * (a > 0) + SIDEWAYS * (1 - math.cos(a)) for a in HEADINGS])
  f = jnp.minimum(way / HORIZON, 1.0)
  # squared distance to an aim at the horizon from the best place on the way, in units of the horizon; a way that
  # ends at once is worse than one to the side, or people would stop in front of things
  t = jnp.minimum(jnp.maximum(cos, 0.0), f)
  cost = 1 + t * t - 2 * t * cos + TIGHT * jnp.maximum(1 - way, 0.0) + OFF_PAVEMENT * off + aside
  agree = heading[..., 0] * velocity[:, :1] + heading[..., 1] * velocity[:, 1:]
  cost = cost - INERTIA * agree
  chosen = jnp.arange(len(HEADINGS)) == jnp.argmin(cost, axis=-1)[:, None]
  pace = jnp.array([min(max(math.cos(a) + 0.5, 0.4), 1.0) for a in HEADINGS])
  best = jnp.sum(jnp.where(chosen[..., None], heading, 0.0), axis=1)
  speed = jnp.sum(jnp.where(chosen, f * HORIZON / STOPPING_TIME, 0.0), axis=-1)
  return best, speed, jnp.sum(jnp.where(chosen, pace, 0.0), axis=-1)


def social_force(
  position: jax.Array, reach: jax.Array, other: jax.Array, counts: jax.Array, ahead: jax.Array
) -> jax.Array:
  """Velocity [N, 2] (m/s) by which people want to get away from others [M, 2] close by, less from those behind.

  reach: [N, M] m, sum of the radii. counts: [N, M] bool. ahead: [N, 2] unit vector of walking (0 when standing).
  """
  apart = position[:, None] - other
  distance = jnp.sqrt(jnp.sum(apart * apart, axis=-1) + 1e-6)
  away = apart / distance[..., None]
  in_front = -jnp.sum(away * ahead[:, None], axis=-1)
  strength = 0.5 * jnp.exp((reach - distance) / 0.25) * (0.3 + 0.35 * (1 + in_front))
  return jnp.sum(jnp.where(counts, jnp.minimum(strength, 0.8), 0.0)[..., None] * away, axis=1)


def safe_approach(gap: jax.Array, dt: float) -> jax.Array:
  """Speed (m/s) towards something `gap` (m) away from which BRAKING still stops in front of it, step by step."""
  half = 0.5 * BRAKING * dt
  stopping = jnp.sqrt(half * half + 2 * BRAKING * jnp.maximum(gap, 0.0)) - half
  # out of it again at no more than 1 m/s
  return jnp.maximum(jnp.minimum(stopping, gap / dt), -1.0)


def obey_barriers(velocity: jax.Array, normal: jax.Array, allowed: jax.Array, rounds: int = 3) -> jax.Array:
  """Velocity [N, 2] near the given one that approaches no object faster than allowed [N, M] (m/s).

  normal: [N, M, 2] away from the objects. The worst object is put right first; what is left over in the end slows
  the person down, so that the result holds for every object with allowed >= 0.
  """
  nx, ny = normal[..., 0], normal[..., 1]
  vx, vy = velocity[:, 0], velocity[:, 1]
  for _ in range(rounds):
    excess = -(vx[:, None] * nx + vy[:, None] * ny) - allowed
    worst = jnp.maximum(jnp.max(excess, axis=-1), 0.0)
    is_worst = (excess >= worst[:, None]) & (worst > 0)[:, None]
    share = jnp.where(is_worst, worst[:, None], 0.0) / jnp.maximum(jnp.sum(is_worst, axis=-1), 1)[:, None]
    vx, vy = vx + jnp.sum(share * nx, axis=-1), vy + jnp.sum(share * ny, axis=-1)
  approach = -(vx[:, None] * nx + vy[:, None] * ny)
  limit = jnp.maximum(allowed, 0.0)
  scale = jnp.min(jnp.where(approach > limit, limit / jnp.maximum(approach, 1e-6), 1.0), axis=-1)
  return jnp.stack([vx * scale, vy * scale], axis=-1)
