"""The folder of Vid2Sim / NavBench-GS scenes, read by the names of its files."""

import json

import numpy as np
import pytest

from s2e_jax.navbench.formats.vid2sim import mesh_beside, read_config, read_routes, read_vid2sim, splat_of


def release(root, positions=None):
  for name in ('0002', '0010'):
    folder = root / 'vid2sim_raw' / name
    folder.mkdir(parents=True)
    (folder / 'point_cloud.ply').write_bytes(b'ply')
  (folder / 'tsdf_fusion_post.ply').write_bytes(b'ply')
  (folder / 'config.yaml').write_text('scale: 1.5\ntransform: [[1, 0], [0, 1]]\n')
  (root / 'vid2sim_raw' / 'notes').mkdir()
  if positions is not None:
    (root / 'vid2sim_starting_ending_position.json').write_text(json.dumps(positions))
  return root


def test_scenes_come_with_their_files_config_and_routes(tmp_path):
  root = release(tmp_path, {'2': {'start': [1, 2, 3], 'end': [4, 5, 6]}, '0010': [[[0, 0, 0], [1, 1, 1]]] * 3})
  for given in (root, root / 'vid2sim_raw'):
    first, second = read_vid2sim(given)
    assert (first.name, second.name) == ('0002', '0010')
    assert first.splat == root / 'vid2sim_raw/0002/point_cloud.ply' and first.mesh is None and first.config == {}
    assert second.mesh == root / 'vid2sim_raw/0010/tsdf_fusion_post.ply'
    assert second.config == {'scale': 1.5, 'transform': [[1, 0], [0, 1]]}
    np.testing.assert_array_equal(first.routes, [[[1, 2, 3], [4, 5, 6]]])
    assert second.routes.shape == (3, 2, 3)


def test_the_folder_of_a_scene_stands_for_its_splat_and_mesh(tmp_path):
  raw = release(tmp_path) / 'vid2sim_raw'
  without, whole = splat_of(raw / '0002'), splat_of(raw / '0010')
  assert (without, whole) == (raw / '0002/point_cloud.ply', raw / '0010/point_cloud.ply')
  assert mesh_beside(without) is None
  assert mesh_beside(whole) == raw / '0010/tsdf_fusion_post.ply'
  assert mesh_beside(raw / '0010/other.ply') is None
  assert splat_of(raw / 'notes') == raw / 'notes' and splat_of(whole) == whole
  (raw / '0002' / 'meta.json').write_text('{}')  # a SOG scene stays one
  assert splat_of(raw / '0002') == raw / '0002'


def test_routes_may_be_absent_but_not_of_other_scenes(tmp_path):
  assert [scene.routes.shape for scene in read_vid2sim(release(tmp_path / 'a'))] == [(0, 2, 3)] * 2
  with pytest.raises(ValueError, match="'street'"):
    read_vid2sim(release(tmp_path / 'b', {'street': [[0, 0, 0], [1, 1, 1]]}))


def test_a_folder_without_scenes_is_refused(tmp_path):
  with pytest.raises(ValueError, match='vid2sim_raw/NNNN'):
    read_vid2sim(tmp_path)


PAIR = [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
  'value',
  [
    {'start': PAIR[0], 'end': PAIR[1]},
    {'start': PAIR[0], 'goal': PAIR[1]},
    [{'start': PAIR[0], 'end': PAIR[1]}],
    PAIR,
    [PAIR],
  ],
)
def test_all_accepted_forms_of_routes_are_the_same(tmp_path, value):
  path = tmp_path / 'routes.json'
  path.write_text(json.dumps({'a': value}))
  np.testing.assert_array_equal(read_routes(path)['a'], [PAIR])


@pytest.mark.parametrize(
  'value',
  [
    {'begin': PAIR[0], 'end': PAIR[1]},
    {'start': PAIR[0]},
    {'start': PAIR[0], 'end': PAIR[1], 'goal': PAIR[1]},
    {'start': [1, 2], 'end': [3, 4]},
    [1, 2, 3],
    [PAIR, [[1, 2, 3]]],
    [[1, 2, 3], [4, 5, float('nan')]],
    [],
    'here',
    None,
    [PAIR, {'start': PAIR[0], 'end': PAIR[1]}],
  ],
)
def test_other_forms_of_routes_are_refused(tmp_path, value):
  path = tmp_path / 'routes.json'
  path.write_text(json.dumps({'scene 7': value}))
  with pytest.raises(ValueError, match='scene 7'):
    read_routes(path)


@pytest.mark.parametrize(
  'content', ['- a\n- b\n', 'a: [', '!!python/object/apply:os.system [exit]', 'a: ' + 'x' * 2**21]
)
def test_other_configs_are_refused(tmp_path, content):
  path = tmp_path / 'config.yaml'
  path.write_text(content)
  with pytest.raises(ValueError, match=r'config\.yaml'):
    read_config(path)
