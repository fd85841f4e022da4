"""Analytic contact by itself: what is found near, what is touched, and that nothing gets through."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Slots
from s2e_jax.sim.contacts import FENCE, FRICTION, NOTHING, Motion, no_touch, obstacles_near, resolve
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.obstacles import fence_gaps, obstacle_gaps
from s2e_jax.worlds import builders
from s2e_jax.worlds import distance as distances

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SLOTS = Slots(boxes=5, cylinders=3, people=2, rounds=1)
BODY = SLOTS.boxes + SLOTS.cylinders
ROBOT = ROBOTS['delivery']
BATCH = 96

# Op by op these take seconds.
primitive_distances = jax.jit(distances.primitive_distances)
fence_distance = jax.jit(distances.fence_distance)


@functools.partial(jax.jit, static_argnums=2)
def find(scene, position, nearest):
  return obstacles_near(ROBOT, scene, position, nearest=nearest)


def flat_scene(curvature=0.0):
  paved, bounds = (-30.0, 30.0), (-9.0, 9.0, -7.0, 7.0)
  return builders.empty_scene(
    SLOTS, road=(0.0, -1.0), paved=paved, bounds=bounds, curb_height=0.0, curvature=curvature
  )


def cluttered(seed=0):
  rng = np.random.default_rng(seed)
  scene = flat_scene(0.02)
  for i in range(4):
    x, y, hx, hy = *rng.uniform(-4, 4, 2), *rng.uniform(0.1, 0.8, 2)
    scene = builders.with_box(scene, i, x, y, hx, hy, 1.0, yaw=rng.uniform(-3, 3))
  for i in range(2):
    scene = builders.with_cylinder(scene, i, *rng.uniform(-4, 4, 2), 0.2, 1.0)
  return builders.with_capsule(scene, 0, *rng.uniform(-4, 4, 2), 0.25, 0.0, 1.6)


def lanes(tree):
  return jax.tree.map(lambda x: jnp.asarray(x)[..., None], tree)


def test_distances_and_normals_are_those_of_the_scene():
  scene = cluttered()
  points = np.random.default_rng(1).uniform(-5, 5, (40, 2)).astype(np.float32)
  near = find(scene, jnp.zeros(2), SLOTS.num)
  x, y = points[:, :1], points[:, 1:]
  gap, nx, ny = (np.asarray(a)[..., 0] for a in obstacle_gaps(lanes(near), x, y, 0.0))
  distance, normal = primitive_distances(scene, points, ROBOT.height)
  for k, slot in enumerate(np.asarray(near.slot, int)):
    if near.radius[k] < 0:
      assert (distance[:, slot] > 500).all() and (gap[:, k] > 500).all()
    else:
      np.testing.assert_allclose(gap[:, k], distance[:, slot], atol=1e-5)
      np.testing.assert_allclose(np.stack([nx, ny], -1)[:, k], normal[:, slot], atol=1e-4)
  fence, fx, fy = (np.asarray(a)[..., 0] for a in fence_gaps(lanes(near), x, y))
  distance, normal = fence_distance(scene.ground, points)
  np.testing.assert_allclose(fence, distance, atol=1e-4)
  np.testing.assert_allclose(np.stack([fx, fy], -1), normal, atol=1e-4)


def test_the_nearest_are_those_a_sort_finds():
  scene = cluttered(2)
  for position in np.random.default_rng(3).uniform(-5, 5, (6, 2)).astype(np.float32):
    near = find(scene, position, 4)
    distance = np.asarray(primitive_distances(scene, position[None], ROBOT.height)[0][0])
    assert list(np.asarray(near.slot, int)) == list(np.argsort(distance, kind='stable')[:4])


def test_what_is_overhead_or_flat_is_not_in_the_way():
  scene = builders.with_box(flat_scene(), 0, 1.0, 0.0, 0.3, 0.3, 1.0, low=0.6)
  scene = builders.with_box(scene, 1, 2.0, 0.0, 0.3, 0.3, 0.04)
  scene = builders.with_box(scene, 2, 3.0, 0.0, 0.3, 0.3, 0.1)
  scene = builders.with_capsule(scene, 0, 4.0, 0.0, 1.0, 0.4, 2.4)  # a ball whose lower cap hangs in the way
  near = find(scene, jnp.zeros(2), 6)
  there = {int(s): float(r) for s, r in zip(near.slot, near.radius, strict=True) if r >= 0}
  assert set(there) == {2, BODY}
  np.testing.assert_allclose(there[BODY], np.sqrt(1 - 0.85**2), rtol=1e-5)  # its slice at the robot's top, 0.55 m


def plain_impulses(contacts, mass, inertia, velocity, yaw_rate, sweeps):
  """Gauss-Seidel over contacts (normal, arm, least): the twin of `contacts.resolve`, one number at a time."""
  pushes, rubs = np.zeros((2, len(contacts)))
  v, w = np.array(velocity, float), float(yaw_rate)
  for _ in range(sweeps):
    for n, (normal, arm, least) in enumerate(contacts):
      for direction, is_normal in ((normal, True), (np.array([-normal[1], normal[0]]), False)):
        lever = arm[0] * direction[1] - arm[1] * direction[0]
        speed = direction @ v + lever * w
        effective = 1 / (1 / mass + lever**2 / inertia)
        if is_normal:
          new = max(pushes[n] + effective * (least - speed), 0)
          change, pushes[n] = new - pushes[n], new
        else:
          new = np.clip(rubs[n] - effective * speed, -FRICTION * pushes[n], FRICTION * pushes[n])
          change, rubs[n] = new - rubs[n], new
        v += change / mass * direction
        w += change * lever / inertia
  return np.array([*(mass * (v - velocity)), inertia * (w - yaw_rate)]), pushes


def test_impulses_are_those_of_a_plain_solver():
  step, velocity, yaw_rate = 0.05, np.array([0.9, 0.3]), 0.4
  # A pole before the front disc; everything else is far.
  scene = builders.with_cylinder(flat_scene(), 0, 0.42, 0.08, 0.1, 1.0)
  near = lanes(find(scene, jnp.zeros(2), 6))
  end = Motion(
    *lanes((step * velocity, step * yaw_rate, velocity, yaw_rate)), time=jnp.array(step), time_step=step
  )
  impulse, touch = jax.jit(lambda o, m: resolve(ROBOT, o, m._replace(time_step=step), no_touch(1)))(near, end)
  radius, contacts = ROBOT.footprint.width / 2, []
  for offset in (0.075, 0.0, -0.075):
    heading = np.array([np.cos(step * yaw_rate), np.sin(step * yaw_rate)])
    away = step * velocity + offset * heading - [0.42, 0.08]
    normal = away / np.linalg.norm(away)
    gap = np.linalg.norm(away) - 0.1 - radius
    arm = offset * heading - radius * normal
    closing = normal @ (velocity + yaw_rate * np.array([-arm[1], arm[0]]))
    contacts.append((normal, arm, closing - gap / step))
  # Without tyres or people the last sweep repeats the normals alone.
  expected, pushes = plain_impulses(contacts, ROBOT.mass, ROBOT.inertia, velocity, yaw_rate, 4)
  assert pushes[0] > 1
  np.testing.assert_allclose(impulse[:, 0], expected, rtol=0.03, atol=0.02)
  np.testing.assert_allclose(touch.impulse[0], pushes.sum(), rtol=0.03)
  assert int(touch.slot[0]) == SLOTS.boxes and bool(touch.is_touching[0])


@pytest.fixture(scope='module')
def roll():
  """(robot's name, scenes [B], states [B], command [2], steps, people [B, N, 2]) -> [T] of states."""
  programs = {}

  def run(name, scenes, positions, yaws, command, steps, people):
    if name not in programs:
      base = make_base(ROBOTS[name])
      reset = jax.vmap(lambda p, y, k: base.reset(p, y, k))

      def step(state, scene, command, velocity):
        return base.advance(state, command, obstacles_near(base.robot, scene, state.position, velocity))

      programs[name] = jax.jit(reset), jax.jit(jax.vmap(step, (0, 0, None, 0)))
    reset, step = programs[name]
    num = len(positions)
    state = reset(jnp.asarray(positions, jnp.float32), jnp.asarray(yaws, jnp.float32),
                  jax.random.split(jax.random.key(0), num))  # fmt: skip
    state = dataclasses.replace(state, slip=jnp.zeros_like(state.slip))
    out = []
    for _ in range(steps):
      state = step(state, scenes, jnp.asarray(command, jnp.float32), jnp.asarray(people, jnp.float32))
      x = scenes.capsules.x.at[:, : SLOTS.people].add(0.25 * people[..., 0])
      y = scenes.capsules.y.at[:, : SLOTS.people].add(0.25 * people[..., 1])
      scenes = scenes.replace(capsules=scenes.capsules.replace(x=x, y=y))
      out.append(jax.tree.map(np.asarray, state))
    return out

  return run


def repeated(scene):
  return jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], BATCH, 0), scene)


