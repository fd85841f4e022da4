"""The command: its config, and bad input that is named before anything is compiled."""

import json
import os
import subprocess
import sys

import pytest

from configs import closedloop
from s2e_jax.contracts import camera_contract
from s2e_jax.evaluate import run_closedloop
from s2e_jax.navbench.policies.registry import by_name
from s2e_jax.robots import ROBOTS
from s2e_jax.sim import settings
from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.worlds.layouts import LAYOUTS


def config_of(arg='smoke', **changes):
  config = closedloop.get_config(arg)
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def save(folder, small_policy, camera):
  """An untrained policy as the best checkpoint of a run that was trained with `camera`."""
  config, variables = small_policy
  size = config.image_height, config.image_width
  contract = camera_contract(*size, config.num_history, 4.0, [camera])
  store = CheckpointStore(folder / 'best', by_metric=True)
  store.save(3, {'policy': variables}, {'policy': config.to_dict(), 'camera_contract': contract}, metric=1.0)
  store.close()
  return folder


@pytest.fixture(scope='module')
def checkpoint(small_policy, tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return save(folder / 'bc', small_policy, ROBOTS['delivery'].mount.camera(32, 48))


def test_the_config_judges_and_does_not_train():
  config = closedloop.get_config('look=C-near,split=test,episodes=500')
  env = settings.make_env(config)
  assert not env.config.end_on_collision and env.config.time_limit == 60.0 and not any(env.config.weights.values())
  worlds = settings.world_config(config.world, env.config.robot)
  assert worlds.look == 'C-near' and worlds.people == (4, 4)
  assert config.num_episodes == 500 and config.split == 'test'
  assert closedloop.get_config().split == 'validation' and closedloop.get_config().world.look == 'B'
  named = [c.name for c in by_name(config.baselines, env.config.robot)]
  assert named == ['straight_to_goal', 'stand_still', 'expert']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'split': 'dev'}, r"split='dev' must be one of"),
    ({'num_episodes': 0}, 'episodes=0 must be at least 1'),
    ({'batch': 0}, 'batch=0 must be at least 1'),
    ({'level': 2.0}, 'level=2.0 must be in 0..1'),
    ({'num_maps': -1}, 'num_maps=-1 must be at least 0'),
    ({'world.look': 'Z'}, "look='Z' must be one of"),
    ({'world.slots': 'huge'}, "world.slots='huge' must be one of"),
    ({'world.people': (40, 40)}, 'raise slots.people'),
    ({'env.robot': 'tank'}, "robot='tank' must be one of"),
    ({'env.end_on_collision': True}, 'judging needs end_on_collision=False'),
    ({'baselines': ('genius',)}, r"baselines=\['genius'\] are unknown: choose from"),
    ({'baselines': ('stand_still', 'stand_still')}, r"\['stand_still'\] are given twice"),
    ({'baselines': ()}, 'nobody to judge'),
    ({'controller.rule': 'pid'}, "controller rule='pid' must be one of"),
    ({'controller.lookahead': 11}, 'lookahead=11 must name one of 10 waypoints'),
  ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    run_closedloop(config_of(**changes), [], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('task', 'people', 'density', 'has_pieces'),
  [('empty', 0, 0.0, False), ('obstacle', 0, 3.0, True), ('pedestrian', 4, 0.0, False), ('both', 4, 3.0, True)],
)
def test_tasks_are_worlds(task, people, density, has_pieces):
  config = closedloop.get_config(f'look=C-near,task={task}')
  worlds = settings.world_config(config.world, ROBOTS['delivery'])
  assert worlds.people == (people, people) and worlds.object_density[1] == density
  drawn = [name for name, weight in worlds.layout_weights.items() if weight > 0]
  blocking = [name for name in drawn if any(layout.pieces for layout in LAYOUTS[name])]
  assert bool(blocking) == has_pieces and drawn


def test_unknown_tasks_are_refused():
  with pytest.raises(
    ValueError, match=r"task='full' must be one of \['both', 'empty', 'obstacle', 'pedestrian'\]"
  ):
    closedloop.get_config('task=full')


def test_unknown_arguments_are_refused():
  with pytest.raises(ValueError, match="unknown config argument 'episode'; did you mean 'episodes'"):
    closedloop.get_config('episode=3')


def test_a_checkpoint_with_another_camera_is_refused_by_name(small_policy, tmp_path):
  high = save(tmp_path / 'high', small_policy, ROBOTS['delivery'].mount.camera(32, 48).__class__(
    32, 48, 20.0, 20.0, 24.0, 16.0, model='pinhole', mount_height=1.6
  ))  # fmt: skip
  with pytest.raises(
    ValueError, match=r"high cannot drive the robot 'delivery': .*mount_height: trained with 1.60"
  ):
    run_closedloop(config_of(), [high], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_checkpoints_of_one_name_or_none_are_refused(checkpoint, tmp_path):
  with pytest.raises(ValueError, match=r"\['bc'\] are given twice: rename a folder"):
    run_closedloop(config_of(), [checkpoint, checkpoint / 'best' / '3'], tmp_path)
  with pytest.raises(ValueError, match='nowhere does not exist'):
    run_closedloop(config_of(), [tmp_path / 'nowhere'], tmp_path)


@pytest.mark.slow
@pytest.mark.process
def test_the_command_writes_what_it_promises(checkpoint, tmp_path, repo):
  command = [sys.executable, '-m', 's2e_jax.evaluate', '--config=configs/closedloop.py:smoke']
  done = subprocess.run(
    [*command, f'--checkpoint={checkpoint}', f'--out={tmp_path}'],
    cwd=repo, env=os.environ | {'PYTHONPATH': str(repo)}, capture_output=True, text=True, timeout=600,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  results = json.loads((tmp_path / 'results.json').read_text())
  assert (tmp_path / 'table.md').read_text() in done.stdout
  assert list(results['policies']) == ['bc', 'straight_to_goal', 'stand_still']
  assert results['policies']['stand_still']['metrics']['success']['value'] == 0
  assert results['checkpoints']['bc']['step'] == 3
  assert len(list((tmp_path / 'maps').glob('*.png'))) == 2
