"""Open-loop evaluation: predicted against driven trajectories on recorded video, beside simple baselines.

Run: python -m s2e_jax.evaluate --config=configs/openloop.py --checkpoint=runs/pretrain --out=runs/pretrain/eval
     python -m s2e_jax.evaluate --config=configs/openloop.py:data=PATH,split=all --checkpoint=... --out=...
     python -m s2e_jax.evaluate --config=configs/openloop.py:split=train --checkpoint=... --out=...  (overfitting)
Writes results.json, table.md and pictures/*.png. s2e_tiny takes seconds on a CPU for a thousand windows.
Arguments behind the colon: data, split, smoke. Every leaf below can be set by --config.NAME=VALUE.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  """The locked config for an argument string like 'data=PATH,split=all'."""
  args = common.parse_arg(arg, data='', split='', smoke=False)
  config = ConfigDict()
  config.kind = 'openloop'
  config.which = 'best'  # checkpoint of a run: best | latest | a step
  config.allow_other_camera = False  # evaluate although the data's camera is not the one trained with

  config.data = ConfigDict()
  config.data.path = args.data  # internal dataset folder; '' = the data recorded in the checkpoint
  config.data.split = args.split  # train | val | test | all; '' = test (or else val), all of data not trained on
  config.data.folds = placeholder(int)  # cross-validation by clip; unset = as the checkpoint was trained
  config.data.fold = placeholder(int)  # test fold; unset = as the checkpoint was trained

  config.batch_size = 16 if args.smoke else 64  # windows per forward pass
  config.num_threads = 2  # threads that decode images
  config.goal_s = 10.0  # seconds from the present to the goal, or the end of the clip
  config.num_resamples = 100 if args.smoke else 1000  # bootstrap resamples of clips per interval
  config.num_pictures = 3 if args.smoke else 9  # windows drawn: a third best, median and worst each; 0 = none
  return config.lock()
