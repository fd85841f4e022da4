"""Generated worlds keep their promises, checked by code that shares nothing with the generator but the record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from s2e_jax.scene import SLOTS, Slots, ground_height, on_pavement, to_street, to_world
from s2e_jax.worlds.config import WorldConfig, budget
from s2e_jax.worlds.distance import clearance
from s2e_jax.worlds.generate import make_generator
from s2e_jax.worlds.layouts import LAYOUTS, layout_table
from s2e_jax.worlds.routes import UNREACHABLE, free_space, geodesic, geodesic_at

pytestmark = pytest.mark.usefixtures('compiled_quickly')

RADIUS = 0.375
BATCH = 32
# C-near knows every layout, and the layout does not depend on the look
CONFIG = WorldConfig(
  slots=SLOTS['small'], look='C-near', layouts=dict.fromkeys(LAYOUTS, 1.0), people=(0, 4), robot_radius=RADIUS
)
VARIANTS = layout_table(CONFIG.layout_weights).names


def promises(world):
  """What is promised of one world, measured."""
  points = jnp.stack([world.start_in_world, world.goal_in_world])
  ground = world.scene.ground
  s, d = to_street(points[:, 0], points[:, 1], ground.curvature)
  on_foot = free_space(world.scene, RADIUS, off_pavement=jnp.inf)
  length = geodesic_at(geodesic(world.scene, on_foot, world.goal_in_world), ground, points[:1])[0]
  return {
    'layout': world.layout,
    'clear': clearance(world.scene, points, include_people=True)[0] - RADIUS,
    'paved': on_pavement(ground, s, d),
    'on_foot': length,
    'path': world.path_length,
    'straight': jnp.linalg.norm(points[1] - points[0]),
    'inside': jnp.minimum(
      jnp.minimum(s - ground.bounds[0], ground.bounds[1] - s),
      jnp.minimum(d - ground.bounds[2], ground.bounds[3] - d),
    ),
    'is_finite': jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(world)])),
  }


@pytest.fixture(scope='module')
def program():
  """(worlds, promises) of BATCH keys at a level: one compiled program for the whole file."""
  generate = make_generator(CONFIG)

  def run(keys, level):
    worlds = jax.vmap(generate, in_axes=(0, None))(keys, level)
    return worlds, jax.vmap(promises)(worlds)

  return jax.jit(run)


def batch(program, seed, level=1.0):
  return jax.tree.map(np.asarray, program(jax.random.split(jax.random.key(seed), BATCH), jnp.float32(level)))


@pytest.fixture(scope='module')
def sample(program):
  """Worlds and measured promises of 10 batches at levels 0 to 1."""
  batches = [batch(program, seed, seed / 9) for seed in range(10)]
  return jax.tree.map(lambda *x: np.concatenate(x), *batches)


def assert_kept(found):
  assert found['is_finite'].all()
  assert found['clear'][:, 0].min() >= 0.3, 'something overlaps the robot at the start'
  assert found['clear'][:, 1].min() >= 0.3, 'the goal is not clear'
  assert found['paved'].all()
  assert found['inside'].min() > RADIUS
  assert found['on_foot'].max() < UNREACHABLE, 'a goal that pavements and crossings do not lead to'
  assert found['path'].max() < UNREACHABLE


def test_starts_are_clear_and_goals_can_be_reached_on_pavements(sample):
  _, found = sample
  assert set(found['layout']) == set(range(len(VARIANTS)))
  assert_kept(found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_promises_hold_in_ten_thousand_scenes_of_every_layout(program):
  counts, seed, parts = np.zeros(len(VARIANTS), int), 1000, []
  by_name = lambda: {name: sum(c for c, v in zip(counts, VARIANTS, strict=True) if v == name) for name in LAYOUTS}
  while min(by_name().values()) < 10_000:
    found = batch(program, seed, (seed % 11) / 10)[1]
    assert_kept(found)
    counts += np.bincount(found['layout'], minlength=len(VARIANTS))
    parts.append(found)
    seed += 1
  assert min(counts) > 500
  for name in ('clear', 'on_foot', 'straight'):
    values = np.concatenate([part[name] for part in parts])
    print(f'{name}: min {values.min(axis=0)} max {values.max(axis=0)}')
  print(by_name())


def solids(world):
  """(boxes [N, 5] x y yaw half_x half_y, discs [M, 3]) that reach into the robot's height, in numpy."""
  scene, high_robot = world.scene, 0.65

  def reaches(record):
    s, d = to_street(jnp.asarray(record.x), jnp.asarray(record.y), scene.ground.curvature)
    floor = np.asarray(ground_height(scene.ground, s, d))
    return (record.high > record.low) & (record.low < floor + high_robot) & (record.high > floor + 0.05)

  boxes = np.stack([getattr(scene.boxes, n) for n in ('x', 'y', 'yaw', 'half_x', 'half_y')], -1)
  discs = [
    np.stack([record.x, record.y, record.radius], -1)[reaches(record)]
    for record in (scene.cylinders, scene.capsules)
  ]
  return boxes[reaches(scene.boxes)], np.concatenate(discs)


