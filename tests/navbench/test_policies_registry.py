"""Contenders by name and by file; nothing is compiled here but two small policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.closedloop.policies import Told, camera_policy
from s2e_jax.contracts import camera_contract
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.navbench.policies import registry
from s2e_jax.navbench.policies.one_shape import in_one_shape
from s2e_jax.navbench.policies.onnx_contract import S2E_RELEASED
from s2e_jax.navbench.policies.registry import make_contenders
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.render.render import Pictures
from s2e_jax.robots import ROBOTS
from s2e_jax.store.checkpoint import CheckpointStore
from s2e_jax.structs import Observation

ROBOT = ROBOTS['delivery']
LIMITS = CommandLimits.of(ROBOT)
SMALL = dict(
  image_height=32, image_width=48, num_history=2,
  width=32, num_context_layers=1, num_decoder_layers=1, num_heads=2, mlp_dim=48,
)  # fmt: skip


def variables_of(config):
  """Drawn on the host, which takes no compiling."""
  policy = Policy(config)
  shapes = jax.eval_shape(policy.init, jax.random.key(0), example_observation(config))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: rng.normal(0.0, 0.1, x.shape).astype(x.dtype), dict(shapes))


@pytest.fixture(scope='module')
def run_of(tmp_path_factory):
  """name, camera height, rate -> folder of a run with an untrained policy."""
  folder = tmp_path_factory.mktemp('runs')

  def of(name, height=0.6, rate=4.0, more=None, **changes):
    config = policy_config('s2e_tiny', **(SMALL | changes))
    mount = dataclasses.replace(ROBOT.mount, height=height)
    size = config.image_height, config.image_width
    contract = camera_contract(*size, config.num_history, rate, [mount.camera(*size)])
    store = CheckpointStore(folder / name / 'best', by_metric=True)
    description = {'policy': config.to_dict(), 'camera_contract': contract, **(more or {})}
    store.save(3, {'policy': variables_of(config)}, description, metric=1.0)
    store.close()
    return folder / name

  return of


@pytest.fixture(scope='module')
def bc(run_of):
  return run_of('bc')


def test_contenders_are_made_of_names_and_files(bc, run_of):
  single = run_of('single', num_anchors=1)
  again = run_of('full')
  names = ('stand_still', 'straight_to_goal', 'constant_arc(0.5,-0.2)', 'constant_arc', 'reactive', 'expert')
  lineup = make_contenders(names, [bc, single / 'best' / '3', again / 'best'], ROBOT)
  by_name = {c.name: c for c in lineup.contenders}
  assert list(by_name) == ['bc', 'single', 'full', *names] and not lineup.notes
  assert by_name['bc'].policy is by_name['full'].policy is not by_name['single'].policy
  assert by_name['stand_still'].policy is by_name['straight_to_goal'].policy
  np.testing.assert_allclose(by_name['constant_arc(0.5,-0.2)'].params, [0.5, -0.2])
  np.testing.assert_allclose(by_name['constant_arc'].params, [0.75, 0.0])
  assert by_name['expert'].policy.is_privileged
  assert {n: (c.policy.senses, c.policy.goal) for n, c in by_name.items()} == {
    'bc': (('rgb',), 'point'),
    'single': (('rgb',), 'point'),
    'full': (('rgb',), 'point'),
    'stand_still': ((), 'point'),
    'straight_to_goal': ((), 'point'),
    'constant_arc(0.5,-0.2)': ((), 'none'),
    'constant_arc': ((), 'none'),
    'reactive': (('depth',), 'point'),
    'expert': ((), 'point'),
  }
  assert lineup.models['single'] == {
    'path': str(single / 'best' / '3'), 'model': 's2e_tiny', 'step': 3,
    'method': None, 'seed': None, 'num_anchors': 1,
  }  # fmt: skip


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (('genius',), r"baselines=\['genius'\] are unknown: choose from"),
    (('reactive', 'reactive'), r"\['reactive'\] are given twice"),
    (('bc',), r"\['bc'\] are unknown"),
    (('constant_arc(9,0)',), r'delivery drives -0\.4 to 1\.5 m/s and turns up to 1\.5 rad/s'),
  ],
)
def test_names_are_checked(bc, names, message):
  with pytest.raises(ValueError, match=message):
    make_contenders(names, [bc], ROBOT)


def test_equal_and_missing_files_are_refused(bc, tmp_path):
  with pytest.raises(ValueError, match=r"\['bc'\] are given twice: rename a folder"):
    make_contenders((), [bc, bc / 'best'], ROBOT)
  with pytest.raises(ValueError, match='nowhere does not exist'):
    make_contenders((), [tmp_path / 'nowhere'], ROBOT)
  with pytest.raises(ValueError, match='nobody to judge'):
    make_contenders((), [], ROBOT)
  with pytest.raises(ValueError, match=r"contracts of \['other'\] belong to no ONNX file"):
    make_contenders((), [bc], ROBOT, contracts={'other': S2E_RELEASED})


@pytest.mark.parametrize('part', ['', 'best', 'best/40', 'checkpoints', 'checkpoints/20'])
def test_runs_are_named_after_their_folders_and_those_of_a_sweep_after_its_too(tmp_path, part):
  for run in ('bc', 'rewards/000', 'rewards/011'):
    (tmp_path / run / 'best' / '40').mkdir(parents=True)
    (tmp_path / run / 'checkpoints' / '20').mkdir(parents=True)
  names = [registry.name_of(tmp_path / run / part) for run in ('bc', 'rewards/000', 'rewards/011')]
  assert names == ['bc', 'rewards_000', 'rewards_011']


def test_another_camera_or_rate_is_refused_by_name_unless_allowed(run_of):
  high, fast = run_of('high', height=1.6), run_of('fast', rate=5.0)
  with pytest.raises(
    ValueError,
    match=r"high cannot drive the robot 'delivery': .*trained with 1\.60.*given 0\.60.*allow_other_camera",
  ):
    make_contenders((), [high], ROBOT)
  with pytest.raises(ValueError, match=r'fast cannot drive .*rate: trained with 5 Hz, given 4 Hz'):
    make_contenders((), [fast], ROBOT)
  notes = make_contenders((), [high, fast], ROBOT, allow_other_camera=True).notes
  assert len(notes) == 2 and notes[0].startswith('high was trained with another camera: mount_height')
  # those of the worlds may be others than the robot's own
  mount = dataclasses.replace(ROBOT.mount, height=1.6)
  assert make_contenders((), [high], ROBOT, cameras=lambda h, w: [mount.camera(h, w)]).notes == []


def test_how_a_checkpoint_was_made_is_told_and_another_robot_noted(run_of):
  robot = dataclasses.asdict(ROBOTS['coco'])
  more = {'kind': 'finetune', 'config': {'seed': 5}, 'finetuned': {'variant': 'ram', 'robot': robot}}
  pretrained = run_of('pretrained', more={'kind': 'pretrain', 'config': {'seed': 2}})
  lineup = make_contenders((), [run_of('ram', more=more), pretrained], ROBOT)
  assert [(m['method'], m['seed']) for m in lineup.models.values()] == [('ram', 5), ('pretrained', 2)]
  assert any(
    n.startswith('ram was finetuned on another robot: drive: trained with ackermann') for n in lineup.notes
  )


def test_onnx_files_are_taken_by_contract(bc, tmp_path, monkeypatch):
  """The model itself is not opened here."""
  opened = []
  monkeypatch.setattr(registry, 'onnx_policy', lambda path, contract, *rest: opened.append((path, contract)))
  slow = dataclasses.replace(S2E_RELEASED, name='slow', rate=2.0)
  lineup = make_contenders((), [tmp_path / 's2e.onnx', bc], ROBOT)
  assert [c.name for c in lineup.contenders] == ['s2e', 'bc'] and opened == [(tmp_path / 's2e.onnx', S2E_RELEASED)]
  assert lineup.models['s2e']['model'] == 'S2E_RELEASED'
  assert lineup.notes == ['The camera that s2e was trained with is not known, and was not compared.']
  with pytest.raises(ValueError, match=r's2e cannot drive .*rate: trained with 2 Hz, given 4 Hz'):
    make_contenders((), [tmp_path / 's2e.onnx'], ROBOT, contracts={'s2e': slow})
  assert make_contenders((), [tmp_path / 's2e.onnx'], ROBOT, contracts={'s2e': slow}, allow_other_camera=True)


def test_a_policy_of_one_anchor_drives_by_its_only_mode_and_goal_free_ones_without_the_goal():
  """The unimodal regressor, and the same with the goal masked."""
  config = policy_config('s2e_tiny', **SMALL, num_anchors=1)
  variables = variables_of(config)
  rng = np.random.default_rng(3)
  frames = jnp.asarray(rng.integers(0, 256, (2, 32, 48, 3), np.uint8))
  goal = jnp.asarray([[5.0, 3.0], [2.0, -6.0]])
  found = []
  for given in ('point', 'none'):
    policy = camera_policy(config, LIMITS, goal=given)
    assert policy.goal == given
    shown = Told(goal, jnp.ones(2, bool), jnp.zeros(2), jnp.zeros(2))
    command, _ = jax.jit(policy.act)(variables, policy.init(shown), shown, Pictures(rgb=frames))
    observation = Observation(jnp.repeat(frames[:, None], 2, axis=1), goal, jnp.full(2, given == 'point'))
    mixture = jax.jit(Policy(config).apply)(variables, observation)
    assert mixture.logits.shape == (2, 1)
    expected = trajectory_to_command(mixture.waypoints_in_robot[:, 0], LIMITS)
    np.testing.assert_allclose(command, expected, atol=1e-5)
    found.append(np.asarray(command))
  assert (np.abs(found[0] - found[1]) > 1e-5).any()
  with pytest.raises(ValueError, match="goal='image' must be 'point' or 'none'"):
    camera_policy(config, LIMITS, goal='image')


def test_checkpoints_share_a_program_if_they_can_and_drive_as_alone():
  bc = policy_config('s2e_tiny', **SMALL, clearance_head=True)
  ram = dataclasses.replace(bc, ram_input='query', clearance_head=False)
  single = policy_config('s2e_tiny', **SMALL, clearance_head=True, num_anchors=1)
  given = [(config, variables_of(config)) for config in (bc, ram, single)]
  found = in_one_shape(given)
  assert found[0][0] == found[1][0] == ram and jax.tree.structure(found[0][1]) == jax.tree.structure(found[1][1])
  assert found[2][0] == dataclasses.replace(single, clearance_head=False)  # there is no other of one anchor
  jax.tree.map(np.testing.assert_array_equal, found[1][1], given[1][1])
  one = jax.tree.map(lambda x: jnp.full(x.shape, 0.3).astype(x.dtype), example_observation(bc))
  alone, shared = (Policy(c).apply(v, one) for c, v in (given[0], found[0]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, shared)
