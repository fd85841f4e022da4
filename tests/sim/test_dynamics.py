import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.sim.base import latency_stages, latency_weights
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.lanes import in_lanes, once

pytestmark = pytest.mark.usefixtures('compiled_quickly')

_BASES: dict = {}
BATCH = 40


def base_of(robot, level='planar'):
  """(base, jitted vmapped advance); built once per session."""
  if (robot, level) not in _BASES:
    base = make_base(robot, level)
    _BASES[robot, level] = base, jax.jit(jax.vmap(base.advance))
  return _BASES[robot, level]


def start(base, num, slip=0.0, yaw=0.0):
  keys = jax.random.split(jax.random.key(3), num)
  state = jax.vmap(base.reset)(jnp.zeros((num, 2)), jnp.full(num, yaw), keys)
  return dataclasses.replace(state, slip=jnp.full_like(state.slip, slip))


def drive(robot, commands, level='planar', slip=0.0, yaw=0.0):
  """States (a list of T) of a batch of robots under commands [S, T, 2]."""
  base, advance = base_of(robot, level)
  num = len(commands)
  # One batch size, one compilation.
  commands = np.concatenate([commands, np.zeros((BATCH - num, *commands.shape[1:]))]).astype(np.float32)
  state, states = start(base, BATCH, slip, yaw), []
  for t in range(commands.shape[1]):
    state = advance(state, commands[:, t])
    states.append(jax.tree.map(lambda x: np.asarray(x)[:num], state))
  return states


