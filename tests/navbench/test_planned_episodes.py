import dataclasses
import json

import numpy as np
import pytest

from s2e_jax.navbench.episode_files import read_episodes, write_episodes
from s2e_jax.navbench.episodes import TASKS, Sampling, blocked_share, sample_episodes
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import Maps
from s2e_jax.navbench.occupancy import signed_distance
from s2e_jax.navbench.placed_things import PlacedThing, distance_with, drivable_around, place_things
from s2e_jax.navbench.routes import is_straight_open, length_of, resampled
from s2e_jax.scene import KIND
from s2e_jax.worlds.catalogue import THINGS

RADIUS = 0.35


def drawn_maps(width=20.0, depth=14.0, gap=1.6):
  """A hall with a wall across that leaves one gap."""
  grid = Grid((-4.0, 1.0), 0.1, (round(width / 0.1), round(depth / 0.1)))
  occupied = np.zeros(grid.shape, bool)
  occupied[[0, -1]] = occupied[:, [0, -1]] = True
  middle = grid.shape[0] // 2
  occupied[middle : middle + 2, round(gap / 0.1) + 1 :] = True
  distance = signed_distance(occupied, 0.1)
  drivable = distance > RADIUS
  ground = np.full(grid.shape, 0.25, np.float32)
  return Maps(grid, occupied, distance.astype(np.float32), drivable, ground, np.ones(grid.shape, bool), RADIUS)


@pytest.fixture(scope='module')
def hall():
  return drawn_maps()


@pytest.fixture(scope='module')
def drawn(hall):
  return {task: sample_episodes(hall, task, 8, 3, 'hash') for task in TASKS}


@pytest.mark.parametrize('task', TASKS)
def test_starts_goals_and_ways_lie_on_drivable_ground(hall, drawn, task):
  for episode in drawn[task]:
    ends = np.array([episode.start, *episode.goals])
    assert hall.grid.at(hall.drivable, ends, outside=False).all()
    way = np.array(episode.way)
    np.testing.assert_allclose(way[[0, -1]], ends[[0, -1]], atol=1e-6)
    fine = resampled(way, 0.02)
    with_things = distance_with(hall, episode.things)
    assert (hall.grid.sample(with_things, fine) > RADIUS - 0.02).all()
    assert length_of(way) == pytest.approx(episode.way_length, abs=2e-3)
    assert episode.geodesic_length <= episode.way_length + 1e-6
    legs = len(episode.goals)
    assert 8 * legs * 0.97 <= episode.way_length
    assert episode.geodesic_length <= (28 * legs if task in ('empty', 'pedestrian', 'long') else 45)
    toward = fine[min(60, len(fine) - 1)] - fine[0]
    turn = episode.start_yaw - np.arctan2(toward[1], toward[0])
    assert abs(np.arctan2(np.sin(turn), np.cos(turn))) < 1.0


def test_each_task_holds_what_its_name_says(drawn):
  assert all(not e.things and not e.num_people and len(e.goals) == 1 for e in drawn['empty'])
  assert all(e.things and not e.num_people for e in drawn['obstacle'])
  assert all(not e.things and 2 <= e.num_people <= 6 for e in drawn['pedestrian'])
  assert all(e.things and e.num_people for e in drawn['both'])
  assert all(3 <= len(e.goals) <= 5 for e in drawn['long'])


def test_things_are_of_the_catalogue_near_the_way_and_never_block_it(hall, drawn):
  for episode in drawn['obstacle'] + drawn['both']:
    ends = np.array([episode.start, *episode.goals])
    for thing in episode.things:
      spec = THINGS[thing.thing]
      assert thing.kind == spec.kind and KIND[thing.kind]
      assert spec.half_x[0] - 1e-3 <= thing.half_x <= spec.half_x[1] + 1e-3
      assert (thing.half_y is None) == (spec.half_y is None)
      assert spec.height[0] - 2e-3 <= thing.high - thing.low <= spec.height[1] + 2e-3
      assert thing.low == pytest.approx(0.25)
      assert (thing.distance(ends) > RADIUS + 0.4).all()
      assert (hall.grid.sample(hall.distance, thing.corners()) > 0).all()
    assert drivable_around(hall, distance_with(hall, episode.things), ends) is not None


