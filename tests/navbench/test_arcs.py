import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.navbench.arcs import Turns, is_drivable, turns_of
from s2e_jax.navbench.episodes import sample_episodes
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import distance_for_contact
from s2e_jax.robots import ROBOTS
from s2e_jax.worlds.turning import turning_at, turning_ways
from tests.navbench.test_planned_episodes import drawn_maps

COCO = ROBOTS['coco']
TURNS = turns_of(COCO)


def corridor(width, length=16.0):
  """Grid and distances (m) of a corridor along x, y = 0 in its middle."""
  grid = Grid((-length / 2, -width / 2 - 1), 0.1, (round(length / 0.1), round(width / 0.1) + 20))
  to_side = width / 2 - np.abs(grid.centres()[..., 1])
  return grid, np.minimum(to_side, length / 2 - np.abs(grid.centres()[..., 0]))


def test_only_who_has_to_drive_to_turn_has_turns():
  assert turns_of(ROBOTS['delivery']) is None and turns_of(ROBOTS['quadruped']) is None
  assert pytest.approx(1 / COCO.curvature) == TURNS.radius and TURNS.half_width == 0.25
  assert pytest.approx(0.125) == TURNS.reach


@pytest.mark.parametrize(('width', 'turns_round'), [(2.0, False), (3.0, False), (4.4, True)])
def test_it_turns_round_where_a_circle_fits_and_nowhere_else(width, turns_round):
  # a circle of 1.39 m and the footprint beside it take 3.6 m
  grid, distance = corridor(width)
  assert is_drivable(grid, distance, (-3.0, 0.0), 0.0, [(4.0, 0.0)], TURNS)
  assert is_drivable(grid, distance, (-3.0, 0.0), 0.0, [(-6.0, 0.0)], TURNS) == turns_round
  assert is_drivable(grid, distance, (-3.0, 0.0), 0.0, [(3.0, 0.0), (-3.0, 0.0)], TURNS) == turns_round


def test_what_is_too_narrow_or_too_far_is_not_drivable():
  grid, distance = corridor(0.7)
  assert not is_drivable(grid, distance, (-3.0, 0.0), 0.0, [(4.0, 0.0)], TURNS)
  grid, distance = corridor(2.0)
  assert not is_drivable(grid, distance, (-3.0, 0.0), 0.0, [(4.0, 0.0)], TURNS, limit=5.0)
  assert not is_drivable(grid, distance, (-3.0, 0.0), 1.5, [(4.0, 0.0)], TURNS)  # looks at the wall
  assert not is_drivable(grid, distance, (-3.0, 0.9), 0.0, [(4.0, 0.0)], TURNS)  # stands in it


@pytest.fixture(scope='module')
def hall():
  maps = drawn_maps(width=11.0, depth=8.0)
  return maps.grid, distance_for_contact(maps)


def random_drives(grid, distance, num, length, seed):
  """(start [3], end [2]) of drives of random arcs that keep clear, with less lock than is searched with."""
  rng, found = np.random.default_rng(seed), []
  while len(found) < num:
    low, high = np.array(grid.origin), np.array(grid.origin) + grid.cell * np.array(grid.shape)
    pose = np.array([*rng.uniform(low, high), rng.uniform(-np.pi, np.pi)])
    trail = [pose]
    for _ in range(int(length / 1.0)):
      curvature = rng.uniform(-0.85, 0.85) / TURNS.radius
      for _ in range(20):
        heading = trail[-1][2] + 0.025 * curvature
        step = [0.05 * np.cos(heading), 0.05 * np.sin(heading), 0.05 * curvature]
        trail.append(trail[-1] + step)
    trail = np.array(trail)
    ahead = TURNS.reach * np.stack([np.cos(trail[:, 2]), np.sin(trail[:, 2])], axis=-1)
    places = np.concatenate([trail[:, :2] + ahead, trail[:, :2] - ahead])
    if (grid.at(distance, places, outside=-1.0) > TURNS.half_width + 0.2).all():
      found.append((pose, trail[-1, :2]))
  return found


def test_where_a_random_drive_leads_the_search_gets_too(hall):
  drives = random_drives(*hall, num=60, length=5.0, seed=0)
  missed = [pose for pose, end in drives if not is_drivable(*hall, pose[:2], pose[2], [end], TURNS)]
  assert len(missed) <= 1, missed


def test_the_experts_own_search_agrees(hall):
  """Two searches, forwards over poses as they are and backwards over a lattice, find the same to be drivable."""
  grid, distance = hall
  rng = np.random.default_rng(1)
  goal = grid.centres(np.argwhere(distance > 1.0)[600])
  search = jax.jit(turning_ways, static_argnames=('curvature', 'radius', 'reach'))
  origin, cell = jnp.asarray(grid.centres(np.zeros(2, int)), jnp.float32), jnp.float32(grid.cell)
  room = {'curvature': 0.9 * COCO.curvature, 'radius': TURNS.half_width + 0.14, 'reach': TURNS.reach}
  field = search(jnp.asarray(distance, jnp.float32), origin, cell, jnp.asarray(goal, jnp.float32), **room)
  cells = np.argwhere(distance > 0.45)
  poses = [(*grid.centres(cells[rng.integers(len(cells))]), rng.uniform(-np.pi, np.pi)) for _ in range(60)]
  ours = np.array([is_drivable(*hall, pose[:2], pose[2], [goal], TURNS) for pose in poses])
  way, share = turning_at(field, *jnp.asarray(poses, jnp.float32).T)
  theirs = np.asarray(share) > 0.5
  assert 0.2 < ours.mean() < 0.98  # both kinds are there
  assert (ours == theirs).mean() > 0.93
  both = ours & theirs
  assert np.asarray(way)[both].min() > 0 and np.asarray(way)[both].max() < 60


def test_episodes_for_such_a_robot_can_be_driven_by_it():
  maps = drawn_maps(width=14.0, depth=9.0, gap=1.2)
  plain = sample_episodes(maps, 'obstacle', 5, 0, 'hash')
  turns = dataclasses.replace(TURNS, radius=2.2)
  turning = sample_episodes(maps, 'obstacle', 5, 0, 'hash', turns=turns)
  contact = distance_for_contact(maps)

  def can_drive(episode):
    distance = contact
    for thing in episode.things:
      distance = np.minimum(distance, thing.distance(maps.grid.centres()))
    return is_drivable(maps.grid, distance, episode.start, episode.start_yaw, episode.goals, turns)

  assert all(can_drive(episode) for episode in turning)
  kept = [a == b for a, b in zip(plain, turning, strict=True)]
  # what could be driven is as it was, the rest was drawn again
  assert kept == [can_drive(episode) for episode in plain] and 0 < sum(kept) < 5


def test_where_nothing_can_be_driven_the_error_says_so():
  wide = Turns(radius=30.0, half_width=0.25, reach=0.1)
  with pytest.raises(ValueError, match="task 'empty': no start and goal"):
    sample_episodes(drawn_maps(width=11.0, depth=8.0), 'empty', 1, 0, 'hash', turns=wide)
