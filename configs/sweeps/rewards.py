"""What each reward term is for: PPO with all of them, and with each left out in turn.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/rewards.py \
         --config=configs/finetune.py:checkpoint=RUN --workdir=runs/rewards
"""

from collections.abc import Callable

from configs import common


def sweep(add: Callable[..., None]) -> None:
  """All terms first, then one less each of those that are on."""
  add(seed=0)
  for name, weight in common.env_block().rewards.items():
    if weight:
      add(**{f'env.rewards.{name}': 0.0})
