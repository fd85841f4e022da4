"""What each finetuning variant trains, on the real policy: rules, optimiser, and what moves when."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from s2e_jax import trees
from s2e_jax.mixture import pretrain_loss
from s2e_jax.policy.config import PRESETS, policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.policy.residual import add_residual
from s2e_jax.structs import Observation
from s2e_jax.training import variants

pytestmark = pytest.mark.usefixtures('compiled_quickly')

PLAIN = policy_config(
  's2e_tiny', image_height=32, image_width=48, num_history=2, width=24, num_heads=3, mlp_dim=40, num_anchors=4,
  num_context_layers=1, num_decoder_layers=2,
)  # fmt: skip
RAM_VARIANTS, WHOLE_VARIANTS = ('ram', 'sft', 'dagger'), ('ppo_full', 'ppo_scratch', 'sft_full')
RATE = 1e-2


def shapes_of(config):
  return jax.eval_shape(Policy(config).init, jax.random.key(0), example_observation(config))['params']


@functools.cache
def pretrained(seed=0):
  """Random parameters of the plain policy, biases included, as training leaves them."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if leaf.ndim < 2:
      return jnp.asarray((path[-1].key == 'scale') + 0.1 * rng.uniform(-1, 1, leaf.shape), jnp.float32)
    return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, dict(shapes_of(PLAIN)))


def config_of(variant, ram_input='query'):
  return dataclasses.replace(PLAIN, ram_input=ram_input if variant in RAM_VARIANTS else 'none')


def params_of(variant, ram_input='query'):
  """{'policy', 'critic', 'exploration'} of a variant before its first update."""
  config = config_of(variant, ram_input)
  policy = pretrained() if config.ram_input == 'none' else add_residual(pretrained(), config)
  others = {'critic': {'out': {'kernel': jnp.ones((24, 1)) / 24}}, 'exploration': jnp.zeros(2)}
  return {'policy': policy} | (others if variant in variants.PPO_VARIANTS else {})


@functools.cache
def batch(size=6):
  rng = np.random.default_rng(7)
  frames = jnp.asarray(rng.integers(0, 256, (size, 2, 32, 48, 3)), jnp.uint8)
  goal = jnp.asarray(rng.normal(size=(size, 2)) * 10, jnp.float32)
  waypoints = jnp.asarray(np.cumsum(rng.uniform(0, 0.4, (size, 10, 2)), axis=1), jnp.float32)
  return Observation(frames, goal, jnp.arange(size) % 2 == 0), waypoints


def loss_of(variant, ram_input='query'):
  """A smooth loss that every group has a part in."""
  config = config_of(variant, ram_input)
  policy, anchors = Policy(config), jnp.asarray(config.anchors)
  obs, waypoints = batch()

  def both(model, obs):
    context = model.context(model.encode_frames(obs.frames), obs.goal_in_robot, obs.has_goal)
    return model.decode(context), context

  def loss(params):
    mixture, context = policy.apply({'params': params['policy']}, obs, method=both)
    total = pretrain_loss(mixture, anchors, waypoints, jnp.ones(waypoints.shape[:-1], bool))['loss'].mean()
    total += sum(jnp.mean(jnp.sin(leaf)) for leaf in jax.tree.leaves(mixture))
    if 'critic' in params:
      value = jax.lax.stop_gradient(context).mean(-2) @ params['critic']['out']['kernel']
      total += jnp.mean((value - 1.0) ** 2) + jnp.sum(jnp.cos(params['exploration'] + 1.0))
    return total

  return loss


@functools.cache
def stepper(variant, ram_input='query', is_split=True):
  """(optimiser, jitted (params, state) -> (params, state)), gradients of the trainable leaves alone or of all."""
  loss, example = loss_of(variant, ram_input), params_of(variant, ram_input)
  labels = variants.variant_labels(example, variant)
  optimizer = variants.make_finetune_optimizer(example, variant, RATE)

  @jax.jit
  def split_step(params, state):
    trainable, frozen = variants.split(params, labels)
    grads = jax.grad(lambda t: loss(variants.merge(t, frozen)))(trainable)
    updates, state = optimizer.update(grads, state, trainable)
    return variants.merge(optax.apply_updates(trainable, updates), frozen), state

  @jax.jit
  def whole_step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  return optimizer, split_step if is_split else whole_step


def bits(tree):
  return dict(zip(trees.paths(tree), [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)], strict=True))


def trained_paths(variant, params):
  labels = variants.variant_labels(params, variant)
  return {p for p, label in zip(trees.paths(params), jax.tree.leaves(labels), strict=True) if label == 'train'}


def first_moves(params, step, state, num_updates):
  """path -> number of the first update that changes the leaf, None if none does."""
  start, moves = bits(params), {}
  for i in range(1, num_updates + 1):
    params, state = step(params, state)
    moves |= {p: i for p, b in bits(params).items() if b != start[p] and p not in moves}
  return {p: moves.get(p) for p in start}, params


