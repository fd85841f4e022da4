"""Judging benchmarks: a batch of episodes in a splat scene, driven to their ends."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from configs.navbench import get_config
from experiments.bench.timing import Row, interleaved
from s2e_jax.closedloop.episodes import make_drive
from s2e_jax.navbench.command import find_scenes, no_world
from s2e_jax.navbench.policies.registry import make_contenders
from s2e_jax.navbench.prepare import Settings
from s2e_jax.navbench.run import see_splats
from s2e_jax.navbench.scenery import make_sceneries
from s2e_jax.navbench.worlds import ROOM, make_begin, plans_of
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.settings import env_config

_SHIPPED = Path(__file__).resolve().parent.parent / 'shipped' / 'shipped_full'
_SCENE, _TASK, _NUM = 'plaza', 'pedestrian', 8


def splat_judging() -> Row:
  """Episodes of the finetuned policy that ships, whose pictures end with them, against drawing all to the last."""
  config = get_config(f'tasks={_TASK},episodes={_NUM}')
  env = UrbanEnv(no_world, env_config(config.env))
  robot = env.config.robot
  (contender,) = make_contenders((), [_SHIPPED], robot, **config.picture.to_dict()).contenders
  settings = Settings(robot_radius=robot.radius, tasks=tuple(config.tasks), num=_NUM, seed=0)
  with tempfile.TemporaryDirectory() as folder:
    scenes, lights = find_scenes((), (_SCENE,), Path(folder), settings)
    (scenery,) = make_sceneries(scenes, [lights[_SCENE]])
    plans = jax.tree.map(jnp.asarray, plans_of(scenes[0].episodes(_TASK), range(_NUM), ROOM))
  scenery = jax.tree.map(jnp.asarray, scenery)
  episodes, legs = make_begin(env, ROOM)(scenery, plans)
  see = see_splats(config.splats.budget)

  def see_all(*given: Any) -> Any:
    return see(*given[:4])

  def driving(see: Callable[..., Any]) -> Callable[[], Any]:
    return functools.partial(make_drive(env, contender.policy, see), contender.params, episodes, scenery, legs)

  ours, baseline = driving(see), driving(see_all)
  share = float(ours().has_arrived.mean())
  return interleaved(
    'splat_judging',
    ours,
    baseline,
    work=60 * _NUM,
    unit=f'episodes/min ({_NUM} of 60 s, one scene, one device, {share:.2f} arrive)',
    baseline_name='pictures of all until the last has ended',
    rounds=3,
    warmup=1,
  )
