"""The watch command writes films, a contact sheet and an account; bad input is named before compiling."""

import json
import subprocess
import sys

import av
import cv2
import pytest

from configs import watch as watch_config
from s2e_jax import watch


def config_of(**changes):
  config = watch_config.get_config('smoke')
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.mark.process
def test_the_command_writes_what_it_promises(repo, tmp_path, quick_environment):
  command = [sys.executable, '-m', 's2e_jax.watch', '--config=configs/watch.py:smoke', f'--out={tmp_path}']
  done = subprocess.run(command, cwd=repo, env=quick_environment, capture_output=True, text=True, timeout=400)
  assert done.returncode == 0, done.stderr[-3000:]
  (row,) = json.loads((tmp_path / 'episodes.json').read_text())
  assert row['ended'] in done.stdout and row['seconds'] <= 5.0
  with av.open(str(tmp_path / 'episode_0.mp4')) as container:
    assert sum(1 for _ in container.decode(video=0)) == round(row['seconds'] * 4)
  sheet = cv2.imread(str(tmp_path / 'scenes.png'))
  assert sheet.shape[0] > 32 and sheet.std() > 10


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'driver': 'nobody'}, "config.driver='nobody'"),
    ({'num_episodes': 0}, 'config.num_episodes=0'),
    ({'world.look': 'Z'}, "look='Z'"),
    ({'world.slots': 'huge'}, r"world.slots='huge'"),
    ({'env.robot': 'tank'}, "robot='tank'"),
    ({'picture.height': 0}, 'height=0'),
  ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    watch.run_watch(config_of(**changes), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
