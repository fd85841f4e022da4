import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from s2e_jax.policy.policy import example_observation
from s2e_jax.store import metrics as metrics_lib
from s2e_jax.store.checkpoint import CheckpointStore, MismatchError, whole_steps
from s2e_jax.training import checkpoints, initial, optim, parallel, pretrain, restore, rundir, sources, startup
from s2e_jax.training.restore import load_policy

pytestmark = pytest.mark.usefixtures('compiled_quickly')


@pytest.fixture(scope='module')
def whole_run(make_config, tmp_path_factory):
  """Folder of a run that was never interrupted."""
  workdir = tmp_path_factory.mktemp('runs') / 'whole'
  pretrain.run(make_config(), workdir)
  return workdir


def final_arrays(workdir):
  store = CheckpointStore(workdir / 'checkpoints', read_only=True)
  return store.load(12, 'policy', 'trainer')


def without_times(workdir):
  records = metrics_lib.read_records(workdir / 'metrics.jsonl')
  return [{k: v for k, v in record.items() if not k.startswith('time/')} for record in records]


def assert_same_run(a, b):
  left, right = final_arrays(a), final_arrays(b)
  assert jax.tree.structure(left) == jax.tree.structure(right)
  jax.tree.map(np.testing.assert_array_equal, left, right)
  assert without_times(a) == without_times(b)
  assert whole_steps(a / 'best') == whole_steps(b / 'best')


def test_a_run_leaves_everything_needed_to_use_and_repeat_it(whole_run, make_config):
  names = {p.name for p in whole_run.iterdir()} - {'.lock'}
  assert names == {
    'config.json', 'description.json', 'parameters.txt', 'metrics.jsonl', 'tensorboard', 'checkpoints', 'best'
  }  # fmt: skip
  assert json.loads((whole_run / 'config.json').read_text()) == json.loads(make_config().to_json())
  assert whole_steps(whole_run / 'checkpoints') == [9, 12] and len(whole_steps(whole_run / 'best')) == 1
  description = json.loads((whole_run / 'description.json').read_text())
  assert description['model'] == 's2e_tiny' and len(description['policy']['anchors']) == 4
  assert description['data']['sources'] == ['drawn'] and not description['data']['is_synthetic']
  assert len(description['data']['train_clips']) == 6 and len(description['data']['content_hash']) == 64
  assert description['camera_contract']['image_width'] == 32
  assert description['normalisation']['dt_s'] == 0.25 and description['normalisation']['horizon'] == 10
  assert description['packages']['jax'] == jax.__version__ and 'python' in description['packages']
  assert description['git'] is None or len(description['git']['commit']) == 40
  assert 'encoder/patches/kernel' in (whole_run / 'parameters.txt').read_text()


def test_metrics_have_one_line_per_interval_with_counts_and_throughput(whole_run):
  records = metrics_lib.read_records(whole_run / 'metrics.jsonl')
  train, val = ([r for r in records if f'{g}/loss' in r] for g in ('train', 'val'))
  assert [r['step'] for r in train] == [2, 4, 6, 8, 10, 12] and [r['step'] for r in val] == [4, 8, 12]
  assert all(0 < r['train/count'] <= 2 * 8 * 4 and abs(sum(r['train/mode_used']) - 1) < 1e-6 for r in train)
  assert all(r['time/images_per_s'] > 0 and 0 <= r['time/data_wait_share'] <= 1 for r in train)
  # two validation clips of 40 frames, of which the last 10 have no full future
  assert {r['val/count'] for r in val} == {60.0}
  best = min(val, key=lambda r: r['val/ade_top'])
  store = CheckpointStore(whole_run / 'best', read_only=True)
  assert store.best() == best['step'] and store.description(best['step'])['metric'] == best['val/ade_top']
  rate = optim.learning_rate(1e-3, 1, 12)
  assert train[0]['optim/learning_rate'] == pytest.approx(float(rate(1)))


class Killed(BaseException):
  """Stands for the end of the process."""


def killed_at(monkeypatch, step):
  """From now on a run dies when it is about to fetch its `step`-th batch."""
  seen = []

  def fetch(self):
    seen.append(1)
    if len(seen) > step:
      raise Killed
    return original(self)

  original = pretrain.Feed.__next__
  monkeypatch.setattr(pretrain.Feed, '__next__', fetch)


