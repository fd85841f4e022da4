"""The residual-attention module on the real policy: the formula, its start, its stops, its loading."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import trees
from s2e_jax.policy.anchors import fan_anchors
from s2e_jax.policy.attention import apply_in_turn
from s2e_jax.policy.config import PolicyConfig, policy_config
from s2e_jax.policy.policy import Policy
from s2e_jax.policy.residual import add_residual, strip_residual
from s2e_jax.structs import Observation

SMALL = dict(image_height=32, width=24, num_heads=3, mlp_dim=40, num_context_layers=1)
CONFIGS = {
  's2e_tiny': policy_config('s2e_tiny', image_width=48, num_history=3, num_anchors=4, **SMALL),
  's2e_v1': policy_config('s2e_v1', image_width=64, num_history=2, num_anchors=6, depthwise='grouped', **SMALL),
  's2e_v2': policy_config('s2e_v2', image_width=48, num_history=2, num_anchors=5, anchors=fan_anchors(5), **SMALL),
}
TINY = CONFIGS['s2e_tiny']
INPUTS = ('query', 'frozen_out')


def observation(config, batch=4, seed=0):
  rng = np.random.default_rng(seed)
  frames = rng.integers(0, 256, (batch, config.num_history, config.image_height, config.image_width, 3))
  goal = jnp.asarray(rng.normal(size=(batch, 2)) * 10, jnp.float32)
  return Observation(jnp.asarray(frames, jnp.uint8), goal, jnp.arange(batch) % 2 == 0)


def drawn(shapes, seed=0):
  """Random variables of these shapes, none of them near zero."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if leaf.ndim < 2:
      return jnp.asarray((path[-1].key in ('var', 'scale')) + 0.1 * rng.uniform(-1, 1, leaf.shape), jnp.float32)
    return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def build(config, seed=0):
  """A policy and random variables; branches, if any, are drawn like everything else, z_in and z_out included."""
  policy = Policy(config)
  return policy, drawn(jax.eval_shape(policy.init, jax.random.key(0), observation(config, 1)), seed)


def with_ram(config, ram_input='query'):
  return dataclasses.replace(config, ram_input=ram_input)


def assert_same_bits(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert np.asarray(x).dtype == np.asarray(y).dtype
    np.testing.assert_array_equal(np.asarray(x).view(np.uint8), np.asarray(y).view(np.uint8))


def starts_alike(config, ram_inputs, *inputs, method=None, **compiler_options):
  """Asserts that a policy with fresh branches, of each kind, gives the bits of the policy without, all jitted."""
  policy, variables = build(config)
  compiled = lambda p: jax.jit(
    functools.partial(p.apply, method=method), compiler_options=compiler_options or None
  )
  want = compiled(policy)(variables, *inputs)
  assert float(jnp.abs(want.mean).max()) > 0.1
  for ram_input in ram_inputs:
    ram = Policy(with_ram(config, ram_input))
    started = {**variables, 'params': add_residual(variables['params'], ram.config)}
    assert_same_bits(compiled(ram)(started, *inputs), want)


@pytest.mark.parametrize('fields', [{}, dict(compute_dtype='bfloat16'), dict(anchor_self_attention=True)])
def test_a_branch_starts_as_nothing_bit_for_bit(fields):
  """Consequence (a) of the formula, on the policy as it ships."""
  config = policy_config('s2e_tiny', **fields)
  starts_alike(config, INPUTS, observation(config, 3))
  # so many rows that the branch's linear maps are multiplied first
  starts_alike(config, INPUTS, contexts(config, 40), method='decode')


def contexts(config, batch=3):
  shape = (batch, config.num_history + 1, config.width)
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize('name', ['s2e_v1', 's2e_v2'])
def test_the_other_decoders_start_alike(name):
  config = dataclasses.replace(CONFIGS[name], width=128, num_heads=8, num_decoder_layers=2)
  starts_alike(config, ('query',), contexts(config), method='decode')


def test_narrow_decoders_start_alike_operation_by_operation():
  # Within a fused LayerNorm the compiler chooses the order of the sums, and on CPU, below a width of about 40, one
  # more term in front of it makes it choose another one. Without fusion only the arithmetic is left.
  starts_alike(TINY, INPUTS, contexts(TINY), method='decode', xla_disable_hlo_passes='fusion')


def numpy_decoder(params, x, context, num_heads, ram_input):
  """The decoder with ReLU, one anchor and one head after the other, in float64. x: [M, D], context: [N, D]."""
  linear = lambda p, y: y @ p['kernel'] + p.get('bias', 0.0)

  def norm(p, y):
    centred = y - y.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p['scale'] + p['bias']

  def attention(p, queries, tokens):
    q, k, v = linear(p['query'], queries), linear(p['key'], tokens), linear(p['value'], tokens)
    size = q.shape[-1] // num_heads
    out = np.zeros_like(q)
    for row in range(len(q)):
      for part in [slice(h * size, (h + 1) * size) for h in range(num_heads)]:
        weight = np.exp(k[:, part] @ q[row, part] / np.sqrt(size))
        out[row, part] = weight @ v[:, part] / weight.sum()
    return linear(p['out'], out)

  for i in range(sum(name.startswith('block_') for name in params)):
    block = params[f'block_{i}']
    psi, ram = block['cross_attention'], block['residual']
    frozen = attention(psi['attention'], norm(psi['norm'], x), context)
    read = {'query': x, 'frozen_out': frozen}[ram_input]
    branch = attention(ram['attention'], linear(ram['z_in'], norm(ram['norm'], read)), context)
    x = x + frozen + linear(ram['z_out'], branch)
    hidden = np.maximum(linear(block['mlp']['hidden'], norm(block['mlp']['norm'], x)), 0.0)
    x = x + linear(block['mlp']['out'], hidden)
  return norm(params['norm'], x)


@pytest.mark.parametrize('batch', [5, 30])  # few rows go through map after map, many through their product
@pytest.mark.parametrize('ram_input', INPUTS)
def test_the_decoder_is_the_formula_written_out(ram_input, batch):
  config = with_ram(TINY, ram_input)
  policy, variables = build(config, seed=3)
  rng = np.random.default_rng(1)
  x, context = rng.normal(size=(4, 24)), rng.normal(size=(batch, 4, 24))
  decode = jax.jit(lambda v, a, c: policy.apply(v, a, c, method=lambda p, a, c: p.decoder(a, c)))
  got = decode(variables, jnp.asarray(x, jnp.float32), jnp.asarray(context, jnp.float32))
  wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables['params']['decoder'])
  want = np.stack([numpy_decoder(wide, x, one, config.num_heads, ram_input) for one in context])
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  for z in ('z_in', 'z_out'):  # ... and both linears matter
    still = jax.tree_util.tree_map_with_path(lambda p, leaf, z=z: leaf * (z not in trees.path_of(p)), wide)
    assert np.abs(numpy_decoder(still, x, context[0], config.num_heads, ram_input) - want[0]).max() > 0.01


