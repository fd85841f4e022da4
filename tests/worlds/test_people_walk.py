"""What pedestrians do in streets drawn by hand: pass, give way, step around, step out, stay together."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from s2e_jax.scene import SLOTS, on_pavement, to_street, to_world
from s2e_jax.worlds.builders import empty_scene, with_box, with_cylinder
from s2e_jax.worlds.people import (
  MAX_SPEED,
  PeopleConfig,
  no_people,
  place_people,
  spawn_people,
  step_people,
  walkers,
)

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SMALL = SLOTS['small']
NUM = SMALL.people
DT = 0.25
STEPS = 120
FAR_AWAY = np.full((STEPS, 2), 500.0)


@jax.jit
def walk(people, scene, robot):
  """People after each of STEPS steps beside a robot at robot [STEPS, 2]."""
  velocity = jnp.concatenate([robot[1:] - robot[:-1], jnp.zeros((1, 2))]) / DT

  def step(people, inputs):
    people = step_people(people, scene, *inputs, dt=DT)
    return people, people

  return jax.lax.scan(step, people, (robot, velocity))[1]


def gaps(track, people):
  """Distances [T, N, N] between the bodies of all people, inf for oneself and the absent."""
  position, radius = np.asarray(track.position), np.asarray(people.radius)
  apart = np.linalg.norm(position[:, :, None] - position[:, None], axis=-1) - radius[:, None] - radius
  there = np.asarray(people.present)
  counts = there[:, None] & there & ~np.eye(len(there), dtype=bool)
  return np.where(counts, apart, np.inf)


def in_pairs(scene, *paths, **fields):
  people = walkers(scene, jnp.array(paths, jnp.float32), num=NUM)
  return dataclasses.replace(people, **fields)


@pytest.mark.parametrize('offset', [0.0, 0.1, -0.25])
@pytest.mark.parametrize('is_scripted', [False, True])
def test_two_who_walk_at_each_other_pass_without_touching(offset, is_scripted):
  scene = empty_scene(SMALL)
  people = in_pairs(scene, [(-8, 0), (8, 0)], [(8, offset), (-8, offset)], is_scripted=jnp.full(NUM, is_scripted))
  track = walk(people, scene, FAR_AWAY)
  assert gaps(track, people).min() > (0.0 if is_scripted else 0.2)
  x = np.asarray(track.position)[:60, :2, 0]  # 15 s: 16 m at 1.3 m/s, and the dodge
  assert x[:, 0].max() > 6.5
  assert x[:, 1].min() < -6.5


def test_people_keep_off_walls_and_walk_round_what_stands_in_their_way():
  scene = empty_scene(SMALL)
  scene = with_box(scene, 0, 0.0, 0.0, 0.9, 0.6, 1.5, yaw=0.4)
  scene = with_cylinder(scene, 0, 4.0, 0.3, 0.3, 1.2)
  people = in_pairs(scene, [(-8, 0), (8, 0)], [(8, 0.6), (-8, 0.6)])
  track = walk(people, scene, FAR_AWAY)
  position = np.asarray(track.position)[:, :2]
  c, s = np.cos(0.4), np.sin(0.4)
  u, v = c * position[..., 0] + s * position[..., 1], c * position[..., 1] - s * position[..., 0]
  box = np.hypot(np.maximum(np.abs(u) - 0.9, 0), np.maximum(np.abs(v) - 0.6, 0))
  post = np.hypot(position[..., 0] - 4, position[..., 1] - 0.3) - 0.3
  assert min(box.min(), post.min()) > 0.25 - 1e-5
  assert position[:, 0, 0].max() > 6.5
  assert position[:, 1, 0].min() < -6.5


def crossing_robot(speed):
  """A robot that crosses the x axis when somebody who walks along it at 1.3 m/s is there too."""
  time = np.arange(STEPS) * DT
  return np.stack([np.zeros(STEPS), -speed * 6 / 1.3 + speed * time], axis=-1)


def test_one_who_yields_gives_way_to_a_crossing_robot_and_one_who_does_not_ignores_it():
  scene = empty_scene(SMALL, paved=(-20, 20), road=(0, -1), bounds=(-20, 20, -20, 20))
  yielding = in_pairs(scene, [(-6, 0), (12, 0)])
  stubborn = dataclasses.replace(yielding, yields=jnp.zeros(NUM, bool))
  robot = crossing_robot(1.0)

  def nearest(people, robot):
    track = walk(people, scene, robot)
    return np.linalg.norm(np.asarray(track.position)[:-1, 0] - robot[1:], axis=-1).min(), track

  polite, _ = nearest(yielding, robot)
  rude, track = nearest(stubborn, robot)
  assert polite > 0.25 + 0.4 + 0.1  # their discs keep apart
  assert rude < 0.4
  alone = walk(stubborn, scene, FAR_AWAY)
  np.testing.assert_array_equal(track.position[:40], alone.position[:40])


@pytest.mark.parametrize('kind', ['yielding', 'stubborn', 'scripted'])
def test_everybody_steps_around_a_robot_that_stands(kind):
  scene = empty_scene(SMALL, paved=(-6, 6), road=(0, -1), bounds=(-15, 15, -6, 6))
  people = in_pairs(scene, [(-8, 0.1), (8, 0.1)])
  people = dataclasses.replace(
    people, yields=jnp.full(NUM, kind == 'yielding'), is_scripted=jnp.full(NUM, kind == 'scripted')
  )
  track = walk(people, scene, np.zeros((STEPS, 2)))
  position = np.asarray(track.position)[:, 0]
  assert np.linalg.norm(position, axis=-1).min() > 0.4 + 0.25 - 1e-3
  assert position[:, 0].max() > 6.5
  # those who follow a script do so late
  dodges = position[np.abs(position[:, 1] - 0.1) > 0.25]
  begin = -dodges[0, 0]
  assert begin < 1.6 if kind == 'scripted' else begin > 1.6


def test_a_robot_that_comes_near_moves_somebody_who_stands_and_yields():
  scene = empty_scene(SMALL, paved=(-6, 6), road=(0, -1), bounds=(-15, 15, -6, 6))
  people = in_pairs(scene, [(0, 0), (0, 0)])
  people = dataclasses.replace(people, preferred_speed=jnp.zeros(NUM), velocity=jnp.zeros((NUM, 2)))
  robot = np.stack([np.linspace(-4, 3, STEPS), np.full(STEPS, 0.05)], axis=-1)
  position = np.asarray(walk(people, scene, robot).position)[:, 0]
  assert np.linalg.norm(position[:-1] - robot[1:], axis=-1).min() > 0.6
  still = np.asarray(walk(people, scene, FAR_AWAY).position)[:, 0]
  assert np.abs(still).max() < 1e-3


def sight(scene, eye, points):
  """Whether each of points [M, 3] can be seen from eye [3] past the scene's boxes: by MuJoCo's own rays."""
  boxes = scene.boxes
  geoms = ''.join(
    f'<geom type="box" pos="{boxes.x[i]} {boxes.y[i]} {(boxes.low[i] + boxes.high[i]) / 2}" '
    f'euler="0 0 {np.degrees(boxes.yaw[i])}" '
    f'size="{boxes.half_x[i]} {boxes.half_y[i]} {(boxes.high[i] - boxes.low[i]) / 2}"/>'
    for i in range(boxes.x.shape[0])
    if boxes.high[i] > boxes.low[i]
  )
  model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody>{geoms}</worldbody></mujoco>')
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  geom, seen = np.zeros(1, np.int32), []
  for point in points:
    way = np.asarray(point - eye, np.float64)
    length = np.linalg.norm(way)
    hit = mujoco.mj_ray(model, data, np.asarray(eye, np.float64), way / length, None, 1, -1, geom)
    seen.append(hit < 0 or hit > length)
  return np.array(seen)


def body_points(position, radius, height, eye, floor):
  """Points on the outline of a person as seen from eye: both sides at three heights, and the top of the head."""
  view = (position - eye[:2]) / np.linalg.norm(position - eye[:2])
  side = np.array([-view[1], view[0]])
  points = [
    np.append(position + f * radius * side, floor + z) for f in (-1, 0, 1) for z in (0.2, 0.6, 0.8 * height)
  ]
  return np.array([*points, np.append(position, floor + height)])


def test_somebody_behind_a_vehicle_is_hidden_until_the_robot_comes_and_then_steps_in_front_of_it():
  scene = empty_scene(SMALL, bounds=(-15, 15, -12, 6), road=(-12, -3), paved=(-12, 5))
  scene = with_box(scene, 2, 0.5, 2.0, 1.6, 0.8, 1.6, yaw=0.1, kind='vehicle')
  start, goal = (-12.0, 0.0), (12.0, 0.0)
  config = PeopleConfig(hidden=1.0, standing=0.0, grouped=0.0)
  route = jnp.array([start, goal])
  spawn = jax.jit(lambda key: spawn_people(key, scene, NUM, 3, route, route, config))
  stepped_out = 0
  for seed in range(4):
    people = spawn(jax.random.key(seed))
    hidden = np.flatnonzero(np.asarray(people.trigger) > 0)
    assert len(hidden) == 1  # there is one such place
    i = hidden[0]
    people = dataclasses.replace(people, wait=jnp.where(people.wait > 0, 1e3, 0.0))
    waits = walk(people, scene, FAR_AWAY)
    assert (np.asarray(waits.wait)[:, i] > 0).all()
    np.testing.assert_allclose(
      waits.position[:, i], np.asarray(people.position)[None, i].repeat(STEPS, 0), atol=0.3
    )

    robot = np.stack([np.minimum(-12 + 1.2 * DT * np.arange(STEPS), 12), np.zeros(STEPS)], axis=-1)
    track = walk(people, scene, robot)
    position = np.concatenate([np.asarray(people.position)[None], np.asarray(track.position)])[:, i]
    is_waiting = np.asarray(track.wait)[:, i] > 0
    floor = float(scene.ground.curb_height)
    seen = []
    for t in range(STEPS):
      eye = np.append(robot[t], floor + float(scene.mount.height))
      points = body_points(position[t], float(people.radius[i]), float(people.height[i]), eye, floor)
      seen.append(sight(scene, eye, points).any())
    went = int(np.argmin(is_waiting))
    assert not np.any(seen[:went])
    ahead = position[went + 1 : went + 30]
    assert seen[went + 8]
    assert np.linalg.norm(robot[went] - position[went]) < float(people.trigger[i]) < 6
    stepped_out += np.abs(ahead[:, 1]).min() < 0.8
  assert stepped_out == 4


def test_one_who_hides_may_also_go_at_a_time_of_his_own():
  scene = empty_scene(SMALL)
  people = in_pairs(scene, [(0, 1.5), (0, 0), (8, 0)], wait=jnp.full(NUM, 10.0), velocity=jnp.zeros((NUM, 2)))
  speed = np.linalg.norm(np.asarray(walk(people, scene, FAR_AWAY).velocity)[:, 0], axis=-1)
  assert speed[: int(9.5 / DT)].max() < 0.01
  assert speed[int(13 / DT)] > 1.0


def test_groups_stay_together_and_reach_both_ends():
  scene = empty_scene(SMALL, bounds=(-15, 15, -5, 5), paved=(-5, 5), road=(0, -1), plazas=[(-15, 15, -5, 5)])
  config = PeopleConfig(grouped=1.0, standing=0.0, scripted=0.0)
  spawn = jax.jit(lambda key: spawn_people(key, scene, NUM, 3, jnp.array([[50.0, 0.0]]), None, config))
  for seed in range(3):
    people = spawn(jax.random.key(seed))
    assert len(set(np.asarray(people.group)[:3])) == 1
    position = np.asarray(walk(people, scene, FAR_AWAY).position)[:, :3]
    apart = np.linalg.norm(position[:, :, None] - position[:, None], axis=-1)
    assert apart.max() < 4.0
    assert np.median(apart[:, 0, 1:]) < 1.5
    assert np.ptp(position[:, 0], axis=0).max() > 4


def test_people_turn_round_at_the_end_of_their_path_and_the_street_stays_populated():
  scene = empty_scene(SMALL)
  people = in_pairs(scene, [(-4, 0), (4, 0)])
  x = np.asarray(walk(people, scene, FAR_AWAY).position)[:, 0, 0]
  turns = np.flatnonzero(np.diff(np.sign(np.diff(x))) != 0)
  assert 3 <= len(turns) <= 6  # 30 s of 8 m walks
  assert x.min() > -5 and x.max() < 5


def test_a_path_round_a_corner_and_over_a_crossing_is_walked_on_the_pavement_of_a_curved_street():
  curvature = 0.03
  scene = empty_scene(SMALL, road=(-8, -2.5), paved=(-11, 2), crossings=[(-2, 2, -8, -2.5)], curvature=curvature)
  street = jnp.array([[(-9.0, 0.0), (0.0, 0.0), (0.0, -9.5), (9.0, -9.5)]])
  path = jnp.stack(to_world(street[..., 0], street[..., 1], jnp.float32(curvature)), axis=-1)
  track = walk(walkers(scene, path, num=NUM), scene, FAR_AWAY)
  s, d = to_street(track.position[:, 0, 0], track.position[:, 0, 1], jnp.float32(curvature))
  assert np.asarray(on_pavement(scene.ground, s, d)).all()
  assert d.min() < -9 and s.max() > 7.5
  assert np.linalg.norm(np.asarray(track.velocity)[:, 0], axis=-1).max() < MAX_SPEED


def test_bodies_and_heads_enter_the_scene_and_nothing_else_changes():
  scene = empty_scene(SMALL)
  rounds = scene.capsules.x.shape[0] - 2 * NUM
  marked = jnp.arange(1.0, 2 * NUM + rounds + 1)
  capsules = dataclasses.replace(scene.capsules, x=marked, y=marked, radius=marked, low=marked, high=marked + 5)
  scene = dataclasses.replace(scene, capsules=capsules)
  people = in_pairs(scene, [(-3, 0), (3, 0)], [(1, -5), (3, -5)], [(2, 1), (3, 1)])
  people = dataclasses.replace(people, present=people.present.at[1].set(True).at[2].set(False))
  placed = place_people(scene, people)
  for name in ('x', 'y', 'radius', 'low', 'high'):
    np.testing.assert_array_equal(getattr(placed.capsules, name)[2 * NUM :], getattr(capsules, name)[2 * NUM :])
  new = placed.capsules
  there = np.array([True, True, False, False])
  np.testing.assert_array_equal(np.asarray(new.high > new.low)[: 2 * NUM], np.tile(there, 2))
  for first in (0, NUM):
    np.testing.assert_array_equal(new.x[first : first + 2], people.position[:2, 0])
    np.testing.assert_array_equal(new.y[first : first + 2], people.position[:2, 1])
  # the second stands on the road, the first on the pavement; heads sit on bodies and end at the person's height
  np.testing.assert_allclose(new.low[:2], [0.12, 0.0], atol=1e-6)
  np.testing.assert_allclose(new.high[NUM : NUM + 2] - new.low[:2], people.height[:2], rtol=1e-5)
  assert np.all(new.low[NUM : NUM + 2] < new.high[:2])
  np.testing.assert_allclose((new.high - new.low)[NUM : NUM + 2], 2 * new.radius[NUM : NUM + 2], rtol=1e-5)
  same = jax.tree.map(lambda a, b: np.array_equal(a, b), placed.replace(capsules=0), scene.replace(capsules=0))
  assert all(jax.tree.leaves(same))


def test_more_people_than_capsules_are_refused_by_name():
  with pytest.raises(ValueError, match=r'slots\.people'):
    place_people(empty_scene(SMALL), no_people(40))
