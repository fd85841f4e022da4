import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2e_jax.data import augment, windows
from s2e_jax.data.augment import Photometric
from s2e_jax.data.windows import SegmentSpec


def pictures(seed, shape=(4, 6, 10, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photometric_by_hand(frames, draw):
  """The same in floating point, pixel by pixel, without tables."""
  out = np.zeros(frames.shape)
  for i in np.ndindex(frames.shape[:-1]):
    rgb = frames[i].astype(float)
    grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    cb, cr = (rgb[2] - grey) / 1.772, (rgb[0] - grey) / 1.402
    chroma = draw.saturation * np.exp(1j * draw.hue) * complex(cb, cr)
    # ITU-R BT.601 back to red, green and blue
    red, blue = grey + 1.402 * chroma.imag, grey + 1.772 * chroma.real
    turned = red, (grey - 0.299 * red - 0.114 * blue) / 0.587, blue
    for c in range(3):
      x = min(max(turned[c], 0.0), 255.0)
      x = (round(x) / 255) ** draw.gamma
      x = ((x - 0.5) * draw.contrast + 0.5 + draw.brightness) * draw.gains[c]
      out[i][c] = 255 * min(max(x, 0.0), 1.0)
  return out


def slope(draw):
  """Largest output change per grey level, where saturation may have rounded the other way."""
  table = augment.lookup_table(draw).astype(int)
  return np.abs(np.diff(table, axis=0)).max()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, np.pi))
def test_photometric_equals_its_float_twin(seed, strength, hue):
  frames, draw = pictures(seed), augment.draw_photometric(np.random.default_rng(seed), strength, hue)
  fast, slow = augment.apply_photometric(frames, draw).astype(float), photometric_by_hand(frames, draw)
  assert np.abs(fast - slow).max() <= slope(draw) + 1
  # OpenCV mixes channels in fixed point: some values between two grey levels round the other way, without bias.
  assert abs((fast - slow).mean()) < 0.25


def test_photometric_does_what_its_numbers_say():
  frames = pictures(1)
  np.testing.assert_array_equal(augment.apply_photometric(frames, Photometric()), frames)
  grey = augment.apply_photometric(frames, Photometric(saturation=0)).astype(int)
  assert np.ptp(grey, axis=-1).max() <= 1
  bright = augment.apply_photometric(frames, Photometric(brightness=0.1)).astype(int)
  np.testing.assert_allclose(bright, np.minimum(frames + 25.5, 255), atol=0.51)
  # a third of the circle and all the way round; pictures that stay in range, so that nothing is cut off
  pale = (96 + frames // 4).astype(np.uint8)
  luma = pale @ [0.299, 0.587, 0.114]
  turned = augment.apply_photometric(pale, Photometric(hue=2 * np.pi / 3))
  np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], luma, atol=1)
  assert np.abs(turned.astype(int) - pale).mean() > 5
  np.testing.assert_allclose(augment.apply_photometric(pale, Photometric(hue=2 * np.pi)), pale, atol=1)
  red = augment.apply_photometric(frames, Photometric(gains=(1.2, 1, 1)))
  np.testing.assert_array_equal(red[..., 1:], frames[..., 1:])
  assert (red[..., 0] >= frames[..., 0]).all() and (red[..., 0] > frames[..., 0]).any()


def test_a_draw_varies_every_factor_and_strength_0_is_the_identity():
  rng = np.random.default_rng(0)
  assert augment.draw_photometric(rng, 0.0) == Photometric()
  draws = [augment.draw_photometric(rng, 0.25) for _ in range(200)]
  for name, least, most in (('brightness', -0.125, 0.125), ('contrast', 0.77, 1.29), ('gamma', 0.77, 1.29),
                            ('saturation', 0.77, 1.29)):  # fmt: skip
    values = [getattr(draw, name) for draw in draws]
    assert least <= min(values) < least + 0.03 and most - 0.03 < max(values) <= most
  assert np.ptp([draw.gains for draw in draws], axis=0).min() > 0.1
  for strength in (-0.1, 1.1):
    with pytest.raises(ValueError, match='photometric'):
      augment.draw_photometric(rng, strength)
  assert {augment.draw_photometric(rng, 0.25).hue for _ in range(5)} == {0.0}
  hues = [augment.draw_photometric(rng, 0.0, 1.5).hue for _ in range(200)]
  assert -1.5 <= min(hues) < -1.4 and 1.4 < max(hues) <= 1.5
  for hue in (-0.1, 3.2):
    with pytest.raises(ValueError, match=r'hue=.* between 0 \(off\) and pi'):
      augment.draw_photometric(rng, 0.25, hue)


def a_segment(seed, spec=SegmentSpec(2, 3, goal_dropout=0.3)):
  rng = np.random.default_rng(seed)
  t = np.arange(50) / 4
  yaw = np.cumsum(rng.normal(0, 0.2, 50))
  position = np.cumsum(0.2 * np.stack([np.cos(yaw), np.sin(yaw)], axis=1), axis=0)
  ways = rng.uniform(0, 10, (50, 8)).astype(np.float32)
  clip = dataclasses.make_dataclass('Drive', ['stamps', 'position', 'yaw', 'clearances'])(t, position, yaw, ways)
  mirrored = dataclasses.replace(clip, position=position * [1, -1], yaw=-yaw, clearances=ways[:, ::-1])
  frames = pictures(seed, (spec.num_frames, 5, 8, 3))
  present = [4, 40, -1]
  draw = lambda of: windows.segment_labels(of, present, spec, np.random.default_rng(seed)) | {'frames': frames}
  return draw(clip), draw(mirrored)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_flipping_twice_is_the_identity(seed):
  segment, _ = a_segment(seed)
  kept = {name: leaf.copy() for name, leaf in segment.items()}
  once = augment.flip(segment)
  twice = augment.flip(once)
  for name, leaf in segment.items():
    np.testing.assert_array_equal(twice[name], leaf)
    np.testing.assert_array_equal(leaf, kept[name])  # the argument is left alone
    assert once[name].dtype == leaf.dtype
  assert (once['frames'] != segment['frames']).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_flipping_labels_equals_labelling_the_mirrored_world(seed):
  segment, mirrored = a_segment(seed)
  flipped = augment.flip(segment)
  for name in flipped.keys() - {'frames'}:
    np.testing.assert_allclose(flipped[name], mirrored[name], atol=1e-5, err_msg=name)
  np.testing.assert_array_equal(flipped['frames'][2, 3, 1], segment['frames'][2, 3, 6])
