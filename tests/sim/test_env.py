import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS, robot_description
from s2e_jax.scene import KIND
from s2e_jax.sim.contacts import FENCE
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig, command_of, episode_key, outcome_of, told_the_goal
from s2e_jax.sim.observe import STATE_SIZE
from s2e_jax.sim.rewards import TERMS, reward_weights
from s2e_jax.structs import DT
from s2e_jax.worlds.people import place_people, walkers

pytestmark = pytest.mark.usefixtures('compiled_quickly')

AHEAD, STAND, NAN = (1.0, 0.0), (0.0, 0.0), (np.nan, 0.0)


class Drive:
  """Drives one compiled environment through different worlds of the same shapes."""

  def __init__(self, world, **config):
    self.env = UrbanEnv(lambda key, level: self.world, EnvConfig(**config))
    self.world = world
    self.step = jax.jit(self.env.step)
    self._begin = jax.jit(lambda key, world: self._in(world, key))

  def _in(self, world, key):
    self.world, before = world, self.world
    try:
      return self.env.reset(key)
    finally:
      self.world = before

  def reset(self, world=None, seed=0):
    return self._begin(jax.random.key(seed), self.world if world is None else world)

  def run(self, actions, world=None):
    """States after each action until one is done; the first is the reset."""
    states = [self.reset(world)]
    for action in actions:
      states.append(self.step(states[-1], jnp.array(action, jnp.float32)))
      if states[-1].done:
        break
    return states


@pytest.fixture(scope='module')
def drive(street_world):
  return Drive(street_world, weights=reward_weights({'obstacle_space': -0.001}))  # the one that is off by default


def with_people(world, paths, speed=1.0):
  people = walkers(world.scene, jnp.asarray(paths, jnp.float32), speed, num=4)
  return world.replace(scene=place_people(world.scene, people), people=people)


def total(states, gamma=0.99):
  return sum(gamma**k * float(s.reward) for k, s in enumerate(states[1:]))


def test_reset_starts_at_rest_where_the_world_says(drive):
  state = drive.reset()
  episode = state.pipeline_state
  np.testing.assert_allclose(episode.base.position, (-6.0, 0.0), atol=1e-6)
  np.testing.assert_allclose(state.obs[:3], [12 / 200, 1, 0], atol=1e-6)
  assert state.obs.shape == (STATE_SIZE,) == (drive.env.observation_size,)
  assert float(state.reward) == 0 == float(state.done) and int(episode.step) == 0
  assert float(episode.way) == pytest.approx(12.0, rel=0.05)


def test_driving_straight_at_the_goal_arrives_and_terminates(drive):
  states = drive.run([AHEAD] * 60)
  last = states[-1]
  assert float(last.done) == 1 and bool(last.info['terminated']) and not bool(last.info['truncated'])
  assert bool(last.info['has_arrived']) and not bool(last.info['has_collided'])
  distance = [float(np.hypot(*(np.array([6.0, 0.0]) - s.pipeline_state.base.position))) for s in states[-2:]]
  assert distance[1] <= 1.0 < distance[0]
  assert float(last.info['route_completion']) == 1 == float(last.metrics['success'])
  assert float(last.metrics['reward/arrival']) == 1
  assert 40 < len(states) < 60


def test_running_into_a_box_terminates_and_names_it(drive, street_world):
  world = street_world.replace(start_in_world=jnp.array([-2.0, 1.6]))
  states = drive.run([AHEAD] * 30, world)
  last = states[-1]
  info = last.info
  assert bool(info['terminated']) and bool(info['has_collided']) and not bool(info['has_arrived'])
  assert int(info['hit_slot']) == 0 and int(info['hit_kind']) == KIND['box'] and bool(info['hit_by_robot'])
  assert float(last.metrics['reward/collision']) == -0.5
  assert 0 < float(info['route_completion']) < 0.5
  for state in states[1:]:
    base = state.pipeline_state.base
    cost = max(0.0, 1 - float(base.touch.clearance) / 0.5) * abs(float(base.velocity[0])) / 1.5 * 0.25
    assert float(state.info['reward_terms']['obstacle_space']) == pytest.approx(-0.001 * cost, abs=1e-8)
  assert float(states[-2].info['reward_terms']['obstacle_space']) < 0