@pytest.mark.parametrize('name', sorted(PRESETS))
@pytest.mark.parametrize('variant', sorted(variants.POLICY_RULES))
def test_every_parameter_of_every_policy_has_its_label(name, variant):
  ram_input = 'query' if variant in RAM_VARIANTS else 'none'
  config = policy_config(
    name, anchor_kind='fan', pooling='attention', anchor_self_attention=True, ram_input=ram_input
  )
  other = jax.ShapeDtypeStruct((2,), jnp.float32)
  params = {
    'policy': shapes_of(config),
    'critic': {'hidden': {'kernel': other}},
    'exploration': {'log_std': other},
  }
  trained = trained_paths(variant, params)
  everything = set(trees.paths(params))
  policy = {
    'ram': {p for p in everything if '/residual/' in p},
    'whole': {p for p in everything if p.startswith('policy/')},
    'decoder': {p for p in everything if p.startswith(('policy/decoder/', 'policy/heads/'))},
  }['ram' if variant in RAM_VARIANTS else 'whole' if variant in WHOLE_VARIANTS else 'decoder']
  others = {p for p in everything if not p.startswith('policy/')}
  assert policy and trained == policy | (others if variant in variants.PPO_VARIANTS else set())


@pytest.mark.parametrize('ram_input', ['query', 'frozen_out'])
@pytest.mark.parametrize('has_query_bias', [True, False])
def test_what_moves_in_which_update(ram_input, has_query_bias):
  """Consequence (b): Z_out first, then what it hides, and last what the zero of Z_in hides."""
  params = params_of('ram', ram_input)
  if not has_query_bias:
    params = jax.tree_util.tree_map_with_path(
      lambda p, x: x * (not trees.path_of(p).endswith('residual/attention/query/bias')), params
    )
  optimizer, step = stepper('ram', ram_input)
  moves, _ = first_moves(params, step, optimizer.init(params), 4)
  branch = {
    'z_out/kernel': 1, 'z_out/bias': 1,
    'z_in/kernel': 2, 'z_in/bias': 2,
    'attention/value/kernel': 2, 'attention/value/bias': 2, 'attention/out/kernel': 2, 'attention/out/bias': 2,
    # Behind a zero Z_in a query is its bias: that moves at once, the keys only if there is such a bias ...
    'attention/query/bias': 2, 'attention/key/kernel': 2 if has_query_bias else 3,
    # ... and nothing is known of what Z_in read.
    'attention/query/kernel': 3, 'norm/scale': 3, 'norm/bias': 3,
  }  # fmt: skip
  want = dict.fromkeys(trees.paths(params))
  want |= {f'policy/decoder/block_{i}/residual/{path}': at for i in range(2) for path, at in branch.items()}
  want |= {'critic/out/kernel': 1, 'exploration': 1}
  assert moves == want


@pytest.mark.parametrize('variant,is_split', [('ram', True), ('ram', False), ('sft', True), ('decoder_ft', False)])
def test_frozen_leaves_keep_every_bit(variant, is_split):
  """Consequence (c), also of a leaf that is -0."""
  params = params_of(variant)
  params['policy'] = dict(params['policy'], goal=dict(params['policy']['goal'], null=-jnp.zeros(24)))
  assert np.signbit(params['policy']['goal']['null']).all()
  optimizer, step = stepper(variant, is_split=is_split)
  moves, _ = first_moves(params, step, optimizer.init(params), 20)
  assert {p for p, at in moves.items() if at is not None} == trained_paths(variant, params)


@pytest.mark.parametrize('variant', ['ram', 'ppo_full'])
def test_features_drift_only_where_the_encoder_trains(variant):
  """Consequence (d)."""
  params, policy = params_of(variant), Policy(config_of(variant))
  frames = batch()[0].frames
  encode = jax.jit(lambda p: policy.apply({'params': p['policy']}, frames, method='encode_frames'))
  optimizer, step = stepper(variant)
  _, after = first_moves(params, step, optimizer.init(params), 5)
  drift = float(jnp.abs(encode(after) - encode(params)).max())
  assert drift == 0.0 if variant == 'ram' else drift > 1e-3


def test_gradients_of_trainable_leaves_alone_make_the_same_step():
  params = params_of('ram')
  ends = []
  for is_split in (True, False):
    optimizer, step = stepper('ram', is_split=is_split)
    state = optimizer.init(params)
    ends.append(first_moves(params, step, state, 3)[1])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *ends)


def test_split_and_merge_are_inverse():
  params = params_of('ram')
  trainable, frozen = variants.split(params, variants.variant_labels(params, 'ram'))
  assert set(trees.paths(trainable)) == trained_paths('ram', params)
  assert not set(trees.paths(trainable)) & set(trees.paths(frozen))
  again = variants.merge(trainable, frozen)
  assert jax.tree.structure(again) == jax.tree.structure(params) and bits(again) == bits(params)
  with pytest.raises(ValueError, match='is in both of the parts'):
    variants.merge(params, frozen)
  with pytest.raises(ValueError, match='critic/out/kernel is in none of the parts'):
    variants.merge(jax.tree.map(lambda _: None, trainable), frozen)


