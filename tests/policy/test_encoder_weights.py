"""Importing EfficientNet-B0: every layout, against Keras and against a plain numpy network."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from s2e_jax.policy.config import policy_config
from s2e_jax.policy.encoders.efficientnet import STAGES, EfficientNetB0
from s2e_jax.policy.encoders.weights import load_efficientnet, read_efficientnet, with_imported_encoder

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype('uint8')


def torch_layout_weights(seed=0):
  """Random EfficientNet-B0 state dict with torchvision's names, written down from its published module tree."""
  rng, state = np.random.default_rng(seed), {}

  def conv_norm(name, dim_in, dim_out, k):
    state[f'{name}.0.weight'] = rng.normal(size=(dim_out, dim_in, k, k)) * np.sqrt(1.5 / (dim_in * k * k))
    state[f'{name}.1.weight'] = rng.uniform(0.7, 1.4, dim_out)
    state[f'{name}.1.bias'] = rng.normal(size=dim_out) * 0.2
    state[f'{name}.1.running_mean'] = rng.normal(size=dim_out) * 0.2
    state[f'{name}.1.running_var'] = rng.uniform(0.5, 1.5, dim_out)
    state[f'{name}.1.num_batches_tracked'] = np.array(7)

  conv_norm('features.0', 3, 32, 3)
  dim_in = 32
  for s, (expansion, dim, repeats, _, k) in enumerate(STAGES):
    for i in range(repeats):
      block, wide, squeezed = f'features.{s + 1}.{i}.block', dim_in * expansion, dim_in // 4
      at = 0
      if expansion > 1:
        conv_norm(f'{block}.0', dim_in, wide, 1)
        at = 1
      conv_norm(f'{block}.{at}', 1, wide, k)
      state[f'{block}.{at + 1}.fc1.weight'] = rng.normal(size=(squeezed, wide, 1, 1)) / np.sqrt(wide)
      state[f'{block}.{at + 1}.fc1.bias'] = rng.normal(size=squeezed)
      state[f'{block}.{at + 1}.fc2.weight'] = rng.normal(size=(wide, squeezed, 1, 1)) / np.sqrt(squeezed)
      state[f'{block}.{at + 1}.fc2.bias'] = rng.normal(size=wide)
      conv_norm(f'{block}.{at + 2}', wide, dim, 1)
      dim_in = dim
  conv_norm('features.8', 320, 1280, 1)
  state['classifier.1.weight'], state['classifier.1.bias'] = np.zeros((1000, 1280)), np.zeros(1000)
  return {k: np.asarray(v, 'float32' if v.ndim else 'int64') for k, v in state.items()}


def as_timm(state):
  """The same tensors under timm's names."""
  renamed = {}
  for name, value in state.items():
    name = re.sub(r'^features\.0\.0', 'conv_stem', name)
    name = re.sub(r'^features\.0\.1', 'bn1', name)
    name = re.sub(r'^features\.8\.0', 'conv_head', name)
    name = re.sub(r'^features\.8\.1', 'bn2', name)
    name = re.sub(r'^classifier\.1', 'classifier', name)
    if found := re.match(r'features\.(\d)\.(\d)\.block\.(\d)\.(fc\d|\d)\.(.*)', name):
      stage, index, part, inner, field = int(found[1]) - 1, found[2], int(found[3]), found[4], found[5]
      if inner.startswith('fc'):
        layer = 'se.conv_reduce' if inner == 'fc1' else 'se.conv_expand'
      else:
        number = {0: (1, None, 2), 1: (1, 2, None, 3)}[int(stage > 0)][part]
        convs = ('conv_dw', None, 'conv_pw') if stage == 0 else ('conv_pw', 'conv_dw', None, 'conv_pwl')
        layer = convs[part] if inner == '0' else f'bn{number}'
      name = f'blocks.{stage}.{index}.{layer}.{field}'
    renamed[name] = value
  assert len(renamed) == len(state)
  return renamed


