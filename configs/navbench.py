"""NavBench-GS: policies drive in photorealistic Gaussian-splat scenes, among things and people, and are compared.

Run: python -m s2e_jax.evaluate --config=configs/navbench.py --checkpoint=runs/bc,runs/full --out=runs/navbench
     python -m s2e_jax.evaluate --config=configs/navbench.py:tasks=empty+both,episodes=9 --checkpoint=... --out=...
     python -m s2e_jax.evaluate --config=configs/navbench.py:scenes=PATH+PATH --checkpoint=... --out=...
     python -m s2e_jax.evaluate --config=configs/navbench.py --checkpoint= --out=...  (baselines only)
Without scenes= the scenes that come with the package are judged in; PATH is a folder that
`python -m s2e_jax.navbench.prepare` wrote. Checkpoints are separated by commas and named after their folders;
those named NAME_s0, NAME_s1, ... are seeds of one method. Writes report.html, table.md, results.json,
episodes.jsonl.
Arguments behind the colon: scenes, tasks (joined by +), episodes (per scene and task), budget, robot, smoke. Every
leaf below can be set by --config.NAME=VALUE.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common

TASKS = ('empty', 'obstacle', 'pedestrian', 'both')


def get_config(arg: str | None = None) -> ConfigDict:
  """The locked config for an argument string like 'tasks=empty+both,episodes=40'."""
  args = common.parse_arg(arg, scenes='', tasks='', episodes=25, budget=16384, robot='delivery', smoke=False)
  tasks = tuple(args.tasks.split('+')) if args.tasks else TASKS
  config = ConfigDict()
  config.kind = 'navbench'
  config.which = 'best'  # checkpoint of a run: best | latest | a step
  config.allow_other_camera = False  # judge although the robot's camera is not the one trained with

  config.scenes = tuple(args.scenes.split('+')) if args.scenes else ()  # folders; none: the shipped scenes
  config.shipped = ()  # of the shipped scenes these only; none: all
  config.tasks = tasks[:1] if args.smoke else tasks
  config.num_episodes = 2 if args.smoke else args.episodes  # of every scene and task, the same for every policy
  config.seed = 0  # that episodes in shipped scenes are drawn from
  config.batch = 2 if args.smoke else 25  # episodes driven at once
  config.part = ''  # '2/4': the second quarter of the work, for one of four processes that share --out
  # beside the checkpoints: straight_to_goal | stand_still | expert | constant_arc | reactive
  config.baselines = ('straight_to_goal', 'stand_still') + (() if args.smoke else ('expert',))
  config.careful = False  # the expert keeps the clearances of demonstrations

  config.controller = ConfigDict()  # F_d, the same for every policy
  config.controller.lookahead = 2  # waypoint that is driven to, 0.25 s each
  config.controller.rule = 'arc'  # arc | first (the authors' sibling code)

  config.env = common.judging_env_block(args.robot, args.smoke)

  config.splats = ConfigDict()
  config.splats.budget = args.budget  # gaussians per picture, coarser ones where more are in view; 0 draws all
  config.picture = ConfigDict(dict(nearest=8, shadow=False))  # of things and people; its size is the policy's

  config.num_resamples = 100 if args.smoke else 2000  # bootstrap resamples of episodes per interval
  config.films = not args.smoke  # of the best, worst and median episode of the first policy; needs PyAV
  return config.lock()
