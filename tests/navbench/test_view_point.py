"""From where the viewer looks first: through gaussians as small steps along the ray see them."""

import numpy as np
import pytest

from s2e_jax.navbench.view_point import first_view, transmittance

START = np.array([2.0, -1.0, 0.3])


def cloud(num, seed=0):
  rng = np.random.default_rng(seed)
  axes = rng.normal(size=(num, 3, 3)) * rng.uniform(0.02, 0.4, (num, 1, 3))
  return rng.uniform(-3, 3, (num, 3)), axes @ axes.transpose(0, 2, 1), rng.uniform(0, 0.9, num)


def wall(centre, normal, thickness=0.03, half=6.0, gap=0.3):
  """An opaque square wall of flat gaussians with this centre and horizontal normal (an angle)."""
  across, up = np.meshgrid(np.arange(-half, half, gap), np.arange(-half, half, gap))
  side, ahead = np.array([-np.sin(normal), np.cos(normal), 0]), np.array([np.cos(normal), np.sin(normal), 0])
  centers = np.asarray(centre) + across.reshape(-1, 1) * side + up.reshape(-1, 1) * np.array([0, 0, 1.0])
  turn = np.stack([ahead, side, np.array([0, 0, 1.0])], axis=1)
  covariance = turn @ np.diag([thickness, gap, gap]) ** 2 @ turn.T
  return centers, np.repeat(covariance[None], len(centers), 0), np.full(len(centers), 0.95)


def lines_of_sight(centers, covariances, opacities, eye, target):
  """Share of light by the highest density of each gaussian over 4,000 points of the line."""
  points = eye + np.linspace(0, 1, 4000)[:, None] * (target - eye)
  light = 1.0
  for centre, covariance, opacity in zip(centers, covariances, opacities, strict=True):
    offset = points - centre
    density = np.exp(-0.5 * np.einsum('ni,ij,nj->n', offset, np.linalg.inv(covariance), offset)).max()
    light *= 1 - opacity * density
  return light


@pytest.mark.parametrize('seed', range(4))
def test_light_is_that_of_small_steps_along_the_ray(seed):
  eye, target = np.random.default_rng(100 + seed).uniform(-2, 2, (2, 3))
  expected = lines_of_sight(*cloud(40, seed), eye, target)
  found = transmittance(*cloud(40, seed), eye, target)
  # what is more than three standard deviations away is left out
  assert found == pytest.approx(expected, abs=0.02) and 0 < expected < 1


def test_an_open_place_is_seen_from_behind_and_above():
  ground = wall((0, 0, -4), 0.0)
  eye, target = first_view(*ground, START, np.pi / 2)
  assert np.allclose(target, START + [0, 0, 0.5])
  assert abs(eye[0] - target[0]) < 1e-6 and eye[1] < target[1] - 4 and eye[2] > target[2] + 3


@pytest.mark.parametrize('yaw', [0.0, 2.0, -1.2])
def test_nothing_stands_before_what_is_looked_at(yaw):
  behind = START - 1.5 * np.array([np.cos(yaw), np.sin(yaw), 0])
  centers, covariances, opacities = wall(behind, yaw)
  blocked = START + [-5 * np.cos(yaw), -5 * np.sin(yaw), 4.0]
  assert transmittance(centers, covariances, opacities, blocked, START) < 0.05
  eye, target = first_view(centers, covariances, opacities, START, yaw)
  assert transmittance(centers, covariances, opacities, eye, target) > 0.6
  ahead = np.array([np.cos(yaw), np.sin(yaw), 0])
  assert (eye - behind) @ ahead > 0  # on this side of the wall


def test_inside_of_closed_walls_the_clearest_place_is_taken():
  angles = np.arange(4) * np.pi / 2
  walls = [wall(START + 0.5 * np.array([np.cos(a), np.sin(a), 0]), a) for a in angles]
  centers, covariances, opacities = (np.concatenate(parts) for parts in zip(*walls, strict=True))
  opacities[len(opacities) // 4 : len(opacities) // 2] = 0.2  # the wall to the left lets some light through
  eye, target = first_view(centers, covariances, opacities, START, 0.0)
  light = transmittance(centers, covariances, opacities, eye, target)
  assert 0.01 < light < 0.6 and np.linalg.norm(eye - target) > 1
  assert np.arctan2(*(eye - target)[1::-1]) == pytest.approx(np.pi / 2)
