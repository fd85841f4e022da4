"""Which mode learns from a window: the three assignment rules, and the unimodal ablation beside them.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/assignment.py --config=configs/pretrain.py \
         --workdir=runs/assignment
"""

from collections.abc import Callable


def sweep(add: Callable[..., None]) -> None:
  """Three rules with all anchors, one Gaussian (the published S2E-BC-Single), two seeds each."""
  for seed in (0, 1):
    for rule in ('pred_direction', 'anchor_endpoint', 'ade'):
      add(**{'loss.assignment': rule, 'seed': seed})
    add(**{'policy.num_anchors': 1, 'seed': seed})
