"""Loss benchmark: the closed-form mixture density against distrax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench.timing import Row, interleaved
from s2e_jax import mixture as mixtures
from s2e_jax.structs import TrajectoryMixture


def _random_mixture(batch: int, modes: int, horizon: int) -> TrajectoryMixture:
  keys = jax.random.split(jax.random.key(0), 5)
  return TrajectoryMixture(
    logits=jax.random.normal(keys[0], (batch, modes)),
    mean=jax.random.normal(keys[1], (batch, modes, horizon, 2)),
    log_std=jax.random.uniform(keys[2], (batch, modes, horizon, 2), minval=-2.0, maxval=1.0),
    rho=jax.random.uniform(keys[3], (batch, modes, horizon), minval=-0.4, maxval=0.4),
    step_length=jnp.ones((batch, modes)),
  )


def loss_vs_distrax() -> Row:
  """Value and gradient of the mixture's negative log-likelihood, 128 windows, 8 modes, 10 waypoints."""
  batch, modes, horizon = 128, 8, 10
  mixture = _random_mixture(batch, modes, horizon)
  target = jax.random.normal(jax.random.key(1), (batch, horizon, 2))
  mask = jnp.ones((batch, horizon), bool)

  def closed_form(mixture: TrajectoryMixture) -> Any:
    return -mixtures.mixture_log_prob(mixture, target, mask).mean()

  def through_distrax(mixture: TrajectoryMixture) -> Any:
    return -mixtures.as_distrax(mixture, metric=False).log_prob(target.reshape(batch, -1)).mean()

  ours, theirs = jax.jit(jax.value_and_grad(closed_form)), jax.jit(jax.value_and_grad(through_distrax))
  return interleaved(
    'loss_vs_distrax',
    lambda: ours(mixture),
    lambda: theirs(mixture),
    work=batch,
    unit='windows/s (value and gradient)',
    baseline_name='distrax MixtureSameFamily',
    rounds=31,
  )
