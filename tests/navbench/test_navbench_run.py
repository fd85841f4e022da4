"""Whole episodes in a splat scene of known geometry: who arrives, what is seen, and that all of it repeats."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.navbench import get_config
from s2e_jax.closedloop.policies import Contender, DrivingPolicy
from s2e_jax.closedloop.spread import mesh_of
from s2e_jax.navbench import run
from s2e_jax.navbench.command import find_scenes, run_navbench
from s2e_jax.navbench.maps import distance_for_contact
from s2e_jax.navbench.pieces import Part
from s2e_jax.navbench.policies.registry import by_name
from s2e_jax.navbench.prepare import Settings, prepare_gaussians
from s2e_jax.navbench.run import check_files, judge_scenes, on_the_floor
from s2e_jax.navbench.scenery import light_of, make_sceneries
from s2e_jax.navbench.worlds import ROOM, episode_seed, make_begin, plans_of
from s2e_jax.render.render import RenderOptions
from s2e_jax.render.view import View
from s2e_jax.scene import KIND
from s2e_jax.sim import settings as sim_settings
from s2e_jax.sim.env import UrbanEnv
from tests.navbench.procedural_splats import courtyard, splat

pytestmark = pytest.mark.usefixtures('compiled_quickly')

NUM = 3


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
  """Two prepared courtyards; the second is smaller, so that shapes have to be shared."""
  found = []
  small = dataclasses.replace(courtyard(), low=(-8.0, -5.0), high=(8.0, 5.0), spacing=0.12)
  for name, world in (('court', dataclasses.replace(courtyard(), spacing=0.1)), ('coarse', small)):
    settings = Settings(up='z', tasks=('empty', 'both', 'long'), num=NUM)
    source = {'file': f'{name}.ply', 'sha256': name, 'num_dropped': 0}
    folder = tmp_path_factory.mktemp(name)
    found.append(prepare_gaussians(splat(world), folder, name, source, settings, say=lambda line: None)[0])
  return found


@pytest.fixture(scope='module')
def env():
  config = get_config()
  return UrbanEnv(
    lambda key, level: None, dataclasses.replace(sim_settings.env_config(config.env), time_limit=40.0)
  )


def looker():
  """A policy that stands still and remembers the brightest red it has ever seen."""

  def act(params, memory, shown, frames):
    pictures = getattr(frames, 'rgb', frames)
    red = jnp.max(pictures[..., 0].astype(jnp.float32), axis=(1, 2))
    return jnp.zeros((red.shape[0], 2)), jnp.maximum(memory, red)

  return DrivingPolicy(lambda shown: jnp.zeros(shown.is_first.shape), act, RenderOptions(8, 16, shadow=False))


@pytest.fixture(scope='module')
def judged(env, scenes):
  contenders = by_name(('straight_to_goal', 'stand_still', 'expert'), env.config.robot)
  lines = []
  cells = judge_scenes(env, contenders, scenes, ('empty', 'both'), num_episodes=NUM, batch=2, say=lines.append)
  return cells, lines, contenders


def test_the_expert_arrives_and_who_stands_still_does_not(judged):
  cells, _, _ = judged
  assert [(c.scene.name, c.file.task) for c in cells] == [
    (s, t) for s in ('court', 'coarse') for t in ('empty', 'both')
  ]
  success = {
    name: np.concatenate([c.judged.figures[name]['success'] for c in cells]) for name in cells[0].judged.figures
  }
  assert {len(values) for values in success.values()} == {4 * NUM}
  assert success['expert'].mean() >= 0.9
  assert success['stand_still'].sum() == 0
  assert success['straight_to_goal'].mean() < success['expert'].mean()


def test_nobody_gets_into_walls_and_walls_are_what_was_hit(judged):
  for cell in judged[0]:
    truth = cell.scene.maps
    for name, traces in cell.judged.traces.items():
      depth = truth.grid.sample(truth.distance, traces.position.reshape(-1, 2))
      assert depth.min() > 0.1, name  # the robot's middle stays well outside
    blind = cell.judged.traces['straight_to_goal']
    if cell.file.task == 'empty' and blind.contact.any():
      assert set(np.unique(blind.hit_kind[blind.contact])) <= {0, KIND['wall']}


def test_progress_tells_the_time_left(judged):
  lines = judged[1]
  assert len(lines) == 4 * 2 * 3
  assert lines[-1].startswith('24/24 coarse, both, episodes 2 to 2, expert')
  assert 's left' in lines[12] and 's left' not in lines[-1]


def test_judging_again_in_other_batches_gives_the_same_bits(env, scenes, judged):
  cells, _, contenders = judged
  again = judge_scenes(env, contenders, scenes[:1], ('both',), num_episodes=NUM, batch=2, say=lambda line: None)
  for name, traces in again[0].judged.traces.items():
    jax.tree.map(np.testing.assert_array_equal, traces, cells[1].judged.traces[name])


def test_devices_share_a_batch_and_give_the_same_episodes(env, scenes, judged):
  cells, _, contenders = judged
  again = judge_scenes(
    env, contenders[:1], scenes[:1], ('both',), num_episodes=2, batch=2, num_devices=2, say=lambda line: None
  )
  alone = jax.tree.map(lambda x: x[:2], cells[1].judged.traces['straight_to_goal'])
  shared = again[0].judged.traces['straight_to_goal']
  np.testing.assert_array_equal(shared.num_steps, alone.num_steps)
  np.testing.assert_array_equal(shared.contact, alone.contact)
  np.testing.assert_allclose(shared.position, alone.position, atol=1e-3)


def test_what_was_driven_is_kept_and_parts_make_a_whole(env, scenes, judged, tmp_path):
  cells, _, contenders = judged

  def judge(part='', who=contenders[:2], **changes):
    lines = []
    settings = dict(num_episodes=NUM, batch=2, keep_in=tmp_path, part=Part.parse(part), say=lines.append) | changes
    return judge_scenes(env, who, scenes[:1], ('both',), **settings), lines

  found, lines = judge('2/2', contenders[:1])
  assert found is None and len(lines) == 2 and lines[-1].startswith('1/1 court, both, episodes 2 to 2')
  found, lines = judge('1/2', contenders[:1])
  assert found is not None and len(lines) == 2  # the other part was there already
  found, lines = judge()
  assert lines[0] == '4 batches: 2 were driven before, 2 are driven now' and len(lines) == 3
  for name, traces in found[0].judged.traces.items():
    jax.tree.map(np.testing.assert_array_equal, traces, cells[1].judged.traces[name])
  assert judge()[1] == ['4 batches: 4 were driven before, 0 are driven now']
  assert len(judge(who=[dataclasses.replace(contenders[0], identity='another')])[1]) == 2
  # a file that is no archive is driven again, and nothing else is
  (broken,) = tmp_path.glob('court_both/stand_still_002_*.npz')
  broken.write_bytes(broken.read_bytes()[:100])
  assert judge()[1][0] == '4 batches: 3 were driven before, 1 are driven now'
  assert judge()[1] == ['4 batches: 4 were driven before, 0 are driven now']


def test_what_is_kept_is_found_on_any_number_of_devices(env, scenes, judged, tmp_path, monkeypatch):
  cells, _, contenders = judged
  known = cells[1].judged.traces[contenders[0].name]
  monkeypatch.setattr(run, '_make_drive_piece', lambda *given: lambda piece: (known, 'nothing is compiled'))
  lines = []
  for num_devices in (2, 1, 4):
    settings = dict(num_episodes=NUM, batch=NUM, keep_in=tmp_path, num_devices=num_devices, say=lines.append)
    judge_scenes(env, contenders[:1], scenes[:1], ('both',), **settings)
  assert lines[0].startswith('1/1') and lines[1:] == ['1 batches: 1 were driven before, 0 are driven now'] * 2


@pytest.mark.parametrize('text', ['0/2', '3/2', '1', 'a/b', '1/0', '-1/2'])
def test_parts_that_are_none_are_refused(text):
  with pytest.raises(ValueError, match='1 <= NUMBER <= OF, like 1/4'):
    Part.parse(text)


def test_a_part_needs_a_folder_and_devices_must_be_there(env, scenes, judged):
  with pytest.raises(ValueError, match='part=1/2 needs a folder'):
    judge_scenes(env, judged[2], scenes, ('both',), num_episodes=1, part=Part(1, 2))
  with pytest.raises(ValueError, match=r'num_devices=99 must be 1\.\.8'):
    mesh_of(99)


def test_an_episode_is_of_its_scene_task_and_number(scenes):
  file = scenes[0].episodes('both')
  plans = plans_of(file, [2, 0])
  np.testing.assert_array_equal(plans.key[0], episode_seed(file, 2))
  assert not np.array_equal(plans.key[0], plans.key[1])
  assert not np.array_equal(episode_seed(scenes[1].episodes('both'), 0), plans.key[1])
  planned = file.episodes[2]
  boxes = [t for t in planned.things if t.half_y is not None]
  np.testing.assert_allclose(plans.things.boxes.x[0][: len(boxes)], [t.x for t in boxes], rtol=1e-6)
  assert (plans.things.boxes.high[0][len(boxes) :] == 0).all()
  assert plans.num_people[0] == planned.num_people


def test_a_chain_of_goals_is_driven_in_turn(env, scenes):
  contenders = by_name(('stand_still', 'expert'), env.config.robot)
  quick = UrbanEnv(env.generator, dataclasses.replace(env.config, time_limit=30.0))
  (cell,) = judge_scenes(
    quick, contenders, scenes[:1], ('long',), num_episodes=NUM, batch=NUM, say=lambda line: None
  )
  planned = cell.file.episodes
  for name, traces in cell.judged.traces.items():
    assert traces.num_goals.tolist() == [len(e.goals) for e in planned]
    np.testing.assert_allclose(traces.goal, [e.goals[-1] for e in planned], atol=1e-4)
    np.testing.assert_allclose(traces.path_length, [e.geodesic_length for e in planned], rtol=0.15)
    np.testing.assert_allclose(traces.way[:, 0], traces.path_length, rtol=0.02)
    if name == 'stand_still':
      assert traces.goals_reached.tolist() == [0] * NUM
  expert = cell.judged.traces['expert']
  assert expert.has_arrived.mean() > 0.6
  np.testing.assert_array_equal(expert.goals_reached[expert.has_arrived], expert.num_goals[expert.has_arrived])
  for b in np.flatnonzero(expert.has_arrived):
    drive = expert.position[b, : expert.num_steps[b] + 1]
    reached = [int(np.argmax(np.linalg.norm(drive - goal, axis=1) <= 1.0)) for goal in planned[b].goals]
    assert all(np.linalg.norm(drive - goal, axis=1).min() <= 1.0 for goal in planned[b].goals)
    assert reached[-1] > 0
  assert (cell.judged.figures['expert']['rc'] >= cell.judged.figures['stand_still']['rc']).all()


def test_robots_see_the_scene_and_the_things_in_it(env, scenes):
  scenery = jax.tree.map(jnp.asarray, make_sceneries(scenes)[0])
  file = scenes[0].episodes('both')
  episodes, _ = make_begin(env, ROOM)(scenery, jax.tree.map(jnp.asarray, plans_of(file, [0, 1])))
  things = np.asarray(episodes.world.scene.kind) > 0
  assert things.sum() > 0
  # clothes and colours are drawn from the episode's key: not all alike
  assert len(np.unique(np.asarray(episodes.world.scene.colour)[things], axis=0)) > 2
  contender = Contender('looker', looker(), jnp.zeros(()))
  quick = UrbanEnv(lambda key, level: None, dataclasses.replace(env.config, time_limit=0.5))
  cells = judge_scenes(quick, [contender], scenes[:1], ('both',), num_episodes=2, batch=2, say=lambda line: None)
  assert cells[0].judged.traces['looker'].num_steps.tolist() == [2, 2]


def test_cameras_stand_on_the_floor_that_was_scanned(scenes):
  scenery = jax.tree.map(jnp.asarray, make_sceneries(scenes)[0])
  slope = scenery.replace(floor=scenery.floor * 0 + 0.3)
  view = View(jnp.array([[1.0, 2.0, 0.5]]), jnp.zeros(1), jnp.zeros(1), jnp.ones(1))
  np.testing.assert_allclose(on_the_floor(slope, view).position, [[1.0, 2.0, 0.8]], atol=1e-6)


def test_ground_that_was_not_seen_is_no_place_to_go(scenes):
  maps = scenes[0].maps
  distance = distance_for_contact(maps)
  assert (distance[~maps.is_seen & ~maps.occupied] < 0).all()
  assert (distance[maps.drivable] > 0).all()
  assert (distance <= maps.distance + 1e-6).all()
  assert all(np.isfinite(scenery.floor).all() for scenery in make_sceneries(scenes))


def test_a_bright_scene_lights_things_brightly(scenes):
  gaussians = scenes[0].gaussians
  bright = gaussians.replace(sh=gaussians.sh + 0.5)
  assert light_of(bright).exposure > light_of(gaussians).exposure


def test_what_does_not_fit_is_refused_before_anything_runs(env, scenes):
  someone = by_name(('stand_still',), env.config.robot)
  with pytest.raises(ValueError, match='num_episodes=9, but 3 were planned'):
    judge_scenes(env, someone, scenes, ('empty',), num_episodes=9)
  with pytest.raises(ValueError, match='given twice'):
    judge_scenes(env, someone * 2, scenes, ('empty',), num_episodes=1)
  with pytest.raises(ValueError, match='no episodes of task'):
    judge_scenes(env, someone, scenes, ('obstacle',), num_episodes=1)
  wide = dataclasses.replace(scenes[0].episodes('both'), robot_radius=0.1)
  with pytest.raises(ValueError, match=r'planned for a robot of radius 0\.1'):
    check_files(env, [wide], 1, 1)
  with pytest.raises(ValueError, match='0 scenes'):
    make_sceneries([])


def test_the_command_judges_a_checkpoint_and_writes_its_report(scenes, repo, tmp_path):
  config = get_config('smoke').unlock()
  config.scenes = tuple(str(scene.folder) for scene in scenes[:1])
  config.tasks = ('both',)
  config.baselines = ('stand_still',)
  config.env.time_limit = 1.0
  results = run_navbench(config, [repo / 'experiments' / 'shipped' / 'shipped_bc'], tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == {
    'report.html',
    'table.md',
    'results.json',
    'episodes.jsonl',
    'driven',
  }
  rows = [json.loads(line) for line in (tmp_path / 'episodes.jsonl').read_text().splitlines()]
  assert {(row['policy'], row['task'], row['scene']) for row in rows} == {
    ('shipped_bc', 'both', 'court'), ('stand_still', 'both', 'court')
  }  # fmt: skip
  assert len(rows) == 2 * config.num_episodes
  assert results['policies']['shipped_bc']['group'] == 'S2E-BC'
  assert results['settings']['robot'] == 'delivery'
  still = [row for row in rows if row['policy'] == 'stand_still']
  assert all(row['success'] == 0 and row['metres'] < 0.05 for row in still)


def test_scenes_are_found_or_named_in_the_error(scenes, tmp_path):
  settings = Settings(tasks=('empty',), num=1)
  folder = str(scenes[0].folder)
  found, lights = find_scenes((folder,), (), tmp_path, settings)
  assert [scene.hash for scene in found] == [scenes[0].hash] and lights == {}
  with pytest.raises(ValueError, match='given twice'):
    find_scenes((folder, folder), (), tmp_path, settings)
  with pytest.raises(ValueError, match='do not come with the package'):
    find_scenes((), ('moonbase',), tmp_path, settings)
