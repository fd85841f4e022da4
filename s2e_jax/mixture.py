"""The trajectory mixture as mathematics: density, hard assignment, pretraining loss, public distribution.

Two spaces. *Normalised*: waypoints divided by a velocity scale v (metres per 0.25 s step); the loss lives here
and divides the truth by its own v. *Metres*: `in_metres(mixture)` multiplies every mode by its predicted v; that
is the predictive distribution proper, and what calibration judges.

S2E, arXiv:2507.22028, AGDM: q(w | o) = sum_m q_m N(w; mu_m, Sigma_m), Sigma_m block diagonal with one 2x2 block
per waypoint, hard assignment to one mode h, L = -log N_h - log q_h + (v_hat - v)^2.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp

from s2e_jax.structs import DT, MIN_STEP_LENGTH, TrajectoryMixture

ASSIGNMENTS = ('pred_direction', 'anchor_endpoint', 'ade')
# Densities are exact inside these ranges (the policy's heads stay well within them: log-sigma in (-3, 2), rho
# within +-0.5) and constant in the parameter outside, where float32 would overflow.
LOG_STD_RANGE = (-10.0, 10.0)
RHO_LIMIT = 0.999
_NO_DIRECTION = 0.1  # steps: a net displacement shorter than this has no direction to speak of


def normalise_targets(waypoints_in_robot: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Waypoints in units of v [*B, H, 2] and v itself [*B] (m per step), of waypoints [*B, H, 2] (m), mask [*B, H].

  v is the mean length of the valid steps, the first one from the origin, at least MIN_STEP_LENGTH; a step is valid
  where both its ends are. Masked waypoints become zero.
  """
  waypoints = jnp.where(mask[..., None], waypoints_in_robot, 0.0)
  start = jnp.concatenate([jnp.zeros_like(waypoints[..., :1, :]), waypoints[..., :-1, :]], axis=-2)
  valid = mask & jnp.concatenate([jnp.ones_like(mask[..., :1]), mask[..., :-1]], axis=-1)
  step_length = _masked_mean(_length(waypoints - start), valid)
  step_length = jnp.maximum(step_length, MIN_STEP_LENGTH)
  return waypoints / step_length[..., None, None], step_length


def in_metres(mixture: TrajectoryMixture) -> TrajectoryMixture:
  """The same mixture over waypoints in metres: mean and sigma multiplied by each mode's v, and step_length one."""
  v = jnp.maximum(mixture.step_length, MIN_STEP_LENGTH)[..., None, None]
  return dataclasses.replace(
    mixture,
    mean=v * mixture.mean,
    log_std=mixture.log_std + jnp.log(v),
    step_length=jnp.ones_like(mixture.step_length),
  )


def waypoint_log_prob(mixture: TrajectoryMixture, waypoints: jax.Array) -> jax.Array:
  """Bivariate Gaussian log-densities [*B, M, H] of waypoints [*B, H, 2] under every mode, in mean's own units."""
  log_std = jnp.clip(mixture.log_std, *LOG_STD_RANGE)
  rho = jnp.clip(mixture.rho, -RHO_LIMIT, RHO_LIMIT)
  z = (waypoints[..., None, :, :] - mixture.mean) * jnp.exp(-log_std)
  zx, zy = z[..., 0], z[..., 1]
  one_minus_rho2 = (1.0 - rho) * (1.0 + rho)
  # zx^2 - 2 rho zx zy + zy^2 as a sum of two squares: never negative, however far the target
  mahalanobis2 = zx * zx + (zy - rho * zx) ** 2 / one_minus_rho2
  return -0.5 * mahalanobis2 - log_std.sum(axis=-1) - 0.5 * jnp.log(one_minus_rho2) - math.log(2.0 * math.pi)


def log_prob(mixture: TrajectoryMixture, waypoints: jax.Array, mask: jax.Array) -> jax.Array:
  """Log-density [*B, M] of each mode, summed over valid waypoints; waypoints [*B, H, 2] in mean's units.

  mask: [*B, H] bool. Masked waypoints may hold anything, NaN included. A fully masked window gives 0.
  """
  per_waypoint = waypoint_log_prob(mixture, jnp.where(mask[..., None], waypoints, 0.0))
  return jnp.where(mask[..., None, :], per_waypoint, 0.0).sum(axis=-1)


