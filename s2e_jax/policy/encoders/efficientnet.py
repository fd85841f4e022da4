"""EfficientNet-B0 without its classifier (Tan and Le, arXiv:1905.11946), written so that published weights fit."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from s2e_jax.policy.dense import Dense
from s2e_jax.policy.encoders.depthwise import depthwise, pad_amounts

STEM_DIM, HEAD_DIM = 32, 1280
# (expansion, channels, repeats, stride of the first, kernel) per stage
STAGES = (
  (1, 16, 1, 1, 3),
  (6, 24, 2, 2, 3),
  (6, 40, 2, 2, 5),
  (6, 80, 3, 2, 3),
  (6, 112, 3, 1, 5),
  (6, 192, 4, 2, 5),
  (6, 320, 1, 1, 3),
)
SE_RATIO = 0.25  # of the block's input channels
BN_MOMENTUM = 0.99

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'truncated_normal')


def normalise_images(
  images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: jnp.dtype
) -> jax.Array:
  """(images / 255 - mean) / std of images [*B, h, w, 3] with values 0..255."""
  scale = 1 / (255 * jnp.asarray(std, jnp.float32))
  return (images.astype(jnp.float32) * scale - jnp.asarray(mean, jnp.float32) * 255 * scale).astype(dtype)


class BatchNorm(nn.Module):
  """Batch norm over [B, h, w] in float32, with running statistics in the collection `batch_stats`.

  norm 'frozen' always uses the running statistics and never changes them. norm 'batch' does so too unless train,
  where it uses the statistics of the batch (averaged over the pmap axis `axis_name` if given) and updates the
  running ones.
  """

  norm: str
  epsilon: float
  axis_name: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[B, h, w, C] -> [B, h, w, C]."""
    dim = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (dim,))
    bias = self.param('bias', nn.initializers.zeros, (dim,))
    running_mean = self.variable('batch_stats', 'mean', lambda: jnp.zeros(dim, jnp.float32))
    running_var = self.variable('batch_stats', 'var', lambda: jnp.ones(dim, jnp.float32))
    mean, var = running_mean.value, running_var.value
    if train and self.norm == 'batch':
      wide = x.astype(jnp.float32)
      mean, square = jnp.mean(wide, (0, 1, 2)), jnp.mean(jnp.square(wide), (0, 1, 2))
      if self.axis_name is not None and not self.is_initializing():
        mean, square = lax.pmean((mean, square), self.axis_name)
      var = jnp.maximum(square - jnp.square(mean), 0.0)
      if not self.is_initializing():
        running_mean.value = BN_MOMENTUM * running_mean.value + (1 - BN_MOMENTUM) * mean
        running_var.value = BN_MOMENTUM * running_var.value + (1 - BN_MOMENTUM) * var
    factor = scale * lax.rsqrt(var + self.epsilon)
    return (x * factor.astype(self.dtype) + (bias - mean * factor).astype(self.dtype)).astype(self.dtype)


class ConvNorm(nn.Module):
  """Convolution without bias, batch norm, and optionally SiLU."""

  features: int
  kernel: int
  stride: int
  is_depthwise: bool
  has_activation: bool
  padding: str
  form: str
  bn: dict

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[B, h, w, C] -> [B, h', w', features]."""
    dtype = self.bn['dtype']
    dim_in = 1 if self.is_depthwise else x.shape[-1]
    kernel = self.param('kernel', _KERNEL_INIT, (self.kernel, self.kernel, dim_in, self.features)).astype(dtype)
    pads = pad_amounts(x.shape[1:3], self.kernel, self.stride, self.padding)
    if self.is_depthwise:
      x = depthwise(x, kernel, self.stride, pads, self.form)
    elif self.kernel == 1:
      x = x @ kernel[0, 0]
    else:
      numbers = ('NHWC', 'HWIO', 'NHWC')
      x = lax.conv_general_dilated(x, kernel, (self.stride,) * 2, pads, dimension_numbers=numbers)
    x = BatchNorm(**self.bn, name='norm')(x, train)
    return nn.silu(x) if self.has_activation else x


class EfficientNetB0(nn.Module):
  """Images [B, h, w, 3] (0..255) -> feature map [B, h/32, w/32, 1280]; h and w multiples of 32.

  padding, bn_epsilon: conventions of the imported weights ('torch', 1e-5) or ('same', 1e-3 for Keras and
  TensorFlow). depthwise: 'shift' | 'grouped'. norm, axis_name: see `BatchNorm`. There is no stochastic depth.
  """

  dtype: jnp.dtype
  norm: str
  padding: str
  bn_epsilon: float
  depthwise: str
  axis_name: str | None
  image_mean: tuple[float, float, float]
  image_std: tuple[float, float, float]

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """See the class."""
    bn = dict(norm=self.norm, epsilon=self.bn_epsilon, axis_name=self.axis_name, dtype=self.dtype)

    def conv(
      x: jax.Array, dim: int, kernel: int, name: str, stride: int = 1, wise: bool = False, act: bool = True
    ) -> jax.Array:
      return ConvNorm(dim, kernel, stride, wise, act, self.padding, self.depthwise, bn, name=name)(x, train)

    x = normalise_images(images, self.image_mean, self.image_std, self.dtype)
    x = conv(x, STEM_DIM, 3, 'stem', stride=2)
    for stage, (expansion, dim, repeats, first_stride, kernel) in enumerate(STAGES):
      for i in range(repeats):
        name, skip = f'stage{stage}_block{i}', x
        stride, dim_in = (first_stride if i == 0 else 1), x.shape[-1]
        if expansion != 1:
          x = conv(x, dim_in * expansion, 1, f'{name}_expand')
        x = conv(x, dim_in * expansion, kernel, f'{name}_depthwise', stride=stride, wise=True)
        x = SqueezeExcite(max(1, int(dim_in * SE_RATIO)), self.dtype, name=f'{name}_se')(x)
        x = conv(x, dim, 1, f'{name}_project', act=False)
        if stride == 1 and dim == dim_in:
          x = x + skip
    return conv(x, HEAD_DIM, 1, 'head')


class SqueezeExcite(nn.Module):
  """Channel gate: global mean, linear to `hidden`, SiLU, linear back, sigmoid."""

  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, h, w, C] -> [B, h, w, C]."""
    gate = jnp.mean(x.astype(jnp.float32), axis=(1, 2)).astype(self.dtype)
    gate = nn.silu(Dense(self.hidden, dtype=self.dtype, name='reduce')(gate))
    gate = nn.sigmoid(Dense(x.shape[-1], dtype=self.dtype, name='expand')(gate))
    return x * gate[:, None, None, :]
