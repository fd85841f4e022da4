"""Does acting by the best mode cost a policy what it learned by drawing modes? Both ways on the same episodes.

Run: python -m experiments.rivals.modes --checkpoint=runs/rivals/ram_s0,runs/rivals/decoder_ft_s0 --out=runs/modes
         [--config=configs/closedloop.py:look=B,task=both,split=validation,episodes=512]
PPO draws a mode by its score at every step; policies are judged by the mean of the mode of the highest score.
Beside each policy drives NAME_drawn: the same, but with a mode drawn by its score (its mean, without exploration
noise). Writes the report of a closed-loop evaluation and prints the differences.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from s2e_jax.closedloop.policies import Contender
from s2e_jax.closedloop.run import Judged, cameras_of, evaluate_closedloop
from s2e_jax.command_mixture import CommandMixture, mode_command
from s2e_jax.compilation import set_up_compilation, use_cpu_devices
from s2e_jax.navbench.policies.registry import make_contenders
from s2e_jax.reporting import interval_cell
from s2e_jax.robots import RobotDescription
from s2e_jax.sim import settings
from s2e_jax.store.metrics import log_to_console

DRAWN = '_drawn'


def drawn_command(mixture: CommandMixture) -> jax.Array:
  """The mean [B, 2] of a mode drawn by its score.

  The draw's key is made of the scores' bits, so that an episode is the same in every batch; neighbouring scores
  have unrelated keys.
  """
  bits = jax.lax.bitcast_convert_type(mixture.logits, jnp.uint32)

  def draw(bits: jax.Array, logits: jax.Array) -> jax.Array:
    key = jax.lax.fori_loop(0, bits.shape[0], lambda i, key: jax.random.fold_in(key, bits[i]), jax.random.key(0))
    return jax.random.categorical(key, logits)

  mode = jax.vmap(draw)(bits, mixture.logits)
  return jnp.take_along_axis(mixture.mean, mode[:, None, None], axis=1)[:, 0]


def lineup(
  paths: Sequence[Path],
  config: ConfigDict,
  robot: RobotDescription,
  choose: Callable[[CommandMixture], jax.Array] = mode_command,
) -> list[Contender]:
  """Every policy, acting as `choose` says, by default as it is judged; policies of one shape share a program.

  Raises ValueError as `make_contenders` does, for a camera too that a policy was not trained with.
  """
  return make_contenders(
    (),
    paths,
    robot,
    cameras=functools.partial(cameras_of, settings.world_config(config.world, robot)),
    which=config.which,
    allow_other_camera=config.allow_other_camera,
    choose=choose,
    **config.controller.to_dict(),
    **config.picture.to_dict(),
  ).contenders


def contenders_of(paths: Sequence[Path], config: ConfigDict, robot: RobotDescription) -> list[Contender]:
  """Every policy as it is judged, and with drawn modes."""
  best, drawn = (lineup(paths, config, robot, choose) for choose in (mode_command, drawn_command))
  renamed = [dataclasses.replace(contender, name=contender.name + DRAWN) for contender in drawn]
  return [contender for both in zip(best, renamed, strict=True) for contender in both]


def judge_lineup(
  config: ConfigDict, out: Path, contenders: Callable[[RobotDescription], Sequence[Contender]]
) -> tuple[dict[str, Any], Judged]:
  """Judges those whom `contenders` names for the robot of a config of judging, as `evaluate_closedloop` does."""
  use_cpu_devices(min(config.batch, config.num_episodes), least=1, evenly=False)
  env = settings.make_env(config)
  return evaluate_closedloop(
    env,
    contenders(env.config.robot),
    out,
    split=config.split,
    num_episodes=config.num_episodes,
    batch=config.batch,
    settings={'look': config.world.look, 'task': config.task},
    num_maps=0,
    film=False,
    num_devices=jax.local_device_count(),
  )


def main(argv: Sequence[str]) -> None:
  """Judges and writes the report."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; see --help')
  given = flags.FLAGS
  paths = [Path(path) for path in given.checkpoint]
  results, _ = judge_lineup(given.config, Path(given.out), functools.partial(contenders_of, paths, given.config))
  for pairing in results['pairs']:
    if pairing['second'] == pairing['first'] + DRAWN:
      print(f'{pairing["first"]}: best mode less drawn {interval_cell(pairing["difference"]["success"], "+.3f")}')


if __name__ == '__main__':
  config_flags.DEFINE_config_file(
    'config', 'configs/closedloop.py:look=B,task=both,split=validation,episodes=512', 'Config of judging.'
  )
  flags.DEFINE_list('checkpoint', None, 'Runs, or checkpoints in them.')
  flags.DEFINE_string('out', None, 'Folder for results.json and table.md.')
  flags.mark_flags_as_required(['checkpoint', 'out'])
  set_up_compilation()
  log_to_console()
  app.run(main)