def mixture_log_prob(mixture: TrajectoryMixture, waypoints: jax.Array, mask: jax.Array) -> jax.Array:
  """Log-density [*B] of the whole mixture (logsumexp over modes); waypoints [*B, H, 2] in mean's units."""
  return jax.nn.logsumexp(jax.nn.log_softmax(mixture.logits) + log_prob(mixture, waypoints, mask), axis=-1)


def assign(
  mixture: TrajectoryMixture, anchors: jax.Array, target: jax.Array, mask: jax.Array, rule: str
) -> jax.Array:
  """The mode h [*B] int32 that learns from each target; no gradient passes through the choice.

  anchors: [M, 2] normalised end points. target: [*B, H, 2] normalised. mask: [*B, H] bool.
  rule:
    'pred_direction' (the paper's): the predicted end point whose direction has the largest cosine with the true
      one; both are taken at the last valid waypoint. Deviation: a target that ends within a tenth of a step of
      where it began has no direction, and follows 'ade' instead of always feeding mode 0.
    'anchor_endpoint': the anchor nearest to the true end point; a shortened target is first stretched to the full
      horizon, or else it would always choose a near anchor.
    'ade': the smallest mean displacement over valid waypoints.
  Ties go to the lowest index. Raises ValueError for another rule.
  """
  if rule not in ASSIGNMENTS:
    raise ValueError(f'assignment={rule!r} must be one of {ASSIGNMENTS}')
  mean = jax.lax.stop_gradient(mixture.mean)
  target = jnp.where(mask[..., None], jax.lax.stop_gradient(target), 0.0)
  is_last = last_valid(mask)[..., None]
  true_end = (target * is_last).sum(axis=-2)
  if rule == 'anchor_endpoint':
    stretch = mask.shape[-1] / jnp.maximum(mask.sum(axis=-1), 1)
    flat = (true_end * stretch[..., None]).reshape(-1, 1, 2)
    return jnp.argmin(_length(anchors[None] - flat), axis=-1).reshape(true_end.shape[:-1]).astype(jnp.int32)
  error = _masked_mean(_length(mean - target[..., None, :, :]), mask[..., None, :])
  nearest = jnp.argmin(error, axis=-1)
  if rule == 'ade':
    return nearest.astype(jnp.int32)
  predicted_end = (mean * is_last[..., None, :, :]).sum(axis=-2)
  # the length of the truth scales all cosines alike, so it can stay out
  cosine = (predicted_end * true_end[..., None, :]).sum(axis=-1) / jnp.maximum(_length(predicted_end), 1e-6)
  has_direction = _length(true_end) >= _NO_DIRECTION
  return jnp.where(has_direction, jnp.argmax(cosine, axis=-1), nearest).astype(jnp.int32)


