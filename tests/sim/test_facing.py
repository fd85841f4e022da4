"""Starts in front of things: where they are, how often, and that touching from the start is no collision."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.facing import LEAST_WAY, MAX_ANGLE, MAX_GAP, facing_start
from s2e_jax.worlds import builders

pytestmark = pytest.mark.usefixtures('compiled_quickly')

ROBOT = ROBOTS['delivery']
NUM = 256


@pytest.fixture(scope='module')
def turned(street_world):
  """Worlds [NUM] of the street, with their starts in front of its box or bollard, and who touches."""
  keys = jax.random.split(jax.random.key(0), NUM)
  worlds, touches = jax.jit(jax.vmap(lambda key: facing_start(street_world, ROBOT, key)))(keys)
  is_moved = np.any(np.asarray(worlds.start_in_world) != np.asarray(street_world.start_in_world), axis=-1)
  return jax.tree.map(lambda x: np.asarray(x)[is_moved], worlds), np.asarray(touches)[is_moved], is_moved.mean()


def gap_to_things(position, yaw):
  """Distance (m) of MuJoCo from the robot's stadium, at one height, to the box and the bollard of the street."""
  half = ROBOT.footprint.width / 2
  reach = ROBOT.footprint.length / 2 - half
  model = mujoco.MjModel.from_xml_string(f"""<mujoco><worldbody>
    <body pos="{position[0]} {position[1]} 0.4" euler="0 0 {math.degrees(yaw)}">
      <geom type="capsule" size="{half}" fromto="{-reach} 0 0 {reach} 0 0"/></body>
    <geom type="box" pos="0 1.6 0.45" size="0.6 0.4 0.45"/><geom type="cylinder" pos="2 -1.5 0.5" size="0.2 0.5"/>
    </worldbody></mujoco>""")
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  # the world's geoms come first
  return [mujoco.mj_geomDistance(model, data, 2, thing, 10.0, None) for thing in (0, 1)]


def test_starts_touch_a_thing_or_stand_right_before_it(turned):
  worlds, touches, share = turned
  assert share > 0.95 and 0.3 < touches.mean() < 0.65
  positions, yaws = worlds.start_in_world, worlds.start_yaw
  gaps = np.array([min(gap_to_things(p, y)) for p, y in zip(positions, yaws, strict=True)])
  assert gaps.min() > -0.011 and gaps.max() < MAX_GAP + 0.11
  # flat before the box it is exact, at its corners and at the bollard no less than that
  np.testing.assert_array_less(gaps[touches], 0.1)
  assert np.median(gaps[touches]) < 0.005 and gaps[~touches].min() > -0.011
  assert np.median(gaps[~touches]) > 0.1


def test_starts_look_at_the_thing_and_have_a_way_to_the_goal(turned, street_world):
  worlds, _, _ = turned
  x, y = worlds.start_in_world.T
  # nearest points of the box and of the bollard
  box = np.clip(x, -0.6, 0.6), np.clip(y, 1.2, 2.0)
  away = np.hypot(x - 2.0, y + 1.5)
  bollard = 2.0 + 0.2 * (x - 2.0) / away, -1.5 + 0.2 * (y + 1.5) / away
  at = np.where(np.hypot(x - box[0], y - box[1]) < away - 0.2, box, bollard)
  off = np.arctan2(at[1] - y, at[0] - x) - worlds.start_yaw
  assert np.abs(np.angle(np.exp(1j * off))).max() < MAX_ANGLE + 0.02
  assert np.abs(np.angle(np.exp(1j * off))).std() > 0.1
  straight = np.hypot(*(worlds.start_in_world - np.asarray(street_world.goal_in_world)).T)
  assert worlds.path_length.min() > LEAST_WAY
  np.testing.assert_array_less(straight - 0.5, worlds.path_length)
  np.testing.assert_array_less(worlds.path_length, 1.8 * straight + 1)


def test_a_world_without_things_stays_as_it_is(draw_world, street_world):
  bare = draw_world(builders.empty_scene(), (-6.0, 0.0), 0.0, (6.0, 0.0), street_world.people)
  same, touches = jax.jit(lambda world: facing_start(world, ROBOT, jax.random.key(1)))(bare)
  jax.tree.map(np.testing.assert_array_equal, same, bare)
  assert not touches


@pytest.fixture(scope='module')
def beginnings(street_world):
  """{share: first states [NUM] of the same episodes}."""
  keys = jax.random.split(jax.random.key(2), NUM)
  envs = {
    share: UrbanEnv(lambda key, level: street_world, EnvConfig(facing_share=share)) for share in (0.0, 0.25, 1.0)
  }
  return envs, {share: jax.jit(jax.vmap(env.reset))(keys) for share, env in envs.items()}


def test_as_many_episodes_begin_so_as_are_asked_for(beginnings, street_world):
  _, states = beginnings
  moved = {
    share: np.any(np.asarray(s.pipeline_state.base.position - street_world.start_in_world) != 0, axis=-1)
    for share, s in states.items()
  }
  assert not moved[0.0].any() and moved[1.0].mean() > 0.95
  assert moved[0.25].mean() == pytest.approx(0.25, abs=0.08)
  # the others are what they would be without, but for the rounding of another program
  rest = ~moved[0.25]
  take = lambda s: jax.tree.map(lambda x: np.asarray(x, float)[rest], s.pipeline_state)
  close = lambda ours, plain: np.testing.assert_allclose(ours, plain, atol=1e-5)
  jax.tree.map(close, take(states[0.25]), take(states[0.0]))


def test_who_begins_in_touch_and_pushes_on_has_not_collided(beginnings):
  envs, states = beginnings
  state = states[1.0]
  touches = np.asarray(state.pipeline_state.is_colliding)
  assert 0.3 < touches.mean() < 0.65
  step = jax.jit(jax.vmap(envs[1.0].step))
  has_collided = np.zeros(NUM, bool)
  for _ in range(4):
    state = step(state, jnp.broadcast_to(jnp.array([1.0, 0.0]), (NUM, 2)))
    has_collided |= np.asarray(state.info['has_collided'])
  assert has_collided[touches].mean() < 0.15  # some slide off a corner, and touch again
  assert has_collided[~touches].mean() > 0.6
  for _ in range(6):
    state = step(state, jnp.broadcast_to(jnp.array([-0.4, 0.0]), (NUM, 2)))
  clearance = np.asarray(state.pipeline_state.base.touch.clearance)
  assert np.median(clearance[touches]) > 0.2  # and backing out frees them


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_a_share_outside_of_0_to_1_is_refused(share):
  with pytest.raises(ValueError, match=rf'facing_share={share} must be a probability in 0\.\.1; 0 = never'):
    dataclasses.replace(EnvConfig(), facing_share=share)
