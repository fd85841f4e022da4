import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render.render import RenderOptions, render
from s2e_jax.sim.batch import UrbanBatch, check_divisible, policy_observation
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.curriculum import Curriculum
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig, next_key

pytestmark = pytest.mark.usefixtures('compiled_quickly')

NUM, STEPS = 6, 24
OPTIONS = RenderOptions(height=12, width=20, chunk=4, shadow=False)


@pytest.fixture(scope='module')
def env(street_world):
  """Starts anywhere from 2 to 4 m before the goal, at a heading of its own; level 0 stays at 2 m."""

  def generator(key, level):
    u = jax.random.uniform(key, (2,))
    start = jnp.stack([4.0 - 2.0 * level * u[0], 0.0])
    return street_world.replace(start_in_world=start, start_yaw=0.2 * (u[1] - 0.5), path_length=6.0 - start[0])

  return UrbanEnv(generator, EnvConfig(time_limit=4.0))


@pytest.fixture(scope='module')
def batch(env):
  return UrbanBatch(env, NUM, OPTIONS, num_history=3, reset_chunk=4)


def chosen(mask, yes, no):
  return np.where(mask.reshape(-1, *[1] * (np.ndim(no) - 1)), yes, no)


def commands(num, steps=STEPS, seed=0):
  low, high = np.array([-0.4, -1.5]), np.array([1.5, 1.5])
  actions = np.random.default_rng(seed).uniform(low, high, (steps, num, 2)).astype('f')
  actions[:, 0] = (1.0, 0.0)  # one that arrives or collides soon
  actions[:, 1] = (0.0, 0.0)  # one that waits for the time limit
  return actions


@pytest.fixture(scope='module')
def episode_log(batch):
  """States after reset and each of STEPS steps, on the host."""
  states = [batch.reset(jax.random.key(7))]
  for action in commands(NUM):
    states.append(batch.step(states[-1], jnp.asarray(action)))
  return jax.device_get(states)


def test_reset_and_every_step_share_one_program(batch, episode_log):
  batch.reset(jax.random.key(8))
  batch.reset(jax.random.split(jax.random.key(8), NUM))
  assert batch._program._cache_size() == 1


def test_shapes_and_types_are_as_documented(batch, episode_log):
  for state in episode_log[:3]:
    assert state.obs['frames'].shape == (NUM, 3, 12, 20, 3) and state.obs['frames'].dtype == np.uint8
    assert state.obs['state'].shape == (NUM, *batch.observation_size['state']) == state.info['final_state'].shape
    assert state.obs['goal_in_robot'].shape == (NUM, 2)
    for value in (state.reward, state.done, *state.metrics.values(), *jax.tree.leaves(state.info)):
      assert value.shape[0] == NUM
  assert batch.observation_size['frames'] == (3, 12, 20, 3)
  seen = policy_observation(episode_log[-1].obs)
  assert seen.frames.shape == (NUM, 3, 12, 20, 3) and seen.has_goal.all() and seen.goal_in_robot.shape == (NUM, 2)


def test_resets_start_from_nothing(episode_log):
  first = episode_log[0]
  assert not first.done.any() and not first.reward.any() and (first.pipeline_state.step == 0).all()
  assert (first.info['hit_slot'] == -1).all() and not first.info['terminated'].any()
  assert not any(value.any() for value in first.metrics.values())
  starts = first.pipeline_state.world.start_in_world
  assert len(np.unique(starts[:, 0])) == NUM
  np.testing.assert_allclose(first.pipeline_state.base.position, starts, atol=1e-6)


def test_whoever_is_done_begins_anew_and_nobody_else(episode_log):
  num_done = 0
  for before, after in itertools.pairwise(episode_log):
    done = after.done > 0
    num_done += done.sum()
    assert ((after.info['terminated'] | after.info['truncated']) == done).all()
    assert not (after.info['terminated'] & after.info['truncated']).any()
    old, new = before.pipeline_state, after.pipeline_state
    assert (new.step[done] == 0).all() and (new.step[~done] == old.step[~done] + 1).all()
    np.testing.assert_array_equal(new.key[~done], old.key[~done])
    assert (new.key[done] != old.key[done]).any(-1).all()
    moved = new.world.start_in_world != old.world.start_in_world
    assert moved[done, 0].all() and not moved[~done].any()
    np.testing.assert_allclose(new.base.position[done], new.world.start_in_world[done], atol=1e-6)
    assert not new.base.velocity[done].any()
  assert num_done >= 3
  assert any(s.info['truncated'][1] for s in episode_log) and any(s.info['has_arrived'][0] for s in episode_log)


def test_the_final_state_is_the_one_before_the_new_episode(episode_log):
  checked = 0
  for after in episode_log[1:]:
    done = after.done > 0
    np.testing.assert_array_equal(after.info['final_state'][~done], after.obs['state'][~done])
    for i in np.flatnonzero(done & after.info['has_arrived']):
      assert after.info['final_state'][i, 0] <= 1.0 / 200 + 1e-6  # distance to the goal / 200
      assert after.obs['state'][i, 0] > 1.0 / 200
      checked += 1
  assert checked


def test_steps_and_new_episodes_agree_with_environments_run_one_by_one(env, episode_log):
  step, begin = jax.jit(jax.vmap(env.step)), jax.jit(jax.vmap(env.begin))
  level = jnp.ones(NUM)
  state = begin(jnp.asarray(episode_log[0].pipeline_state.key), level)
  for logged, action in zip(episode_log[1:], commands(NUM), strict=True):
    after = jax.device_get(step(state, jnp.asarray(action)))
    np.testing.assert_allclose(after.reward, logged.reward, atol=2e-4)
    np.testing.assert_array_equal(after.done, logged.done)
    np.testing.assert_allclose(after.obs, logged.info['final_state'], atol=2e-3)
    fresh = begin(jax.vmap(next_key)(after.pipeline_state.key), level)
    old, new = (after.pipeline_state, after.obs), (fresh.pipeline_state, fresh.obs)
    episode, obs = jax.tree.map(functools.partial(chosen, after.done > 0), new, old)
    state = after.replace(pipeline_state=episode, obs=obs)
    np.testing.assert_allclose(state.obs, logged.obs['state'], atol=2e-3)


