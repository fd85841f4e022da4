"""Policies in ONNX files: what they must take and give, and that they command what their formula says."""

import dataclasses
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.closedloop.policies import Told
from s2e_jax.contracts import camera_contract
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.navbench.policies.onnx_contract import (
  S2E_RELEASED,
  OnnxContract,
  Tensor,
  check_contract_camera,
  check_signature,
  chosen,
  packed,
)
from s2e_jax.navbench.policies.onnx_policy import onnx_policy
from s2e_jax.policy.context import goal_features
from s2e_jax.render.render import Pictures
from s2e_jax.robots import ROBOTS

LIMITS = CommandLimits.of(ROBOTS['delivery'])
SMALL = OnnxContract('small', 6, 8, 3, 'obs', 'plan', goal='target', scale=0.5, horizon=4, scores='score')
RELEASED_INPUTS = [Tensor('obs_images', (1, 11, 3, 256, 256)), Tensor('goal', (1, 3))]
RELEASED_OUTPUTS = [Tensor('wp_pred', (1, 10, 3)), Tensor('wp_pred_score', (1, 10))]


def weights(contract, num_modes, seed=0):
  """W [K + 3, M * H * 3] of the tiny network."""
  rng = np.random.default_rng(seed)
  return rng.normal(0, 0.5, (contract.num_history + 3, num_modes * contract.horizon * 3)).astype(np.float32)


def write_model(path, contract, batch, num_modes=0):
  """plan = tanh([mean of every frame, goal] W), as [B, H, 3] or [B, M, H, 3]; scores = first waypoints' x."""
  onnx = pytest.importorskip('onnx', reason='needs the dev extra: onnx')
  pytest.importorskip('onnxruntime', reason='needs the extra s2e_jax[onnx]: onnxruntime')
  helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
  modes = (num_modes,) if num_modes else ()
  shape = (*modes, contract.horizon, 3)
  named = dict(w=weights(contract, num_modes or 1), axes=np.array([2, 3, 4]), shape=np.array([-1, *shape]))
  scores = contract.scores or 'wp_pred_score'
  nodes = [
    helper.make_node('ReduceMean', [contract.frames, 'axes'], ['means'], keepdims=0),
    helper.make_node('Concat', ['means', contract.goal], ['features'], axis=1),
    helper.make_node('MatMul', ['features', 'w'], ['product']),
    helper.make_node('Tanh', ['product'], ['flat']),
    helper.make_node('Reshape', ['flat', 'shape'], [contract.output]),
    helper.make_node('ReduceSum', [contract.output, 'last'], [scores], keepdims=0),
  ]
  named['last'] = np.array([2, 3]) if num_modes else np.array([2])
  values = lambda tensors: [helper.make_tensor_value_info(t.name, kind, [batch, *t.dims[1:]]) for t in tensors]
  outputs = [
    Tensor(contract.output, (batch, *shape)),
    Tensor(scores, (batch, *(shape[:1] if num_modes else shape[:-1]))),
  ]
  graph = helper.make_graph(
    nodes, 'tiny', values(contract.inputs()), values(outputs),
    [numpy_helper.from_array(value, name) for name, value in named.items()],
  )  # fmt: skip
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
  onnx.checker.check_model(model)
  path.write_bytes(model.SerializeToString())
  return path


def waypoints_by_formula(contract, frames, goal, num_modes=0):
  """The same in numpy, metres, of the mode that is judged."""
  features = np.concatenate([frames.mean((2, 3, 4)) / 255, np.asarray(goal_features(jnp.asarray(goal)))], axis=1)
  plan = np.tanh(features @ weights(contract, num_modes or 1)).reshape(len(frames), -1, contract.horizon, 3)
  best = plan.sum((2, 3)).argmax(1) if num_modes else np.zeros(len(frames), int)
  return plan[np.arange(len(frames)), best][..., :2] * contract.scale


