"""Heads: anchor features to the parameters of the AGDM mixture (S2E, arXiv:2507.22028). Outputs are float32."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.attention import ACTIVATIONS
from s2e_jax.policy.dense import Dense
from s2e_jax.structs import MIN_STEP_LENGTH, TrajectoryMixture

LOG_STD_MIN, LOG_STD_MAX = -3.0, 2.0  # in log normalised units
RHO_MAX = 0.5
STEP_LENGTH_INIT = 0.25  # metres per 0.25 s, a walking pace


class Head(nn.Module):
  """One hidden layer of width D and a float32 linear output: [*B, M, D] -> [*B, M, num_outputs]."""

  num_outputs: int
  activation: str
  dtype: jnp.dtype
  output_bias: float | None = 0.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """See the class. The output layer starts small, so that modes start at their anchors with equal scores."""
    x = ACTIVATIONS[self.activation](Dense(x.shape[-1], dtype=self.dtype, name='hidden')(x))
    return Dense(
      self.num_outputs,
      dtype=jnp.float32,
      kernel_init=nn.initializers.variance_scaling(1e-4, 'fan_in', 'truncated_normal'),
      use_bias=self.output_bias is not None,
      bias_init=nn.initializers.constant(self.output_bias or 0.0),
      name='out',
    )(x)


class Heads(nn.Module):
  """Score, trajectory and velocity heads.

  The mean of mode m is a residual on the straight, evenly spaced line to its anchor, so that every mode starts as
  that line (ours: the paper does not say how means relate to anchors). log_std is bounded by tanh to (-3, 2), rho
  is 0.5 tanh, step_length is 0.01 m plus a softplus that starts at 0.25 m (1 m/s).
  """

  horizon: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, features: jax.Array, anchors: jax.Array) -> TrajectoryMixture:
    """features [*B, M, D], anchors [M, 2] normalised end points -> mixture [*B, M, ...], all float32."""
    # No bias on the scores: softmax over modes ignores it.
    logits = Head(1, self.activation, self.dtype, output_bias=None, name='score')(features)[..., 0]
    raw = Head(5 * self.horizon, self.activation, self.dtype, name='trajectory')(features)
    raw = raw.reshape(*raw.shape[:-1], self.horizon, 5)
    bias = math.log(math.expm1(STEP_LENGTH_INIT - MIN_STEP_LENGTH))
    velocity = Head(1, self.activation, self.dtype, output_bias=bias, name='velocity')(features)[..., 0]

    share = jnp.arange(1, self.horizon + 1, dtype=jnp.float32) / self.horizon
    line = share[:, None] * anchors.astype(jnp.float32)[:, None, :]  # [M, H, 2]
    middle, half = (LOG_STD_MAX + LOG_STD_MIN) / 2, (LOG_STD_MAX - LOG_STD_MIN) / 2
    return TrajectoryMixture(
      logits=logits,
      mean=line + raw[..., :2],
      log_std=middle + half * jnp.tanh(raw[..., 2:4]),
      rho=RHO_MAX * jnp.tanh(raw[..., 4]),
      step_length=MIN_STEP_LENGTH + jax.nn.softplus(velocity),
    )