def test_frames_are_pictures_of_now_and_the_ring_is_refilled(episode_log):
  draw = jax.jit(lambda e: render(e.world.scene, views_of(e), OPTIONS).rgb)
  frames = episode_log[0].obs['frames']
  assert (frames == frames[:, -1:]).all()
  assert frames.std() > 5  # there is something to see
  for before, after in itertools.pairwise(episode_log):
    picture, frames, done = np.asarray(draw(after.pipeline_state)), after.obs['frames'], after.done > 0
    differs = np.abs(picture.astype(int) - frames[:, -1]) > 2
    assert differs.mean() < 0.01
    np.testing.assert_array_equal(frames[~done, :-1], before.obs['frames'][~done, 1:])
    np.testing.assert_array_equal(frames[done], np.repeat(frames[done, -1:], 3, axis=1))


def test_a_nan_in_one_environment_stays_there(batch):
  start = batch.reset(jax.random.key(1))
  good = jnp.asarray(commands(NUM)[0])
  bad = good.at[2].set(jnp.nan)
  clean, dirty = batch.step(start, good), batch.step(start, bad)
  for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_array_equal(np.delete(a, 2, 0), np.delete(b, 2, 0))
    if np.issubdtype(b.dtype, np.floating):
      assert np.isfinite(b).all()
  assert dirty.info['nan_actions'].tolist() == [0, 0, 1, 0, 0, 0]


def test_nothing_is_transferred_to_the_host_inside_a_run(batch):
  actions = list(jnp.asarray(commands(NUM, 20)))
  state = jax.block_until_ready(batch.reset(jax.random.key(0)))
  ended = jnp.zeros(NUM)
  with jax.transfer_guard('disallow'):
    for action in actions:
      state = batch.step(state, action)
      ended = ended + state.done
    jax.block_until_ready(state)
  assert np.asarray(ended).sum() >= 2  # new episodes began under the guard too


def test_devices_run_their_share_whichever_it_is(env):
  whole = UrbanBatch(env, 6, num_devices=3, reset_chunk=2)
  assert whole.num_envs == 2
  devices = jax.devices()[:3]
  blank, step = (jax.pmap(f, devices=devices) for f in (whole.blank, whole.step))
  keys, actions = jax.random.split(jax.random.key(4), 3), commands(6, 20).reshape(20, 3, 2, 2)

  def run(order):
    order = np.array(order)
    state = step(blank(keys[order]), np.zeros((3, 2, 2), np.float32))
    for action in actions:
      state = step(state, action[order])
    return jax.device_get(state)

  straight, turned = run([0, 1, 2]), run([2, 0, 1])
  assert straight.obs['state'].shape[:2] == (3, 2)
  assert (straight.obs['state'][0] != straight.obs['state'][1]).any()
  for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(turned), strict=True):
    np.testing.assert_array_equal(a[[2, 0, 1]], b)


def test_the_curriculum_sets_the_worlds_levels(env):
  batch = UrbanBatch(env, 40, curriculum=Curriculum(start=0.0, step=0.25, review=0.0), reset_chunk=8)
  state = batch.reset(jax.random.key(0))
  np.testing.assert_array_equal(state.pipeline_state.level, 0.0)
  np.testing.assert_allclose(state.pipeline_state.world.start_in_world[:, 0], 4.0)
  seen = []
  for command in [(1.2, 0.0)] * 120 + [(0.0, 0.0)] * 140:
    state = batch.step(state, jnp.tile(jnp.array(command), (40, 1)))
    seen.append(float(state.info['curriculum'].mean()))
  assert max(seen[:120]) > 0.35  # it rises while the robots arrive ...
  assert seen[-1] < 0.05  # ... and falls back when they stop arriving
  assert state.pipeline_state.world.start_in_world[:, 0].max() <= 4.0


@pytest.mark.parametrize(
  ('num_envs', 'num_devices', 'message'),
  [
    (1000, 3, 'num_envs=1000 must be divisible by the 3 devices; use 999 or 1002'),
    (2, 8, 'num_envs=2 must be divisible by the 8 devices; use 8'),
    (0, 1, 'num_envs=0 must be divisible by the 1 devices; use 1'),
  ],
)
def test_environments_must_divide_over_devices(env, num_envs, num_devices, message):
  with pytest.raises(ValueError, match=message):
    UrbanBatch(env, num_envs, num_devices=num_devices)
  assert check_divisible(1024, 8) == 128


def test_bad_counts_keys_and_actions_are_refused(env, batch):
  with pytest.raises(ValueError, match='num_history=0 must be at least 1'):
    UrbanBatch(env, 4, num_history=0)
  with pytest.raises(ValueError, match='reset_chunk=0 must be at least 1'):
    UrbanBatch(env, 4, reset_chunk=0)
  with pytest.raises(ValueError, match='5 keys for 6 environments'):
    batch.reset(jax.random.split(jax.random.key(0), 5))
  with pytest.raises(ValueError, match=r'actions \(5, 2\) must be \(6, 2\)'):
    batch.step(batch.reset(jax.random.key(0)), jnp.zeros((5, 2)))


def test_a_resolution_of_zero_is_refused():
  with pytest.raises(ValueError, match='height=0 must be at least 1'):
    RenderOptions(height=0)
