import itertools
import math

import jax
import numpy as np
import pytest

from s2e_jax.sim import rewards
from s2e_jax.sim.rewards import DEFAULT_WEIGHTS, TERMS, Transition, reward_terms, reward_weights

GAMMA, DT, STEPS = 0.99, 0.25, 120


def transition(**changes):
  """A robot that stands in the middle of the pavement, far from everything, on its path."""
  fields = dict(
    has_arrived=False, has_collided=False, is_terminal=False, distance=20.0, next_distance=20.0,
    lateral_offset=0.0, is_off_pavement=False, person_distance=50.0, clearance=50.0, speed_share=0.0,
    command=(0.0, 0.0), last_command=(0.0, 0.0), command_range=(1.9, 3.0), yaw_rate=0.0, max_yaw_rate=1.5,
    path_distance=0.0, discount=GAMMA, dt=DT,
  )  # fmt: skip
  assert set(changes) <= set(fields)
  return Transition(**{k: np.asarray(v) for k, v in (fields | changes).items()})


def reward(weights=None, **changes):
  return float(sum(reward_terms(transition(**changes), reward_weights(weights)).values()))


def episode_return(distances, end=None, **changes):
  """Discounted return of an episode whose geodesic distances are given; `end`: 'arrive', 'collide' or None."""
  total = 0.0
  for k, (now, after) in enumerate(itertools.pairwise(distances)):
    last = k == len(distances) - 2
    total += GAMMA**k * reward(
      distance=now, next_distance=after, has_arrived=last and end == 'arrive',
      has_collided=last and end == 'collide', is_terminal=last and end is not None, **changes,
    )  # fmt: skip
  return total


def test_every_term_has_the_hand_worked_value():
  t = transition(
    has_arrived=True, has_collided=True, distance=10.0, next_distance=9.0, lateral_offset=0.4,
    is_off_pavement=True, person_distance=0.25, clearance=0.2, speed_share=0.8,
    command=(1.5, -0.5), last_command=(0.55, 1.0), yaw_rate=-0.75, path_distance=0.5,
  )  # fmt: skip
  expected = {
    'arrival': 1.0,
    'collision': 1.0,
    'distance_far': 0.99 * (1 - 9 / 30) - (1 - 10 / 30),
    'distance_coarse': 0.99 * (1 - math.tanh(9 / 5)) - (1 - math.tanh(2)),
    'distance_fine': 0.99 * (1 - math.tanh(9)) - (1 - math.tanh(10)),
    'lateral_offset': 0.25 * 0.4,
    'off_pavement': 0.25,
    'personal_space': 0.25 * 0.75,
    'obstacle_space': 0.25 * 0.6 * 0.8,
    'command_change': 0.25 * (0.95 / 1.9 + 1.5 / 3.0) / 2,
    'turning_rate': 0.25 * 0.25,
    'path_distance': 0.25 * 0.25,
  }
  assert set(expected) == set(TERMS)
  for name, term in TERMS.items():
    np.testing.assert_allclose(term(t), expected[name], atol=1e-6, err_msg=name)
  weighted = reward_terms(t, DEFAULT_WEIGHTS)
  for name in TERMS:
    np.testing.assert_allclose(weighted[name], DEFAULT_WEIGHTS[name] * expected[name], atol=1e-6, err_msg=name)


def test_costs_saturate_at_their_full_rate():
  t = transition(
    lateral_offset=7.0, person_distance=-0.3, clearance=0.0, speed_share=1.2,
    command=(9.0, 9.0), last_command=(-9.0, -9.0), yaw_rate=20.0, path_distance=30.0,
  )  # fmt: skip
  for name in (
    'lateral_offset',
    'personal_space',
    'obstacle_space',
    'command_change',
    'turning_rate',
    'path_distance',
  ):
    assert float(TERMS[name](t)) == DT, name


def test_names_of_functions_keys_and_terms_agree():
  assert list(DEFAULT_WEIGHTS) == list(TERMS)
  for name in TERMS:
    assert getattr(rewards, name) is TERMS[name]


def test_standing_in_the_clear_costs_only_the_discount_of_its_potential():
  assert reward(distance=7.0, next_distance=7.0) == pytest.approx(
    -0.01 * (0.4 * (1 - 7 / 30) + 0.3 * (1 - math.tanh(1.4)) + 0.2 * (1 - math.tanh(7))), abs=1e-6
  )


def test_potentials_telescope_over_an_episode():
  rng = np.random.default_rng(3)
  distances = rng.uniform(1.1, 25.0, 31)
  phi = lambda d: 0.4 * max(0, 1 - d / 30) + 0.3 * (1 - math.tanh(d / 5)) + 0.2 * (1 - math.tanh(d))
  assert episode_return(distances) == pytest.approx(GAMMA**30 * phi(distances[-1]) - phi(distances[0]), abs=1e-5)
  # an episode that ends keeps nothing: what the approach paid is taken back
  assert episode_return(distances, 'collide') == pytest.approx(-0.5 * GAMMA**29 - phi(distances[0]), abs=1e-5)


