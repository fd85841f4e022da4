"""Robot descriptions keep their rules, and their camera shows what it says."""

import dataclasses
import math

import numpy as np
import pytest

from s2e_jax import geometry, robots


def test_an_unknown_robot_is_an_error_that_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"robot='tank' must be one of \['coco', 'delivery', 'quadruped'\]"):
    robots.robot_description('tank')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'drive': 'tracks'}, 'drive'),
    ({'mass': 0.0}, 'mass'),
    ({'min_speed': 0.2}, 'min_speed'),
    ({'drive': 'ackermann', 'wheelbase': 0.0}, 'wheelbase'),
  ],
)
def test_a_description_that_breaks_a_rule_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(robots.ROBOTS['delivery'], **change)


def test_a_lens_shift_lowers_the_horizon_by_the_slope_of_the_pitch():
  mount = robots.CameraMount(hfov=math.radians(90), pitch=math.radians(10))
  camera = mount.camera(60, 100)
  pixel, visible = geometry.project(np.array([[1e6, 0.0, mount.height]]), camera)
  assert visible.all()
  # Looking down by 10 degrees the horizon moves up by focal * tan(10 degrees).
  np.testing.assert_allclose(pixel, [[50.0, 30.0 - 50 * math.tan(math.radians(10))]], atol=0.01)