def test_maps_in_turn_are_one_map_whatever_the_number_of_rows():
  rng = np.random.default_rng(2)
  drawn = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  maps = (drawn(16, 16), drawn(16)), (drawn(16, 16), drawn(16)), (drawn(16, 16), drawn(16))

  def one_by_one(x, maps):
    for kernel, bias in maps:
      x = x @ kernel + bias
    return x

  jaxpr_of = lambda x: str(jax.make_jaxpr(apply_in_turn)(x, *maps))
  for num_rows in (1, 31, 32, 200):
    x, weight = drawn(num_rows // 3 + 1, 3, 16), drawn(16)
    loss = lambda function: jax.grad(lambda x, maps: jnp.sum(jnp.sin(function(x, maps) / 50) @ weight), (0, 1))  # noqa: B023
    np.testing.assert_allclose(apply_in_turn(x, *maps), one_by_one(x, maps), rtol=2e-5, atol=2e-4)
    got, want = loss(lambda x, maps: apply_in_turn(x, *maps))(x, maps), loss(one_by_one)(x, maps)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))
    is_product = '16,16] = dot_general' in jaxpr_of(x[:, 0])
    assert is_product == (x[:, 0].size >= 2 * 16 * 16)


@pytest.mark.parametrize('ram_input', ['none', *INPUTS])
def test_no_gradient_reaches_context_or_anchors(ram_input):
  config = with_ram(TINY, ram_input)
  policy, variables = build(config)

  def loss(params, frames_shift, obs):
    frames = obs.frames.astype(jnp.float32) + frames_shift
    return sum(
      jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(policy.apply(params, obs.replace(frames=frames)))
    )

  of_params, of_frames = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, 0.0, observation(config))
  size = {g: float(max(jnp.abs(x).max() for x in jax.tree.leaves(t))) for g, t in of_params['params'].items()}
  upstream = ('encoder', 'frame_proj', 'goal', 'context', 'anchors')
  assert {group for group in size if size[group] == 0.0} == (set() if ram_input == 'none' else set(upstream))
  assert (float(of_frames) == 0.0) == (ram_input != 'none')
  if ram_input != 'none':
    decoder = of_params['params']['decoder']
    for i in range(config.num_decoder_layers):
      for path, leaf in zip(
        trees.paths(decoder[f'block_{i}']['residual']),
        jax.tree.leaves(decoder[f'block_{i}']['residual']),
        strict=True,
      ):
        assert float(jnp.abs(leaf).max()) > 1e-6, (i, path)


