"""What each finetuning variant trains: one rule table, the optimiser it makes, and the split of the parameters.

The parameter tree is {'policy': a policy's parameters, 'critic': ..., 'exploration': ...}; its two last groups are
those of PPO and may be absent where a variant is supervised.
"""

from __future__ import annotations

import difflib
from typing import Any

import jax
import jax.numpy as jnp
import optax

from s2e_jax import trees

TRAIN, FROZEN = 'train', 'frozen'
PPO_VARIANTS = ('ram', 'ppo_full', 'ppo_scratch', 'decoder_ft')
PPO_GROUPS = ('critic', 'exploration')

_Rules = tuple[tuple[str, str], ...]
_BRANCHES = r'policy/decoder/block_\d+/residual/.*'
_RAM: _Rules = ((_BRANCHES, TRAIN), (f'policy/(?!{_BRANCHES.removeprefix("policy/")}).*', FROZEN))
# Branches match no rule here: nothing but them may train where they are, and gradients to the trunk are stopped.
_ALL: _Rules = ((f'(?!{_BRANCHES})policy/.*', TRAIN),)
_DECODER: _Rules = (
  (f'(?!{_BRANCHES})policy/decoder/.*', TRAIN),
  ('policy/heads/.*', TRAIN),
  *((f'policy/{group}/.*', FROZEN) for group in ('encoder', 'frame_proj', 'goal', 'context', 'anchors')),
)
# Variant -> rules for the group 'policy'; every parameter matches exactly one (see `trees.label_tree`).
POLICY_RULES: dict[str, _Rules] = {
  'ram': _RAM,
  'sft': _RAM,
  'dagger': _RAM,
  'ppo_full': _ALL,
  'ppo_scratch': _ALL,
  'sft_full': _ALL,
  'decoder_ft': _DECODER,
}


def variant_rules(variant: str, params: Any) -> _Rules:
  """Rules (regex, 'train' | 'frozen') of `variant` for all of `params`.

  PPO variants need critic and exploration, which train; a supervised variant freezes those that are there.
  Raises ValueError for an unknown variant, naming the nearest known one.
  """
  if variant not in POLICY_RULES:
    near = difflib.get_close_matches(variant, POLICY_RULES, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'variant={variant!r} must be one of {sorted(POLICY_RULES)}{hint}')
  is_ppo = variant in PPO_VARIANTS
  label = TRAIN if is_ppo else FROZEN
  groups = tuple((f'{group}(/.*)?', label) for group in PPO_GROUPS if is_ppo or group in params)
  return (*POLICY_RULES[variant], *groups)


def variant_labels(params: Any, variant: str) -> Any:
  """Tree of 'train' and 'frozen' for `params` (only its paths are used).

  Raises ValueError when a parameter matches no rule or several, or a rule of the variant matches nothing.
  """
  rules = variant_rules(variant, params)
  try:
    return trees.label_tree(params, rules)
  except ValueError as error:
    raise ValueError(
      f'variant={variant!r} does not fit these parameters (residual branches belong to ram, sft and dagger and to '
      "no other: `add_residual` gives them, `strip_residual` takes them away; PPO needs 'critic' and "
      f"'exploration'): {error}"
    ) from error


def split(params: Any, labels: Any) -> tuple[Any, Any]:
  """(trainable, frozen): two trees of the form of `params` in which the other part's leaves are None.

  JAX takes None for an empty subtree: `jax.grad` over the first tree computes no gradient of a frozen leaf, and an
  optimiser of it holds no state for one. Gradients of the whole tree cost more once anything reads the frozen
  ones, such as a norm or a check for NaN. labels: of `variant_labels`.
  """
  trainable = jax.tree.map(lambda label, leaf: leaf if label == TRAIN else None, labels, params)
  frozen = jax.tree.map(lambda label, leaf: None if label == TRAIN else leaf, labels, params)
  return trainable, frozen


def merge(trainable: Any, frozen: Any) -> Any:
  """The tree that `split` took apart. Raises ValueError where both or none of the two have a leaf."""

  def one(path: Any, a: Any, b: Any) -> Any:
    if (a is None) == (b is None):
      raise ValueError(f'{trees.path_of(path)} is in {"none" if a is None else "both"} of the parts to merge')
    return b if a is None else a

  return jax.tree_util.tree_map_with_path(one, trainable, frozen, is_leaf=lambda leaf: leaf is None)


def make_finetune_optimizer(
  params: Any,
  variant: str,
  learning_rate: float,
  clip_norm: float = 1.0,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Adam without weight decay on what `variant` trains, gradients clipped by the norm of those leaves alone.

  Takes gradients and parameters of the whole tree, or of the first tree of `split`; the state is the same, and
  holds no array for a frozen leaf. What is frozen gets no update, or one that leaves its bits as they are.
  The learning rate is a value in the state: `with_learning_rate` changes it without a new compilation.

  params: only paths and shapes are used. learning_rate: the one to start with.
  Raises ValueError when a number breaks its rule or the variant does not fit the parameters.
  """
  for name, value, rule in (
    ('learning_rate', learning_rate, learning_rate > 0),
    ('clip_norm', clip_norm, clip_norm > 0),
    ('b1', b1, 0 <= b1 < 1),
    ('b2', b2, 0 < b2 < 1),
    ('eps', eps, eps > 0),
  ):
    if not rule:
      raise ValueError(f'{name}={value} is out of range: rates and norms are positive, 0 <= b1 < 1, 0 < b2 < 1')
  labels = variant_labels(params, variant)

  def build(learning_rate: jax.Array) -> optax.GradientTransformation:
    adam = optax.chain(
      optax.clip_by_global_norm(clip_norm),
      optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
      optax.scale_by_learning_rate(learning_rate),
    )
    return optax.partition({TRAIN: adam, FROZEN: optax.stateless(_nothing)}, labels)

  return optax.inject_hyperparams(build)(learning_rate=learning_rate)


def _nothing(updates: Any, params: Any) -> Any:
  """Updates that leave every bit as it is: adding +0 would turn a parameter of -0 into +0."""
  del params
  return jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)


def learning_rate_of(opt_state: Any) -> jax.Array:
  """The learning rate [] of the next update."""
  return opt_state.hyperparams['learning_rate']


def with_learning_rate(opt_state: Any, learning_rate: jax.Array | float) -> Any:
  """The state of a finetuning optimiser with another learning rate from the next update on; pure, jittable."""
  value = jnp.asarray(learning_rate, learning_rate_of(opt_state).dtype)
  return opt_state._replace(hyperparams={**opt_state.hyperparams, 'learning_rate': value})
