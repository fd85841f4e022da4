"""Modes are drawn by their scores, and of a row alone, whatever batch it is in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from configs.closedloop import get_config
from experiments.demo import shipped
from experiments.rivals.modes import DRAWN, contenders_of, drawn_command
from s2e_jax.command_mixture import CommandMixture, mode_command
from s2e_jax.robots import robot_description


def mixtures(logits):
  """Modes whose commands are (number of the mode, 0)."""
  mean = jnp.stack([jnp.arange(3.0), jnp.zeros(3)], axis=-1)
  return CommandMixture(jnp.asarray(logits), jnp.broadcast_to(mean, (len(logits), 3, 2)), jnp.zeros(2))


def test_modes_are_drawn_by_their_scores():
  rng = np.random.default_rng(0)
  share = np.array([0.5, 0.35, 0.15])
  logits = np.log(share) + 1e-4 * rng.normal(size=(4000, 3))  # such as follow each other in an episode
  drawn = np.asarray(drawn_command(mixtures(logits.astype(np.float32))))
  assert (drawn[:, 1] == 0).all()
  counts = np.bincount(drawn[:, 0].astype(int), minlength=3)
  assert stats.chisquare(counts, 4000 * share).pvalue > 1e-3
  # draws of neighbouring rows know nothing of each other
  pairs = np.histogram2d(drawn[::2, 0], drawn[1::2, 0], bins=3)[0]
  assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_a_draw_depends_on_its_row_alone():
  logits = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
  drawn = drawn_command(mixtures(logits))
  np.testing.assert_array_equal(drawn_command(mixtures(logits[5:8])), drawn[5:8])


def test_a_mode_that_takes_all_is_the_best_one():
  mixture = mixtures(np.float32([[50, 0, 0], [0, 0, 50]]))
  np.testing.assert_array_equal(drawn_command(mixture), mode_command(mixture))


def test_every_checkpoint_drives_both_ways_by_two_programs():
  paths = list(shipped().values())
  found = contenders_of(paths, get_config('smoke'), robot_description('delivery'))
  assert [c.name for c in found] == [f'{path.name}{end}' for path in paths for end in ('', DRAWN)]
  assert len({id(c.policy) for c in found}) == 2
  jax.tree.map(np.testing.assert_array_equal, found[0].params, found[1].params)
  assert len({c.identity for c in found}) == len(found)


def test_a_camera_that_was_not_trained_with_is_refused():
  robot = robot_description('delivery')
  # they were trained with 0.35 to 1.6 m
  tall = dataclasses.replace(robot, mount=dataclasses.replace(robot.mount, height=3.0))
  with pytest.raises(ValueError, match='camera'):
    contenders_of(list(shipped().values()), get_config('smoke'), tall)
