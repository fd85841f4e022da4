import json
import subprocess
import sys

import numpy as np
import pytest

from s2e_jax.navbench import prepare as prepare_command
from s2e_jax.navbench.episodes import TASKS, Sampling
from s2e_jax.navbench.formats.stored import ReadReport
from s2e_jax.navbench.map_pictures import ground_plan, write_map
from s2e_jax.navbench.prepare import Settings, prepare, prepare_gaussians
from s2e_jax.navbench.scene_folder import hash_of_source, load_scene, packed, unpacked
from tests.navbench.procedural_splats import courtyard, splat

SOURCE = {'file': 'court.ply', 'sha256': 'abc', 'num_dropped': 0}


def settings(**changes):
  return Settings(**({'up': 'z', 'tasks': ('empty', 'both'), 'num': 3, 'robot_radius': 0.3} | changes))


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """(scene, episodes, folder, lines) of the courtyard."""
  folder, lines = tmp_path_factory.mktemp('scene'), []
  scene, episodes = prepare_gaussians(
    splat(courtyard(), sh_degree=1), folder, 'court', SOURCE, settings(), say=lines.append
  )
  return scene, episodes, folder, lines


def copy_of(folder, to):
  for path in folder.glob('*.*'):
    (to / path.name).write_bytes(path.read_bytes())
  return to


def test_a_loaded_scene_is_the_written_one(prepared):
  scene, episodes, folder, _ = prepared
  loaded = load_scene(folder)
  assert (loaded.name, loaded.hash, loaded.about) == (scene.name, scene.hash, scene.about)
  for field in ('occupied', 'distance', 'drivable', 'ground', 'is_seen'):
    np.testing.assert_array_equal(getattr(loaded.maps, field), getattr(scene.maps, field))
  assert loaded.maps.grid == scene.maps.grid
  assert loaded.maps.robot_radius == 0.3
  for field in ('mean', 'scale', 'rotation', 'opacity', 'sh'):
    np.testing.assert_array_equal(getattr(loaded.gaussians, field), getattr(scene.gaussians, field))
  np.testing.assert_array_equal(loaded.world_from_file.rotation, np.eye(3))
  assert loaded.episodes('both').episodes == tuple(episodes['both'])
  with pytest.raises(ValueError, match=r"no episodes of task 'long', there are \['both', 'empty'\]"):
    loaded.episodes('long')


def test_scene_json_says_what_a_person_asks(prepared):
  about = json.loads((prepared[2] / 'scene.json').read_text())
  assert about['format_version'] == 1
  assert about['source'] == SOURCE
  assert about['num_gaussians'] + about['num_dropped_as_invisible'] == splat(courtyard()).num
  assert about['sh_degree'] == 1
  assert about['band']['low'] == 0.1 and about['cell'] == 0.1
  assert abs(about['ground']['height_on_drivable'][2]) < 0.03
  figures = about['figures']
  assert figures['seen_extent'] == pytest.approx([16, 10], abs=1.0)
  assert 60 < figures['drivable_area'] < 120
  assert figures['ceiling'] is None
  assert 0.5 < figures['standing_height'][0] < 2.6
  assert len(about['hash']) == 64


def test_progress_and_the_scale_check_are_printed(prepared):
  text = '\n'.join(prepared[3])
  for part in ('s] frame:', 's] maps:', 'straight line blocked', 'picture:', 'Are metres metres?', 'open sky'):
    assert part in text
  picture = (prepared[2] / 'pictures' / 'map.png').read_bytes()
  assert picture.startswith(b'\x89PNG') and len(picture) > 20_000


def test_preparing_again_gives_the_same_scene_and_episodes(prepared, tmp_path):
  scene, _, folder, _ = prepared
  views = []

  def write_views(given, episodes, pictures):
    views.append((given.hash, sorted(episodes), pictures))
    return [pictures / 'view.png']

  gaussians = splat(courtyard(), sh_degree=1)
  again, _ = prepare_gaussians(gaussians, tmp_path, 'court', SOURCE, settings(), write_views, lambda line: None)
  assert again.hash == scene.hash
  for task in ('empty', 'both'):
    assert (tmp_path / f'episodes_{task}.json').read_bytes() == (folder / f'episodes_{task}.json').read_bytes()
  assert views == [(scene.hash, ['both', 'empty'], tmp_path / 'pictures')]


