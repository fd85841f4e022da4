"""The differentiable controller F_d: from a trajectory to the command (v m/s, w rad/s) that begins to follow it.

S2E, arXiv:2507.22028, F_d. The paper does not spell it out; the two rules here are ours and the authors' sibling
code's. Everything is smooth in the waypoints, so that a policy gradient in command space reaches them.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from s2e_jax.geometry import arctan2
from s2e_jax.robots import RobotDescription
from s2e_jax.structs import DT

RULES = ('arc', 'first')
KNEE = 0.1  # share of the range at either end over which the smooth clip bends
TIGHT_KNEE = 0.02  # the same at an end where the robot stands still
STILL_SPEED = 0.04  # m/s: a waypoint that asks for less than about this has no bearing to speak of
# -cos(bearing) over which a waypoint stops being driven to and starts being backed into: 102 to 134 degrees.
_BACK_FROM, _BACK_TO = 0.2, 0.7


@dataclasses.dataclass(frozen=True)
class CommandLimits:
  """The box of commands that a robot obeys: min_speed to max_speed (m/s), +-max_yaw_rate (rad/s)."""

  min_speed: float
  max_speed: float
  max_yaw_rate: float

  def __post_init__(self) -> None:
    """Raises ValueError when the box is empty or does not hold the command to stand still."""
    if not (self.min_speed <= 0 < self.max_speed and self.max_yaw_rate > 0):
      raise ValueError(f'{self} must have min_speed <= 0 < max_speed and max_yaw_rate > 0')

  @classmethod
  def of(cls, robot: RobotDescription) -> CommandLimits:
    """The limits of `robot`, the same to which the simulator clamps every command.

    The curvature limit of an ackermann drive, |w| <= |v| tan(max_steer) / wheelbase, is not among them: the
    simulator applies it where it steers the wheels (`sim.base.wanted_steer`), to whatever command arrives.
    """
    return cls(robot.min_speed, robot.max_speed, robot.max_yaw_rate)


def trajectory_to_command(
  waypoints_in_robot: jax.Array, limits: CommandLimits, lookahead: int = 2, rule: str = 'arc'
) -> jax.Array:
  """Command (v m/s, w rad/s) [*B, 2] within `limits` for waypoints [*B, H, 2] (m), the first one 0.25 s ahead.

  rule:
    'arc': the circle through waypoint number `lookahead` (from 1) at (x, y), reached after t = lookahead * 0.25 s:
      v = x / t, w = 2 atan2(y, x) / t. A circle that leaves the origin forwards and passes through a point at
      bearing a turns by 2 a, so the robot ends in the waypoint's direction, at sin(2a) / (2a) of the way: x / t
      is less than the length of the arc, which slows it in sharp turns and turns it on the spot at a = 90 degrees.
    'first' (the authors' sibling code): waypoint 1 whatever `lookahead`, v = x / 0.25 s, w = atan2(y, x) / 0.25 s.

  Deviation: a waypoint behind (a beyond 102 to 134 degrees) is backed into: a counts from straight back. With
  v < 0 atan2 itself would steer away from the waypoint, and jump between left and right where y changes sign.
  Deviation: the bearing fades out below STILL_SPEED (`bearing`); the direction of a standstill is noise.
  Raises ValueError for another rule or a lookahead beyond the waypoints.
  """
  if rule not in RULES:
    raise ValueError(f'controller rule={rule!r} must be one of {RULES}')
  horizon = waypoints_in_robot.shape[-2]
  if not 1 <= lookahead <= horizon:
    raise ValueError(f'controller lookahead={lookahead} must name one of {horizon} waypoints; use 1 to {horizon}')
  step = lookahead if rule == 'arc' else 1
  time = step * DT
  x, y = waypoints_in_robot[..., step - 1, 0], waypoints_in_robot[..., step - 1, 1]
  turn = bearing(x, y, STILL_SPEED * time) * (2.0 if rule == 'arc' else 1.0)
  # A robot without reverse has its standstill at the end of the range, where a wide knee would make it creep.
  low_knee = KNEE if limits.min_speed < 0 else TIGHT_KNEE
  speed = smooth_clip(x / time, limits.min_speed, limits.max_speed, low_knee)
  return jnp.stack([speed, smooth_clip(turn / time, -limits.max_yaw_rate, limits.max_yaw_rate)], axis=-1)


def bearing(x: jax.Array, y: jax.Array, still: float) -> jax.Array:
  """Angle (rad) by which a robot's path to (x, y) (m) leaves straight ahead or, for a point behind, straight back.

  It is atan2(y, x) up to 102 degrees and atan(y / x) from 134 degrees on, with a smooth step between; times
  r^4 / (r^4 + still^4) in the distance r, which makes value and gradient 0 at the origin and the slope at most
  1.8 / still (rad per metre) in front.
  """
  is_here = (jnp.abs(x) < 1e-6) & (jnp.abs(y) < 1e-6)
  safe_x, safe_y = jnp.where(is_here, 1.0, x), jnp.where(is_here, 0.0, y)
  distance = jnp.hypot(safe_x, safe_y)
  angle = arctan2(safe_y, safe_x)
  share = jnp.clip((-safe_x / distance - _BACK_FROM) / (_BACK_TO - _BACK_FROM), 0.0, 1.0)
  backwards = share * share * (3.0 - 2.0 * share)
  around = angle - math.pi * jnp.sign(angle) * backwards
  # still^4 / r^4 cannot overflow where it matters, r^4 could underflow
  fade = 1.0 / (1.0 + (still / distance) ** 4)
  return jnp.where(is_here, 0.0, around * fade)


def smooth_clip(
  x: jax.Array, low: float, high: float, low_knee: float = KNEE, high_knee: float = KNEE
) -> jax.Array:
  """x bent into [low, high]: x itself but for a knee at either end; twice differentiable, rising everywhere.

  Knees are shares of high - low. Within one, k wide, x = high - k + k z becomes high - k + k z / sqrt(1 + z^2):
  the limit is approached from inside, high itself becomes high - 0.29 k, and the gradient (1 + z^2)^(-3/2)
  fades by a power, not exponentially like a tanh's, so what has gone far beyond a limit can still come back.
  """
  top, bottom = high_knee * (high - low), low_knee * (high - low)
  up = jnp.maximum(x - (high - top), 0.0) / top
  down = jnp.maximum((low + bottom) - x, 0.0) / bottom
  bent = jnp.where(x < low + bottom, low + bottom * _missing(down), x)
  return jnp.where(x > high - top, high - top * _missing(up), bent)


def _missing(z: jax.Array) -> jax.Array:
  """1 - z / sqrt(1 + z^2) for z >= 0, without cancellation: never negative, so no limit is ever passed."""
  z = jnp.minimum(z, 1e9)  # squares stay finite
  square = 1.0 + z * z
  return 1.0 / (square + z * jnp.sqrt(square))
