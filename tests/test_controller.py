"""F_d: geometry by integrating a unicycle, limits, smoothness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from s2e_jax.controller import KNEE, RULES, CommandLimits, bearing, smooth_clip, trajectory_to_command
from s2e_jax.robots import ROBOTS

WIDE = CommandLimits(-20.0, 20.0, 40.0)  # never reached below
DELIVERY = CommandLimits.of(ROBOTS['delivery'])
H = 5


@functools.cache
def jitted(limits, lookahead=2, rule='arc'):
  return jax.jit(lambda points: trajectory_to_command(points, limits, lookahead, rule))


@pytest.fixture(autouse=True)
def no_silent_broadcast():
  with jax.numpy_rank_promotion('raise'):
    yield


def waypoints_with(point, number, dtype=np.float32):
  """Waypoints [*B, H, 2] that are NaN but for one, [*B, 2]."""
  point = np.asarray(point, dtype)
  out = np.full((*point.shape[:-1], H, 2), np.nan, dtype)
  out[..., number - 1, :] = point
  return out


def driven(command, time):
  """Where a unicycle comes from the origin under a constant command."""
  v, w = map(float, command)
  motion = lambda _, s: [v * np.cos(s[2]), v * np.sin(s[2]), w]
  return solve_ivp(motion, (0, time), [0.0, 0.0, 0.0], rtol=1e-9, atol=1e-12).y[:2, -1]


@pytest.mark.parametrize('lookahead', [1, 2, 4])
@pytest.mark.parametrize('is_behind', [False, True])
def test_an_arc_ends_in_the_direction_of_its_waypoint(lookahead, is_behind):
  rng = np.random.default_rng(lookahead)
  angle = rng.uniform(-0.75, 0.75, 7) if is_behind else rng.uniform(-1.5, 1.5, 7)
  distance = rng.uniform(0.3, 1.5, 7) * lookahead
  points = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1) * (-1 if is_behind else 1)
  commands = jitted(WIDE, lookahead)(waypoints_with(points, lookahead))
  ends = np.stack([driven(c, 0.25 * lookahead) for c in np.asarray(commands)])
  reached = points * np.sinc(2 * angle / np.pi)[:, None]  # sin(2a) / (2a) of the way
  np.testing.assert_allclose(ends, reached, atol=2e-3 * distance.max())


@pytest.mark.parametrize('command', [(0.9, 0.0), (1.2, 1.1), (0.4, -1.1), (-0.18, 1.1), (-0.2, -0.3)])
def test_driving_on_as_before_is_found_from_where_it_leads(command):
  point = driven(command, 0.5)
  v, w = jitted(DELIVERY)(waypoints_with(point, 2))
  np.testing.assert_allclose(w, command[1], atol=4e-3)
  np.testing.assert_allclose(v, command[0] * np.sinc(command[1] * 0.5 / np.pi), rtol=1e-5)


def test_the_sibling_rule_aims_at_the_first_waypoint():
  points = np.random.default_rng(0).uniform([0.1, -0.5], [0.5, 0.5], (3, 4, 2))
  got = jitted(WIDE, 3, 'first')(waypoints_with(points, 1))
  want = np.stack([points[..., 0], np.arctan2(points[..., 1], points[..., 0])], -1) / 0.25
  np.testing.assert_allclose(got, want, rtol=3e-4, atol=1e-6)


@pytest.mark.parametrize('rule', RULES)
def test_left_and_right_are_mirror_images(rule):
  points = np.random.default_rng(1).normal(size=(50, H, 2)).astype(np.float32)
  left, right = (np.asarray(jitted(DELIVERY, rule=rule)(points * np.float32([1, side]))) for side in (1, -1))
  np.testing.assert_array_equal(left * [1, -1], right)


@pytest.mark.parametrize('robot', list(ROBOTS.values()), ids=lambda r: r.name)
@pytest.mark.parametrize('rule', RULES)
def test_the_simulator_takes_every_command_as_it_is(robot, rule):
  from s2e_jax.sim.base import clamp_command

  scale = 10.0 ** np.arange(-6, 20, 2)[:, None, None, None]
  points = (np.random.default_rng(2).normal(size=(200, H, 2)) * scale).astype(np.float32)
  commands = jitted(CommandLimits.of(robot), rule=rule)(points).reshape(-1, 2)
  np.testing.assert_array_equal(commands, jax.jit(jax.vmap(lambda c: clamp_command(robot, c)))(commands))
  reached = np.asarray(commands).max(axis=0)
  np.testing.assert_allclose(reached, [robot.max_speed, robot.max_yaw_rate], rtol=1e-3)  # and uses them in full


def test_a_waypoint_at_the_side_turns_on_the_spot():
  v, w = jitted(DELIVERY)(waypoints_with([0.0, 0.1], 2))
  assert abs(v) < 1e-6 and w > 0.95 * DELIVERY.max_yaw_rate


@pytest.mark.parametrize('robot', list(ROBOTS.values()), ids=lambda r: r.name)
def test_a_standing_trajectory_stands_still_whatever_its_noise(robot):
  limits = CommandLimits.of(robot)
  noise = np.random.default_rng(3).uniform(-0.004, 0.004, (500, 2))
  noise[0] = 0.0
  v, w = np.asarray(jitted(limits)(waypoints_with(noise, 2))).T
  assert np.abs(v).max() < 0.025 and np.abs(w).max() < 0.07
  assert abs(v[0]) < (1e-6 if limits.min_speed < 0 else 0.015) and w[0] == 0


def test_no_direction_makes_the_command_jump():
  angle = np.linspace(-np.pi, np.pi, 20_001)
  for radius in (0.02, 0.3, 2.0):
    points = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    commands = np.asarray(jitted(WIDE)(waypoints_with(points, 2)))
    assert np.abs(np.diff(commands, axis=0)).max() < 0.02  # atan2 alone: 25 rad/s where y changes sign behind


@pytest.mark.parametrize('rule', RULES)
def test_gradients_are_finite_and_bounded_near_the_origin(rule):
  near = [0.0, -0.0, 1e-38, -1e-38, 1e-20, 1e-7, -1e-6, 1e-5, -1e-3, 0.01, -0.02, 0.05]
  points = np.stack(np.meshgrid(near, near), -1).reshape(-1, 2)
  command = lambda p: trajectory_to_command(jnp.broadcast_to(p, (H, 2)), DELIVERY, rule=rule)
  jacobian = np.asarray(jax.jit(jax.vmap(jax.jacrev(command)))(points.astype(np.float32)))
  assert np.isfinite(jacobian).all()
  assert np.abs(jacobian).max() < 1000
  assert (jacobian[:, 0, 0] > 0).all()  # going on faster is always within reach


@pytest.mark.parametrize('rule', RULES)
def test_gradients_equal_finite_differences(rule):
  with jax.enable_x64(True):
    rng = np.random.default_rng(4)
    points = rng.normal(scale=0.5, size=(300, H, 2))
    direction = rng.normal(size=points.shape)
    f = jitted(DELIVERY, rule=rule)
    _, got = jax.jit(lambda p, d: jax.jvp(f, (p,), (d,)))(points, direction)
    h = 1e-6
    want = (f(points + h * direction) - f(points - h * direction)) / (2 * h)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('low, high', [(-0.4, 1.5), (-1.5, 1.5), (np.log(0.02), np.log(2.0))])
def test_the_smooth_clip_is_the_identity_in_the_middle_and_rises_to_its_limits(low, high):
  size = high - low
  x = np.linspace(low - 3 * size, high + 3 * size, 20_001).astype(np.float32)
  clip = jax.jit(jax.vmap(jax.value_and_grad(lambda x: smooth_clip(x, low, high))))
  y, slope = map(np.asarray, clip(x))
  middle = (x > low + KNEE * size) & (x < high - KNEE * size)
  np.testing.assert_array_equal(y[middle], x[middle])
  assert np.abs(y - np.clip(x, low, high)).max() < 0.03 * size
  assert (np.diff(y) >= -2e-7 * size).all()  # rounding
  assert (slope > 1e-6).all() and (slope <= 1).all()
  with jax.enable_x64(True):
    y, slope = map(np.asarray, clip(x.astype(np.float64)))
    assert (np.diff(y) > 0).all()
    np.testing.assert_allclose(slope, np.gradient(y, x.astype(np.float64)), atol=2e-3)


def test_the_smooth_clip_stays_inside_however_far_its_argument():
  far = np.float32([-np.inf, -3e38, -1e20, -1e4, 1e4, 1e20, 3e38, np.inf])
  y, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda x: smooth_clip(x, -0.4, 1.5))))(far)
  np.testing.assert_array_equal(y, np.repeat(np.float32([-0.4, 1.5]), 4))
  assert np.isfinite(slope).all() and (slope[3:5] > 0).all()


def test_the_bearing_is_as_steep_as_it_says():
  still = 0.02
  x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 0.1, 81), np.linspace(-0.1, 0.1, 161)))
  slopes = jax.jit(jax.vmap(jax.grad(bearing, (0, 1)), (0, 0, None)))(np.float32(x), np.float32(y), still)
  assert 1.7 < np.hypot(*slopes).max() * still < 1.8


def test_bad_arguments_are_refused_by_name():
  points = np.zeros((H, 2), np.float32)
  with pytest.raises(ValueError, match='arc'):
    trajectory_to_command(points, DELIVERY, rule='pursuit')
  for lookahead in (0, H + 1):
    with pytest.raises(ValueError, match=f'lookahead={lookahead}'):
      trajectory_to_command(points, DELIVERY, lookahead)
  for wrong in ((0.1, 1.0, 1.0), (0.0, 0.0, 1.0), (-1.0, 1.0, 0.0)):
    with pytest.raises(ValueError, match='min_speed'):
      CommandLimits(*wrong)
