"""Encoder weights that the user brings: published state dicts and Keras files, into our parameter trees.

Every tensor of a file is used exactly once (or is on the short list of tensors that are no part of the encoder),
every parameter of ours is filled, and every shape is checked; otherwise one error lists all offending names.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.policy.config import IMAGENET_MEAN, IMAGENET_STD, PolicyConfig
from s2e_jax.policy.encoders.efficientnet import EfficientNetB0
from s2e_jax.policy.encoders.vit import ROPE_BASE, VisionTransformer
from s2e_jax.policy.encoders.weight_names import IGNORED, Slot, efficientnet_slots, vit_slots

Tensors = dict[str, np.ndarray]
Tree = dict[str, Any]

TORCH_CONVENTIONS: Tree = dict(encoder_padding='torch', bn_epsilon=1e-5)
TENSORFLOW_CONVENTIONS: Tree = dict(encoder_padding='same', bn_epsilon=1e-3)
SUFFIXES = ('.safetensors', '.npz', '.pth', '.pt', '.h5', '.hdf5')


@dataclasses.dataclass(frozen=True)
class ImportedEncoder:
  """An encoder read from a file: `params`, `batch_stats` ({} for ViT) and the `PolicyConfig` fields it demands."""

  params: Tree
  batch_stats: Tree
  conventions: Tree


def _read_torch(path: Path) -> Tensors:
  """Tensors of a torch file, read with weights_only=True (no code in the file can run)."""
  try:
    import torch
  except ImportError as error:
    raise ValueError(
      f'encoder weights {path.name!r} need torch to be read safely; install torch, or save the state dict once as '
      '.safetensors (safetensors.torch.save_file) and import that'
    ) from error
  state = torch.load(path, map_location='cpu', weights_only=True)
  for key in ('state_dict', 'model', 'teacher'):
    if isinstance(state, dict) and isinstance(state.get(key), dict):
      state = state[key]
  return {k: v.float().numpy() for k, v in state.items() if hasattr(v, 'numpy')}


def _read_keras(path: Path) -> Tensors:
  """Tensors 'layer/variable' of a Keras h5: both the Keras 3 `.weights.h5` form and the legacy one."""
  import h5py

  order = {'gamma': 0, 'beta': 1, 'moving_mean': 2, 'moving_variance': 3}
  tensors: Tensors = {}

  def keep(name: str, node: Any) -> None:
    if not isinstance(node, h5py.Dataset):
      return
    parts = name.split('/')
    if parts[-2] == 'vars':  # Keras 3: the layer's own name is an attribute, variables are numbered
      layer = node.parent.attrs.get('name')
      if layer is None:
        raise ValueError(
          f'{path.name!r} does not say which layer {name!r} belongs to; save it again with a newer Keras, '
          'or as legacy h5'
        )
      layer = layer if isinstance(layer, str) else layer.decode()
      if layer.endswith('bn'):
        fields = list(order)
      elif layer == 'normalization':
        fields = ['mean', 'variance', 'count']
      else:
        fields = ['kernel', 'bias']
      field = fields[int(parts[-1])]
    else:  # legacy: .../layer/variable:0
      layer, field = parts[-2], parts[-1].split(':')[0]
    field = 'kernel' if field == 'depthwise_kernel' else field
    tensors[f'{layer}/{field}'] = np.asarray(node)

  with h5py.File(path) as file:
    file.visititems(keep)
  return {k: v for k, v in tensors.items() if 'optimizer' not in k}


def read_tensors(path: str | Path) -> Tensors:
  """All tensors of a .safetensors, .npz, .pth/.pt or .h5 file by name; prefixes shared by all names are dropped.

  Raises ValueError for a missing file, an unknown suffix, or a .pth without torch. Pickles are never executed.
  """
  path = Path(path)
  if path.suffix not in SUFFIXES:
    raise ValueError(f'encoder weights {str(path)!r} must end in one of {SUFFIXES}')
  if not path.is_file():
    raise ValueError(f'encoder weights {str(path)!r} do not exist; give the path of a file or leave it empty')
  if path.suffix == '.safetensors':
    from safetensors.numpy import load_file

    tensors = load_file(path)
  elif path.suffix == '.npz':
    with np.load(path, allow_pickle=False) as file:
      tensors = {name: file[name] for name in file.files}
  elif path.suffix in ('.pth', '.pt'):
    tensors = _read_torch(path)
  else:
    tensors = _read_keras(path)
  for prefix in ('module.', 'model.', 'backbone.'):
    if tensors and all(name.startswith(prefix) for name in tensors):
      tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
  return tensors


def _ours(value: np.ndarray, kind: str, is_keras: bool) -> np.ndarray:
  """A tensor of the file in our axis order."""
  value = np.asarray(value, np.float32)
  if kind == 'token':
    return value.reshape(-1, value.shape[-1])
  if kind == 'vector':
    return value.reshape(-1) if value.ndim > 1 and value.size == max(value.shape) else value
  if kind == 'linear':
    return value.T
  if value.ndim != 4:
    return value  # the shape check names it
  if kind == 'depthwise':
    return value.swapaxes(2, 3) if is_keras else value.transpose(2, 3, 1, 0)
  value = value if is_keras else value.transpose(2, 3, 1, 0)  # [k, k, in, out]
  if kind == 'gate':
    return value[0, 0]
  return value.reshape(-1, value.shape[-1]) if kind == 'patches' else value


def _fill(tensors: Tensors, slots: list[Slot], shapes: Tree, source: str, is_keras: bool = False) -> Tree:
  """Our variables {'params': ..., ...} with every slot filled, or a ValueError that lists all misfits."""
  expected = flax.traverse_util.flatten_dict(shapes, sep='/')
  names = {f'{slot.collection}/{slot.path}': slot for slot in slots}
  assert set(names) == set(expected), set(names) ^ set(expected)
  missing = sorted(slot.name for slot in slots if slot.name not in tensors)
  used = {slot.name for slot in slots}
  extra = sorted(name for name in tensors if name not in used and not IGNORED.fullmatch(name))
  filled, misshapen = {}, []
  for path, slot in names.items():
    if slot.name in tensors:
      filled[path] = _ours(tensors[slot.name], slot.kind, is_keras)
      if filled[path].shape != expected[path].shape:
        theirs = tensors[slot.name].shape
        misshapen.append(f'{slot.name} {theirs} (for {path} {expected[path].shape})')
  if missing or extra or misshapen:
    raise ValueError(
      f'{source} does not fit the encoder: missing tensors {missing}; tensors that belong nowhere {extra}; '
      f'wrong shapes {misshapen}'
    )
  return flax.traverse_util.unflatten_dict(filled, sep='/')


def efficientnet_layout(tensors: Tensors) -> str:
  """'torchvision', 'timm' or 'keras', told from the name of the stem; ValueError when it is none of them."""
  for layout, name in (
    ('torchvision', 'features.0.0.weight'),
    ('timm', 'conv_stem.weight'),
    ('keras', 'stem_conv/kernel'),
  ):
    if name in tensors:
      return layout
  raise ValueError(
    f'no EfficientNet-B0 of a known layout (torchvision, timm, Keras) among the tensors {sorted(tensors)[:8]} ...'
  )


def _keras_normalisation(tensors: Tensors) -> Tree:
  """image_mean and image_std of a Keras file's normalization layer, {} without one."""
  if 'normalization/mean' not in tensors:
    return {}
  mean = np.asarray(tensors['normalization/mean'], np.float64).reshape(3)
  variance = np.asarray(tensors['normalization/variance'], np.float64).reshape(3)
  # Keras's own ImageNet files keep the deviation in `variance`, and the model divides by its root twice.
  is_published = np.allclose(variance, IMAGENET_STD, atol=1e-3) and np.allclose(mean, IMAGENET_MEAN, atol=1e-3)
  std = variance if is_published else np.sqrt(variance)
  return dict(image_mean=tuple(map(float, mean)), image_std=tuple(map(float, std)))


