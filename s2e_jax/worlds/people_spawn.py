"""Where people of a new world stand, and where they want to go."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from s2e_jax.scene import Rounds, Scene, street_heading, to_world
from s2e_jax.worlds import people_parties, people_paths
from s2e_jax.worlds.distance import Outlines, outlines
from s2e_jax.worlds.people_hidden import HidingPlaces, hiding_places
from s2e_jax.worlds.people_state import (
  MAX_SPEED,
  MIN_SPEED,
  NUM_WAYPOINTS,
  People,
  PeopleConfig,
  no_people,
)

_CANDIDATES = 16  # paths proposed per person: whole vector registers
_ALONG_ROUTE = 3  # of them along the robot's route
_KEEP_CLEAR = 1.5  # m around points given by the caller
_OWN = 15  # uniform numbers per person
PATIENT = 1e3  # s


def static_outlines(scene: Scene, num_people: int, height: float = 1.8) -> Outlines:
  """Outlines of everything but people, up to `height` (m)."""
  c = scene.capsules
  rest = Rounds(*(getattr(c, f.name)[2 * num_people :] for f in dataclasses.fields(c)))
  first = scene.boxes.x.shape[0] + scene.cylinders.x.shape[0]
  kind = jnp.concatenate([scene.kind[:first], scene.kind[first + 2 * num_people :]])
  return outlines(dataclasses.replace(scene, capsules=rest, kind=kind), height)


def _lurk(places: HidingPlaces, u: jax.Array, wants: jax.Array) -> tuple[jax.Array, ...]:
  """A hiding place for everybody: path, spot, trigger, tallest height, and whether to take it, each [N, ...].

  u: [N] uniform numbers. wants: [N] bool.
  """
  index = jnp.arange(places.trigger.shape[0])
  noise = (u[:, None] * 61 + 0.618034 * index * (1 + jnp.floor(16 * u[:, None]))) % 1
  best = jnp.argmax(jnp.where(places.is_good, noise, -1.0), axis=-1)
  return (
    places.waypoints[best],
    places.spot[best],
    places.trigger[best],
    places.tallest[best],
    wants & jnp.any(places.is_good),
  )


def spawn_people(
  key: jax.Array,
  scene: Scene,
  num: int,
  count: jax.Array | int,
  keep_clear: jax.Array,
  route: jax.Array | None = None,
  config: PeopleConfig = PeopleConfig(),
) -> People:
  """People on the pavements of one scene, clear of each other, of every object and of given points.

  num: person slots (Slots.people). count: how many are wanted, clipped to num; fewer come where there is no room.
  keep_clear: [M, 2] m, points that nobody spawns within 1.5 m of. route: [L, 2] m, where the robot is going to
  drive, its start first: some step out in front of it (nobody without a route).
  ValueError for a scene with walls, which has no pavements to walk along: use `spawn_among_walls`.
  """
  if scene.walls is not None:
    raise ValueError('spawn_people knows no walls; use spawn_among_walls where scene.walls is not None')
  num_boxes = scene.boxes.x.shape[0]
  per_path = people_paths.NUM_UNIFORMS + 2
  uniforms = jax.random.uniform(key, (num * (_OWN + _CANDIDATES * per_path) + 3 * num_boxes,))
  own = uniforms[: num * _OWN].reshape(num, _OWN)
  u = uniforms[num * _OWN : num * (_OWN + _CANDIDATES * per_path)].reshape(num, _CANDIDATES, per_path)
  ground, k = scene.ground, scene.ground.curvature
  is_counted = jnp.arange(num) < count
  leader, rank, size = people_parties.party_layout(own[:, 0], config.grouped, jnp.asarray(count))
  is_leader = leader == jnp.arange(num)

  # speed, character and body; groups share all but the body
  led = own[leader]
  normal = jax.scipy.special.ndtri(jnp.clip(led[:, 1], 1e-4, 1 - 1e-4))
  # companions walk slower
  speed = jnp.clip(config.speed_mean - 0.08 * (size - 1) + config.speed_std * normal, MIN_SPEED, MAX_SPEED)
  is_standing = led[:, 2] < config.standing
  is_scripted = (led[:, 3] < config.scripted) & ~is_standing
  yields = is_standing | (~is_scripted & (led[:, 4] < config.yielding))
  radius = 0.22 + 0.05 * own[:, 5]
  height = 1.55 + 0.35 * own[:, 6]

  # candidate paths and starts of parties; side by side, or in file where the way is narrow
  is_turning = (led[:, 7] < config.turning)[:, None] & (jnp.arange(_CANDIDATES) < 2 * _CANDIDATES // 3)
  paths = people_paths.propose_paths(ground, u[..., :-2], is_turning)
  if route is not None:
    street, arc = people_paths.route_in_street(ground, route)
    with_robot = people_paths.paths_along_route(street, arc, u[:, -_ALONG_ROUTE:, :-2])
    paths = jnp.concatenate([paths[:, :-_ALONG_ROUTE], with_robot], axis=1)
  shape = static_outlines(scene, num)
  half = jnp.broadcast_to((0.5 * people_parties.SPACING * (size - 1) + 0.3)[:, None], paths.shape[:2])
  share = people_paths.paved_share(ground, paths, half * 0 + 0.3)
  blocked = people_paths.is_blocked(ground, shape, paths, half * 0 + 0.25)
  in_file = jnp.any(people_paths.is_blocked(ground, shape, paths, half - 0.05), axis=-1)
  in_file |= people_paths.paved_share(ground, paths, half) < 0.99
  start, leg, step = people_paths.point_along(paths, k, 0.04 + 0.92 * u[..., -2])
  length = jnp.sum(people_paths.leg_lengths(paths, k), axis=-1)
  spot = jnp.stack(to_world(start[..., 0], start[..., 1], k), axis=-1)
  party = people_parties.Party(size, is_standing, led[:, 9])
  is_free = people_parties.has_room(scene, shape, party, start, step, in_file)
  score = 10 * share - 5 * jnp.sum(blocked, axis=-1) + jnp.minimum(length, 16.0) / 4 + 1.5 * u[..., -1]
  x, y = to_world(paths[:, :, ::5, 0], paths[:, :, ::5, 1], k)
  at_ends = people_paths.nearest_object(shape, jnp.moveaxis(x, -1, 0), jnp.moveaxis(y, -1, 0))
  direct = jnp.hypot(x[..., 1] - x[..., 0], y[..., 1] - y[..., 0])
  detour = length / jnp.maximum(direct, 2.0) - 1
  score = score - 2 * jnp.sum(at_ends < 0.5, axis=0) - 4 * jnp.clip(detour, 0.0, 1.0)
  if route is not None:
    # the robot's route is for where nothing else leads through
    score = score - 1.5 * (jnp.arange(_CANDIDATES) >= _CANDIDATES - _ALONG_ROUTE)

  # one candidate more for those who hide
  wants = (led[:, 11] < config.hidden) & (size == 1) & ~is_standing
  lurking: tuple[jax.Array, ...]
  if route is None or not num_boxes:
    lurking = jnp.zeros((num, NUM_WAYPOINTS, 2)), jnp.zeros((num, 2)), jnp.zeros(num), height, wants & False
  else:
    lurking = _lurk(
      hiding_places(scene, shape, route, uniforms[-3 * num_boxes :].reshape(-1, 3)), own[:, 12], wants
    )
  hidden_path, hidden_spot, trigger, tallest, can_hide = lurking
  spot = jnp.concatenate([spot, hidden_spot[:, None]], axis=1)
  clear = jnp.sqrt(jnp.sum((spot[:, :, None] - keep_clear) ** 2, axis=-1)).min(axis=-1)
  is_free = jnp.concatenate([is_free, can_hide[:, None]], axis=1) & (clear > party.reach[:, None] + _KEEP_CLEAR)
  score = jnp.concatenate([score, jnp.full((num, 1), 100.0)], axis=1)
  best, found = people_parties.choose_places(spot, is_free, score, party.reach, is_leader & is_counted)
  is_hidden = found & (best == _CANDIDATES)

  # everybody follows the leader's choice, side by side
  def of_party(values: jax.Array) -> jax.Array:
    chosen = jnp.arange(_CANDIDATES) == best[:, None]
    picked = jnp.sum(jnp.where(chosen.reshape(chosen.shape + (1,) * (values.ndim - 2)), values, 0), axis=1)
    return picked[leader]

  step, leg, in_file = of_party(step), of_party(leg), of_party(in_file) > 0
  offset = jnp.where(in_file, 0.0, (rank - (size - 1) / 2) * people_parties.SPACING)
  path = people_paths.offset_paths(of_party(paths), offset)
  direction = jnp.where(led[:, 8] < 0.5, 1, -1)
  at = of_party(start)
  at = at + people_parties.place_in_party(party, rank, step, in_file, 1 - k * at[:, 1])
  at = jnp.where(is_hidden[:, None], hidden_path[:, 0], at)
  # a path without length holds those who stand
  path = jnp.where(is_standing[:, None, None], at[:, None], path)
  path = jnp.where(is_hidden[:, None, None], hidden_path, path)
  heading = street_heading(at[:, 0], k)
  c, s = jnp.cos(heading), jnp.sin(heading)
  ahead = jnp.stack([c * step[:, 0] - s * step[:, 1], s * step[:, 0] + c * step[:, 1]], axis=-1)
  speed = jnp.where(is_standing, 0.0, speed)
  velocity = jnp.where(is_hidden, 0.0, direction * speed)[:, None] * ahead
  present = found[leader] & is_counted
  position = jnp.stack(to_world(at[:, 0], at[:, 1], k), axis=-1)
  direction = jnp.where(is_hidden, 1, direction)
  target = jnp.where(is_hidden, 1, jnp.where(direction > 0, leg + 1, leg))
  # some who hide do not wait for the robot
  hidden_wait = jnp.where(own[:, 13] < 0.7, PATIENT, 3.0 + 27.0 * own[:, 14])
  return dataclasses.replace(
    no_people(num),
    position=jnp.where(present[:, None], position, 0.0),
    velocity=jnp.where(present[:, None], velocity, 0.0),
    present=present,
    radius=radius,
    height=jnp.where(is_hidden, jnp.minimum(height, tallest - 0.02), height),
    preferred_speed=speed,
    is_scripted=is_scripted,
    yields=yields,
    group=leader,
    waypoints=path,
    target=target.astype(jnp.int32),
    direction=direction.astype(jnp.int32),
    first=is_hidden.astype(jnp.int32),
    wait=jnp.where(is_hidden, hidden_wait, 0.0),
    trigger=jnp.where(is_hidden, trigger, 0.0),
    clock=100 * own[:, 10],
  )
