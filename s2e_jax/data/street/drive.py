"""The expert drive of the procedural video: a smooth path that follows the walkable ground round its obstacles."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.ndimage import gaussian_filter1d

from s2e_jax.data.street import things as catalogue
from s2e_jax.data.street import world
from s2e_jax.data.street.things import Thing

ROBOT_RADIUS = 0.3  # m
CLEARANCE = 0.35  # m between robot and obstacle that the path aims at
MIN_CLEARANCE = 0.2  # m; an obstacle that would be passed closer is taken away
MAX_ACCELERATION = 0.5  # m/s^2
MAX_YAW_RATE = 0.55  # rad/s
WALKING_SPEED = 1.0  # m/s of people who cross
# Typical speeds (m/s) by kind of way: how fast one drives can be seen, up to a tenth of a driver's own taste.
CRUISE = {'corridor': 0.8, 'park': 1.0, 'street': 1.25}
_TASTE = 0.1
_PASSING = 0.75  # of the cruise beside obstacles closer than _NARROW metres
_NARROW = 0.7
_HEAD_START = 1.5  # s that people start to cross before the robot has come to rest
_TICK = 0.02  # s of the speed simulation


@dataclasses.dataclass(frozen=True)
class Drive:
  """Stamped poses of the robot origin in the world: stamps [T] s, position [T, 2] m, yaw [T] rad."""

  stamps: np.ndarray
  position: np.ndarray
  yaw: np.ndarray


@dataclasses.dataclass(frozen=True)
class Path:
  """The path as points: along [n] m of path, s [n] m of street, points [n, 2] m, heading [n], curvature [n]."""

  along: np.ndarray
  s: np.ndarray
  points: np.ndarray
  heading: np.ndarray
  curvature: np.ndarray


def plan_path(street: world.Street, obstacles: list[Thing]) -> Path:
  """The path from the start to the end of the view: mid-way, shifted early to the wider side of each obstacle."""
  s = np.arange(world.LEAD_IN - 3.0, street.length - 1.0, world.SPACING)
  low, high = np.full(s.shape, -math.inf), np.full(s.shape, math.inf)
  for thing in obstacles:
    # The constraint holds well before and behind the obstacle, so that smoothing cannot cut the corner.
    near = np.abs(s - thing.s) < thing.radius + 1.6
    aside = thing.radius + ROBOT_RADIUS + CLEARANCE
    if thing.d < 0:
      low[near] = np.maximum(low[near], thing.d + aside)
    else:
      high[near] = np.minimum(high[near], thing.d - aside)
  room = street.half_width - ROBOT_RADIUS
  target = np.clip(np.minimum(np.maximum(0.0, low), high), -room, room)
  d = gaussian_filter1d(target, 1.0 / world.SPACING)
  points = street.place(s, d)
  step = np.diff(points, axis=0)
  along = np.concatenate([[0.0], np.cumsum(np.hypot(*step.T))])
  dx, dy = np.gradient(points[:, 0], along), np.gradient(points[:, 1], along)
  heading = np.unwrap(np.arctan2(dy, dx))
  return Path(along, s, points, heading, np.gradient(heading, along))


def clearance(path: Path, thing: Thing) -> float:
  """Metres between the robot's circle on the path and the circle around a thing that stands still."""
  distance = np.hypot(*(path.points - thing.position).T).min()
  return float(distance) - thing.radius - ROBOT_RADIUS


def _speed_limit(path: Path, cruise: float, obstacles: list[Thing]) -> np.ndarray:
  """Speed [n] (m/s) along the path: slower past near obstacles, and within the limits of turning and braking."""
  limit = np.minimum(cruise, np.maximum(0.35, MAX_YAW_RATE / np.maximum(np.abs(path.curvature), 1e-3)))
  for thing in obstacles:
    room = np.hypot(*(path.points - thing.position).T) - thing.radius - ROBOT_RADIUS
    limit = np.where(room < _NARROW, np.minimum(limit, _PASSING * cruise), limit)
  squared = limit**2
  gain = 2 * MAX_ACCELERATION * np.diff(path.along)
  for i in range(len(squared) - 2, -1, -1):
    squared[i] = min(squared[i], squared[i + 1] + gain[i])
  return np.sqrt(squared)


