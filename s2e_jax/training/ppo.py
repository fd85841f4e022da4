"""Proximal policy optimisation of a command mixture (Schulman et al., arXiv:1707.06347; S2E, arXiv:2507.22028).

Minimises -L_clip + alpha L_value - beta H over what the variant trains. Under a frozen trunk the epochs compute
only decoder, heads and critic on stored context tokens; where the trunk trains, a minibatch is a set of whole
environments, each of whose frames is encoded once per epoch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics
from flax import struct

from s2e_jax import command_mixture
from s2e_jax.gae import generalised_advantages
from s2e_jax.policy.ring import frame_index
from s2e_jax.training import epochs, parallel
from s2e_jax.training.agent import Agent
from s2e_jax.training.groups import group_advantages
from s2e_jax.training.rollout import Rollout, normalised


@dataclasses.dataclass(frozen=True)
class PPOOptions:
  """Numbers of config.ppo; defaults are those of the S2E authors' navigation PPO, beta is S2E's.

  num_epochs, num_minibatches: per rollout. clip: of ratios. value_clip: of normalised values, 0 = none.
  value_weight: alpha. entropy_weight: beta. entropy: estimator of `command_mixture.entropy`. gamma, lam: of GAE.
  group: environments that begin a rollout in one copied state and are compared with each other (`groups`), instead
  of GAE; 0 = GAE.
  target_kl: the learning rate is divided by rate_factor where an update's KL exceeds twice this, multiplied where
  it is below half of it; 0 = a fixed rate. rate_range: of the learning rate. chunk: samples whose gradient is
  taken at once, 0 = all of a minibatch; on CPUs small chunks stay in the cache.
  """

  num_epochs: int = 5
  num_minibatches: int = 4
  clip: float = 0.2
  value_clip: float = 0.2
  value_weight: float = 1.0
  entropy_weight: float = 0.001
  entropy: str = 'bound'
  gamma: float = 0.99
  lam: float = 0.95
  group: int = 0
  target_kl: float = 0.01
  rate_factor: float = 1.5
  rate_range: tuple[float, float] = (1e-5, 1e-2)
  chunk: int = 0

  def __post_init__(self) -> None:
    """Raises ValueError when a number breaks its rule."""
    for name in ('num_epochs', 'num_minibatches'):
      if getattr(self, name) < 1:
        raise ValueError(f'ppo.{name}={getattr(self, name)!r} must be at least 1')
    for name in ('clip', 'rate_factor'):
      if not getattr(self, name) > 0:
        raise ValueError(f'ppo.{name}={getattr(self, name)!r} must be > 0')
    for name in ('value_clip', 'value_weight', 'entropy_weight', 'target_kl', 'chunk'):
      if not getattr(self, name) >= 0:
        raise ValueError(f'ppo.{name}={getattr(self, name)!r} must not be negative')
    for name in ('gamma', 'lam'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'ppo.{name}={getattr(self, name)!r} must be in 0..1')
    if self.group < 0 or self.group == 1:
      raise ValueError(f'ppo.group={self.group} must be 0 (GAE) or at least 2 copies of one state')
    if self.entropy not in command_mixture.ESTIMATORS:
      raise ValueError(f'ppo.entropy={self.entropy!r} must be one of {command_mixture.ESTIMATORS}')
    if not 0 < self.rate_range[0] <= self.rate_range[1]:
      raise ValueError(f'ppo.rate_range={self.rate_range!r} must be (low, high) with 0 < low <= high')


@struct.dataclass
class Learner:
  """What updates change. params: of the whole agent. opt_state: of `variants.make_finetune_optimizer`.

  privileged_stats, return_stats: running mean and deviation of state vectors [P] and returns [1].
  """

  params: Any
  opt_state: Any
  privileged_stats: Any
  return_stats: Any


@struct.dataclass
class Samples:
  """What the loss reads; leading axis of samples N, then T where the trunk trains (a sample is an environment).

  context: [N, K+1, D] or None; frames: [N, F, h, w, 3] and begins [N, F] then. goal [N, (T), 2], privileged
  [N, (T), P] normalised, command [N, (T), 2]; log_prob, value, advantage, target [N, (T)].
  """

  context: Any
  frames: Any
  begins: Any
  goal: jax.Array
  privileged: jax.Array
  command: jax.Array
  log_prob: jax.Array
  value: jax.Array
  advantage: jax.Array
  target: jax.Array


def samples_of(
  rollout: Rollout, learner: Learner, options: PPOOptions
) -> tuple[Samples, jax.Array, dict[str, Any]]:
  """(samples, returns [T, B] in units of reward, figures) of one device's rollout; inside `pmap`.

  Advantages are normalised over all devices, targets by the running deviation of returns.
  """
  stats = learner.return_stats
  scale = lambda value: value * stats.std[0] + stats.mean[0]
  values, last = scale(rollout.value), scale(rollout.last_value)
  advantages, returns = generalised_advantages(
    rollout.reward, values, last, rollout.terminated, rollout.truncated, options.gamma, options.lam
  )
  if options.group:
    advantages = group_advantages(
      rollout.reward, values, last, rollout.terminated, rollout.truncated, options.gamma, options.group
    )
  mean = parallel.pmean(advantages.mean())
  deviation = jnp.sqrt(parallel.pmean(jnp.mean((advantages - mean) ** 2)))
  error = parallel.pmean(jnp.mean((returns - values) ** 2))
  spread = parallel.pmean(jnp.mean(returns**2)) - parallel.pmean(returns.mean()) ** 2
  figures = {
    'explained_variance': 1 - error / jnp.maximum(spread, 1e-8),
    'return_mean': parallel.pmean(returns.mean()),
    'advantage_std': deviation,
  }
  is_cached = rollout.context is not None
  order = (lambda x: x.reshape(-1, *x.shape[2:])) if is_cached else (lambda x: jnp.swapaxes(x, 0, 1))
  ordered = lambda x: None if x is None else order(x)
  samples = Samples(
    context=ordered(rollout.context),
    frames=ordered(rollout.frames),
    begins=ordered(rollout.begins),
    goal=order(rollout.goal),
    privileged=order(normalised(rollout.privileged, learner.privileged_stats)),
    command=order(rollout.command),
    log_prob=order(rollout.log_prob),
    value=order(rollout.value),
    advantage=order((advantages - mean) / (deviation + 1e-8)),
    target=order((returns - stats.mean[0]) / stats.std[0]),
  )
  return samples, returns, figures


def contexts_of(agent: Agent, params: Any, model_state: Any, samples: Samples) -> jax.Array:
  """The context tokens of samples: as stored, or of frames that are encoded once each."""
  if samples.context is not None:
    return samples.context
  tokens = agent.encode(params, model_state, samples.frames)  # [N, F, D]
  index = jax.vmap(lambda begins: frame_index(begins, agent.policy.config.num_history))(samples.begins)
  stacks = jax.vmap(lambda tokens, index: tokens[index])(tokens, index)  # [N, T, K, D]
  return agent.context(params, model_state, stacks, samples.goal)


def ppo_loss(
  agent: Agent, options: PPOOptions, params: Any, model_state: Any, samples: Samples, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """(loss [], figures []) as means over all entries of `samples`. key: for the Monte-Carlo entropy."""
  context = contexts_of(agent, params, model_state, samples)
  mixture = agent.commands(params, model_state, context)
  log_ratio = command_mixture.log_prob(mixture, samples.command) - samples.log_prob
  # beyond e^20 the clipped objective is flat, but its unclipped half would overflow
  ratio = jnp.exp(jnp.clip(log_ratio, -20.0, 20.0))
  clipped = jnp.clip(ratio, 1 - options.clip, 1 + options.clip)
  gain = jnp.minimum(ratio * samples.advantage, clipped * samples.advantage)

  value = agent.value(params, context, samples.goal, samples.privileged)
  error = (value - samples.target) ** 2
  if options.value_clip:
    near = samples.value + jnp.clip(value - samples.value, -options.value_clip, options.value_clip)
    error = jnp.maximum(error, (near - samples.target) ** 2)
  entropy = command_mixture.entropy(mixture, options.entropy, key)
  figures = {
    'policy_loss': -gain.mean(),
    'value_loss': error.mean(),
    'entropy': entropy.mean(),
    'kl': command_mixture.kl_estimate(log_ratio).mean(),
    'clip_fraction': (jnp.abs(ratio - 1) > options.clip).astype(jnp.float32).mean(),
    'ratio_max': ratio.max(),
  }
  loss = figures['policy_loss'] + options.value_weight * figures['value_loss']
  return loss - options.entropy_weight * figures['entropy'], figures


def adapted_rate(rate: jax.Array, kl: jax.Array, options: PPOOptions) -> jax.Array:
  """The learning rate after an update whose KL was `kl` (Rudin et al., arXiv:2109.11978)."""
  if not options.target_kl:
    return rate
  low, high = options.rate_range
  rate = jnp.where(kl > 2 * options.target_kl, jnp.maximum(rate / options.rate_factor, low), rate)
  slow = (kl < 0.5 * options.target_kl) & (kl >= 0)
  return jnp.where(slow, jnp.minimum(rate * options.rate_factor, high), rate)


def update(
  agent: Agent,
  optimizer: optax.GradientTransformation,
  labels: Any,
  options: PPOOptions,
  learner: Learner,
  model_state: Any,
  rollout: Rollout,
  key: jax.Array,
) -> tuple[Learner, dict[str, jax.Array]]:
  """All epochs over one device's rollout, gradients averaged over devices; inside `pmap`. Consumes the key.

  An update whose gradient is not finite changes nothing and is counted. Returns figures as means over all updates.
  """
  samples, returns, figures = samples_of(rollout, learner, options)
  learner, of_epochs = run_epochs(agent, optimizer, labels, options, learner, model_state, samples, key)
  learner = dataclasses.replace(
    learner,
    # from the next rollout on: first values and first targets agree with those of this one
    privileged_stats=running_statistics.update(
      learner.privileged_stats,
      rollout.privileged.reshape(-1, rollout.privileged.shape[-1]),
      pmap_axis_name=parallel.AXIS,
    ),
    return_stats=running_statistics.update(
      learner.return_stats, returns.reshape(-1, 1), pmap_axis_name=parallel.AXIS
    ),
  )
  return learner, figures | of_epochs


def run_epochs(
  agent: Agent,
  optimizer: optax.GradientTransformation,
  labels: Any,
  options: PPOOptions,
  learner: Learner,
  model_state: Any,
  samples: Samples,
  key: jax.Array,
) -> tuple[Learner, dict[str, jax.Array]]:
  """The epochs of `update` over samples [N, ...]; its statistics stay as they are."""

  def loss(params: Any, samples: Samples, key: jax.Array) -> tuple[jax.Array, Any]:
    return ppo_loss(agent, options, params, model_state, samples, key)

  rate = lambda rate, figures: adapted_rate(rate, figures['kl'], options)
  learner, figures = epochs.run_epochs(loss, optimizer, labels, learner, samples, options, key, rate)
  std = jnp.exp(command_mixture.bounded_log_std(learner.params['exploration']['log_std']))
  return learner, figures | {'exploration_std': std}
