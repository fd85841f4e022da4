"""Paths drawn on frames: where geometry says, never from behind the lens."""

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from s2e_jax import geometry
from s2e_jax.data import overlay
from s2e_jax.structs import Camera, Footprint

CAMERA = Camera(160, 90, 80.0, 76.0, 80.0, 40.0, model='pinhole', mount_height=0.5)
GREY = np.full((90, 160, 3), 120, np.uint8)
STRAIGHT = np.stack([np.arange(1, 11) * 0.4, np.zeros(10)], axis=-1)


def changed(picture, image=GREY):
  return (picture != image).any(axis=-1)


def arc(radius, length=4.0):
  """Waypoints on a circle, to the left for a positive radius."""
  turn = np.linspace(0.1, 1, 10) * length / radius
  return np.stack([radius * np.sin(turn), radius * (1 - np.cos(turn))], axis=-1)


def test_a_straight_path_lies_on_the_vertical_centre_line():
  mask = changed(overlay.draw_path(GREY, STRAIGHT, CAMERA, width_m=0.5))
  rows, columns = np.nonzero(mask)
  for row in np.unique(rows):
    assert abs(columns[rows == row].mean() + 0.5 - CAMERA.cx) <= 0.6
  far = CAMERA.cy + CAMERA.fy * CAMERA.mount_height / STRAIGHT[-1, 0]
  assert abs(rows.min() - far) < 3 and rows.max() == 89


def test_the_ribbon_is_as_wide_as_the_robot_at_each_distance():
  mask = changed(overlay.draw_path(GREY, STRAIGHT, CAMERA, width_m=0.6, dots=False))
  for row in (55, 65, 80, 89):
    depth = CAMERA.mount_height * CAMERA.fy / (row + 0.5 - CAMERA.cy)
    assert abs(mask[row].sum() - 0.6 * CAMERA.fx / depth) < 2.0


@pytest.mark.parametrize('radius, side', [(5.0, -1), (-5.0, 1)])
def test_a_path_that_curves_left_goes_to_the_left_of_the_picture(radius, side):
  rows, columns = np.nonzero(changed(overlay.draw_path(GREY, arc(radius), CAMERA, dots=False)))
  top = columns[rows == rows.min()].mean()
  assert side * (top - CAMERA.cx) > 10


def test_dots_sit_on_the_projected_waypoints():
  waypoints = arc(4.0)[3:]
  picture = overlay.draw_path(GREY, waypoints, CAMERA, (255, 0, 0), 1e-3, alpha=0.0)
  pixels, visible = geometry.project(np.column_stack([waypoints, np.zeros(len(waypoints))]), CAMERA)
  assert visible.all()
  for u, v in pixels:
    assert tuple(picture[int(v), int(u)]) == (255, 0, 0)


def test_nothing_behind_the_camera_is_drawn():
  behind = np.stack([-np.arange(1, 11) * 0.4, np.linspace(0, 1, 10)], axis=-1)
  assert not changed(overlay.draw_path(GREY, behind, CAMERA)).any()
  assert not changed(overlay.draw_goal(GREY, behind[-1], CAMERA)).any()
  # A path that turns back draws only its part ahead, which is all below the horizon.
  loop = arc(1.0, 5.0)
  rows, _ = np.nonzero(changed(overlay.draw_path(GREY, loop, CAMERA)))
  assert len(rows) and rows.min() > CAMERA.cy


def test_standing_still_and_missing_waypoints_draw_nothing_and_do_not_fail():
  assert not changed(overlay.draw_path(GREY, np.zeros((10, 2)), CAMERA)).any()
  assert not changed(overlay.draw_path(GREY, np.zeros((0, 2)), CAMERA)).any()
  with_gap = STRAIGHT.copy()
  with_gap[4] = np.nan
  assert changed(overlay.draw_path(GREY, with_gap, CAMERA)).any()


def test_the_image_given_is_not_changed():
  image = GREY.copy()
  overlay.draw_text(overlay.draw_goal(overlay.draw_path(image, STRAIGHT, CAMERA), STRAIGHT[-1], CAMERA), ['x'])
  assert (image == GREY).all()


