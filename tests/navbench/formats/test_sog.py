"""SOG scenes of one level and of several: from planes made here, and the real ones."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from s2e_jax.navbench.formats import webp
from s2e_jax.navbench.formats.read import read_gaussians

NUM, WIDTH, HEIGHT = 5, 3, 2  # one pixel more than gaussians
RAMP = np.linspace(-2, 2, 256)


def picture(rows, width=WIDTH, height=HEIGHT):
  """Lossless WebP of RGB or RGBA rows."""
  rows = np.asarray(rows)
  pixels = np.zeros((height * width, rows.shape[1]), np.uint8)
  pixels[: len(rows)] = rows
  code = cv2.COLOR_RGBA2BGRA if rows.shape[1] == 4 else cv2.COLOR_RGB2BGR
  done, data = cv2.imencode(
    '.webp', cv2.cvtColor(pixels.reshape(height, width, -1), code), [cv2.IMWRITE_WEBP_QUALITY, 101]
  )
  assert done
  return data.tobytes()


def scene(version=2, num=NUM, has_harmonics=True, first=0):
  """Files of a scene whose gaussian i lies at (i, -i, 0), with its palette entry i + 60."""
  index = np.arange(first, first + num)
  # 16 bits between -8 and 8 of sign(x) ln(1 + |x|)
  steps = np.round((np.sign([1, -1, 0]) * np.log1p(index[:, None]) + 8) / 16 * 65535).astype(int)
  quats = np.tile([128, 128, 255, 252], (num, 1))  # w is largest, z = sqrt(1/2)
  quats[1] = 255, 128, 128, 254  # y is largest, w = sqrt(1/2)
  size = (max(WIDTH, num), HEIGHT)
  files = {
    'means_l.webp': picture(steps % 256, *size),
    'means_u.webp': picture(steps // 256, *size),
    'quats.webp': picture(quats, *size),
    'scales.webp': picture(np.tile([0, 255, 64], (num, 1)), *size),
    'sh0.webp': picture(np.tile([255, 0, 51, 102], (num, 1)), *size),
  }
  means = {'mins': [-8, -8, -8], 'maxs': [8, 8, 8], 'files': ['means_l.webp', 'means_u.webp']}
  if version == 2:
    meta = {'version': 2, 'count': num, 'means': means, 'scales': {'codebook': RAMP.tolist()}}
    meta |= {'sh0': {'codebook': RAMP.tolist()}}
  else:
    meta = {'means': means | {'shape': [num, 3]}, 'scales': {'mins': [-2] * 3, 'maxs': [2] * 3}}
    meta |= {'sh0': {'mins': [-2, -2, -2, -3], 'maxs': [2, 2, 2, 3]}}
  meta['quats'] = {'files': ['quats.webp']}
  meta['scales']['files'], meta['sh0']['files'] = ['scales.webp'], ['sh0.webp']
  if has_harmonics:
    entries = np.zeros((128, 3, 3), np.uint8)  # two rows of 64 entries of 3 pixels
    entries[:, 0] = np.arange(128)[:, None] * [1, 1, 0]
    entries[:, 1] = [[0, 0, 200]]
    labels = np.zeros((num, 3), int)
    labels[:, 0] = index + 60
    files |= {'cent.webp': picture(entries.reshape(-1, 3), 192, 2), 'labels.webp': picture(labels, *size)}
    span = {'codebook': RAMP.tolist(), 'count': 128, 'bands': 1} if version == 2 else {'mins': -2, 'maxs': 2}
    meta['shN'] = span | {'files': ['cent.webp', 'labels.webp']}
  return files | {'meta.json': json.dumps(meta).encode()}


def put(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, data in files.items():
    (folder / name).write_bytes(data)
  return folder


def bundle(path, files, prefix=''):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, data in files.items():
      archive.writestr(prefix + name, data)
  return path


def assert_scene(found, opacity, first=0):
  index = np.arange(first, first + found.num)
  np.testing.assert_allclose(found.mean, index[:, None] * [1, -1, 0], atol=2e-3)
  np.testing.assert_allclose(found.scale, np.exp([[-2, 2, RAMP[64]]] * found.num), rtol=1e-6)
  np.testing.assert_allclose(found.sh[:, 0], [[2, -2, RAMP[51]]] * found.num, atol=1e-6)
  np.testing.assert_allclose(found.opacity, opacity, rtol=1e-6)
  np.testing.assert_allclose(found.rotation[0], [0.5**0.5, 0, 0, 0.5**0.5], atol=6e-3)
  np.testing.assert_allclose(found.rotation[1], [0.5**0.5, 0, 0.5**0.5, 0], atol=6e-3)
  if found.sh_degree:
    np.testing.assert_allclose(found.sh[:, 1, 0], RAMP[index + 60], atol=1e-6)
    np.testing.assert_allclose(found.sh[:, 2], [[-2, -2, RAMP[200]]] * found.num, atol=1e-6)


@pytest.mark.parametrize('version, opacity', [(1, 1 / (1 + np.exp(0.6))), (2, 0.4)])
@pytest.mark.parametrize('has_harmonics', [False, True])
def test_both_versions_are_read_from_folder_meta_file_and_bundle(tmp_path, version, opacity, has_harmonics):
  files = scene(version, has_harmonics=has_harmonics)
  folder = put(tmp_path / 'scene', files)
  bundles = [bundle(tmp_path / 'a.sog', files), bundle(tmp_path / 'b.zip', files, 'inner/')]
  for path in (folder, folder / 'meta.json', *bundles):
    found, report = read_gaussians(path)
    assert (report.format, report.version, report.num_read) == ('sog', str(version), NUM)
    assert report.sh_degree == int(has_harmonics)
    assert_scene(found, opacity)


def test_a_quaternion_without_its_tag_and_a_label_beyond_the_palette_are_told(tmp_path):
  files = scene()
  quats = np.tile([128, 128, 255, 252], (NUM, 1))
  quats[2, 3] = 7
  files['quats.webp'] = picture(quats, NUM, HEIGHT)
  meta = json.loads(files['meta.json'])
  meta['shN']['count'] = 64  # entries 64 of gaussian 4 does not exist then
  found, report = read_gaussians(put(tmp_path / 'a', files | {'meta.json': json.dumps(meta).encode()}))
  assert report.dropped == {'zero_quaternion': 1}
  assert report.notes == ('1 labels beyond the palette: colour without direction',)
  np.testing.assert_array_equal(found.sh[-1, 1:], 0)


def changed(**groups):
  """Bytes of a meta.json with fields replaced."""
  meta = json.loads(scene()['meta.json'])
  for name, value in groups.items():
    meta[name] = {**meta[name], **value} if isinstance(value, dict) else value
  return {'meta.json': json.dumps(meta).encode()}


LOSSY = cv2.imencode('.webp', np.zeros((40, 40, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()


@pytest.mark.parametrize(
  'files, message',
  [
    (changed(count=7000), 'pixels in'),
    (changed(count=10**12), 'max_gaussians'),
    (changed(count=0), '0 gaussians'),
    (changed(count='many'), 'without a count'),
    (changed(version=3), 'without a count'),
    (changed(means={'files': ['../../secret.webp', 'means_u.webp']}), 'do not trust'),
    (changed(means={'files': ['/etc/passwd', 'means_u.webp']}), 'do not trust'),
    (changed(means={'files': ['gone.webp', 'means_u.webp']}), 'no such file'),
    (changed(means={'mins': [0, 0]}), 'fields of SOG'),
    (changed(means=None), 'fields of SOG'),
    (changed(scales={'codebook': [1, 2]}), 'codebook'),
    (changed(shN={'bands': 3}), 'palette'),
    ({'meta.json': b'{"version": 2'}, 'damaged JSON'),
    ({'meta.json': b'[1, 2]'}, 'JSON of a list'),
    ({'means_l.webp': scene()['means_l.webp'][:-9]}, 'cut short'),
    ({'means_l.webp': scene()['means_l.webp'][:25].ljust(64, b'\xff')}, 'cannot be decoded'),
    ({'sh0.webp': b'RIFF....'}, 'a WebP picture'),
    ({'sh0.webp': LOSSY}, 'lossless'),
    ({'sh0.webp': picture(np.zeros((4, 3)), 4000, 20)}, 'at most'),
  ],
)
def test_bad_scenes_are_refused(tmp_path, files, message):
  with pytest.raises(ValueError, match=message):
    read_gaussians(put(tmp_path / 'a', scene() | files))


def test_a_bundle_that_unfolds_to_too_much_or_lacks_a_plane_is_refused(tmp_path):
  path = tmp_path / 'a.sog'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, data in (scene() | {'sh0.webp': bytes(10**7)}).items():
      archive.writestr(name, data)
  with pytest.raises(ValueError, match='10000000 bytes of sh0'):
    read_gaussians(path)
  with pytest.raises(ValueError, match='sh0'):
    read_gaussians(bundle(path, {k: v for k, v in scene().items() if k != 'sh0.webp'}))
  path.write_bytes(bundle(path, scene()).read_bytes()[:-30])
  with pytest.raises(ValueError, match='damaged zip'):
    read_gaussians(path)


def test_webp_numbers_survive_exactly():
  pixels = np.random.default_rng(0).integers(0, 256, (30 * 17, 4))
  pixels[:, 3] = np.maximum(pixels[:, 3], 1)  # the encoder may clear what is fully transparent
  data = picture(pixels, 30, 17)
  assert webp.size_of(data, 'a') == (17, 30)
  np.testing.assert_array_equal(webp.decode(data, 'a', 1000).reshape(-1, 4), pixels)


def streamed(folder, environment=None):
  """Level 1: file b and, out of file c, its last 2 gaussians; level 0: files a, which is missing, and b."""
  put(folder / 'b', scene(num=5))
  put(folder / 'c', scene(num=5, first=10, has_harmonics=False))
  names = ['a/meta.json', 'b/meta.json', 'c/meta.json']
  left = {'lods': {'0': {'file': 1, 'offset': 0, 'count': 5}, '1': {'file': 1, 'offset': 0, 'count': 5}}}
  right = {'lods': {'0': {'file': 0, 'offset': 0, 'count': 90}, '1': {'file': 2, 'offset': 3, 'count': 2}}}
  lowest = {'lods': {'2': {'file': 2, 'offset': 0, 'count': 2}}}
  tree = {'children': [left, {'children': [right, lowest]}]}
  meta = {'lodLevels': 3, 'environment': environment, 'filenames': names, 'tree': tree}
  (folder / 'lod-meta.json').write_text(json.dumps(meta))
  return folder


def test_the_finest_complete_level_is_read_by_default(tmp_path):
  folder = streamed(tmp_path)
  for path in (folder, folder / 'lod-meta.json'):
    found, report = read_gaussians(path)
    assert (report.format, report.level, report.num_read, report.sh_degree) == ('streamed sog', 1, 7, 1)
    assert {k: (v.num_gaussians, v.is_complete) for k, v in report.levels.items()} == {
      0: (95, False),
      1: (7, True),
      2: (2, True),
    }
    assert report.levels[0].missing == ('a/meta.json',)
  order = np.argsort(found.mean[:, 0])
  np.testing.assert_allclose(found.mean[order, 0], [0, 1, 2, 3, 4, 13, 14], atol=0.01)
  # file c has no further coefficients: its gaussians look the same from everywhere
  np.testing.assert_array_equal(found.sh[order[-2:], 1:], 0)


def test_a_level_is_chosen_by_number_and_refused_when_not_whole(tmp_path):
  folder = streamed(tmp_path)
  found, report = read_gaussians(folder, level=2)
  assert (found.num, report.level) == (2, 2)
  with pytest.raises(ValueError, match=r'level=0 .*complete levels: 1 \(7 gaussians\), 2 \(2 gaussians\)'):
    read_gaussians(folder, level=0)
  with pytest.raises(ValueError, match='7 gaussians, more than max_gaussians=6; complete levels'):
    read_gaussians(folder, max_gaussians=6)
  (folder / 'c' / 'sh0.webp').unlink()
  with pytest.raises(ValueError, match='no complete level'):
    read_gaussians(folder)


def test_the_environment_is_added_when_asked_for(tmp_path):
  folder = streamed(tmp_path, environment='far.sog')
  bundle(folder / 'far.sog', scene(num=3, first=50))
  found, report = read_gaussians(folder)
  assert found.num == 7 and report.notes == ('without the environment far.sog',)
  found, report = read_gaussians(folder, with_environment=True)
  assert found.num == 10 and found.mean[:, 0].max() == pytest.approx(52, abs=0.1)
  assert report.notes == ('with 3 gaussians of the environment far.sog',)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'filenames': ['../x/meta.json']}, 'do not trust'),
    ({'filenames': 'a'}, 'filenames'),
    ({'tree': {'lods': {'0': {'file': 9, 'offset': 0, 'count': 1}}}}, 'damaged tree'),
    ({'tree': {'lods': {'0': {'file': 1, 'offset': -1, 'count': 1}}}}, 'damaged tree'),
    ({'tree': {'children': [3]}}, 'damaged tree'),
    ({'tree': {}}, 'without gaussians'),
    ({'tree': {'lods': {'0': {'file': 1, 'offset': 3, 'count': 3}}}}, '5 gaussians in'),
    (
      {'tree': {'children': [{'lods': {'0': {'file': 1, 'offset': at, 'count': 3}}} for at in (0, 2)]}},
      'overlapping',
    ),
  ],
)
def test_bad_trees_are_refused(tmp_path, change, message):
  folder = streamed(tmp_path)
  meta = json.loads((folder / 'lod-meta.json').read_text()) | change
  (folder / 'lod-meta.json').write_text(json.dumps(meta))
  with pytest.raises(ValueError, match=message):
    read_gaussians(folder)


def test_the_real_robot_has_three_levels(shared_data):
  folder = shared_data / 'splats/playbot_sog_lod'
  found, report = read_gaussians(folder)
  assert (report.level, found.num, report.num_dropped, report.sh_degree) == (4, 8406, 0, 2)
  assert [level for level, there in report.levels.items() if there.is_complete] == [4, 5, 6]
  assert report.levels[0].num_gaussians == 500_000
  # the bounds of the tree include the gaussians' extent
  assert (found.mean.min(axis=0) >= [-1.0335, -1.0832, -1.0394]).all()
  assert (found.mean.max(axis=0) <= [1.0351, 0.0521, 1.0424]).all()
  assert read_gaussians(folder, level=6)[0].num == 1873


def test_the_real_flat_is_metric_with_its_floor_below(shared_data):
  found, report = read_gaussians(shared_data / 'splats/lacadiere_showroom')
  assert (report.level, found.num, report.num_dropped) == (3, 746_973, 0)
  inside = found.mean[(np.abs(found.mean[:, :2]) < 5).all(axis=1)]
  heights, edges = np.histogram(inside[:, 2], np.arange(-2, 3, 0.1))
  assert edges[heights.argmax()] == pytest.approx(-0.7, abs=0.11)  # the floor holds the most gaussians
  far, report = read_gaussians(shared_data / 'splats/lacadiere_showroom/environment.sog')
  assert far.num == 35_445 and np.ptp(far.mean[:, 0]) > 1000