@pytest.mark.parametrize('name', CONFIGS)
def test_loading_gives_exactly_the_tree_of_the_policy_with_branches(name):
  config = CONFIGS[name]
  _, variables = build(config)
  params, ram = variables['params'], with_ram(config)
  got = add_residual(params, ram)
  like = jax.eval_shape(Policy(ram).init, jax.random.key(0), observation(config, 1))['params']
  assert jax.tree.map(lambda x: (x.shape, x.dtype), got) == jax.tree.map(lambda x: (x.shape, x.dtype), dict(like))
  for i in range(config.num_decoder_layers):
    source, branch = (got['decoder'][f'block_{i}'][part] for part in ('cross_attention', 'residual'))
    assert set(branch) == {'norm', 'attention', 'z_in', 'z_out'}
    assert_same_bits({k: branch[k] for k in ('norm', 'attention')}, source)
    assert not any(leaf.any() for z in ('z_in', 'z_out') for leaf in jax.tree.leaves(branch[z]))
    # A step that donates its parameters may not get one buffer twice.
    assert {id(x) for x in jax.tree.leaves(branch)}.isdisjoint({id(x) for x in jax.tree.leaves(params)})


def test_the_pretrained_tree_comes_back():
  _, variables = build(TINY)
  params = variables['params']
  before = trees.paths(params)
  back = strip_residual(add_residual(params, with_ram(TINY)))
  assert trees.paths(params) == before == trees.paths(back) and not [p for p in before if 'residual' in p]
  assert all(a is b for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True))
  assert jax.tree.structure(strip_residual(params)) == jax.tree.structure(params)


def test_branches_that_are_there_stay_if_they_fit():
  config = with_ram(TINY)
  _, trained = build(config, seed=5)
  assert_same_bits(add_residual(trained['params'], config), trained['params'])
  other = with_ram(dataclasses.replace(TINY, width=48))
  _, foreign = build(other)
  mixed = dict(trained['params'], decoder=dict(trained['params']['decoder']))
  block = mixed['decoder']['block_1']
  mixed['decoder']['block_1'] = dict(block, residual=foreign['params']['decoder']['block_1']['residual'])
  with pytest.raises(ValueError, match=r'block_1/residual/z_in/kernel is \(48, 48\), needed \(24, 24\)') as error:
    add_residual(mixed, config)
  assert 'block_0' not in str(error.value) and 'strip_residual' in str(error.value)
  mixed['decoder']['block_1'] = {k: v for k, v in block.items() if k != 'residual'}
  with pytest.raises(ValueError, match=r'block_1/residual/norm/scale \(24,\) is missing'):
    add_residual(mixed, config)


def test_a_checkpoint_of_another_width_or_without_the_parameters_is_refused():
  _, variables = build(TINY)
  params, config = variables['params'], with_ram(TINY)
  wide = dataclasses.replace(config, width=48)
  message = r'(?s)block_0/cross_attention/attention/key/kernel is \(24, 24\), needed \(48, 48\).*own description'
  with pytest.raises(ValueError, match=message):
    add_residual(params, wide)
  with pytest.raises(ValueError, match=r'decoder/block_2/cross_attention/norm/bias \(24,\) is missing'):
    add_residual(params, dataclasses.replace(config, num_decoder_layers=3))
  with pytest.raises(ValueError, match=r'decoder/block_1 is beyond num_decoder_layers=1'):
    add_residual(params, dataclasses.replace(config, num_decoder_layers=1))
  with pytest.raises(ValueError, match=r'decoder/block_0/cross_attention/norm/scale \(24,\) is missing'):
    add_residual({k: v for k, v in params.items() if k != 'decoder'}, config)
  with pytest.raises(ValueError, match="ram_input='none'"):
    add_residual(params, TINY)


def test_without_a_branch_configs_and_trees_are_those_of_older_checkpoints():
  stored = TINY.to_dict()
  assert 'ram_input' not in stored and PolicyConfig.from_dict(stored) == TINY and TINY.ram_input == 'none'
  again = PolicyConfig.from_dict(with_ram(TINY).to_dict())
  assert again.ram_input == 'query' and again == with_ram(TINY)
  _, variables = build(TINY)
  assert set(variables['params']['decoder']['block_0']) == {'cross_attention', 'mlp'}


def test_an_unknown_branch_input_is_refused():
  message = re.escape("policy ram_input='keys' must be one of ['frozen_out', 'none', 'query']")
  with pytest.raises(ValueError, match=message):
    with_ram(TINY, 'keys')
