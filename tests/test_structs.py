"""Camera and footprint records check themselves and survive JSON."""

import json

import pytest

from s2e_jax.structs import Camera, Footprint


def test_a_camera_survives_json():
  camera = Camera(640, 480, 500.0, 501.0, 320.5, 241.0, 'fisheye', (0.1, 0.2, 0.3, 0.4), 0.9, 0.2, -0.1)
  assert Camera.from_dict(json.loads(json.dumps(camera.to_dict()))) == camera


@pytest.mark.parametrize(
  'change,word',
  [(dict(fx=0.0), 'fx'), (dict(width=-3), 'width'), (dict(model='wide'), 'wide'), (dict(mount_height=0), 'mount')],
)
def test_a_bad_camera_names_the_field(change, word):
  fields = dict(width=64, height=48, fx=30.0, fy=30.0, cx=32.0, cy=24.0, model='pinhole') | change
  with pytest.raises(ValueError, match=word):
    Camera(**fields)


def test_a_flat_footprint_is_refused():
  with pytest.raises(ValueError, match='positive sides'):
    Footprint(0.5, 0.0)


def test_a_guessed_camera_has_the_field_of_view_it_was_given():
  import math

  camera = Camera.guess(200, 100, hfov=1.2)
  assert camera.model == 'unknown'
  assert math.isclose(2 * math.atan(100 / camera.fx), 1.2)
