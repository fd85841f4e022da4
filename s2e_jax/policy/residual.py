"""The residual-attention module: trainable branches beside a frozen decoder (S2E, arXiv:2507.22028, RAM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from s2e_jax import trees
from s2e_jax.policy.attention import LAYER_NORM_EPSILON, Affine, AffineMap, Attention
from s2e_jax.policy.config import PolicyConfig

BRANCH = 'residual'  # its name within a decoder block
_COPIED = ('norm', 'attention')  # Theta_r, as `cross_attention` names it
_ZERO = ('z_in', 'z_out')


class ResidualBranch(nn.Module):
  """Z_out(Attn_r(Z_in(LN_r(X)); K, V)): features [*B, M, D] read the context [*B, N, D], whose output is added.

  `norm` and `attention` (Theta_r) have the names and shapes of `CrossAttention`'s; `z_in` and `z_out` are linear
  layers D -> D that start at zero, so that the branch starts at zero.
  Ours: Z_in comes after LN_r. A LayerNorm behind it would see zeros, where its slope is 1 / sqrt(epsilon), and the
  second update would explode.
  """

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, features: jax.Array, context: jax.Array) -> jax.Array:
    """[*B, M, D] -> [*B, M, D]."""

    width = features.shape[-1]

    def linear(name: str) -> AffineMap:
      return Affine(width, self.dtype, nn.initializers.zeros, name=name)(width)

    x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, name='norm')(features)
    attention = Attention(self.num_heads, self.dtype, name='attention')
    return attention(x, context, before=(linear('z_in'),), after=(linear('z_out'),))


def add_residual(params: Mapping[str, Any], config: PolicyConfig) -> dict[str, Any]:
  """Pretrained policy parameters with the branches that `config` asks for; pure, the given tree stays as it is.

  Copies `decoder/block_<i>/cross_attention/{norm,attention}` to `decoder/block_<i>/residual/` and adds zero `z_in`
  and `z_out`. All other leaves are the very arrays of `params`. A tree that has branches already is given back as
  it is if all of them fit, trained values included.
  The policy's output keeps every bit; only at widths below about 40 may a compiler for CPU sum a LayerNorm in
  another order, which depends on what it is fused with.

  params: collection 'params' of a policy. config: of the policy with branches, ram_input not 'none'.
  Raises ValueError naming paths, shapes and remedy when needed parameters are missing or of another width, when
  the numbers of blocks differ, or when branches that are there do not fit.
  """
  if config.ram_input == 'none':
    raise ValueError("policy ram_input='none' has no branches to add; set ram_input to 'query' or 'frozen_out'")
  want = _branch_shapes(config)
  needed = {name: want[name] for name in _COPIED}
  blocks = [f'block_{i}' for i in range(config.num_decoder_layers)]
  decoder = params.get('decoder', {})
  lines = [
    f'decoder/{name} is beyond num_decoder_layers={config.num_decoder_layers}'
    for name in decoder
    if name.startswith('block_') and name not in blocks
  ]
  has_branches = any(BRANCH in decoder.get(name, {}) for name in blocks)
  for name in blocks:
    block = decoder.get(name, {})
    lines += _misfits(block.get('cross_attention', {}), needed, f'decoder/{name}/cross_attention')
    if has_branches:
      lines += _misfits(block.get(BRANCH, {}), want, f'decoder/{name}/{BRANCH}')
  if lines:
    shown = '\n  '.join(lines)
    raise ValueError(
      f'these parameters cannot carry the residual attention of policy {config.name!r} (width={config.width}, '
      f'num_decoder_layers={config.num_decoder_layers}):\n  {shown}\nTake the policy config from the '
      "checkpoint's own description"
      + ('; `strip_residual` removes branches that do not fit' if has_branches else '')
    )
  if has_branches:
    return dict(params)

  def with_branch(block: Mapping[str, Any]) -> dict[str, Any]:
    source = {name: block['cross_attention'][name] for name in _COPIED}
    # Copies, not the same buffers twice: a train step may donate its parameters.
    branch = jax.tree.map(jnp.array, source)
    dtype = jax.tree.leaves(branch)[0].dtype
    zeros = {name: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), want[name]) for name in _ZERO}
    return {**block, BRANCH: {**branch, **zeros}}

  return {**params, 'decoder': {**decoder, **{name: with_branch(decoder[name]) for name in blocks}}}


def strip_residual(params: Mapping[str, Any]) -> dict[str, Any]:
  """Policy parameters without their branches: the pretrained tree, in the very arrays of `params`."""
  decoder = {
    name: {part: leaves for part, leaves in value.items() if part != BRANCH}
    if name.startswith('block_')
    else value
    for name, value in params.get('decoder', {}).items()
  }
  return {**params, 'decoder': decoder}


def _branch_shapes(config: PolicyConfig) -> dict[str, Any]:
  """Tree of jax.ShapeDtypeStruct of one branch."""
  features = jax.ShapeDtypeStruct((1, config.width), jnp.float32)
  branch = ResidualBranch(config.num_heads, jnp.dtype(jnp.float32))
  return dict(jax.eval_shape(branch.init, jax.random.key(0), features, features)['params'])


def _misfits(have: Any, want: Any, where: str) -> list[str]:
  """One line per leaf below `where` that is missing, unknown or of another shape."""
  shapes = {
    side: {
      f'{where}/{path}': tuple(leaf.shape)
      for path, leaf in zip(trees.paths(tree), jax.tree.leaves(tree), strict=True)
    }
    for side, tree in (('have', have), ('want', want))
  }
  lines = []
  for path in sorted(shapes['have'].keys() | shapes['want'].keys()):
    here, needed = shapes['have'].get(path), shapes['want'].get(path)
    if here is None:
      lines.append(f'{path} {needed} is missing')
    elif needed is None:
      lines.append(f'{path} {here} is unknown')
    elif here != needed:
      lines.append(f'{path} is {here}, needed {needed}')
  return lines
