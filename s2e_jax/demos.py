"""Renders expert drives into a dataset: python -m s2e_jax.demos --dst=FOLDER [--clips=1000] [--looks=A,B].

Each clip is a careful drive of the privileged planner through a street of its own, with exact poses. Looks: A is
broad like web video, B the plain simulator, C-near and C-far are held out; several take turns. It shows that the
pipeline works; it says nothing about real video. A killed call goes on where it stopped.
"""

from __future__ import annotations

from absl import app, flags

from s2e_jax.compilation import set_up_compilation
from s2e_jax.sim.demonstrations import DemoOptions, write_demonstrations
from s2e_jax.store.metrics import log_to_console


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  default = DemoOptions()
  flags.DEFINE_string('dst', None, 'Folder of the dataset to write.')
  flags.DEFINE_integer('clips', 1000, 'Number of clips.')
  flags.DEFINE_integer('seed', 0, 'Of worlds, people and robots.')
  flags.DEFINE_list('looks', list(default.looks), 'Looks of the worlds: A, B, C-near, C-far, or several: A,B.')
  flags.DEFINE_string('robot', default.robot, 'Who drives: delivery, coco or quadruped.')
  flags.DEFINE_string('slots', default.slots, 'Room for things and people: small, standard or large.')
  flags.DEFINE_float('level', default.level, 'Curriculum level, 0 to 1: longer ways, more things and people.')
  flags.DEFINE_float('seconds', default.seconds, 'Longest drive.')
  flags.DEFINE_integer('height', default.height, 'Pixels.')
  flags.DEFINE_integer('width', default.width, 'Pixels.')
  flags.DEFINE_bool('overwrite', False, 'Replace a dataset that is there.')
  flags.mark_flag_as_required('dst')


def main(argv: list[str]) -> None:
  """Command line; see the module."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; write --dst=FOLDER')
  log_to_console()
  set_up_compilation()
  given = flags.FLAGS
  try:
    options = DemoOptions(
      looks=tuple(given.looks),
      robot=given.robot,
      slots=given.slots,
      level=given.level,
      seconds=given.seconds,
      height=given.height,
      width=given.width,
    )
    summary = write_demonstrations(given.dst, given.clips, given.seed, options, overwrite=given.overwrite)
  except ValueError as error:
    raise app.UsageError(str(error)) from error
  hours, skips = sum(summary.hours.values()), dict(summary.skips)
  print(
    f'{given.dst}: {given.clips} drives, {sum(summary.frames.values())} frames, {hours:.2f} h; left out: {skips}'
  )


if __name__ == '__main__':
  define_flags()
  app.run(main)
