"""Peak learning rate and photometric augmentation.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/learning_rate.py --config=configs/pretrain.py \
         --workdir=runs/learning_rate
"""

from collections.abc import Callable


def sweep(add: Callable[..., None]) -> None:
  """Three rates times two strengths."""
  for rate in (3e-4, 1e-3, 3e-3):
    for strength in (0.0, 0.25):
      add(**{'optim.learning_rate': rate, 'data.photometric': strength})