def test_storage_rounds_less_than_a_picture_shows():
  given = splat(courtyard(), sh_degree=2)
  back = unpacked(packed(given))
  np.testing.assert_array_equal(back.mean, given.mean)
  np.testing.assert_allclose(back.scale, given.scale, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(np.abs((back.rotation * given.rotation).sum(axis=1)), 1, atol=1e-3)
  np.testing.assert_allclose(back.opacity, given.opacity, atol=0.5 / 255 + 1e-6)
  np.testing.assert_allclose(back.sh, given.sh, atol=2e-3)
  assert {array.dtype for array in (back.mean, back.scale, back.rotation, back.opacity, back.sh)} == {
    np.dtype('f4')
  }


def test_damaged_and_foreign_folders_are_refused(prepared, tmp_path):
  folder = copy_of(prepared[2], tmp_path)
  with pytest.raises(ValueError, match=r'no scene\.json'):
    load_scene(tmp_path / 'nowhere')
  maps = (folder / 'maps.npz').read_bytes()
  (folder / 'maps.npz').write_bytes(maps[: len(maps) // 2])
  with pytest.raises(ValueError, match=r'maps\.npz: cannot be read .*prepare the scene again'):
    load_scene(folder)
  with np.load(prepared[2] / 'maps.npz') as arrays:
    np.savez(folder / 'maps.npz', **{**arrays, 'distance': arrays['distance'] + 1})
  with pytest.raises(ValueError, match='do not belong together'):
    load_scene(folder)
  (folder / 'maps.npz').write_bytes(maps)
  about = json.loads((folder / 'scene.json').read_text())
  (folder / 'scene.json').write_text(json.dumps(about | {'cell': 0.2}))
  with pytest.raises(ValueError, match='does not fit its content'):
    load_scene(folder)
  (folder / 'scene.json').write_text(json.dumps(about | {'format_version': 2}))
  with pytest.raises(ValueError, match='format_version=2, this program reads 1'):
    load_scene(folder)


def test_episodes_of_another_version_of_the_scene_are_refused(prepared, tmp_path):
  folder = copy_of(prepared[2], tmp_path)
  about = json.loads((folder / 'scene.json').read_text())
  del about['hash']
  from s2e_jax.navbench.episode_files import hash_of

  changed = about | {'name': 'court, repainted'}
  (folder / 'scene.json').write_text(json.dumps(changed | {'hash': hash_of(changed)}))
  with pytest.raises(ValueError, match=f'hash {prepared[0].hash[:16]}, but the scene at hand has hash'):
    load_scene(folder).episodes('empty')


def test_a_failed_preparation_leaves_no_scene_that_loads(prepared, tmp_path):
  gaussians = splat(courtyard())
  with pytest.raises(ValueError, match='pass scale='):
    prepare_gaussians(gaussians, tmp_path / 'a', 'court', SOURCE, settings(scale=0.01), say=lambda line: None)
  assert not (tmp_path / 'a').exists()
  with pytest.raises(ValueError, match='largest drivable region'):
    prepare_gaussians(
      gaussians, tmp_path / 'b', 'court', SOURCE, settings(robot_radius=3.0), say=lambda line: None
    )
  assert not (tmp_path / 'b').exists()
  too_long = settings(sampling=Sampling(min_length=80.0, max_length=90.0))
  with pytest.raises(ValueError, match='longest way in the scene'):
    prepare_gaussians(gaussians, tmp_path / 'c', 'court', SOURCE, too_long, say=lambda line: None)
  assert not (tmp_path / 'c').exists()


def test_a_file_is_read_hashed_and_reported(tmp_path, monkeypatch):
  path = tmp_path / 'court.ply'
  path.write_bytes(b'bytes of a splat')
  report = ReadReport(str(path), 'ply', '1', 10, {'non_finite': 2}, 0, notes=('a note',))
  monkeypatch.setattr(prepare_command, 'read_gaussians', lambda path, level: (splat(courtyard()), report))
  lines = []
  scene, _ = prepare(path, tmp_path / 'out', settings(tasks=('empty',)), say=lines.append)
  assert scene.name == 'court'
  assert scene.about['source']['sha256'] == hash_of_source(path)
  assert scene.about['source']['dropped'] == {'non_finite': 2}
  assert 'dropped 2 (non_finite 2)' in lines[0]
  assert hash_of_source(tmp_path) != hash_of_source(path)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, repo):
  command = [
    sys.executable,
    '-m',
    's2e_jax.navbench.prepare',
    str(tmp_path / 'no.ply'),
    f'--out={tmp_path / "out"}',
  ]
  done = subprocess.run(command, capture_output=True, text=True, cwd=repo)
  assert done.returncode == 1
  assert done.stderr.strip().splitlines()[-1].startswith('error: ')
  assert 'Traceback' not in done.stderr


def test_the_ground_plan_shows_the_highest_below_the_cut(prepared, tmp_path):
  scene = prepared[0]
  plan = ground_plan(scene.gaussians, scene.maps)
  nx, ny = scene.maps.grid.shape
  assert plan.shape == (2 * nx, 2 * ny, 3)
  assert plan.min() >= 0 and plan.max() <= 1
  first = write_map(tmp_path / 'a.png', 'x', scene.gaussians, scene.maps, {}).read_bytes()
  second = write_map(tmp_path / 'b.png', 'x', scene.gaussians, scene.maps, {}).read_bytes()
  assert first == second


def test_a_real_flat_is_prepared(shared_data, tmp_path):
  source = shared_data / 'splats' / 'lacadiere_showroom'
  if not source.is_dir():
    pytest.skip('the show flat is not among the shared data')
  scene, episodes = prepare(source, tmp_path, Settings(num=3), say=lambda line: None)
  assert scene.about['frame']['up_in_file'] == [0.0, 0.0, 1.0]
  assert scene.world_from_file.translation[2] == pytest.approx(0.67, abs=0.06)
  assert scene.about['figures']['ceiling'] == pytest.approx(2.73, abs=0.15)
  assert 30 < scene.maps.drivable_area < 80
  assert set(episodes) == set(TASKS)
  # the corridor and the living room are one region; a bed and the block of cupboards are not in it
  drivable = lambda x, y: bool(scene.maps.grid.at(scene.maps.drivable, np.array([x, y]), False))
  assert drivable(1.6, -7.5) and drivable(3.0, -1.0) and drivable(-3.5, -8.8)
  assert not drivable(-2.5, -6.5) and not drivable(5.0, -5.0) and not drivable(-8.0, -0.5)