def drive_and_compare(policy, contract, num, num_modes=0):
  """Three steps inside a jitted loop, an episode beginning in between, against the formula on stacks by hand."""
  rng = np.random.default_rng(1)
  bright = rng.uniform(0, 255, (3, num, 1, 1, 1))
  seen = (bright * rng.random((3, num, contract.height, contract.width, 3))).astype(np.uint8)
  goals = rng.uniform(-9, 9, (3, num, 2)).astype(np.float32)
  is_first = np.array([[True] * num, [False] * num, [True] + [False] * (num - 1)])
  still = jnp.zeros(num)

  @jax.jit
  def drive(seen, goals, is_first):
    told = lambda t: Told(goals[t], is_first[t], still, still)

    def step(carry):
      t, memory, commands = carry
      command, memory = policy.act(None, memory, told(t), Pictures(rgb=seen[t]))
      return t + 1, memory, commands.at[t].set(command)

    start = jnp.zeros((), jnp.int32), policy.init(told(0)), jnp.zeros((3, num, 2))
    return jax.lax.while_loop(lambda carry: carry[0] < 3, step, start)[2]

  found = np.asarray(drive(seen, goals, is_first))
  for t in range(3):
    for b in range(num):
      first = max(s for s in range(t + 1) if is_first[s, b])
      stack = np.stack([seen[max(first, t - k), b] for k in reversed(range(contract.num_history))])
      expected = waypoints_by_formula(contract, stack[None], goals[t, b][None], num_modes)
      np.testing.assert_allclose(found[t, b], trajectory_to_command(jnp.asarray(expected), LIMITS)[0], atol=2e-4)
  assert np.ptp(found, axis=(0, 1)).min() > 0.01


def test_the_released_contract_drives_by_its_formula(tmp_path):
  policy = onnx_policy(write_model(tmp_path / 'released.onnx', S2E_RELEASED, 1), S2E_RELEASED, LIMITS)
  assert (policy.options.height, policy.options.width, policy.senses, policy.goal) == (256, 256, ('rgb',), 'point')
  drive_and_compare(policy, S2E_RELEASED, 2)


def test_a_model_with_an_open_batch_and_several_trajectories_follows_its_score(tmp_path):
  policy = onnx_policy(write_model(tmp_path / 'small.onnx', SMALL, 'batch', 5), SMALL, LIMITS)
  drive_and_compare(policy, SMALL, 19, 5)  # more than go into one call


def test_files_that_do_not_keep_the_contract_are_refused_before_anything_is_compiled(tmp_path):
  path = write_model(tmp_path / 'small.onnx', SMALL, 1, 5)
  both = (
    r'small\.onnx does not keep contract S2E_RELEASED: obs_images is missing.*It takes obs \(1, 3, 3, 6, 8\).*'
  )
  with pytest.raises(ValueError, match=both + r'the contract takes obs_images \(\?, 11, 3, 256, 256\)'):
    onnx_policy(path, S2E_RELEASED, LIMITS)
  with pytest.raises(ValueError, match=r'gives plan \(1, 5, 4, 3\); contract single wants \(B, 4, 2 or more\)'):
    onnx_policy(path, dataclasses.replace(SMALL, name='single', scores=''), LIMITS)
  with pytest.raises(ValueError, match='lookahead=5 must name one of 4 waypoints'):
    onnx_policy(path, SMALL, LIMITS, lookahead=5)
  with pytest.raises(ValueError, match='does not exist'):
    onnx_policy(tmp_path / 'nowhere.onnx', SMALL, LIMITS)
  (tmp_path / 'text.onnx').write_text('no model')
  with pytest.raises(ValueError, match='is no model that ONNX Runtime can load'):
    onnx_policy(tmp_path / 'text.onnx', SMALL, LIMITS)


def test_without_onnx_runtime_the_remedy_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(ImportError, match=re.escape("pip install 's2e_jax[onnx]'")):
    onnx_policy(tmp_path / 'any.onnx', SMALL, LIMITS)


def test_the_released_signature_is_kept():
  assert check_signature('it', S2E_RELEASED, RELEASED_INPUTS, RELEASED_OUTPUTS) == 1
  open_batch = [dataclasses.replace(t, dims=('n', *t.dims[1:])) for t in RELEASED_INPUTS]
  assert check_signature('it', S2E_RELEASED, open_batch, RELEASED_OUTPUTS) is None


