"""The finetuning run on the toy world: what it writes, exact resume, rollback, bad input."""

import json

import jax
import numpy as np
import pytest

from configs import finetune as finetune_config
from s2e_jax.policy.residual import strip_residual
from s2e_jax.robots import ROBOTS
from s2e_jax.store.metrics import read_records
from s2e_jax.training import finetune, finetune_startup, pretrain
from s2e_jax.training.optim import NonFiniteError
from s2e_jax.training.restore import load_policy
from tests.training.toy_finetune import ENVS, HORIZON, config_of
from tests.training.toy_world import ToyBatch, toy_expert

pytestmark = pytest.mark.usefixtures('compiled_quickly')


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory, drawn_dataset, make_config):
  """Run folder of a policy of a few thousand parameters."""
  path = tmp_path_factory.mktemp('pretrained') / 'run'
  pretrain.run(make_config(), path)
  return path


@pytest.fixture
def toy(monkeypatch):
  """Puts the toy world in the place of the simulator; returns the list of environments per device asked for."""
  asked = []

  def make_batch(config, num_envs, *unused):
    asked.append((num_envs, config.picture.height, config.picture.width))
    return ToyBatch(num_envs)

  monkeypatch.setattr('s2e_jax.sim.settings.make_batch', make_batch)
  monkeypatch.setattr(
    's2e_jax.training.imitation.make_expert', lambda env, options: toy_expert(options.expert_share)
  )
  return asked


def bits_of(run, step='latest'):
  """All arrays of a checkpoint, by path."""
  from s2e_jax import trees
  from s2e_jax.store.checkpoint import CheckpointStore

  store = CheckpointStore(run / 'checkpoints', read_only=True)
  tree = store.load(store.latest() if step == 'latest' else step, 'policy', 'trainer', 'actors')
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


def assert_same_bits(run, other_run):
  """The newest checkpoints of two runs hold the same arrays."""
  one, other = bits_of(run), bits_of(other_run)
  assert one.keys() == other.keys()
  for path, value in one.items():
    np.testing.assert_array_equal(value, other[path], err_msg=path)


def test_a_run_writes_a_policy_metrics_and_its_description_and_resumes_bit_for_bit(
  toy, pretrained, tmp_path, monkeypatch
):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  finetune.run(config_of(pretrained), whole)
  assert toy[0] == (ENVS // jax.device_count(), 16, 32)
  records = read_records(whole / 'metrics.jsonl')
  assert (whole / 'curves.png').stat().st_size > 10_000
  assert [r['step'] for r in records] == [2, 4, 6] and records[-1]['policy_steps'] == 6 * ENVS * HORIZON
  for name in ('episodes/success', 'rollout/reward/fit', 'ppo/kl', 'ppo/explained_variance', 'time/rollout_share'):
    assert np.isfinite(records[-1][name])
  description = json.loads((whole / 'description.json').read_text())
  assert description['finetuned']['variant'] == 'ram' and description['finetuned']['robot']['name'] == 'delivery'

  # what was pretrained is in it, bit for bit, and the branches have moved
  _, before, _ = load_policy(pretrained)
  policy, after, stored = load_policy(whole, 'latest')
  assert policy.config.ram_input == 'query' and stored['kind'] == 'finetune'
  plain = strip_residual(after['params'])
  kept = {group: tree for group, tree in before['params'].items() if group != 'clearance'}  # served pretraining
  for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(plain), strict=True):
    np.testing.assert_array_equal(x, y)
  residual = after['params']['decoder']['block_0']['residual']
  assert np.abs(np.asarray(residual['z_out']['kernel'])).max() > 0

  class Interrupted(Exception):
    pass

  # killed after iteration 3: one iteration after the last checkpoint
  add = finetune.Interval.add
  calls = []

  def add_or_die(self, *args):
    calls.append(1)
    if len(calls) == 4:
      raise Interrupted
    add(self, *args)

  monkeypatch.setattr(finetune.Interval, 'add', add_or_die)
  with pytest.raises(Interrupted):
    finetune.run(config_of(pretrained), parts)
  monkeypatch.setattr(finetune.Interval, 'add', add)
  finetune.run(config_of(pretrained), parts)
  assert_same_bits(whole, parts)
  strip = lambda rs: [{k: v for k, v in r.items() if not k.startswith('time/')} for r in rs]
  assert strip(read_records(parts / 'metrics.jsonl')) == strip(records)
  with monkeypatch.context() as m:  # complete: nothing to do, on any number of devices
    m.setattr(finetune.FinetuneCheckpoints, 'restore_or', None)
    finetune.run(config_of(pretrained), parts)
  with pytest.raises(ValueError, match='another config'):
    finetune.run(config_of(pretrained, **{'ppo.clip': 0.1}), parts)