def read_efficientnet(path: str | Path) -> ImportedEncoder:
  """EfficientNet-B0 from a torchvision, timm or Keras file.

  Conventions: torchvision and timm pad symmetrically with epsilon 1e-5; Keras, and timm files whose name contains
  'tf_efficientnet' (ported from TensorFlow, with the same tensor names), pad as TensorFlow with epsilon 1e-3.
  """
  tensors = read_tensors(path)
  layout = efficientnet_layout(tensors)
  is_tensorflow = layout == 'keras' or 'tf_efficientnet' in Path(path).name
  conventions = dict(TENSORFLOW_CONVENTIONS if is_tensorflow else TORCH_CONVENTIONS) | _keras_normalisation(
    tensors
  )
  module = EfficientNetB0(
    jnp.dtype('float32'), 'frozen', 'torch', 1e-5, 'grouped', None, IMAGENET_MEAN, IMAGENET_STD
  )
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  filled = _fill(tensors, efficientnet_slots(layout), shapes, str(path), is_keras=layout == 'keras')
  return ImportedEncoder(filled['params'], filled['batch_stats'], conventions)


def load_efficientnet(path: str | Path) -> tuple[Tree, Tree]:
  """(params, batch_stats) of EfficientNet-B0; see `read_efficientnet` for the conventions that go with them."""
  imported = read_efficientnet(path)
  return imported.params, imported.batch_stats