def pretrain_loss(
  mixture: TrajectoryMixture,
  anchors: jax.Array,
  waypoints_in_robot: jax.Array,
  waypoint_mask: jax.Array,
  assignment: str = 'pred_direction',
  score_weight: float = 1.0,
  velocity_weight: float = 1.0,
) -> dict[str, jax.Array]:
  """AGDM pretraining loss and diagnostics per window; the caller takes the masked mean over windows.

  waypoints_in_robot: [*B, H, 2] metres. waypoint_mask: [*B, H] bool. anchors: [M, 2] normalised end points.

  Every value is [*B] except mode_used [*B, M]:
    loss = nll + score_weight * score_ce + velocity_weight * velocity_mse
    nll: -log N_h, mean over valid waypoints. Deviation: the paper's is the sum over the trajectory; the mean lets
      windows that the end of a clip cut short weigh like the others (full windows differ by the factor H alone).
    score_ce: -log q_h.
    velocity_mse: (v_hat_h - v)^2 in (m/s)^2, i.e. both steps divided by 0.25 s; in metres per step the term
      would be 16 times weaker and, at walking pace, drowned by the other two.
    score_entropy (nats), sigma_mean, sigma_min, sigma_max, rho_abs (all modes, normalised units), ade_top (metres,
      mode of the highest score), mode_used (one-hot of the assigned mode): they make mode collapse visible.
  A fully masked window gives zeros and no gradient; M = 1 is the unimodal variant (S2E-BC-Single), with
  score_ce = 0.
  """
  batch, num_modes, horizon = mixture.logits.shape[:-1], mixture.logits.shape[-1], mixture.mean.shape[-2]
  chex.assert_shape(waypoints_in_robot, (*batch, horizon, 2))
  chex.assert_shape(waypoint_mask, (*batch, horizon))
  chex.assert_shape(anchors, (num_modes, 2))
  mask = waypoint_mask
  is_seen = mask.any(axis=-1)
  target, step_length = normalise_targets(waypoints_in_robot, mask)
  mode = assign(mixture, anchors, target, mask, assignment)
  chosen = jax.nn.one_hot(mode, mixture.logits.shape[-1], dtype=mixture.logits.dtype)

  # select, do not multiply: a far target makes other modes' densities huge, and 0 * inf is NaN
  def of_chosen(values: jax.Array) -> jax.Array:
    return jnp.where(is_seen, jnp.take_along_axis(values, mode[..., None], axis=-1)[..., 0], 0.0)

  num_valid = jnp.maximum(mask.sum(axis=-1), 1)
  nll = -of_chosen(log_prob(mixture, target, mask)) / num_valid
  log_q = jax.nn.log_softmax(mixture.logits)
  score_ce = -of_chosen(log_q)
  velocity_mse = of_chosen(((mixture.step_length - step_length[..., None]) / DT) ** 2)

  mixture, log_q = jax.lax.stop_gradient((mixture, log_q))
  sigma = jnp.exp(mixture.log_std)
  top = jnp.argmax(mixture.logits, axis=-1)[..., None, None, None]
  top_waypoints = jnp.take_along_axis(mixture.waypoints_in_robot, top, axis=-3)[..., 0, :, :]
  truth = jnp.where(mask[..., None], waypoints_in_robot, 0.0)
  axes = (-3, -2, -1)
  return {
    'loss': nll + score_weight * score_ce + velocity_weight * velocity_mse,
    'nll': nll,
    'score_ce': score_ce,
    'velocity_mse': velocity_mse,
    'score_entropy': -(jnp.exp(log_q) * log_q).sum(axis=-1),
    'sigma_mean': sigma.mean(axis=axes),
    'sigma_min': sigma.min(axis=axes),
    'sigma_max': sigma.max(axis=axes),
    'rho_abs': jnp.abs(mixture.rho).mean(axis=axes[1:]),
    'ade_top': _masked_mean(_length(top_waypoints - truth), mask),
    'mode_used': jnp.where(is_seen[..., None], chosen, 0.0),
  }


def as_distrax(mixture: TrajectoryMixture, metric: bool = True) -> Any:
  """The public distribution: `distrax.MixtureSameFamily` over flattened trajectories, event shape [2 H].

  The event is x0 y0 x1 y1 ..: reshape samples to [..., H, 2]. One component is one whole trajectory, so a sample
  never mixes modes. metric: over metres (default), or over normalised waypoints.
  """
  import distrax  # takes a second to import, and only users of the public distribution need it

  if metric:
    mixture = in_metres(mixture)
  std, rho = jnp.exp(mixture.log_std), mixture.rho
  sx, sy = std[..., 0], std[..., 1]
  rows = jnp.stack([sx, jnp.zeros_like(sx), rho * sy, jnp.sqrt(1.0 - rho * rho) * sy], axis=-1)
  blocks = rows.reshape(*rows.shape[:-1], 2, 2)
  horizon = mixture.mean.shape[-2]
  scale_tri = jnp.einsum('...hij,hk->...hikj', blocks, jnp.eye(horizon, dtype=blocks.dtype))
  flat = (*mixture.mean.shape[:-2], 2 * horizon)
  return distrax.MixtureSameFamily(
    distrax.Categorical(logits=mixture.logits),
    distrax.MultivariateNormalTri(mixture.mean.reshape(flat), scale_tri.reshape(*flat, 2 * horizon)),
  )


def last_valid(mask: jax.Array) -> jax.Array:
  """[*B, H] bool that is True at the last True of each row of mask [*B, H] (all False where there is none)."""
  later = jnp.cumsum(mask[..., ::-1].astype(jnp.int32), axis=-1)[..., ::-1]
  return mask & (later == 1)


def _length(vectors: jax.Array) -> jax.Array:
  """Euclidean length over the last axis, with a finite gradient at zero."""
  squared = (vectors * vectors).sum(axis=-1)
  is_zero = squared == 0
  return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def _masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over the last axis where mask (broadcastable) is True; 0 where it never is."""
  return jnp.where(mask, values, 0.0).sum(axis=-1) / jnp.maximum(mask.sum(axis=-1), 1)
