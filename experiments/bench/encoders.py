"""Encoder benchmarks: EfficientNet-B0's depthwise form, and the small encoder's frame rate."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.bench.timing import Row, interleaved
from s2e_jax.policy.config import policy_config
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