class Exam:
  """In the place of `Trials`: a list of what it was asked about, and successes that it finds one after another."""

  successes, held, filmed = (0.2, 0.5, 0.4, 0.5), [], []

  def __init__(self, config, agent, workdir):
    self.every = config.trials.every

  def is_due(self, iteration, last):
    return bool(self.every) and (iteration % self.every == 0 or iteration == last)

  def hold(self, variables):
    self.held.append(variables)
    return {'validation/success': self.successes[len(self.held) - 1], 'validation/route_completion': 0.5}

  def film(self):
    self.filmed.append(len(self.held))


def test_trials_are_recorded_and_the_best_checkpoint_is_the_one_to_use(toy, pretrained, tmp_path, monkeypatch):
  monkeypatch.setattr(Exam, 'held', [])
  monkeypatch.setattr(Exam, 'filmed', [])
  monkeypatch.setattr(finetune, 'Trials', Exam)
  finetune.run(config_of(pretrained, **{'trials.every': 2}), tmp_path)
  records = [r for r in read_records(tmp_path / 'metrics.jsonl') if 'validation/success' in r]
  assert [(r['step'], r['validation/success']) for r in records] == [(0, 0.2), (2, 0.5), (4, 0.4), (6, 0.5)]
  assert Exam.filmed == [4]
  _, best, description = load_policy(tmp_path)
  assert description['step'] == 2 and description['validation']['validation/success'] == 0.5
  for x, y in zip(jax.tree.leaves(best), jax.tree.leaves(Exam.held[1]), strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_better_trial_after_a_rollback_is_kept_too(toy, pretrained, tmp_path, monkeypatch):
  monkeypatch.setattr(Exam, 'held', [])
  monkeypatch.setattr(Exam, 'successes', (0.1, 0.3, 0.6, 0.2, 0.2))
  monkeypatch.setattr(finetune, 'Trials', Exam)
  calls = []

  def has_failed(*unused):
    calls.append(1)
    return 'broken' if len(calls) == 3 else ''

  monkeypatch.setattr(finetune, 'has_failed', has_failed)
  # iteration 3 fails, the last checkpoint is that of iteration 0: iteration 2 is tried twice
  finetune.run(config_of(pretrained, **{'trials.every': 2, 'train.checkpoint_every': 6}), tmp_path)
  assert len(Exam.held) == 5
  _, best, description = load_policy(tmp_path)
  assert description['counters']['iteration'] == 2 and description['validation']['validation/success'] == 0.6
  for x, y in zip(jax.tree.leaves(best), jax.tree.leaves(Exam.held[2]), strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_run_killed_before_its_first_checkpoint_but_one_goes_on_bit_for_bit(
  toy, pretrained, tmp_path, monkeypatch
):
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  finetune.run(config_of(pretrained), whole)
  add = finetune.Interval.add

  def die(self, *args):
    raise KeyboardInterrupt

  monkeypatch.setattr(finetune.Interval, 'add', die)
  with pytest.raises(KeyboardInterrupt):
    finetune.run(config_of(pretrained), parts)
  monkeypatch.setattr(finetune.Interval, 'add', add)
  finetune.run(config_of(pretrained), parts)
  assert_same_bits(whole, parts)


def test_a_supervised_run_resumes_bit_for_bit_with_what_the_expert_remembers(
  toy, pretrained, tmp_path, monkeypatch
):
  config = lambda: config_of(pretrained, variant='dagger', **{'imitation.expert_share': 0.5})
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  finetune.run(config(), whole)
  records = read_records(whole / 'metrics.jsonl')
  for name in ('imitation/loss', 'imitation/error_v', 'imitation/error_w', 'episodes/success', 'rollout/reward'):
    assert np.isfinite([r[name] for r in records]).all()
  assert not any(name.startswith('ppo/') for name in records[-1])
  assert records[-1]['imitation/learning_rate'] == pytest.approx(3e-4)
  description = json.loads((whole / 'description.json').read_text())
  assert description['finetuned']['variant'] == 'dagger' and description['policy']['ram_input'] == 'query'

  # stopped after iteration 3, an odd number of iterations after the last checkpoint
  has_failed, calls = finetune.has_failed, []

  def fail_or_die(*args):
    calls.append(1)
    if len(calls) == 4:
      raise KeyboardInterrupt
    return has_failed(*args)

  monkeypatch.setattr(finetune, 'has_failed', fail_or_die)
  with pytest.raises(KeyboardInterrupt):
    finetune.run(config(), parts)
  monkeypatch.setattr(finetune, 'has_failed', has_failed)
  finetune.run(config(), parts)
  one, other = bits_of(whole), bits_of(parts)
  assert (
    one.keys() == other.keys() and {'actors/guidance/memory/count', 'actors/guidance/is_driving'} <= one.keys()
  )
  assert len(np.unique(one['actors/guidance/is_driving'])) == 2
  for path, value in one.items():
    np.testing.assert_array_equal(value, other[path], err_msg=path)


def test_a_policy_that_fails_goes_back_to_the_last_checkpoint_and_gives_up_in_the_end(
  toy, pretrained, tmp_path, monkeypatch
):
  fails = []

  def has_failed(figures, counts, collapse_entropy):
    fails.append(1)
    return 'broken' if len(fails) in (3, 6) else ''

  monkeypatch.setattr(finetune, 'has_failed', has_failed)
  finetune.run(config_of(pretrained, **{'ppo.target_kl': 0.0}), tmp_path / 'run')
  records = read_records(tmp_path / 'run' / 'metrics.jsonl')
  assert [r['step'] for r in records] == [2, 4, 6]
  rates = [r['ppo/learning_rate'] for r in records]
  assert rates[1] == pytest.approx(rates[0] / 2) and rates[2] == pytest.approx(rates[0] / 4)

  monkeypatch.setattr(finetune, 'has_failed', lambda *unused: 'broken')
  with pytest.raises(NonFiniteError, match='after 1 rollbacks'):
    finetune.run(config_of(pretrained, **{'train.max_rollbacks': 1}), tmp_path / 'other')


def test_failure_is_told_from_figures():
  counts = {'score_entropy': 80.0, 'steps': 100.0, 'mode_used': np.ones(4)}
  figures = {'policy_loss': 0.1, 'bad_updates': 0.0}
  assert finetune.has_failed(figures, counts, 0.01) == ''
  assert '2 updates' in finetune.has_failed(figures | {'bad_updates': 2.0}, counts, 0.01)
  assert 'one mode took all' in finetune.has_failed(figures, counts | {'score_entropy': 0.5}, 0.01)
  assert finetune.has_failed(figures, counts | {'score_entropy': 0.0, 'mode_used': np.ones(1)}, 0.01) == ''

  supervised = {'loss': 0.1, 'bad_updates': 0.0}
  assert finetune.has_failed(supervised, counts | {'score_entropy': 0.5}, 0.01) == ''  # sure of its modes
  assert '1 updates' in finetune.has_failed(supervised | {'bad_updates': 1.0}, counts, 0.01)
  assert 'not finite' in finetune.has_failed(supervised | {'loss': np.nan}, counts, 0.01)


BAD = {
  'variant': ('rem', "config.variant='rem' must be one of"),
  'checkpoint': ('', 'give it by config.checkpoint=RUN'),
  'num_envs': (12, 'num_envs=12 must be divisible by the 8 devices'),
  'ppo.horizon': (0, 'config.ppo.horizon=0'),
  'ppo.num_minibatches': (5, 'must divide the 2 environments x 4 steps'),
  'ppo.chunk': (3, 'config.ppo.chunk=3 must divide the 4 samples'),
  'ppo.clip': (0.0, 'ppo.clip=0.0'),
  'ppo.group': (4, r'config.ppo.group=4 must divide the 2 environments of a device'),
  'trials.episodes': (0, 'config.trials.episodes=0 must be at least 1'),
  'train.steps': (0, 'config.train.steps=0'),
  'ram_input': ('both', 'ram_input'),
  'exploration.std': ((0.0, 0.1), 'exploration std'),
  'exploration.temperature': (0.0, 'config.exploration.temperature=0.0 must be > 0'),
  'controller.rule': ('line', "config.controller.rule='line'"),
  'imitation.std': ((0.1, 0.0), 'imitation.std='),
  'imitation.judged_weight': (-1.0, 'imitation.judged_weight=-1.0'),
  'imitation.expert_share': (1.5, 'imitation.expert_share=1.5'),
  'controller.lookahead': (0, 'config.controller.lookahead=0'),
}


@pytest.mark.parametrize(
  ('variant', 'envs', 'horizon', 'chunk', 'expected'),
  [
    ('ram', 2048, 32, -1, 128),  # 256 environments a device, 2,048 samples in a minibatch
    ('ram', 24, 6, -1, 9),  # 3 environments a device: 9 samples
    ('ram', 2048, 32, 0, 0),
    ('ram', 2048, 32, 64, 64),
    ('ppo_full', 2048, 32, -1, 4),  # environments: 4 of them hold 128 steps
  ],
)
def test_the_chunk_suits_the_backend_and_divides_a_minibatch(variant, envs, horizon, chunk, expected):
  config = config_of('x', variant=variant, num_envs=envs, **{'ppo.horizon': horizon, 'ppo.chunk': chunk})
  config.ppo.num_minibatches = 2 if horizon == 6 else 4
  assert finetune_startup.chunk_size(config) == expected


@pytest.mark.parametrize('leaf', BAD)
def test_bad_numbers_are_named_before_anything_is_written(toy, pretrained, tmp_path, leaf):
  value, message = BAD[leaf]
  config = config_of(pretrained)
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict({leaf: value})
  with pytest.raises(ValueError, match=message):
    finetune.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_environments_that_cannot_be_shared_by_minibatches_are_refused_where_the_trunk_trains(
  toy, pretrained, tmp_path
):
  with pytest.raises(ValueError, match='must divide the 2 environments of each'):
    finetune.run(config_of(pretrained, variant='ppo_full', **{'ppo.num_minibatches': 4}), tmp_path / 'run')


def test_another_camera_is_refused_and_both_are_named(toy, pretrained, tmp_path):
  with pytest.raises(ValueError, match=r'trained with .* given .*allow_other_camera=True'):
    finetune.run(config_of(pretrained, allow_other_camera=False), tmp_path / 'run')


def test_a_checkpoint_that_is_not_there_is_named(toy, tmp_path):
  with pytest.raises(ValueError, match='does not exist'):
    finetune.run(config_of(tmp_path / 'nothing'), tmp_path / 'run')


def test_unknown_variants_have_no_config():
  with pytest.raises(ValueError, match="variant='ppo' must be one of"):
    finetune_config.get_config('variant=ppo')


def test_supervised_variants_have_their_own_defaults_and_need_commands(toy, pretrained, tmp_path):
  shares, starts, judged = {}, {}, {}
  for variant in ('sft', 'sft_full', 'dagger'):
    config = finetune_config.get_config(f'variant={variant},checkpoint=x')
    shares[variant], starts[variant] = config.imitation.expert_share, config.curriculum.start
    judged[variant] = config.imitation.judged_weight
    assert config.optim.learning_rate == (1e-4 if variant == 'sft_full' else 3e-4)
  assert shares == {'sft': 1.0, 'sft_full': 1.0, 'dagger': 0.0}
  assert starts == judged == {'sft': 0.0, 'sft_full': 0.0, 'dagger': 1.0}
  with pytest.raises(ValueError, match=r'temperature=0.5 is for PPO, which draws modes; dagger needs 1'):
    finetune.run(config_of(pretrained, variant='dagger', **{'exploration.temperature': 0.5}), tmp_path / 'run')
  with pytest.raises(ValueError, match=r'config\.env\.action=.unit. must be command'):
    finetune.run(config_of(pretrained, variant='sft', **{'env.action': 'unit'}), tmp_path / 'run')


def test_another_robot_than_that_of_an_earlier_finetuning_is_refused_and_both_are_named(
  toy, pretrained, tmp_path, monkeypatch
):
  finetune.run(config_of(pretrained, **{'train.steps': ENVS * HORIZON}), tmp_path / 'first')
  monkeypatch.setattr('tests.training.toy_world.ROBOTS', {'delivery': ROBOTS['coco']})
  config = config_of(tmp_path / 'first', which='latest')
  with pytest.raises(ValueError, match=r'footprint: trained with .*0\.\d+.* given .*allow_other_robot=True'):
    finetune.run(config, tmp_path / 'second')
  assert not (tmp_path / 'second' / 'config.json').exists()