def test_an_interrupted_run_ends_with_the_same_bits(whole_run, make_config, tmp_path, monkeypatch):
  workdir = tmp_path / 'run'
  for at in (2, 7):  # before the first checkpoint, and between two later ones (validation batches count too)
    with monkeypatch.context() as m:
      killed_at(m, at)
      with pytest.raises(Killed):
        pretrain.run(make_config(), workdir)
  assert 0 < max(whole_steps(workdir / 'checkpoints')) < 12
  pretrain.run(make_config(), workdir)
  assert_same_run(whole_run, workdir)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_can_be_resumed(
  whole_run, make_config, tmp_path, monkeypatch, number
):
  before = signal.getsignal(number)
  with monkeypatch.context() as m:
    original, count = pretrain.Feed.__next__, []

    def fetch(self):
      count.append(1)
      if len(count) == 2:
        os.kill(os.getpid(), number)
      return original(self)

    m.setattr(pretrain.Feed, '__next__', fetch)
    pretrain.run(make_config(), tmp_path / 'run')  # returns: nobody has to catch anything
  assert whole_steps(tmp_path / 'run' / 'checkpoints') == [2]
  assert signal.getsignal(number) == before
  pretrain.run(make_config(), tmp_path / 'run')
  assert_same_run(whole_run, tmp_path / 'run')


def test_a_complete_run_is_left_as_it_is(whole_run, make_config):
  before = {p: p.stat().st_mtime_ns for p in (whole_run / 'checkpoints').rglob('*') if p.is_file()}
  lines = (whole_run / 'metrics.jsonl').read_bytes()
  pretrain.run(make_config(), whole_run)
  assert {p: p.stat().st_mtime_ns for p in (whole_run / 'checkpoints').rglob('*') if p.is_file()} == before
  assert (whole_run / 'metrics.jsonl').read_bytes() == lines


def test_another_config_in_the_same_folder_is_an_error_that_lists_the_differences(whole_run, make_config):
  other = make_config(**{'optim.learning_rate': 2e-3, 'window.num_windows': 5, 'train.keep': 7})
  with pytest.raises(ValueError) as caught:
    pretrain.run(other, whole_run)
  text = str(caught.value)
  assert (
    'optim.learning_rate: stored 0.001, given 0.002' in text and 'window.num_windows: stored 4, given 5' in text
  )
  assert 'train.keep' not in text


def test_leaves_that_move_no_parameter_may_change(whole_run, make_config):
  neutral = {'train.log_every': 3, 'train.keep': 5, 'data.num_threads': 2, 'data.prefetch': 1}
  stored = json.loads(make_config().to_json())
  assert rundir.config_differences(stored, json.loads(make_config(**neutral).to_json())) == []
  known = rundir.flatten(stored)
  assert known.keys() >= rundir.NEUTRAL


def test_a_leaf_that_only_one_config_has_is_a_difference():
  lines = rundir.config_differences({'a': {'b': 1}}, {'a': {'b': 1, 'c': None}, 'd': 2})
  assert lines == ['a.c: stored nothing, given None', 'd: stored nothing, given 2']


def test_the_dataset_may_move_but_not_change(whole_run, make_config, drawn_dataset, tmp_path):
  moved = shutil.copytree(drawn_dataset, tmp_path / 'moved')
  pretrain.run(make_config(data=moved), whole_run)
  with pytest.raises(ValueError, match='started on other data'):
    rundir.check_data(whole_run, '0' * 64)
  pretrain.run(make_config(), whole_run)


def test_a_batch_that_does_not_fit_the_devices_is_refused_before_anything_is_written(make_config, tmp_path):
  with pytest.raises(
    ValueError, match=r'config.train.batch_segments=12 must be divisible by the 8 devices; use 8 or 16'
  ):
    pretrain.run(make_config(**{'train.batch_segments': 12}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'leaf, value, message',
  [
    ('train.keep', 0, 'train.keep=0 must be at least 1'),
    ('train.best_by', 'fde', "'ade_top' or 'loss'"),
    ('loss.assignment', 'nearest', 'pred_direction'),
    ('optim.ema_decay', 1.0, r'ema_decay=1.0 must be in \[0, 1\)'),
    ('optim.warmup_steps', 12, 'warmup_steps=12'),
    ('data.split_val', 'validation', "split_val='validation' must be one of"),
    ('data.path', '/nowhere', '/nowhere does not exist'),
  ],
)
def test_bad_values_are_named_with_their_rule(make_config, tmp_path, leaf, value, message):
  with pytest.raises(ValueError, match=message):
    pretrain.run(make_config(**{leaf: value}), tmp_path / 'run')


@pytest.mark.parametrize('leaf', ['flip_prob', 'photometric', 'hue'])
def test_augmentation_that_cannot_be_is_refused_before_anything_is_written(make_config, tmp_path, leaf):
  with pytest.raises(ValueError, match=f'{leaf}=9.0 must be'):
    pretrain.run(make_config(**{f'data.{leaf}': 9.0}), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_two_processes_cannot_train_in_one_folder(make_config, tmp_path):
  with rundir.locked(tmp_path), pytest.raises(ValueError, match='in use by another process'):
    pretrain.run(make_config(), tmp_path)


def test_a_checkpoint_of_another_model_or_process_count_is_refused(whole_run, tmp_path):
  stored = json.loads((whole_run / 'description.json').read_text())
  other = json.loads(json.dumps(stored))
  other['policy'].update(name='s2e_v1', width=768)
  variables = initial.initial_variables(load_policy(whole_run)[0].config, 0)
  fresh = optim.init_state(variables, optim.make_optimizer(variables['params'], 12, 1e-3, 1))
  with pytest.raises(ValueError) as caught:
    checkpoints.RunCheckpoints(whole_run, 2, other).restore_or(fresh)
  text = str(caught.value)
  assert "'s2e_tiny'" in text and "'s2e_v1'" in text and 'width: checkpoint 16, this run 768' in text
  copy = shutil.copytree(whole_run, tmp_path / 'run')
  path = copy / 'checkpoints' / '12' / 'description' / 'metadata'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'loader_states': ['', '']}))
  with pytest.raises(MismatchError, match='written by 2 processes, this run has 1'):
    checkpoints.RunCheckpoints(copy, 2, stored).restore_or(fresh)


