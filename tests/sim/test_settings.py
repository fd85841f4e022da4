"""Config blocks and the records they stand for have the same leaves and the same defaults."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from configs import common
from s2e_jax.robots import ROBOTS
from s2e_jax.scene import SLOTS
from s2e_jax.sim import settings
from s2e_jax.sim.curriculum import Curriculum
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.rewards import DEFAULT_WEIGHTS


def test_the_blocks_hold_the_defaults_of_the_code():
  assert common.env_block().rewards.to_dict() == DEFAULT_WEIGHTS
  assert settings.env_config(common.env_block()) == EnvConfig()
  assert settings.make_curriculum(common.curriculum_block()) == Curriculum()
  world = settings.world_config(common.world_block('B'), ROBOTS['delivery'])
  default = type(world)()
  for field in dataclasses.fields(world):
    if field.name not in ('robot_radius', 'mount'):
      assert getattr(world, field.name) == getattr(default, field.name), field.name
  assert world.robot_radius == ROBOTS['delivery'].radius and world.slots == SLOTS['small']


def test_a_batch_is_made_of_its_blocks():
  config = ConfigDict(
    dict(
      world=common.world_block('A'),
      env=common.env_block('quadruped'),
      picture=common.picture_block(24, 40),
      curriculum=common.curriculum_block(),
    )
  )
  config.env.rewards.arrival = 3.0
  config.curriculum.start = 0.25
  batch = settings.make_batch(config, 6, num_history=3)
  assert batch.num_envs == 6 and batch.observation_size['frames'] == (3, 24, 40, 3)
  assert batch.env.config.robot.name == 'quadruped' and batch.env.config.weights['arrival'] == 3.0
  assert batch.curriculum == Curriculum(start=0.25)


@pytest.mark.parametrize(
  ('leaf', 'value', 'message'),
  [
    ('world.slots', 'vast', 'world.slots='),
    ('world.look', 'D', 'look='),
    ('world.people', (0, 9), 'people='),
    ('env.robot', 'tank', 'robot='),
    ('env.action', 'torque', 'action='),
    ('env.rewards', {'arival': 1.0}, 'arrival'),
    ('picture.height', 0, 'height=0'),
  ],
)
def test_a_bad_leaf_is_named_before_anything_is_compiled(leaf, value, message):
  config = ConfigDict(dict(world=common.world_block(), env=common.env_block(), picture=common.picture_block()))
  block, name = leaf.split('.')
  config[block][name] = value
  with pytest.raises(ValueError, match=message):
    settings.make_batch(config, 2)
