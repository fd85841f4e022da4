"""The policy's distribution over commands: Gaussians around F_d of every mode of a trajectory mixture.

S2E, arXiv:2507.22028, RL finetuning. Mode m keeps its score q_m, its mean is the command of its metric trajectory,
F_d(v_m mu_m), and its standard deviation is a learned exploration std that is *restored* before RL, because the
sigmas of pretraining collapse and are of waypoints, not of commands (s2e: ours, where the paper is silent).

Everything here is about the command **as sampled**, on all of R^2. Means lie within the robot's limits, samples
may not: the environment clamps them (`sim.episode.command_of`), and what PPO stores and evaluates is the sample
before that. So densities are proper, ratios exact, and the clamp is a part of the world, like the lag of a motor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.controller import KNEE, CommandLimits, smooth_clip, trajectory_to_command
from s2e_jax.structs import TrajectoryMixture

ESTIMATORS = ('bound', 'monte_carlo', 'pairwise', 'pairwise_lower')
STD_RANGE = (0.02, 2.0)  # m/s and rad/s: exploration that neither freezes nor blows up
EXPLORATION_STD = (0.3, 0.4)  # m/s, rad/s
_LOG_STD_RANGE = (math.log(STD_RANGE[0]), math.log(STD_RANGE[1]))
_FAR = 1e6  # m/s and rad/s from a mean: farther commands count as this far, and float32 never overflows
_MAX_LOG_RATIO = 20.0


@struct.dataclass
class CommandMixture:
  """Mixture of M Gaussians over commands (v m/s, w rad/s), independent in v and w (S2E, arXiv:2507.22028).

  logits: [*B, M] unnormalised anchor scores.
  mean: [*B, M, 2] m/s, rad/s.
  log_std: [2] or [*B, M, 2] log standard deviations (whatever broadcasts to mean), within log STD_RANGE.
  """

  logits: jax.Array
  mean: jax.Array
  log_std: jax.Array


def restored_log_std(std: Sequence[float] = EXPLORATION_STD) -> jax.Array:
  """The exploration parameter [2] float32 with which RL starts: `bounded_log_std` of it is exactly log `std`.

  std: m/s and rad/s. Raises ValueError where a std is not well within STD_RANGE, where the bound would change it.
  """
  margin = (STD_RANGE[1] / STD_RANGE[0]) ** KNEE
  low, high = STD_RANGE[0] * margin, STD_RANGE[1] / margin
  if len(std) != 2 or not all(low <= s <= high for s in std):
    raise ValueError(f'exploration std={tuple(std)} must be two numbers (m/s, rad/s) from {low:.3f} to {high:.2f}')
  return jnp.log(jnp.asarray(std, jnp.float32))


def bounded_log_std(parameter: jax.Array) -> jax.Array:
  """A free parameter bent into log STD_RANGE: itself in the middle 80 %, and never without a gradient."""
  return smooth_clip(parameter, *_LOG_STD_RANGE)


def command_mixture(
  trajectories: TrajectoryMixture,
  log_std: jax.Array,
  limits: CommandLimits,
  lookahead: int = 2,
  rule: str = 'arc',
) -> CommandMixture:
  """The mixture over commands of a mixture over trajectories [*B]; gradients reach its logits, mean, step_length.

  log_std: [2] or [*B, M, 2] free exploration parameter (`restored_log_std`); it is bounded here. lookahead, rule:
  of `controller.trajectory_to_command`. Log-sigma and rho of the trajectories play no part.
  """
  mean = trajectory_to_command(trajectories.waypoints_in_robot, limits, lookahead, rule)
  return CommandMixture(trajectories.logits, mean, bounded_log_std(log_std))


def sample(key: jax.Array, mixture: CommandMixture, mode: jax.Array | None = None) -> jax.Array:
  """One command [*B, 2] each: a mode by its score, then that mode's Gaussian. Consumes the key. Not clamped.

  mode: [*B] int, of the Gaussian that is drawn from instead.
  """
  mode_key, noise_key = jax.random.split(key)
  if mode is None:
    mode = jax.random.categorical(mode_key, mixture.logits)
  mean = _of_mode(mixture.mean, mode)
  return mean + jnp.exp(_of_mode(_all_log_std(mixture), mode)) * jax.random.normal(
    noise_key, mean.shape, mean.dtype
  )


def mode_command(mixture: CommandMixture) -> jax.Array:
  """The deterministic command [*B, 2] by which policies are judged: the mean of the mode of the highest score."""
  return _of_mode(mixture.mean, jnp.argmax(mixture.logits, axis=-1))


def log_prob(mixture: CommandMixture, command: jax.Array) -> jax.Array:
  """Log-density [*B] of unclamped commands [*B, 2], marginal over modes: PPO's log-probability, always finite.

  Not that of the sampled mode: where modes overlap, a command that one of them gave speaks for the others too.
  """
  return jax.nn.logsumexp(jax.nn.log_softmax(mixture.logits) + _mode_log_prob(mixture, command), axis=-1)


def entropy(
  mixture: CommandMixture, estimator: str = 'bound', key: jax.Array | None = None, num_samples: int = 1
) -> jax.Array:
  """Differential entropy [*B] (nats) of the mixture, which has no closed form; with H_m that of mode m:

  'bound': sum_m q_m (H_m - log q_m), entropy of mode and command together (Huber et al., "On entropy approximation
    for Gaussian mixture random vectors", MFI 2008). An upper bound: exact where modes lie apart, too high by up to
    log M where they are alike. Ours for the simplified entropy of S2E, arXiv:2507.22028.
  'pairwise': sum_m q_m (H_m - log sum_n q_n exp(-KL(m || n))), a tighter upper bound (Kolchinsky and Tracey,
    "Estimating mixture entropy with pairwise distances", arXiv:1706.02419).
  'pairwise_lower': the same with the Bhattacharyya distance (Chernoff's at alpha = 1/2), a lower bound (there).
  'monte_carlo': -sum_m q_m mean_s log p(x_ms), x_ms = mean_m + std_m * noise: stratified by mode, so that value
    and gradient are unbiased, scores included. Consumes `key`; num_samples of each mode, at M densities each.

  Raises ValueError for another estimator or a missing key.
  """
  if estimator not in ESTIMATORS:
    raise ValueError(f'entropy estimator={estimator!r} must be one of {ESTIMATORS}')
  log_q = jax.nn.log_softmax(mixture.logits)
  if estimator == 'monte_carlo':
    if key is None:
      raise ValueError('entropy estimator=monte_carlo draws samples; give it a key')
    noise = jax.random.normal(key, (num_samples, *mixture.mean.shape), mixture.mean.dtype)
    drawn = jax.vmap(lambda n: mixture.mean + jnp.exp(_log_std(mixture)) * n)(noise)  # [S, *B, M, 2]
    of_modes = jax.vmap(log_prob, in_axes=(None, -2), out_axes=-1)  # [*B, M, 2] under the whole mixture
    surprise = -jax.vmap(of_modes, in_axes=(None, 0))(mixture, drawn).mean(axis=0)
    return (jnp.exp(log_q) * surprise).sum(axis=-1)
  of_mode = _log_std(mixture).sum(axis=-1) + math.log(2.0 * math.pi * math.e)
  if estimator == 'bound':
    return (jnp.exp(log_q) * (of_mode - log_q)).sum(axis=-1)
  distance = _kl(mixture) if estimator == 'pairwise' else _bhattacharyya(mixture)
  overlap = jax.nn.logsumexp(log_q[..., None, :] - distance, axis=-1)
  return (jnp.exp(log_q) * (of_mode - overlap)).sum(axis=-1)


def kl_estimate(log_ratio: jax.Array) -> jax.Array:
  """Estimates [*B] of KL(old || new), to be averaged, from log new(c) - log old(c) of commands c drawn from old.

  (ratio - 1) - log ratio: unbiased, never negative, and of far less variance than -log ratio (Schulman,
  joschu.net/blog/kl-approx.html, k3). Drives the adaptive learning rate. Ratios beyond e^20 count as e^20.
  """
  bounded = jnp.minimum(log_ratio, _MAX_LOG_RATIO)
  return jnp.expm1(bounded) - bounded


def as_distrax(mixture: CommandMixture) -> Any:
  """The public distribution: `distrax.MixtureSameFamily` over commands, event shape [2]."""
  import distrax  # takes a second to import, and only users of the public distribution need it

  return distrax.MixtureSameFamily(
    distrax.Categorical(logits=mixture.logits),
    distrax.MultivariateNormalDiag(mixture.mean, jnp.exp(_all_log_std(mixture))),
  )


def _log_std(mixture: CommandMixture) -> jax.Array:
  """log_std with as many axes as the mean: a shared one keeps its single row, whose exp is then computed once."""
  log_std = jnp.asarray(mixture.log_std)
  return log_std.reshape(*[1] * (mixture.mean.ndim - log_std.ndim), *log_std.shape)


def _all_log_std(mixture: CommandMixture) -> jax.Array:
  """[*B, M, 2] log standard deviations."""
  return jnp.broadcast_to(_log_std(mixture), mixture.mean.shape)


def _of_mode(values: jax.Array, mode: jax.Array) -> jax.Array:
  """[*B, 2] of values [*B, M, 2] at mode [*B]."""
  return jnp.take_along_axis(values, mode[..., None, None], axis=-2)[..., 0, :]


# Below, v and w are taken apart: a last axis of 2 would leave most of a vector register empty.


def _mode_log_prob(mixture: CommandMixture, command: jax.Array) -> jax.Array:
  """Log-density [*B, M] of commands [*B, 2] under every mode."""

  def along(i: int) -> jax.Array:
    log_std = _log_std(mixture)[..., i]
    away = jnp.clip(command[..., None, i] - mixture.mean[..., i], -_FAR, _FAR)
    return -0.5 * jnp.square(away * jnp.exp(-log_std)) - log_std

  return along(0) + along(1) - math.log(2.0 * math.pi)


def _pairs(values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Values [*B, M] of mode m and of mode n, to broadcast to [*B, M, M]."""
  return values[..., :, None], values[..., None, :]


def _kl(mixture: CommandMixture) -> jax.Array:
  """KL(m || n) [*B, M, M] between modes."""

  def along(i: int) -> jax.Array:
    (mean_m, mean_n), (of_m, of_n) = _pairs(mixture.mean[..., i]), _pairs(2.0 * _log_std(mixture)[..., i])
    return 0.5 * (jnp.square(mean_m - mean_n) * jnp.exp(-of_n) + jnp.expm1(of_m - of_n) - (of_m - of_n))

  return along(0) + along(1)


def _bhattacharyya(mixture: CommandMixture) -> jax.Array:
  """Bhattacharyya distance [*B, M, M] between modes."""

  def along(i: int) -> jax.Array:
    (mean_m, mean_n), (of_m, of_n) = _pairs(mixture.mean[..., i]), _pairs(2.0 * _log_std(mixture)[..., i])
    middle = jnp.logaddexp(of_m, of_n) - math.log(2.0)  # log of the mean variance
    return jnp.square(mean_m - mean_n) * jnp.exp(-middle) / 8.0 + 0.5 * (middle - 0.5 * (of_m + of_n))

  return along(0) + along(1)
