"""EfficientNet-B0 against Keras's own, on random weights and random batch-norm statistics."""

import os

os.environ.setdefault('KERAS_BACKEND', 'jax')

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.encoders.efficientnet import EfficientNetB0
from s2e_jax.policy.encoders.weights import read_efficientnet

keras = pytest.importorskip('keras')

IMAGE = np.random.default_rng(1).integers(0, 256, (2, 75, 110, 3)).astype('uint8')  # odd sizes test the padding


@pytest.fixture(scope='module')
def model():
  if keras.backend.backend() != 'jax':
    pytest.skip('keras already runs on another backend')
  model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=IMAGE.shape[1:])
  rng = np.random.default_rng(2)
  for weight in model.weights:
    name, shape = weight.path.split('/')[-1], weight.shape
    if name == 'count':
      continue
    if name in ('variance', 'moving_variance', 'gamma'):
      value = rng.uniform(0.5, 1.5, shape)
    elif 'kernel' in name:
      fan_in = np.prod(shape[:2]) if 'dwconv' in weight.path else np.prod(shape[:3])
      value = rng.normal(size=shape) * np.sqrt(1.5 / fan_in)
    else:
      value = rng.normal(size=shape) * 0.2
    weight.assign(value.astype('float32'))
  return model


def _save(model, form, folder):
  if form == 'keras3':
    path = folder / 'b0.weights.h5'
    model.save_weights(path)
  elif form == 'whole_model':
    path = folder / 'b0.h5'
    model.save(path)
  else:  # the form of the files of keras.applications: layer/layer/variable:0
    path = folder / 'b0_notop.h5'
    with h5py.File(path, 'w') as file:
      for layer in model.layers:
        group = file.create_group(layer.name)
        for weight in layer.weights:
          field = weight.path.split('/')[-1]
          field = 'depthwise_kernel' if 'dwconv' in layer.name else field
          group.create_dataset(f'{layer.name}/{field}:0', data=np.asarray(weight.value))
  return path


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('form', ['keras3', 'whole_model', 'legacy'])
def test_every_keras_file_form_gives_the_same_tree(model, form, tmp_path):
  imported = read_efficientnet(_save(model, form, tmp_path))
  layers = {layer.name: layer for layer in model.layers}
  np.testing.assert_array_equal(imported.params['stem']['kernel'], layers['stem_conv'].weights[0].value)
  np.testing.assert_array_equal(
    imported.params['stage5_block2_depthwise']['kernel'],
    np.asarray(layers['block6c_dwconv'].weights[0].value).swapaxes(2, 3),
  )
  np.testing.assert_array_equal(
    imported.batch_stats['stage3_block1_project']['norm']['var'],
    layers['block4b_project_bn'].moving_variance.value,
  )
  assert imported.conventions['encoder_padding'] == 'same' and imported.conventions['bn_epsilon'] == 1e-3
  np.testing.assert_allclose(
    imported.conventions['image_mean'], layers['normalization'].weights[0].value, rtol=1e-6
  )


def test_features_equal_keras(model, tmp_path):
  imported = read_efficientnet(_save(model, 'keras3', tmp_path))
  # Keras caches the statistics of this layer when it is built: take the assigned ones.
  model.get_layer('normalization').finalize_state()
  want = np.asarray(model(IMAGE.astype('float32'), training=False))
  c = imported.conventions
  for form in ('shift', 'grouped'):
    module = EfficientNetB0(
      jnp.dtype('float32'),
      'frozen',
      c['encoder_padding'],
      c['bn_epsilon'],
      form,
      None,
      c['image_mean'],
      c['image_std'],
    )
    variables = {'params': imported.params, 'batch_stats': imported.batch_stats}
    got = jax.jit(module.apply)(variables, IMAGE)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max(), err_msg=form)


def test_published_normalisation_quirk_is_recognised(model, tmp_path):
  """Keras's ImageNet files store the standard deviation under `variance`."""
  path = _save(model, 'legacy', tmp_path)
  with h5py.File(path, 'r+') as file:
    file['normalization/normalization/mean:0'][...] = [0.485, 0.456, 0.406]
    file['normalization/normalization/variance:0'][...] = [0.229, 0.224, 0.225]
  np.testing.assert_allclose(read_efficientnet(path).conventions['image_std'], [0.229, 0.224, 0.225], rtol=1e-6)
