"""`.splat`, `.spz` and `.ksplat`: from bytes laid out here, and from the same scene in all of them."""

import gzip
import struct

import numpy as np
import pytest

from s2e_jax.navbench.formats.read import read_gaussians

SH_C0 = 0.28209479177387814


def splat_bytes(rows):
  """rows: (mean, scale, rgba bytes, rotation bytes)."""
  return b''.join(struct.pack('<6f8B', *mean, *scale, *rgba, *rot) for mean, scale, rgba, rot in rows)


SPLAT_ROW = ((1, 2, 3), (0.1, 0.2, 0.3), (255, 0, 51, 102), (128, 128, 128, 255))


def test_a_splat_is_32_bytes_of_linear_values(tmp_path):
  path = tmp_path / 'a.splat'
  path.write_bytes(splat_bytes([SPLAT_ROW, ((4, 5, 6), (1, 1, 1), (0, 0, 0, 255), (192, 64, 128, 128))]))
  found, report = read_gaussians(path)
  assert (report.format, report.num_read, report.sh_degree) == ('splat', 2, 0)
  np.testing.assert_array_equal(found.mean, [[1, 2, 3], [4, 5, 6]])
  np.testing.assert_allclose(found.scale[0], [0.1, 0.2, 0.3])
  np.testing.assert_allclose(0.5 + SH_C0 * found.sh[0, 0], [1, 0, 0.2], atol=1e-6)
  np.testing.assert_allclose(found.opacity, [0.4, 1])
  np.testing.assert_allclose(found.rotation, [[0, 0, 0, 1], [0.5**0.5, -(0.5**0.5), 0, 0]], atol=1e-6)


def test_a_splat_of_odd_size_or_of_other_bytes_is_refused(tmp_path):
  path = tmp_path / 'a.splat'
  path.write_bytes(splat_bytes([SPLAT_ROW])[:-1])
  with pytest.raises(ValueError, match='multiple of 32'):
    read_gaussians(path)
  path.write_bytes(np.random.default_rng(0).integers(0, 256, 3200, np.uint8).tobytes())
  with pytest.raises(ValueError, match='of another format'):
    read_gaussians(path)


def spz_bytes(version, degree=0, flags=0, num=None, fractional_bits=12):
  """Two gaussians; see `assert_spz`."""
  header = struct.pack('<4sIIBBBB', b'NGSP', version, 2 if num is None else num, degree, fractional_bits, flags, 0)
  if version == 1:
    position = np.array([[1.5, -2, 0], [0, 0, -0.25]], '<f2').tobytes()
  else:
    fixed = (np.array([[1.5, -2, 0], [0, 0, -0.25]]) * 2**fractional_bits).astype('<i4')
    position = fixed.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
  if version >= 3:
    # x y z w in places 0 to 3; first: w is largest, y = -sqrt(1/2) 255/511; second: x is largest, w sqrt(1/2)
    words = [3 << 30 | 0 << 20 | (512 | 255) << 10 | 0, 0 << 30 | 0 << 20 | 0 << 10 | 511]
    rotation = np.array(words, '<u4').tobytes()
  else:
    rotation = bytes([128, 64, 128, 217, 128, 128])
  colour = bytes([255, 0, 128, 128, 128, 128])
  scale = bytes([160, 144, 176, 160, 160, 160])
  rest = np.full((2, [0, 3, 8, 15, 24][degree], 3), 128, np.uint8)
  if degree:
    rest[0, 0], rest[0, 2] = (0, 192, 255), (64, 128, 128)
  return header, [position, bytes([255, 51]), colour, scale, rotation, rest.tobytes()]


def packed_spz(version, **arguments):
  header, streams = spz_bytes(version, **arguments)
  return gzip.compress(header + b''.join(streams), mtime=0)  # the same bytes name a test in every worker


