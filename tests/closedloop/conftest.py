"""A street drawn by hand, free or blocked, and one program that every driving test shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.closedloop.policies import DrivingPolicy, Told, camera_policy, goal_seeker
from s2e_jax.controller import CommandLimits, trajectory_to_command
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.robots import ROBOTS
from s2e_jax.scene import KIND
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.rewards import TERMS
from s2e_jax.structs import Observation
from s2e_jax.worlds import builders
from s2e_jax.worlds.people import walkers

ROBOT = ROBOTS['delivery']
LIMITS = CommandLimits.of(ROBOT)
SMALL = dict(
  image_height=32, image_width=48, num_history=3,
  width=32, num_context_layers=1, num_decoder_layers=1, num_heads=2, mlp_dim=48,
)  # fmt: skip
FREE, BLOCKED = 0.0, 1.0  # levels of the street
CAMERA = -1.0  # share that lets the camera drive


@pytest.fixture(scope='session')
def street_env():
  """Level 0: a free pavement along x with a person far off; level 1: a box across the way. Starts vary."""
  with pytest.MonkeyPatch.context() as patch:
    # op by op these searches take many seconds
    for name in ('primitive_distances', 'fence_distance', 'free_space', 'geodesic', 'geodesic_at'):
      patch.setattr(builders, name, jax.jit(getattr(builders, name)))
    empty = builders.empty_scene()
    empty = empty.replace(kind=empty.kind.at[20:28].set(KIND['person']))
    blocked = builders.with_box(empty, 0, 1.0, 0.0, 0.3, 1.2, 1.0)
    people = walkers(empty, jnp.array([[[10.0, 1.5], [12.0, 1.5]]]), 1.0, num=4)
    worlds = [builders.world_from(scene, (-6.0, 0.0), 0.0, (6.0, 0.0), people) for scene in (empty, blocked)]

  def generator(key, level):
    world = jax.tree.map(lambda a, b: jnp.where(level < 0.5, a, b), *worlds)
    forward = 1.0 + 3.0 * jax.random.uniform(key)
    start = world.start_in_world + jnp.stack([forward, 0.0])
    return world.replace(start_in_world=start, path_length=world.path_length - forward)

  rules = EnvConfig(ROBOT, time_limit=15.0, end_on_collision=False, weights={name: 0.0 for name in TERMS})
  return UrbanEnv(generator, rules)


@pytest.fixture(scope='session')
def small_policy():
  """(config, variables) of an untrained policy; drawn on the host, which takes no compiling."""
  policy = Policy(policy_config('s2e_tiny', **SMALL))
  shapes = jax.eval_shape(policy.init, jax.random.key(0), example_observation(policy.config))
  rng = np.random.default_rng(0)
  return policy.config, jax.tree.map(lambda x: rng.normal(0.0, 0.1, x.shape).astype(x.dtype), dict(shapes))


@pytest.fixture(scope='session')
def all_in_one(small_policy):
  """Camera policy and goal seeker as one policy, so that tests compile one program.

  params: share (CAMERA, or what the seeker takes), variables, tolerance. Beside the ring it keeps the stack of
  frames and encodes all of it in every step; where tokens or command differ by more than the tolerance it
  commands NaN.
  """
  config, _ = small_policy
  camera, seeker, policy = camera_policy(config, LIMITS, shadow=False), goal_seeker(LIMITS), Policy(config)

  def init(shown):
    num = shown.is_first.shape[0]
    stack = jnp.zeros((num, config.num_history, config.image_height, config.image_width, 3), jnp.uint8)
    return camera.init(shown), stack

  def act(params, memory, shown, pictures):
    assert isinstance(shown, Told) and pictures.depth is None and pictures.segmentation is None
    tokens, stack = memory
    frames = pictures.rgb
    shifted = jnp.concatenate([stack[:, 1:], frames[:, None]], axis=1)
    refilled = jnp.repeat(frames[:, None], config.num_history, axis=1)
    stack = jnp.where(shown.is_first[:, None, None, None, None], refilled, shifted)
    command, tokens = camera.act(params['variables'], tokens, shown, pictures)
    anew = policy.apply(params['variables'], stack, method='encode_frames')
    observation = Observation(stack, shown.goal_in_robot, jnp.ones(shown.is_first.shape, bool))
    found = policy.apply(params['variables'], observation)
    best = jnp.argmax(found.logits, axis=-1)[:, None, None, None]
    way = jnp.take_along_axis(found.waypoints_in_robot, best, axis=1)[:, 0]
    expected = trajectory_to_command(way, LIMITS)
    away = jnp.abs(anew - tokens).max((1, 2)) + jnp.abs(expected - command).max(1)
    command = jnp.where(away[:, None] > params['tolerance'], jnp.nan, command)
    blind, _ = seeker.act(params['share'], jnp.zeros(()), shown, None)
    return jnp.where(params['share'] < 0, command, blind), (tokens, stack)

  return DrivingPolicy(init, act, camera.options)


@pytest.fixture(scope='session')
def params_of(small_policy):
  """share, tolerance -> params of `all_in_one`."""

  def of(share, tolerance=1e-4):
    return {'share': jnp.float32(share), 'tolerance': jnp.float32(tolerance), 'variables': small_policy[1]}

  return of