@pytest.mark.parametrize('name', ['delivery', 'coco'])
def test_nothing_gets_through_a_wall_of_5_cm_at_full_speed(roll, name):
  robot = ROBOTS[name]
  scene = builders.with_box(flat_scene(), 0, 3.0, 0.0, 0.025, 6.9, 1.0)
  rng = np.random.default_rng(4)
  positions = np.stack([rng.uniform(0, 1.5, BATCH), rng.uniform(-2, 2, BATCH)], -1)
  states = roll(
    name, repeated(scene), positions, rng.uniform(-0.9, 0.9, BATCH), (robot.max_speed, 0.0), 16,
    np.zeros((BATCH, SLOTS.people, 2)),
  )  # fmt: skip
  hit = np.zeros(BATCH, bool)
  for state in states:
    front = state.position[:, 0] + (robot.footprint.length - robot.footprint.width) / 2 * np.abs(np.cos(state.yaw))
    assert (front + robot.footprint.width / 2).max() < 2.975 + 0.01
    assert np.isfinite(state.qvel).all()
    hit |= state.touch.is_touching & (state.touch.slot == 0)
  assert hit.mean() > 0.95


def test_the_fence_of_a_curved_street_holds(roll):
  scene = flat_scene(0.06)
  rng = np.random.default_rng(5)
  states = roll(
    'delivery', repeated(scene), rng.uniform(-2, 2, (BATCH, 2)), rng.uniform(-3.1, 3.1, BATCH), (1.5, 0.0), 40,
    np.zeros((BATCH, SLOTS.people, 2)),
  )  # fmt: skip
  last = states[-1]
  assert np.asarray(fence_distance(scene.ground, last.position)[0]).min() > ROBOT.footprint.width / 2 - 0.005
  touched = np.any([s.touch.is_touching for s in states], 0)
  assert touched.mean() > 0.95
  assert set(last.touch.slot[last.touch.is_touching]) == {FENCE}
  assert set(last.touch.slot[~last.touch.is_touching]) <= {NOTHING}