def follow(
  path: Path,
  cruise: float,
  seconds: float,
  rate: float,
  start: float,
  halts: list[tuple[float, float]],
  speed: float,
  obstacles: list[Thing],
) -> tuple[Drive, list[tuple[float, float]]]:
  """Drives the path for `seconds` and samples it at `rate` Hz.

  start: metres of path at time 0, driven at `speed` m/s. halts: (metres of path, seconds to stand), ascending.
  obstacles: what is passed slowly.
  Returns the drive and the (arrival, departure) times of the halts that were reached.
  """
  limit = _speed_limit(path, cruise, obstacles)
  num_ticks = math.ceil(seconds / _TICK) + 1
  at, left, waiting = start, list(halts), 0.0
  travelled, times = np.empty(num_ticks), []
  for tick in range(num_ticks):
    travelled[tick] = at
    if waiting > 0:
      waiting -= _TICK
      speed = 0.0
      continue
    wish = float(np.interp(at, path.along, limit))
    if left:
      gap = left[0][0] - at
      if gap < 0.01:
        waiting = left.pop(0)[1]
        times.append((tick * _TICK, tick * _TICK + waiting))
        continue
      wish = min(wish, math.sqrt(2 * MAX_ACCELERATION * gap))
    speed = min(wish, speed + MAX_ACCELERATION * _TICK)
    at = min(at + speed * _TICK, path.along[-1])
  stamps = np.arange(round(seconds * rate)) / rate
  at_stamps = np.interp(stamps, np.arange(num_ticks) * _TICK, travelled)
  position = np.stack([np.interp(at_stamps, path.along, path.points[:, i]) for i in range(2)], axis=-1)
  return Drive(stamps, position, np.interp(at_stamps, path.along, path.heading)), times


def _walkers(street: world.Street, seconds: float, rng: np.random.Generator) -> list[Thing]:
  """People who walk along the street, well beside the walkable ground."""
  if street.kind == 'corridor':
    return []
  things = []
  for _ in range(rng.integers(0, 5)):
    e = street.wall_low + 1.0 if street.kind == 'street' else rng.choice([-1, 1]) * (street.half_width + 1.5)
    s, way = rng.uniform(world.LEAD_IN, street.length - 20), rng.choice([-1, 1])
    here, there = street.place(np.array([s, s + way]), np.array([street.side * e] * 2))
    velocity = (there - here) * rng.uniform(0.8, 1.4)
    thing = catalogue.make_thing(street, 'walker', s, street.side * e, catalogue.person_parts(rng), 0.25)
    # Straight walking leaves a curved street soon, so it ends after a few metres.
    stop = float(seconds) if street.layout == 'straight' else 5.0
    things.append(dataclasses.replace(thing, velocity=tuple(velocity), stop=stop))
  return things


def make_drive(seconds: float, rate: float, rng: np.random.Generator) -> tuple[world.Street, list[Thing], Drive]:
  """A street, its things and a drive of `seconds` at `rate` Hz.

  The drive stands still for what it sees: somebody who crosses, or works that close the way.
  """
  street = world.make_street(max(10.0, (1 + _TASTE) * max(CRUISE.values()) * seconds), rng)
  cruise = CRUISE[street.kind] * float(rng.uniform(1 - _TASTE, 1 + _TASTE))
  first = world.LEAD_IN
  reach = first + cruise * seconds
  wanted = ROBOT_RADIUS * 2 + CLEARANCE
  things = catalogue.scatter_obstacles(street, first + 3.5, street.length, wanted, rng)

  # Where the way is barred for a while (a crossing) or for good (works); both are kept clear of obstacles.
  crossings = [s for s in (first + rng.uniform(5, max(6, reach - first)),) if rng.random() < 0.5 and s < reach - 3]
  works = first + 0.75 * (reach - first) if rng.random() < 0.2 else math.inf
  crossings = [s for s in crossings if s < works - 6]
  things = [t for t in things if all(abs(t.s - s) > 4.0 for s in crossings) and t.s < works - 5.0]
  path = plan_path(street, things)
  kept = [t for t in things if clearance(path, t) >= MIN_CLEARANCE]

  # On again as soon as they have stepped aside: what is out of sight cannot be waited for.
  wait = max(0.5, (street.half_width + 1.0) / WALKING_SPEED - _HEAD_START)
  halts = [(float(np.interp(s - 1.9, path.s, path.along)), wait) for s in crossings]
  if works < math.inf:
    halts.append((float(np.interp(works - 1.6, path.s, path.along)), 1e9))
    half = street.half_width - 0.05
    kept.append(catalogue.make_thing(street, 'works', works, 0.0, catalogue.barrier_parts(half), half))
  start = float(np.interp(first, path.s, path.along))
  speed = 0.0 if rng.random() < 0.2 else min(cruise, 0.8)
  drive, times = follow(path, cruise, seconds, rate, start, halts, speed, kept)

  for index, s in enumerate(crossings):
    # From the building's side to the road's; steps off shortly before the robot has come to rest.
    begin = times[index][0] - _HEAD_START if index < len(times) else math.inf
    edge = street.half_width - 0.15
    far = edge if street.kind == 'corridor' else street.half_width + 0.7
    here = catalogue.make_thing(
      street, 'crosser', s, street.side * edge, catalogue.person_parts(rng), 0.25, -math.pi / 2
    )
    there = street.place(np.array(s), np.array(-street.side * far))
    span = there - here.position
    length = float(np.hypot(*span))
    if begin < math.inf:
      here = dataclasses.replace(
        here, velocity=tuple(span / length * WALKING_SPEED), start=begin, stop=begin + length / WALKING_SPEED
      )
    kept.append(here)
  return street, kept + catalogue.scatter_scenery(street, rng) + _walkers(street, seconds, rng), drive
