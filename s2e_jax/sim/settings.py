"""Environments from the blocks of a config: `world`, `env`, `picture` and `curriculum` of `configs.common`."""

from __future__ import annotations

import dataclasses
from typing import Any

from s2e_jax.render.render import RenderOptions
from s2e_jax.robots import RobotDescription, robot_description
from s2e_jax.scene import SLOTS
from s2e_jax.sim.batch import UrbanBatch
from s2e_jax.sim.curriculum import Curriculum
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.worlds.generate import WorldConfig, make_generator
from s2e_jax.worlds.people import PeopleConfig


def world_config(block: Any, robot: RobotDescription) -> WorldConfig:
  """The distribution of worlds of a `world` block, for a robot; ValueError for what does not exist or fit."""
  fields = block.to_dict()
  slots = fields.pop('slots')
  if slots not in SLOTS:
    raise ValueError(f'world.slots={slots!r} must be one of {sorted(SLOTS)}')
  return WorldConfig(
    slots=SLOTS[slots],
    layouts=fields.pop('layouts') or None,
    people_config=PeopleConfig(**fields.pop('person')),
    robot_radius=robot.radius,
    mount=robot.mount,
    **fields,
  )


def env_config(block: Any) -> EnvConfig:
  """The rules of an `env` block."""
  fields = block.to_dict()
  return EnvConfig(robot=robot_description(fields.pop('robot')), weights=fields.pop('rewards'), **fields)


def picture_options(block: Any) -> RenderOptions:
  """What the camera of a `picture` block gives."""
  return RenderOptions(**block.to_dict())


def make_env(config: Any, **changes: Any) -> UrbanEnv:
  """One environment of a config with the blocks `world` and `env`, and optionally a `level` (0..1).

  changes: of rules, fields of `EnvConfig`.
  """
  rules = dataclasses.replace(env_config(config.env), **changes)
  generator = make_generator(world_config(config.world, rules.robot))
  return UrbanEnv(generator, rules, config.get('level', 1.0))


def make_curriculum(block: Any) -> Curriculum:
  """The curriculum of a `curriculum` block."""
  return Curriculum(**block.to_dict())


def make_batch(config: Any, num_envs: int, num_history: int = 1, num_devices: int = 1) -> UrbanBatch:
  """`num_envs` environments with pictures, of a config with `world`, `env`, `picture` and maybe `curriculum`."""
  return UrbanBatch(
    make_env(config),
    num_envs,
    picture_options(config.picture),
    num_history,
    curriculum=make_curriculum(config.curriculum) if 'curriculum' in config else None,
    num_devices=num_devices,
  )
