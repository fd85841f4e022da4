"""Epochs of minibatches over a rollout's samples, the same for PPO and its supervised rivals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from s2e_jax.training import parallel, variants

# (params, samples, key) -> (loss [], figures []), both means over the samples; figures named *_max are maxima.
Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def num_samples(samples: Any) -> int:
  """Length of the leading axis of a tree of arrays."""
  return int(jax.tree.leaves(samples)[0].shape[0])


def _pooled(figures: dict[str, jax.Array], pool: Callable[[jax.Array], jax.Array]) -> dict[str, jax.Array]:
  return {name: value.max() if name.endswith('_max') else pool(value) for name, value in figures.items()}


def mean_gradient(
  loss: Callable[[Any, Any, jax.Array], Any], trainable: Any, samples: Any, chunk: int, key: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
  """(gradient, figures) of loss(trainable, samples, key) over equal chunks of the samples, 0 = all at once.

  Raises ValueError when `chunk` does not divide them.
  """
  num = num_samples(samples)
  grad = jax.grad(loss, has_aux=True)
  if not chunk or chunk >= num:
    gradient, figures = grad(trainable, samples, key)
    return gradient, figures
  if num % chunk:
    raise ValueError(f'ppo.chunk={chunk} must divide the {num} samples of a minibatch on one device')
  count = num // chunk
  parts = jax.tree.map(lambda x: x.reshape(count, chunk, *x.shape[1:]), samples)

  def add(total: Any, part: Any) -> tuple[Any, Any]:
    gradient, figures = grad(trainable, *part)
    return jax.tree.map(jnp.add, total, gradient), figures

  zeros = jax.tree.map(jnp.zeros_like, trainable)
  total, figures = jax.lax.scan(add, zeros, (parts, jax.random.split(key, count)))
  return jax.tree.map(lambda x: x / count, total), _pooled(figures, jnp.mean)


def run_epochs(
  loss: Loss,
  optimizer: optax.GradientTransformation,
  labels: Any,
  learner: Any,
  samples: Any,
  options: Any,
  key: jax.Array,
  adapted_rate: Callable[[jax.Array, dict[str, jax.Array]], jax.Array] | None = None,
) -> tuple[Any, dict[str, jax.Array]]:
  """(learner, figures) after `options.num_epochs` over samples [N, ...]; inside `pmap`. Consumes the key.

  Gradients are averaged over devices and taken for what `labels` (of `variants.variant_labels`) trains alone. An
  update whose gradient is not finite changes nothing and is counted. Figures are means over the finite updates.
  learner: has params and opt_state. options: has num_epochs, num_minibatches, chunk. adapted_rate: the learning
  rate after an update from the one before and its figures; None keeps it. ValueError when the minibatches do not
  share the samples evenly.
  """
  num = num_samples(samples)
  if num % options.num_minibatches:
    raise ValueError(f'ppo.num_minibatches={options.num_minibatches} must divide the {num} samples of a device')
  trainable, frozen = variants.split(learner.params, labels)

  def of_trainable(trainable: Any, samples: Any, key: jax.Array) -> tuple[jax.Array, Any]:
    return loss(variants.merge(trainable, frozen), samples, key)

  def step(carry: tuple[Any, Any], part: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, Any], Any]:
    trainable, opt_state = carry
    index, key = part
    batch = jax.tree.map(lambda x: x[index], samples)
    gradient, figures = parallel.pmean(mean_gradient(of_trainable, trainable, batch, options.chunk, key))
    norm = optax.tree.norm(gradient)
    is_good = jnp.isfinite(norm)
    safe = jax.tree.map(lambda g: jnp.where(is_good, g, 0.0), gradient)
    updates, following = optimizer.update(safe, opt_state, trainable)
    if adapted_rate is not None:
      rate = adapted_rate(variants.learning_rate_of(opt_state), figures)
      following = variants.with_learning_rate(following, rate)
    moved = optax.apply_updates(trainable, updates)
    carry = jax.tree.map(lambda new, old: jnp.where(is_good, new, old), (moved, following), carry)
    return carry, figures | {'grad_norm': norm, 'bad_updates': 1.0 - is_good.astype(jnp.float32)}

  shuffle_key, noise_key = jax.random.split(key)
  order = [jax.random.permutation(k, num) for k in jax.random.split(shuffle_key, options.num_epochs)]
  index = jnp.stack(order).reshape(options.num_epochs * options.num_minibatches, -1)
  keys = jax.random.split(noise_key, index.shape[0])
  (trainable, opt_state), each = jax.lax.scan(step, (trainable, learner.opt_state), (index, keys))
  is_bad = each['bad_updates'] > 0
  good = jnp.maximum(jnp.sum(~is_bad), 1)
  finite = {name: jnp.where(is_bad, 0.0, value) for name, value in each.items()}
  figures = _pooled(finite, lambda value: value.sum() / good)
  figures |= {f'first_{name}': value[0] for name, value in each.items() if name.endswith('_max')}
  figures |= {
    'bad_updates': jnp.sum(is_bad.astype(jnp.float32)),
    'learning_rate': variants.learning_rate_of(opt_state),
  }
  params = variants.merge(trainable, frozen)
  return dataclasses.replace(learner, params=params, opt_state=opt_state), figures