def test_divergence_stops_the_run_and_names_the_steps(make_config, tmp_path):
  config = make_config(**{'optim.learning_rate': 1e30, 'train.max_bad_steps': 3, 'optim.warmup_steps': 0})
  with pytest.raises(optim.NonFiniteError, match=r'in the 3 steps \d+ \.\. \d+ '):
    pretrain.run(config, tmp_path / 'run')


def test_the_average_is_what_is_judged_and_loaded(make_config, tmp_path):
  config = make_config(**{'optim.ema_decay': 0.9, 'train.eval_every': 12})
  pretrain.run(config, tmp_path / 'run')
  stored = final_arrays(tmp_path / 'run')
  _, variables, description = load_policy(tmp_path / 'run', 'latest')
  kernel = lambda tree: tree['encoder']['patches']['kernel']
  np.testing.assert_array_equal(kernel(variables['params']), kernel(stored['policy']['params']))
  assert np.abs(kernel(stored['trainer']['params']) - kernel(variables['params'])).max() > 1e-5
  assert description['step'] == 12


def test_kmeans_anchors_come_from_the_training_end_points(make_config, tmp_path):
  config = make_config(**{'policy.anchor_kind': 'kmeans', 'policy.num_anchors': 3})
  setup = startup.prepare(config, tmp_path)
  anchors = np.array(setup.policy.config.anchors)
  # drives turn right, not at all, and left at 0.2 rad/s for 2.5 s: chords of arcs of 10 unit steps
  chord = 10 * np.sin(0.25) / 0.25
  expected = [[chord * np.cos(a), chord * np.sin(a)] for a in (-0.25, 0.25)]
  np.testing.assert_allclose(anchors[[0, 2]], expected, atol=0.3)
  np.testing.assert_allclose(anchors[1], [10, 0], atol=1e-3)


def test_a_policy_is_loaded_from_a_run_a_folder_or_a_checkpoint(whole_run):
  best = whole_steps(whole_run / 'best')[0]
  cases = [
    ((whole_run,), best),
    ((whole_run, 'latest'), 12),
    ((whole_run, 9), 9),
    ((whole_run / 'checkpoints', 'latest'), 12),
    ((whole_run / 'checkpoints' / '9',), 9),
    ((whole_run / 'best',), best),
  ]
  for args, step in cases:
    policy, variables, description = load_policy(*args)
    assert description['step'] == step
    assert variables['params'].keys() == {
      'encoder',
      'frame_proj',
      'goal',
      'context',
      'anchors',
      'decoder',
      'heads',
      'clearance',
    }
  stored = CheckpointStore(whole_run / 'best', read_only=True).load(best, 'policy')['policy']
  jax.tree.map(np.testing.assert_array_equal, variables, stored)
  out = jax.jit(policy.apply)(variables, example_observation(policy.config, 2))
  assert out.mean.shape == (2, 4, 10, 2)


@pytest.mark.parametrize('which, message', [(5, 'no checkpoint 5'), ('newest', "'best', 'latest' or a step")])
def test_a_checkpoint_that_is_not_there_says_which_are(whole_run, which, message):
  with pytest.raises(ValueError, match=message):
    load_policy(whole_run, which)


def test_a_share_of_the_training_clips_leaves_validation_as_it_is(make_config, tmp_path):
  sized = lambda share: sources.open_source(make_config(**{'data.train_share': share}), tmp_path, 16, 32)
  whole, half = sized(1.0), sized(0.5)
  assert half.val == whole.val and whole.train == sorted(whole.train)
  assert len(half.train) == 3 and set(half.train) < set(whole.train)
  with pytest.raises(ValueError, match=r'data.train_share=2.0 must lie in \(0, 1\]'):
    sized(2.0)


