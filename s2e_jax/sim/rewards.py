"""Rewards R_G + R_R + R_H of S2E (arXiv:2507.22028): a pure function per term; its name is config key and metric.

Goal R_G: `arrival`, `collision` (paid once) and three potential-based distance terms, gamma Phi(s') - Phi(s).
Rules R_R: `lateral_offset`, `off_pavement`, `personal_space`, `obstacle_space` (ours, off by default). Habits R_H:
`command_change`, `turning_rate`, `path_distance`. Terms of R_R and R_H are costs in 0..1 times the policy's time
step; their weights are negative.

Deviation: URBAN-SIM pays its distance terms at every step, so that hovering outside the goal beats arriving; as
potentials they cannot change which policy is best. That theorem (Ng, Harada and Russell 1999; for episodes Grzes
2017) asks for Phi = 0 in every state that ends the episode: a robot that collides keeps nothing of its approach.
The weights of R_R and R_H are unpublished; `DEFAULT_WEIGHTS` are ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct

# The bounds that make the order of returns safe: arrival outweighs every potential outside the goal, and what
# standing still can cost in an episode stays below a collision.
DEFAULT_WEIGHTS = {
  'arrival': 1.0,
  'collision': -0.5,
  'distance_far': 0.4,
  'distance_coarse': 0.3,
  'distance_fine': 0.2,
  'lateral_offset': -0.005,
  'off_pavement': -0.02,
  'personal_space': -0.05,
  'obstacle_space': 0.0,
  'command_change': -0.01,
  'turning_rate': -0.005,
  'path_distance': -0.005,
}
FAR_SCALE, COARSE_SCALE, FINE_SCALE = 30.0, 5.0, 1.0  # m
PERSONAL_SPACE = 1.0  # m between the bodies
OBSTACLE_SPACE = 0.5  # m between the footprint and anything
PATH_SCALE = 2.0  # m from the reference path at which its cost is full


@struct.dataclass
class Transition:
  """What the terms look at: one policy step of one environment, from s to s'.

  has_arrived: [] bool in s'. has_collided: [] bool, a contact began in this step.
  is_terminal: [] bool, s' ends the episode (arrival or collision, not the time limit).
  distance, next_distance: [] m of geodesic distance to the goal in s and s'.
  lateral_offset: [] distance from the middle of the nearest pavement over half its width, in s'.
  is_off_pavement: [] bool in s'. person_distance: [] m between the robot's body and the nearest person's in s'.
  clearance: [] m between the footprint and the nearest thing, wall or person in s'. speed_share: [] of the robot's
  top speed, at which it drives in s', either way.
  command, last_command: [2] (m/s, rad/s) held in this step and the one before.
  command_range: [2] largest possible difference between two commands.
  yaw_rate, max_yaw_rate: [] rad/s reached in s' and the robot's limit.
  path_distance: [] m from the reference path in s'.
  discount: [] gamma of the agent. dt: [] s of a policy step.
  """

  has_arrived: jax.Array
  has_collided: jax.Array
  is_terminal: jax.Array
  distance: jax.Array
  next_distance: jax.Array
  lateral_offset: jax.Array
  is_off_pavement: jax.Array
  person_distance: jax.Array
  clearance: jax.Array
  speed_share: jax.Array
  command: jax.Array
  last_command: jax.Array
  command_range: jax.Array
  yaw_rate: jax.Array
  max_yaw_rate: jax.Array
  path_distance: jax.Array
  discount: jax.Array
  dt: jax.Array


def _shaped(t: Transition, potential: Callable[[jax.Array], jax.Array]) -> jax.Array:
  """gamma Phi(s') - Phi(s), with Phi = 0 in states that end the episode."""
  return t.discount * jnp.where(t.is_terminal, 0.0, potential(t.next_distance)) - potential(t.distance)


def arrival(t: Transition) -> jax.Array:
  """1 in the step that reaches the goal."""
  return jnp.float32(t.has_arrived)


def collision(t: Transition) -> jax.Array:
  """1 in the step in which a contact begins."""
  return jnp.float32(t.has_collided)


def distance_far(t: Transition) -> jax.Array:
  """Potential max(0, 1 - d / 30 m): the tanh terms are flat where a route begins."""
  return _shaped(t, lambda d: jnp.maximum(0.0, 1 - d / FAR_SCALE))


def distance_coarse(t: Transition) -> jax.Array:
  """Potential 1 - tanh(d / 5 m)."""
  return _shaped(t, lambda d: 1 - jnp.tanh(d / COARSE_SCALE))


def distance_fine(t: Transition) -> jax.Array:
  """Potential 1 - tanh(d / 1 m)."""
  return _shaped(t, lambda d: 1 - jnp.tanh(d / FINE_SCALE))


def lateral_offset(t: Transition) -> jax.Array:
  """Cost of driving beside the middle of the pavement."""
  return jnp.minimum(t.lateral_offset, 1.0) * t.dt


def off_pavement(t: Transition) -> jax.Array:
  """Cost of being on a carriageway (no crossing) or on the grass."""
  return jnp.float32(t.is_off_pavement) * t.dt


def personal_space(t: Transition) -> jax.Array:
  """Cost max(0, 1 - d / 1 m) of being close to a person."""
  return jnp.clip(1 - t.person_distance / PERSONAL_SPACE, 0.0, 1.0) * t.dt


def obstacle_space(t: Transition) -> jax.Array:
  """Cost max(0, 1 - c / 0.5 m) of driving close to anything, by the share of top speed: standing there is free."""
  return jnp.clip(1 - t.clearance / OBSTACLE_SPACE, 0.0, 1.0) * jnp.minimum(t.speed_share, 1.0) * t.dt


def command_change(t: Transition) -> jax.Array:
  """Cost of changing the command: mean over speed and turning rate of the change over its range."""
  return jnp.mean(jnp.minimum(jnp.abs(t.command - t.last_command) / t.command_range, 1.0)) * t.dt


def turning_rate(t: Transition) -> jax.Array:
  """Cost of turning: share of the robot's limit, squared."""
  return jnp.minimum(jnp.square(t.yaw_rate / t.max_yaw_rate), 1.0) * t.dt


def path_distance(t: Transition) -> jax.Array:
  """Cost of leaving the planner's reference path, full at 2 m."""
  return jnp.minimum(t.path_distance / PATH_SCALE, 1.0) * t.dt


TERMS: dict[str, Callable[[Transition], jax.Array]] = {
  term.__name__: term
  for term in (
    arrival, collision, distance_far, distance_coarse, distance_fine,
    lateral_offset, off_pavement, personal_space, obstacle_space,
    command_change, turning_rate, path_distance,
  )
}  # fmt: skip


def reward_weights(overrides: Mapping[str, float] | None = None) -> dict[str, float]:
  """Weight of every term, `DEFAULT_WEIGHTS` where `overrides` names none; 0 ablates a term.

  Raises ValueError for an unknown term (with the nearest known one) and for a weight that is not a finite number.
  """
  weights = dict(DEFAULT_WEIGHTS)
  for name, value in dict(overrides or {}).items():
    if name not in TERMS:
      near = difflib.get_close_matches(name, TERMS, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(f'unknown reward term {name!r}{hint} Known terms: {list(TERMS)}')
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float('inf'):
      raise ValueError(f'reward weight {name}={value!r} must be a finite number; 0 switches the term off')
    weights[name] = float(value)
  return weights


def reward_terms(t: Transition, weights: Mapping[str, float]) -> dict[str, jax.Array]:
  """Weighted value of every term, each [] float32; the reward is their sum. Terms of weight 0 are not computed."""
  return {
    name: weights[name] * term(t) if weights[name] else jnp.zeros((), jnp.float32) for name, term in TERMS.items()
  }
