"""What a WorldConfig refuses, and how slots are shared out."""

import dataclasses

import jax
import numpy as np
import pytest

from s2e_jax.fences import computed_once
from s2e_jax.scene import SLOTS, Slots
from s2e_jax.worlds.config import WorldConfig, budget
from s2e_jax.worlds.draws import Draws, lerp, pick, spread
from s2e_jax.worlds.layouts import LAYOUTS, NUMBERS, layout_table


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    (dict(look='D'), "look='D' must be one of \\['A', 'B', 'C-far', 'C-near'\\]"),
    (dict(layouts={'maze': 1.0}), "layouts=\\['maze'\\] are unknown; known:"),
    (dict(look='A', layouts={'chicane': 1.0}), "layouts=\\['chicane'\\] do not belong to look 'A'"),
    (dict(look='B', layouts={'courtyard': 0.0, 'straight': 1.0}), 'do not belong'),
    (dict(layouts={'straight': 0.0}), 'need weights >= 0'),
    (dict(layouts={'straight': -1.0, 'curve': 2.0}), 'need weights >= 0'),
    (dict(layouts={}), 'need weights >= 0'),
    (dict(people=(4, 2)), 'people=\\(4, 2\\) must be \\(low, high\\)'),
    (dict(goal_distance=(20, 10)), 'goal_distance=\\(20, 10\\) must be \\(low, high\\)'),
    (dict(object_density=(-1, 2)), '0 <= low <= high'),
    (dict(people=(0, 5)), 'people=\\(0, 5\\) do not fit 4 slots: raise slots.people'),
    (dict(object_density=(0, 9.0)), 'asks for up to 25.2 obstacles, more than the 10 slots'),
    (dict(goal_distance=(3.0, 28.0)), 'must start at 8 m'),
    (dict(goal_distance=(8.0, 12.0)), 'must reach 14.0 m for the layout crossing'),
    (dict(robot_radius=1.5), 'robot_radius=1.5 must lie in 0.1..0.6 m'),
  ],
)
def test_bad_fields_are_refused_with_a_remedy(fields, message):
  with pytest.raises(ValueError, match=message):
    WorldConfig(**fields)


def test_short_ways_are_fine_without_crossings():
  WorldConfig(goal_distance=(8.0, 10.0), layouts={'straight': 1.0})


@pytest.mark.parametrize('slots', [*SLOTS.values(), Slots(1, 0, 0, 0), Slots(3, 2, 0, 1), Slots(9, 1, 2, 5)])
def test_every_slot_has_one_use(slots):
  b = budget(slots)
  assert min(dataclasses.astuple(b)) >= 0
  assert b.facades + 2 * b.vehicles + b.pieces + b.box_obstacles == slots.boxes
  assert b.furniture + b.cylinder_obstacles == slots.cylinders
  assert b.crowns + b.bushes <= slots.rounds and b.crowns <= b.furniture


def test_the_layout_table_holds_what_the_layouts_say():
  table = layout_table({'slalom': 3.0, 'straight': 1.0})
  assert table.names == ('slalom',) * 2 + ('straight',) * 4
  np.testing.assert_allclose(table.shares, [0.375, 0.75, 0.8125, 0.875, 0.9375, 1.0])
  column = NUMBERS.index('pavement')
  np.testing.assert_allclose(table.ranges[0, column], LAYOUTS['slalom'][0].pavement)
  assert table.has_piece.sum(1).tolist() == [6, 6, 0, 0, 0, 0]


def test_ranges_of_all_layouts_are_ordered_and_wide_enough_for_the_lane():
  for name, variants in LAYOUTS.items():
    for variant in variants:
      for number in NUMBERS:
        low, high = getattr(variant, number)
        assert low <= high, (name, number)
      # the lane of the default robot is 1.45 m wide
      assert variant.pavement[0] >= 2.2
      assert 2 * variant.zebra[0] >= 2.2 and variant.cross_pavement[0] >= 2.2


def test_picks_follow_the_shares():
  share = np.linspace(0, 1, 1000, endpoint=False, dtype=np.float32)
  index = np.asarray(pick(share, np.array([0.2, 0.2, 0.9, 1.0], np.float32)))
  np.testing.assert_allclose(np.bincount(index, minlength=4), [200, 0, 700, 100], atol=1)


@pytest.mark.parametrize('num', [0, 1, 2, 3, 7, 10])
def test_spread_visits_every_cell_once_and_the_first_lie_apart(num):
  cells = spread(num)
  assert sorted(cells.tolist()) == list(range(num))
  if num >= 7:
    assert np.diff(np.sort(cells[:3])).min() >= max(1, num // 5)


def test_draws_hand_out_each_number_once():
  draws = Draws(jax.random.key(0), 7)
  first, second, third = draws.take(2, 2), draws.within((3.0, 5.0)), draws.sign(2)
  np.testing.assert_allclose(np.asarray(first).reshape(-1), jax.random.uniform(jax.random.key(0), (7,))[:4])
  assert 3 <= float(second) < 5 and set(np.asarray(third).tolist()) <= {-1.0, 1.0}
  assert draws.num_taken == 7
  with pytest.raises(RuntimeError, match='8 uniforms needed, only 7 were drawn'):
    draws.take()


def test_lerp_ends_at_both_ends():
  np.testing.assert_allclose(lerp(2.0, -4.0, np.array([0.0, 0.5, 1.0])), [2, -1, -4])


def test_what_is_computed_once_is_unchanged():
  tree = {'a': jax.numpy.arange(5.0) - 2, 'b': (jax.numpy.int32(7), jax.numpy.array([[True, False]]))}
  out = jax.jit(computed_once)(tree)
  jax.tree.map(np.testing.assert_array_equal, out, tree)
  assert jax.tree.map(lambda x: x.dtype, out) == jax.tree.map(lambda x: x.dtype, tree)
