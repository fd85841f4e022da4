"""Episodes of a splat scene: start, goals and what stands in between, drawn from (scene, task, seed)."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from s2e_jax.navbench.arcs import Turns, is_drivable
from s2e_jax.navbench.maps import Maps, distance_for_contact
from s2e_jax.navbench.placed_things import PlacedThing, distance_with, drivable_around, place_things
from s2e_jax.navbench.routes import (
  RouteGraph,
  distances_from,
  find_route,
  is_straight_open,
  length_of,
  resampled,
  route_graph,
)

TASKS = ('empty', 'obstacle', 'pedestrian', 'both', 'long')
MIN_LENGTH, MAX_LENGTH = 8.0, 28.0  # m of the shortest way from start to goal, where the scene has room
SHORTEST_USEFUL = 3.0  # m: with a goal radius of 1 m, less is no task
_ROOM = 0.15  # m beyond the robot's radius that starts and goals have, where the scene offers it
_MAX_DETOUR = 1.6  # times the way without things
_AROUND = 6.0  # m beside the way within which ways past things are looked for
_TRIES = 60
_MOST_TURNING = 2.0, 10.0  # times the way, and m beyond that, that turns may take
_AREA_PER_PERSON = 12.0  # m^2 of drivable ground, at least: in a narrow flat two people are a crowd

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How episodes are drawn.

  min_length, max_length: m of the shortest way to (the next) goal; None adapts the usual 8 to 28 m to the scene.
  thing_spacing: m of way per thing. people: (least, most). legs: (least, most) goals of `long`. yaw_spread: rad
  that the start may look away from the way, to either side.
  """

  min_length: float | None = None
  max_length: float | None = None
  thing_spacing: float = 3.5
  max_things: int = 8
  people: tuple[int, int] = (2, 6)
  legs: tuple[int, int] = (3, 5)
  yaw_spread: float = 0.5

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    low, high = self.min_length or 0.0, self.max_length or np.inf
    if not 0 <= low < high:
      raise ValueError(f'min_length={self.min_length} must be positive and below max_length={self.max_length}')


@dataclasses.dataclass(frozen=True)
class PlannedEpisode:
  """One episode, in the world. start: (x, y) m. start_yaw: rad. goals: one, or the chain of a `long` episode.

  way: corners (x, y) of a short way past all things with room to their sides, through all goals. way_length: m of
  it. geodesic_length: m of the shortest way. is_straight_blocked: the straight line to some next goal touches
  something or leaves the drivable region. things: what was put there. num_people: who walk about.
  """

  start: Point
  start_yaw: float
  goals: tuple[Point, ...]
  way: tuple[Point, ...]
  way_length: float
  geodesic_length: float
  is_straight_blocked: bool
  things: tuple[PlacedThing, ...] = ()
  num_people: int = 0

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, inverse of `from_dict`."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> PlannedEpisode:
    """Episode from `to_dict`'s form."""
    points = lambda values: tuple((float(x), float(y)) for x, y in values)
    lists = {'goals': points(fields['goals']), 'way': points(fields['way'])}
    things = tuple(PlacedThing(**thing) for thing in fields['things'])
    return cls(**(fields | lists | {'start': points([fields['start']])[0], 'things': things}))


def sample_episodes(
  maps: Maps,
  task: str,
  num: int,
  seed: int,
  scene_hash: str = '',
  sampling: Sampling = Sampling(),
  graph: RouteGraph | None = None,
  turns: Turns | None = None,
) -> list[PlannedEpisode]:
  """`num` episodes of a task; episode i depends on (scene_hash, task, seed, i), the map and the robot only.

  graph: `graph_of(maps)`, where it is there already. turns: of a robot that has to drive to turn; where its arcs
  lead from the start to no goal, another episode is drawn.

  Raises ValueError for an unknown task, and where the scene has no way of the length that is asked for.
  """
  if task not in TASKS:
    raise ValueError(f'task={task!r} must be one of {TASKS}')
  if num < 1:
    raise ValueError(f'num={num} episodes must be at least 1')
  graph = graph_of(maps) if graph is None else graph
  span = leg_span(graph, sampling)
  contact = None if turns is None else distance_for_contact(maps)
  roomy = np.flatnonzero(maps.distance[tuple(graph.cells.T)] > maps.robot_radius + _ROOM)
  starts = roomy if len(roomy) > 50 else np.arange(graph.num)
  episodes = []
  for i in range(num):
    rng = _generator(scene_hash, task, seed, i)
    drawn = (_draw(maps, graph, starts, span, task, sampling, rng) for _ in range(_TRIES))
    fits = lambda e: turns is None or contact is None or _has_arcs(maps, contact, e, turns)
    episode = next((e for e in drawn if e is not None and fits(e)), None)
    if episode is None:
      raise ValueError(
        f'task {task!r}: no start and goal {span[0]:.1f} to {span[1]:.1f} m apart found in {_TRIES} tries on '
        f'{maps.drivable_area:.0f} m^2 of drivable ground: widen min_length and max_length, or take a '
        'smaller robot'
      )
    episodes.append(episode)
  return episodes


