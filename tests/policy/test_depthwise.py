"""Both forms of the depthwise convolution against scipy and against each other."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from s2e_jax.policy.encoders.depthwise import depthwise, pad_amounts

CASES = [(7, 10, 3, 1), (8, 12, 3, 2), (9, 13, 3, 2), (11, 6, 5, 1), (12, 10, 5, 2), (9, 14, 5, 2), (5, 7, 3, 3)]


def _inputs(h, w, k, c=6):
  rng = np.random.default_rng(h * w + k)
  return rng.normal(size=(2, h, w, c)).astype('f4'), rng.normal(size=(k, k, 1, c)).astype('f4')


@pytest.mark.parametrize('padding', ['torch', 'same'])
@pytest.mark.parametrize('h,w,k,stride', CASES)
def test_both_forms_equal_scipy(h, w, k, stride, padding):
  x, kernel = _inputs(h, w, k)
  pads = pad_amounts((h, w), k, stride, padding)
  padded = np.pad(x, ((0, 0), *pads, (0, 0)))
  want = np.stack(
    [
      [scipy.signal.correlate2d(image[..., c], kernel[:, :, 0, c], mode='valid') for c in range(x.shape[-1])]
      for image in padded
    ]
  ).transpose(0, 2, 3, 1)[:, ::stride, ::stride]
  for form in ('shift', 'grouped'):
    got = depthwise(jnp.asarray(x), jnp.asarray(kernel), stride, pads, form)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=form)


@pytest.mark.parametrize('h,w,k,stride', CASES)
def test_gradients_of_both_forms_agree(h, w, k, stride):
  x, kernel = map(jnp.asarray, _inputs(h, w, k))
  pads = pad_amounts((h, w), k, stride, 'torch')

  def loss(x, kernel, form):
    y = depthwise(x, kernel, stride, pads, form)
    return jnp.sum(jnp.sin(jnp.arange(y.size).reshape(y.shape)) * y**2)

  ours = jax.grad(loss, (0, 1))(x, kernel, 'shift')
  theirs = jax.grad(loss, (0, 1))(x, kernel, 'grouped')
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.parametrize('size,kernel,stride,want', [(8, 3, 2, (0, 1)), (9, 3, 2, (1, 1)), (8, 5, 2, (1, 2))])
def test_same_padding_puts_the_odd_zero_last(size, kernel, stride, want):
  assert pad_amounts((size, 6), kernel, stride, 'same')[0] == want
  assert pad_amounts((size, 6), kernel, stride, 'torch')[0] == (kernel // 2, kernel // 2)


@pytest.mark.slow
def test_shift_is_faster_than_grouped_on_cpu():
  x, kernel = jnp.ones((5, 24, 48, 96)), jnp.ones((3, 3, 1, 96))
  pads = pad_amounts((24, 48), 3, 1, 'torch')
  spent = {'shift': [], 'grouped': []}
  jitted = {form: jax.jit(lambda x, k, form=form: depthwise(x, k, 1, pads, form)) for form in spent}
  for _ in range(8):
    for form, function in jitted.items():
      start = time.perf_counter()
      function(x, kernel).block_until_ready()
      spent[form].append(time.perf_counter() - start)
  assert min(spent['grouped'][1:]) > 2 * min(spent['shift'][1:])