def test_no_folder_is_a_clear_error(tmp_path):
  with pytest.raises(ValueError, match='does not exist'):
    load_policy(tmp_path / 'none')
  with pytest.raises(ValueError, match='no checkpoint'):
    load_policy(tmp_path)


def test_arrays_that_are_not_those_described_list_their_paths(whole_run, tmp_path):
  folder = shutil.copytree(whole_run / 'best', tmp_path / 'best')
  path = folder / str(whole_steps(folder)[0]) / 'description' / 'metadata'
  description = json.loads(path.read_text())
  description['policy']['mlp_dim'] = 48
  path.write_text(json.dumps(description))
  with pytest.raises(MismatchError, match=r'params/context/layer_0_mlp/hidden/kernel is float32\[16, 24\]'):
    restore.load_policy(folder)


def test_validation_does_not_depend_on_the_number_of_devices(whole_run, make_config, monkeypatch):
  policy, variables, _ = load_policy(whole_run)
  setup = startup.prepare(make_config(), whole_run)
  results = []
  for num in (8, 2):
    devices = jax.devices()[:num]
    with monkeypatch.context() as m:
      m.setattr(parallel.jax, 'local_devices', lambda d=devices: d)
      m.setattr(parallel.jax, 'local_device_count', lambda n=num: n)
      loader = pretrain.sources.val_loader(setup.source, setup.spec, policy.config, make_config())
      step = parallel.pmap_local(pretrain.make_eval_step(policy, pretrain.LossOptions()))
      results.append(pretrain.validate(step, parallel.replicate(variables), loader))
  for name, value in results[0].items():
    np.testing.assert_allclose(value, results[1][name], rtol=1e-5)


def test_imported_weights_are_where_the_encoder_starts_and_are_not_needed_to_resume(
  whole_run, make_config, tmp_path, monkeypatch
):
  def imported(config, variables):
    params = variables['params']
    zeros = jax.tree.map(jax.numpy.zeros_like, params['encoder'])
    return dataclasses.replace(config, image_mean=(0.1, 0.2, 0.3)), {'params': params | {'encoder': zeros}}

  monkeypatch.setattr(initial, 'with_imported_encoder', imported)
  setup = startup.prepare(make_config(), tmp_path)
  assert setup.policy.config.image_mean == (0.1, 0.2, 0.3)
  assert not any(leaf.any() for leaf in jax.tree.leaves(setup.initial_state.params['encoder']))
  assert json.loads((tmp_path / 'description.json').read_text())['policy']['image_mean'] == [0.1, 0.2, 0.3]
  monkeypatch.setattr(initial, 'with_imported_encoder', lambda *a: pytest.fail('must not read the weights again'))
  resumed = startup.prepare(make_config(), whole_run)
  assert resumed.policy.config == load_policy(whole_run)[0].config


def test_a_run_can_start_from_the_parameters_and_anchors_of_another(whole_run, make_config, tmp_path):
  trained, variables, _ = load_policy(whole_run)
  setup = startup.prepare(make_config(seed=7, init_from=str(whole_run)), tmp_path)
  jax.tree.map(np.testing.assert_array_equal, setup.initial_state.params, variables['params'])
  assert setup.policy.config.anchors == trained.config.anchors
  assert setup.initial_state.step == 0


def test_the_auxiliary_head_goes_with_the_parameters(whole_run, make_config, tmp_path):
  config = make_config(init_from=str(whole_run), **{'policy.clearance_head': False})
  assert startup.prepare(config, tmp_path).policy.config.clearance_head


@pytest.mark.parametrize(
  'leaves, message',
  [
    ({'policy.mlp_dim': 48}, 'mlp_dim: checkpoint 24, this run 48'),
    ({'policy.num_anchors': 5}, '5'),
    ({'policy.encoder_weights': 'w.npz'}, 'give one of them'),
  ],
)
def test_a_start_that_does_not_fit_is_refused(whole_run, make_config, tmp_path, leaves, message):
  with pytest.raises(ValueError, match=message):
    startup.prepare(make_config(init_from=str(whole_run), **leaves), tmp_path)


def test_starting_from_a_checkpoint_of_another_camera_must_be_asked_for(
  whole_run, make_config, tmp_path, monkeypatch
):
  described = initial.sources.describe

  def higher(*args):
    text = described(*args)
    contract = dict(text['camera_contract'])
    return text | {'camera_contract': contract | {'mount_height': [v + 1.0 for v in contract['mount_height']]}}

  monkeypatch.setattr(initial.sources, 'describe', higher)
  with pytest.raises(ValueError, match=r'mount_height: .*allow_other_camera=True'):
    startup.prepare(make_config(init_from=str(whole_run)), tmp_path)
  (tmp_path / 'allowed').mkdir()
  startup.prepare(make_config(init_from=str(whole_run), allow_other_camera=True), tmp_path / 'allowed')