def spz4_bytes(degree=0, **arguments):
  pyarrow = pytest.importorskip('pyarrow')
  header, streams = spz_bytes(4, degree=degree, **arguments)
  streams = streams if degree else streams[:5]
  packed = [pyarrow.compress(s, codec='zstd', asbytes=True) for s in streams]
  table = b''.join(struct.pack('<QQ', len(p), len(s)) for p, s in zip(packed, streams, strict=True))
  return header[:15] + bytes([len(streams)]) + struct.pack('<I12x', 32) + table + b''.join(packed)


def assert_spz(found, version):
  np.testing.assert_array_equal(found.mean, [[1.5, -2, 0], [0, 0, -0.25]])
  np.testing.assert_allclose(found.scale[0], np.exp([0, -1, 1]), rtol=1e-6)
  np.testing.assert_allclose(found.opacity, [1, 0.2])
  np.testing.assert_allclose(found.sh[0, 0], [0.5 / 0.15, -0.5 / 0.15, (128 / 255 - 0.5) / 0.15], rtol=1e-4)
  if version >= 3:
    y = -(0.5**0.5) * 255 / 511
    expected = [[(1 - y * y) ** 0.5, 0, y, 0], [0.5**0.5, 0.5**0.5, 0, 0]]
    np.testing.assert_allclose(found.rotation, expected, atol=1e-6)
  else:
    y = 64 / 127.5 - 1
    np.testing.assert_allclose(found.rotation[0], [(1 - y * y) ** 0.5, 0, y, 0], atol=5e-3)
    np.testing.assert_allclose(found.rotation[1], [0.71, 0.702, 0, 0], atol=5e-3)


@pytest.mark.parametrize('version', [1, 2, 3, 4])
def test_all_versions_of_spz_hold_the_same_values(tmp_path, version):
  path = tmp_path / 'a.spz'
  path.write_bytes(packed_spz(version) if version < 4 else spz4_bytes())
  found, report = read_gaussians(path)
  assert (report.format, report.version, report.num_read) == ('spz', str(version), 2)
  assert 'y up' in report.notes[0]
  assert_spz(found, version)


@pytest.mark.parametrize('version', [3, 4])
@pytest.mark.parametrize('degree', [1, 3, 4])
def test_harmonics_of_spz_are_stored_coefficient_by_coefficient(tmp_path, version, degree):
  path = tmp_path / 'a.spz'
  path.write_bytes(packed_spz(3, degree=degree) if version == 3 else spz4_bytes(degree))
  found, report = read_gaussians(path)
  assert report.sh_degree == min(degree, 3)
  assert any('cut to 3' in note for note in report.notes) == (degree == 4)
  np.testing.assert_array_equal(found.sh[0, 1:4], [[-1, 0.5, 127 / 128], [0, 0, 0], [-0.5, 0, 0]])
  assert_spz(found, version)


def test_fractional_bits_scale_positions_and_extensions_are_noted(tmp_path):
  path = tmp_path / 'a.spz'
  path.write_bytes(packed_spz(2, fractional_bits=4, flags=2))
  found, report = read_gaussians(path)
  np.testing.assert_array_equal(found.mean, [[1.5, -2, 0], [0, 0, -0.25]])
  assert any('extension' in note for note in report.notes)


def test_streams_that_cannot_unfold_to_what_they_state_are_refused_unopened(tmp_path):
  path = tmp_path / 'a.spz'
  data = bytearray(spz4_bytes())
  num = 9_000_000
  struct.pack_into('<I', data, 8, num)
  for i, size in enumerate((9, 1, 3, 3, 4)):
    struct.pack_into('<Q', data, 32 + 16 * i + 8, num * size)
  path.write_bytes(bytes(data))
  with pytest.raises(ValueError, match='a stream of 81000000 bytes in'):
    read_gaussians(path)