@pytest.mark.parametrize('variant', ['ram', 'decoder_ft', 'ppo_full'])
def test_the_optimiser_holds_two_moments_per_trainable_leaf_and_none_for_a_frozen_one(variant):
  params = params_of(variant)
  optimizer, _ = stepper(variant)
  state = optimizer.init(params)
  trainable, _ = variants.split(params, variants.variant_labels(params, variant))
  moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim > 0]
  assert sorted(leaf.shape for leaf in moments) == sorted(2 * [leaf.shape for leaf in jax.tree.leaves(trainable)])
  scalars = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 0]
  assert len(scalars) <= 3  # Adam's count, inject_hyperparams' count, the learning rate
  assert jax.tree.structure(optimizer.init(trainable)) == jax.tree.structure(state)


def test_only_trainable_gradients_are_clipped_and_counted():
  params, clip = params_of('ram'), 0.5
  optimizer = variants.make_finetune_optimizer(params, 'ram', RATE, clip_norm=clip, b1=0.8, b2=0.95, eps=1e-3)
  labels = variants.variant_labels(params, 'ram')
  rng = np.random.default_rng(0)
  grads = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
  trainable, _ = variants.split(params, labels)
  reference = optax.chain(optax.clip_by_global_norm(clip), optax.adam(RATE, b1=0.8, b2=0.95, eps=1e-3))
  for frozen_gradient in (0.0, 1e30, jnp.nan):
    given = jax.tree.map(
      lambda g, label, x=frozen_gradient: g if label == 'train' else jnp.full_like(g, x), grads, labels
    )
    updates, _ = optimizer.update(given, optimizer.init(params), params)
    got, still = variants.split(updates, labels)
    mine, _ = variants.split(grads, labels)
    want, _ = reference.update(mine, reference.init(trainable), trainable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)
    # -0 is the addend that keeps every bit; +0 turns a parameter of -0 into +0.
    assert not any(leaf.any() or not np.signbit(leaf).all() for leaf in jax.tree.leaves(still))


def test_the_learning_rate_changes_without_a_new_trace():
  params, traces = params_of('ram'), []
  optimizer, _ = stepper('ram')
  labels = variants.variant_labels(params, 'ram')
  trainable, _ = variants.split(params, labels)
  grads = jax.tree.map(jnp.ones_like, trainable)

  @jax.jit
  def update(state, factor):
    traces.append(1)
    state = variants.with_learning_rate(state, variants.learning_rate_of(state) * factor)
    return optimizer.update(grads, state, trainable)

  state, sizes = optimizer.init(trainable), []
  for factor in (1.0, 1.5, 1.0, 1 / 3):
    updates, state = update(state, jnp.float32(factor))
    sizes.append(float(jnp.abs(updates['exploration']).max()))
  state = variants.with_learning_rate(state, 0.25)  # from the host, too
  updates, state = update(state, jnp.float32(1.0))
  sizes.append(float(jnp.abs(updates['exploration']).max()))
  assert len(traces) == 1
  # Under a constant gradient, Adam's step is the learning rate.
  np.testing.assert_allclose(sizes, [RATE, 1.5 * RATE, 1.5 * RATE, 0.5 * RATE, 0.25], rtol=1e-3)


def test_a_rule_that_matches_nothing_is_named():
  plain = params_of('ppo_full')
  with pytest.raises(ValueError, match=r'(?s)add_residual.*rules that match nothing.*block_\\\\d\+/residual'):
    variants.make_finetune_optimizer(plain, 'ram', RATE)
  with pytest.raises(ValueError, match=r"rules that match nothing: \['critic\(/\.\*\)\?', 'exploration"):
    variants.variant_labels({'policy': plain['policy']}, 'ppo_full')
  with pytest.raises(ValueError, match=r'(?s)policy/goal/\.\*'):
    variants.variant_labels(
      dict(plain, policy={k: v for k, v in plain['policy'].items() if k != 'goal'}), 'decoder_ft'
    )


@pytest.mark.parametrize('variant', ['ppo_full', 'sft_full', 'decoder_ft'])
def test_branches_are_refused_where_they_would_train_unseen(variant):
  message = r'(?s)strip_residual.*matched by no rule.*block_0/residual/z_in/bias'
  with pytest.raises(ValueError, match=message):
    variants.variant_labels(params_of('ram'), variant)


def test_an_unknown_variant_and_numbers_out_of_range_are_refused():
  params = params_of('ram')
  with pytest.raises(ValueError, match=r"^variant='ppo_scrach' must be one of.*did you mean 'ppo_scratch'"):
    variants.make_finetune_optimizer(params, 'ppo_scrach', RATE)
  for bad in (dict(learning_rate=0.0), dict(clip_norm=-1.0), dict(b1=1.0), dict(b2=0.0), dict(eps=0.0)):
    with pytest.raises(ValueError, match=f'{next(iter(bad))}='):
      variants.make_finetune_optimizer(params, 'ram', **({'learning_rate': RATE} | bad))