def test_driving_into_a_standing_person_is_the_robots_fault(drive, street_world):
  world = with_people(street_world, [[[-4.0, 0.0], [-3.9, 0.0]]], 0.0)
  world = world.replace(people=world.people.replace(yields=jnp.zeros(4, bool)))
  last = drive.run([AHEAD] * 20, world)[-1]
  assert bool(last.info['has_collided']) and bool(last.info['hit_by_robot'])
  assert int(last.info['hit_kind']) == KIND['person'] and int(last.info['hit_slot']) == 14 + 6


@pytest.mark.parametrize(('robot_speed', 'other_speed', 'blamed'), [(1.0, 0.2, True), (-0.1, 1.3, False)])
def test_whoever_moved_faster_into_the_other_is_to_blame(drive, robot_speed, other_speed, blamed):
  before = drive.reset().pipeline_state
  touch = before.base.touch.replace(
    slot=jnp.int32(20), robot_speed=jnp.float32(robot_speed), other_speed=jnp.float32(other_speed)
  )
  after = before.replace(base=before.base.replace(touch=touch), is_colliding=jnp.array(True))
  outcome = outcome_of(drive.env.config, before, after)
  assert bool(outcome.has_collided) and int(outcome.hit_kind) == KIND['person'] and int(outcome.hit_slot) == 20
  assert bool(outcome.hit_by_robot) == blamed


def test_the_fence_ends_an_episode_too(drive, street_world):
  world = street_world.replace(start_in_world=jnp.array([-12.0, 0.0]), start_yaw=jnp.float32(np.pi))
  last = drive.run([AHEAD] * 30, world)[-1]
  assert (
    bool(last.info['has_collided']) and int(last.info['hit_slot']) == FENCE and int(last.info['hit_kind']) == 0
  )


def test_the_time_limit_truncates_after_thirty_seconds(drive):
  states = drive.run([STAND] * 130)
  last = states[-1]
  assert len(states) - 1 == 120 == round(30 / DT)
  assert bool(last.info['truncated']) and not bool(last.info['terminated']) and float(last.info['time_out']) == 1
  assert not any(bool(s.info['truncated']) or float(s.done) for s in states[:-1])


def test_arriving_in_the_last_step_is_no_truncation(drive):
  before, after = (s.pipeline_state for s in drive.run([AHEAD] * 60)[-2:])
  late = outcome_of(EnvConfig(), before.replace(step=jnp.int32(119)), before.replace(step=jnp.int32(120)))
  assert bool(late.truncated) and not bool(late.terminated) and not bool(late.has_arrived)
  arrived = outcome_of(EnvConfig(), before.replace(step=jnp.int32(119)), after.replace(step=jnp.int32(120)))
  assert bool(arrived.terminated) and bool(arrived.has_arrived) and not bool(arrived.truncated)
  unlimited = outcome_of(EnvConfig(time_limit=0.0), before, before.replace(step=jnp.int32(10_000)))
  assert not bool(unlimited.truncated)


def test_returns_are_ordered_on_driven_episodes(drive, street_world):
  arrive = drive.run([AHEAD] * 120)
  hover = drive.run([AHEAD] * 42 + [STAND] * 78)
  stand = drive.run([STAND] * 120)
  collide = drive.run([AHEAD] * 120, street_world.replace(start_in_world=jnp.array([-6.0, 1.6])))
  assert bool(arrive[-1].info['has_arrived']) and bool(collide[-1].info['has_collided'])
  assert len(hover) == len(stand) == 121
  last = hover[-1].pipeline_state.base.position
  assert 1.0 < float(np.hypot(last[0] - 6, last[1])) < 2.5
  returns = [total(s) for s in (arrive, hover, stand, collide)]
  assert returns == sorted(returns, reverse=True)
  assert min(-np.diff(returns)) > 0.05


