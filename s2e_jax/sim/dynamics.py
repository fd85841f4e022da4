"""The moving base of a robot behind one velocity interface, in MJX: `make_base(robot, level)`.

A policy step of 0.25 s holds one command (v m/s, w rad/s). Limits, lag, latency and slip are the description's.
"""

from __future__ import annotations

import functools

import jax

from s2e_jax.robots import RobotDescription
from s2e_jax.sim import planar, wheels
from s2e_jax.sim.base import Base, BaseState
from s2e_jax.sim.mjcf import LEVELS

__all__ = ['Base', 'BaseState', 'make_base']


@functools.lru_cache(maxsize=16)
def make_base(robot: RobotDescription, level: str = 'planar') -> Base:
  """Dynamics of the robot at a level: 'planar' (fast training) or 'wheels' (full wheels on ground).

  The same robot and level give the same functions again. Raises ValueError for a level that is unknown or that the
  robot lacks.
  """
  if level not in LEVELS:
    raise ValueError(f'level={level!r} must be one of {LEVELS}')
  make = planar.make_planar if level == 'planar' else wheels.make_wheels
  with jax.ensure_compile_time_eval():  # whoever traces this first must not leave tracers to others
    return make(robot)
