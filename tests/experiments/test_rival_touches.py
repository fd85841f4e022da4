"""Contacts that come again are told from first ones, by hand-made traces; slower is slower."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from configs.closedloop import get_config
from experiments.demo import shipped
from experiments.rivals.touches import contenders_of, held_below, summary, table, touches_of
from s2e_jax.command_mixture import CommandMixture, mode_command
from s2e_jax.robots import robot_description


def traces():
  """Three episodes of 5 s: nothing; one contact to the end; four, one of them within a second of another."""
  contact = np.zeros((3, 20), bool)
  contact[1, 4:] = True
  contact[2, [2, 3, 10, 12, 17]] = True
  position = np.zeros((3, 21, 2))
  position[2, :, 0] = np.arange(21) * 0.5
  return types.SimpleNamespace(contact=contact, position=position, speed=np.arange(63).reshape(3, 21) * 0.01)


def test_every_contact_that_counts_is_told_by_hand():
  found = touches_of(traces())
  np.testing.assert_array_equal(found['episode'], [1, 2, 2, 2])  # step 12 is within 1 s of the one counted before
  np.testing.assert_allclose(found['lasted'], [4.0, 0.5, 0.25, 0.25])
  np.testing.assert_allclose(found['free'], [np.nan, np.nan, 6 * 0.25, 4 * 0.25])
  np.testing.assert_allclose(found['metres'], [np.nan, np.nan, 8 * 0.5, 7 * 0.5])
  np.testing.assert_allclose(found['speed'], [0.25, 0.44, 0.52, 0.59])


def test_the_summary_counts_what_a_policy_could_have_seen():
  found = summary(touches_of(traces()), 3)
  assert (found['contacts'], found['episodes_with_a_contact'], found['again']) == (4, 2, 2)
  assert found['seconds_free_before_again'] == [1.125, 1.25, 1.375]
  assert found['share_again_within_5_frames'] == 0.0  # 1 s and 1.5 s free, five frames span 1 s
  assert found['share_again_within_11_frames'] == 1.0
  assert found['share_again_in_the_same_place'] == 0.0
  page = table({'bc': found})
  assert '| bc | 1.33 | 0.67 |' in page and '| 0 % | 0 % | 100 % |' in page


def test_who_touches_nothing_has_an_empty_row():
  clean = traces()
  clean.contact[:] = False
  found = summary(touches_of(clean), 3)
  assert found['contacts'] == 0 and found['seconds_free_before_again'] is None
  assert table({'bc': found}).splitlines()[-1].startswith('| bc | 0.00 | 0.00 |')


def test_slower_holds_the_forward_speed_alone():
  mean = jnp.array([[[1.4, 0.3], [0.2, -0.1]], [[0.2, 1.0], [-0.4, 0.5]]])
  mixture = CommandMixture(jnp.array([[3.0, 0.0], [0.0, 3.0]]), mean, jnp.zeros(2))
  np.testing.assert_allclose(mode_command(mixture), [[1.4, 0.3], [-0.4, 0.5]])
  np.testing.assert_allclose(held_below(1.0)(mixture), [[1.0, 0.3], [-0.4, 0.5]])


def test_everybody_drives_at_every_speed_and_no_two_are_taken_for_one():
  (path,) = [path for path in shipped().values() if path.name == 'shipped_bc']
  found = contenders_of([path], get_config('smoke'), robot_description('delivery'), [1.0, 0.7])
  assert [c.name for c in found] == ['shipped_bc', 'shipped_bc_v1', 'shipped_bc_v0.7']
  assert len({c.identity for c in found}) == len({id(c.policy) for c in found}) == 3


@pytest.mark.parametrize('speed', [0.0, -1.0, float('nan')])
def test_a_speed_that_is_none_is_named(speed):
  with pytest.raises(ValueError, match=r'slower=.* must be speeds > 0'):
    contenders_of([], get_config('smoke'), robot_description('delivery'), [speed])