@pytest.mark.parametrize(
  ('inputs', 'outputs', 'message'),
  [
    ([Tensor('obs_images', (1, 5, 3, 256, 256)), RELEASED_INPUTS[1]], RELEASED_OUTPUTS, 'obs_images differs'),
    (
      [dataclasses.replace(RELEASED_INPUTS[0], kind='tensor(uint8)'), RELEASED_INPUTS[1]],
      RELEASED_OUTPUTS,
      'obs_images differs',
    ),
    (RELEASED_INPUTS[:1], RELEASED_OUTPUTS, 'goal is missing'),
    ([*RELEASED_INPUTS, Tensor('map', (1, 9))], RELEASED_OUTPUTS, 'map is not in the contract'),
    (RELEASED_INPUTS, RELEASED_OUTPUTS[1:], 'output wp_pred is missing'),
    (RELEASED_INPUTS, RELEASED_OUTPUTS[:1], 'output wp_pred_score is missing'),
    (
      [dataclasses.replace(t, dims=(7, *t.dims[1:])) for t in RELEASED_INPUTS],
      RELEASED_OUTPUTS,
      r'takes batches of \[7\] only',
    ),
  ],
)  # fmt: skip
def test_another_signature_is_refused(inputs, outputs, message):
  with pytest.raises(ValueError, match=f'it .*{message}'):
    check_signature('it', S2E_RELEASED, inputs, outputs)


def test_frames_are_packed_as_the_contract_says():
  rng = np.random.default_rng(2)
  frames = rng.integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
  nchw = packed(SMALL, frames)
  assert nchw.shape == (2, 3, 3, 4, 5) and nchw.dtype == np.float32
  np.testing.assert_allclose(nchw[1, 2, 0, 3, 4], frames[1, 2, 3, 4, 0] / 255, rtol=1e-6)
  other = dataclasses.replace(
    SMALL, layout='NHWC', stacking='channels', value_range=(-1.0, 1.0), mean=(0.1, 0.2, 0.3), std=(2.0, 3.0, 4.0)
  )
  folded = packed(other, frames)
  assert folded.shape == (2, 4, 5, 9)
  expected = (frames[1, 2, 3, 4] / 127.5 - 1 - np.array([0.1, 0.2, 0.3])) / [2, 3, 4]
  np.testing.assert_allclose(folded[1, 3, 4, 6:], expected, rtol=1e-5)
  assert packed(dataclasses.replace(other, layout='NCHW'), frames).shape == (2, 9, 4, 5)
  as_bytes = packed(dataclasses.replace(SMALL, kind='tensor(uint8)', layout='NHWC'), frames)
  np.testing.assert_array_equal(as_bytes, frames)
  assert packed(SMALL, frames[:, 0]).shape == (2, 3, 4, 5)
  assert [t.dims for t in other.inputs()] == [(None, 6, 8, 9), (None, 3)]


def test_commands_are_read_as_they_are():
  contract = dataclasses.replace(SMALL, meaning='command', scores='', scale=2.0)
  np.testing.assert_array_equal(chosen(contract, np.ones((3, 2), np.float32), None), np.full((3, 2), 2.0))
  with pytest.raises(ValueError, match=r'plan \(3, 3\); contract small wants \(B, 2\)'):
    chosen(contract, np.ones((3, 3), np.float32), None)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'layout': 'HWC'}, "layout='HWC' must be one of"),
    ({'height': 0}, 'height=0 must be positive'),
    ({'goal': ''}, "goal='' does not go with goal_form='polar'"),
    ({'goal_form': 'none'}, "goal='target' does not go with goal_form='none'"),
  ],
)
def test_bad_contracts_are_refused(changes, message):
  with pytest.raises(ValueError, match=f'contract small: {message}'):
    dataclasses.replace(SMALL, **changes)


def test_another_rate_or_camera_is_refused_unless_allowed():
  given = camera_contract(6, 8, 3, 4.0, [ROBOTS['delivery'].mount.camera(6, 8)])
  assert check_contract_camera(SMALL, given) == []  # nothing is known of it
  fast = dataclasses.replace(SMALL, rate=5.0)
  with pytest.raises(ValueError, match=r'rate: trained with 5 Hz, given 4 Hz.*allow_other_camera=True'):
    check_contract_camera(fast, given)
  assert check_contract_camera(fast, given, allow=True) == ['rate: trained with 5 Hz, given 4 Hz']
  high = dataclasses.replace(SMALL, camera={'mount_height': (1.5, 1.6)})
  with pytest.raises(ValueError, match=r'mount_height: trained with 1\.50 \.\. 1\.60 m, given 0\.60'):
    check_contract_camera(high, given)


def test_the_goal_that_a_model_is_told_is_one_of_the_benchmarks():
  assert (S2E_RELEASED.told, dataclasses.replace(SMALL, goal_form='picture').told) == ('point', 'image')
  assert dataclasses.replace(SMALL, goal='', goal_form='none').told == 'none'
