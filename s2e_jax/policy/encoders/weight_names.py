"""Where published state dicts keep each tensor of our encoders: one table per layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from s2e_jax.policy.encoders.efficientnet import STAGES

EFFICIENTNET_LAYOUTS = ('torchvision', 'timm', 'keras')
VIT_LAYOUTS = ('huggingface', 'original')


class Slot(NamedTuple):
  """One of our tensors: its collection ('params' or 'batch_stats'), 'a/b/c' path, name in the file, and kind.

  kind: 'vector' (as it is), 'token' (leading ones dropped), 'linear' ([out, in] in torch), 'conv', 'depthwise',
  'gate' (1x1 convolution that is a linear layer here) or 'patches' (patch convolution, linear here).
  """

  collection: str
  path: str
  name: str
  kind: str


# Tensors that a published file may hold beside the encoder: classifiers, counters, what only pretraining needs.
IGNORED = re.compile(
  r'(.*\.)?num_batches_tracked|classifier\.(\d\.)?(weight|bias)|predictions/.*|normalization/.*'
  r'|(embeddings\.)?mask_token'
)


def _norm(layout: str, ours: str, name: str) -> Iterator[Slot]:
  """The four vectors of one batch norm."""
  torch = dict(scale='weight', bias='bias', mean='running_mean', var='running_var')
  keras = dict(scale='gamma', bias='beta', mean='moving_mean', var='moving_variance')
  for field, theirs in (keras if layout == 'keras' else torch).items():
    collection = 'params' if field in ('scale', 'bias') else 'batch_stats'
    yield Slot(collection, f'{ours}/norm/{field}', f'{name}{"/" if layout == "keras" else "."}{theirs}', 'vector')


def _block_names(layout: str, stage: int, index: int) -> dict[str, tuple[str, str]]:
  """Their (convolution, norm) or (reduce, expand) names of each part of one block."""
  first = stage == 0  # the only stage without expansion
  if layout == 'torchvision':
    base = f'features.{stage + 1}.{index}.block'
    order = ('depthwise', 'se', 'project') if first else ('expand', 'depthwise', 'se', 'project')
    return {
      part: (f'{base}.{i}.fc1', f'{base}.{i}.fc2') if part == 'se' else (f'{base}.{i}.0', f'{base}.{i}.1')
      for i, part in enumerate(order)
    }
  if layout == 'timm':
    base = f'blocks.{stage}.{index}'
    gate = {'se': (f'{base}.se.conv_reduce', f'{base}.se.conv_expand')}
    if first:
      return gate | {
        'depthwise': (f'{base}.conv_dw', f'{base}.bn1'),
        'project': (f'{base}.conv_pw', f'{base}.bn2'),
      }
    return gate | {
      'expand': (f'{base}.conv_pw', f'{base}.bn1'),
      'depthwise': (f'{base}.conv_dw', f'{base}.bn2'),
      'project': (f'{base}.conv_pwl', f'{base}.bn3'),
    }
  base = f'block{stage + 1}{chr(ord("a") + index)}'
  names = {
    'depthwise': (f'{base}_dwconv', f'{base}_bn'),
    'se': (f'{base}_se_reduce', f'{base}_se_expand'),
    'project': (f'{base}_project_conv', f'{base}_project_bn'),
  }
  return names if first else names | {'expand': (f'{base}_expand_conv', f'{base}_expand_bn')}


def efficientnet_slots(layout: str) -> list[Slot]:
  """Every tensor of `EfficientNetB0` with its name in a file of `layout`."""
  kernel = '/kernel' if layout == 'keras' else '.weight'
  bias = '/bias' if layout == 'keras' else '.bias'
  ends = {
    'torchvision': (('features.0.0', 'features.0.1'), ('features.8.0', 'features.8.1')),
    'timm': (('conv_stem', 'bn1'), ('conv_head', 'bn2')),
    'keras': (('stem_conv', 'stem_bn'), ('top_conv', 'top_bn')),
  }[layout]
  slots: list[Slot] = []

  def conv(ours: str, names: tuple[str, ...], kind: str = 'conv') -> None:
    slots.append(Slot('params', f'{ours}/kernel', names[0] + kernel, kind))
    slots.extend(_norm(layout, ours, names[1]))

  conv('stem', ends[0])
  for stage, (_, _, repeats, _, _) in enumerate(STAGES):
    for index in range(repeats):
      for part, names in _block_names(layout, stage, index).items():
        ours = f'stage{stage}_block{index}_{part}'
        if part == 'se':
          for layer, name in zip(('reduce', 'expand'), names, strict=True):
            slots.append(Slot('params', f'{ours}/{layer}/kernel', name + kernel, 'gate'))
            slots.append(Slot('params', f'{ours}/{layer}/bias', name + bias, 'vector'))
        else:
          conv(ours, names, 'depthwise' if part == 'depthwise' else 'conv')
  conv('head', ends[1])
  return slots


def vit_slots(layout: str, num_layers: int = 12) -> list[Slot]:
  """Every tensor of `VisionTransformer` with its name in a file of `layout` ('original' with split qkv)."""
  is_hf = layout == 'huggingface'
  token = 'embeddings.' if is_hf else ''
  patch = 'embeddings.patch_embeddings' if is_hf else 'patch_embed.proj'
  slots = [
    Slot('params', 'class_token', f'{token}cls_token', 'token'),
    Slot('params', 'registers', f'{token}{"register" if is_hf else "storage"}_tokens', 'token'),
    Slot('params', 'patches/kernel', f'{patch}.weight', 'patches'),
    Slot('params', 'patches/bias', f'{patch}.bias', 'vector'),
    Slot('params', 'norm/scale', 'norm.weight', 'vector'),
    Slot('params', 'norm/bias', 'norm.bias', 'vector'),
  ]
  if is_hf:
    linear = dict(
      query='attention.q_proj', key='attention.k_proj', value='attention.v_proj', out='attention.o_proj'
    )
    linear |= dict(mlp_hidden='mlp.up_proj', mlp_out='mlp.down_proj')
  else:
    linear = dict(
      query='attn.q', key='attn.k', value='attn.v', out='attn.proj', mlp_hidden='mlp.fc1', mlp_out='mlp.fc2'
    )
  scales = ('layer_scale1.lambda1', 'layer_scale2.lambda1') if is_hf else ('ls1.gamma', 'ls2.gamma')
  for i in range(num_layers):
    ours, theirs = f'block_{i}', f'{"layer" if is_hf else "blocks"}.{i}'
    for layer, name in linear.items():
      slots.append(Slot('params', f'{ours}/{layer}/kernel', f'{theirs}.{name}.weight', 'linear'))
      if layer != 'key':
        slots.append(Slot('params', f'{ours}/{layer}/bias', f'{theirs}.{name}.bias', 'vector'))
    for norm, name in (('norm_attention', 'norm1'), ('norm_mlp', 'norm2')):
      slots.append(Slot('params', f'{ours}/{norm}/scale', f'{theirs}.{name}.weight', 'vector'))
      slots.append(Slot('params', f'{ours}/{norm}/bias', f'{theirs}.{name}.bias', 'vector'))
    for scale, name in zip(('scale_attention', 'scale_mlp'), scales, strict=True):
      slots.append(Slot('params', f'{ours}/{scale}', f'{theirs}.{name}', 'vector'))
  return slots
