import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.sim.curriculum import Curriculum


def climb(curriculum, skill, num=64, episodes=400, seed=0):
  """Mean level after each episode of `num` learners who succeed with probability skill(level)."""

  def one(level, key):
    draw, luck = jax.random.split(key)
    played = jax.vmap(curriculum.drawn)(jax.random.split(draw, num), level)
    is_success = jax.random.uniform(luck, (num,)) < skill(played)
    level = curriculum.moved(level, played, jnp.ones(num, bool), is_success)
    return level, level.mean()

  keys = jax.random.split(jax.random.key(seed), episodes)
  last, means = jax.jit(lambda level: jax.lax.scan(one, level, keys))(jnp.full(num, curriculum.start))
  return np.asarray(means), np.asarray(last)


def test_success_raises_and_failure_lowers_by_the_hand_worked_amounts():
  curriculum = Curriculum(target=0.75, step=0.02)
  level = jnp.array([0.5, 0.5, 0.5, 0.99, 0.01, 0.5])
  is_done = jnp.array([True, True, False, True, True, True])
  is_success = jnp.array([True, False, True, True, False, True])
  played = level.at[5].set(0.3)  # a review: it moves nothing
  moved = curriculum.moved(level, played, is_done, is_success)
  np.testing.assert_allclose(moved, [0.52, 0.44, 0.5, 1.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize('is_shared', [False, True])
def test_the_level_settles_where_the_success_rate_is_the_target(is_shared):
  curriculum = Curriculum(target=0.7, step=0.02, review=0.2, is_shared=is_shared)
  means, last = climb(curriculum, lambda level: 1.0 - level)  # succeeds in 70 % of the episodes at level 0.3
  assert means[-100:].mean() == pytest.approx(0.3, abs=0.04)
  if is_shared:
    assert np.ptp(last) < 1e-6


def test_who_always_succeeds_reaches_the_top_and_who_never_does_the_bottom():
  means, _ = climb(Curriculum(), lambda level: jnp.ones_like(level), episodes=150)
  assert means[-1] > 0.99 and (np.diff(means) >= -1e-6).all()
  means, _ = climb(Curriculum(start=0.8), lambda level: jnp.zeros_like(level), episodes=150)
  assert means[-1] < 0.01


def test_reviews_lie_below_the_level_and_are_as_frequent_as_asked():
  curriculum = Curriculum(review=0.25)
  played = jax.vmap(lambda k: curriculum.drawn(k, jnp.float32(0.8)))(jax.random.split(jax.random.key(0), 4000))
  played = np.asarray(played)
  is_review = played < 0.8 - 1e-6
  assert is_review.mean() == pytest.approx(0.25, abs=0.03)
  assert played[is_review].mean() == pytest.approx(0.4, abs=0.03) and played.min() >= 0
  np.testing.assert_allclose(played[~is_review], 0.8, atol=1e-6)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'start': 1.5}, r'start=1.5 must be in 0\.\.1'),
    ({'review': -0.1}, r'review=-0.1 must be in 0\.\.1'),
    ({'target': 1.0}, r'target=1.0 must be in \(0, 1\): a success rate'),
    ({'step': 0.0}, r'step=0.0 must be in \(0, 1\]'),
  ],
)
def test_bad_settings_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    Curriculum(**change)
