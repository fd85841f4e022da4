"""Written `.spz` files hold the values given, by the published layout and by our own reader."""

import gzip
import struct

import numpy as np
import pytest

from s2e_jax.gaussians import Gaussians, rotation_matrices
from s2e_jax.navbench.formats.read import read_gaussians
from s2e_jax.navbench.spz_write import spz_bytes, write_spz


@pytest.fixture
def gaussians():
  rng = np.random.default_rng(0)
  num = 37
  rotation = rng.normal(size=(num, 4))
  rotation[0] = (-1.0, 0.0, 0.0, 0.0)
  return Gaussians(
    mean=rng.uniform(-40, 40, (num, 3)).astype(np.float32),
    scale=np.exp(rng.uniform(-6, 0.5, (num, 3))).astype(np.float32),
    rotation=(rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).astype(np.float32),
    opacity=rng.uniform(0.05, 1, num).astype(np.float32),
    sh=rng.uniform(-1.7, 1.7, (num, 1, 3)).astype(np.float32),
  )


def test_bytes_follow_the_published_layout(gaussians):
  data = gzip.decompress(spz_bytes(gaussians))
  num = gaussians.num
  assert struct.unpack_from('<IIIBBBB', data) == (0x5053474E, 3, num, 0, 12, 1, 0)
  assert len(data) == 16 + num * (9 + 1 + 3 + 3 + 4)
  body = data[16:]
  for i in (0, 5, num - 1):
    for k in range(3):
      at = 9 * i + 3 * k
      fixed = int.from_bytes(body[at : at + 3], 'little', signed=True)
      assert abs(fixed / 2**12 - gaussians.mean[i, k]) <= 0.5 / 2**12 + 1e-6
      colour = body[10 * num + 3 * i + k]
      assert abs((colour / 255 - 0.5) / 0.15 - gaussians.sh[i, 0, k]) <= 0.5 / 255 / 0.15 + 1e-6
      scale = body[13 * num + 3 * i + k]
      assert abs(scale / 16 - 10 - np.log(gaussians.scale[i, k])) <= 0.5 / 16 + 1e-6
    assert abs(body[9 * num + i] / 255 - gaussians.opacity[i]) <= 0.5 / 255 + 1e-6
    word = int.from_bytes(body[16 * num + 4 * i : 16 * num + 4 * i + 4], 'little')
    largest, rest = word >> 30, []
    for at in (20, 10, 0):
      field = word >> at & 1023
      rest.append((field & 511) / 511 * np.sqrt(0.5) * (-1 if field & 512 else 1))
    xyzw = np.insert(rest, largest, np.sqrt(1 - np.sum(np.square(rest))))
    given = gaussians.rotation[i, [1, 2, 3, 0]]
    np.testing.assert_allclose(xyzw * np.sign(xyzw @ given), given, atol=2.5e-3)


def test_our_reader_gives_them_back(gaussians, tmp_path):
  read, report = read_gaussians(write_spz(tmp_path / 'some.spz', gaussians))
  assert read.num == gaussians.num and report.num_dropped == 0
  np.testing.assert_allclose(read.mean, gaussians.mean, atol=1.3e-4)
  np.testing.assert_allclose(np.log(read.scale), np.log(gaussians.scale), atol=0.032)
  np.testing.assert_allclose(read.opacity, gaussians.opacity, atol=0.0021)
  np.testing.assert_allclose(read.sh, gaussians.sh, atol=0.0132)
  off = np.abs(rotation_matrices(read.rotation) - rotation_matrices(gaussians.rotation)).max((1, 2))
  assert off.max() < 0.01


def test_the_same_gaussians_are_the_same_bytes(gaussians):
  assert spz_bytes(gaussians) == spz_bytes(gaussians)


def test_what_the_format_cannot_hold_is_refused(gaussians):
  with pytest.raises(ValueError, match='degree 1 is not written'):
    spz_bytes(gaussians.replace(sh=np.zeros((37, 4, 3), np.float32)))
  with pytest.raises(ValueError, match='within 2048'):
    spz_bytes(gaussians.replace(mean=gaussians.mean + 3000))
  with pytest.raises(ValueError, match='finite'):
    spz_bytes(gaussians.replace(mean=gaussians.mean * np.nan))
