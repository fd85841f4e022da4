"""Frames: pass through untouched, are re-encoded where they must be, and damage is found."""

import cv2
import numpy as np
import pytest

from s2e_jax.data.clips import ClipError
from s2e_jax.data.formats import frames


@pytest.fixture
def scene():
  y, x = np.mgrid[0:60, 0:100]
  return np.stack([128 + 100 * np.sin(x / 9), 128 + 100 * np.cos(y / 7), x + y], axis=-1).astype(np.uint8)


def test_jpegs_of_the_wanted_size_pass_through(files, scene):
  data = files.jpeg_bytes(scene)
  for want in ((None, None), (100, 60), (100, None), (None, 60)):
    out, before, after = frames.to_jpeg(data, *want)
    assert out is data and before == after == (100, 60)


def test_one_wanted_side_keeps_the_shape(files, scene):
  out, before, after = frames.to_jpeg(files.jpeg_bytes(scene), 50, None)
  assert (before, after) == ((100, 60), (50, 30)) and frames.jpeg_size(out) == (50, 30)
  assert frames.to_jpeg(files.jpeg_bytes(scene), 35, 44)[2] == (35, 44)


def test_png_and_arrays_become_jpeg_close_to_the_source(files, scene):
  for content in (files.png_bytes(scene), scene):
    out, before, _ = frames.to_jpeg(content, None, None)
    decoded = cv2.imdecode(np.frombuffer(out, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert before == (100, 60)
    assert np.abs(decoded.astype(float) - scene).mean() < 1.5  # RGB order: swapped channels differ by 50


def test_shrinking_averages_areas(scene):
  half = frames.resize(scene, 50, 30)
  mean = scene.reshape(30, 2, 50, 2, 3).astype(float).mean(axis=(1, 3))
  assert np.abs(half - mean).max() <= 1


def test_grey_pictures_become_three_channels(files, scene):
  out, _, _ = frames.to_jpeg(files.png_bytes(scene[..., 0]), None, None)
  decoded = cv2.imdecode(np.frombuffer(out, np.uint8), cv2.IMREAD_UNCHANGED)
  assert decoded.shape == (60, 100, 3) and np.ptp(decoded.astype(int), axis=-1).max() <= 6


@pytest.mark.parametrize('keep', [2, 30, 200, 0.5, 0.9])
def test_truncated_jpegs_are_named(files, scene, keep):
  data = files.jpeg_bytes(scene)
  with pytest.raises(ClipError) as caught:
    frames.to_jpeg(data[: int(keep * len(data)) if keep < 1 else keep], None, None)
  assert caught.value.reason == 'truncated_image'


@pytest.mark.parametrize('data', [b'', b'<html>404</html>', b'\x89PNG\r\n\x1a\n broken'])
def test_things_that_are_no_image_are_named(data):
  with pytest.raises(ClipError) as caught:
    frames.to_jpeg(data, None, None)
  assert caught.value.reason == 'bad_image'


def test_common_size_takes_the_most_frequent_and_refuses_other_shapes():
  assert frames.common_size([(64, 48), (128, 96), (128, 96)]) == (128, 96)
  with pytest.raises(ClipError, match='--height and --width') as caught:
    frames.common_size([(64, 48), (64, 48), (64, 64)])
  assert caught.value.reason == 'mixed_shapes'