@pytest.mark.parametrize('camera', [CAMERA, Camera(96, 96, 40.0, 44.0, 50.0, 45.0, mount_height=0.35, pitch=0.2)])
def test_drawing_on_an_enlarged_image_is_enlarging_the_drawing(camera):
  image = np.full((camera.height, camera.width, 3), 90, np.uint8)
  big, big_camera = overlay.enlarged(image, camera, 4 * camera.width)
  assert big.shape == (4 * camera.height, 4 * camera.width, 3)
  drawn = changed(overlay.draw_path(big, arc(3.0), big_camera, dots=False), big)
  small = changed(overlay.draw_path(image, arc(3.0), camera, dots=False), image)
  share = cv2.resize(drawn.astype(np.float32), (camera.width, camera.height), interpolation=cv2.INTER_AREA)
  assert small.sum() > 200
  assert ((share > 0.5) != small).sum() < 0.1 * small.sum()


def test_a_tilted_camera_sees_the_path_higher_up():
  tilted = Camera(160, 90, 80.0, 76.0, 80.0, 40.0, mount_height=0.5, pitch=0.3)
  level_rows, _ = np.nonzero(changed(overlay.draw_path(GREY, STRAIGHT, CAMERA, dots=False)))
  rows, _ = np.nonzero(changed(overlay.draw_path(GREY, STRAIGHT, tilted, dots=False)))
  assert rows.min() < level_rows.min() - 15


def test_a_lens_model_is_not_followed_past_its_fold():
  folding = Camera(160, 90, 80.0, 76.0, 80.0, 40.0, model='pinhole', distortion=(-0.3,), mount_height=0.5)
  # r (1 - 0.3 r^2) turns back at r = 1 / sqrt(0.9).
  assert overlay.lens_reach(folding) == pytest.approx(1 / np.sqrt(0.9), abs=0.02)
  wide = np.array([[1.0, 1.9]])
  assert not overlay.project_ground(wide, folding)[1].any()
  assert overlay.project_ground(np.array([[3.0, 0.5]]), folding)[1].all()
  assert overlay.lens_reach(CAMERA) == np.inf
  fisheye = Camera(160, 90, 80.0, 76.0, 80.0, 40.0, 'fisheye', (0.01, 0.0, 0.0, 0.0))
  assert overlay.lens_reach(fisheye) == np.inf


def test_distorted_ribbons_agree_with_opencv():
  camera = Camera(160, 90, 80.0, 76.0, 80.0, 40.0, 'pinhole', (-0.1, 0.02, 0.001, -0.002, 0.003), mount_height=0.5)
  points = np.array([[2.0, 0.4], [3.0, -0.7], [5.0, 1.0]])
  in_camera = np.stack([-points[:, 1], np.full(3, 0.5), points[:, 0]], axis=-1)
  matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
  expected, _ = cv2.projectPoints(in_camera, np.zeros(3), np.zeros(3), matrix, np.array(camera.distortion))
  np.testing.assert_allclose(overlay.project_ground(points, camera)[0], expected[:, 0], atol=1e-6)


def test_resampling_keeps_the_line_and_its_ends():
  line = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
  points = overlay.resampled(line, 0.25)
  assert len(points) == 13
  np.testing.assert_allclose(points[[0, 4, -1]], line)
  np.testing.assert_allclose(np.hypot(*np.diff(points, axis=0).T), 0.25)


def test_top_down_shows_left_on_the_left_and_forward_upwards():
  figure = Figure()
  canvas = FigureCanvasAgg(figure)
  axes = figure.subplots()
  overlay.draw_top_down(
    axes, arc(3.0), goal_in_robot=np.array([3.0, 2.0]), footprint=Footprint(0.8, 0.5), label='x'
  )
  overlay.finish_top_down(axes)
  canvas.draw()
  left = axes.transData.transform([[1.0, 0.0]])[0]
  origin = axes.transData.transform([[0.0, 0.0]])[0]
  ahead = axes.transData.transform([[0.0, 1.0]])[0]
  assert left[0] < origin[0] and ahead[1] > origin[1]
  assert origin[0] - left[0] == pytest.approx(ahead[1] - origin[1], rel=1e-6)
  (low, high) = sorted(axes.get_xlim())
  assert low <= 0 and high >= 2.0
  assert axes.get_xlabel().endswith('(m)') and axes.get_ylabel().endswith('(m)')
