"""The Go1 under the joystick policy of MuJoCo Playground, in C MuJoCo: one walk per command sequence.

Rates, gains, noise and what the policy sees are those of Playground's Go1JoystickFlatTerrain and of its script
that plays the exported policy in C MuJoCo.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

CONTROL_STEP = 0.02  # s; Playground's ctrl_dt
TIME_STEP = 0.004  # s; Playground's sim_dt
ACTION_SCALE = 0.5
KP, KD = 35.0, 0.5
LOWEST, STEEPEST = 0.2, 0.5  # m of the trunk's middle, rad: beyond them it has fallen
SETTLE = 1.0  # s of standing under the command 0 before a walk begins
POLICY_STEP = 0.25  # s; how long our commands are held
POSE = ('x', 'y', 'z', 'yaw', 'pitch', 'roll', 'thigh')
SCENE = 'xmls/scene_mjx_feetonly_flat_terrain.xml'
POLICY = 'go1_policy.onnx'


def missing(data: Path) -> str | None:
  """Why the gait cannot be run here, or None."""
  for name in (SCENE, POLICY):
    if not (data / name).is_file():
      return f'{data / name} is not there: copy the Go1 models and policy of MuJoCo Playground (see README.md)'
  try:
    import onnxruntime  # noqa: F401
  except ImportError:
    return 'onnxruntime is not installed: pip install onnxruntime (only this study needs it)'
  return None


def load_model(data: Path) -> mujoco.MjModel:
  """The Go1 on flat ground without its visual meshes, with the gains of Playground's task."""
  spec = mujoco.MjSpec.from_file(str(data / SCENE))
  for geom in list(spec.geoms):
    if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
      spec.delete(geom)
  for mesh in list(spec.meshes):
    spec.delete(mesh)
  model = spec.compile()
  model.opt.timestep = TIME_STEP
  model.dof_damping[6:] = KD
  model.actuator_gainprm[:, 0] = KP
  model.actuator_biasprm[:, 1] = -KP
  return model


