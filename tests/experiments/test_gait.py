import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments.dynamics.drives import random_commands
from experiments.dynamics.identify import FITTED, simulate
from experiments.gait.fit import fit_lag, lost_shares, respond
from experiments.gait.go1 import Go1, held, missing, speeds, states
from experiments.gait.sway import measure_sway, phasor, stride_rate
from s2e_jax.robots import ROBOTS

STEP = 0.02
GO1 = Path(__file__).parents[3] / 'shared/data/robots/go1_mjx_playground'


def swaying_walk(rate, left, yaw, roll, turning, seconds=10.0):
  """Poses [T, 7] of a walk at 0.8 m/s whose sway is known, with slow wandering and noise on top."""
  rng = np.random.default_rng(0)
  time = np.arange(round(seconds / STEP)) * STEP
  phase = 2 * np.pi * rate * time
  heading = 0.3 + turning * time
  x, y = (0.8 * STEP * np.cumsum(f(heading)) for f in (np.cos, np.sin))
  aside = left * np.sin(phase)
  walk = np.stack(
    [
      x - aside * np.sin(heading),
      y + aside * np.cos(heading),
      0.3 + 0.004 * np.cos(2 * phase),
      heading + yaw * np.cos(phase) + 0.01 * np.sin(2 * np.pi * 0.1 * time),
      0 * time,
      roll * np.sin(phase),
      0.9 + 0.4 * np.sin(phase + 1),
    ],
    -1,
  )
  return walk + 2e-5 * rng.normal(size=walk.shape)


@pytest.mark.parametrize(('rate', 'turning'), [(3.3, 0.0), (2.1, 0.9)])
def test_the_sway_of_a_known_walk_is_measured(rate, turning):
  sway = measure_sway(swaying_walk(rate, 0.006, 0.02, 0.03, turning), STEP, above=0.1)
  assert sway['rate'] == pytest.approx(rate, rel=0.01)
  assert sway['yaw'] == pytest.approx(0.02, rel=0.03)
  assert sway['roll'] == pytest.approx(0.03, rel=0.03)
  # A lean to the right takes what is 0.1 m up to the right while the body is on its left.
  assert sway['left'] == pytest.approx(0.006 - 0.1 * 0.03, rel=0.1)
  assert sway['up_2'] == pytest.approx(0.004, rel=0.03)
  assert sway['up'] < 2e-4 and sway['pitch'] < 2e-4


def test_a_phasor_tells_amplitude_and_phase_of_one_rate_among_others():
  time = STEP * np.arange(150)
  signal = 3 + 2 * time + 0.5 * np.cos(2 * np.pi * 2.5 * time + 0.4) + 0.2 * np.cos(2 * np.pi * 5 * time)
  found = phasor(signal, 2.5, STEP)
  assert abs(found) == pytest.approx(0.5, rel=0.01) and np.angle(found) == pytest.approx(0.4, abs=0.02)
  assert stride_rate(signal, STEP) == pytest.approx(2.5, rel=0.01)


@pytest.mark.parametrize('name', ['delivery', 'quadruped'])
def test_the_fine_law_drives_as_the_planar_law_does(name):
  robot = ROBOTS[name]
  commands = random_commands(robot, 4, 20, seed=5)
  commands[:, :, 1] = 0  # straight on: the way is the integral of the speed
  fine = np.repeat(commands, 25, 1)
  way = respond(robot, fine, 0.01)[..., 0].cumsum(1)[:, 24::25] * 0.01
  assert np.abs(way - simulate(robot, commands)[..., 0]).max() < 0.01
  turned = random_commands(robot, 4, 20, seed=6)
  yaw = respond(robot, np.repeat(turned, 25, 1), 0.01)[..., 1].cumsum(1)[:, 24::25] * 0.01
  assert np.abs(yaw - simulate(robot, turned)[..., 2]).max() < 0.02


def test_the_fit_finds_constants_and_losses_that_made_a_motion():
  start = ROBOTS['delivery']
  true = dataclasses.replace(
    start, time_constant=0.22, yaw_time_constant=0.09, latency=0.07, max_acceleration=2.2, max_braking=3.1,
    max_yaw_acceleration=9.0,
  )  # fmt: skip
  commands = held(random_commands(start, 16, 24, seed=7))
  motion = respond(true, commands, STEP)
  noisy = motion + 0.05 * np.random.default_rng(0).normal(size=motion.shape)
  found = fit_lag(start, commands, noisy, STEP)
  for field in FITTED:
    assert getattr(found, field) == pytest.approx(getattr(true, field), rel=0.15), field
  lost = lost_shares(true, commands, motion * (0.97, 0.9), STEP)
  np.testing.assert_allclose(lost, np.tile([0.03, 0.1], (16, 1)), atol=1e-6)


def test_walks_become_states_and_speeds():
  commands = held(np.array([[1.0, 0.2], [0.5, -0.4]]))
  assert commands.shape == (25, 2) and (commands[:13] == (1.0, 0.2)).all() and (commands[13:] == (0.5, -0.4)).all()
  time = STEP * np.arange(51)
  walk = np.zeros((2, 51, 7))
  walk[1, :, 0], walk[1, :, 1] = np.sin(0.5 * time) / 0.5, (1 - np.cos(0.5 * time)) / 0.5
  walk[1, :, 3] = 0.5 * time
  np.testing.assert_allclose(speeds(walk)[1], np.tile([1, 0, 0.5], (50, 1)), atol=1e-4)
  np.testing.assert_allclose(states(walk)[1, :, 2], [0.125, 0.25, 0.375, 0.5], atol=1e-9)
  np.testing.assert_allclose(states(walk)[1, 3, :2], walk[1, 50, :2], atol=1e-9)


def test_without_its_files_the_study_says_what_is_missing(tmp_path):
  assert 'xmls/scene_mjx_feetonly_flat_terrain.xml is not there' in missing(tmp_path)


@pytest.mark.skipif(missing(GO1) is not None, reason=f'no gait to run: {missing(GO1)}')
def test_the_go1_stands_walks_and_turns_as_it_is_told():
  go1 = Go1(GO1)
  assert np.abs(go1.walk(np.zeros((4, 2)))[:, :2]).max() < 0.01
  for command in ((1.0, 0.0), (0.8, -1.0)):
    reached = speeds(go1.walk(np.array([command] * 12)))[75:].mean(0)
    np.testing.assert_allclose(reached, [command[0], 0, command[1]], atol=0.06)
