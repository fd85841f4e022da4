"""The policy as a function: shapes, invariances, gradients, compilation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from s2e_jax.policy.anchors import fan_anchors
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy
from s2e_jax.structs import Observation

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SMALL = dict(width=24, num_heads=3, mlp_dim=40, num_context_layers=2, num_decoder_layers=2)
CONFIGS = {
  's2e_tiny': policy_config('s2e_tiny', image_height=32, image_width=48, num_history=3, num_anchors=4, **SMALL),
  's2e_v1': policy_config(  # grouped: compiles faster; the shifted form has its own gradient test
    's2e_v1', image_height=32, image_width=64, num_history=2, num_anchors=6, depthwise='grouped', **SMALL
  ),
  's2e_v2': policy_config(
    's2e_v2', image_height=32, image_width=48, num_history=2, num_anchors=5, anchors=fan_anchors(5), **SMALL
  ),
}
TINY = CONFIGS['s2e_tiny']


def observation(config, batch=4, seed=0):
  rng = np.random.default_rng(seed)
  return Observation(
    frames=jnp.asarray(
      rng.integers(0, 256, (batch, config.num_history, config.image_height, config.image_width, 3)), jnp.uint8
    ),
    goal_in_robot=jnp.asarray(rng.normal(size=(batch, 2)) * 10, jnp.float32),
    has_goal=jnp.arange(batch) % 2 == 0,
  )


@functools.cache
def jitted(policy, names):
  return jax.jit(functools.partial(policy.apply, **dict(names)))


def run(policy, variables, *args, **static):
  """policy.apply, jitted once per policy and static arguments."""
  return jitted(policy, tuple(static.items()))(variables, *args)


def build(config, seed=0):
  """A policy and random variables of its shapes: faster than init, and heads are not near zero."""
  policy, rng = Policy(config), np.random.default_rng(seed)
  shapes = jax.eval_shape(policy.init, jax.random.key(0), observation(config, 1))

  def draw(path, leaf):
    if leaf.ndim < 2:
      is_positive = path[-1].key in ('var', 'scale')
      return jnp.asarray(is_positive + 0.1 * rng.uniform(-1, 1, leaf.shape), jnp.float32)
    fan_in = np.prod(leaf.shape[:-1])
    return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), jnp.float32)

  return policy, jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope='module')
def tiny():
  return build(TINY)


def test_shapes_dtypes_and_bounds(tiny):
  policy, variables = tiny
  out = run(policy, variables, observation(TINY, 5))
  m, h = 4, 10
  shapes = dict(logits=(5, m), mean=(5, m, h, 2), log_std=(5, m, h, 2), rho=(5, m, h), step_length=(5, m))
  for name, shape in shapes.items():
    assert getattr(out, name).shape == shape and getattr(out, name).dtype == jnp.float32, name
  assert (out.log_std > -3).all() and (out.log_std < 2).all()
  assert (jnp.abs(out.rho) < 0.5).all() and (out.step_length >= 0.01).all()


def test_modes_start_on_the_line_to_their_anchor():
  policy = Policy(TINY)
  variables = jax.jit(policy.init)(jax.random.key(0), observation(TINY, 1))
  out = run(policy, variables, observation(TINY))
  line = np.asarray(TINY.anchors)[:, None] * np.arange(1, 11)[:, None] / 10
  np.testing.assert_allclose(out.mean, np.broadcast_to(line, out.mean.shape), atol=0.05)
  np.testing.assert_allclose(out.step_length, 0.25, atol=0.02)
  np.testing.assert_allclose(jax.nn.softmax(out.logits), 0.25, atol=0.02)


@pytest.mark.parametrize('lead', [(), (2, 3)])
def test_any_leading_axes(tiny, lead):
  policy, variables = tiny
  flat = observation(TINY, int(np.prod(lead, dtype=int)))
  shaped = jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), flat)
  want, got = run(policy, variables, flat), run(policy, variables, shaped)
  np.testing.assert_allclose(got.mean.reshape(want.mean.shape), want.mean, atol=1e-4)


def test_segments_equal_windows_encoded_one_by_one(tiny):
  policy, variables = tiny
  b, w, k = 2, 4, TINY.num_history
  rng = np.random.default_rng(3)
  frames = jnp.asarray(rng.integers(0, 256, (b, w + k - 1, 32, 48, 3)), jnp.uint8)
  goal, has_goal = jnp.asarray(rng.normal(size=(b, w, 2)), jnp.float32), jnp.asarray(rng.random((b, w)) < 0.5)
  got = run(policy, variables, frames, goal, has_goal, method='segments')[0]
  for i in range(w):
    one = run(policy, variables, Observation(frames[:, i : i + k], goal[:, i], has_goal[:, i]))
    for a, c in zip(jax.tree.leaves(jax.tree.map(lambda x, i=i: x[:, i], got)), jax.tree.leaves(one), strict=True):
      np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match='segments of 5 frames'):
    run(policy, variables, frames[:, 1:], goal, has_goal, method='segments')


def test_segments_encode_every_frame_once(tiny):
  policy, variables = tiny
  frames, goal = jnp.zeros((2, 10, 32, 48, 3), jnp.uint8), jnp.zeros((2, 8, 2))
  jaxpr = jax.make_jaxpr(lambda v: policy.apply(v, frames, goal, goal[..., 0] > 0, method='segments'))(variables)
  batches = [
    rounds * equation.invars[0].aval.shape[0]
    for equation, rounds in _equations(jaxpr.jaxpr)
    if equation.primitive.name == 'conv_general_dilated'
  ]
  assert batches and set(batches) == {2 * 10}


def _equations(jaxpr, rounds=1):
  """Every equation, and how often it is computed."""
  for equation in jaxpr.eqns:
    yield equation, rounds
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from _equations(inner, rounds * equation.params.get('length', 1))


@pytest.mark.parametrize('name', CONFIGS)
def test_gradient_reaches_every_parameter(name):
  config = CONFIGS[name]
  policy, variables = build(config)
  obs = observation(config)

  def loss(params):
    out = policy.apply({**variables, 'params': params}, obs)
    out = out.replace(logits=jax.nn.log_softmax(out.logits))
    weights = (jax.random.normal(jax.random.key(i), x.shape) for i, x in enumerate(jax.tree.leaves(out)))
    return sum(jnp.sum(x * w) for x, w in zip(jax.tree.leaves(out), weights, strict=True))

  gradient = flatten_dict(jax.jit(jax.grad(loss))(variables['params']), sep='/')
  assert all(jnp.isfinite(g).all() for g in gradient.values())
  # Rounding gives a dead parameter about 1e-7; gradients of a random deep encoder fade below that.
  floor = {path: 0.0 if path.startswith('encoder/') else 1e-5 for path in gradient}
  assert [path for path, g in gradient.items() if float(jnp.abs(g).max()) <= floor[path]] == []


def test_without_a_goal_its_values_do_nothing(tiny):
  policy, variables = tiny
  obs = observation(TINY, 3).replace(has_goal=jnp.array([False, False, True]))
  base = run(policy, variables, obs)
  other = run(policy, variables, obs.replace(goal_in_robot=jnp.array([[jnp.nan, 1.0], [7.0, -3.0], [2.0, 9.0]])))
  np.testing.assert_array_equal(base.mean[:2], other.mean[:2])
  assert float(jnp.abs(base.mean[2] - other.mean[2]).max()) > 1e-3

  gradient = jax.jit(jax.grad(lambda g: jnp.sum(policy.apply(variables, obs.replace(goal_in_robot=g)).mean)))(
    jnp.array([[0.0, 0.0], [jnp.nan, 2.0], [0.0, 0.0]])
  )
  np.testing.assert_array_equal(gradient[:2], 0.0)
  assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize('anchor_self_attention', [False, True])
def test_permuting_anchors_permutes_modes(anchor_self_attention):
  config = dataclasses.replace(TINY, anchor_self_attention=anchor_self_attention)
  policy, variables = build(config)
  order = [2, 0, 3, 1]
  permuted = Policy(dataclasses.replace(config, anchors=tuple(config.anchors[i] for i in order)))
  want = jax.tree.map(lambda x: x[:, jnp.array(order)], run(policy, variables, observation(config)))
  got = run(permuted, variables, observation(config))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_modes_are_independent_unless_anchors_attend_to_one_another():
  for flag in (False, True):
    config = dataclasses.replace(TINY, anchor_self_attention=flag)
    policy, variables = build(config)
    moved = Policy(dataclasses.replace(config, anchors=(*config.anchors[:3], (1.0, 9.0))))
    a, b = (run(p, variables, observation(config)).mean[:, 0] for p in (policy, moved))
    assert bool(jnp.abs(a - b).max() > 1e-4) == flag


def test_frame_order_matters(tiny):
  policy, variables = tiny
  obs = observation(TINY)
  a, b = run(policy, variables, obs), run(policy, variables, obs.replace(frames=obs.frames[:, ::-1]))
  assert float(jnp.abs(a.mean - b.mean).max()) > 1e-3


@pytest.mark.parametrize('name', ['s2e_tiny', 's2e_v2'])
def test_bfloat16_is_close_and_heads_stay_float32(name):
  config = CONFIGS[name]
  policy, variables = build(config)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  half = Policy(dataclasses.replace(config, compute_dtype='bfloat16'))
  a, b = run(policy, variables, observation(config)), run(half, variables, observation(config))
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert y.dtype == jnp.float32
    assert float(jnp.sqrt(jnp.mean((x - y) ** 2))) < 0.03
  assert float(jnp.abs(a.mean - b.mean).max()) > 0


def test_there_is_no_dropout(tiny):
  policy, variables = tiny
  for method_train in (False, True):
    a, b = (run(policy, variables, observation(TINY), train=method_train) for _ in range(2))
    np.testing.assert_array_equal(a.mean, b.mean)
  np.testing.assert_array_equal(a.mean, run(policy, variables, observation(TINY)).mean)


def test_compiles_once_per_shape(tiny):
  policy, variables = tiny
  traces = []

  @jax.jit
  def step(variables, obs):
    traces.append(obs.frames.shape)
    return policy.apply(variables, obs)

  for seed in range(3):
    step(variables, observation(TINY, 2, seed))
  step(variables, observation(TINY, 3))
  assert len(traces) == 2


def test_wrong_image_size_and_history_name_the_remedy(tiny):
  policy, variables = tiny
  with pytest.raises(ValueError, match='image_height'):
    run(policy, variables, jnp.zeros((1, 48, 32, 3), jnp.uint8), method='encode_frames')
  with pytest.raises(ValueError, match='num_history=3'):
    run(policy, variables, jnp.zeros((1, 2, 24)), jnp.zeros((1, 2)), jnp.ones(1, bool), method='context')


def test_tokens_can_be_cached(tiny):
  policy, variables = tiny
  obs = observation(TINY)
  tokens = jnp.stack(
    [run(policy, variables, obs.frames[:, k], method='encode_frames') for k in range(TINY.num_history)], axis=1
  )
  context = run(policy, variables, tokens, obs.goal_in_robot, obs.has_goal, method='context')
  out = run(policy, variables, context, method='decode')
  np.testing.assert_allclose(out.mean, run(policy, variables, obs).mean, rtol=1e-4, atol=1e-4)