def test_a_thing_in_the_only_gap_is_not_placed(hall):
  narrow = drawn_maps(gap=1.2)
  middle = narrow.grid.shape[0] // 2 * 0.1 + narrow.grid.origin[0]
  ends = np.array([[middle - 5, 1.7], [middle + 5, 1.7]])
  plug = PlacedThing('barrel', 'barrel', middle, 1.7, 0.0, 0.3, None, 0.0, 0.9)
  assert drivable_around(narrow, distance_with(narrow, []), ends) is not None
  assert drivable_around(narrow, distance_with(narrow, [plug]), ends) is None
  for seed in range(5):
    things = place_things(narrow, resampled(ends, 0.1), ends[1:], 6, np.random.default_rng(seed))
    assert drivable_around(narrow, distance_with(narrow, things), ends) is not None


def test_distances_to_placed_things_are_signed_and_turned():
  box = PlacedThing('bench', 'bench', 1.0, 2.0, np.pi / 2, 1.0, 0.25, 0.0, 0.5)
  points = np.array([[1.0, 2.0], [1.0, 3.5], [2.0, 2.0], [1.25 + 0.3, 3.0 + 0.4]])
  np.testing.assert_allclose(box.distance(points), [-0.25, 0.5, 0.75, 0.5], atol=1e-9)
  np.testing.assert_allclose(np.sort(box.corners()[:, 1]), [1, 1, 3, 3], atol=1e-9)


def test_blocked_lines_are_recorded(hall):
  episodes = sample_episodes(hall, 'empty', 12, 0, sampling=Sampling(min_length=6.0, max_length=14.0))
  for episode in episodes:
    line = is_straight_open(hall.grid, hall.drivable, np.array(episode.start), np.array(episode.goals[0]))
    assert episode.is_straight_blocked == (not line)
  assert 0 < blocked_share(episodes) < 1


def test_the_same_seed_gives_the_same_file_byte_for_byte(hall, drawn, tmp_path):
  paths = []
  for name, episodes in (('a', drawn['both']), ('b', sample_episodes(hall, 'both', 8, 3, 'hash'))):
    (tmp_path / name).mkdir()
    paths.append(
      write_episodes(
        tmp_path / name, 'both', episodes, scene_name='hall', scene_hash='hash', seed=3, robot_radius=RADIUS
      )
    )
  assert paths[0].read_bytes() == paths[1].read_bytes()
  assert sample_episodes(hall, 'both', 3, 3, 'hash') == drawn['both'][:3]
  for other in (sample_episodes(hall, 'both', 8, 4, 'hash'), sample_episodes(hall, 'both', 8, 3, 'other')):
    assert other != drawn['both']


def test_episode_files_come_back_and_other_scenes_are_refused(drawn, tmp_path):
  path = write_episodes(
    tmp_path,
    'both',
    drawn['both'],
    scene_name='hall',
    scene_hash='0123456789abcdef' * 4,
    seed=3,
    robot_radius=RADIUS,
  )
  assert path.name == 'episodes_both.json'
  found = read_episodes(path, '0123456789abcdef' * 4)
  assert found.episodes == tuple(drawn['both'])
  assert (found.task, found.seed, found.robot_radius, found.scene_name) == ('both', 3, RADIUS, 'hall')
  with pytest.raises(ValueError, match=r"scene 'hall' with hash 0123456789abcdef, .* has hash fedcba9876543210"):
    read_episodes(path, 'fedcba9876543210' * 4)
  content = json.loads(path.read_text())
  content['episodes'][0]['num_people'] = 99
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match='was changed after it was written'):
    read_episodes(path)
  content['format_version'] = 7
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match='format_version=7, this program reads 1'):
    read_episodes(path)


def test_lengths_adapt_to_a_small_scene_unless_they_are_given():
  small = drawn_maps(6.0, 4.0)
  episodes = sample_episodes(small, 'empty', 5, 0)
  assert all(2.5 <= episode.geodesic_length <= 9 for episode in episodes)
  with pytest.raises(ValueError, match=r'longest way in the scene is .* pass a smaller min_length'):
    sample_episodes(small, 'empty', 5, 0, sampling=Sampling(min_length=15.0, max_length=30.0))
  tiny = drawn_maps(2.6, 2.4)
  with pytest.raises(ValueError, match=r'longest way in the scene is [0-2]\.'):
    sample_episodes(tiny, 'empty', 1, 0)


def test_wrong_requests_are_refused(hall):
  with pytest.raises(ValueError, match="task='walk' must be one of"):
    sample_episodes(hall, 'walk', 1, 0)
  with pytest.raises(ValueError, match='num=0'):
    sample_episodes(hall, 'empty', 0, 0)
  with pytest.raises(ValueError, match='min_length=9'):
    Sampling(min_length=9.0, max_length=8.0)
  nothing = dataclasses.replace(hall, drivable=np.zeros_like(hall.drivable))
  with pytest.raises(ValueError, match='no cell of the map is drivable'):
    sample_episodes(nothing, 'empty', 1, 0)
