"""How much data pretraining needs: nested shares of the training clips at an equal number of steps.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/data_amount.py \
         --config=configs/pretrain.py:data=PATH,steps=6000 --workdir=runs/data_amount
"""

from collections.abc import Callable


def sweep(add: Callable[..., None]) -> None:
  """A hundredth to all of the clips."""
  for share in (0.01, 0.03, 0.1, 0.3, 1.0):
    add(**{'data.train_share': share})
