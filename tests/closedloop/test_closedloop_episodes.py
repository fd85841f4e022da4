"""The loop that drives episodes to their ends, on a street drawn by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.closedloop import pictures, report, run
from s2e_jax.closedloop.episodes import make_begin, make_drive, see_records
from s2e_jax.closedloop.metrics import CLASSES, episode_metrics
from s2e_jax.closedloop.policies import Contender, Told, expert, goal_seeker, told
from s2e_jax.closedloop.splits import episode_keys
from s2e_jax.controller import CommandLimits
from s2e_jax.render.render import RenderOptions
from s2e_jax.robots import ROBOTS
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import Episode
from s2e_jax.worlds.people import place_people

pytestmark = pytest.mark.usefixtures('compiled_quickly')

NUM, STEPS = 4, 60
FREE, BLOCKED, CAMERA = 0.0, 1.0, -1.0  # see conftest


@pytest.fixture(scope='module')
def drive(street_env, all_in_one, params_of):
  """(share, level, tolerance) -> traces of the same episodes on the host."""
  begin, program = make_begin(street_env), make_drive(street_env, all_in_one)

  def driven(share, level=FREE, tolerance=1e-4, split='validation'):
    keys = episode_keys(split, NUM)
    return jax.device_get(program(params_of(share, tolerance), begin(keys, jnp.float32(level))))

  return driven


@pytest.fixture(scope='module')
def straight(drive):
  return drive(1.0)


@pytest.fixture(scope='module')
def camera(drive):
  return drive(CAMERA)


def test_straight_to_goal_arrives_on_an_empty_street(straight):
  figures = episode_metrics(straight)
  assert straight.has_arrived.all() and (straight.num_steps < STEPS).all()
  assert (figures['success'] == 1).all() and (figures['rc'] == 1).all() and (figures['rc_way'] == 1).all()
  assert not figures['contacts'].any() and not straight.contact.any()
  assert (figures['spl'] > 0.9).all() and (figures['failure'] == CLASSES.index('success')).all()
  for b, n in enumerate(straight.num_steps):
    away = np.linalg.norm(straight.position[b] - straight.goal[b], axis=-1)
    assert away[n] <= 1.0 < away[n - 1]


def test_stand_still_stays_where_it_is_until_the_time_is_up(drive):
  traces = drive(0.0)
  figures = episode_metrics(traces)
  assert (traces.num_steps == STEPS).all() and not traces.has_arrived.any()
  np.testing.assert_array_equal(traces.position, np.repeat(traces.position[:, :1], STEPS + 1, axis=1))
  assert not figures['success'].any() and not figures['rc'].any() and not figures['metres'].any()
  assert (figures['failure'] == CLASSES.index('wrong_stop')).all()


def test_a_box_across_the_way_is_touched_and_does_not_end_the_episode(drive, straight):
  traces = drive(1.0, BLOCKED)
  figures = episode_metrics(traces)
  np.testing.assert_array_equal(traces.position[:, 0], straight.position[:, 0])
  assert (traces.num_steps == STEPS).all() and not figures['success'].any()
  assert (figures['contacts'] >= 1).all() and (figures['contacts_by_robot'] >= 1).all()
  assert not figures['contacts_with_people'].any()
  assert (figures['failure'] == CLASSES.index('collision_stuck')).all()
  assert (figures['rc'] > 0).all() and (figures['rc'] < 1).all()


def test_shapes_are_as_documented(straight):
  assert straight.position.shape == (NUM, STEPS + 1, 2) and straight.command.shape == (NUM, STEPS, 2)
  assert (
    straight.people.shape == (NUM, STEPS + 1, 4, 2) and straight.is_person.tolist() == [[True] + [False] * 3] * NUM
  )
  for name in ('yaw', 'speed', 'way', 'gap'):
    assert getattr(straight, name).shape == (NUM, STEPS + 1)
  for name in ('contact', 'by_robot', 'hit_kind'):
    assert getattr(straight, name).shape == (NUM, STEPS)
  assert straight.path_length.shape == (NUM,) and (straight.layout == -1).all()


def test_an_episode_that_is_over_stays_frozen(straight):
  assert len(set(straight.num_steps.tolist())) > 1  # so that some are frozen while others drive
  for b, n in enumerate(straight.num_steps):
    assert straight.speed[b, n] > 0.5  # it would have rolled on
    for values in (straight.position[b], straight.yaw[b], straight.speed[b], straight.way[b], straight.people[b]):
      np.testing.assert_array_equal(values[n:], np.repeat(values[n : n + 1], STEPS + 1 - n, axis=0))
    assert not straight.command[b, n:].any() and straight.command[b, :n].any()
  walked = straight.people[:, 1:, 0] != straight.people[:, :-1, 0]
  assert walked.any()


def test_pictures_of_those_who_are_done_are_not_wanted(street_env, all_in_one, params_of, straight):
  asked = []

  def see(scenery, episodes, options, senses, wanted):
    jax.debug.callback(lambda mask: asked.append(np.array(mask)), wanted, ordered=True)
    seen = see_records(scenery, episodes, options, senses)
    return dataclasses.replace(seen, rgb=jnp.where(wanted[:, None, None, None], seen.rgb, 255))

  begin, program = make_begin(street_env), make_drive(street_env, all_in_one, see)
  keys = episode_keys('validation', NUM)
  traces = jax.device_get(program(params_of(1.0), begin(keys, jnp.float32(FREE))))
  jax.effects_barrier()
  drives = np.arange(straight.num_steps.max())[:, None] < straight.num_steps
  np.testing.assert_array_equal(asked, drives)
  jax.tree.map(np.testing.assert_array_equal, traces, straight)


def test_the_ring_of_tokens_is_the_stack_of_frames_encoded_anew(drive, camera):
  """The policy under test commands NaN in every step where the two differ."""
  assert not camera.nan_actions.any() and np.abs(camera.command).sum() > 0
  everywhere = drive(CAMERA, tolerance=-1.0)
  np.testing.assert_array_equal(everywhere.nan_actions, everywhere.num_steps)


def test_the_same_keys_and_parameters_give_the_same_table(street_env, all_in_one, params_of, camera, straight):
  contenders = [
    Contender('camera', all_in_one, params_of(CAMERA)),
    Contender('straight', all_in_one, params_of(1.0)),
  ]
  said = []
  keys = episode_keys('validation', 7)
  judged = [run.judge(street_env, contenders, keys, NUM, FREE, said.append) for _ in range(2)]
  tables = [report.table(report.summarise(j.figures, 200)) for j in judged]
  assert tables[0] == tables[1]
  # in chunks, the last one filled up, they are the episodes of the split
  for name, traces in (('camera', camera), ('straight', straight)):
    assert judged[0].traces[name].position.shape[0] == 7
    np.testing.assert_array_equal(judged[0].traces[name].position[:NUM], traces.position)
  assert len(said) == 8 and said[0].startswith('chunk 1/2, camera: ') and 'with compiling' in said[0]
  assert said[3].endswith('about 0 s left')


def test_one_program_serves_all_parameters(street_env, all_in_one, drive, camera, straight):
  assert make_drive(street_env, all_in_one) is make_drive(street_env, all_in_one)
  assert make_drive(street_env, all_in_one)._cache_size() == 1
  assert make_begin(street_env)._cache_size() == 1


def test_splits_are_other_worlds(drive, straight):
  assert (drive(1.0, split='test').position[:, 0] != straight.position[:, 0]).any(-1).all()


def test_a_report_with_maps_and_a_film_is_written(street_env, all_in_one, params_of, tmp_path):
  av = pytest.importorskip('av')
  (tmp_path / 'maps').mkdir()
  (tmp_path / 'maps' / 'episode_9999.png').write_bytes(b'stale')
  contenders = [Contender('one', all_in_one, params_of(1.0)), Contender('two', all_in_one, params_of(0.0))]
  results, judged = run.evaluate_closedloop(
    street_env, contenders, tmp_path, num_episodes=NUM, batch=NUM, level=BLOCKED, num_resamples=50, num_maps=2,
    film=False, settings={'look': 'drawn'}, notes=['A note.'],
  )  # fmt: skip
  text = (tmp_path / 'table.md').read_text()
  assert 'look drawn' in text and '> A note.' in text and '| one |' in text
  assert len((tmp_path / 'episodes.jsonl').read_text().splitlines()) == 2 * NUM
  assert len(list((tmp_path / 'maps').glob('*.png'))) == 2
  assert results['policies']['one']['failures']['collision_stuck'] == NUM
  path = tmp_path / 'film.mp4'
  pictures.side_by_side(
    path, judged.traces, 1, ROBOTS['delivery'].footprint, RenderOptions(24, 48, shadow=False, backend='raycast')
  )
  with av.open(str(path)) as container:
    assert sum(1 for _ in container.decode(video=0)) == STEPS + 1 + 4
  with pytest.raises(ValueError, match='shows two policies, not 1'):
    pictures.side_by_side(path, {'one': judged.traces['one']}, 0, ROBOTS['delivery'].footprint)


def test_people_are_redrawn_where_they_walked(street_env, straight):
  episode = make_begin(street_env)(episode_keys('validation', NUM), jnp.float32(FREE))
  scene, people = jax.tree.map(lambda x: x[0], (episode.world.scene, episode.people))
  later = jnp.asarray(straight.people[0, -1])
  expected = place_people(scene, people.replace(position=later))
  found = pictures.with_people_at(pictures.episode_at(straight, 0).scene, people.position, later)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_policy_without_privileges_is_told_of_nothing_but_the_goal_and_its_own_motion(street_env):
  """That this is what the loop hands to a policy with a camera is asserted in `all_in_one`."""
  episodes = jax.eval_shape(make_begin(street_env), episode_keys('test', 3), jnp.float32(0))
  shown = told(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), episodes))
  assert [f.name for f in dataclasses.fields(shown)] == [
    'goal_in_robot', 'is_first', 'speed', 'yaw_rate', 'goal_picture',
  ]  # fmt: skip
  assert [leaf.shape for leaf in jax.tree.leaves(shown)] == [(3, 2), (3,), (3,), (3,)]


def test_the_expert_fits_the_loop_sees_everything_and_no_pictures(street_env):
  """Traced, not compiled."""
  planner = expert(ROBOTS['delivery'])

  def act(params, memory, shown, pictures):
    assert isinstance(shown, Episode) and pictures is None
    return planner.act(params, memory, shown, pictures)

  episodes = jax.eval_shape(make_begin(street_env), episode_keys('test', 3), jnp.float32(0))
  drive = make_drive(street_env, dataclasses.replace(planner, act=act))
  assert jax.eval_shape(drive, jnp.zeros(()), episodes).position.shape == (3, STEPS + 1, 2)


@pytest.mark.parametrize('change', [{'end_on_collision': True}, {'time_limit': 0.0}, {'action': 'unit'}])
def test_environments_with_other_rules_are_refused(street_env, change):
  env = UrbanEnv(street_env.generator, dataclasses.replace(street_env.config, **change))
  with pytest.raises(ValueError, match='judging needs end_on_collision=False'):
    make_drive(env, goal_seeker(CommandLimits.of(ROBOTS['delivery'])))


def test_the_robot_that_stands_still_stands_whatever_its_limits():
  """A robot without reverse creeps under F_d of a standstill; the baseline must not."""
  seeker = goal_seeker(CommandLimits.of(ROBOTS['coco']))
  shown = Told(jnp.array([[9.0, 2.0], [0.0, 0.0]]), jnp.ones(2, bool), jnp.zeros(2), jnp.zeros(2))
  command, _ = seeker.act(jnp.float32(0.0), jnp.zeros(()), shown, None)
  np.testing.assert_array_equal(command, 0.0)
  command, _ = seeker.act(jnp.float32(1.0), jnp.zeros(()), shown, None)
  assert np.isfinite(command).all() and command[0, 0] > 1.0 and command[0, 1] > 0.1
