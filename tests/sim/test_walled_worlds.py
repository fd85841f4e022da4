"""The robot between walls given as a grid of distances, beside its twin between primitives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import KIND, Slots
from s2e_jax.sim.contacts import FENCE, NOTHING, WALL, obstacles_near
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.lanes import Leading, in_lanes
from s2e_jax.sim.lidar import clearances_ahead, sector_clearances
from s2e_jax.sim.observe import LAYOUT
from s2e_jax.worlds.distance import outlines
from s2e_jax.worlds.expert import ExpertConfig, expert_command, expert_init, route_radius
from s2e_jax.worlds.people import place_people
from s2e_jax.worlds.walled import walled_world
from tests.worlds import rooms

pytestmark = pytest.mark.usefixtures('compiled_quickly')

BATCH, STEPS = 48, 32
ROBOT = ROBOTS['delivery']


@pytest.fixture(scope='module')
def twins():
  scene = rooms.by_primitives()
  return scene, rooms.by_walls(scene)


def depth(scene, robot, states):
  """[T, B] m that the robot's discs are in things."""
  reach = (robot.footprint.length - robot.footprint.width) / 2
  position, yaw = (np.stack([getattr(s, name) for s in states]) for name in ('position', 'yaw'))
  ahead = np.stack([np.cos(yaw), np.sin(yaw)], -1)
  discs = np.stack([position + k * reach * ahead for k in (-1, 0, 1)])
  gap = np.asarray(rooms.to_things(scene, discs.reshape(-1, 2).astype(np.float32))).reshape(discs.shape[:-1])
  return robot.footprint.width / 2 - gap.min(0)


@pytest.fixture(scope='module')
def roll(twins):
  """(robot's name, level, whether between walls, places, yaws, commands [B, 2], steps) -> [T] of states.

  One program per robot: its scenes hold primitives and walls, and one of them lies far off.
  """
  things, walled = twins
  far = things.replace(walls=walled.walls.replace(distance=jnp.full(rooms.SHAPE, 99.0)))
  programs = {}

  def run(name, level, between_walls, places, yaws, commands, steps):
    if (name, level) not in programs:
      base = make_base(ROBOTS[name], level)
      advance = lambda state, scene, command: base.advance(
        state, command, obstacles_near(base.robot, scene, state.position)
      )
      programs[name, level] = jax.jit(jax.vmap(base.reset)), jax.jit(jax.vmap(advance, (0, None, 0)))
    reset, step = programs[name, level]
    state = reset(places, jnp.asarray(yaws, jnp.float32), jax.random.split(jax.random.key(0), len(places)))
    state = dataclasses.replace(state, slip=jnp.zeros_like(state.slip))
    states = []
    for _ in range(steps):
      state = step(state, walled if between_walls else far, jnp.asarray(commands, jnp.float32))
      states.append(jax.tree.map(np.asarray, state))
    return states

  return run


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  'name, level',
  [
    ('delivery', 'planar'),
    pytest.param('coco', 'planar', marks=SLOW),
    pytest.param('delivery', 'wheels', marks=SLOW),
  ],
)
def test_walls_stop_a_robot_as_primitives_do(twins, roll, name, level):
  robot = ROBOTS[name]
  rng = np.random.default_rng(3)
  places = rooms.free_points(twins[0], BATCH, robot.radius + 0.1)
  commands = np.stack([np.full(BATCH, robot.max_speed), rng.uniform(-0.3, 0.3, BATCH)], -1)
  task = places, rng.uniform(-3.1, 3.1, BATCH), commands, STEPS
  among_things, among_walls = (roll(name, level, between_walls, *task) for between_walls in (False, True))
  assert depth(twins[0], robot, among_walls).max() < 0.02
  apart = np.stack([a.position - b.position for a, b in zip(among_things, among_walls, strict=True)])
  apart = np.linalg.norm(apart, axis=-1)
  # who runs straight into the pillar slips off to either side, sooner or later
  assert np.percentile(apart, 95) < 0.03 and np.percentile(apart[-1], 90) < 0.05
  touched, touched_too = (
    np.stack([s.touch.is_touching for s in states]) for states in (among_things, among_walls)
  )
  assert (touched == touched_too).mean() > 0.99 and touched.mean() > 0.3
  slots = np.stack([s.touch.slot for s in among_walls])
  assert set(slots[touched_too]) <= {WALL, FENCE} and set(slots[~touched_too]) == {NOTHING}
  assert all(np.isfinite(s.qvel).all() for s in among_walls)
  assert np.hypot(*among_walls[-1].qvel[:, :2].T).max() < robot.max_speed + 0.05


def test_a_robot_slides_along_a_wall_and_stops_at_the_next(roll):
  copies = np.ones((BATCH, 1), np.float32)
  states = roll('delivery', 'planar', True, copies * (1.0, 1.5), -0.25 * copies[:, 0], copies * (1.0, 0.0), 56)
  position = np.stack([s.position[0] for s in states])
  front, side = ROBOT.footprint.length / 2, ROBOT.footprint.width / 2
  assert position[:, 1].min() > 0.5 + side - 0.01 and position[:, 0].max() < 11.5 - front + 0.01
  # turned along the wall it goes on as fast as before
  assert (np.diff(position[18:40, 0]) / 0.25).min() > 0.9
  np.testing.assert_allclose(position[-1, 0], 11.5 - front, atol=0.01)
  assert states[-1].touch.is_touching.all() and (states[-1].touch.slot == WALL).all()