class Go1:
  """A standing Go1 that walks on command.

  noise: level of the uniform noise on the observations; 1.0 is what the policy was trained under, 0 none.
  """

  NOISE = np.repeat([0.1, 0.2, 0.05, 0.03, 1.5, 0.0], [3, 3, 3, 12, 12, 15])

  def __init__(self, data: Path, noise: float = 0.0, seed: int = 0) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(data / POLICY)
    self.policy: Any = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    self.model = load_model(data)
    self.data = mujoco.MjData(self.model)
    self.home = self.model.keyframe('home').qpos[7:].copy()
    self.noise, self.rng = noise, np.random.default_rng(seed)
    self.action = np.zeros(12, np.float32)

  def observe(self, command: np.ndarray) -> np.ndarray:
    """What the policy sees [48], with the command (forward m/s, left m/s, counter-clockwise rad/s)."""
    data = self.data
    gravity = data.site('imu').xmat.reshape(3, 3).T @ (0, 0, -1)
    linear, gyro = data.sensor('local_linvel').data, data.sensor('gyro').data
    parts = (linear, gyro, gravity, data.qpos[7:] - self.home, data.qvel[6:], self.action, command)
    seen = np.concatenate(parts) + self.noise * self.NOISE * self.rng.uniform(-1, 1, 48)
    return seen.astype(np.float32)

  def control(self, command: np.ndarray) -> np.ndarray:
    """The pose [7] (`POSE`) one control step of 0.02 s later."""
    mujoco.mj_step1(self.model, self.data)  # sensors as they are now
    self.action = self.policy.run(None, {'obs': self.observe(command)[None]})[0][0]
    self.data.ctrl[:] = self.home + ACTION_SCALE * self.action
    mujoco.mj_step2(self.model, self.data)
    mujoco.mj_step(self.model, self.data, round(CONTROL_STEP / TIME_STEP) - 1)
    return self.pose()

  def pose(self) -> np.ndarray:
    """`POSE` [7] in m and rad: x and y of the IMU, z of the trunk; pitch positive looks down; angle of a thigh.

    The policy tracks the velocity of the IMU, 7 cm to the right of the trunk's middle, which swings around it in
    turns: the IMU is the robot origin here.
    """
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, self.data.qpos[3:7])
    x, y = self.data.qpos[:2] + (turn.reshape(3, 3) @ self.model.site('imu').pos)[:2]
    yaw, pitch, roll = math.atan2(turn[3], turn[0]), -math.asin(turn[6]), math.atan2(turn[7], turn[8])
    return np.array([x, y, self.data.qpos[2], yaw, pitch, roll, self.data.joint('FR_thigh_joint').qpos[0]])

  def stand(self) -> None:
    """Back to the home pose, then `SETTLE` under the command 0."""
    mujoco.mj_resetDataKeyframe(self.model, self.data, self.model.key('home').id)
    self.action = np.zeros(12, np.float32)
    for _ in range(round(SETTLE / CONTROL_STEP)):
      self.control(np.zeros(3))

  def walk(self, commands: np.ndarray, step: float = POLICY_STEP) -> np.ndarray:
    """Poses [1 + N, 7] every 0.02 s of a walk under `commands` [T, 2] (v, w), each held for `step` s.

    The first pose is the standing one; x, y and yaw (continuous) count from it. Raises RuntimeError at a fall.
    """
    self.stand()
    sent = held(commands, step)
    poses = [self.pose(), *(self.control(np.array([v, 0.0, w])) for v, w in sent)]
    walk = np.array(poses)
    if walk[:, 2].min() < LOWEST or np.abs(walk[:, 4:6]).max() > STEEPEST:
      raise RuntimeError(f'the Go1 fell: trunk down to {walk[:, 2].min():.2f} m')
    walk[:, 3] = np.unwrap(walk[:, 3])
    x, y = (walk[:, :2] - walk[0, :2]).T
    cos, sin = math.cos(walk[0, 3]), math.sin(walk[0, 3])
    walk[:, 0], walk[:, 1] = cos * x + sin * y, cos * y - sin * x
    walk[:, 3] -= walk[0, 3]
    return walk


def held(commands: np.ndarray, step: float = POLICY_STEP) -> np.ndarray:
  """The command of every control step [..., N, 2] of `commands` [..., T, 2], each held for `step` s."""
  num = round(commands.shape[-2] * step / CONTROL_STEP)
  at = (np.arange(num) * CONTROL_STEP / step + 1e-9).astype(int)
  return commands[..., at, :]


def speeds(walk: np.ndarray) -> np.ndarray:
  """Mean velocity (forward, left m/s) and turning rate (rad/s) [..., N, 3] between the poses [..., 1 + N, 7]."""
  change = np.diff(walk[..., [0, 1, 3]], axis=-2) / CONTROL_STEP
  yaw = (walk[..., 1:, 3] + walk[..., :-1, 3]) / 2
  forward = change[..., 0] * np.cos(yaw) + change[..., 1] * np.sin(yaw)
  left = change[..., 1] * np.cos(yaw) - change[..., 0] * np.sin(yaw)
  return np.stack([forward, left, change[..., 2]], -1)


def states(walks: np.ndarray) -> np.ndarray:
  """Walks [S, 1 + N, 7] as drives [S, T, 7] of `experiments.dynamics`, one state per policy step of 0.25 s."""
  num = round((walks.shape[1] - 1) * CONTROL_STEP / POLICY_STEP)
  at = np.arange(1, num + 1) * POLICY_STEP / CONTROL_STEP
  below = np.minimum(at.astype(int), walks.shape[1] - 2)
  share = (at - below)[:, None]
  poses = (1 - share) * walks[:, below] + share * walks[:, below + 1]
  out = np.zeros((len(walks), num, 7))
  out[..., :3] = poses[..., [0, 1, 3]]
  return out