def random_commands(robot, num, steps, seed=0):
  rng = np.random.default_rng(seed)
  low, high = (robot.min_speed, -robot.max_yaw_rate), (robot.max_speed, robot.max_yaw_rate)
  return np.repeat(rng.uniform(low, high, (num, -(-steps // 3), 2)), 3, 1)[:, :steps]


def continuous(robot, commands, yaw=0.0, step=5e-4):
  """The planar law in continuous time, by tiny explicit steps: [T, 6] x, y, yaw, speed, turning rate, steer."""
  x = y = speed = rate = steer = 0.0
  sent = np.repeat(commands, round(0.25 / step), 0)
  delay, out = round(robot.latency / step), []
  for i in range(len(sent)):
    v, w = sent[i - delay] if i >= delay else (0.0, 0.0)
    braking, gaining = robot.max_braking, robot.max_acceleration
    change = (v - speed) / robot.time_constant
    limit = braking if change * speed < 0 else gaining
    speed += step * np.clip(change, -limit, limit)
    if robot.drive == 'ackermann':
      most = math.tan(robot.max_steer) / robot.wheelbase
      asked = np.clip((w if v >= 0 else -w) / max(abs(v), 1e-3), -most, most)
      fastest = robot.max_yaw_acceleration * robot.wheelbase / max(abs(speed), 0.5)
      error = math.atan(robot.wheelbase * asked) - steer
      steer += step * np.clip(error / robot.yaw_time_constant, -fastest, fastest)
      rate = speed * math.tan(steer) / robot.wheelbase
    else:
      fastest = robot.max_yaw_acceleration
      rate += step * np.clip((w - rate) / robot.yaw_time_constant, -fastest, fastest)
    left = rate * robot.wheelbase / 2
    x += step * (speed * math.cos(yaw) - left * math.sin(yaw))
    y += step * (speed * math.sin(yaw) + left * math.cos(yaw))
    yaw += step * rate
    if (i + 1) % round(0.25 / step) == 0:
      out.append((x, y, yaw, speed, rate, steer))
  return np.array(out)


@pytest.mark.parametrize('name', ROBOTS)
def test_planar_drives_follow_the_continuous_law(name):
  robot = ROBOTS[name]
  commands = random_commands(robot, 3, 16)
  states = drive(robot, commands, yaw=0.7)
  for n in range(3):
    exact = continuous(robot, commands[n], 0.7)
    position = np.array([s.position[n] for s in states])
    driven = np.abs(np.diff(exact[:, :2], axis=0)).sum()
    assert driven > 1
    assert np.linalg.norm(position - exact[:, :2], axis=1).max() < 0.006
    assert np.abs(np.array([s.yaw[n] for s in states]) - exact[:, 2]).max() < 0.012
    # What is reported is the mean over the last substep: half a substep old.
    lag = 0.025 * max(robot.max_braking, robot.max_acceleration) + 0.01
    assert np.abs(np.array([s.velocity[n, 0] for s in states]) - exact[:, 3]).max() < lag


@pytest.mark.parametrize('name', ROBOTS)
def test_limits_hold_under_any_command(name):
  robot = ROBOTS[name]
  rng = np.random.default_rng(1)
  commands = rng.choice([-1e9, -3.0, -0.2, 0.0, 0.3, 5.0, 1e9, np.nan, np.inf, -np.inf], (40, 24, 2))
  speed = rate = np.zeros(40)
  for state in drive(robot, commands):
    forward, turning = np.asarray(state.velocity[:, 0]), np.asarray(state.yaw_rate)
    assert np.isfinite(np.asarray(state.qpos)).all() and np.isfinite(np.asarray(state.qvel)).all()
    assert forward.max() <= robot.max_speed + 1e-4 and forward.min() >= robot.min_speed - 1e-4
    assert np.abs(forward - speed).max() <= 0.25 * max(robot.max_acceleration, robot.max_braking) + 1e-4
    gained = np.abs(forward) - np.abs(speed)
    assert gained.max() <= 0.25 * robot.max_acceleration + 1e-4
    if robot.drive == 'ackermann':
      curve = math.tan(robot.max_steer) / robot.wheelbase
      assert (np.abs(turning) <= np.abs(forward) * curve + 1e-4).all()
      np.testing.assert_allclose(state.velocity[:, 1], turning * robot.wheelbase / 2, atol=1e-4)
    else:
      assert np.abs(turning).max() <= robot.max_yaw_rate + 1e-4
      assert np.abs(turning - rate).max() <= 0.25 * robot.max_yaw_acceleration + 1e-4
      np.testing.assert_allclose(state.velocity[:, 1], 0, atol=1e-4)
    speed, rate = forward, turning


def test_what_is_not_finite_counts_as_zero():
  robot = ROBOTS['delivery']
  commands = np.array([[[1.0, 0.5]] * 3 + [[np.nan, 0.5]] * 2, [[1.0, 0.5]] * 3 + [[0.0, 0.5]] * 2])
  last = drive(robot, commands)[-1]
  np.testing.assert_array_equal(last.qpos[0], last.qpos[1])


def test_a_command_waits_for_the_latency():
  robot = dataclasses.replace(ROBOTS['delivery'], latency=0.55)
  states = drive(robot, np.tile([1.0, 0.5], (1, 5, 1)))
  assert float(jnp.abs(states[1].qvel).max()) == 0.0
  # 0.55 s, and half a substep because the speeds are those of the substeps' middles.
  assert 0 < float(states[2].velocity[0, 0]) <= robot.max_acceleration * (0.2 - 0.025) + 1e-6
  assert states[0].commands.shape == (1, 3, 2)


@pytest.mark.parametrize('delay', [0.0, 0.01, 0.05, 0.1, 0.125, 0.25, 0.3, 0.61])
def test_latency_weights_count_the_time_each_command_acts(delay):
  substeps, step = 5, 0.05
  weights = latency_weights(delay, step, substeps)
  ages, durations = latency_stages(delay, step, substeps)
  fine = (np.arange(250) + 0.5) / 1000
  age = np.ceil((delay - fine) / 0.25).clip(0).astype(int)  # which command acts at each millisecond
  assert weights.shape[1] > age.max()
  for i in range(substeps):
    acting = np.bincount(age[50 * i : 50 * (i + 1)], minlength=weights.shape[1]) / 50
    np.testing.assert_allclose(weights[i], acting, atol=1e-6)
    np.testing.assert_allclose((ages[i] * durations[i][:, None]).sum(0), acting * step, atol=1e-6)
    assert age[50 * i] == ages[i, 0].argmax() or durations[i, 0] == 0


def test_slip_takes_its_share_of_the_speed():
  robot = ROBOTS['delivery']
  free, slipping = (drive(robot, np.tile([1.0, 1.0], (1, 16, 1)), slip=s)[-1] for s in (0.0, 0.05))
  np.testing.assert_allclose(slipping.velocity[0, 0], 0.95 * free.velocity[0, 0], rtol=1e-4)
  np.testing.assert_allclose(slipping.yaw_rate[0], 0.95 * free.yaw_rate[0], rtol=1e-4)


def test_episodes_draw_their_slip_within_the_description():
  base, _ = base_of(ROBOTS['quadruped'])
  keys = jax.random.split(jax.random.key(0), 500)
  state = jax.vmap(base.reset, (None, None, 0))(jnp.zeros(2), jnp.zeros(()), keys)
  low, high = base.robot.slip
  slip = np.asarray(state.slip)
  assert slip.min() >= low and slip.max() <= high
  assert slip.min() < low + 0.02 * (high - low) and slip.max() > high - 0.02 * (high - low)
  assert abs(np.corrcoef(slip.T)[0, 1]) < 0.15
  assert np.unique(np.asarray(state.gait)).size > 490


def test_a_walking_quadruped_sways_at_its_gait_and_a_standing_one_does_not():
  robot = dataclasses.replace(ROBOTS['quadruped'], sway_rate=0.5)  # slow enough for 4 Hz
  states = drive(robot, np.array([[[0.8, 0.0]] * 40, [[0.0, 0.0]] * 40]))
  sway = np.array([s.sway for s in states])
  assert np.abs(sway[:, 1]).max() == 0
  lateral, turn = sway[8:, 0].T
  np.testing.assert_allclose(np.hypot(lateral / robot.sway[0], turn / robot.sway[1]), 1, rtol=1e-3)
  spectrum = np.abs(np.fft.rfft(lateral))
  assert spectrum.argmax() == 0.5 * 32 * 0.25  # 0.5 Hz over 8 s
  for name in ('delivery', 'coco'):
    assert np.abs(drive(ROBOTS[name], np.tile([1.0, 0.2], (1, 3, 1)))[-1].sway).max() == 0


@pytest.mark.parametrize('level', ['planar', 'wheels'])
def test_a_batch_drives_as_its_members_alone(level):
  robot = ROBOTS['coco']
  base, _ = base_of(robot, level)
  commands = random_commands(robot, 3, 6, seed=2)
  together = drive(robot, commands, level)[-1]
  alone = jax.jit(base.advance)
  for n in range(3):
    state = jax.tree.map(lambda x, n=n: x[n], start(base, BATCH))
    for command in commands[n]:
      state = alone(state, jnp.asarray(command, jnp.float32))
    np.testing.assert_allclose(state.qpos, together.qpos[n], atol=2e-5)


@pytest.mark.parametrize('level', ['planar', 'wheels'])
def test_reset_stands_where_it_is_told_and_stays(level):
  base, advance = base_of(ROBOTS['delivery'], level)
  state = jax.jit(base.reset)(jnp.array([3.0, -2.0]), jnp.float32(2.5), jax.random.key(1))
  assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.dtype('float32'), jnp.dtype('int32'), jnp.dtype('bool')}
  state = jax.tree.map(lambda x: jnp.repeat(x[None], BATCH, 0), state)
  for _ in range(4):
    state = advance(state, np.zeros((BATCH, 2), np.float32))
  np.testing.assert_allclose(state.position[0], [3.0, -2.0], atol=1e-3)
  np.testing.assert_allclose(state.yaw[0], 2.5, atol=1e-3)
  np.testing.assert_allclose(state.velocity[0], 0, atol=1e-3)


def test_reset_and_step_compile_once_and_a_state_is_small():
  base, _ = base_of(ROBOTS['delivery'])
  traces = []

  @jax.jit
  def step(state, command, is_over, key):
    traces.append(1)
    fresh = base.reset(jnp.ones(2), jnp.float32(0.1), key)
    state = base.advance(state, command)
    return jax.tree.map(lambda a, b: jnp.where(is_over, a, b), fresh, state)

  state = base.reset(jnp.zeros(2), jnp.zeros(()), jax.random.key(0))
  for i in range(6):
    state = step(state, jnp.array([1.0, 0.1]), i == 3, jax.random.key(i))
    if i == 3:
      np.testing.assert_array_equal(state.position, [1, 1])
  assert len(traces) == 1
  assert sum(x.nbytes for x in jax.tree.leaves(state)) < 200


def test_unknown_levels_are_refused():
  with pytest.raises(ValueError, match=r"level='wheel' must be one of \('planar', 'wheels'\)"):
    make_base(ROBOTS['delivery'], 'wheel')
  with pytest.raises(ValueError, match="'quadruped' has legs, no level 'wheels'; use 'planar'"):
    make_base(ROBOTS['quadruped'], 'wheels')


@pytest.mark.parametrize(('name', 'position', 'yaw'), [('delivery', 0.05, 0.04), ('coco', 0.15, 0.08)])
def test_the_planar_base_drives_as_full_wheels_do(name, position, yaw):
  robot = ROBOTS[name]
  commands = random_commands(robot, 8, 24, seed=4)
  wheels, planar = (drive(robot, commands, level) for level in ('wheels', 'planar'))
  driven = np.linalg.norm(np.diff([s.position for s in wheels], axis=0), axis=-1).sum(0)
  assert driven.min() > 1
  off = np.linalg.norm(wheels[-1].position - planar[-1].position, axis=-1)
  turned = np.asarray(wheels[-1].yaw - planar[-1].yaw)
  turned = (turned + np.pi) % (2 * np.pi) - np.pi
  assert off.max() < position and np.median(off) < position / 2
  assert np.abs(turned).max() < yaw
  assert np.abs(wheels[-1].steer - planar[-1].steer).max() < 0.03


@pytest.mark.parametrize('name', ['delivery', 'coco'])
def test_wheels_stay_on_the_ground_under_the_hardest_commands(name):
  robot = ROBOTS[name]
  rng = np.random.default_rng(5)
  commands = rng.choice([-1.0, 1.0], (16, 24, 2)) * (robot.max_speed, robot.max_yaw_rate)
  for state in drive(robot, commands, 'wheels'):
    qpos = np.asarray(state.qpos)
    assert np.isfinite(qpos).all()
    assert np.abs(qpos[:, 2]).max() < 0.01
    assert np.abs(qpos[:, 4:6]).max() < 0.02  # roll and pitch, halved
    assert np.abs(state.velocity[:, 0]).max() < robot.max_speed * 1.05


def test_lanes_give_what_a_loop_over_the_batch_gives():
  def plain(x, y):
    return {'sum': (x[:, None] * y[None]).sum(0), 'x': x}

  x, y = np.random.default_rng(0).normal(size=(2, 5, 3))
  fast = jax.jit(jax.vmap(in_lanes(plain), (0, None)))(x, y[0])
  for n in range(5):
    slow = plain(x[n][:, None], y[0][:, None])
    np.testing.assert_allclose(fast['sum'][n], slow['sum'][:, 0], rtol=1e-6)
    np.testing.assert_allclose(in_lanes(plain)(x[n], y[0])['sum'], slow['sum'][:, 0], rtol=1e-6)
  np.testing.assert_allclose(fast['x'], x, rtol=1e-6)


def test_once_returns_what_it_is_given_or_zeros():
  tree = {'a': jnp.arange(3.0), 'b': jnp.array([True, False])}
  kept, dropped = (jax.jit(once)(tree, jnp.array(flag)) for flag in (True, False))
  np.testing.assert_array_equal(kept['a'], tree['a'])
  np.testing.assert_array_equal(kept['b'], tree['b'])
  assert not dropped['a'].any() and not dropped['b'].any()