def test_the_reward_is_the_sum_of_its_terms(drive):
  for state in drive.run([(0.7, 0.5)] * 12):
    terms = state.info['reward_terms']
    assert set(terms) == set(TERMS)
    np.testing.assert_allclose(state.reward, sum(terms.values()), atol=1e-7)
    for name, value in terms.items():
      assert float(state.metrics[f'reward/{name}']) == float(value)


def test_nan_actions_stand_still_are_counted_and_never_spread(drive):
  actions = [AHEAD, NAN, (np.nan, np.nan), (0.5, np.nan), STAND]
  states = drive.run(actions)
  assert [int(s.info['nan_actions']) for s in states] == [0, 0, 1, 2, 3, 3]
  np.testing.assert_array_equal(states[2].pipeline_state.command, 0)
  for leaf in jax.tree.leaves(states[-1]):
    assert np.isfinite(np.asarray(leaf, np.float64)).all() if np.issubdtype(leaf.dtype, np.inexact) else True
  slow = drive.run([AHEAD, STAND, STAND, STAND, STAND])
  np.testing.assert_array_equal(states[-1].obs, slow[-1].obs)


def test_actions_out_of_range_are_clamped_and_counted(drive):
  robot = ROBOTS['delivery']
  states = drive.run([(9.0, -9.0), (np.inf, 0.0), (1.5, 1.5), (-0.4, -1.5)])
  assert [int(s.info['clamped_actions']) for s in states] == [0, 1, 2, 2, 2]
  np.testing.assert_allclose(states[1].pipeline_state.command, (robot.max_speed, -robot.max_yaw_rate))
  assert int(states[-1].info['nan_actions']) == 0


@pytest.mark.parametrize('name', sorted(ROBOTS))
def test_unit_actions_span_the_robots_limits(name):
  robot = robot_description(name)
  config = EnvConfig(robot=robot, action='unit')
  for action, expected in [
    ((-1.0, -1.0), (robot.min_speed, -robot.max_yaw_rate)),
    ((1.0, 1.0), (robot.max_speed, robot.max_yaw_rate)),
    ((0.0, 0.5), ((robot.min_speed + robot.max_speed) / 2, 0.5 * robot.max_yaw_rate)),
    ((-7.0, 0.0), (robot.min_speed, 0.0)),
    ((np.nan, 1.0), (0.0, 0.0)),
  ]:
    command, is_nan, is_clamped = command_of(config, jnp.array(action))
    np.testing.assert_allclose(command, expected, atol=1e-6)
    assert bool(is_nan) == bool(np.isnan(action).any()) and bool(is_clamped) == (action[0] == -7.0)


def test_typed_and_legacy_keys_will_do(drive):
  for key in (jax.random.key(3), jax.random.PRNGKey(3), jax.random.key(3, impl='rbg')):
    shapes = jax.eval_shape(drive.env.reset, key)
    assert shapes.pipeline_state.key.shape == (2,) and shapes.pipeline_state.key.dtype == jnp.uint32
  np.testing.assert_array_equal(*[episode_key(k) for k in (jax.random.key(3), jax.random.PRNGKey(3))])
  with pytest.raises(ValueError, match='not a key'):
    drive.env.reset(jnp.zeros(2))


def test_collisions_only_count_where_they_do_not_end_the_episode(drive, street_world):
  judging = EnvConfig(end_on_collision=False)
  world = street_world.replace(start_in_world=jnp.array([-2.0, 1.6]))
  before, after = (s.pipeline_state for s in drive.run([AHEAD] * 16, world)[-2:])
  first, then = outcome_of(judging, before, after), outcome_of(judging, after, after)
  assert bool(first.has_collided) and not bool(first.terminated)
  # one contact is one collision, however long it lasts
  assert not bool(then.has_collided) and int(then.hit_slot) == -1 and int(then.hit_kind) == 0


