"""PLY files: the 3DGS layout, PlayCanvas' compressed one, and meshes."""

import dataclasses

import numpy as np
import pytest

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.formats import ply
from s2e_jax.navbench.formats.mesh import read_mesh
from s2e_jax.navbench.formats.ply_gaussians import property_names
from s2e_jax.navbench.formats.read import read_gaussians, write_ply


def some_gaussians(num=5, degree=3, seed=0):
  rng = np.random.default_rng(seed)
  rotation = rng.normal(size=(num, 4))
  rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
  return Gaussians(
    mean=rng.normal(size=(num, 3)).astype(np.float32),
    scale=rng.uniform(0.01, 0.5, (num, 3)).astype(np.float32),
    rotation=rotation.astype(np.float32),
    opacity=rng.uniform(0.1, 0.9, num).astype(np.float32),
    sh=rng.normal(size=(num, (degree + 1) ** 2, 3)).astype(np.float32),
  )


def assert_same(found, expected, rtol=2e-6, atol=1e-6):
  for field in dataclasses.fields(Gaussians):
    given = getattr(found, field.name)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, getattr(expected, field.name), rtol, atol, err_msg=field.name)


def ply_bytes(names, rows, kind='float', encoding='binary_little_endian', element='vertex', count=None):
  header = ['ply', f'format {encoding} 1.0', f'element {element} {len(rows) if count is None else count}']
  header += [f'property {kind} {name}' for name in names] + ['end_header', '']
  rows = np.asarray(rows)
  if encoding == 'ascii':
    body = ''.join(' '.join(repr(float(x)) for x in row) + '\n' for row in rows).encode()
  else:
    order = '<' if 'little' in encoding else '>'
    body = rows.astype(order + {'float': 'f4', 'double': 'f8'}[kind]).tobytes()
  return '\n'.join(header).encode() + body


# mean, f_dc, opacity (logit), scale (log), rotation of one gaussian, and what they mean
NAMES = ('x', 'y', 'z', 'f_dc_0', 'f_dc_1', 'f_dc_2', 'opacity', 'scale_0', 'scale_1', 'scale_2')
NAMES += ('rot_0', 'rot_1', 'rot_2', 'rot_3')
ROW = (1, 2, 3, 0.1, 0.2, 0.3, 0.0, np.log(0.5), np.log(0.25), np.log(2.0), 0, 0, 3, 4)


@pytest.mark.parametrize('degree, num_properties', [(0, 17), (1, 26), (2, 41), (3, 62)])
def test_what_is_written_is_read_again(tmp_path, degree, num_properties):
  given = some_gaussians(degree=degree)
  path = write_ply(tmp_path / 'scene.ply', given)
  assert len(ply.read_header(path).elements[0].properties) == num_properties == len(property_names(degree))
  found, report = read_gaussians(path)
  assert_same(found, given)
  assert (report.format, report.sh_degree, report.num_read, report.dropped) == ('3dgs ply', degree, 5, {})
  assert [f.name for f in tmp_path.iterdir()] == ['scene.ply']


@pytest.mark.parametrize('encoding', ['ascii', 'binary_little_endian', 'binary_big_endian'])
@pytest.mark.parametrize('kind', ['float', 'double'])
def test_logarithms_logits_and_long_quaternions_are_undone_in_any_order_of_properties(tmp_path, encoding, kind):
  order = np.random.default_rng(1).permutation(len(NAMES))
  path = tmp_path / 'no_suffix'
  path.write_bytes(ply_bytes([NAMES[i] for i in order], [[ROW[i] for i in order]] * 2, kind, encoding))
  found, report = read_gaussians(path)
  one = Gaussians(
    mean=[[1, 2, 3]] * 2,
    scale=[[0.5, 0.25, 2.0]] * 2,
    rotation=[[0, 0, 0.6, 0.8]] * 2,
    opacity=[0.5] * 2,
    sh=[[[0.1, 0.2, 0.3]]] * 2,
  )
  assert_same(found, one)
  assert report.version == encoding


def test_further_coefficients_are_stored_channel_by_channel(tmp_path):
  path = tmp_path / 'scene.ply'
  rest = [f'f_rest_{i}' for i in range(9)]
  path.write_bytes(ply_bytes((*NAMES, *rest), [(*ROW, *range(9))]))
  found, _ = read_gaussians(path)
  np.testing.assert_array_equal(found.sh[0, 1:], [[0, 3, 6], [1, 4, 7], [2, 5, 8]])


def test_degree_four_is_cut_to_three_with_a_note(tmp_path):
  path = tmp_path / 'scene.ply'
  path.write_bytes(ply_bytes((*NAMES, *(f'f_rest_{i}' for i in range(72))), [(*ROW, *range(72))]))
  found, report = read_gaussians(path)
  assert found.sh_degree == report.sh_degree == 3
  np.testing.assert_array_equal(found.sh[0, 15], [14, 38, 62])
  assert 'degree 4 cut to 3' in report.notes[0]