def is_blocked(boxes, discs, x, y, radius):
  """Whether a disc of `radius` at (x, y) touches anything."""
  hit = np.zeros(x.shape, bool)
  for cx, cy, yaw, hx, hy in boxes:
    dx, dy = x - cx, y - cy
    u, v = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
    hit |= np.hypot(np.maximum(np.abs(u) - hx, 0), np.maximum(np.abs(v) - hy, 0)) < radius
  for cx, cy, r in discs:
    hit |= np.hypot(x - cx, y - cy) < r + radius
  return hit


def test_a_flood_fill_on_a_fine_grid_reaches_every_goal(sample):
  worlds, _ = sample
  for i in range(0, worlds.layout.shape[0], 7):
    world = jax.tree.map(lambda x, i=i: x[i], worlds)
    ground = world.scene.ground
    low_s, high_s, low_d, high_d = ground.bounds
    # one shape for all scenes: cells of 0.1 m or less
    s, d = np.meshgrid(np.linspace(low_s, high_s, 420), np.linspace(low_d, high_d, 340), indexing='ij')
    x, y = (np.asarray(v) for v in to_world(jnp.asarray(s), jnp.asarray(d), ground.curvature))
    n = world.people.present.shape[0]
    boxes, discs = solids(world)
    # people walk away
    people = world.people.position[world.people.present]
    if len(people):
      discs = discs[np.min(np.linalg.norm(discs[:, None, :2] - people, axis=-1), axis=1) > 1e-4]
    paved = np.asarray(on_pavement(ground, jnp.asarray(s), jnp.asarray(d)))
    free = paved & ~is_blocked(boxes, discs, x, y, RADIUS)
    areas, _ = ndimage.label(free)
    ends = [np.unravel_index(np.argmin(np.hypot(x - p[0], y - p[1])), x.shape)
            for p in (world.start_in_world, world.goal_in_world)]  # fmt: skip
    name = VARIANTS[world.layout]
    assert areas[ends[0]] > 0 and areas[ends[0]] == areas[ends[1]], f'{name}, scene {i}: no way ({n} people)'


def test_nothing_overlaps_the_robot_by_an_independent_measure(sample):
  worlds, _ = sample
  for i in range(worlds.layout.shape[0]):
    world = jax.tree.map(lambda x, i=i: x[i], worlds)
    boxes, discs = solids(world)
    for point in (world.start_in_world, world.goal_in_world):
      assert not is_blocked(boxes, discs, point[:1], point[1:], RADIUS + 0.299)[0]


def test_the_level_scales_distance_density_and_people(program):
  figures = []
  for level in (0.0, 0.5, 1.0):
    worlds, found = batch(program, 77, level)
    solid = worlds.scene.boxes.high > worlds.scene.boxes.low
    figures.append((found['path'].mean(), solid.sum(1).mean(), worlds.people.present.sum(1).mean()))
  low, middle, high = np.array(figures)
  assert (low < middle).all() and (middle < high).all()
  assert low[2] == 0


def test_straight_lines_are_as_long_as_the_config_says(sample):
  _, found = sample
  names = np.array(VARIANTS)[found['layout']]
  is_straight = np.isin(names, ('straight', 'narrow', 'plaza'))
  low, high = CONFIG.goal_distance
  # the way is `goal_distance` long; swerves and turns make the straight line shorter
  assert found['straight'].max() <= high + 1e-3
  assert found['straight'][is_straight].min() >= 0.8 * low
  assert found['straight'].min() >= 0.55 * low


def test_one_key_gives_one_world_and_another_key_another(program):
  first, again, other = (batch(program, seed)[0] for seed in (5, 5, 6))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert np.abs(first.goal_in_world - other.goal_in_world).max() > 1
  # and within a batch no two are alike
  assert len(np.unique(first.goal_in_world.round(3), axis=0)) == BATCH


def test_dead_ends_close_the_straight_way(sample):
  worlds, _ = sample
  names = np.array(VARIANTS)[worlds.layout]
  blocked = []
  for i in np.flatnonzero(names == 'dead_end'):
    world = jax.tree.map(lambda x, i=i: x[i], worlds)
    share = np.linspace(0, 1, 200)[:, None]
    line = world.start_in_world * (1 - share) + world.goal_in_world * share
    blocked.append(is_blocked(*solids(world), line[:, 0], line[:, 1], RADIUS).any())
  assert len(blocked) > 10 and np.mean(blocked) > 0.8


def test_buildings_line_both_sides_of_streets(sample):
  worlds, _ = sample
  num = budget(CONFIG.slots).facades
  names = np.array(VARIANTS)[worlds.layout]
  d = worlds.scene.boxes.y[:, :num]
  there = (worlds.scene.boxes.high > worlds.scene.boxes.low)[:, :num]
  for i in np.flatnonzero(names == 'straight'):
    assert (d[i][there[i]] > 0).any() and (d[i][there[i]] < 0).any()


@pytest.mark.slow
def test_scenes_with_few_slots_are_worlds_too():
  config = WorldConfig(slots=Slots(2, 1, 1, 0), layouts={'slalom': 1.0}, people=(0, 1), object_density=(0, 0))
  world = jax.jit(make_generator(config))(jax.random.key(3), 1.0)
  assert np.isfinite(float(world.path_length)) and float(world.path_length) < 60
