"""The critic: features that no gradient reaches, the goal and privileged state in, a value out."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.attention import ACTIVATIONS, LAYER_NORM_EPSILON
from s2e_jax.policy.context import goal_features
from s2e_jax.policy.dense import Dense


class Critic(nn.Module):
  """MLP value function on stop-gradient context tokens, goal and privileged state.

  S2E, arXiv:2507.22028, trains a critic beside the frozen policy; its form is ours. The context is pooled to the
  mean of its tokens beside its last one, the goal token, and normalised; the value loss never reaches the policy's
  features. hidden: widths of the MLP. dtype: of its products; parameters and the value are float32. The output
  layer starts small, so that first values lie near 0 and first advantages are sums of rewards.
  """

  hidden: tuple[int, ...] = (256, 256)
  activation: str = 'relu'
  dtype: jnp.dtype = jnp.dtype('float32')

  @nn.compact
  def __call__(
    self, context: jax.Array, goal_in_robot: jax.Array, has_goal: jax.Array, privileged: jax.Array
  ) -> jax.Array:
    """Values [*B] float32.

    context: [*B, N, D] tokens, the goal's last. goal_in_robot: [*B, 2] m; without a goal (has_goal [*B] bool is
    False) it has no influence, NaN included. privileged: [*B, P] what only a simulator knows, normalised by the
    caller; P = 0 where there is none.
    """
    tokens = jax.lax.stop_gradient(context).astype(jnp.float32)
    pooled = jnp.concatenate([tokens.mean(axis=-2), tokens[..., -1, :]], axis=-1)
    pooled = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name='norm')(pooled)
    is_told = has_goal[..., None]
    goal = goal_features(jnp.where(is_told, goal_in_robot.astype(jnp.float32), 0.0))
    goal = jnp.where(is_told, goal, 0.0)  # which no goal's cosine and sine are
    x = jnp.concatenate([pooled, goal, privileged.astype(jnp.float32)], axis=-1)
    for i, width in enumerate(self.hidden):
      x = ACTIVATIONS[self.activation](Dense(width, dtype=self.dtype, name=f'hidden_{i}')(x))
    small = nn.initializers.variance_scaling(1e-4, 'fan_in', 'truncated_normal')
    return Dense(1, dtype=jnp.float32, kernel_init=small, name='out')(x)[..., 0]