def test_clutter_is_never_entered_and_never_gives_speed(roll):
  rng = np.random.default_rng(6)
  scene = cluttered(7)
  free = rng.uniform(-5, 5, (4000, 2)).astype(np.float32)
  distance = np.asarray(primitive_distances(scene, free, ROBOT.height)[0]).min(1)
  positions = free[distance > ROBOT.radius + 0.3][:BATCH]
  states = roll(
    'delivery', repeated(scene), positions, rng.uniform(-3.1, 3.1, BATCH), (1.5, 0.4), 24,
    np.zeros((BATCH, SLOTS.people, 2)),
  )  # fmt: skip
  for state in states:
    for offset in (0.075, 0.0, -0.075):
      disc = state.position + offset * np.stack([np.cos(state.yaw), np.sin(state.yaw)], -1)
      inside = ROBOT.footprint.width / 2 - np.asarray(primitive_distances(scene, disc, ROBOT.height)[0]).min(1)
      assert inside.max() < 0.02
    assert np.hypot(*state.qvel[:, :2].T).max() < ROBOT.max_speed + 0.05
  assert np.any([s.touch.is_touching for s in states], 0).mean() > 0.3


def test_a_robot_squeezed_between_a_person_and_a_wall_stays_out_of_the_wall(roll):
  scene = builders.with_box(flat_scene(), 0, 3.0, 0.0, 0.025, 6.9, 1.0)
  scene = repeated(builders.with_capsule(scene, 0, 1.0, 0.0, 0.25, 0.0, 1.6))
  people = np.zeros((BATCH, SLOTS.people, 2))
  people[:, 0, 0] = np.linspace(0.5, 1.5, BATCH)
  states = roll('delivery', scene, np.tile([2.4, 0.0], (BATCH, 1)), np.zeros(BATCH), (0.0, 0.0), 10, people)
  for state in states:
    assert (state.position[:, 0] + 0.3 * np.abs(np.cos(state.yaw))).max() < 2.975 + 0.03
    assert np.isfinite(state.qvel).all() and np.abs(state.qvel[:, :2]).max() < 2
  slots = np.array([s.touch.slot for s in states])
  assert (slots == BODY).any() and (slots == 0).any()


def test_a_touch_tells_who_moved_into_whom(roll):
  scene = repeated(builders.with_capsule(flat_scene(), 0, 2.0, 0.0, 0.25, 0.0, 1.6))
  people = np.zeros((BATCH, SLOTS.people, 2))
  people[1::2, 0, 0] = -1.2  # the odd ones walk at the robot, which stands; the even ones stand, the robot drives
  hits = []
  for command, who in (((1.0, 0.0), slice(0, None, 2)), ((0.0, 0.0), slice(1, None, 2))):
    states = roll('delivery', scene, np.zeros((BATCH, 2)), np.zeros(BATCH), command, 10, people)
    first = np.array([s.touch.is_touching for s in states]).argmax(0)[who][0]
    touch = jax.tree.map(lambda x, who=who: x[who], states[first].touch)
    assert touch.is_touching.all() and (touch.slot == BODY).all()
    hits.append(touch)
  drove, stood = hits
  assert (drove.robot_speed > 0.7).all() and np.abs(drove.other_speed).max() < 1e-5
  np.testing.assert_allclose(stood.other_speed, 1.2, atol=0.02)
  assert stood.robot_speed.max() < 0.1
  np.testing.assert_allclose(drove.normal, np.tile([-1.0, 0.0], (len(drove.normal), 1)), atol=1e-3)
  assert (drove.impulse > 0.5 * ROBOT.mass).all()


def test_a_free_robot_touches_nothing_and_knows_its_clearance(roll):
  scene = repeated(builders.with_box(flat_scene(), 0, 4.0, 0.0, 0.5, 0.5, 1.0))
  people = np.zeros((BATCH, SLOTS.people, 2))
  (state,) = roll('delivery', scene, np.zeros((BATCH, 2)), np.zeros(BATCH), (0.0, 0.0), 1, people)
  assert not state.touch.is_touching.any() and (state.touch.slot == NOTHING).all()
  assert (state.touch.impulse == 0).all() and (state.qvel == 0).all()
  np.testing.assert_allclose(state.touch.clearance, 3.5 - 0.3, atol=1e-4)