def test_coloured_points_meshes_and_surfels_are_refused_by_name(tmp_path):
  path = tmp_path / 'a.ply'
  path.write_bytes(ply_bytes(('x', 'y', 'z', 'red', 'green', 'blue'), np.zeros((7, 6))))
  with pytest.raises(ValueError, match='7 coloured points'):
    read_gaussians(path)
  path.write_bytes(ply_bytes([n for n in NAMES if n != 'scale_2'], [ROW[:9] + ROW[10:]]))
  with pytest.raises(ValueError, match='2D Gaussian Splatting'):
    read_gaussians(path)
  path.write_bytes(mesh_bytes())
  with pytest.raises(ValueError, match='a mesh of 4 vertices'):
    read_gaussians(path)


def test_a_file_cut_short_or_with_an_absurd_count_is_refused_before_it_is_read(tmp_path):
  path = tmp_path / 'a.ply'
  whole = ply_bytes(NAMES, [ROW] * 3)
  path.write_bytes(whole[:-1])
  with pytest.raises(ValueError, match='cut short'):
    read_gaussians(path)
  for encoding in ('ascii', 'binary_little_endian'):
    path.write_bytes(ply_bytes(NAMES, [ROW], encoding=encoding, count=9_000_000))
    with pytest.raises(ValueError, match='cut short'):
      read_gaussians(path)
    path.write_bytes(ply_bytes(NAMES, [ROW], encoding=encoding, count=10**15))
    with pytest.raises(ValueError, match='max_gaussians'):
      read_gaussians(path)
  path.write_bytes(ply_bytes(NAMES, np.zeros((0, 14))))
  with pytest.raises(ValueError, match='0 gaussians'):
    read_gaussians(path)
  path.write_bytes(whole[:100])
  with pytest.raises(ValueError, match='no complete PLY header'):
    read_gaussians(path)


@pytest.mark.parametrize('line', ['property quaternion q', 'element vertex -3', 'property float x', 'colour blue'])
def test_a_header_that_makes_no_sense_is_refused(tmp_path, line):
  path = tmp_path / 'a.ply'
  path.write_bytes(ply_bytes(NAMES, [ROW]).replace(b'end_header', line.encode() + b'\nend_header'))
  with pytest.raises(ValueError, match=r'a\.ply'):
    read_gaussians(path)


def test_writing_refuses_what_has_no_logarithm_and_leaves_no_file(tmp_path):
  bad = some_gaussians().replace(scale=np.zeros((5, 3), np.float32))
  with pytest.raises(ValueError, match='scales > 0'):
    write_ply(tmp_path / 'a.ply', bad)
  assert not list(tmp_path.iterdir())


def test_full_and_no_opacity_are_written_as_finite_logits(tmp_path):
  given = some_gaussians(2).replace(opacity=np.array([1, 0], np.float32))
  found, _ = read_gaussians(write_ply(tmp_path / 'a.ply', given))
  np.testing.assert_allclose(found.opacity, [1, 0], atol=2e-7)


CHUNK = [f'{side}{kind}_{a}' for kind in ('', '_scale') for side in ('min', 'max') for a in 'xyz']
COLOURS = [f'{side}_{a}' for side in ('min', 'max') for a in 'rgb']


def compressed_bytes(has_colours, num_rest=0):
  """257 gaussians, so two chunks; the last one is spelled out below."""
  names = CHUNK + COLOURS * has_colours
  bounds = np.zeros((2, len(names)), '<f4')
  bounds[1, :12] = [10, 20, 30, 11, 22, 33, -2, -2, -2, -1, 0, 2]
  bounds[:, 12:] = [0, 0, 0, 1, 1, 0.5] * has_colours
  packed = np.zeros((257, 4), '<u4')
  packed[:, 3] = 255  # opaque
  packed[:, 1] = 512 << 20 | 512 << 10 | 512
  position = 2047 << 21 | 0 << 11 | 2047
  rotation = 2 << 30 | 1023 << 20 | 512 << 10 | 512  # y is largest; w = sqrt(1/2), x and z about 0
  scale = 2047 << 21 | 1023 << 11 | 0
  packed[256] = position, rotation, scale, 255 << 24 | 0 << 16 | 255 << 8 | 51
  header = ['ply', 'format binary_little_endian 1.0', 'element chunk 2']
  header += [f'property float {n}' for n in names] + ['element vertex 257']
  header += [f'property uint packed_{n}' for n in ('position', 'rotation', 'scale', 'color')]
  rest = b''
  if num_rest:
    header += ['element sh 257'] + [f'property uchar f_rest_{i}' for i in range(num_rest)]
    values = np.full((257, num_rest), 128, np.uint8)
    values[256, :4] = 0, 255, 127, 191
    rest = values.tobytes()
  return '\n'.join([*header, 'end_header', '']).encode() + bounds.tobytes() + packed.tobytes() + rest


