"""What a collision is in training, an end or a cost, and how hard the worlds are at first.

Run: python -m experiments.launch.sweep --sweep=configs/sweeps/collisions.py \
         --config=configs/finetune.py:checkpoint=RUN,steps=327680 --workdir=runs/collisions
"""

from collections.abc import Callable

_MIDDLE = {'curriculum.start': 0.5, 'curriculum.target': 0.6}


def sweep(add: Callable[..., None]) -> None:
  """The defaults, and episodes that go on; from the middle of the curriculum, at twice the cost, going on too; and
  this from the curriculum's end.
  """
  costly = {'env.rewards.collision': -1.0}
  goes_on = {'env.end_on_collision': False}
  add(seed=0)
  add(**goes_on)
  add(**_MIDDLE)
  add(**_MIDDLE, **costly)
  add(**_MIDDLE, **costly, **goes_on)
  add(**{'curriculum.start': 1.0, 'curriculum.target': 0.5}, **costly, **goes_on)
