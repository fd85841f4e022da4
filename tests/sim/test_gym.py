import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode

from s2e_jax.render.render import RenderOptions
from s2e_jax.sim.batch import UrbanBatch
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import EnvConfig
from s2e_jax.sim.gym import UrbanVectorEnv

pytestmark = pytest.mark.usefixtures('compiled_quickly')

NUM = 3


@pytest.fixture(scope='module')
def batch(street_world):
  def generator(key, level):
    u = jax.random.uniform(key, (2,))
    start = jnp.stack([5.0 - 3.0 * u[0], 0.2 * (u[1] - 0.5)])
    return street_world.replace(start_in_world=start)

  env = UrbanEnv(generator, EnvConfig(time_limit=3.0, action='unit'))
  return UrbanBatch(env, NUM, RenderOptions(height=10, width=14, shadow=False), num_history=2, reset_chunk=2)


@pytest.fixture
def envs(batch):
  return UrbanVectorEnv(batch)


class Single(gymnasium.Env):
  """The first environment of a vector of them, as Gymnasium's checker of single environments wants it."""

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 4}  # noqa: RUF012
  render_mode = 'rgb_array'

  def __init__(self, batch):
    self.envs = UrbanVectorEnv(batch)
    self.observation_space = self.envs.single_observation_space
    self.action_space = self.envs.single_action_space

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    obs, _ = self.envs.reset(seed=seed, options=options)
    return {name: value[0] for name, value in obs.items()}, {}

  def step(self, action):
    obs, reward, terminated, truncated, _ = self.envs.step(np.stack([action] * NUM))
    first = {name: value[0] for name, value in obs.items()}
    return first, float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}

  def render(self):
    return self.envs.render()[0]


@pytest.mark.filterwarnings('ignore:.*Box observation space.*:UserWarning')
@pytest.mark.filterwarnings('ignore:.*not within the observation space.*:UserWarning')
def test_gymnasiums_own_checker_accepts_one_environment(batch, capfd):
  single = Single(batch)
  env_checker.check_env(single, skip_render_check=True)
  env_checker.check_step_determinism(single)
  env_checker.check_returned_data_not_reused(single)
  env_checker.check_reset_seed_determinism(single)


def test_spaces_hold_what_comes_out(envs):
  obs, infos = envs.reset(seed=0)
  assert envs.observation_space.contains(obs)
  assert set(obs) == {'state', 'goal_in_robot', 'frames'}
  assert infos['route_completion'].shape == (NUM,) and infos['_route_completion'].all()
  obs, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
  assert envs.observation_space.contains(obs)
  assert reward.shape == terminated.shape == truncated.shape == (NUM,)
  assert reward.dtype == np.float32 and terminated.dtype == truncated.dtype == bool
  assert all(isinstance(value, np.ndarray) for value in obs.values())
  assert sum(infos['reward_terms'].values()) == pytest.approx(reward, abs=1e-6)
  assert envs.metadata['autoreset_mode'] == AutoresetMode.SAME_STEP


def test_the_last_observation_of_an_episode_is_in_the_infos(envs):
  obs, _ = envs.reset(seed=3)
  ended = 0
  for _ in range(14):
    before, (obs, _, terminated, truncated, infos) = obs, envs.step(np.tile([[0.6, 0.0]], (NUM, 1)))
    done = terminated | truncated
    assert ('final_obs' in infos) == done.any()
    for i in np.flatnonzero(done):
      final = infos['final_obs'][i]
      assert envs.single_observation_space.contains(final)
      assert infos['_final_obs'].tolist() == done.tolist() == infos['_final_info'].tolist()
      np.testing.assert_array_equal(final['frames'], before['frames'][i])
      distance = np.hypot(*final['goal_in_robot'])
      assert final['state'][0] == pytest.approx(distance / 200, abs=1e-6)
      if infos['final_info']['has_arrived'][i]:
        assert distance <= 1.0 + 1e-4
      assert (obs['frames'][i] == obs['frames'][i, -1:]).all()  # the new episode
      ended += 1
  assert ended >= 3


def test_the_same_seed_gives_the_same_episodes_and_seeds_may_be_given_one_by_one(batch):
  first, second = UrbanVectorEnv(batch, seed=1), UrbanVectorEnv(batch, seed=2)
  a, b = first.reset(seed=11)[0], second.reset(seed=[11, 12, 13])[0]
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])
  for _ in range(13):  # past the time limit: the episodes drawn next are the same too
    action = np.zeros((NUM, 2), np.float32)
    a, b = first.step(action)[0], second.step(action)[0]
  np.testing.assert_array_equal(a['state'], b['state'])
  again = first.reset()[0]
  assert (again['state'] != first.reset()[0]['state']).any()
  assert (
    UrbanVectorEnv(batch, seed=1).reset()[0]['state'] != UrbanVectorEnv(batch, seed=2).reset()[0]['state']
  ).any()


def test_pictures_can_be_asked_for(envs):
  obs, _ = envs.reset(seed=0)
  pictures = envs.render()
  assert len(pictures) == NUM and pictures[0].shape == (10, 14, 3)
  np.testing.assert_array_equal(pictures[1], obs['frames'][1, -1])


def test_misuse_is_refused(envs):
  with pytest.raises(ValueError, match='reset the environments before the first step'):
    envs.step(np.zeros((NUM, 2)))
  with pytest.raises(ValueError, match='2 seeds for 3 environments'):
    envs.reset(seed=[1, 2])
  with pytest.raises(ValueError, match=r"options=\['reset_mask'\] are unknown"):
    envs.reset(options={'reset_mask': np.ones(NUM, bool)})
