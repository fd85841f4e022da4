"""Advantages: a slow loop, brax without time limits, numbers worked by hand with them."""

import functools

import jax
import numpy as np
import pytest

from s2e_jax.gae import generalised_advantages

T, B = 23, 7
gae = jax.jit(generalised_advantages)


@pytest.fixture(autouse=True)
def no_silent_broadcast():
  with jax.numpy_rank_promotion('raise'):
    yield


def rollout(seed, ends=0.15, cuts=0.15):
  rng = np.random.default_rng(seed)
  terminated = rng.uniform(size=(T, B)) < ends
  truncated = ~terminated & (rng.uniform(size=(T, B)) < cuts)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return draw(T, B), draw(T, B), draw(B), terminated, truncated


def plain(rewards, values, last_value, terminated, truncated, gamma, lam):
  """Slow twin: every advantage as the explicit sum of its episode's residuals, in float64."""
  advantages = np.zeros((T, B))
  for t, b in np.ndindex(T, B):
    for step in range(t, T):
      v = float(values[step, b])
      if terminated[step, b]:
        bootstrap = 0.0
      elif truncated[step, b]:
        bootstrap = v
      else:
        bootstrap = float(values[step + 1, b]) if step + 1 < T else float(last_value[b])
      advantages[t, b] += (gamma * lam) ** (step - t) * (float(rewards[step, b]) + gamma * bootstrap - v)
      if terminated[step, b] or truncated[step, b]:
        break
  return advantages


@pytest.mark.parametrize('gamma, lam', [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_advantages_equal_the_plain_sums(gamma, lam):
  data = rollout(0)
  assert data[3].any() and data[4].any() and data[4][-1].any()
  advantages, returns = gae(*data, gamma, lam)
  np.testing.assert_allclose(advantages, plain(*data, gamma, lam), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(returns, advantages + data[1], rtol=1e-6)


def test_without_time_limits_they_equal_braxs():
  from brax.training.agents.ppo.losses import compute_gae

  rewards, values, last_value, terminated, truncated = data = rollout(1, cuts=0.0)
  with jax.numpy_rank_promotion('allow'):
    # its second output is r + gamma vs(t+1) - V, not GAE(lambda): the sums are in vs
    vs, _ = compute_gae(
      truncated.astype(np.float32), terminated.astype(np.float32), rewards, values, last_value, 0.95, 0.99
    )
  advantages, returns = gae(*data, 0.99, 0.95)
  np.testing.assert_allclose(returns, vs, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(advantages, vs - values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  'end, want',
  [
    # residuals with gamma = lambda = 1/2, from the last: 1 + 8/2 - 4 = 1; 3 + following/2 - 2; 1 + 2/2 - 1 = 1
    ('nothing', [1 + 3.25 / 4, 3 + 4 / 2 - 2 + 1 / 4, 1]),
    ('truncated', [1 + 2 / 4, 3 + 2 / 2 - 2, 1]),  # V before the step, and nothing of what follows
    ('terminated', [1 + 1 / 4, 3 - 2, 1]),
    ('both', [1 + 1 / 4, 3 - 2, 1]),
  ],
)
def test_ends_of_episodes_by_hand(end, want):
  middle = np.array([[False], [True], [False]])
  terminated, truncated = middle & (end in ('terminated', 'both')), middle & (end in ('truncated', 'both'))
  rewards, values = np.float32([[1], [3], [1]]), np.float32([[1], [2], [4]])
  advantages, returns = gae(rewards, values, np.float32([8]), terminated, truncated, 0.5, 0.5)
  np.testing.assert_array_equal(advantages[:, 0], np.float32(want))
  np.testing.assert_array_equal(returns[:, 0], np.float32(want) + values[:, 0])


def test_a_critic_that_knows_the_future_leaves_no_advantage():
  # reward 1 for ever: V = 1 / (1 - gamma) before and after a time limit, so a time limit must not look bad
  gamma = 0.9
  values = np.full((T, B), 1 / (1 - gamma), np.float32)
  _, _, _, _, truncated = rollout(2)
  nothing = np.zeros((T, B), bool)
  advantages, _ = gae(np.ones((T, B), np.float32), values, values[0], nothing, truncated, gamma, 0.95)
  np.testing.assert_allclose(advantages, 0, atol=2e-5)


@pytest.mark.parametrize('lam', [0.0, 0.95])
def test_nothing_of_the_next_episode_passes_its_beginning(lam):
  rewards, values, last_value, terminated, truncated = rollout(3, ends=0.0, cuts=0.0)
  terminated[8, ::2], truncated[8, 1::2] = True, True
  clean, _ = gae(rewards, values, last_value, terminated, truncated, 0.99, lam)
  rewards[9:], values[9:], last_value[:] = np.nan, np.nan, np.nan
  dirty, _ = gae(rewards, values, last_value, terminated, truncated, 0.99, lam)
  np.testing.assert_array_equal(clean[:9], dirty[:9])


def test_one_program_serves_all_discounts():
  counted = jax.jit(functools.wraps(generalised_advantages)(lambda *a: generalised_advantages(*a)))
  data = rollout(4)
  for gamma, lam in ((0.99, 0.95), (0.9, 0.0)):
    counted(*data, gamma, lam)
  assert counted._cache_size() == 1


@pytest.mark.parametrize('which', [1, 2, 3, 4])
def test_other_shapes_and_types_are_refused_while_tracing(which):
  data = list(rollout(5))
  data[which] = data[which][..., :1]
  with pytest.raises(AssertionError):
    gae(*data, 0.99, 0.95)
  data = list(rollout(5))
  data[3] = data[3].astype(np.float32)
  with pytest.raises(AssertionError):
    gae(*data, 0.99, 0.95)
