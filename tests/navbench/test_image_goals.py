"""Who is told an image is shown every goal of a chain as the way leads there, and the next one in its turn."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.navbench import get_config
from s2e_jax.closedloop.episodes import goal_pictures, make_drive, on_leg
from s2e_jax.closedloop.policies import DrivingPolicy
from s2e_jax.navbench.command import no_world
from s2e_jax.navbench.prepare import Settings, prepare_gaussians
from s2e_jax.navbench.scenery import make_sceneries
from s2e_jax.navbench.worlds import ROOM, make_begin, plans_of
from s2e_jax.render.render import Pictures, RenderOptions
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.settings import env_config
from tests.navbench.procedural_splats import courtyard, splat

pytestmark = pytest.mark.usefixtures('compiled_quickly')

NUM = 4


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
  world = dataclasses.replace(courtyard(), spacing=0.1)
  source, settings = {'file': 'x', 'sha256': 'x', 'num_dropped': 0}, Settings(up='z', tasks=('long',), num=NUM)
  folder = tmp_path_factory.mktemp('court')
  return prepare_gaussians(splat(world), folder, 'court', source, settings, say=lambda line: None)[0]


@pytest.fixture(scope='module')
def env():
  return UrbanEnv(no_world, dataclasses.replace(env_config(get_config().env), time_limit=20.0))


def where_the_camera_stands(scenery, episodes, options, senses, wanted=None):
  """In place of a picture [B, 1, 1, 3]: x, y and yaw."""
  base = episodes.base
  return Pictures(rgb=jnp.concatenate([base.position, base.yaw[:, None]], axis=1)[:, None, None])


def angle_between(a, b):
  return abs(math.remainder(math.atan2(a[1], a[0]) - math.atan2(b[1], b[0]), 2 * math.pi))


def test_the_picture_of_every_goal_of_a_chain_looks_where_the_way_leads(env, scene):
  scenery = jax.tree.map(jnp.asarray, make_sceneries([scene])[0])
  file = scene.episodes('long')
  episodes, legs = make_begin(env, ROOM)(scenery, jax.tree.map(jnp.asarray, plans_of(file, range(NUM))))
  traced = []

  def see(*given):
    traced.append(given[3])
    return where_the_camera_stands(*given)

  policy = DrivingPolicy(None, None, RenderOptions(1, 1), senses=('depth',), goal='image')
  views = jax.jit(lambda e, l: goal_pictures(policy, see, scenery, e, l))(episodes, legs)
  assert traced == [('rgb',)] and views.shape[:2] == (legs.goal.shape[1], NUM)
  off, turned = [], []
  for b, planned in enumerate(file.episodes):
    way, done, start = np.array(planned.way), 0, planned.start  # another planner's: corners over cells of a graph
    for leg, goal in enumerate(planned.goals):
      x, y, yaw = np.asarray(views)[leg, b, 0, 0]
      np.testing.assert_allclose((x, y), goal, atol=1e-4)
      end = done + int(np.argmin(np.linalg.norm(way[done:] - goal, axis=1)))
      before = way[done:end][np.linalg.norm(way[done:end] - goal, axis=1) > 1.0]
      along = np.subtract(goal, before[-1] if len(before) else start)
      off.append(angle_between((math.cos(yaw), math.sin(yaw)), along))
      turned.append(angle_between(np.subtract(goal, start), along))
      done, start = end, goal
  # two planners may take other sides of a thing; straight lines would hardly ever look along the way
  assert np.mean(np.array(off) < 0.3) > 0.85 and np.mean(np.array(turned) < 0.3) < 0.4


def test_a_policy_is_shown_the_next_goal_of_its_chain_once_it_has_reached_one(env, scene):
  """Goals so near that every step reaches one; the policy drives as fast as what it is shown stands ahead in x."""
  scenery = jax.tree.map(jnp.asarray, make_sceneries([scene])[0])
  file = scene.episodes('long')
  episodes, legs = make_begin(env, ROOM)(scenery, jax.tree.map(jnp.asarray, plans_of(file, range(NUM))))
  start, ahead = episodes.base.position, 0.1 * (1 + jnp.arange(legs.goal.shape[1]))
  goals = start[:, None] + jnp.stack([ahead, 0 * ahead], axis=-1)
  legs = dataclasses.replace(legs, goal=goals)
  begun = on_leg(episodes, legs, jnp.zeros(NUM, jnp.int32))

  def act(params, memory, shown, pictures):
    del params, pictures
    speed = shown.goal_picture[:, 0, 0, 0] - start[:, 0]
    return jnp.stack([speed, 0 * speed], axis=1), memory

  policy = DrivingPolicy(lambda shown: jnp.zeros(NUM), act, RenderOptions(1, 1), goal='image')
  traces = make_drive(env, policy, where_the_camera_stands)(None, begun, scenery, legs)
  for b, num in enumerate(np.asarray(legs.num)):
    assert traces.num_steps[b] == num == traces.goals_reached[b] and traces.has_arrived[b]
    np.testing.assert_allclose(traces.command[b, :num, 0], 0.1 * (1 + np.arange(num)), atol=1e-5)
