"""Pedestrians: front door of the record, its birth, its motion and its way into the picture.

`spawn_people` puts them on the pavements of a scene, `spawn_among_walls` between walls, `step_people` lets them
walk for one policy step and `place_people` writes their bodies into the scene that is drawn and touched.
"""

from s2e_jax.worlds.people_among_walls import spawn_among_walls
from s2e_jax.worlds.people_spawn import spawn_people
from s2e_jax.worlds.people_state import (
  MAX_SPEED,
  MIN_SPEED,
  People,
  PeopleConfig,
  goals_in_world,
  no_people,
  place_people,
  walkers,
)
from s2e_jax.worlds.people_step import step_people

__all__ = [
  'MAX_SPEED',
  'MIN_SPEED',
  'People',
  'PeopleConfig',
  'goals_in_world',
  'no_people',
  'place_people',
  'spawn_among_walls',
  'spawn_people',
  'step_people',
  'walkers',
]
