"""Rules over parameter trees are strict in both directions."""

import jax.numpy as jnp
import pytest

from s2e_jax import trees

TREE = {'encoder': {'kernel': jnp.zeros((2, 3)), 'bias': jnp.zeros(3)}, 'heads': {'kernel': jnp.zeros(5)}}


def test_every_parameter_gets_the_label_of_its_rule():
  labels = trees.label_tree(TREE, [('encoder/.*', 'slow'), ('heads/.*', 'fast')])
  assert labels == {'encoder': {'kernel': 'slow', 'bias': 'slow'}, 'heads': {'kernel': 'fast'}}
  assert trees.mask_of(labels, ['fast']) == {
    'encoder': {'kernel': False, 'bias': False},
    'heads': {'kernel': True},
  }


def test_an_unmatched_parameter_is_named():
  with pytest.raises(ValueError, match='heads/kernel'):
    trees.label_tree(TREE, [('encoder/.*', 'slow')])


def test_a_parameter_with_two_rules_is_named_unless_the_first_may_win():
  rules = [('.*/kernel', 'matrix'), ('.*', 'rest')]
  with pytest.raises(ValueError, match='encoder/kernel'):
    trees.label_tree(TREE, rules)
  assert trees.label_tree(TREE, rules, first_match=True)['encoder'] == {'kernel': 'matrix', 'bias': 'rest'}


def test_a_rule_that_matches_nothing_is_named():
  with pytest.raises(ValueError, match='decoder'):
    trees.label_tree(TREE, [('.*', 'all'), ('decoder/.*', 'ram')], first_match=True)


def test_patterns_match_whole_paths_only():
  with pytest.raises(ValueError, match='encoder/kernel'):
    trees.label_tree(TREE, [('encoder', 'slow'), ('.*bias', 'b'), ('heads/.*', 'h')])


def test_parameters_are_counted():
  assert trees.count_parameters(TREE) == 2 * 3 + 3 + 5
