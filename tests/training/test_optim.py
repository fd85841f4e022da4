import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from s2e_jax import trees
from s2e_jax.policy.config import PRESETS, policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.training import optim


def params_like(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'encoder': {'conv': {'kernel': draw(2, 3, 4), 'bias': draw(4)}},
    'context': {'slots': draw(5, 3), 'norm': {'scale': draw(3)}, 'dense': {'kernel': draw(3, 7), 'bias': draw(7)}},
  }


def make(params, **kwargs):
  options = dict(steps=100, learning_rate_peak=1e-2, warmup_steps=10, b2=0.95) | kwargs
  return optim.make_optimizer(params, **options)


def test_warm_up_and_cosine_have_the_stated_ends():
  rate = optim.learning_rate(3e-4, 20, 200)
  np.testing.assert_allclose(
    [rate(s) for s in (0, 10, 20, 110, 200)], [0, 1.5e-4, 3e-4, 3e-4 * 0.505, 3e-6], rtol=1e-5, atol=1e-12
  )


def test_updates_equal_adamw_of_optax_on_matrices_and_adam_on_the_rest():
  params, clip, decay = params_like(), 0.7, 0.3
  tx = make(params, weight_decay=decay, clip_norm=clip)
  matrix = {
    'encoder': {'conv': {'kernel': True, 'bias': False}},
    'context': {'slots': False, 'norm': {'scale': False}, 'dense': {'kernel': True, 'bias': False}},
  }
  schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 10, 100, 1e-4)
  reference = optax.chain(
    optax.clip_by_global_norm(clip), optax.adamw(schedule, b2=0.95, weight_decay=decay, mask=matrix)
  )
  ours, theirs = tx.init(params), reference.init(params)
  a = b = params
  for i in range(5):
    grads = params_like(i + 1)
    updates, ours = tx.update(grads, ours, a)
    a = optax.apply_updates(a, updates)
    updates, theirs = reference.update(grads, theirs, b)
    b = optax.apply_updates(b, updates)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)
  assert float(jnp.abs(a['encoder']['conv']['kernel'] - params['encoder']['conv']['kernel']).max()) > 1e-3


@pytest.mark.parametrize('scale', [0.1, 0.0])
def test_the_encoder_multiplier_scales_the_encoder_and_nothing_else(scale):
  params, grads = params_like(), params_like(1)
  moves = []
  for s in (1.0, scale):
    tx = make(params, encoder_lr_scale=s, weight_decay=0.2, warmup_steps=0)
    updates, _ = tx.update(grads, tx.init(params), params)
    moves.append(updates)
  plain, scaled = moves
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(scale * a, b, rtol=1e-6), plain['encoder'], scaled['encoder']
  )
  jax.tree.map(np.testing.assert_array_equal, plain['context'], scaled['context'])
  assert all(float(jnp.abs(leaf).min()) > 0 for leaf in jax.tree.leaves(plain))


@pytest.mark.parametrize('name', sorted(PRESETS))
@pytest.mark.parametrize('pooling', ['mean', 'flatten', 'attention'])
def test_every_parameter_of_every_policy_is_matched_by_exactly_one_rule(name, pooling):
  config = policy_config(name, anchor_kind='fan', pooling=pooling, anchor_self_attention=True)
  variables = jax.eval_shape(Policy(config).init, jax.random.key(0), example_observation(config))
  params = variables['params']
  rates = trees.label_tree(params, optim.RATE_RULES)
  assert set(jax.tree.leaves(rates['encoder'])) == {'encoder'}
  assert {label for group in params if group != 'encoder' for label in jax.tree.leaves(rates[group])} == {'body'}
  decays = trees.label_tree(params, optim.DECAY_RULES)
  for path, leaf, label in zip(trees.paths(params), jax.tree.leaves(params), jax.tree.leaves(decays), strict=True):
    assert (label == 'matrix') == (leaf.ndim >= 2 and path.endswith('/kernel')), path


def test_a_rule_that_matches_nothing_is_an_error():
  with pytest.raises(ValueError, match=r'encoder/\.\*'):
    make({'context': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}})


@pytest.mark.parametrize(
  'bad', [dict(learning_rate_peak=0.0), dict(clip_norm=-1.0), dict(b2=1.0), dict(encoder_lr_scale=-0.1)]
)
def test_numbers_out_of_range_are_refused(bad):
  with pytest.raises(ValueError, match=f'optim.{next(iter(bad)).removesuffix("_peak")}='):
    make(params_like(), **bad)


def test_warm_up_longer_than_the_run_is_refused():
  with pytest.raises(ValueError, match=r'warmup_steps=100 must be in \[0, steps=100\)'):
    make(params_like(), warmup_steps=100)


def test_the_average_follows_its_closed_form():
  params, decay = params_like(), 0.6
  tx = make(params)
  state = optim.init_state({'params': params}, tx, decay)
  expected = params['context']['slots']
  for n in range(12):
    grads = params_like(n + 1)
    state, _ = optim.guarded_update(state, tx, jnp.float32(1.0), grads, {}, decay)
    d = min(decay, (1 + n) / (10 + n))
    expected = d * expected + (1 - d) * state.params['context']['slots']
  np.testing.assert_allclose(state.ema['context']['slots'], expected, rtol=1e-5)
  assert state.policy_variables['params'] is state.ema
  assert float(jnp.abs(state.ema['context']['slots'] - state.params['context']['slots']).max()) > 1e-3


@pytest.mark.parametrize('where', ['loss', 'gradient'])
def test_a_non_finite_step_changes_nothing_but_the_counters(where):
  params = params_like()
  tx = make(params, weight_decay=0.1, warmup_steps=0)
  state = optim.init_state({'params': params, 'batch_stats': {'mean': jnp.ones(3)}}, tx, 0.9)
  update = jax.jit(lambda s, loss, g, m: optim.guarded_update(s, tx, loss, g, m, 0.9)[0])
  state = update(state, jnp.float32(1.0), params_like(1), {'batch_stats': {'mean': jnp.zeros(3)}})
  loss, grads = jnp.float32(1.0), params_like(2)
  if where == 'loss':
    loss = jnp.float32(jnp.nan)
  else:
    grads['encoder']['conv']['bias'] = grads['encoder']['conv']['bias'].at[1].set(jnp.inf)
  bad = update(state, loss, grads, {'batch_stats': {'mean': jnp.full(3, jnp.nan)}})
  for name in ('params', 'opt_state', 'ema', 'model_state'):
    jax.tree.map(np.testing.assert_array_equal, getattr(bad, name), getattr(state, name))
  assert (int(bad.step), int(bad.num_bad), int(bad.bad_streak)) == (2, 1, 1)
  good = update(bad, jnp.float32(1.0), params_like(3), {'batch_stats': {'mean': jnp.zeros(3)}})
  assert (int(good.num_bad), int(good.bad_streak)) == (1, 0)
  assert np.isfinite(good.params['encoder']['conv']['bias']).all()


def test_too_many_bad_steps_in_a_row_name_their_range():
  optim.check_streak(40, 4, 5)
  with pytest.raises(optim.NonFiniteError, match=r'5 steps 36 \.\. 40'):
    optim.check_streak(40, 5, 5)