def numpy_efficientnet(state, images):
  """Slow twin of torchvision's network: symmetric padding, epsilon 1e-5, NCHW, float64."""
  silu = lambda x: x / (1 + np.exp(-x))

  def conv_norm(x, name, stride, is_depthwise=False, act=True):
    kernel = state[f'{name}.0.weight'].astype('f8')
    k = kernel.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    cuts = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]
    if is_depthwise:
      y = np.einsum('bchwij,cij->bchw', cuts, kernel[:, 0])
    else:
      y = np.einsum('bchwij,ocij->bohw', cuts, kernel, optimize=True)
    column = lambda field: state[f'{name}.1.{field}'].astype('f8')[:, None, None]
    y = (y - column('running_mean')) / np.sqrt(column('running_var') + 1e-5) * column('weight') + column('bias')
    return silu(y) if act else y

  x = (images / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
  x = conv_norm(x.transpose(0, 3, 1, 2), 'features.0', 2)
  for s, (expansion, _, repeats, first_stride, _) in enumerate(STAGES):
    for i in range(repeats):
      block, skip, at = f'features.{s + 1}.{i}.block', x, int(expansion > 1)
      if at:
        x = conv_norm(x, f'{block}.0', 1)
      x = conv_norm(x, f'{block}.{at}', first_stride if i == 0 else 1, is_depthwise=True)
      gate = x.mean((2, 3))
      for layer, act in (('fc1', silu), ('fc2', lambda x: 1 / (1 + np.exp(-x)))):
        name = f'{block}.{at + 1}.{layer}'
        gate = act(gate @ state[f'{name}.weight'][:, :, 0, 0].T + state[f'{name}.bias'])
      x = conv_norm(x * gate[:, :, None, None], f'{block}.{at + 2}', 1, act=False)
      if i > 0:
        x = x + skip
  return conv_norm(x, 'features.8', 1).transpose(0, 2, 3, 1)


def features(params, batch_stats, conventions, images, form='shift'):
  config = policy_config('s2e_v1', **conventions)
  module = EfficientNetB0(
    jnp.dtype('float32'), 'frozen', config.encoder_padding, config.bn_epsilon, form, None, config.image_mean,
    config.image_std,
  )  # fmt: skip
  return np.asarray(jax.jit(module.apply)({'params': params, 'batch_stats': batch_stats}, images))


def assert_close(got, want):
  np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


@pytest.fixture(scope='module')
def state():
  return torch_layout_weights()


@pytest.mark.parametrize('layout', ['torchvision', 'timm'])
def test_torch_layouts_compute_what_the_numpy_network_computes(layout, state, tmp_path):
  file = tmp_path / f'{layout}.safetensors'
  save_file(state if layout == 'torchvision' else as_timm(state), file)
  imported = read_efficientnet(file)
  assert imported.conventions == dict(encoder_padding='torch', bn_epsilon=1e-5)
  got = features(imported.params, imported.batch_stats, imported.conventions, IMAGES)
  assert got.shape == (2, 2, 3, 1280)
  assert_close(got, numpy_efficientnet(state, IMAGES))


def test_all_torch_formats_and_layouts_give_the_same_tree(state, tmp_path):
  save_file(state, tmp_path / 'a.safetensors')
  np.savez(tmp_path / 'b.npz', **as_timm({f'{k}': v for k, v in state.items()}))
  np.savez(tmp_path / 'c.npz', **{f'module.{k}': v for k, v in state.items()})
  want = load_efficientnet(tmp_path / 'a.safetensors')
  for name in ('b.npz', 'c.npz'):
    jax.tree.map(np.testing.assert_array_equal, want, load_efficientnet(tmp_path / name))


def test_tensorflow_ports_of_timm_get_tensorflow_conventions(state, tmp_path):
  np.savez(tmp_path / 'tf_efficientnet_b0.npz', **as_timm(state))
  conventions = read_efficientnet(tmp_path / 'tf_efficientnet_b0.npz').conventions
  assert conventions == dict(encoder_padding='same', bn_epsilon=1e-3)


def test_misfits_are_all_listed(state, tmp_path):
  broken = dict(state)
  del broken['features.3.1.block.2.fc1.bias']
  broken['features.9.weight'] = np.zeros(3, 'f4')
  broken['features.8.0.weight'] = np.zeros((1280, 321, 1, 1), 'f4')
  save_file(broken, tmp_path / 'broken.safetensors')
  with pytest.raises(ValueError, match='does not fit') as error:
    load_efficientnet(tmp_path / 'broken.safetensors')
  for name in ('features.3.1.block.2.fc1.bias', 'features.9.weight', r'features.8.0.weight (1280, 321, 1, 1)'):
    assert name in str(error.value)


def test_unusable_files_name_the_remedy(tmp_path):
  np.savez(tmp_path / 'other.npz', a=np.zeros(3))
  (tmp_path / 'weights.pkl').write_bytes(b'')
  (tmp_path / 'weights.pth').write_bytes(b'')
  with pytest.raises(ValueError, match='no EfficientNet-B0 of a known layout'):
    load_efficientnet(tmp_path / 'other.npz')
  with pytest.raises(ValueError, match='must end in one of'):
    load_efficientnet(tmp_path / 'weights.pkl')
  with pytest.raises(ValueError, match='do not exist'):
    load_efficientnet(tmp_path / 'nothing.npz')
  if importlib.util.find_spec('torch') is None:
    with pytest.raises(ValueError, match='safetensors'):
      load_efficientnet(tmp_path / 'weights.pth')


def test_torch_files_are_read_without_running_code(state, tmp_path):
  torch = pytest.importorskip('torch')
  torch.save({k: torch.from_numpy(v) for k, v in state.items()}, tmp_path / 'weights.pth')
  save_file(state, tmp_path / 'weights.safetensors')
  want = load_efficientnet(tmp_path / 'weights.safetensors')
  jax.tree.map(np.testing.assert_array_equal, want, load_efficientnet(tmp_path / 'weights.pth'))


def test_policy_takes_over_weights_and_conventions(state, tmp_path):
  file = tmp_path / 'tf_efficientnet_b0.safetensors'
  save_file(as_timm(state), file)
  config = policy_config('s2e_v1', encoder_weights=str(file))
  variables = {'params': {'encoder': {}, 'heads': 1}, 'batch_stats': {'encoder': {}}}
  new, imported = with_imported_encoder(config, variables)
  assert (new.encoder_padding, new.bn_epsilon) == ('same', 1e-3)
  assert imported['params']['heads'] == 1 and variables['params']['encoder'] == {}
  np.testing.assert_array_equal(
    imported['params']['encoder']['stem']['kernel'], state['features.0.0.weight'].transpose(2, 3, 1, 0)
  )
  assert 'stem' in imported['batch_stats']['encoder']
  plain = policy_config('s2e_v1')
  assert with_imported_encoder(plain, variables) == (plain, variables)
  with pytest.raises(ValueError, match="encoder='tiny'"):
    with_imported_encoder(policy_config('s2e_tiny', encoder_weights=str(file)), variables)
