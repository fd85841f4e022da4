import math

import jax
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Slots
from s2e_jax.sim.geoms import scene_geoms
from s2e_jax.sim.mjcf import robot_mjcf, turning_constant
from s2e_jax.worlds import builders

pytestmark = pytest.mark.usefixtures('compiled_quickly')

MODELS = [
  ('delivery', 'planar'),
  ('delivery', 'wheels'),
  ('coco', 'planar'),
  ('coco', 'wheels'),
  ('quadruped', 'planar'),
]


def compiled(name, level):
  model = mujoco.MjModel.from_xml_string(robot_mjcf(ROBOTS[name], level))
  return model, mujoco.MjData(model)


@pytest.mark.parametrize(('name', 'level'), MODELS)
def test_models_weigh_and_look_as_described(name, level):
  robot = ROBOTS[name]
  model, data = compiled(name, level)
  mujoco.mj_forward(model, data)
  np.testing.assert_allclose(model.body_mass.sum(), robot.mass, rtol=1e-6)
  inertia = np.zeros((model.nv, model.nv))
  mujoco.mj_fullM(model, data, inertia)
  turn = 2 if level == 'planar' else 5
  np.testing.assert_allclose(inertia[turn, turn], robot.inertia, rtol=1e-3)
  # The camera looks ahead from its mount; its horizon is shifted, not tilted.
  np.testing.assert_allclose(data.cam_xpos[0], [robot.mount.forward, 0, robot.mount.height], atol=1e-3)
  np.testing.assert_allclose(-data.cam_xmat[0].reshape(3, 3)[:, 2], [1, 0, 0], atol=1e-6)
  view, camera = mujoco.MjvScene(model, 100), mujoco.MjvCamera()
  camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
  mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, view)
  lens = view.camera[0]
  np.testing.assert_allclose(lens.frustum_width / lens.frustum_near, math.tan(robot.mount.hfov / 2), rtol=1e-4)
  middle = (lens.frustum_top + lens.frustum_bottom) / 2 / lens.frustum_near
  np.testing.assert_allclose(middle, -math.tan(robot.mount.pitch), atol=1e-5)
  # Only wheels touch, and only the ground: obstacles are not MuJoCo's business.
  ground = model.geom('ground').id
  touching = {(int(model.geom_type[g]), int(model.geom_contype[g])) for g in range(model.ngeom)
              if g != ground and (model.geom_contype[g] or model.geom_conaffinity[g])}  # fmt: skip
  assert touching == (set() if level == 'planar' else {(int(mujoco.mjtGeom.mjGEOM_SPHERE), 0)})


@pytest.mark.parametrize(('name', 'level'), MODELS)
def test_mjx_steps_as_mujoco_does(name, level):
  model, data = compiled(name, level)
  rng = np.random.default_rng(0)
  data.ctrl[:] = rng.uniform(0, 1, model.nu) * model.actuator_ctrlrange[:, 1] / 2
  fast = mjx.put_data(model, data, impl='jax')
  step = jax.jit(mjx.step)
  device = mjx.put_model(model, impl='jax')
  for _ in range(20):
    mujoco.mj_step(model, data)
    fast = step(device, fast)
  assert np.abs(data.qpos).max() > 0.01
  np.testing.assert_allclose(fast.qpos, data.qpos, atol=2e-3)


@pytest.mark.parametrize('name', ROBOTS)
def test_the_servos_of_the_viewer_have_the_described_lag(name):
  # As somebody sees it who moves the slider 'forward' in MuJoCo's viewer.
  robot = ROBOTS[name]
  model, data = compiled(name, 'planar')
  data.ctrl[model.actuator('forward').id] = 0.1
  while data.time < robot.time_constant - 1e-9:
    mujoco.mj_step(model, data)
  expected = 0.1 * (1 - math.exp(-data.time / robot.time_constant))
  np.testing.assert_allclose(data.qvel[0], expected, rtol=1e-3)


def test_driven_wheels_turn_the_robot_with_the_described_lag():
  robot = ROBOTS['delivery']
  assert abs(turning_constant(robot) / robot.yaw_time_constant - 1) < 0.1
  model, data = compiled('delivery', 'wheels')
  for _ in range(30):
    mujoco.mj_step(model, data)
  spin = 0.3 * robot.track / 2 / robot.wheel_radius
  data.ctrl[model.actuator('left').id], data.ctrl[model.actuator('right').id] = -spin, spin
  for _ in range(17):
    mujoco.mj_step(model, data)
  assert abs(data.qvel[5] / 0.3 - (1 - math.exp(-0.17 / robot.yaw_time_constant))) < 0.03


def test_a_scene_becomes_geoms_slot_by_slot():
  slots = Slots(boxes=3, cylinders=2, people=1, rounds=1)
  scene = builders.empty_scene(slots, curb_height=0.0)
  scene = builders.with_box(scene, 1, 2.0, -1.0, 0.3, 0.2, 0.8, yaw=0.5)
  scene = builders.with_cylinder(scene, 1, -1.0, 2.0, 0.2, 1.0)
  scene = builders.with_capsule(scene, 2, 3.0, 1.0, 0.5, 1.0, 2.0)
  body = '\n'.join(scene_geoms(scene))
  model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{body}</worldbody></mujoco>')
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  names = [model.geom(g).name for g in range(model.ngeom)]
  assert names == ['slot1', 'slot4', 'slot7']
  assert list(model.geom_type) == [
    mujoco.mjtGeom.mjGEOM_BOX,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_CAPSULE,
  ]
  np.testing.assert_allclose(data.geom_xpos, [[2, -1, 0.4], [-1, 2, 0.5], [3, 1, 1.5]], atol=1e-6)
  np.testing.assert_allclose(model.geom_size[0], [0.3, 0.2, 0.4], atol=1e-6)
  np.testing.assert_allclose(data.geom_xmat[0].reshape(3, 3)[:2, 0], [np.cos(0.5), np.sin(0.5)], atol=1e-6)
  assert not model.geom_contype.any() and not model.geom_conaffinity.any()
  capsules = scene_geoms(scene, is_round_capsule=True)
  assert 'type="capsule"' in capsules[1] and 'type="cylinder"' not in ''.join(capsules)


def test_unknown_levels_are_refused():
  with pytest.raises(ValueError, match="level='flying' must be one of"):
    robot_mjcf(ROBOTS['delivery'], 'flying')
  with pytest.raises(ValueError, match="'quadruped' has legs"):
    robot_mjcf(ROBOTS['quadruped'], 'wheels')
