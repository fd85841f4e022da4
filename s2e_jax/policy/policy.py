"""The S2E policy: frames and a goal in, a mixture of trajectories out (S2E, arXiv:2507.22028)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax.policy.anchors import AnchorEncoder
from s2e_jax.policy.config import PolicyConfig, resolve_depthwise, resolve_dtype
from s2e_jax.policy.context import ContextEncoder, GoalEncoder
from s2e_jax.policy.decoder import Decoder
from s2e_jax.policy.dense import Dense
from s2e_jax.policy.encoders.efficientnet import EfficientNetB0
from s2e_jax.policy.encoders.pooling import FrameProjection
from s2e_jax.policy.encoders.small import SIZES, images_at_once, small_encoder
from s2e_jax.policy.encoders.vit import VisionTransformer
from s2e_jax.policy.heads import Heads
from s2e_jax.structs import NUM_CLEARANCES, Observation, TrajectoryMixture
from s2e_jax.trees import count_parameters


def build_encoder(config: PolicyConfig, axis_name: str | None = None) -> nn.Module:
  """The image encoder of `config`, unbound: uint8 images [B, h, w, 3] -> feature map [B, h', w', C]."""
  dtype = resolve_dtype(config.compute_dtype)
  if config.encoder in SIZES:
    return small_encoder(config.encoder, dtype, images_at_once())
  if config.encoder == 'vit_s16':
    return VisionTransformer(dtype=dtype, image_mean=config.image_mean, image_std=config.image_std)
  return EfficientNetB0(
    dtype=dtype,
    norm=config.norm,
    padding=config.encoder_padding,
    bn_epsilon=config.bn_epsilon,
    depthwise=resolve_depthwise(config.depthwise),
    axis_name=axis_name,
    image_mean=config.image_mean,
    image_std=config.image_std,
  )


class Policy(nn.Module):
  """S2E policy. Parameter groups: encoder, frame_proj, goal, context, anchors, decoder, heads.

  Pure and deterministic: no dropout, no random numbers. `train=True` matters only to a batch norm with
  norm='batch', which then uses and updates batch statistics (collection `batch_stats`), averaged over the pmap
  axis `axis_name` if one is given.
  """

  config: PolicyConfig
  axis_name: str | None = None

  def setup(self) -> None:
    """Builds the submodules; raises ValueError when k-means anchors were never computed."""
    c = self.config
    if not c.anchors:
      raise ValueError(
        f'policy {c.name!r} has anchor_kind={c.anchor_kind!r} but no anchors; compute them from the end '
        'points of the training set with kmeans_anchors, or set anchor_kind=fan'
      )
    dtype = resolve_dtype(c.compute_dtype)
    self.encoder = build_encoder(c, self.axis_name)
    self.frame_proj = FrameProjection(c.width, c.pooling, c.num_heads, dtype)
    self.goal = GoalEncoder(c.width, c.activation, dtype)
    self.context_encoder = ContextEncoder(
      c.num_context_layers, c.num_heads, c.mlp_dim, c.activation, dtype, name='context'
    )
    self.anchors = AnchorEncoder(c.width, c.horizon, c.activation, dtype)
    self.decoder = Decoder(
      c.num_decoder_layers, c.num_heads, c.mlp_dim, c.activation, c.anchor_self_attention, dtype, c.ram_input
    )
    self.heads = Heads(c.horizon, c.activation, dtype)
    if c.clearance_head:
      self.clearance = Dense(NUM_CLEARANCES, dtype=jnp.float32)

  def encode_frames(self, frames: jax.Array, train: bool = False) -> jax.Array:
    """One token per frame: [*B, h, w, 3] uint8 (or the same range in float) -> [*B, D]."""
    c = self.config
    if frames.shape[-3:] != (c.image_height, c.image_width, 3):
      raise ValueError(
        f'frames of shape {frames.shape} must end in {(c.image_height, c.image_width, 3)}, the image size '
        f'of policy {c.name!r}; resize them or set image_height and image_width'
      )
    features = self.encoder(frames.reshape(-1, *frames.shape[-3:]), train=train)
    return self.frame_proj(features).reshape(*frames.shape[:-3], c.width)

  def context(self, frame_tokens: jax.Array, goal_in_robot: jax.Array, has_goal: jax.Array) -> jax.Array:
    """Context [*B, K+1, D] of frame tokens [*B, K, D] (oldest first), goals [*B, 2] (m) and has_goal [*B] bool."""
    k = self.config.num_history
    if frame_tokens.shape[-2] != k:
      raise ValueError(f'frame_tokens of shape {frame_tokens.shape} must hold num_history={k} frames on axis -2')
    return self.context_encoder(frame_tokens, self.goal(goal_in_robot, has_goal))

  def decode(self, context: jax.Array) -> TrajectoryMixture:
    """The trajectory mixture over M anchors for a context [*B, K+1, D], which with ram_input gets no gradient."""
    anchors = jnp.asarray(self.config.anchors, jnp.float32)
    return self.heads(self.decoder(self.anchors(anchors), context), anchors)

  def __call__(self, obs: Observation, train: bool = False) -> TrajectoryMixture:
    """The trajectory mixture [*B, M, ...] for observations [*B]."""
    tokens = self.encode_frames(obs.frames, train)
    context = self.context(tokens, obs.goal_in_robot, obs.has_goal)
    if self.is_initializing():
      self.log_clearances(context)
    return self.decode(context)

  def log_clearances(self, context: jax.Array) -> jax.Array | None:
    """Log metres [*B, NUM_CLEARANCES] as `SegmentBatch.clearances`, of a context; None without clearance_head."""
    if not self.config.clearance_head:
      return None
    out: jax.Array = self.clearance(context[..., self.config.num_history - 1, :])
    return out

  def segments(
    self, frames: jax.Array, goal_in_robot: jax.Array, has_goal: jax.Array, train: bool = False
  ) -> tuple[TrajectoryMixture, jax.Array | None]:
    """Mixtures [B, W, M, ...] and `log_clearances` of all windows of B segments, see `segment_contexts`."""
    context = self.segment_contexts(frames, goal_in_robot, has_goal, train)
    return self.decode(context), self.log_clearances(context)

  def segment_contexts(
    self, frames: jax.Array, goal_in_robot: jax.Array, has_goal: jax.Array, train: bool = False
  ) -> jax.Array:
    """Contexts [B, W, K+1, D] of all windows of B segments; every frame is encoded once.

    frames: [B, F, h, w, 3] with F = W + K - 1; window w sees frames w .. w+K-1.
    goal_in_robot: [B, W, 2] metres. has_goal: [B, W] bool.
    """
    num_windows, num_history = has_goal.shape[-1], self.config.num_history
    if frames.shape[1] != num_windows + num_history - 1:
      raise ValueError(
        f'segments of {frames.shape[1]} frames must hold num_windows + num_history - 1 = '
        f'{num_windows} + {num_history} - 1 frames'
      )
    tokens = self.encode_frames(frames, train)
    windows = jnp.stack([tokens[:, k : k + num_windows] for k in range(num_history)], axis=2)
    return self.context(windows, goal_in_robot, has_goal)


def example_observation(config: PolicyConfig, batch: int = 1) -> Observation:
  """A zero observation [batch] with the shapes and dtypes that a policy of `config` takes."""
  frames = jnp.zeros((batch, config.num_history, config.image_height, config.image_width, 3), jnp.uint8)
  return Observation(frames, jnp.zeros((batch, 2), jnp.float32), jnp.zeros((batch,), bool))


def parameter_table(params: Any) -> str:
  """Text table of parameter counts per top-level group, and their total."""
  counts = {group: count_parameters(tree) for group, tree in params.items()}
  rows = [(group, f'{n:,}') for group, n in (counts | {'total': sum(counts.values())}).items()]
  wide = max(len(group) for group, _ in rows), max(len(n) for _, n in rows)
  return '\n'.join(f'{group:<{wide[0]}}  {n:>{wide[1]}}' for group, n in rows)
