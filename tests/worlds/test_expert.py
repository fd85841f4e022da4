"""The planner in hand-drawn worlds, at the wheel of a kinematic robot with lag; people do not react to it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Slots, to_street
from s2e_jax.worlds.builders import empty_scene, with_box, with_cylinder, world_from
from s2e_jax.worlds.distance import clearance, fence_distance
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig, expert_command, expert_init
from s2e_jax.worlds.expert_rollout import STEP, Costs, Motion, moved
from s2e_jax.worlds.expert_surroundings import near_street, person_clearance, static_clearance, surroundings_of
from s2e_jax.worlds.people import no_people, walkers
from s2e_jax.worlds.routes import UNREACHABLE, cell_centres, geodesic_at

pytestmark = pytest.mark.usefixtures('compiled_quickly')

ROBOT, COCO = ROBOTS['delivery'], ROBOTS['coco']
SLOTS = Slots(4, 2, 2, 0)
STEPS = 110
GROUND = {'bounds': (-11.0, 11.0, -5.0, 5.0), 'road': (0.0, -1.0), 'paved': (-5.0, 5.0)}


def street(**changes):
  return empty_scene(SLOTS, **GROUND | changes)


def pocket(x):
  """A dead end open to the left whose back stands at x."""
  scene = with_box(street(), 0, x, 0.0, 0.15, 1.8, 1.5)
  scene = with_box(scene, 1, x - 1.5, 1.8, 1.5, 0.15, 1.5)
  return with_box(scene, 2, x - 1.5, -1.8, 1.5, 0.15, 1.5)


def gates():
  """Two walls with a gap of 1.2 m each, on different sides."""
  scene = street()
  for i, (x, middle) in enumerate(((-3.0, 1.5), (2.0, -1.5))):
    low, high = middle - 0.6, middle + 0.6
    scene = with_box(scene, 2 * i, x, (low - 5) / 2, 0.2, (low + 5) / 2, 1.5)
    scene = with_box(scene, 2 * i + 1, x, (high + 5) / 2, 0.2, (5 - high) / 2, 1.5)
  return scene


def people(scene, paths, speed):
  return walkers(scene, jnp.asarray(paths, jnp.float32), speed, SLOTS.people)


def make_worlds():
  nobody = no_people(SLOTS.people)
  post = with_cylinder(with_box(street(curvature=0.02), 0, 0.5, -0.9, 0.4, 0.6, 1.0), 0, -4.0, -0.3, 0.2, 1.0)
  # who crosses reaches the robot's way when the robot would
  crossing = people(street(), [[[-1.5, -4.6], [-1.5, 4.6]]], 0.9)
  pair = people(street(), [[[0.0, 0.35], [0.01, 0.35]], [[0.0, -0.35], [0.01, -0.35]]], 0.0)
  return {
    'open': world_from(street(), (-9, 0), 0.0, (8, 0), nobody),
    'things': world_from(post, (-9, 0), 0.0, (8, 0), nobody),
    'gates': world_from(gates(), (-9, 0), 0.0, (8, 0), nobody),
    'before_pocket': world_from(pocket(1.0), (-9, 0), 0.0, (8, 0), nobody),
    'in_pocket': world_from(pocket(1.0), (0.2, 0.3), 0.0, (8, 0), nobody),
    'backwards': world_from(street(), (-9, 0), math.pi - 0.1, (8, 0), nobody),
    'crossing': world_from(street(), (-9, 0), 0.0, (8, 0), crossing),
    'standing': world_from(street(), (-9, 0), 0.0, (8, 0), pair),
  }


def driven(robot, config, worlds):
  """Trace of the expert in stacked worlds: position, yaw, command, person, waited; [T, B, ...]."""

  def plant(pos, yaw, velocity, before, command):
    tick = STEP / 5
    for i in range(5):
      target = command if i * tick >= robot.latency - 1e-6 else before
      limit = jnp.array([robot.max_acceleration, robot.max_yaw_acceleration]) * tick
      brake = jnp.array([robot.max_braking, robot.max_yaw_acceleration]) * tick
      share = 1 - np.exp(-tick / np.array([robot.time_constant, robot.yaw_time_constant]))
      change = share * (target - velocity)
      velocity = velocity + jnp.clip(change, -jnp.where(velocity[0] > 0, brake, limit), limit)
      yaw = yaw + tick * velocity[1]
      pos = pos + tick * velocity[0] * jnp.stack([jnp.cos(yaw), jnp.sin(yaw)])
    return pos, yaw, velocity

  def one(world):
    def step(carry, _):
      memory, pos, yaw, velocity, before, people = carry
      command, memory = expert_command(robot, config, memory, world, people, pos, yaw, velocity)
      pos, yaw, velocity = plant(pos, yaw, velocity, before, command)
      people = people.replace(position=people.position + STEP * people.velocity)
      seen = {'pos': pos, 'yaw': yaw, 'velocity': velocity, 'command': command, 'person': people.position}
      return (memory, pos, yaw, velocity, command, people), seen

    zero = jnp.zeros(2)
    start = (
      expert_init(robot, config, world), world.start_in_world, world.start_yaw, zero, zero, world.people
    )  # fmt: skip
    return jax.lax.scan(step, start, None, length=STEPS)[1]

  drive = jax.jit(jax.vmap(one, out_axes=1))
  trace = jax.tree.map(np.asarray, drive(worlds))
  drive(jax.tree.map(lambda x: x, worlds))
  assert drive._cache_size() == 1
  return trace


@pytest.fixture(scope='module')
def worlds():
  return make_worlds()


@pytest.fixture(scope='module')
def stacked(worlds):
  return jax.tree.map(lambda *x: jnp.stack(x), *worlds.values())


@pytest.fixture(scope='module')
def traces(worlds, stacked):
  trace = driven(ROBOT, ExpertConfig(), stacked)
  return {name: {k: v[:, i] for k, v in trace.items()} for i, name in enumerate(worlds)}


def footprint(robot, trace):
  """Middles [T, 3, 2] of the discs that span the footprint."""
  reach = robot.footprint.length / 2 - robot.footprint.width / 2
  ahead = np.stack([np.cos(trace['yaw']), np.sin(trace['yaw'])], axis=-1)
  return trace['pos'][:, None] + reach * np.array([-1, 0, 1])[:, None] * ahead[:, None]


def gap_to_things(robot, scene, trace):
  discs = jnp.asarray(footprint(robot, trace).reshape(-1, 2))
  gap = jnp.minimum(clearance(scene, discs)[0], fence_distance(scene.ground, discs)[0])
  return float(gap.min()) - robot.footprint.width / 2


def gap_to_people(robot, world, trace):
  discs = footprint(robot, trace)
  gap = np.linalg.norm(discs[:, :, None] - trace['person'][:, None], axis=-1) - 0.25
  return gap[..., np.asarray(world.people.present)].min(axis=(1, 2)) - robot.footprint.width / 2


NAMES = ('open', 'things', 'gates', 'before_pocket', 'in_pocket', 'backwards', 'crossing', 'standing')


@pytest.mark.parametrize('name', NAMES)
def test_it_arrives_without_touching_anything(worlds, traces, name):
  world, trace = worlds[name], traces[name]
  assert np.linalg.norm(trace['pos'] - np.asarray(world.goal_in_world), axis=-1).min() < 1.0
  assert gap_to_things(ROBOT, world.scene, trace) > 0.02
  if name in ('crossing', 'standing'):
    assert gap_to_people(ROBOT, world, trace).min() > 0.15


def test_it_stays_at_the_goal(worlds, traces):
  for name in ('open', 'crossing'):
    distance = np.linalg.norm(traces[name]['pos'] - np.asarray(worlds[name].goal_in_world), axis=-1)
    assert distance[-5:].max() < 1.0
    assert np.abs(traces[name]['command'][-5:]).max() == 0


def test_in_the_open_it_drives_fast_and_straight(traces):
  trace = traces['open']
  assert trace['velocity'][8:30, 0].min() > 0.9 * ROBOT.max_speed
  assert np.abs(trace['pos'][:, 1]).max() < 0.1
  arrival = np.argmax(np.linalg.norm(trace['pos'] - [8, 0], axis=-1) < 1)
  assert arrival * STEP < 1.35 * 16 / ROBOT.max_speed


def test_commands_stay_within_the_robots_limits(traces):
  for trace in traces.values():
    v, w = trace['command'][..., 0], trace['command'][..., 1]
    assert v.min() >= ROBOT.min_speed - 1e-6 and v.max() <= ROBOT.max_speed + 1e-6
    assert np.abs(w).max() <= ROBOT.max_yaw_rate + 1e-6


def test_it_never_enters_a_dead_end_and_leaves_one_by_turning_round(traces):
  outside = traces['before_pocket']['pos']
  assert not ((np.abs(outside[:, 1]) < 1.5) & (outside[:, 0] > -1.7) & (outside[:, 0] < 0.9)).any()
  inside = traces['in_pocket']
  assert inside['pos'][:, 0].min() < -2.0
  # it turns before it drives: nearly on the spot
  turned = np.argmax(np.abs(inside['yaw']) > 1.2)
  assert 0 < turned < 12
  assert np.linalg.norm(inside['pos'][turned] - (0.2, 0.3)) < 0.5


def test_it_lets_a_person_cross(worlds, traces):
  alone, crossing = traces['open'], traces['crossing']
  gap = gap_to_people(ROBOT, worlds['crossing'], crossing)
  assert gap.min() < 3.0  # they do meet
  # where the robot would have been without regard for them, they would have collided
  blind = gap_to_people(ROBOT, worlds['crossing'], {**alone, 'person': crossing['person']})
  assert blind.min() < 0.1
  # near people it is slow: at most creep + 1 m/s per metre of distance, and what the lag leaves
  close = gap < 0.8
  assert (np.abs(crossing['velocity'][close, 0]) < 0.3 + gap[close] + 0.35).all()


def test_careful_drives_keep_farther_away(worlds, stacked, traces):
  trace = driven(ROBOT, CAREFUL, stacked)
  careful = {name: {k: v[:, i] for k, v in trace.items()} for i, name in enumerate(worlds)}
  things, standing = worlds['things'], worlds['standing']
  assert np.linalg.norm(careful['things']['pos'][-1] - np.asarray(things.goal_in_world)) < 1.0

  def gaps(trace):
    return (
      gap_to_things(ROBOT, things.scene, trace['things']),
      gap_to_people(ROBOT, standing, trace['standing']).min(),
    )

  for careful_gap, usual_gap in zip(gaps(careful), gaps(traces), strict=True):
    assert careful_gap > usual_gap + 0.05


def test_each_of_a_batch_gets_the_command_it_gets_alone(stacked, worlds):
  memories = jax.jit(jax.vmap(lambda world: expert_init(ROBOT, ExpertConfig(), world)))(stacked)
  rng = np.random.default_rng(0)
  pos = np.asarray(stacked.start_in_world) + rng.uniform(-0.1, 0.1, (len(worlds), 2)).astype(np.float32)
  velocity = jnp.asarray(rng.uniform(0, 1, (len(worlds), 2)), jnp.float32)

  def act(memory, world, pos, velocity):
    return expert_command(ROBOT, ExpertConfig(), memory, world, world.people, pos, world.start_yaw, velocity)[0]

  together = jax.jit(jax.vmap(act))(memories, stacked, jnp.asarray(pos), velocity)
  alone = jax.jit(act)
  for i, world in enumerate(worlds.values()):
    memory = jax.tree.map(lambda x, i=i: x[i], memories)
    np.testing.assert_allclose(together[i], alone(memory, world, pos[i], velocity[i]), atol=1e-3)
  assert alone._cache_size() == 1


def test_an_ackermann_robot_is_told_only_what_it_can_steer(worlds, stacked):
  config = ExpertConfig(max_speed=1.8)

  def act(world, pos, yaw, velocity):
    memory = expert_init(COCO, config, world)
    return expert_command(COCO, config, memory, world, world.people, pos, yaw, velocity)[0]

  rng = np.random.default_rng(1)
  pos = jnp.asarray(np.asarray(stacked.start_in_world) + rng.uniform(-0.5, 0.5, (len(worlds), 2)), jnp.float32)
  act = jax.jit(jax.vmap(act))
  commands = []
  for _ in range(6):
    yaw = jnp.asarray(rng.uniform(-3, 3, len(worlds)), jnp.float32)
    velocity = jnp.asarray(np.stack([rng.uniform(0, 2, len(worlds)), np.zeros(len(worlds))], -1), jnp.float32)
    commands.append(np.asarray(act(stacked, pos, yaw, velocity)))
  v, w = np.concatenate(commands).T
  assert (v >= 0).all() and v.max() <= 1.8 + 1e-5 and v.max() > 1.0
  curvature = math.tan(COCO.max_steer) / COCO.wheelbase
  assert (np.abs(w) <= curvature * np.abs(v) + 1e-5).all()
  assert np.abs(w).max() > 0.5


def test_rollouts_move_as_the_finely_integrated_robot_does():
  costs = Costs(ROBOT, *[0.1] * 9)
  zero = jnp.zeros(2)
  motion = Motion(zero, zero, zero, zero + 1, zero, jnp.array([0.2, 1.0]), jnp.array([0.0, -0.5]), zero)
  target_v, target_w = jnp.array([1.4, 0.0]), jnp.array([0.7, 1.2])
  x, y, heading, v, w = (np.array(a, float) for a in (motion.x, motion.y, motion.heading, motion.v, motion.w))
  tick = 1e-3
  for _ in range(8):
    motion = moved(costs, motion, target_v, target_w)
    for _ in range(250):
      # the lag that a rollout has: latency counts as lag
      dv = (np.array(target_v) - v) * (1 - math.exp(-tick / (ROBOT.time_constant + ROBOT.latency)))
      dw = (np.array(target_w) - w) * (1 - math.exp(-tick / (ROBOT.yaw_time_constant + ROBOT.latency)))
      v += np.clip(dv, -ROBOT.max_braking * tick, ROBOT.max_acceleration * tick)
      w += np.clip(dw, -ROBOT.max_yaw_acceleration * tick, ROBOT.max_yaw_acceleration * tick)
      heading += tick * w
      x, y = x + tick * v * np.cos(heading), y + tick * v * np.sin(heading)
  np.testing.assert_allclose(motion.x, x, atol=0.1)
  np.testing.assert_allclose(motion.y, y, atol=0.1)
  np.testing.assert_allclose(motion.heading, heading, atol=0.08)
  np.testing.assert_allclose(motion.v, v, atol=0.03)


def test_what_it_sees_is_what_the_distances_say(worlds):
  world = worlds['things']
  crowd = people(world.scene, [[[1.0, 2.0], [4.0, 2.0]]], 1.0)
  pos = jnp.array([-1.0, 0.4])
  near = surroundings_of(world.scene, crowd, world.goal_in_world, pos, ROBOT.height)
  rng = np.random.default_rng(0)
  offset = jnp.asarray(rng.uniform(-3, 3, (50, 2)), jnp.float32)
  expected = clearance(world.scene, pos + offset, height=ROBOT.height)[0]
  found = static_clearance(near, offset[:, 0], offset[:, 1])
  np.testing.assert_allclose(found, np.where(expected < 0, np.minimum(found, 0), expected), atol=1e-4)
  later = person_clearance(near, offset[:, 0], offset[:, 1], jnp.float32(2.0), 0.1)
  np.testing.assert_allclose(later, np.linalg.norm(pos + offset - np.array([3.0, 2.0]), axis=-1) - 0.45, atol=1e-4)
  s, d = to_street(pos[0] + offset[:, 0], pos[1] + offset[:, 1], world.scene.ground.curvature)
  near_s, near_d = near_street(near, offset[:, 0], offset[:, 1])
  np.testing.assert_allclose(near_s, s, atol=0.02)
  np.testing.assert_allclose(near_d, d, atol=0.02)


def test_the_field_points_down_the_way_and_goes_round_people_who_stand(worlds):
  world = worlds['standing']
  field = jax.jit(lambda w: expert_init(ROBOT, ExpertConfig(), w).field)(world)
  s, d = cell_centres(world.scene.ground)
  points = jnp.stack([jnp.broadcast_to(s[:, None], (64, 64)), jnp.broadcast_to(d, (64, 64))], axis=-1)
  start = points[4:-4:5, 4:-4:5].reshape(-1, 2)
  down = jnp.stack([field.down_x, field.down_y], axis=-1)[4:-4:5, 4:-4:5].reshape(-1, 2)
  before = geodesic_at(field.to_goal, world.scene.ground, start)
  after = geodesic_at(field.to_goal, world.scene.ground, start + 0.3 * down)
  usable = np.asarray((before > 1.0) & (before < UNREACHABLE))
  assert (np.asarray(before - after)[usable] > 0.15).mean() > 0.95
  between = geodesic_at(field.to_goal, world.scene.ground, jnp.array([[-0.7, 0.0], [-0.7, 1.4]]))
  assert between[0] > between[1]


@pytest.mark.parametrize(('field', 'value'), [('margin', -0.1), ('max_speed', 0), ('caution', -1.0)])
def test_a_config_that_makes_no_sense_is_refused(field, value):
  with pytest.raises(ValueError, match=field):
    ExpertConfig(**{field: value})
