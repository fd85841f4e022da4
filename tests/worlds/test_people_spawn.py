"""People of new worlds, and what holds for them over thousands of steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.scene import KIND, SLOTS, Boxes, Rounds, on_pavement, to_street, to_world
from s2e_jax.worlds.builders import empty_scene
from s2e_jax.worlds.distance import outline_distances
from s2e_jax.worlds.people import MAX_SPEED, MIN_SPEED, PeopleConfig, spawn_people, step_people
from s2e_jax.worlds.people_spawn import static_outlines

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SMALL = SLOTS['small']
NUM = SMALL.people
NUM_WORLDS, STEPS = 12, 170  # 2,040 steps in all
DT = 0.25
CONFIG = PeopleConfig(hidden=0.4, standing=0.25)


def random_street(key):
  """A bent street with a crossing and things all over its pavements."""
  scene = empty_scene(
    SMALL, bounds=(-15, 15, -13, 5), road=(-8, -2.5), paved=(-11.5, 2.5), crossings=[(-2, 2, -8, -2.5)]
  )
  u = jax.random.uniform(key, (SMALL.boxes + SMALL.cylinders, 6))
  curvature = 0.06 * (u[0, 0] - 0.5)
  d = jnp.where(u[:, 1] < 0.4, -11 + 6 * u[:, 1], -2 + 4 * (u[:, 1] - 0.4) / 0.6)
  x, y = to_world(-14 + 28 * u[:, 2], d, curvature)
  n = SMALL.boxes
  floor = jnp.full(n, 0.12)
  boxes = Boxes(x[:n], y[:n], 6.28 * u[:n, 3], 0.1 + 0.7 * u[:n, 4], 0.1 + 0.4 * u[:n, 5], floor, floor + 1.3)
  floor = jnp.full(SMALL.cylinders, 0.12)
  cylinders = Rounds(x[n:], y[n:], 0.1 + 0.2 * u[n:, 3], floor, floor + 1.0)
  kind = [KIND['box']] * n + [KIND['bollard']] * SMALL.cylinders + [KIND['person']] * 2 * NUM
  kind = jnp.array(kind + [KIND['crown']] * SMALL.rounds)
  ground = dataclasses.replace(scene.ground, curvature=curvature)
  return dataclasses.replace(scene, boxes=boxes, cylinders=cylinders, kind=kind, ground=ground)


def live(key, count):
  """A street, its people, and everything that happens there beside a robot that drives about at random."""
  key_street, key_people, key_robot = jax.random.split(key, 3)
  scene = random_street(key_street)
  ends = jnp.stack(to_world(jnp.array([-12.0, 12.0]), jnp.array([0.0, 0.5]), scene.ground.curvature), axis=-1)
  people = spawn_people(key_people, scene, NUM, count, ends, ends, CONFIG)
  sways = 0.4 * jnp.sin(
    jnp.arange(STEPS)[:, None] * jnp.array([0.2, 0.31]) + 6 * jax.random.uniform(key_robot, (2,))
  )
  robot = ends[0] + (ends[1] - ends[0]) * jnp.linspace(0, 1, STEPS)[:, None] + sways

  def step(people, inputs):
    people = step_people(people, scene, *inputs, dt=DT)
    return people, people

  velocity = jnp.concatenate([robot[1:] - robot[:-1], jnp.zeros((1, 2))]) / DT
  return scene, people, ends, robot, jax.lax.scan(step, people, (robot, velocity))[1]


@pytest.fixture(scope='module')
def batched():
  return jax.jit(jax.vmap(live))


@pytest.fixture(scope='module')
def inputs():
  return jax.random.split(jax.random.key(11), NUM_WORLDS), jnp.arange(NUM_WORLDS) % (NUM + 1)


@pytest.fixture(scope='module')
def lives(batched, inputs):
  return jax.tree.map(np.asarray, batched(*inputs))


def pair_gaps(position, people):
  """[W, ..., N, N] m between bodies, inf for oneself and the absent."""
  extra = (1,) * (position.ndim - 3)
  radius = people.radius.reshape(NUM_WORLDS, *extra, NUM)
  there = people.present.reshape(NUM_WORLDS, *extra, NUM)
  apart = np.linalg.norm(position[..., :, None, :] - position[..., None, :, :], axis=-1)
  apart = apart - radius[..., :, None] - radius[..., None, :]
  return np.where(there[..., :, None] & there[..., None, :] & ~np.eye(NUM, dtype=bool), apart, np.inf)


def object_gaps(scene, position, people):
  """[W, T, N] m between bodies and the nearest object, inf for the absent."""
  found = []
  for w in range(NUM_WORLDS):
    one = jax.tree.map(lambda v, w=w: jnp.asarray(v[w]), scene)
    distance, _ = outline_distances(static_outlines(one, NUM), jnp.asarray(position[w].reshape(-1, 2)))
    found.append(np.asarray(distance).min(-1).reshape(position[w].shape[:-1]) - people.radius[w])
  return np.where(people.present[:, None], np.stack(found), np.inf)


def test_people_begin_clear_of_each_other_of_things_and_of_given_points(lives, inputs):
  scene, people, ends, *_ = lives
  counts = np.asarray(inputs[1])
  present = people.present.sum(axis=1)
  assert (present <= counts).all()
  assert present.sum() > 0.85 * counts.sum()
  assert pair_gaps(people.position, people).min() > 0.05
  assert object_gaps(scene, people.position[:, None], people).min() > 0.04
  apart = np.linalg.norm(people.position[:, :, None] - ends[:, None], axis=-1).min(-1)
  assert np.where(people.present, apart, np.inf).min() > 1.5
  s, d = to_street(people.position[..., 0], people.position[..., 1], scene.ground.curvature[:, None])
  paved = np.stack(
    [on_pavement(jax.tree.map(lambda v, w=w: v[w], scene.ground), s[w], d[w]) for w in range(NUM_WORLDS)]
  )
  assert paved[people.present].mean() > 0.95


def test_nothing_breaks_in_two_thousand_steps(lives):
  scene, people, _, robot, track = lives
  for value in jax.tree.leaves(track):
    assert np.isfinite(value).all()
  position = np.concatenate([people.position[:, None], track.position], axis=1)
  speed = np.linalg.norm(track.velocity, axis=-1)
  assert speed.max() <= MAX_SPEED * (1 + 1e-5)
  # nobody jumps: positions move by velocity alone
  np.testing.assert_allclose(np.diff(position, axis=1), track.velocity * DT, atol=1e-5)
  # nobody enters a thing, another person or the world beyond the fence
  assert object_gaps(scene, position, people).min() > -1e-3
  assert pair_gaps(position, people).min() > -0.03
  k = scene.ground.curvature[:, None, None]
  s, d = (np.asarray(v) for v in to_street(position[..., 0], position[..., 1], k))
  low, high = scene.ground.bounds[:, None, None, 0::2], scene.ground.bounds[:, None, None, 1::2]
  street = np.stack([s, d], axis=-1)
  inside = np.minimum(street - low, high - street).min(-1)
  assert np.where(people.present[:, None], inside, np.inf).min() > 0.2
  # accelerations are human, but where a robot pushes or a wall stops somebody
  acceleration = np.linalg.norm(np.diff(track.velocity, axis=1), axis=-1) / DT
  assert np.quantile(acceleration, 0.99) <= 2.01
  assert acceleration.max() <= 2 * MAX_SPEED / DT
  # the absent stay out of it all
  assert np.all(track.velocity.transpose(0, 2, 1, 3)[~people.present] == 0)
  assert robot.shape == (NUM_WORLDS, STEPS, 2)


def test_people_want_to_walk_at_half_a_metre_to_two_metres_per_second(lives):
  people, track = lives[1], lives[4]
  walks = people.present & (people.preferred_speed > 0)
  assert walks.sum() > 10
  assert people.preferred_speed[walks].min() >= MIN_SPEED
  assert people.preferred_speed[walks].max() <= MAX_SPEED
  # most of the time they do, in spite of a crowded street; those who hide wait
  speed = np.linalg.norm(track.velocity, axis=-1).mean(axis=1)
  goes = walks & (people.trigger == 0)
  assert np.median(speed[goes] / people.preferred_speed[goes]) > 0.5


def test_one_world_at_a_time_gives_what_all_at_once_give(lives, inputs):
  alone = jax.jit(live)
  for w in (4, 9):
    one = jax.tree.map(np.asarray, alone(inputs[0][w], inputs[1][w]))
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(lives[1]), strict=True):
      np.testing.assert_allclose(a, b[w], atol=2e-5)
    # later on rounding makes paths part: compare the beginning
    np.testing.assert_allclose(one[4].position[:20], lives[4].position[w, :20], atol=2e-3)


def test_a_key_decides_everything(batched, lives, inputs):
  again = jax.tree.map(np.asarray, batched(*inputs))
  for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(lives), strict=True):
    np.testing.assert_array_equal(a, b)
  other = batched(jax.random.split(jax.random.key(12), NUM_WORLDS), inputs[1])
  assert not np.allclose(other[1].position, lives[1].position)


@pytest.mark.parametrize('fields', [{'yielding': 1.2}, {'hidden': -0.1}, {'speed_mean': 3.0}, {'speed_std': -1.0}])
def test_impossible_people_are_refused_by_name(fields):
  with pytest.raises(ValueError, match=next(iter(fields))):
    PeopleConfig(**fields)
