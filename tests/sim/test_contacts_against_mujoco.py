"""Analytic contact against the same scene built from MuJoCo geoms that collide, at a fiftieth of the time step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Slots
from s2e_jax.sim.contacts import FRICTION, disc_offsets, obstacles_near
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.geoms import scene_geoms
from s2e_jax.sim.mjcf import GRAVITY, TRACTION
from s2e_jax.worlds import builders

SLOTS = Slots(boxes=5, cylinders=3, people=2, rounds=1)
FIRST_PERSON = SLOTS.boxes + SLOTS.cylinders


def flat_scene():
  return builders.empty_scene(
    SLOTS, road=(0.0, -1.0), paved=(-30.0, 30.0), bounds=(-20.0, 20.0, -18.0, 18.0), curb_height=0.0
  )


def reference(robot, scene, start, yaw, commands, person_velocity=None, time_step=1e-3):
  """[T, 6] poses and velocities (x, y, yaw, vx, vy, w) of the robot in C MuJoCo after each policy step."""
  radius = robot.footprint.width / 2
  touch = (
    f'contype="1" conaffinity="1" condim="3" friction="{FRICTION} 0 0" solref=".004 1" solimp=".99 .999 .0001"'
  )
  hull = ''.join(
    f'<geom type="capsule" size="{radius}" fromto="{x} 0 -1 {x} 0 3" mass="0" {touch}/>'
    for x in disc_offsets(robot)
  )
  geoms = scene_geoms(scene, touch)
  person = [g for g in geoms if f'"slot{FIRST_PERSON}"' in g]
  moving = ''
  if person_velocity is not None:
    geoms.remove(person[0])
    # A body of 100 t that keeps its speed: mocap bodies have no velocity in MuJoCo's contacts.
    slides = '<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
    weight = '<inertial pos="0 0 0" mass="1e5" diaginertia="1e5 1e5 1e5"/>'
    moving = f'<body name="person">{slides}{weight}{person[0]}</body>'
  model = mujoco.MjModel.from_xml_string(f'''
    <mujoco>
    <option timestep="{time_step}" gravity="0 0 0" cone="elliptic" impratio="10" integrator="implicitfast"/>
    <worldbody>{''.join(geoms)}
    <body><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/><joint type="hinge" axis="0 0 1"/>
    <inertial pos="0 0 0" mass="{robot.mass}" diaginertia="1 1 {robot.inertia}"/>{hull}</body>{moving}
    </worldbody></mujoco>''')
  data = mujoco.MjData(model)
  data.qpos[:3] = *start, yaw
  if person_velocity is not None:
    data.qvel[3:] = person_velocity
  delay = round(robot.latency / time_step)
  per_step = round(0.25 / time_step)
  sent = np.repeat(np.asarray(commands, float), per_step, 0)
  out = []
  for i in range(len(sent)):
    v, w = sent[i - delay] if i >= delay else (0.0, 0.0)
    cos, sin = np.cos(data.qpos[2]), np.sin(data.qpos[2])
    forward, left = cos * data.qvel[0] + sin * data.qvel[1], cos * data.qvel[1] - sin * data.qvel[0]
    up, down = robot.max_acceleration, robot.max_braking
    push = np.clip(
      (v - forward) / robot.time_constant, -down if forward > 0 else -up, up if forward >= 0 else down
    )
    hold = np.clip(-left / (5 * time_step), -GRAVITY * TRACTION, GRAVITY * TRACTION)
    limit = robot.max_yaw_acceleration
    turn = np.clip((w - data.qvel[2]) / robot.yaw_time_constant, -limit, limit)
    force = robot.mass * push, robot.mass * hold
    data.qfrc_applied[:3] = cos * force[0] - sin * force[1], sin * force[0] + cos * force[1], robot.inertia * turn
    mujoco.mj_step(model, data)
    if (i + 1) % per_step == 0:
      out.append(np.concatenate([data.qpos[:3], data.qvel[:3]]))
  return np.array(out)


STEPS = 20
_PROGRAMS: dict = {}


def ours(robot, scene, start, yaw, commands, person_velocity=None):
  """The same [T, 6] with the planar base and analytic contact, and the touches [T]."""
  velocity = np.zeros((SLOTS.people, 2), np.float32)
  if person_velocity is not None:
    velocity[0] = person_velocity
  if robot.name not in _PROGRAMS:
    _PROGRAMS[robot.name] = jax.jit(functools.partial(_roll, robot, make_base(robot)))
  padded = np.zeros((STEPS, 2), np.float32)
  padded[: len(commands)] = commands
  rows, touches = _PROGRAMS[robot.name](scene, np.asarray(start, np.float32), np.float32(yaw), padded, velocity)
  return jax.tree.map(lambda x: np.asarray(x)[: len(commands)], (rows, touches))


def _roll(robot, base, scene, start, yaw, commands, velocity):
  state = base.reset(start, yaw, jax.random.key(0))
  state = dataclasses.replace(state, slip=jnp.zeros(2))

  def step(carry, command):
    state, scene = carry
    state = base.advance(state, command, obstacles_near(robot, scene, state.position, velocity))
    people = scene.capsules
    people = people.replace(
      x=people.x.at[0].add(0.25 * velocity[0, 0]), y=people.y.at[0].add(0.25 * velocity[0, 1])
    )
    return (state, scene.replace(capsules=people)), (jnp.concatenate([state.qpos, state.qvel]), state.touch)

  return jax.lax.scan(step, (state, scene), commands)[1]


def wall_ahead(scene):
  return builders.with_box(scene, 0, 2.0, 0.0, 0.025, 4.0, 1.0)


def corner(scene):
  return builders.with_box(wall_ahead(scene), 1, 1.0, 1.5, 3.0, 0.025, 1.0)


def gap_of_half_a_metre(scene):
  scene = builders.with_box(scene, 0, 2.0, 0.56, 0.5, 0.3, 1.0)
  return builders.with_box(scene, 1, 2.0, -0.5, 0.5, 0.3, 1.0)


def box_beside(scene):
  return builders.with_box(scene, 0, 2.0, 0.5, 0.3, 0.3, 1.0)


def pole_ahead(scene):
  return builders.with_cylinder(scene, 0, 1.5, 0.1, 0.1, 1.0)


def person_at(x, y):
  return lambda scene: builders.with_capsule(scene, 0, x, y, 0.25, 0.0, 1.6)


# name -> scene, heading (degrees), command, policy steps, velocity of the person, touched slot,
# bounds: position (m) and yaw (rad) at any time, speed (m/s) at the end.
CASES = {
  'head-on': (wall_ahead, 0, (1.5, 0.0), 9, None, 0, 0.008, 0.001, 0.001),
  'oblique': (wall_ahead, 30, (1.5, 0.0), 14, None, 0, 0.02, 0.025, 0.01),
  'scrape': (wall_ahead, 65, (1.0, 0.0), 20, None, 0, 0.04, 0.035, 0.1),
  'turning into a wall': (wall_ahead, 60, (1.0, -0.4), 14, None, 0, 0.05, 0.07, 0.1),
  'corner': (corner, 40, (1.2, 0.0), 12, None, 1, 0.05, 0.02, 0.02),
  'edge of a box': (box_beside, 0, (1.2, 0.0), 9, None, 0, 0.035, 0.08, 0.15),
  'pole': (pole_ahead, 0, (1.0, 0.0), 12, None, 5, 0.01, 0.02, 0.01),
  'narrow gap': (gap_of_half_a_metre, 0, (1.0, 0.0), 16, None, 1, 0.02, 0.03, 0.02),
  'pushed from behind': (person_at(-1.2, 0.1), 0, (0.0, 0.0), 8, (1.0, 0.0), 8, 0.04, 0.05, 0.08),
  'pushed from the side': (person_at(0.05, -1.2), 0, (0.0, 0.0), 5, (0.0, 1.0), 8, 0.06, 0.2, 0.15),
  'drives into a person': (person_at(2.0, 0.05), 0, (1.0, 0.0), 9, (-0.5, 0.0), 8, 0.015, 0.05, 0.03),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_contacts_move_the_robot_as_mujoco_geoms_do(name):
  robot = ROBOTS['delivery']
  draw, yaw, command, steps, person, slot, position, angle, speed = CASES[name]
  scene, commands = draw(flat_scene()), np.tile(command, (steps, 1))
  there = reference(robot, scene, (0.0, 0.0), np.radians(yaw), commands, person)
  here, touch = ours(robot, scene, (0.0, 0.0), np.radians(yaw), commands, person)
  off = np.linalg.norm(here[:, :2] - there[:, :2], axis=1)
  assert off.max() < position
  assert np.abs(here[:, 2] - there[:, 2]).max() < angle
  assert np.linalg.norm(here[-1, 3:5] - there[-1, 3:5]) < speed
  touched = np.asarray(touch.is_touching)
  assert touched.any() and not touched[0]
  assert slot in np.asarray(touch.slot)[touched]
  assert (np.asarray(touch.slot)[~touched] == -1).all()
  # Without the contact the robot would be somewhere else by far.
  free, _ = ours(robot, flat_scene(), (0.0, 0.0), np.radians(yaw), commands)
  assert np.linalg.norm(free[-1, :2] - there[-1, :2]) > 3 * position or name in ('edge of a box', 'narrow gap')


def test_a_robot_stops_at_the_surface():
  robot = ROBOTS['coco']
  commands = np.tile((2.5, 0.0), (12, 1))
  here, touch = ours(robot, wall_ahead(flat_scene()), (-2.0, 0.0), 0.0, commands)
  np.testing.assert_allclose(here[-1, 0] + robot.footprint.length / 2, 1.975, atol=1e-4)
  np.testing.assert_allclose(here[-1, 3:], 0, atol=1e-3)
  hit = int(np.asarray(touch.is_touching).argmax())
  # All of its momentum went into the wall, and what its motors pushed since.
  assert touch.impulse[hit] > robot.mass * here[hit - 1, 3]
  np.testing.assert_allclose(touch.normal[hit], [-1, 0], atol=1e-5)
