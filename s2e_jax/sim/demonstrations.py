"""Expert drives through simulated streets as a dataset to learn from: the embedded default of pretraining."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import simplejpeg
from tqdm import tqdm

from s2e_jax.data.clips import Clip, Skip
from s2e_jax.data.dataset import DatasetWriter, Summary
from s2e_jax.render.render import RenderOptions
from s2e_jax.robots import robot_description
from s2e_jax.scene import SLOTS, Mount
from s2e_jax.sim.drives import Drives, expert_driver, make_drives
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.structs import DT, Camera
from s2e_jax.worlds.expert import CAREFUL
from s2e_jax.worlds.generate import WorldConfig, make_generator

LICENCE = 'Apache-2.0 (generated)'
_VERSION = 4  # of the generated content: raise it when the same arguments give other clips
_QUALITY = 92
_BACKWARDS = 0.05  # m/s; demonstrations show no recovery
_BATCH = 32  # episodes driven at once; part of the content, since it decides who drives in which world


@dataclasses.dataclass(frozen=True)
class DemoOptions:
  """What is demonstrated.

  looks: of the worlds, see `worlds.generate`; batches of episodes take turns.
  robot: name in `robots.ROBOTS`. slots: name in `scene.SLOTS`.
  level: curriculum level, 0..1: longer ways through more things and people.
  seconds: an episode that has not arrived by then is dropped. min_seconds: shorter clips are dropped too.
  min_gap: m; a drive that came closer to anything than this is dropped: demonstrations show no near miss.
  height, width: pixels.
  """

  looks: tuple[str, ...] = ('A',)
  robot: str = 'delivery'
  slots: str = 'standard'
  level: float = 1.0
  seconds: float = 30.0
  min_seconds: float = 5.0
  min_gap: float = 0.08
  height: int = 64
  width: int = 128

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    robot_description(self.robot)
    if not self.looks:
      raise ValueError('looks must name at least one look, e.g. A')
    if self.slots not in SLOTS:
      raise ValueError(f'slots={self.slots!r} must be one of {sorted(SLOTS)}')
    if not 0 <= self.level <= 1:
      raise ValueError(f'level={self.level} must be in 0..1')
    if not 1.0 <= self.min_seconds <= self.seconds <= 300.0:
      raise ValueError(f'min_seconds={self.min_seconds}, seconds={self.seconds}: need 1 <= min <= seconds <= 300')
    if self.height < 16 or self.width < 16:
      raise ValueError(f'height={self.height}, width={self.width} must be at least 16 pixels')


def assign_splits(num_clips: int, seed: int) -> list[str]:
  """Split of each clip: a tenth (at least one) each for val and test, drawn at random, the rest for train."""
  num_held = max(1, round(0.1 * num_clips))
  splits = ['val'] * num_held + ['test'] * num_held + ['train'] * (num_clips - 2 * num_held)
  order = np.random.default_rng([seed, num_clips, 1]).permutation(num_clips)
  return [splits[i] for i in order]


def camera_of(mounts: Mount, b: int, height: int, width: int) -> Camera:
  """The pinhole camera of mount number b, for pictures of height x width pixels."""
  focal = width / 2 / float(mounts.half_width[b])
  return Camera(
    width,
    height,
    focal,
    focal,
    width / 2,
    height / 2 - focal * float(mounts.tan_pitch[b]),
    model='pinhole',
    mount_height=float(mounts.height[b]),
    mount_forward=float(mounts.forward[b]),
  )


def clips_of(drives: Drives, options: DemoOptions, look: str) -> Iterator[tuple[int, Clip | Skip]]:
  """(episode, clip or why there is none) of each episode of a batch on the host."""
  robot = robot_description(options.robot)
  mounts = drives.scene.mount
  for b in range(drives.has_arrived.shape[0]):
    length = int(drives.is_active[:, b].sum())
    problem = None
    if not drives.has_arrived[b]:
      collided = bool(drives.has_collided[b])
      problem = (
        ('collided', 'it touched something') if collided else ('late', f'no arrival in {options.seconds} s')
      )
    elif length * DT < options.min_seconds:
      problem = ('short', f'{length * DT} s are less than {options.min_seconds} s')
    elif (gap := float(drives.gap[:length, b].min())) < options.min_gap:
      problem = ('near_miss', f'it came within {gap:.2f} m of something')
    elif float(drives.speed[:length, b].min()) < -_BACKWARDS:
      problem = ('reversed', 'it had to back out')
    if problem:
      yield b, Skip(problem[0], f'episode {b}', problem[1])
      continue
    frames = [
      simplejpeg.encode_jpeg(np.ascontiguousarray(frame), quality=_QUALITY, colorsubsampling='420')
      for frame in drives.frames[:length, b]
    ]
    yield (
      b,
      Clip(
        clip_id='',
        source=f'synthetic/{look}',
        licence=LICENCE,
        frames=frames,
        stamps=np.arange(length) * DT,
        position=drives.position[:length, b],
        yaw=np.unwrap(drives.yaw[:length, b]),
        camera=camera_of(mounts, b, options.height, options.width),
        footprint=robot.footprint,
        clearances=drives.clearances[:length, b],
        embodiment=f'synthetic/{robot.name}',
      ),
    )


def make_demo_env(options: DemoOptions, look: str) -> UrbanEnv:
  """The environment that the expert drives through."""
  robot = robot_description(options.robot)
  worlds = WorldConfig(slots=SLOTS[options.slots], look=look, robot_radius=robot.radius, mount=robot.mount)
  return UrbanEnv(make_generator(worlds), EnvConfig(robot=robot, time_limit=options.seconds))


def write_demonstrations(
  path: str | os.PathLike,
  num_clips: int,
  seed: int,
  options: DemoOptions = DemoOptions(),
  progress: bool = True,
  *,
  overwrite: bool = False,
) -> Summary:
  """Writes `num_clips` careful expert drives at 4 Hz as an internal dataset at `path`.

  Each clip is one episode in a world of its own, from the start to the arrival; drives that collide, come too
  close, or do not arrive are left out and counted. Same arguments on the same machine, same bytes; goes on where a
  killed call stopped. Raises ValueError when an argument breaks its rule, `path` holds a dataset already and
  `overwrite` is False, or hardly any drive succeeds.
  """
  if num_clips < 3:
    raise ValueError(f'num_clips={num_clips} must be at least 3, one each for train, val and test')
  if seed < 0:
    raise ValueError(f'seed={seed} must not be negative')
  about = dataclasses.asdict(options) | {'version': _VERSION, 'num_clips': num_clips, 'seed': seed}
  pictures = RenderOptions(height=options.height, width=options.width)
  envs = {look: make_demo_env(options, look) for look in options.looks}
  writer = DatasetWriter(path, 's2e_demonstrations', overwrite=overwrite, options=about)
  drive = {
    look: make_drives(env, expert_driver(env, CAREFUL), pictures, round(options.seconds / DT))
    for look, env in envs.items()
  }
  splits = assign_splits(num_clips, seed)
  levels = jnp.full(_BATCH, options.level)
  written, batch = 0, 0
  with tqdm(total=num_clips, desc='expert drives', unit='clip', disable=not progress) as bar:
    while written < num_clips:
      if batch >= 4 and written * 8 < batch * _BATCH:
        raise ValueError(
          f'only {written} of {batch * _BATCH} drives were good enough ({writer.skip_counts()}); '
          'lower level or min_gap, or raise seconds'
        )
      keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), batch), _BATCH)
      look = options.looks[batch % len(options.looks)]
      drives: Drives = jax.device_get(drive[look](keys, levels))
      for episode, result in clips_of(drives, options, look):
        if isinstance(result, Skip):
          writer.skip(dataclasses.replace(result, where=f'batch {batch}, episode {episode}'))
          continue
        clip_id = f'synthetic/{look}/{written:05d}'
        if not writer.has(clip_id):
          writer.add(dataclasses.replace(result, clip_id=clip_id), splits[written])
        written += 1
        bar.update()
        if written == num_clips:
          break
      batch += 1
  return writer.finish()
