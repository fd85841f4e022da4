"""Frames and the camera projection, against scipy and OpenCV."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from s2e_jax import geometry
from s2e_jax.structs import Camera


def test_rotation_agrees_with_scipy_on_unequal_batch_axes():
  rng = np.random.default_rng(0)
  points, angles = rng.normal(size=(3, 5, 2)), rng.uniform(-7, 7, size=(3, 5))
  got = geometry.rotate(points, angles)
  turns = Rotation.from_rotvec(np.c_[np.zeros((15, 2)), angles.ravel()])
  flat = turns.apply(np.c_[points.reshape(-1, 2), np.zeros(15)])
  np.testing.assert_allclose(got.reshape(-1, 2), flat[:, :2], atol=1e-12)


def test_robot_frame_has_x_forward_and_y_left():
  pos, yaw = np.array([2.0, 3.0]), np.array(np.pi / 2)  # facing +y of the world
  np.testing.assert_allclose(geometry.to_robot_frame(np.array([2.0, 5.0]), pos, yaw), [2, 0], atol=1e-12)
  np.testing.assert_allclose(geometry.to_robot_frame(np.array([1.0, 3.0]), pos, yaw), [0, 1], atol=1e-12)


def test_world_and_robot_frames_are_inverse_under_jit():
  rng = np.random.default_rng(1)
  points, pos, yaw = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=4)
  there_and_back = jax.jit(lambda p: geometry.to_world_frame(geometry.to_robot_frame(p, pos, yaw), pos, yaw))
  np.testing.assert_allclose(there_and_back(jnp.asarray(points)), points, atol=1e-5)


@pytest.mark.parametrize('angle', [-9.0, -np.pi, -0.1, 0.0, 3.0, np.pi, 400.0])
def test_wrapped_angles_point_the_same_way(angle):
  wrapped = geometry.wrap_angle(np.float64(angle))
  assert -np.pi <= wrapped < np.pi
  np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angle), atol=1e-12)


@pytest.mark.parametrize(
  'model,distortion',
  [('pinhole', ()), ('pinhole', (-0.2, 0.05, 0.001, -0.002, 0.01)), ('fisheye', (0.1, -0.03, 0.01, 0.002))],
)
def test_projection_agrees_with_opencv(model, distortion):
  camera = Camera(
    640, 400, 310.0, 305.0, 315.0, 190.0, model, distortion, mount_height=0.9, mount_forward=0.3, pitch=0.15
  )
  rng = np.random.default_rng(2)
  points = np.c_[rng.uniform(2, 9, 20), rng.uniform(-2, 2, 20), rng.uniform(0, 2, 20)]
  pixels, visible = geometry.project(points, camera)
  assert visible.all()
  # OpenCV wants world-to-camera: robot axes (x fwd, y left, z up) -> (right, down, forward), then pitch about x.
  axes = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float)
  world_to_cam = Rotation.from_euler('x', camera.pitch).as_matrix() @ axes
  shift = -world_to_cam @ np.array([camera.mount_forward, 0, camera.mount_height])
  rvec, _ = cv2.Rodrigues(world_to_cam)
  intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
  if model == 'fisheye':
    expected, _ = cv2.fisheye.projectPoints(points[:, None], rvec, shift, intrinsics, np.array(distortion))
  else:
    expected, _ = cv2.projectPoints(points, rvec, shift, intrinsics, np.array(distortion or (0.0,) * 5))
  np.testing.assert_allclose(pixels, expected[:, 0], atol=1e-6)


def test_a_camera_that_looks_down_sees_the_ground_higher_in_the_image():
  level = Camera(64, 48, 30.0, 30.0, 32.0, 24.0, 'pinhole')
  down = Camera(64, 48, 30.0, 30.0, 32.0, 24.0, 'pinhole', pitch=0.3)
  point = np.array([3.0, 0.0, 0.0])
  assert geometry.project(point, down)[0][1] < geometry.project(point, level)[0][1]


def test_points_behind_the_lens_are_not_visible_and_stay_finite():
  camera = Camera(64, 48, 30.0, 30.0, 32.0, 24.0, 'pinhole')
  pixels, visible = geometry.project(np.array([[-1.0, 0.3, 0.0], [0.0, 0.0, 0.5]]), camera)
  assert not visible.any()
  assert np.isfinite(pixels).all()


def test_a_resized_camera_projects_to_resized_pixels():
  camera = Camera(640, 400, 310.0, 305.0, 315.0, 190.0, 'pinhole', (-0.1, 0.02))
  point = np.array([4.0, 0.7, 0.2])
  full, small = geometry.project(point, camera)[0], geometry.project(point, camera.resized(160, 50))[0]
  np.testing.assert_allclose(small, full * [160 / 640, 50 / 400], rtol=1e-12)


def test_poses_are_interpolated_through_the_wrap_of_yaw():
  stamps, yaw = np.array([0.0, 1.0]), np.array([3.0, -3.0])
  pos, got = geometry.interpolate_poses(np.array([0.5]), stamps, np.array([[0.0, 0.0], [2.0, 4.0]]), yaw)
  np.testing.assert_allclose(pos, [[1.0, 2.0]])
  np.testing.assert_allclose(np.cos(got), [-1.0], atol=1e-9)


def test_arctan2_is_numpys_in_every_quadrant_and_on_the_axes():
  rng = np.random.default_rng(5)
  y, x = rng.normal(size=(2, 4000)) * 10.0 ** rng.integers(-6, 6, (2, 4000))
  y[:9], x[:9] = np.repeat([-1.0, 0.0, 1.0], 3), np.tile([-2.0, 0.0, 2.0], 3)
  y, x = y.astype(np.float32), x.astype(np.float32)
  got = jax.jit(geometry.arctan2)(y, x)
  np.testing.assert_allclose(got, np.arctan2(y.astype(np.float64), x), atol=4e-7)
  np.testing.assert_allclose(jax.jit(geometry.arctan)(y), np.arctan(y.astype(np.float64)), atol=4e-7)
  assert isinstance(geometry.arctan2(y.astype(np.float64), x), np.ndarray)


def test_the_gradient_of_arctan2_is_the_analytic_one_and_zero_at_the_origin():
  rng = np.random.default_rng(6)
  y, x = rng.normal(size=(2, 300)).astype(np.float32)
  dy, dx = jax.vmap(jax.grad(geometry.arctan2, argnums=(0, 1)))(y, x)
  np.testing.assert_allclose(dy, x / (x * x + y * y), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(dx, -y / (x * x + y * y), rtol=1e-5, atol=1e-6)
  assert jax.grad(geometry.arctan2, argnums=(0, 1))(0.0, 0.0) == (0.0, 0.0)
