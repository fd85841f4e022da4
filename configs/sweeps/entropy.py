"""How the entropy of a command mixture is estimated: a bound, a Monte-Carlo draw, pairwise distances.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/entropy.py \
         --config=configs/finetune.py:checkpoint=RUN --workdir=runs/entropy
"""

from collections.abc import Callable


def sweep(add: Callable[..., None]) -> None:
  """Three estimators, two seeds each."""
  for seed in (0, 1):
    for name in ('bound', 'monte_carlo', 'pairwise'):
      add(**{'ppo.entropy': name, 'seed': seed})