def _split_qkv(tensors: Tensors) -> Tensors:
  """DINOv3's original tensors with the joint qkv layers split into q, k and v."""
  split: Tensors = {}
  for name, value in tensors.items():
    if name.endswith('.attn.qkv.bias_mask'):
      continue
    if '.attn.qkv.' in name:
      base, _, field = name.rpartition('.qkv.')
      mask = tensors.get(f'{base}.qkv.bias_mask') if field == 'bias' else None
      value = value if mask is None else np.where(mask == 0, 0.0, value)
      split |= {f'{base}.{part}.{field}': piece for part, piece in zip('qkv', np.split(value, 3), strict=True)}
    else:
      split[name] = value
  return split


def load_vit(path: str | Path) -> Tree:
  """params of ViT-S/16 from a DINOv3 file, in the Hugging Face or the original layout.

  A key bias is accepted only if it is zero: with rotary positions a non-zero one would matter, and the
  architecture has none.
  """
  tensors = read_tensors(path)
  is_hf = 'embeddings.cls_token' in tensors
  if not is_hf and 'cls_token' not in tensors:
    raise ValueError(f'{path} holds no DINOv3 ViT in a known layout; its tensors are {sorted(tensors)[:8]} ...')
  tensors = {k.removeprefix('model.'): v for k, v in tensors.items()} if is_hf else _split_qkv(tensors)
  periods = tensors.pop('rope_embed.periods', None)
  if periods is not None and not np.allclose(periods, ROPE_BASE ** (np.arange(16) / 16), rtol=0.02):
    raise ValueError(f'{path} has rotary periods {periods}; this encoder has those of base {ROPE_BASE}')
  key_bias = [k for k in tensors if k.endswith(('.k_proj.bias', '.attn.k.bias'))]
  wrong = [k for k in key_bias if np.any(tensors[k] != 0)]
  if wrong:
    raise ValueError(f'{path} has non-zero key biases {wrong}, which the DINOv3 shape does not have')
  tensors = {k: v for k, v in tensors.items() if k not in key_bias}
  module = VisionTransformer(jnp.dtype('float32'), IMAGENET_MEAN, IMAGENET_STD)
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  slots = vit_slots('huggingface' if is_hf else 'original', module.num_layers)
  filled = _fill(tensors, slots, shapes, str(path))
  return filled['params']


def with_imported_encoder(config: PolicyConfig, variables: Tree) -> tuple[PolicyConfig, Tree]:
  """`config` and policy `variables` after importing `config.encoder_weights`; both unchanged when that is ''.

  The config takes over the conventions of the file (padding, epsilon, image normalisation), so build the policy
  from the returned one.
  """
  if not config.encoder_weights:
    return config, variables
  if config.encoder == 'efficientnet_b0':
    imported = read_efficientnet(config.encoder_weights)
  elif config.encoder == 'vit_s16':
    imported = ImportedEncoder(load_vit(config.encoder_weights), {}, {})
  else:
    raise ValueError(f'encoder_weights is set, but no published weights exist for encoder={config.encoder!r}')
  result = dict(variables) | {'params': dict(variables['params']) | {'encoder': imported.params}}
  if imported.batch_stats:
    result['batch_stats'] = dict(variables.get('batch_stats', {})) | {'encoder': imported.batch_stats}
  return dataclasses.replace(config, **imported.conventions), result
