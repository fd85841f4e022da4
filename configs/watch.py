"""Watch episodes: python -m s2e_jax.watch --config=configs/watch.py[:args] --out=DIR.

Arguments behind the colon: look (A, B, C-near, C-far), robot (delivery, coco, quadruped), driver (expert,
straight, random), episodes, smoke. About 2 minutes on 2 CPU cores, most of it compiling; `smoke` makes it small.
Writes one mp4 per episode, the last picture of each as PNG, a contact sheet of 64 random scenes, episodes.json,
and episodes.rrd where rerun is installed.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  """Config of a film."""
  args = common.parse_arg(arg, look='A', robot='delivery', driver='expert', episodes=4, smoke=False)
  config = ConfigDict()
  config.kind = 'watch'
  config.seed = 0  # of worlds, people and robots
  config.driver = args.driver  # expert | straight | random
  config.num_episodes = 1 if args.smoke else args.episodes
  config.level = 1.0  # curriculum level of the worlds, 0..1
  config.careful = False  # the expert keeps the clearances of demonstrations
  config.num_scenes = 8 if args.smoke else 64  # pictures on the contact sheet
  config.world = common.world_block(args.look)
  config.world.slots = 'small' if args.smoke else 'standard'
  config.world.people = (0, 4) if args.smoke else (2, 8)
  config.env = common.env_block(args.robot)
  config.env.time_limit = 5.0 if args.smoke else 30.0
  config.picture = common.picture_block(*((32, 64) if args.smoke else (180, 360)))
  return config.lock()