def blocked_share(episodes: Sequence[PlannedEpisode]) -> float:
  """Part of the episodes whose goal cannot be reached in a straight line."""
  return float(np.mean([episode.is_straight_blocked for episode in episodes]))


def graph_of(maps: Maps) -> RouteGraph:
  """Ways over the drivable region of maps."""
  return route_graph(maps.grid, maps.drivable, maps.distance, maps.robot_radius)


def leg_span(graph: RouteGraph, sampling: Sampling = Sampling()) -> tuple[float, float]:
  """(least, most) m from start to (the next) goal; what was not asked for adapts to the longest way of the scene.

  Raises ValueError where the scene is too small.
  """
  longest = graph.longest_way
  low = min(MIN_LENGTH, 0.5 * longest) if sampling.min_length is None else sampling.min_length
  high = min(MAX_LENGTH, longest) if sampling.max_length is None else sampling.max_length
  low = min(low, 0.9 * high) if sampling.min_length is None else low
  least = SHORTEST_USEFUL if sampling.min_length is None else low
  if longest < max(least, low) or high <= low:
    raise ValueError(
      f'the longest way in the scene is {longest:.1f} m, episodes of {max(least, low):.1f} to {high:.1f} m do not '
      'fit: pass a smaller min_length, a smaller robot radius, or a scene with more connected ground'
    )
  return low, high


def _has_arcs(maps: Maps, contact: np.ndarray, episode: PlannedEpisode, turns: Turns) -> bool:
  """Whether a robot that has to drive to turn gets to all goals; contact: [nx, ny] of `distance_for_contact`."""
  contact = np.minimum(contact, distance_with(maps, episode.things))
  limit = _MOST_TURNING[0] * episode.way_length + _MOST_TURNING[1]
  return is_drivable(maps.grid, contact, episode.start, episode.start_yaw, episode.goals, turns, limit)


def _generator(scene_hash: str, task: str, seed: int, index: int) -> np.random.Generator:
  digest = hashlib.sha256(f'{scene_hash}/{task}/{seed}/{index}'.encode()).digest()
  return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], 'little')))


def _draw(
  maps: Maps,
  graph: RouteGraph,
  starts: np.ndarray,
  span: tuple[float, float],
  task: str,
  sampling: Sampling,
  rng: np.random.Generator,
) -> PlannedEpisode | None:
  """An episode, or None where this start leads to none."""
  num_legs = int(rng.integers(sampling.legs[0], sampling.legs[1] + 1)) if task == 'long' else 1
  nodes = _chain(graph, starts, span, num_legs, rng)
  way = None if nodes is None else _way_through(graph, nodes, span[1])
  if nodes is None or way is None:
    return None
  things: list[PlacedThing] = []
  if task in ('obstacle', 'both'):
    goals = graph.grid.centres(graph.cells[nodes[1:]])
    num = int(
      np.clip(round(length_of(way) / sampling.thing_spacing * rng.uniform(0.7, 1.3)), 1, sampling.max_things)
    )
    around = maps.window(way.min(axis=0) - _AROUND, way.max(axis=0) + _AROUND)
    things = place_things(around, resampled(way, 0.1), goals, num, rng)
    graph, nodes, way, things = _past_things(around, graph, nodes, way, things)
    if not things:
      return None
  people = 0
  if task in ('pedestrian', 'both'):
    most = min(sampling.people[1], max(1, int(maps.drivable_area / _AREA_PER_PERSON)))
    people = int(rng.integers(min(sampling.people[0], most), most + 1))
  return _planned(graph, nodes, way, things, people, sampling, rng)


