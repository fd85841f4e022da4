"""What worlds are asked for, and what the slots of a scene are used for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from s2e_jax.robots import CameraMount
from s2e_jax.scene import SLOTS, Slots
from s2e_jax.worlds.layouts import LAYOUTS, NUM_PIECES
from s2e_jax.worlds.looks import LOOKS, Look
from s2e_jax.worlds.people import PeopleConfig

Range = tuple[float, float]
# A crossing is this wide at most with its pavements, and the way over it begins and ends beside it (m).
_LONGEST_CROSSING = 14.0


@dataclasses.dataclass(frozen=True)
class WorldConfig:
  """Distribution of worlds.

  slots: room of a scene. look: one of `looks.LOOKS`, or a Look of your own. layouts: weights by name; None takes
  the look's own. object_density: obstacles beside the way, per 10 m (low, high). people: number (low, high).
  goal_distance: m of way from the start to the goal (low, high). At curriculum level 0 these three stay at
  `low`, at 1 they reach `high`. start_yaw: rad by which the robot looks off the way at most.
  robot_radius: m of the disc round its footprint. mount: its camera. people_config: what sort of people there are.
  """

  slots: Slots = SLOTS['small']
  look: str | Look = 'B'
  layouts: Mapping[str, float] | None = None
  object_density: Range = (0.5, 3.0)
  people: tuple[int, int] = (0, 4)
  goal_distance: Range = (10.0, 28.0)
  start_yaw: float = 0.4
  robot_radius: float = 0.375
  mount: CameraMount = CameraMount()
  people_config: PeopleConfig = PeopleConfig()

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    if isinstance(self.look, str) and self.look not in LOOKS:
      raise ValueError(f'look={self.look!r} must be one of {sorted(LOOKS)}')
    for name in ('object_density', 'people', 'goal_distance'):
      low, high = getattr(self, name)
      if not 0 <= low <= high:
        raise ValueError(f'{name}={(low, high)} must be (low, high) with 0 <= low <= high')
    known = self.look_distribution.layouts
    unknown = sorted(set(self.layout_weights) - set(LAYOUTS))
    if unknown:
      raise ValueError(f'layouts={unknown} are unknown; known: {sorted(LAYOUTS)}')
    foreign = sorted(set(self.layout_weights) - set(known))
    if foreign:
      raise ValueError(f'layouts={foreign} do not belong to look {self.look!r}, which has {sorted(known)}')
    weights = self.layout_weights.values()
    if min(weights, default=0) < 0 or not sum(weights) > 0:
      raise ValueError(f'layouts={dict(self.layout_weights)} need weights >= 0, one of them > 0')
    if self.goal_distance[0] < 8:
      raise ValueError(
        f'goal_distance={self.goal_distance} must start at 8 m or more: a layout needs that much way'
      )
    if self.layout_weights.get('crossing', 0) > 0 and self.goal_distance[1] < _LONGEST_CROSSING:
      raise ValueError(
        f'goal_distance={self.goal_distance} must reach {_LONGEST_CROSSING} m for the layout crossing: '
        'raise it or leave that layout out'
      )
    if not 0.1 <= self.robot_radius <= 0.6:
      raise ValueError(f'robot_radius={self.robot_radius} must lie in 0.1..0.6 m: pavements are 2.2 m wide')
    if self.people[1] > self.slots.people:
      raise ValueError(f'people={self.people} do not fit {self.slots.people} slots: raise slots.people')
    most, room = self.object_density[1] * self.goal_distance[1] / 10, sum(budget(self.slots).obstacles)
    if most > room:
      raise ValueError(
        f'object_density={self.object_density} asks for up to {most:.1f} obstacles, more than the {room} slots '
        'for them: lower it or raise slots.boxes and slots.cylinders'
      )

  @property
  def look_distribution(self) -> Look:
    """The look itself."""
    return LOOKS[self.look] if isinstance(self.look, str) else self.look

  @property
  def layout_weights(self) -> Mapping[str, float]:
    """Weights by layout."""
    return self.look_distribution.layouts if self.layouts is None else self.layouts


@dataclasses.dataclass(frozen=True)
class Budget:
  """What the slots of a scene are for: boxes of facades, vehicles (two each), pieces and obstacles; cylinders of
  street furniture and obstacles; rounds of tree crowns and bushes on planters.
  """

  facades: int
  vehicles: int
  pieces: int
  box_obstacles: int
  furniture: int
  cylinder_obstacles: int
  crowns: int
  bushes: int

  @property
  def obstacles(self) -> tuple[int, int]:
    """Box and cylinder slots that obstacles may take where a layout has no pieces."""
    return self.pieces + self.box_obstacles, self.cylinder_obstacles


def budget(slots: Slots) -> Budget:
  """How the slots are shared out."""
  vehicles = slots.boxes // 9
  facades = min(round(0.36 * slots.boxes), 16)
  pieces = min(NUM_PIECES if slots.boxes >= 24 else 4, slots.boxes // 3)
  furniture = (slots.cylinders + 1) // 2
  box_obstacles = slots.boxes - facades - 2 * vehicles - pieces
  crowns = min(slots.rounds, furniture)
  bushes = min(slots.rounds - crowns, box_obstacles)
  return Budget(facades, vehicles, pieces, box_obstacles, furniture, slots.cylinders - furniture, crowns, bushes)