@pytest.mark.parametrize(
  'data, message',
  [
    (packed_spz(3)[:-12], 'cut short|damaged'),
    (packed_spz(3)[:-8] + b'\1\2\3\4' + packed_spz(3)[-4:], 'damaged gzip'),
    (packed_spz(3, num=3), 'cut short'),
    (packed_spz(3, num=9_000_000), 'cut short'),
    (packed_spz(3, num=2**32 - 1), 'max_gaussians'),
    (packed_spz(3, num=0), '0 gaussians'),
    (packed_spz(7), 'version 7'),
    (gzip.compress(b'a text file and not a scene', mtime=0), 'a header that begins'),
    (b'NGSP' + b'\3\0\0\0', 'a header that begins'),
  ],
)
def test_bad_spz_files_are_refused(tmp_path, data, message):
  path = tmp_path / 'a.spz'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_gaussians(path)


def test_bad_streams_of_spz_four_are_refused(tmp_path):
  path = tmp_path / 'a.spz'
  whole = spz4_bytes()
  no_frame = b'oops'.join(whole.rsplit(b'\x28\xb5\x2f\xfd', 1))
  for data in (whole[:-1], whole[:40], no_frame, spz4_bytes(num=5_000_000), spz4_bytes(num=3)):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'a\.spz: found'):
      read_gaussians(path)


KSPLAT_SH = np.arange(24) / 16 - 0.5


def ksplat_bytes(level, degree=2, num_stated=None):
  """Two sections of 3 and 1 gaussians at (i, -i, 0.5 i); buckets of 2: one full, one partly filled, each."""
  num_rest = [0, 9, 24][degree]
  header = struct.pack('<BBxxIIIIHxxfffff', 0, 1, 2, 2, 4, num_stated or 4, level, 0, 0, 0, -0.5, 1.5)
  headers, bodies = b'', b''
  first = 0
  for num in (3, 1):
    index = np.arange(first, first + num)
    first += num
    mean = index[:, None] * np.array([1, -1, 0.5])
    full, partial = num // 2, num % 2
    centres = [mean[i] + 0.25 for i in range(0, num, 2)]
    fields = [('mean', ('<f4', '<u2', '<u2')[level], 3), ('scale', ('<f4', '<f2', '<f2')[level], 3)]
    fields += [('rot', ('<f4', '<f2', '<f2')[level], 4), ('rgba', 'u1', 4)]
    fields += [('sh', ('<f4', '<f2', 'u1')[level], (num_rest,))]
    rows = np.zeros(num, fields)
    rows['scale'], rows['rot'], rows['rgba'] = (0.5, 0.25, 2), (0, 0.6, 0, 0.8), (255, 0, 51, 102)
    sh = KSPLAT_SH[:num_rest]
    rows['sh'] = np.floor((sh + 0.5) / 2 * 255) if level == 2 else sh
    rows['mean'] = mean if level == 0 else np.round((mean - np.repeat(centres, 2, 0)[:num]) / 2.5 * 32767) + 32767
    body = rows.tobytes()
    if level:
      body = struct.pack('<I', 1) * partial + np.array(centres, '<f4').tobytes() + body
    buckets = (2, len(centres), 5.0, 12, 32767, 0, full, partial) if level else (0, 0, 0.0, 0, 0, 0, 0, 0)
    headers += struct.pack('<IIIIfHxxIIIIH', num, num, *buckets, degree).ljust(1024, b'\0')
    bodies += body
  return header.ljust(4096, b'\0') + headers + bodies