def _chain(
  graph: RouteGraph, starts: np.ndarray, span: tuple[float, float], num_legs: int, rng: np.random.Generator
) -> list[int] | None:
  """Nodes of a start and goals, each leg's shortest way within the span, goals away from where one was already."""
  nodes = [int(starts[rng.integers(len(starts))])]
  been = np.full(graph.num, np.inf)
  for _ in range(num_legs):
    away = distances_from(graph, nodes[-1], limit=span[1])
    been = np.minimum(been, away)
    fitting = starts[(away[starts] >= span[0]) & (away[starts] <= span[1])]
    if num_legs > 1 and len(fitting):  # no way straight back, unless the scene is a corridor
      fresh = fitting[been[fitting] >= min(span[0] / 2, float(np.median(been[fitting])))]
      fitting = fresh if len(fresh) else fitting
    if not len(fitting):
      return None
    wanted = rng.uniform(*span)
    nearest = fitting[np.argsort(np.abs(away[fitting] - wanted), kind='stable')[: max(1, len(fitting) // 20)]]
    nodes.append(int(nearest[rng.integers(len(nearest))]))
  return nodes


def _way_through(graph: RouteGraph, nodes: Sequence[int], likely: float = np.inf) -> np.ndarray | None:
  """[W, 2] m corners through all nodes; None where two are not connected."""
  legs = [find_route(graph, a, b, likely) for a, b in itertools.pairwise(nodes)]
  if any(leg is None for leg in legs):
    return None
  whole = [leg if i == 0 else leg[1:] for i, leg in enumerate(legs) if leg is not None]
  return np.concatenate(whole)


def _past_things(
  maps: Maps, graph: RouteGraph, nodes: list[int], way: np.ndarray, things: list[PlacedThing]
) -> tuple[RouteGraph, list[int], np.ndarray, list[PlacedThing]]:
  """Graph, nodes and way with things in place; the last things are taken away while the detour is too long."""
  ends = graph.grid.centres(graph.cells[nodes])
  while things:
    distance = distance_with(maps, things)
    drivable = drivable_around(maps, distance, ends)
    if drivable is not None:
      past = route_graph(maps.grid, drivable, distance, maps.robot_radius)
      past_nodes = [past.nearest_node(end) for end in ends]
      past_way = _way_through(past, past_nodes)
      if past_way is not None and length_of(past_way) <= _MAX_DETOUR * length_of(way):
        return past, past_nodes, past_way, things
    things = things[:-1]
  return graph, nodes, way, []


def _planned(
  graph: RouteGraph,
  nodes: Sequence[int],
  way: np.ndarray,
  things: Sequence[PlacedThing],
  num_people: int,
  sampling: Sampling,
  rng: np.random.Generator,
) -> PlannedEpisode:
  points = graph.grid.centres(graph.cells[list(nodes)])
  ahead = resampled(way, 0.1)[: 1 + round(1.5 / 0.1)]
  to = ahead[-1] - ahead[0]
  yaw = float(np.arctan2(to[1], to[0])) + rng.uniform(-sampling.yaw_spread, sampling.yaw_spread)
  legs = list(itertools.pairwise(points))
  length = length_of(way)
  shortest = sum(float(distances_from(graph, a, 1.1 * length)[b]) for a, b in itertools.pairwise(nodes))
  plain = lambda point: (round(float(point[0]), 3), round(float(point[1]), 3))
  return PlannedEpisode(
    plain(points[0]),
    round(float(np.arctan2(np.sin(yaw), np.cos(yaw))), 3),
    tuple(plain(p) for p in points[1:]),
    tuple(plain(p) for p in way),
    round(length, 3),
    round(min(length, shortest), 3),
    not all(is_straight_open(graph.grid, graph.node >= 0, a, b) for a, b in legs),
    tuple(things),
    num_people,
  )
