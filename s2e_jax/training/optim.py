"""AdamW with warm-up and cosine, a learning rate of the encoder's own, averages, and a non-finite guard."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from s2e_jax import trees

# Every parameter matches exactly one rule of each list (see `trees.label_tree`).
RATE_RULES = (('encoder/.*', 'encoder'), ('(?!encoder/).*', 'body'))
DECAY_RULES = (('(.*/)?kernel', 'matrix'), ('(?!(.*/)?kernel$).*', 'other'))  # biases, scales, embeddings

FINAL_RATE = 0.01  # of the peak, at the end of the cosine


class NonFiniteError(ArithmeticError):
  """Too many steps in a row had a loss or gradient that was not finite."""


def learning_rate(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to `peak` in `warmup_steps`, then a cosine down to 1 % of it at `steps`."""
  if not 0 <= warmup_steps < steps:
    raise ValueError(f'warmup_steps={warmup_steps} must be in [0, steps={steps}); use {max(0, steps // 20)}')
  return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, steps, end_value=FINAL_RATE * peak)


def make_optimizer(
  params: Any,
  steps: int,
  learning_rate_peak: float,
  warmup_steps: int,
  encoder_lr_scale: float = 1.0,
  weight_decay: float = 0.0,
  clip_norm: float = 1.0,
  b2: float = 0.999,
) -> optax.GradientTransformation:
  """AdamW for `params` (only paths and shapes are used), gradients clipped by their global norm.

  The decay acts on matrices and convolution kernels only; decay and update of the encoder are multiplied by
  `encoder_lr_scale`. Raises ValueError when a number breaks its rule or a parameter is matched by no rule.
  """
  for name, value, rule in (
    ('learning_rate', learning_rate_peak, learning_rate_peak > 0),
    ('encoder_lr_scale', encoder_lr_scale, encoder_lr_scale >= 0),
    ('weight_decay', weight_decay, weight_decay >= 0),
    ('clip_norm', clip_norm, clip_norm > 0),
    ('b2', b2, 0 < b2 < 1),
  ):
    if not rule:
      raise ValueError(f'optim.{name}={value} is out of range: rates and norms are positive, 0 < b2 < 1')
  is_matrix = trees.mask_of(trees.label_tree(params, DECAY_RULES), ['matrix'])
  is_encoder = trees.mask_of(trees.label_tree(params, RATE_RULES), ['encoder'])
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.scale_by_adam(b2=b2),
    optax.add_decayed_weights(weight_decay, mask=is_matrix),
    optax.masked(optax.scale(encoder_lr_scale), is_encoder),
    optax.scale_by_learning_rate(learning_rate(learning_rate_peak, warmup_steps, steps)),
  )


@struct.dataclass
class TrainState:
  """Everything that a step changes, and that a checkpoint must hold to go on bit for bit.

  step: int32, batches consumed. params, model_state: the policy's parameters and its other collections.
  opt_state: optax. ema: exponential moving average of params, None if off.
  num_bad: int32 steps skipped so far; bad_streak: int32 of them in a row up to now.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: Any
  ema: Any
  num_bad: jax.Array
  bad_streak: jax.Array

  @property
  def policy_variables(self) -> dict[str, Any]:
    """What the policy is judged and exported with: the average if there is one."""
    return {'params': self.params if self.ema is None else self.ema, **self.model_state}


def init_state(variables: Any, optimizer: optax.GradientTransformation, ema_decay: float = 0.0) -> TrainState:
  """The state before the first step, for a policy's `variables` (collection 'params' and others)."""
  if not 0.0 <= ema_decay < 1.0:
    raise ValueError(f'optim.ema_decay={ema_decay} must be in [0, 1); 0 = no average')
  params = variables['params']
  return TrainState(
    step=jnp.int32(0),
    params=params,
    model_state={k: v for k, v in variables.items() if k != 'params'},
    opt_state=optimizer.init(params),
    ema=jax.tree.map(jnp.array, params) if ema_decay else None,
    num_bad=jnp.int32(0),
    bad_streak=jnp.int32(0),
  )


def guarded_update(
  state: TrainState,
  optimizer: optax.GradientTransformation,
  loss: jax.Array,
  grads: Any,
  model_state: Any,
  ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """The state after one step and figures about the update; pure.

  If the loss or the gradient is not finite, parameters, moments, averages and statistics all stay as they were and
  the step is counted as bad. The average warms up as min(ema_decay, (1 + n) / (10 + n)) over the n good steps so
  far, so that it does not remember the initialisation.
  """
  grad_norm = optax.tree.norm(grads)
  is_good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  # A bad step runs on zeros: NaN times zero would still be NaN behind a select's gradient-free twin.
  safe = jax.tree.map(lambda g: jnp.where(is_good, g, 0.0), grads)
  updates, opt_state = optimizer.update(safe, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if ema is not None:
    n = (state.step - state.num_bad).astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + n) / (10.0 + n))
    ema = jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, ema, params)
  old = (state.params, state.model_state, state.opt_state, state.ema)
  new = (params, model_state, opt_state, ema)
  params, model_state, opt_state, ema = jax.tree.map(lambda a, b: jnp.where(is_good, a, b), new, old)
  is_bad = (~is_good).astype(jnp.int32)
  state = TrainState(
    step=state.step + 1,
    params=params,
    model_state=model_state,
    opt_state=opt_state,
    ema=ema,
    num_bad=state.num_bad + is_bad,
    bad_streak=jnp.where(is_good, 0, state.bad_streak + 1),
  )
  return state, {'grad_norm': grad_norm, 'num_bad': state.num_bad, 'bad_streak': state.bad_streak}


def check_streak(step: int, bad_streak: int, max_bad_steps: int) -> None:
  """Raises NonFiniteError naming the steps when `max_bad_steps` in a row up to `step` were not finite."""
  if bad_streak >= max_bad_steps:
    raise NonFiniteError(
      f'loss or gradient was not finite in the {bad_streak} steps {step - bad_streak + 1} .. {step} '
      f'(train.max_bad_steps={max_bad_steps}); parameters are as before them. Lower optim.learning_rate or '
      'optim.clip_norm, or look for bad labels in the data'
    )
