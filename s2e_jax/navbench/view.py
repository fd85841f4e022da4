"""One judged episode in the browser: python -m s2e_jax.navbench.view --driven=FILE --scene=FOLDER.

FILE is one that a judgement kept, OUT/driven/SCENE_TASK/POLICY_NUMBER_KEY.npz; FOLDER the prepared scene that was
driven in (of shipped scenes OUT/scenes/SCENE). Shows the scene's gaussians, the robot and its camera, things,
people, goals and the driven path, with a slider over time. Serves this machine only unless --host says otherwise.
Needs viser: pip install 's2e_jax[viewer]'.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from s2e_jax.navbench.episodes import TASKS
from s2e_jax.navbench.grid import filled_from_nearest
from s2e_jax.navbench.pieces import FILE_NAME, read_traces
from s2e_jax.navbench.scene_folder import load_scene
from s2e_jax.navbench.view_drive import Drive, Splats, drive_of, robot_of, splats_of
from s2e_jax.navbench.view_page import Page, about_splats, check_address, require_viser
from s2e_jax.robots import ROBOTS

_SAME_PLACE = 0.1  # m between a planned start and the driven one


@dataclasses.dataclass(frozen=True)
class Driven:
  """What the name of a kept file says. first: number of its first episode."""

  policy: str
  scene: str
  task: str
  first: int

  @classmethod
  def parse(cls, path: Path) -> Driven:
    """Of SCENE_TASK/POLICY_NUMBER_KEY.npz; ValueError naming that rule for any other."""
    match = FILE_NAME.fullmatch(path.name)
    scene, _, task = path.resolve().parent.name.rpartition('_')
    if match is None or not scene or task not in TASKS:
      raise ValueError(
        f'driven={path} must end in SCENE_TASK/POLICY_NUMBER_KEY.npz, with a task of {TASKS}: name a file as the '
        'judgement left it under OUT/driven'
      )
    return cls(match['policy'], scene, task, int(match['first']))


def load_drive(
  driven: Path, folder: Path, episode: int | None = None, robot: str | None = None, max_gaussians: int = 0
) -> tuple[Drive, Splats]:
  """An episode of a file of driven ones, and the gaussians of its scene.

  episode: its number in the scene's episode file and the report; None is the first of `driven`. robot: whose
  outline is shown; None finds it by its camera. max_gaussians: see `splats_of`.
  Raises ValueError for a file that is missing, broken or misnamed, an episode that is not in it, and a scene that
  is not the one driven in.
  """
  if not driven.is_file():
    raise ValueError(f'driven={driven} is no file: name one under OUT/driven of a judgement')
  if max_gaussians < 0:
    raise ValueError(f'max_gaussians={max_gaussians} must not be negative; 0 shows all')
  named = Driven.parse(driven)
  scene = load_scene(folder)
  if scene.name != named.scene:
    raise ValueError(
      f'scene={folder} is {scene.name!r}, but {driven} was driven in {named.scene!r}: give the folder that '
      'this scene was prepared in'
    )
  traces = read_traces(driven)
  number = named.first if episode is None else episode
  row, num = number - named.first, len(traces.num_steps)
  if not 0 <= row < num:
    raise ValueError(
      f'episode={number} is not in {driven}, which holds {named.first} to {named.first + num - 1}: choose one of '
      "these, or another of the policy's files"
    )
  planned = scene.episodes(named.task).episodes
  start = np.asarray(traces.position[row][0], np.float64)
  if number >= len(planned) or np.linalg.norm(start - planned[number].start) > _SAME_PLACE:
    plan = f'begins at {planned[number].start}' if number < len(planned) else 'does not exist'
    raise ValueError(
      f'episode={number} was driven from ({start[0]:.2f}, {start[1]:.2f}) and {plan} in {folder}: the scene was '
      'prepared again since; give the folder as it was judged, or judge again'
    )
  body = robot_of(traces.scene.mount, row, robot)
  floor = filled_from_nearest(scene.maps.ground, scene.maps.is_seen)
  drive = drive_of(
    traces,
    row,
    np.array(planned[number].goals),
    lambda points: scene.maps.grid.sample(floor, points),
    body,
    (named.policy, named.scene, f'{named.task}, episode {number}'),
  )
  return drive, splats_of(scene.gaussians, max_gaussians)


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  flags.DEFINE_string('driven', None, 'File of driven episodes, under OUT/driven of a judgement.', required=True)
  flags.DEFINE_string('scene', None, 'Folder of the prepared scene that they were driven in.', required=True)
  flags.DEFINE_integer(
    'episode', None, 'Number of the episode as in the report; the first of the file by default.'
  )
  flags.DEFINE_enum('robot', None, sorted(ROBOTS), 'Whose outline to show; found by its camera by default.')
  flags.DEFINE_integer('max_gaussians', 500_000, 'The most visible ones are kept where there are more; 0: all.')
  flags.DEFINE_integer('port', 8080, 'Of the page.')
  flags.DEFINE_string('host', '127.0.0.1', 'Address to serve on; 0.0.0.0 lets every machine that can reach it in.')


def main(argv: Sequence[str]) -> None:
  """The command; says what is wrong in one line instead of a traceback."""
  if len(argv) > 1:
    raise app.UsageError(f'everything is given by flags, got {list(argv[1:])}')
  given = flags.FLAGS
  try:
    require_viser()
    check_address(given.host, given.port)
    drive, splats = load_drive(
      Path(given.driven), Path(given.scene), given.episode, given.robot, given.max_gaussians
    )
    page = Page(drive, splats, given.host, given.port)
  except (ValueError, ImportError) as error:
    raise SystemExit(f'error: {error}') from error
  print(f'gaussians shown: {about_splats(splats)}')
  print(f'{page.url}  (end with Ctrl-C)', flush=True)
  with contextlib.suppress(KeyboardInterrupt):
    page.run(threading.Event())
  page.close()


if __name__ == '__main__':
  define_flags()
  app.run(main)