@pytest.mark.parametrize('has_colours, blue', [(False, 1.0), (True, 0.5)])
def test_compressed_values_lie_between_the_bounds_of_their_chunk(tmp_path, has_colours, blue):
  path = tmp_path / 'a.ply'
  path.write_bytes(compressed_bytes(has_colours))
  found, report = read_gaussians(path)
  assert (report.format, report.num_read, report.num_dropped) == ('compressed ply', 257, 0)
  np.testing.assert_allclose(found.mean[256], [11, 20, 33])
  np.testing.assert_allclose(found.scale[256], np.exp([-1, 0, -2]), rtol=1e-6)
  np.testing.assert_allclose(found.rotation[256], [0.5**0.5, 0, 0.5**0.5, 0], atol=1e-3)
  np.testing.assert_allclose(found.opacity[256], 0.2)
  np.testing.assert_allclose(0.5 + 0.28209479 * found.sh[256, 0], [1, 0, blue], atol=1e-6)
  np.testing.assert_array_equal(found.mean[:256], 0)


def test_compressed_harmonics_are_bytes_of_minus_four_to_four(tmp_path):
  path = tmp_path / 'a.ply'
  path.write_bytes(compressed_bytes(True, 9))
  found, _ = read_gaussians(path)
  # f_rest_0..3 are the three of red and the first of green
  np.testing.assert_allclose(found.sh[256, 1:, 0], [-4, 4, -4 + 8 * 127.5 / 256])
  np.testing.assert_allclose(found.sh[256, 1, 1], -4 + 8 * 191.5 / 256)


def test_a_compressed_file_without_its_chunks_is_refused(tmp_path):
  path = tmp_path / 'a.ply'
  path.write_bytes(compressed_bytes(False).replace(b'element chunk 2', b'element chunk 1'))
  with pytest.raises(ValueError, match='2 rows'):
    read_gaussians(path)
  path.write_bytes(compressed_bytes(False)[:-1])
  with pytest.raises(ValueError, match='cut short'):
    read_gaussians(path)


def test_the_real_guitar_is_read(shared_data):
  found, report = read_gaussians(shared_data / 'splats/guitar_compressed_ply/guitar.compressed.ply')
  assert (found.num, report.num_dropped, report.sh_degree) == (90854, 0, 0)
  assert np.ptp(found.mean, axis=0) == pytest.approx([1.48, 4.38, 1.45], abs=0.01)
  np.testing.assert_allclose(np.linalg.norm(found.rotation, axis=1), 1, atol=1e-5)
  colour = 0.5 + 0.28209479 * found.sh[:, 0]
  assert -0.5 < colour.min() < 0.2 < np.median(colour) < 0.8 < colour.max() < 2


def mesh_bytes(faces=((0, 1, 2), (0, 2, 3)), encoding='binary_little_endian', num_vertices=4):
  header = f'ply\nformat {encoding} 1.0\nelement vertex {num_vertices}\n'
  header += 'property double x\nproperty double y\nproperty double z\n'
  header += f'element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n'
  vertices = np.arange(12.0).reshape(4, 3)
  if encoding == 'ascii':
    rows = [' '.join(map(str, v)) for v in vertices] + [' '.join(map(str, (len(f), *f))) for f in faces]
    return (header + '\n'.join(rows) + '\n').encode()
  body = b''.join(bytes([len(f)]) + np.array(f, '<i4').tobytes() for f in faces)
  return header.encode() + vertices.astype('<f8').tobytes() + body


@pytest.mark.parametrize('encoding', ['ascii', 'binary_little_endian'])
def test_a_triangle_mesh_is_read(tmp_path, encoding):
  path = tmp_path / 'mesh.ply'
  path.write_bytes(mesh_bytes(encoding=encoding))
  vertices, faces = read_mesh(path)
  assert (vertices.dtype, faces.dtype) == (np.float32, np.int32)
  np.testing.assert_array_equal(vertices, np.arange(12).reshape(4, 3))
  np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize(
  'data, message',
  [
    (mesh_bytes(faces=((0, 1, 2, 3),)), 'triangulate'),
    (mesh_bytes(faces=((0, 1, 2), (0, 1, 2, 3))), 'triangulate|cut short'),
    (mesh_bytes(faces=((0, 1, 2), (0, 1, 2, 3)), encoding='ascii'), 'not as stated'),
    (mesh_bytes(faces=((0, 1, 4),)), 'do not exist'),
    (mesh_bytes(faces=()), 'triangles'),
    (mesh_bytes()[:-1], 'cut short'),
    (mesh_bytes().replace(b'list uchar int', b'list uint int'), 'cut short|triangulate'),
    (ply_bytes(NAMES, [ROW]), 'give a triangle mesh'),
  ],
)
def test_other_meshes_are_refused(tmp_path, data, message):
  path = tmp_path / 'mesh.ply'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read_mesh(path)