def test_gps_noise_moves_the_goal_that_is_told_as_configured(drive):
  config = EnvConfig(gps_bias=1.5, gps_noise=0.2, gps_time=20.0)
  episode = drive.reset().pipeline_state
  num = 400
  many = jax.tree.map(lambda x: jnp.broadcast_to(x, (num, *x.shape)), episode)
  start = 1.5 * jax.random.normal(jax.random.key(1), (num, 2))
  many = many.replace(key=jax.random.bits(jax.random.key(0), (num, 2), jnp.uint32), gps_bias=start)
  tell = jax.jit(jax.vmap(lambda e: told_the_goal(config, e.replace(step=e.step + 1))))
  told = [many]
  for _ in range(12):
    told.append(tell(told[-1]))
  bias = np.stack([e.gps_bias for e in told]).reshape(13, -1)
  assert bias[-1].std() == pytest.approx(1.5, rel=0.1)
  assert np.corrcoef(bias[0], bias[-1])[0, 1] == pytest.approx(np.exp(-12 * DT / 20.0), abs=0.04)
  # the robot looks along x from (-6, 0) at (6, 0): what is left beside the bias is white
  white = np.stack([e.goal_in_robot - e.gps_bias for e in told[1:]]) - np.array([12.0, 0.0])
  assert white.std() == pytest.approx(0.2, rel=0.05) and abs(white.mean()) < 0.01
  assert abs(np.corrcoef(white[:-1].ravel(), white[1:].ravel())[0, 1]) < 0.05
  np.testing.assert_array_equal(told[-1].world.goal_in_world, many.world.goal_in_world)


def test_without_gps_noise_the_goal_is_told_exactly(drive):
  state = drive.run([(0.8, 0.6)] * 5)[-1].pipeline_state
  c, s = np.cos(state.base.yaw), np.sin(state.base.yaw)
  expected = np.array([[c, s], [-s, c]]) @ (np.array([6.0, 0.0]) - state.base.position)
  np.testing.assert_allclose(state.goal_in_robot, expected, atol=1e-4)


def test_steps_batch_under_vmap_and_scan_and_agree_with_single_ones(drive):
  actions = np.random.default_rng(0).uniform((-0.4, -1.5), (1.5, 1.5), (3, 7, 2)).astype('f')
  keys = jax.random.split(jax.random.key(5), 3)

  @jax.jit
  def run(keys, actions):
    body = lambda s, a: (jax.vmap(drive.env.step)(s, a), s.obs)
    return jax.lax.scan(body, jax.vmap(drive.env.reset)(keys), actions)[0]

  batched = run(keys, actions.transpose(1, 0, 2))
  for i in range(3):
    state = jax.jit(drive.env.reset)(keys[i])
    for action in actions[i]:
      state = drive.step(state, action)
    np.testing.assert_allclose(batched.obs[i], state.obs, atol=2e-4)
    np.testing.assert_allclose(batched.reward[i], state.reward, atol=1e-5)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'action': 'joystick'}, r"action='joystick' must be one of \('command', 'unit'\)"),
    ({'time_limit': 0.1}, r'time_limit=0.1 must be 0 \(none\) or at least one step of 0.25 s'),
    ({'time_limit': -1.0}, 'time_limit=-1.0 must not be negative'),
    ({'goal_radius': 0.0}, 'goal_radius=0.0 must be > 0'),
    ({'discount': 1.5}, r'discount=1.5 must be in \(0, 1\]'),
    ({'weights': {'colision': -1.0}}, "'colision'; did you mean 'collision'"),
  ],
)
def test_bad_settings_name_value_and_rule(change, message):
  with pytest.raises(ValueError, match=message):
    EnvConfig(**change)


def test_unknown_robots_dynamics_and_levels_are_refused(street_world):
  with pytest.raises(ValueError, match="robot='deliverer' must be one of"):
    robot_description('deliverer')
  with pytest.raises(ValueError, match="level='hover'"):
    UrbanEnv(lambda key, level: street_world, EnvConfig(dynamics='hover'))
  with pytest.raises(ValueError, match=r'level=1.2 must be in 0\.\.1'):
    UrbanEnv(lambda key, level: street_world, level=1.2)


def test_configs_are_values():
  assert EnvConfig() == EnvConfig() and dataclasses.replace(EnvConfig(), action='unit').action == 'unit'
