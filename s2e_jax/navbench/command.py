"""The benchmark as one call: scenes, contenders, judging and report, from a config of `configs/navbench.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from s2e_jax.chunks import rows_in_chunks
from s2e_jax.closedloop.policies import Contender
from s2e_jax.navbench.arcs import turns_of
from s2e_jax.navbench.blocks_shipped import load_shipped, shipped_names
from s2e_jax.navbench.pieces import Part
from s2e_jax.navbench.policies.registry import Lineup, make_contenders
from s2e_jax.navbench.prepare import Settings, prepare_gaussians
from s2e_jax.navbench.report import write_navbench_report
from s2e_jax.navbench.report_cells import Cell, PolicyCard
from s2e_jax.navbench.run import JudgedCell, judge_scenes, see_splats
from s2e_jax.navbench.scene_folder import PreparedScene, hash_of_source, load_scene
from s2e_jax.navbench.scenery import Scenery
from s2e_jax.navbench.worlds import ROOM, make_begin, plans_of
from s2e_jax.render.render import RenderOptions
from s2e_jax.reporting import write_whole
from s2e_jax.scene import Light
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.settings import env_config
from s2e_jax.training.rundir import locked
from s2e_jax.worlds.people import place_people

# Names under which finetuned variants are reported; the paper's where it has one.
METHODS = {
  'ram': 'S2E-Full',
  'ppo_scratch': 'S2E-PPO',
  'sft': 'S2E-SFT',
  'sft_full': 'SFT of everything',
  'dagger': 'DAgger',
  'decoder_ft': 'decoder by PPO',
  'ppo_full': 'everything by PPO',
}
_MADE_WITH = 'settings.txt'  # of the folder of a shipped scene: what it was prepared with
_FILM = RenderOptions(120, 240, shadow=False)  # pictures of films, whatever size a policy looks at


def run_navbench(config: Any, checkpoints: Sequence[Path], out: Path) -> dict[str, Any] | None:
  """Judges checkpoints and baselines in prepared or shipped scenes and writes the report; returns results.json.

  Shipped scenes are prepared under `out`/scenes the first time. What is driven is kept under `out`/driven: a
  killed call goes on, and another checkpoint is added. None, and no report, while other parts of the work are
  missing. Raises ValueError, before anything is compiled, when a scene, its episodes, a checkpoint, its camera,
  the robot or a number does not fit.
  """
  part = Part.parse(config.part)
  env = UrbanEnv(no_world, env_config(config.env))
  robot = env.config.robot
  lineup = make_contenders(
    config.baselines,
    checkpoints,
    robot,
    which=config.which,
    careful=config.careful,
    allow_other_camera=config.allow_other_camera,
    **config.controller.to_dict(),
    **config.picture.to_dict(),
  )
  for line in lineup.notes:
    logging.warning(line)
  cards = {c.name: card_of(c, lineup) for c in lineup.contenders}
  settings = Settings(
    robot_radius=robot.radius,
    turns=turns_of(robot),
    tasks=tuple(config.tasks),
    num=config.num_episodes,
    seed=config.seed,
  )
  scenes, lights = find_scenes(config.scenes, config.shipped, out / 'scenes', settings)
  batch = min(config.batch, config.num_episodes)
  judged = judge_scenes(
    env,
    lineup.contenders,
    scenes,
    config.tasks,
    num_episodes=config.num_episodes,
    batch=batch,
    budget=config.splats.budget,
    lights=lights,
    num_devices=jax.local_device_count(),
    keep_in=out / 'driven',
    part=part,
  )
  if judged is None:
    logging.info('part %s is driven; once all are, the same command without a part reports', config.part)
    return None
  cells = [
    Cell(j.scene.name, j.file.task, j.scene, j.file.episodes[: config.num_episodes], j.judged) for j in judged
  ]
  return write_navbench_report(
    cells,
    cards,
    {
      'robot': robot.name,
      'scenes': 'own' if config.scenes else 'shipped with the package',
      'seconds per episode': config.env.time_limit,
      'episodes per scene and task': config.num_episodes,
      'gaussians per picture': config.splats.budget or 'all',
      'notes': lineup.notes,
    },
    out,
    top_speed=robot.max_speed,
    see=make_films(env, judged, config.splats.budget, batch) if config.films else None,
    num_resamples=config.num_resamples,
  )


def no_world(key: jax.Array, level: jax.Array) -> Any:
  """The generator of an environment that is never asked for a world; RuntimeError where it is."""
  raise RuntimeError('worlds of the benchmark come from episode files, not from keys')


def card_of(contender: Contender, lineup: Lineup) -> PolicyCard:
  """What the report says of a contender."""
  policy = contender.policy
  told = {'point': 'point goal', 'image': 'image goal', 'none': 'nothing'}[policy.goal]
  if contender.name not in lineup.models:
    kind = 'expert' if policy.is_privileged else 'baseline'
    senses = 'everything' if policy.is_privileged else '+'.join(policy.senses) or 'nothing'
    return PolicyCard(kind, told, senses, contender.name)
  model = lineup.models[contender.name]
  method = model.get('method')
  kind = {None: 'file', 'pretrained': 'BC', 'ppo_scratch': 'RL from scratch'}.get(method, 'finetuned')
  if method in ('ram', 'decoder_ft', 'ppo_full'):
    kind = 'RL finetuned'
  return PolicyCard(
    kind=kind,
    told=told,
    senses='+'.join(policy.senses),
    group=group_of(contender.name, model),
    checkpoint=model['path'],
    step=model['step'],
    seed=model.get('seed'),
  )


def group_of(name: str, model: Mapping[str, Any]) -> str:
  """The method that a checkpoint is a seed of; a name of its own where nothing is known of it."""
  if model.get('method') == 'pretrained':
    return 'S2E-BC' if model.get('num_anchors', 0) > 1 else 'S2E-BC-Single'
  return METHODS.get(str(model.get('method')), name)


def find_scenes(
  folders: Sequence[str], shipped: Sequence[str], cache: Path, settings: Settings
) -> tuple[list[PreparedScene], dict[str, Light]]:
  """Prepared scenes of `folders`, or the shipped ones (of these names, or all), and the lights that are known.

  Raises ValueError for a name that is not shipped, or two scenes of one name.
  """
  if folders:
    scenes = [load_scene(Path(folder)) for folder in folders]
    lights: dict[str, Light] = {}
  else:
    names = shipped or shipped_names()
    unknown = sorted(set(names) - set(shipped_names()))
    if unknown:
      raise ValueError(f'shipped={unknown} do not come with the package: choose from {list(shipped_names())}')
    with locked(cache, wait=True):  # several parts of one judgement prepare a scene once
      prepared = [prepared_shipped(name, cache / name, settings) for name in names]
    scenes, lights = [scene for scene, _ in prepared], {scene.name: light for scene, light in prepared}
  names = [scene.name for scene in scenes]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(f'scenes {twice} are given twice: prepare one of them again with another --name')
  return scenes, lights


def prepared_shipped(name: str, folder: Path, settings: Settings) -> tuple[PreparedScene, Light]:
  """A shipped scene, prepared in `folder` unless it was with the same settings, and its light.

  Its hash, and with it episode i of a task, does not depend on how many episodes or which tasks are asked for.
  """
  shipped = load_shipped(name)
  wanted = {'file': shipped.path.name, 'sha256': hash_of_source(shipped.path)}
  made_with = folder / _MADE_WITH
  if (folder / 'scene.json').is_file() and made_with.is_file() and made_with.read_text() == repr(settings):
    scene = load_scene(folder)
    if scene.about.get('source') == wanted:
      return scene, shipped.light
  made_with.unlink(missing_ok=True)
  own = dataclasses.replace(settings, up='z', scale=1.0)
  scene, _ = prepare_gaussians(shipped.gaussians, folder, name, wanted, own, say=logging.info)
  write_whole(made_with, repr(settings))  # last: what a killed call left behind is made anew
  return scene, shipped.light


def make_films(
  env: UrbanEnv, judged: Sequence[JudgedCell], budget: int, batch: int
) -> Callable[[Cell, str, int], np.ndarray]:
  """The function (cell, policy, row) -> [T, h, w, 3] uint8, what the robot saw, drawn anew from the traces.

  batch: of the judgement, whose program for the starts of episodes then serves here too.
  """
  of_cell = {(j.scene.name, j.file.task): j for j in judged}
  see, begin = see_splats(budget), make_begin(env, ROOM)

  @jax.jit
  def draw(scenery: Scenery, episode: Any, position: jax.Array, yaw: jax.Array, people: jax.Array) -> jax.Array:
    def moment(position: jax.Array, yaw: jax.Array, people: jax.Array) -> Any:
      walking = dataclasses.replace(episode.people, position=people)
      base = dataclasses.replace(episode.base, position=position, yaw=yaw)
      world = dataclasses.replace(episode.world, scene=place_people(episode.world.scene, walking))
      return dataclasses.replace(episode, base=base, people=walking, world=world)

    return see(scenery, jax.vmap(moment)(position, yaw, people), _FILM, ('rgb',)).rgb

  def frames(cell: Cell, policy: str, row: int, chunk: int = 16) -> np.ndarray:
    one = of_cell[cell.scene, cell.task]
    traces, scenery = cell.judged.traces[policy], one.scenery
    plans = jax.tree.map(jnp.asarray, plans_of(one.file, [row] * batch))
    episode = jax.tree.map(lambda x: x[0], begin(scenery, plans)[0])
    pictures = []
    for at, num in rows_in_chunks(int(traces.num_steps[row]) + 1, chunk):
      part = (jnp.asarray(x[row][at]) for x in (traces.position, traces.yaw, traces.people))
      pictures.append(np.asarray(draw(scenery, episode, *part))[:num])
    return np.concatenate(pictures)

  return frames
