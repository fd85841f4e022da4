import dataclasses
import json
import math

import pytest

from s2e_jax import contracts
from s2e_jax.structs import Camera

WIDE = Camera.guess(640, 320, hfov=1.6, mount_height=0.5)
NARROW = Camera.guess(640, 320, hfov=1.2, mount_height=0.5)


def contract(*cameras, height=64, width=128, history=5, rate=4.0):
  return contracts.camera_contract(height, width, history, rate, cameras or [WIDE])


def test_a_contract_agrees_with_itself_after_json():
  assert contracts.check_camera_contract(json.loads(json.dumps(contract())), contract()) == []


def test_resized_frames_of_one_camera_keep_the_contract():
  assert contract(WIDE.resized(128, 64)) == contract(WIDE)


def test_another_aspect_ratio_is_another_camera():
  squeezed = Camera.guess(640, 480, hfov=1.6)
  (line,) = contracts.camera_differences(contract(), contract(squeezed))
  assert line.startswith('vfov')


@pytest.mark.parametrize(
  'given, words',
  [
    (contract(height=96), ('image_height', '64', '96')),
    (contract(width=192), ('image_width', '128', '192')),
    (contract(history=11), ('num_history', '5', '11')),
    (contract(rate=10.0), ('rate', '4', '10')),
    (contract(NARROW), ('hfov', '1.60', '1.20')),
    (contract(dataclasses.replace(WIDE, mount_height=0.95)), ('mount_height', '0.50', '0.95')),
    (contract(dataclasses.replace(WIDE, pitch=0.3)), ('pitch', '0.00', '0.30')),
  ],
)
def test_a_mismatch_names_both_values_and_the_remedy(given, words):
  with pytest.raises(ValueError, match='allow_other_camera=True') as error:
    contracts.check_camera_contract(contract(), given)
  assert all(word in str(error.value) for word in words)
  assert contracts.check_camera_contract(contract(), given, allow=True)


def test_a_mixture_of_cameras_covers_each_of_them():
  both = contract(WIDE, NARROW)
  assert contracts.camera_differences(both, contract(NARROW)) == []
  assert contracts.camera_differences(contract(NARROW), both)


def test_small_differences_are_the_same_camera():
  nearly = dataclasses.replace(Camera.guess(640, 320, hfov=1.62), mount_height=0.55)
  assert contracts.camera_differences(contract(), contract(nearly)) == []


def test_fields_of_view_follow_the_lens():
  assert contracts.field_of_view(WIDE)[0] == pytest.approx(1.6)
  fisheye = Camera(800, 800, 400 / (math.pi / 2), 400 / (math.pi / 2), 400, 400, model='fisheye')
  assert contracts.field_of_view(fisheye) == pytest.approx((math.pi, math.pi))


def test_no_camera_is_an_error():
  with pytest.raises(ValueError, match='at least one'):
    contracts.camera_contract(64, 128, 5, 4.0, [])
