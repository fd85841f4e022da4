"""The evaluation command, end to end: from a run's folder to the files it promises."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import openloop, pretrain
from experiments.drawn import write_drawn
from s2e_jax.data.clips import Clip
from s2e_jax.data.dataset import DatasetWriter, open_dataset
from s2e_jax.data.loader import decode_frame
from s2e_jax.evaluate import run_openloop
from s2e_jax.openloop import metrics
from s2e_jax.openloop.cases import cut_cases
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.structs import Observation
from s2e_jax.training import sources
from s2e_jax.training.restore import load_policy

SMALL = dict(
  image_height=32, image_width=64, num_history=2,
  width=32, num_context_layers=1, num_decoder_layers=1, num_heads=2, mlp_dim=48,
)  # fmt: skip


def config_of(**changes):
  config = openloop.get_config('smoke')
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Folder of a run on drawn video whose best checkpoint is an untrained small policy."""
  workdir = tmp_path_factory.mktemp('evaluate') / 'run'
  write_drawn(workdir / sources.SYNTHETIC_FOLDER, num_clips=6, seconds=6.0, seed=0, height=32, width=64)
  config = pretrain.get_config('smoke')
  policy = Policy(policy_config('s2e_tiny', **SMALL))
  variables = jax.jit(policy.init)(jax.random.key(0), example_observation(policy.config))
  source = sources.open_source(config, workdir, 32, 64)
  description = {
    'policy': policy.config.to_dict(),
    'config': config.to_dict(),
    **sources.describe(source, sources.segment_spec(config, policy.config), policy.config),
  }
  store = CheckpointStore(workdir / 'best', by_metric=True)
  store.save(7, {'policy': dict(variables)}, description, metric=1.0)
  store.close()
  return workdir


def rewritten(dataset, path, **changes):
  """The test clips of `dataset` as a dataset of their own, with another camera."""
  writer = DatasetWriter(path, 'other')
  for i in dataset.clip_indices('test'):
    info = dataset.clips[i]
    fields = {f.name: getattr(info, f.name) for f in dataclasses.fields(Clip) if f.name != 'frames'}
    fields['camera'] = dataclasses.replace(info.camera, **changes)
    writer.add(Clip(frames=dataset.frames(i, range(info.num_frames)), **fields), 'train')
  writer.finish()
  return path


def test_the_command_writes_what_it_promises(run, tmp_path, repo):
  command = [sys.executable, '-m', 's2e_jax.evaluate', '--config=configs/openloop.py:smoke']
  done = subprocess.run(
    [*command, f'--checkpoint={run}', f'--out={tmp_path}'],
    cwd=repo, env=os.environ | {'PYTHONPATH': str(repo)}, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  results = json.loads((tmp_path / 'results.json').read_text())
  table = (tmp_path / 'table.md').read_text()
  assert not results['is_synthetic'] and table in done.stdout
  assert results['checkpoint']['model'] == 's2e_tiny' and results['clips'] == 'the test clips'
  methods = results['groups']['all']['methods']
  assert set(methods) == {
    'policy', 'policy_goal_free', 'constant_velocity', 'straight_to_goal', 'stand_still', 'mean_trajectory',
    'goal_only',
  }  # fmt: skip
  assert {'ade', 'fde', 'minADE@1', 'minADE@3', 'minADE@M', 'miss_rate', 'mAP', 'nll_metres'} <= set(
    methods['policy']
  )
  assert len(list((tmp_path / 'pictures').glob('*.png'))) == 5


def test_figures_are_those_of_the_restored_policy(run, tmp_path):
  """One window predicted by hand, through an independent path from files to error."""
  results = run_openloop(config_of(num_pictures=0), run, tmp_path)
  policy, variables, description = load_policy(run)
  dataset = open_dataset(description['data']['path'])
  cases = cut_cases(dataset.clips, dataset.clip_indices('test'), 2)
  assert results['num_windows'] == len(cases)
  clip = dataset.clips[cases.clip[0]]
  rows = np.flatnonzero(cases.clip == cases.clip[0])
  frames = [
    [decode_frame(j, 32, 64) for j in dataset.frames(int(cases.clip[r]), cases.history[r].tolist())] for r in rows
  ]
  mixture = jax.jit(policy.apply)(
    variables, Observation(np.array(frames), cases.goal_in_robot[rows], cases.has_goal[rows])
  )
  found = metrics.window_metrics(
    np.asarray(mixture.waypoints_in_robot), np.asarray(mixture.logits), cases.waypoints[rows]
  )
  told = results['per_clip'][clip.clip_id]
  assert told['num_windows'] == len(rows)
  assert told['ade']['policy'] == pytest.approx(found['ade'].mean(), rel=1e-3)


def test_a_run_that_moved_finds_its_data_again(run, tmp_path):
  moved = tmp_path / 'moved'
  shutil.copytree(run, moved)
  aside = run.with_name('aside')
  run.rename(aside)
  try:
    results = run_openloop(config_of(num_pictures=0), moved, tmp_path / 'out')
  finally:
    aside.rename(run)
  assert Path(results['dataset']['path']).parent == moved


@pytest.mark.parametrize('changes, field', [(dict(fx=60.0), 'hfov'), (dict(mount_height=1.4), 'mount_height')])
def test_another_camera_is_refused_unless_allowed(run, tmp_path, changes, field):
  dataset = open_dataset(load_policy(run)[2]['data']['path'])
  path = rewritten(dataset, tmp_path / 'other', **changes)
  config = config_of(**{'data.path': str(path), 'num_pictures': 0})
  with pytest.raises(ValueError, match=rf'{field}: trained with .* given .*allow_other_camera=True'):
    run_openloop(config, run, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
  with config.unlocked():
    config.allow_other_camera = True
  results = run_openloop(config, run, tmp_path / 'out')
  assert any(field in note for note in results['notes'])
  assert field in (tmp_path / 'out' / 'table.md').read_text()


def test_a_missing_checkpoint_or_dataset_is_named(run, tmp_path):
  with pytest.raises(ValueError, match='nowhere'):
    run_openloop(config_of(), tmp_path / 'nowhere', tmp_path / 'out')
  with pytest.raises(ValueError, match='no dataset_info'):
    run_openloop(config_of(**{'data.path': str(tmp_path / 'empty')}), run, tmp_path / 'out')


def test_an_unknown_config_key_is_refused():
  with pytest.raises(AttributeError, match='num_pictures'):
    openloop.get_config().num_picture = 3
