"""One and eight devices train the same parameters, in programs as they are for users."""

import functools

import jax
import numpy as np
import optax

from s2e_jax.training import parallel, pretrain
from tests.training.small_pretraining import make_state, random_batch, small_policy


def trained(policy, num_devices, num_steps, monkeypatch, **kwargs):
  devices = jax.devices()[:num_devices]
  with monkeypatch.context() as m:
    m.setattr(parallel.jax, 'local_devices', lambda: devices)
    m.setattr(parallel.jax, 'local_device_count', lambda: num_devices)
    state, tx = make_state(policy, **kwargs)
    step = jax.pmap(
      pretrain.make_train_step(policy, tx, pretrain.LossOptions(), 0.9),
      axis_name=parallel.AXIS,
      devices=devices,
      donate_argnums=(0,),
    )
    state, metrics = parallel.replicate(state), []
    for i in range(num_steps):
      state, values = step(state, parallel.shard(random_batch(policy, i)))
      metrics.append(parallel.unreplicate(values))
    return parallel.unreplicate(state), metrics


def test_one_and_eight_devices_train_the_same_parameters(monkeypatch):
  policy = small_policy()
  options = dict(ema=0.9, learning_rate_peak=1e-3)
  one, metrics_one = trained(policy, 1, 3, monkeypatch, **options)
  eight, metrics_eight = trained(policy, 8, 3, monkeypatch, **options)
  start, _ = make_state(policy)
  for name in ('params', 'ema'):
    a, b = getattr(one, name), getattr(eight, name)
    difference = jax.tree.map(np.subtract, a, b)
    assert optax.tree.norm(difference) <= 1e-5 * optax.tree.norm(a)
    # Adam divides a gradient near zero by its own size, so rounding shows there: hence an absolute part.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-5), a, b)
    # Biases start at zero: what can be compared is the way they went.
    for d, x, s in zip(*map(jax.tree.leaves, (difference, a, start.params)), strict=True):
      assert np.abs(x - s).max() > 1e-6
      assert np.linalg.norm(d) <= 5e-3 * np.linalg.norm(x - s)
  for x, y in zip(metrics_one, metrics_eight, strict=True):
    for name in ('loss', 'ade_top', 'grad_norm', 'mode_used', 'count'):
      np.testing.assert_allclose(x[name], y[name], rtol=1e-5)
  assert [m['count'] for m in metrics_one] == [random_batch(policy, i).window_mask.sum() for i in range(3)]