@pytest.mark.parametrize('level', [0, 1, 2])
@pytest.mark.parametrize('degree', [0, 1, 2])
def test_all_levels_of_ksplat_hold_the_same_values(tmp_path, level, degree):
  path = tmp_path / 'scene'  # no suffix: told by its header
  path.write_bytes(ksplat_bytes(level, degree))
  found, report = read_gaussians(path)
  assert (report.format, report.version, report.sh_degree) == ('ksplat', f'0.1 level {level}', degree)
  expected = np.arange(4)[:, None] * np.array([1, -1, 0.5])
  np.testing.assert_allclose(found.mean, expected, atol=1e-4 if level else 0)
  np.testing.assert_allclose(found.scale, [[0.5, 0.25, 2]] * 4)
  np.testing.assert_allclose(found.rotation, [[0, 0.6, 0, 0.8]] * 4, atol=1e-3)
  np.testing.assert_allclose(found.opacity, 0.4)
  np.testing.assert_allclose(0.5 + SH_C0 * found.sh[:, 0], [[1, 0, 0.2]] * 4, atol=1e-6)
  # degree 1: three of red, three of green, three of blue; then five of each for degree 2
  atol = 2 / 255 if level == 2 else 1e-6
  if degree:
    np.testing.assert_allclose(found.sh[3, 1:4], KSPLAT_SH[:9].reshape(3, 3).T, atol=atol)
  if degree == 2:
    np.testing.assert_allclose(found.sh[3, 4:], KSPLAT_SH[9:].reshape(3, 5).T, atol=atol)


@pytest.mark.parametrize(
  'data, message',
  [
    (ksplat_bytes(1)[:-1], 'cut short'),
    (ksplat_bytes(1)[:4000], 'a header of 4096'),
    (ksplat_bytes(1, num_stated=5), '4 gaussians in sections'),
    (b'\0\2' + ksplat_bytes(1)[2:], 'version 0.2'),
    (ksplat_bytes(1)[:4096] + struct.pack('<I', 2**30) + ksplat_bytes(1)[4100:], 'num <= capacity'),
    (ksplat_bytes(0)[:4096] + struct.pack('<II', 2**30, 2**30) + ksplat_bytes(0)[4104:], 'cut short'),
    (ksplat_bytes(1)[:4108] + struct.pack('<I', 1) + ksplat_bytes(1)[4112:], 'buckets|sections|cannot be'),
    (b'\0\1\0\0' + struct.pack('<I', 2**20 - 1) + ksplat_bytes(1)[8:], 'cut short'),
  ],
)
def test_bad_ksplat_files_are_refused(tmp_path, data, message):
  path = tmp_path / 'a.ksplat'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_gaussians(path)


@pytest.fixture
def minimal(shared_data):
  def read(name):
    return read_gaussians(shared_data / 'splats/format_fixtures' / f'minimal{name}')[0]

  return read


def test_the_minimal_scene_is_the_same_in_splat_and_ksplat(minimal):
  splat, ksplat = minimal('.splat'), minimal('.ksplat')
  np.testing.assert_array_equal(splat.mean, [[-1, 0, -1], [0, 0, -1], [-1, 0, 0], [0, 0, 0]])
  for field in ('mean', 'scale', 'rotation', 'opacity', 'sh'):
    np.testing.assert_allclose(getattr(splat, field), getattr(ksplat, field), atol=1e-6, err_msg=field)
  np.testing.assert_allclose(splat.scale, 0.1)
  np.testing.assert_allclose(splat.rotation, [[0, 0, 0, 1]] * 4)


def test_the_minimal_scene_is_the_same_in_all_versions_of_spz(minimal):
  splat, raw, two, three, four = map(minimal, ('.splat', '-raw.spz', '-v2.spz', '-v3.spz', '-v4.spz'))
  for other in (raw, two):
    np.testing.assert_array_equal(other.mean, splat.mean)
  for other in (three, four):  # saved with y and z the other way round
    np.testing.assert_array_equal(other.mean, splat.mean * [1, -1, -1])
    np.testing.assert_allclose(other.sh, splat.sh, atol=0.01)
  for other in (raw, two, three, four):
    np.testing.assert_allclose(other.scale, splat.scale, rtol=0.02)
    np.testing.assert_allclose(other.opacity, splat.opacity, atol=1e-6)
    np.testing.assert_allclose(other.rotation, [[1, 0, 0, 0]] * 4, atol=0.005)
