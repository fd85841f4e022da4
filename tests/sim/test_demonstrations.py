"""Expert drives become a clean dataset whose pictures, poses and camera belong together."""

import jax
import numpy as np
import pytest
import simplejpeg

from s2e_jax import geometry, scene
from s2e_jax.data import inspect
from s2e_jax.data.dataset import open_dataset
from s2e_jax.robots import ROBOTS
from s2e_jax.sim import demonstrations
from s2e_jax.sim.demonstrations import DemoOptions, write_demonstrations

pytestmark = pytest.mark.usefixtures('compiled_quickly')

# Ways of some 14 m, which 20 s are enough for.
OPTIONS = DemoOptions(looks=('B',), slots='small', level=0.2, seconds=20.0, height=40, width=72)


@pytest.fixture(scope='module', autouse=True)
def few_episodes():
  """Drives fewer episodes at once: most of the full batch would be thrown away."""
  with pytest.MonkeyPatch.context() as m:
    m.setattr(demonstrations, '_BATCH', 8)
    yield


@pytest.fixture(scope='module')
def first_program(few_episodes):
  """The compiled drives of the first call, for a call that need not show that a new trace gives the same."""
  make = demonstrations.make_drives
  programs = []
  jax.clear_caches()  # see below

  def make_once(*arguments):
    if not programs:
      programs.append(make(*arguments))
    return programs[0]

  return make_once


@pytest.fixture(scope='module')
def dataset(tmp_path_factory, first_program):
  path = tmp_path_factory.mktemp('demos') / 'data'
  with pytest.MonkeyPatch.context() as m:
    m.setattr(demonstrations, 'make_drives', first_program)
    write_demonstrations(path, 6, 3, OPTIONS, progress=False)
  return open_dataset(path)


def test_the_drives_are_clean_and_labelled_synthetic(dataset):
  report = inspect.inspect_dataset(dataset)
  assert {kind: group['count'] for kind, group in report['anomalies'].items() if group['count']} == {}
  assert len(dataset.clips) == 6 and set(dataset.splits) == {'train', 'val', 'test'}
  for clip in dataset.clips:
    assert clip.source == 'synthetic/B' and clip.embodiment == 'synthetic/delivery' and clip.is_metric
    assert clip.stamps[-1] >= OPTIONS.min_seconds - 0.25
    assert clip.footprint == ROBOTS['delivery'].footprint


def test_the_expert_keeps_the_limits_of_its_robot_and_gets_ahead(dataset):
  robot = ROBOTS['delivery']
  for clip in dataset.clips:
    steps = np.hypot(*np.diff(clip.position, axis=0).T)
    assert steps.max() <= robot.max_speed * 0.25 + 1e-3
    assert np.abs(np.diff(clip.yaw)).max() <= robot.max_yaw_rate * 0.25 + 1e-2
    assert np.hypot(*(clip.position[-1] - clip.position[0])) > 4.0


def test_the_stored_camera_is_the_one_that_drew_the_pictures(dataset):
  """The horizon of a level street: pictures change from ground to sky at the row that the camera says."""
  clip = dataset.clips[0]
  far = np.array([[5e3, 0.0, clip.camera.mount_height]])
  horizon = geometry.project(far, clip.camera)[0][0, 1]
  assert 0.3 * 40 < horizon < 0.6 * 40
  (jpeg,) = dataset.frames(0, [0])
  assert simplejpeg.decode_jpeg(jpeg).shape == (40, 72, 3)
  mount = ROBOTS['delivery'].mount
  stored, described = clip.camera.to_dict(), mount.camera(40, 72).to_dict()
  assert (stored.pop('model'), stored.pop('distortion')) == (described.pop('model'), described.pop('distortion'))
  assert stored == pytest.approx(described, rel=1e-5)


def test_the_same_arguments_give_the_same_bytes_and_a_killed_call_goes_on(
  dataset, first_program, tmp_path, monkeypatch
):
  added = []
  add = demonstrations.DatasetWriter.add

  def dies(self, clip, split):
    if len(added) == 3:
      raise KeyboardInterrupt
    added.append(clip.clip_id)
    add(self, clip, split)

  with monkeypatch.context() as m:
    m.setattr(demonstrations.DatasetWriter, 'add', dies)
    m.setattr(demonstrations, 'make_drives', first_program)
    with pytest.raises(KeyboardInterrupt):
      write_demonstrations(tmp_path / 'data', 6, 3, OPTIONS, progress=False)
  assert not (tmp_path / 'data').exists()
  # What JAX remembers of earlier traces names parts of the next program otherwise, and it would be compiled anew
  # (minutes) instead of found in the cache, as a new process finds it.
  jax.clear_caches()
  write_demonstrations(tmp_path / 'data', 6, 3, OPTIONS, progress=False)
  assert open_dataset(tmp_path / 'data').content_hash == dataset.content_hash


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'robot': 'tank'}, 'robot='),
    ({'slots': 'huge'}, 'slots='),
    ({'looks': ()}, 'looks must name'),
    ({'level': 1.5}, 'level='),
    ({'seconds': 2.0}, 'min_seconds='),
    ({'height': 0}, 'height=0'),
  ],
)
def test_options_that_break_a_rule_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    DemoOptions(**fields)


def test_counts_and_looks_are_checked_before_anything_is_written(tmp_path):
  with pytest.raises(ValueError, match='num_clips=2'):
    write_demonstrations(tmp_path / 'x', 2, 0)
  with pytest.raises(ValueError, match='seed=-1'):
    write_demonstrations(tmp_path / 'x', 3, -1)
  with pytest.raises(ValueError, match='look='):
    write_demonstrations(tmp_path / 'x', 3, 0, DemoOptions(looks=('Z',)))
  assert list(tmp_path.iterdir()) == []


def test_horizons_of_both_records_agree():
  """`Mount` of a scene and `structs.Camera` describe the same lens."""
  mount = scene.Mount(*(np.array([v]) for v in (0.5, 0.2, 0.1, 1.2)))
  camera = demonstrations.camera_of(mount, 0, 60, 100)
  # A point on the middle row's ray: 0.1 down per metre forward.
  pixel, _ = geometry.project(np.array([[10.2, 0.0, 0.5 - 1.0]]), camera)
  np.testing.assert_allclose(pixel, [[50.0, 30.0]], atol=1e-4)
  # The edge of the field of view.
  pixel, _ = geometry.project(np.array([[10.2, 12.0, 0.5 - 1.0]]), camera)
  np.testing.assert_allclose(pixel[0, 0], 0.0, atol=1e-4)
