"""From frame tokens and a goal to the context F_c that the decoder attends to (S2E, arXiv:2507.22028)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.attention import ACTIVATIONS, LAYER_NORM_EPSILON, FeedForward, SelfAttention
from s2e_jax.policy.dense import Dense

GOAL_DISTANCE_MIN, GOAL_DISTANCE_MAX = 0.1, 200.0  # metres, as in the released model's input


def goal_features(goal_in_robot: jax.Array) -> jax.Array:
  """(clip(d, 0.1, 200) / 200, cos bearing, sin bearing) [*B, 3] of goals [*B, 2] in metres.

  A goal at the origin counts as straight ahead; values and gradients are finite there too.
  """
  is_here = jnp.sum(jnp.square(goal_in_robot), axis=-1, keepdims=True) < 1e-12
  safe = jnp.where(is_here, jnp.asarray([1.0, 0.0]), goal_in_robot)
  distance = jnp.sqrt(jnp.sum(jnp.square(safe), axis=-1, keepdims=True))
  clipped = jnp.clip(jnp.where(is_here, 0.0, distance), GOAL_DISTANCE_MIN, GOAL_DISTANCE_MAX)
  return jnp.concatenate([clipped / GOAL_DISTANCE_MAX, safe / distance], axis=-1)


class GoalEncoder(nn.Module):
  """Goal token [*B, D]: an MLP of `goal_features`, or a learned null token where has_goal is False.

  Without a goal, the values in goal_in_robot (NaN included) have no influence and get zero gradient.
  """

  width: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, goal_in_robot: jax.Array, has_goal: jax.Array) -> jax.Array:
    """goal_in_robot [*B, 2] metres, has_goal [*B] bool -> [*B, D]."""
    has_goal = has_goal[..., None]
    features = goal_features(jnp.where(has_goal, goal_in_robot.astype(jnp.float32), 0.0))
    x = ACTIVATIONS[self.activation](Dense(self.width, dtype=self.dtype, name='hidden')(features))
    x = Dense(self.width, dtype=self.dtype, name='out')(x)
    null = self.param('null', nn.initializers.normal(0.02), (self.width,))
    return jnp.where(has_goal, x, null.astype(x.dtype))


class ContextEncoder(nn.Module):
  """Context F_c [*B, K+1, D]: pre-LN self-attention over K frame tokens (oldest first) and the goal token.

  Every frame slot has a learned embedding (ours), which says how old a frame is.
  """

  num_layers: int
  num_heads: int
  mlp_dim: int
  activation: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, frame_tokens: jax.Array, goal_token: jax.Array) -> jax.Array:
    """frame_tokens [*B, K, D], goal_token [*B, D] -> [*B, K+1, D]."""
    slots = self.param('slots', nn.initializers.normal(0.02), frame_tokens.shape[-2:])
    frames = frame_tokens.astype(self.dtype) + slots.astype(self.dtype)
    x = jnp.concatenate([frames, goal_token[..., None, :].astype(self.dtype)], axis=-2)
    for i in range(self.num_layers):
      x = x + SelfAttention(self.num_heads, self.dtype, name=f'layer_{i}_attention')(x)
      x = x + FeedForward(self.mlp_dim, self.activation, self.dtype, name=f'layer_{i}_mlp')(x)
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
