"""Finetuning in the toy world, by one process or as one of several that the environment names.

Run: python -m tests.training.toy_finetune CHECKPOINT WORKDIR
"""

import os
import sys

from configs import finetune as finetune_config
from s2e_jax.sim import settings
from s2e_jax.training import finetune, parallel
from tests.training.toy_world import ToyBatch

ENVS, HORIZON = 16, 4


def config_of(checkpoint, **leaves):
  config = finetune_config.get_config(f'checkpoint={checkpoint},steps={6 * ENVS * HORIZON},envs={ENVS}')
  small = {
    'ppo.horizon': HORIZON, 'ppo.num_minibatches': 2, 'ppo.num_epochs': 2, 'critic.hidden': (8,),
    'train.log_every': 2, 'train.checkpoint_every': 2, 'train.time_parts': False, 'trials.every': 0,
    'allow_other_camera': True,
  }  # fmt: skip
  config.update_from_flattened_dict(small | leaves)
  return config


if __name__ == '__main__':
  if 'JAX_COORDINATOR_ADDRESS' in os.environ:
    parallel.initialise_distributed()
  settings.make_batch = lambda config, num_envs, *unused: ToyBatch(num_envs)
  finetune.run(config_of(sys.argv[1]), sys.argv[2])
