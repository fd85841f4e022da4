"""Closed-loop evaluation: policies drive the same episodes of the simulator, beside baselines and the planner.

Run: python -m s2e_jax.evaluate --config=configs/closedloop.py --checkpoint=runs/bc,runs/full --out=runs/closedloop
     python -m s2e_jax.evaluate --config=configs/closedloop.py:look=C-near,split=test --checkpoint=... --out=...
     python -m s2e_jax.evaluate --config=configs/closedloop.py --checkpoint= --out=...  (baselines only)
Checkpoints are separated by commas and named after their folders. Writes table.md, results.json, episodes.jsonl,
maps/*.png, and side_by_side.mp4 of the first two policies.
Arguments behind the colon: look, task, slots, split, episodes, robot, smoke. Every leaf below can be set by
--config.NAME=VALUE. On 2 CPU cores each kind of policy compiles for 1 to 2 minutes first.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common

# Obstacles beside the way per 10 m, and people. Without obstacles the layouts are those that block nothing.
TASKS = {'empty': (0.0, 0), 'obstacle': (3.0, 0), 'pedestrian': (0.0, 4), 'both': (3.0, 4)}
OPEN_LAYOUTS = ('straight', 'curve', 'corner', 'crossing', 'plaza')


def get_config(arg: str | None = None) -> ConfigDict:
  """The locked config for an argument string like 'look=C-near,task=obstacle,split=test,episodes=500'."""
  args = common.parse_arg(
    arg, look='B', task='both', slots='small', split='validation', episodes=256, robot='delivery', smoke=False
  )
  if args.task not in TASKS:
    raise ValueError(f'task={args.task!r} must be one of {sorted(TASKS)}')
  density, people = TASKS[args.task]
  config = ConfigDict()
  config.kind = 'closedloop'
  config.which = 'best'  # checkpoint of a run: best | latest | a step
  config.allow_other_camera = False  # judge although the robot's camera is not the one trained with

  config.split = args.split  # train | validation | test: disjoint streams of worlds, see s2e_jax.closedloop.splits
  config.num_episodes = 4 if args.smoke else args.episodes
  config.first_episode = 0  # number of the first one in its split
  config.batch = 4 if args.smoke else 64  # episodes driven at once
  config.level = 1.0  # curriculum level of the worlds, 0..1
  # beside the checkpoints: straight_to_goal | stand_still | expert (knows everything; takes longest to compile)
  config.baselines = ('straight_to_goal', 'stand_still') + (() if args.smoke else ('expert',))
  config.careful = False  # the expert keeps the clearances of demonstrations

  config.controller = ConfigDict()  # F_d, the same for every policy
  config.controller.lookahead = 2  # waypoint that is driven to, 0.25 s each
  config.controller.rule = 'arc'  # arc | first (the authors' sibling code)

  config.world = common.world_block(args.look)
  config.world.slots = args.slots
  config.world.people = (people, people)
  config.world.object_density = (min(0.5, density), density)
  if not density:
    config.world.layouts = ConfigDict({name: 1.0 for name in OPEN_LAYOUTS})
  config.task = args.task  # its name, for the report
  config.env = common.judging_env_block(args.robot, args.smoke)
  # of the camera that policies see through: its size is the policy's
  config.picture = ConfigDict(dict(nearest=8, shadow=True))

  config.num_resamples = 100 if args.smoke else 2000  # bootstrap resamples of episodes per interval
  config.num_maps = 2 if args.smoke else 8  # episodes drawn: where policies differ most; 0 = none
  config.film = not args.smoke  # side_by_side.mp4 of the most telling episode; needs PyAV
  return config.lock()
