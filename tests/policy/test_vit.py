"""ViT-S/16 against a plain numpy network that reads DINOv3's published tensor names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.special import erf, softmax

from s2e_jax.policy.config import IMAGENET_MEAN, IMAGENET_STD, policy_config
from s2e_jax.policy.encoders.vit import VisionTransformer, rope_angles
from s2e_jax.policy.encoders.weights import load_vit, with_imported_encoder

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3)).astype('uint8')
D, HEADS, LAYERS = 384, 6, 12


def huggingface_weights(seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda *shape, scale=1.0: (rng.normal(size=shape) * scale).astype('f4')
  state = {
    'embeddings.cls_token': normal(1, 1, D),
    'embeddings.mask_token': normal(1, 1, D),
    'embeddings.register_tokens': normal(1, 4, D),
    'embeddings.patch_embeddings.weight': normal(D, 3, 16, 16, scale=1 / 28),
    'embeddings.patch_embeddings.bias': normal(D, scale=0.1),
    'norm.weight': 1 + normal(D, scale=0.1),
    'norm.bias': normal(D, scale=0.1),
  }
  for i in range(LAYERS):
    for name in ('q', 'k', 'v', 'o'):
      state[f'layer.{i}.attention.{name}_proj.weight'] = normal(D, D, scale=1.5 / np.sqrt(D))
      if name != 'k':
        state[f'layer.{i}.attention.{name}_proj.bias'] = normal(D, scale=0.1)
    state[f'layer.{i}.mlp.up_proj.weight'] = normal(4 * D, D, scale=D**-0.5)
    state[f'layer.{i}.mlp.up_proj.bias'] = normal(4 * D, scale=0.1)
    state[f'layer.{i}.mlp.down_proj.weight'] = normal(D, 4 * D, scale=(4 * D) ** -0.5)
    state[f'layer.{i}.mlp.down_proj.bias'] = normal(D, scale=0.1)
    for j in (1, 2):
      state[f'layer.{i}.norm{j}.weight'] = 1 + normal(D, scale=0.1)
      state[f'layer.{i}.norm{j}.bias'] = normal(D, scale=0.1)
      state[f'layer.{i}.layer_scale{j}.lambda1'] = 0.5 + normal(D, scale=0.1)
  return state


def original_weights(state):
  """The same tensors under the names of the original release, with joint qkv layers and a masked key bias."""
  names = {
    'embeddings.cls_token': 'cls_token', 'embeddings.register_tokens': 'storage_tokens',
    'embeddings.patch_embeddings': 'patch_embed.proj', 'layer.': 'blocks.', 'attention.o_proj': 'attn.proj',
    'layer_scale1.lambda1': 'ls1.gamma', 'layer_scale2.lambda1': 'ls2.gamma', 'up_proj': 'fc1', 'down_proj': 'fc2',
  }  # fmt: skip
  renamed = {'mask_token': state['embeddings.mask_token'][0]}
  for name, value in state.items():
    if any(f'{x}_proj' in name for x in ('.q', '.k', '.v')) or 'mask_token' in name:
      continue
    for theirs, original in names.items():
      name = name.replace(theirs, original)
    renamed[name] = value
  for i in range(LAYERS):
    base = f'layer.{i}.attention'
    renamed[f'blocks.{i}.attn.qkv.weight'] = np.concatenate([state[f'{base}.{x}_proj.weight'] for x in 'qkv'])
    key_bias = np.full(D, 3.0 if i % 2 else np.nan, 'f4')  # masked, so its value must not matter
    bias = [state[f'{base}.q_proj.bias'], key_bias, state[f'{base}.v_proj.bias']]
    renamed[f'blocks.{i}.attn.qkv.bias'] = np.concatenate(bias)
    renamed[f'blocks.{i}.attn.qkv.bias_mask'] = np.repeat(np.array([1, 0, 1], 'f4'), D)
  renamed['rope_embed.periods'] = (100.0 ** (np.arange(16) / 16)).astype('f4')
  return renamed


def numpy_vit(state, images):
  """Slow twin: one token, one head and one rotation at a time."""

  def linear(x, name):
    return x @ state[f'{name}.weight'].T + state.get(f'{name}.bias', 0)

  def norm(x, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * state[f'{name}.weight'] + state[f'{name}.bias']

  outputs = []
  for image in images:
    pixels = ((image / 255 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    rows, columns = pixels.shape[1] // 16, pixels.shape[2] // 16
    tokens, places = [state['embeddings.cls_token'][0, 0], *state['embeddings.register_tokens'][0]], [None] * 5
    for r in range(rows):
      for c in range(columns):
        patch = pixels[:, r * 16 : r * 16 + 16, c * 16 : c * 16 + 16]
        kernel = state['embeddings.patch_embeddings.weight']
        tokens.append((kernel * patch).sum((1, 2, 3)) + state['embeddings.patch_embeddings.bias'])
        places.append(((r + 0.5) / rows * 2 - 1, (c + 0.5) / columns * 2 - 1))
    x = np.stack(tokens)

    def turn(vector, place):
      """Complex rotation of the pairs (i, i + 32): 16 frequencies of the row, then 16 of the column."""
      if place is None:
        return vector
      angle = np.concatenate([2 * np.pi * at / 100 ** (np.arange(16) / 16) for at in place])
      z = (vector[:32] + 1j * vector[32:]) * np.exp(1j * angle)
      return np.concatenate([z.real, z.imag])

    for i in range(LAYERS):
      y = norm(x, f'layer.{i}.norm1')
      q, k, v = (linear(y, f'layer.{i}.attention.{n}_proj').reshape(len(y), HEADS, 64) for n in 'qkv')
      mixed = np.zeros_like(q)
      for h in range(HEADS):
        qs = np.stack([turn(a, p) for a, p in zip(q[:, h], places, strict=True)])
        ks = np.stack([turn(a, p) for a, p in zip(k[:, h], places, strict=True)])
        mixed[:, h] = softmax(qs @ ks.T / 8, axis=-1) @ v[:, h]
      y = linear(mixed.reshape(len(y), D), f'layer.{i}.attention.o_proj')
      x = x + y * state[f'layer.{i}.layer_scale1.lambda1']
      y = linear(norm(x, f'layer.{i}.norm2'), f'layer.{i}.mlp.up_proj')
      y = linear(y * 0.5 * (1 + erf(y / np.sqrt(2))), f'layer.{i}.mlp.down_proj')
      x = x + y * state[f'layer.{i}.layer_scale2.lambda1']
    outputs.append(norm(x, 'norm')[5:].reshape(rows, columns, D))
  return np.stack(outputs)


@pytest.fixture(scope='module')
def state():
  return huggingface_weights()


def test_features_equal_the_numpy_network(state, tmp_path):
  save_file(state, tmp_path / 'vit.safetensors')
  module = VisionTransformer(jnp.dtype('float32'), IMAGENET_MEAN, IMAGENET_STD)
  got = jax.jit(module.apply)({'params': load_vit(tmp_path / 'vit.safetensors')}, IMAGES)
  want = numpy_vit(state, IMAGES)
  assert got.shape == want.shape == (2, 2, 3, D)
  np.testing.assert_allclose(got, want, atol=5e-4)


def test_both_layouts_give_the_same_tree(state, tmp_path):
  save_file(state, tmp_path / 'hf.safetensors')
  np.savez(tmp_path / 'original.npz', **original_weights(state))
  zero_bias = state | {f'layer.{i}.attention.k_proj.bias': np.zeros(D, 'f4') for i in range(LAYERS)}
  np.savez(tmp_path / 'zero_bias.npz', **{f'model.{k}': v for k, v in zero_bias.items()})
  want = load_vit(tmp_path / 'hf.safetensors')
  for name in ('original.npz', 'zero_bias.npz'):
    jax.tree.map(np.testing.assert_array_equal, want, load_vit(tmp_path / name))


def test_what_does_not_fit_is_refused(state, tmp_path):
  for name, change, message in (
    ('bias', {'layer.3.attention.k_proj.bias': np.ones(D, 'f4')}, 'non-zero key biases'),
    ('extra', {'layer.12.norm1.weight': np.ones(D, 'f4')}, 'layer.12.norm1.weight'),
    ('shape', {'norm.bias': np.ones(D + 1, 'f4')}, r'norm.bias \(385,\)'),
  ):
    np.savez(tmp_path / f'{name}.npz', **(state | change))
    with pytest.raises(ValueError, match=message):
      load_vit(tmp_path / f'{name}.npz')
  periods = original_weights(state) | {'rope_embed.periods': np.arange(16.0)}
  np.savez(tmp_path / 'periods.npz', **periods)
  with pytest.raises(ValueError, match='rotary periods'):
    load_vit(tmp_path / 'periods.npz')


def test_policy_takes_over_the_weights(state, tmp_path):
  save_file(state, tmp_path / 'vit.safetensors')
  config = policy_config('s2e_v2', encoder_weights=str(tmp_path / 'vit.safetensors'))
  new, variables = with_imported_encoder(config, {'params': {'encoder': {}}})
  assert new == config and 'block_11' in variables['params']['encoder'] and 'batch_stats' not in variables


def test_rope_turns_rows_and_columns_apart():
  angles = rope_angles(3, 5, 64).reshape(3, 5, 32)
  assert np.ptp(angles[..., :16], axis=1).max() == 0 and np.ptp(angles[..., 16:], axis=0).max() == 0
  assert abs(angles[1]).min() == 0 and np.ptp(angles[..., 16:], axis=1).min() > 0
