"""Any policy in an ONNX file, run by ONNX Runtime on the host from within the jitted loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.closedloop.policies import DrivingPolicy, Told, check_controller
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.navbench.policies.onnx_contract import OnnxContract, Tensor, check_signature, chosen, packed
from s2e_jax.policy.context import goal_features
from s2e_jax.render.render import Pictures, RenderOptions

_AT_ONCE = 8  # examples given to the model in one call, which bounds the memory of their frames in float32


@struct.dataclass
class OnnxMemory:
  """frames: [B, K, h, w, 3] uint8, the last K, oldest first."""

  frames: jax.Array


def push_frame(frames: jax.Array, frame: jax.Array, begins: jax.Array) -> jax.Array:
  """[B, K, h, w, 3] after one more frame [B, h, w, 3]; K times the new one where an episode begins [B] bool."""
  shifted = jnp.concatenate([frames[:, 1:], frame[:, None]], axis=1)
  return jnp.where(begins[:, None, None, None, None], frame[:, None], shifted)


class OnnxModel:
  """A session of ONNX Runtime on the CPU, called with numpy arrays."""

  def __init__(self, path: str | Path, contract: OnnxContract, num_threads: int = 0) -> None:
    """Opens the file, checks its signature and runs it once on zeros.

    num_threads: 0 leaves that to ONNX Runtime. Raises ImportError where that is not installed, ValueError for a
    file that is none, or does not keep the contract.
    """
    runtime = require_onnxruntime()
    path = Path(path)
    if not path.is_file():
      raise ValueError(f'ONNX file {path} does not exist')
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    try:
      self._session = runtime.InferenceSession(str(path), settings, providers=['CPUExecutionProvider'])
    except Exception as error:  # the classes of its errors are not public
      raise ValueError(f'{path} is no model that ONNX Runtime can load: {error}') from error
    self._contract = contract
    declared = [
      [Tensor(t.name, tuple(t.shape), t.type) for t in tensors]
      for tensors in (self._session.get_inputs(), self._session.get_outputs())
    ]
    self._batch = check_signature(path, contract, *declared)
    size = contract.height, contract.width, 3
    goal = {'polar': (3,), 'picture': size}.get(contract.goal_form, (2,))
    try:
      self(np.zeros((1, contract.num_history, *size), np.uint8), np.zeros((1, *goal), np.uint8))
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error

  def __call__(self, frames: Any, goal: Any) -> np.ndarray:
    """Waypoints [B, H, 2] m, or commands [B, 2], of frames [B, K, h, w, 3] uint8 and goals in the goal's form."""
    frames, goal = np.asarray(frames), np.asarray(goal)
    at_once = self._batch or _AT_ONCE
    parts = [self._run(frames[i : i + at_once], goal[i : i + at_once]) for i in range(0, len(frames), at_once)]
    return np.concatenate(parts)

  def _run(self, frames: np.ndarray, goal: np.ndarray) -> np.ndarray:
    contract = self._contract
    inputs = {contract.frames: packed(contract, frames)}
    if contract.goal:
      is_picture = contract.goal_form == 'picture'
      inputs[contract.goal] = packed(contract, goal) if is_picture else goal.astype(np.float32)
    wanted = [contract.output, contract.scores] if contract.scores else [contract.output]
    found = self._session.run(wanted, inputs)
    return chosen(contract, found[0], found[1] if contract.scores else None)


def onnx_policy(
  path: str | Path,
  contract: OnnxContract,
  limits: CommandLimits,
  lookahead: int = 2,
  rule: str = 'arc',
  nearest: int = 8,
  shadow: bool = True,
) -> DrivingPolicy:
  """The model of an ONNX file; takes no params. Waypoints become commands through F_d, commands are clipped.

  limits: of the robot. lookahead, rule: of F_d. nearest, shadow: of `RenderOptions`; pictures are rendered in the
  contract's size. The model runs on the host, for one example after the other where it insists on a batch of 1;
  all its frames travel there in every step. Raises, before anything is compiled, ImportError without ONNX Runtime,
  and ValueError for a file that does not keep the contract or settings that F_d does not have.
  """
  is_command = contract.meaning == 'command'
  if not is_command:
    check_controller(limits, lookahead, rule, contract.horizon)
  model = OnnxModel(path, contract)
  size = contract.num_history, contract.height, contract.width, 3
  shape = (2,) if is_command else (contract.horizon, 2)
  low = jnp.array([limits.min_speed, -limits.max_yaw_rate])
  high = jnp.array([limits.max_speed, limits.max_yaw_rate])

  def init(shown: Told) -> OnnxMemory:
    return OnnxMemory(jnp.zeros((shown.is_first.shape[0], *size), jnp.uint8))

  def goal_of(shown: Told) -> jax.Array:
    if contract.goal_form == 'polar':
      return goal_features(shown.goal_in_robot)
    if contract.goal_form == 'picture':
      assert shown.goal_picture is not None
      return shown.goal_picture
    return shown.goal_in_robot

  def act(
    params: None, memory: OnnxMemory, shown: Told, pictures: Pictures | None
  ) -> tuple[jax.Array, OnnxMemory]:
    del params
    assert pictures is not None and pictures.rgb is not None
    frames = push_frame(memory.frames, pictures.rgb, shown.is_first)
    given = jax.ShapeDtypeStruct((frames.shape[0], *shape), jnp.float32)
    found = jax.pure_callback(model, given, frames, goal_of(shown))
    command = jnp.clip(found, low, high) if is_command else trajectory_to_command(found, limits, lookahead, rule)
    return command, OnnxMemory(frames)

  options = RenderOptions(contract.height, contract.width, nearest, shadow)
  return DrivingPolicy(init, act, options, goal=contract.told)


def require_onnxruntime() -> Any:
  """The module; ImportError with the remedy where it is not installed."""
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError("policies in ONNX files need ONNX Runtime: pip install 's2e_jax[onnx]'") from error
  return onnxruntime