@pytest.mark.parametrize('start', [10.0, 16.0, 28.0])
@pytest.mark.parametrize('speed', [0.5, 1.0, 1.5])
def test_arriving_beats_hovering_beats_standing_still_beats_colliding(start, speed):
  approach = np.arange(start, 1.05, -speed * DT)[:STEPS]
  stand = np.full(STEPS + 1, start)
  hover = np.concatenate([approach, np.full(STEPS + 1 - len(approach), approach[-1])])
  beside = dict(lateral_offset=0.7, path_distance=0.5)  # nobody drives in the middle all the time
  returns = [
    episode_return(np.append(approach, 1.0), 'arrive', command=(speed, 0.0), last_command=(speed, 0.0), **beside),
    episode_return(hover, **beside),
    episode_return(stand, **beside),
    episode_return(approach[: len(approach) // 2], 'collide'),
  ]
  assert len(hover) == len(stand) == STEPS + 1
  if len(approach) == STEPS:  # too slow for this goal: it cannot arrive
    returns = returns[1:]
  assert returns == sorted(returns, reverse=True)
  assert min(-np.diff(returns)) > 0.02


@pytest.mark.parametrize('start', [10.0, 16.0, 28.0])
def test_arriving_past_things_all_the_way_beats_standing_still(start):
  way, priced = np.append(np.arange(start, 1.05, -1.5 * DT), 1.0), {'obstacle_space': -0.1}
  arrives = episode_return(way, 'arrive', weights=priced, clearance=0.35, speed_share=1.0, lateral_offset=0.7)
  assert arrives > episode_return(np.full(STEPS + 1, start), weights=priced, lateral_offset=0.7) + 0.1


def test_colliding_just_before_the_goal_does_not_pay():
  near = np.linspace(20.0, 1.1, 60)
  assert episode_return(near, 'collide') < episode_return(np.full(STEPS + 1, 20.0))


def test_standing_still_among_people_beats_colliding():
  stand = episode_return(np.full(STEPS + 1, 20.0), lateral_offset=1.0, person_distance=0.6)
  assert stand > episode_return([20.0, 20.0], 'collide')


def test_weight_zero_ablates_one_term_even_where_it_is_not_finite():
  with_nan = dict(path_distance=math.nan, distance=5.0, next_distance=4.0)
  assert math.isnan(reward(**with_nan))
  terms = reward_terms(transition(**with_nan), reward_weights({'path_distance': 0}))
  assert float(terms['path_distance']) == 0 and math.isfinite(sum(map(float, terms.values())))
  plain = reward_terms(transition(distance=5.0, next_distance=4.0), DEFAULT_WEIGHTS)
  for name in set(TERMS) - {'path_distance'}:
    assert float(terms[name]) == float(plain[name])


@pytest.mark.parametrize('name', list(TERMS))
def test_each_term_can_be_ablated(name):
  busy = dict(
    has_arrived=True, has_collided=True, distance=3.0, next_distance=2.0, lateral_offset=0.5, is_off_pavement=True,
    person_distance=0.5, clearance=0.3, speed_share=0.6, command=(1.0, 0.5), yaw_rate=1.0, path_distance=1.0,
  )  # fmt: skip
  on = {'obstacle_space': -0.1}  # the one that is off by default
  full = reward_terms(transition(**busy), reward_weights(on))
  assert float(full[name]) != 0
  rest = reward(weights=on | {name: 0}, **busy)
  assert rest == pytest.approx(float(sum(full.values())) - float(full[name]), abs=1e-6)


def test_standing_beside_a_thing_is_free_and_driving_there_costs_by_the_metre():
  cost = lambda share: float(TERMS['obstacle_space'](transition(clearance=0.25, speed_share=share)))
  assert cost(0.0) == 0.0 and cost(1.0) == 0.5 * DT
  assert 2 * cost(0.5) == cost(1.0)  # the same way at half the speed takes twice the steps
  assert float(TERMS['obstacle_space'](transition(clearance=0.5, speed_share=1.0))) == 0.0


def test_unknown_terms_name_the_nearest_one():
  with pytest.raises(ValueError, match=r"unknown reward term 'arival'; did you mean 'arrival'\?"):
    reward_weights({'arival': 1.0})
  with pytest.raises(ValueError, match='Known terms'):
    reward_weights({'zzz': 1.0})


@pytest.mark.parametrize('value', [math.nan, math.inf, 'much', True, None])
def test_weights_must_be_finite_numbers(value):
  with pytest.raises(ValueError, match=r'collision=.* must be a finite number'):
    reward_weights({'collision': value})


def test_terms_batch_under_vmap_without_rank_promotion():
  one, two = transition(distance=9.0, next_distance=8.0), transition(has_collided=True, is_terminal=True)
  both = jax.tree.map(lambda *x: np.stack(x), one, two)
  with jax.numpy_rank_promotion('raise'):
    batched = jax.jit(jax.vmap(lambda t: reward_terms(t, DEFAULT_WEIGHTS)))(both)
  for i, single in enumerate((one, two)):
    for name, value in reward_terms(single, DEFAULT_WEIGHTS).items():
      np.testing.assert_allclose(batched[name][i], value, rtol=1e-5, atol=1e-7, err_msg=name)
