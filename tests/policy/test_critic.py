"""The critic: what reaches it, what it reaches, and that it can learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from s2e_jax.policy.critic import Critic

N, D, P = 4, 6, 5
CRITIC = Critic(hidden=(16, 12))


def inputs(seed=0, batch=(3,), privileged=P):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=(*batch, *shape)), jnp.float32)
  return draw(N, D), 5 * draw(2), jnp.asarray(rng.uniform(size=batch) < 0.7), draw(privileged)


apply = jax.jit(CRITIC.apply)
init = jax.jit(CRITIC.init)


def random_params(seed=0, data=None):
  """Parameters of random size, the small output layer included, so that every input counts."""
  shapes = jax.eval_shape(CRITIC.init, jax.random.key(0), *(data or inputs()))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), jnp.float32), shapes)


@pytest.mark.parametrize('batch', [(), (3,), (2, 3)])
def test_values_are_one_float32_each(batch):
  data = inputs(batch=batch)
  values = apply(random_params(), *data)
  assert values.shape == batch and values.dtype == jnp.float32


def test_half_precision_gives_float32_values():
  data = inputs(batch=(32,))
  half = Critic(hidden=(16, 12), dtype=jnp.dtype('bfloat16'))
  got = jax.jit(half.apply)(random_params(), data[0].astype(jnp.bfloat16), *data[1:])
  want = apply(random_params(), *data)
  assert got.dtype == jnp.float32
  assert 0 < np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_first_values_are_near_zero():
  data = inputs(1, (64,))
  values = apply(init(jax.random.key(0), *data), *data)
  assert 0 < np.abs(values).max() < 0.1


def test_no_gradient_reaches_the_features_but_every_parameter_has_one():
  data = inputs(2, (32,))
  loss = lambda params, context: jnp.square(apply(params, context, *data[1:]) - 1).mean()
  of_params, of_context = jax.jit(jax.grad(loss, (0, 1)))(random_params(), data[0])
  np.testing.assert_array_equal(of_context, 0)
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(of_params))


def test_every_input_counts():
  context, goal, _, privileged = inputs(3)
  told = jnp.ones(3, bool)
  value = functools.partial(apply, random_params())
  base = value(context, goal, told, privileged)
  for i in range(N):
    assert (value(context.at[:, i, 0].add(1.0), goal, told, privileged) != base).all()
  # the goal token counts apart from the mean: two tokens exchanged leave the mean as it is
  swapped = context[:, jnp.array([3, 1, 2, 0])]
  assert (np.abs(value(swapped, goal, told, privileged) - base) > 1e-3).all()
  assert (value(context, -goal, told, privileged) != base).all()
  assert (value(context, goal, ~told, privileged) != base).all()
  for i in range(P):
    assert (value(context, goal, told, privileged.at[:, i].add(1.0)) != base).all()


def test_without_a_goal_its_values_have_no_influence():
  context, goal, _, privileged = inputs(4)
  has_goal = jnp.array([True, False, False])
  value = functools.partial(apply, random_params())
  a = value(context, goal, has_goal, privileged)
  b = value(context, goal.at[1:].set(jnp.nan), has_goal, privileged)
  np.testing.assert_array_equal(a, b)
  # no goal is not a goal straight ahead, nor one underfoot
  for here in ([1.0, 0.0], [0.0, 0.0]):
    told = value(context, jnp.broadcast_to(jnp.array(here), goal.shape), jnp.ones(3, bool), privileged)
    assert (np.abs(told - a)[1:] > 1e-3).all()


def test_it_works_without_privileged_state():
  data = inputs(5, privileged=0)
  assert np.isfinite(apply(init(jax.random.key(0), *data), *data)).all()


def test_it_learns_a_value_from_privileged_state_and_goal():
  data = inputs(6, (256,))
  truth = data[3][:, 0] + jnp.where(data[2], jnp.sign(data[1][:, 0]), 0.0)
  optimiser = optax.adam(1e-2)
  loss = lambda params: jnp.square(CRITIC.apply(params, *data) - truth).mean()

  @jax.jit
  def train(params):
    def step(carry, _):
      params, state = carry
      value, gradient = jax.value_and_grad(loss)(params)
      updates, state = optimiser.update(gradient, state)
      return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimiser.init(params)), None, length=200)[1]

  losses = train(init(jax.random.key(0), *data))
  assert losses[0] > 0.9 and losses[-1] < 0.1
