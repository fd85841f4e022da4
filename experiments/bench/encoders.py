"""Encoder benchmarks: EfficientNet-B0's depthwise form, the small encoder's frame rate and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.bench.timing import Row, interleaved
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.encoders.small import SIZES, images_at_once, small_encoder, space_to_depth
from s2e_jax.policy.policy import Policy, build_encoder, example_observation


def _random_images(shape: tuple[int, ...]) -> jax.Array:
  return jax.random.randint(jax.random.key(0), shape, 0, 256, jnp.uint8)


def encoder_vs_grouped_conv() -> Row:
  """EfficientNet-B0 forward on 5 frames of 96x192, as the policy picks it here, against XLA's grouped form."""
  images = _random_images((5, 96, 192, 3))
  config = policy_config('s2e_v1', image_height=96, image_width=192)
  forms = [config, policy_config('s2e_v1', image_height=96, image_width=192, depthwise='grouped')]
  variables = build_encoder(config).init(jax.random.key(1), images)
  ours, grouped = (jax.jit(build_encoder(form).apply) for form in forms)
  return interleaved(
    'encoder_vs_grouped_conv',
    lambda: ours(variables, images),
    lambda: grouped(variables, images),
    work=len(images),
    unit='frames/s (EfficientNet-B0, 96x192)',
    baseline_name='lax grouped convolution',
  )


class ConvTinyEncoder(nn.Module):
  """s2e_tiny's encoder by XLA's convolutions; the same parameters."""

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """uint8 [B, h, w, 3] -> [B, h/16, w/16, 32]."""
    x = images.astype(jnp.float32) * (2 / 255) - 1
    x = nn.relu(nn.Dense(SIZES['tiny']['patch_dim'], name='patches')(space_to_depth(x, 4)))
    for i, dim in enumerate(SIZES['tiny']['conv_dims']):
      x = nn.relu(nn.Conv(dim, (3, 3), (2, 2), name=f'conv_{i}')(x))
    return x


def encoder_gradient_in_loop() -> Row:
  """s2e_tiny's encoder's gradient over 2 chunks of 74 frames in a loop, as in the epochs of `ppo_full`."""
  chunks = _random_images((2, 74, 64, 128, 3))
  ours, convs = small_encoder('tiny', jnp.float32, images_at_once()), ConvTinyEncoder()
  variables = ours.init(jax.random.key(1), chunks[0])

  def summed(encoder: nn.Module) -> Callable[[], Any]:
    def loss(variables: Any, images: jax.Array) -> jax.Array:
      features: Any = encoder.apply(variables, images)
      return jnp.sum(features**2)

    gradient = jax.grad(loss)
    add = lambda total, images: (jax.tree.map(jnp.add, total, gradient(variables, images)), None)
    zeros = jax.tree.map(jnp.zeros_like, variables)
    program = jax.jit(lambda chunks: jax.lax.scan(add, zeros, chunks)[0])
    return lambda: program(chunks)

  return interleaved(
    'encoder_gradient_in_loop',
    summed(ours),
    summed(convs),
    work=2 * 74,
    unit='frames/s (64x128, gradient)',
    baseline_name='lax convolutions in the same loop',
  )


def encoder_gradient_in_chunks() -> Row:
  """s2e_tiny's encoder's gradient over the 192 frames of a pretraining batch, as it is taken and all at once."""
  images = _random_images((192, 64, 128, 3))
  parts, whole = small_encoder('tiny', jnp.float32, images_at_once()), small_encoder('tiny', jnp.float32)
  variables = whole.init(jax.random.key(1), images[:1])
  summed = lambda encoder: jax.jit(jax.grad(lambda variables: jnp.sum(encoder.apply(variables, images) ** 2)))
  ours, theirs = summed(parts), summed(whole)
  return interleaved(
    'encoder_gradient_in_chunks',
    lambda: ours(variables),
    lambda: theirs(variables),
    work=len(images),
    unit='frames/s (64x128, gradient)',
    baseline_name='all frames at once',
  )


class NatureEncoder(nn.Module):
  """The convolutional encoder of DQN (Mnih et al. 2015), ending in one 128-wide token."""

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """uint8 [B, h, w, 3] -> [B, 128]."""
    x = images.astype(jnp.float32) / 255
    for features, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
      x = nn.relu(nn.Conv(features, (kernel, kernel), (stride, stride), padding='VALID')(x))
    return nn.Dense(128)(x.reshape(x.shape[0], -1))


def tiny_encoder_frames_per_s() -> Row:
  """s2e_tiny's frame tokens, 256 frames of 64x128, against DQN's encoder in Flax."""
  images = _random_images((256, 64, 128, 3))
  config = policy_config('s2e_tiny')
  policy = Policy(config)
  variables = policy.init(jax.random.key(1), example_observation(config))
  encode = jax.jit(lambda v, x: policy.apply(v, x, method='encode_frames'))
  nature = NatureEncoder()
  nature_variables = nature.init(jax.random.key(2), images[:1])
  nature_encode = jax.jit(nature.apply)
  return interleaved(
    'tiny_encoder_frames_per_s',
    lambda: encode(variables, images),
    lambda: nature_encode(nature_variables, images),
    work=len(images),
    unit='frames/s (64x128)',
    baseline_name='Nature (DQN) encoder in Flax',
    rounds=15,
  )
