"""RLDS: a dataset with the published features, prepared and read without TensorFlow."""

import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from s2e_jax.data.clips import Clip, Skip
from s2e_jax.data.formats import base, rlds
from s2e_jax.data.formats.options import Options

SPACING = 0.25


def published_features(height=120, width=160):
  """The feature tree of berkeley_gnm_recon in TFDS 4.9.10."""
  f = tfds.features
  return f.FeaturesDict(
    {
      'episode_metadata': f.FeaturesDict({'file_path': f.Text()}),
      'steps': f.Dataset(
        {
          'observation': f.FeaturesDict(
            {
              'image': f.Image(shape=(height, width, 3), dtype=np.uint8, encoding_format='jpeg'),
              'position': f.Tensor(shape=(2,), dtype=np.float64),
              'yaw': f.Tensor(shape=(1,), dtype=np.float64),
              'state': f.Tensor(shape=(3,), dtype=np.float64),
            }
          ),
          'action': f.Tensor(shape=(2,), dtype=np.float64),
          'action_angle': f.Tensor(shape=(3,), dtype=np.float64),
          'is_first': f.Scalar(dtype=np.bool_),
          'is_last': f.Scalar(dtype=np.bool_),
          'is_terminal': f.Scalar(dtype=np.bool_),
          'reward': f.Scalar(dtype=np.float64),
          'discount': f.Scalar(dtype=np.float64),
          'language_instruction': f.Text(),
          'language_embedding': f.Tensor(shape=(512,), dtype=np.float32),
        }
      ),
    }
  )


def episode(files, position, yaw, wrong_actions=0):
  """Steps whose actions are the next waypoint in the robot frame over the spacing."""
  rotation = np.exp(-1j * yaw[:-1])
  step = (np.diff(position[:, 0]) + 1j * np.diff(position[:, 1])) * rotation / SPACING
  action = np.concatenate([np.stack([step.real, step.imag], axis=1), [[0, 0]]])
  action[:wrong_actions] += 2
  n = len(yaw)
  return {
    'episode_metadata': {'file_path': '/data/recon/jackal_0/traj_data.pkl'},
    'steps': [
      {
        'observation': {
          'image': files.BytesIO(files.jpeg_bytes(files.numbered(i, 120, 160))),
          'position': position[i],
          'yaw': yaw[i : i + 1],
          'state': np.array([*position[i], yaw[i]]),
        },
        'action': action[i],
        'action_angle': np.array([*action[i], 0.0]),
        'is_first': i == 0,
        'is_last': i == n - 1,
        'is_terminal': i == n - 1,
        'reward': float(i == n - 1),
        'discount': 1.0,
        'language_instruction': '',
        'language_embedding': np.zeros(512, np.float32),
      }
      for i in range(n)
    ],
  }


@pytest.fixture
def prepared(tmp_path):
  """Prepares episodes as an ArrayRecord folder the way TFDS does; returns its version folder."""

  def make(episodes, name='berkeley_gnm_recon'):
    class Episodes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
      VERSION = tfds.core.Version('0.1.0')
      pkg_dir_path = epath.Path(tmp_path)

      def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=published_features())

      def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

      def _generate_examples(self):
        yield from enumerate(episodes)

    Episodes.name = name
    builder = Episodes(data_dir=str(tmp_path / 'data'), file_format='array_record')
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    )
    return tmp_path / 'data' / name / '0.1.0'

  return make


def read_all(src, **options):
  tally = base.Tally()
  return list(base.read('rlds', src, Options(**options), tally)), tally


def test_episodes_become_clips_without_tensorflow(prepared, arc, files):
  drives = [arc(17), arc(22, turn=-0.03)]
  src = prepared([episode(files, *drive) for drive in drives])
  found, tally = read_all(src)
  assert 'tensorflow' not in sys.modules
  assert len(found) == 2
  for clip in found:
    position, yaw = next(drive for drive in drives if len(drive[1]) == len(clip))  # TFDS shuffles episodes
    np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-5)
    np.testing.assert_allclose(clip.yaw, yaw, atol=1e-6)
    assert [files.number_of(f) for f in clip.frames] == list(range(len(yaw)))
    assert clip.frames[2] == files.jpeg_bytes(files.numbered(2, 120, 160))  # not re-encoded
    assert clip.source == 'berkeley_gnm_recon' and clip.is_rate_assumed and clip.embodiment == 'wheeled'
    assert clip.camera.fx == pytest.approx(272.547 / 4) and clip.camera.width == 160
  assert sorted(c.clip_id for c in found) == [f'berkeley_gnm_recon/train-{i:06d}' for i in range(2)]
  assert tally.notes == {'steps_where_action_agrees_with_poses': 16 + 21}


def test_labels_come_from_poses_and_bad_actions_are_only_counted(prepared, arc, files):
  position, yaw = arc(20)
  (clip,), tally = read_all(prepared([episode(files, position, yaw, wrong_actions=6)]))
  np.testing.assert_allclose(clip.position + np.array(clip.origin), position, atol=1e-5)
  assert tally.notes == {'steps_where_action_agrees_with_poses': 13, 'steps_where_action_differs_from_poses': 6}


def test_nan_yaw_and_short_episodes_are_counted(prepared, arc, files):
  position, yaw = arc(20)
  nan = np.full_like(yaw, np.nan)
  found, _ = read_all(
    prepared([episode(files, *arc(6)), episode(files, position, nan), episode(files, position, yaw)])
  )
  assert sorted(x.reason for x in found if isinstance(x, Skip)) == ['nan_pose', 'too_short']
  assert len([x for x in found if isinstance(x, Clip)]) == 1


def test_parent_folders_and_split_names_are_understood(prepared, arc, files):
  src = prepared([episode(files, *arc(20))])
  assert len(read_all(src.parent, split='train')[0]) == 1
  with pytest.raises(ValueError, match='--split'):
    read_all(src, split='test')


def test_tfrecord_folders_say_how_to_convert_them_once(prepared, arc, files):
  src = prepared([episode(files, *arc(20))])
  info = json.loads((src / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  (src / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match=r'convert_format.*--out_file_format=array_record') as caught:
    rlds.find(src, Options())
  assert 's2e_jax[tf]' in str(caught.value)


def test_folders_that_are_no_dataset_say_so(tmp_path):
  with pytest.raises(ValueError, match=r'dataset_info\.json'):
    rlds.find(tmp_path, Options())