def test_lidar_sees_walls_where_primitives_are(twins):
  points = rooms.free_points(twins[0], 400, 0.3)
  yaws = np.random.default_rng(1).uniform(-3, 3, len(points)).astype(np.float32)
  look = jax.jit(jax.vmap(lambda scene, p, y: sector_clearances(outlines(scene), p, y, walls=scene.walls),
                          (None, 0, 0)))  # fmt: skip
  seen, seen_too = (np.asarray(look(scene, points, yaws)) for scene in twins)
  assert np.isfinite(seen_too).all() and (seen_too >= 0).all() and seen_too.max() <= 10
  error = seen_too - seen
  # a ray that grazes the pillar is stopped by its cells, or not
  assert (np.abs(error) < rooms.CELL).mean() > 0.985 and error.max() < 0.3
  ahead = jax.jit(jax.vmap(lambda s, p, y: clearances_ahead(outlines(s), p, y, s.walls), (None, 0, 0)))
  error = np.asarray(ahead(twins[1], points, yaws)) - np.asarray(ahead(twins[0], points, yaws))
  assert (np.abs(error) < rooms.CELL).mean() > 0.98


def test_arrays_that_lead_keep_their_axis_in_lanes():
  grids = jnp.arange(24.0).reshape(2, 4, 3)

  @in_lanes
  def pick(grid, index):
    grid = grid.tree
    assert grid.shape[1:] == (4, 3)
    row = np.arange(grid.shape[0])
    return grid.reshape(grid.shape[0], -1)[row, index]

  index = jnp.array([5, 7])
  np.testing.assert_array_equal(jax.vmap(pick)(Leading(grids), index), [5, 12 + 7])
  np.testing.assert_array_equal(jax.vmap(pick, (None, 0))(Leading(grids[1]), index), [12 + 5, 12 + 7])
  assert float(pick(Leading(grids[1]), index[0])) == 12 + 5


@pytest.fixture(scope='module')
def env(twins):
  """Worlds of the corridor with people, between walls at level 1 and between primitives at level 0."""
  places = jnp.asarray(rooms.free_points(twins[0], 128, 0.6))

  def generate(key, level):
    task_key, people_key = jax.random.split(key)
    first, last = places[jax.random.randint(task_key, (2,), 0, places.shape[0])]
    world = walled_world(
      people_key, twins[1].walls, first, 0.0, last, None, 2, places, slots=rooms.SLOTS, radius=route_radius(ROBOT)
    )
    things = place_people(twins[0], world.people)
    scene = jax.tree.map(lambda a, b: jnp.where(level > 0.5, a, b), world.scene.replace(walls=None), things)
    far = jnp.where(level > 0.5, twins[1].walls.distance, 1e3)
    return world.replace(scene=scene.replace(walls=twins[1].walls.replace(distance=far)))

  return UrbanEnv(generate, EnvConfig(robot=ROBOT, end_on_collision=False, time_limit=60.0))


@pytest.fixture(scope='module')
def drive(env):
  """(level, is_expert) -> what happened in episodes that the expert drives, or that go straight; one program."""
  num = 16

  @jax.jit
  def drive(level, is_expert):
    state = jax.vmap(lambda key: env.begin(key, level))(jax.random.bits(jax.random.key(2), (num, 2), jnp.uint32))
    memory = jax.vmap(lambda world: expert_init(ROBOT, ExpertConfig(), world))(state.pipeline_state.world)

    def act(memory, episode):
      base = episode.base
      velocity = jnp.stack([base.velocity[0], base.yaw_rate])
      return expert_command(
        ROBOT, ExpertConfig(), memory, episode.world, episode.people, base.position, base.yaw, velocity
      )

    def step(carry, _):
      state, memory, arrived = carry
      command, memory = jax.vmap(act)(memory, state.pipeline_state)
      state = jax.vmap(env.step)(state, jnp.where(is_expert, command, jnp.array([1.0, 0.0])))
      names = 'has_collided', 'hit_kind', 'hit_slot', 'hit_by_robot'
      seen = {name: state.info[name] for name in names} | {'is_over': arrived, 'obs': state.obs}
      return (state, memory, arrived | state.info['has_arrived']), seen

    (_, _, arrived), seen = jax.lax.scan(step, (state, memory, jnp.zeros(num, bool)), None, length=160)
    return seen | {'arrived': arrived}

  return lambda level, is_expert: jax.tree.map(np.asarray, drive(jnp.float32(level), jnp.bool_(is_expert)))


@pytest.fixture(scope='module')
def driven(drive):
  """The expert's episodes between primitives, and between walls."""
  return [drive(level, True) for level in (0, 1)]


def test_the_expert_arrives_between_walls_as_it_does_between_primitives(driven):
  among_things, among_walls = driven
  assert among_walls['arrived'].mean() >= among_things['arrived'].mean() and among_walls['arrived'].mean() > 0.9
  assert not (among_walls['has_collided'] & ~among_walls['is_over'] & (among_walls['hit_slot'] == WALL)).any()
  assert np.isfinite(among_walls['obs']).all()


def test_the_state_tells_of_walls(driven):
  begin = sum(size for name, size in list(LAYOUT.items())[: list(LAYOUT).index('clearances')])
  expected, found = (seen['obs'][0, :, begin : begin + LAYOUT['clearances']] for seen in driven)
  assert (np.abs(found - expected) < 0.02).mean() > 0.9 and found.min(-1).max() < 0.2


def test_running_into_a_wall_is_a_collision_with_a_wall(drive):
  seen = drive(1, False)
  into_wall = seen['has_collided'] & (seen['hit_slot'] == WALL)
  assert into_wall.any(0).mean() > 0.6
  assert (seen['hit_kind'][into_wall] == KIND['wall']).all() and seen['hit_by_robot'][into_wall].all()


def test_slots_of_what_is_touched_are_told_apart():
  assert len({WALL, FENCE, NOTHING}) == 3 and max(WALL, FENCE, NOTHING) < 0 < Slots().num
