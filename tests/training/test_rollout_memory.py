"""What a stored step takes at the paper's width, from shapes alone."""

import jax
import jax.numpy as jnp

from s2e_jax.controller import CommandLimits
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.critic import Critic
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.policy.residual import add_residual
from s2e_jax.robots import ROBOTS
from s2e_jax.sim.observe import STATE_SIZE
from s2e_jax.training.agent import Agent, init_agent_params
from s2e_jax.training.rollout import Roller, first_actor, statistics
from tests.training.toy_world import NUM_STATE, ToyBatch

ENVS, STEPS, HEIGHT, WIDTH = 4, 6, 96, 192


class LargeToyBatch(ToyBatch):
  """The toy with pictures of 96 x 192."""

  def _seen(self, inner):
    return super()._seen(inner) | {'frames': jnp.zeros((self.num_envs, 1, HEIGHT, WIDTH, 3), jnp.uint8)}


def test_a_stored_step_takes_less_than_10_kb_at_width_768_and_25_times_less_than_its_frames():
  config = policy_config('s2e_v1', image_height=HEIGHT, image_width=WIDTH)
  branched = policy_config('s2e_v1', image_height=HEIGHT, image_width=WIDTH, ram_input='query')
  agent = Agent(Policy(branched), Critic(), CommandLimits.of(ROBOTS['delivery']))
  batch = LargeToyBatch(ENVS)
  # bfloat16, as on GPUs and TPUs
  roller = Roller(batch, agent, STEPS, context_dtype=jnp.dtype('bfloat16'))

  def rolled(key):
    params = Policy(config).init(key, example_observation(config))
    tree = init_agent_params(agent, add_residual(params['params'], branched), NUM_STATE, (0.3, 0.4), key)
    others = {name: value for name, value in params.items() if name != 'params'}
    return roller.roll_out(tree, others, first_actor(batch, agent, key, False), statistics(NUM_STATE))[1]

  rollout = jax.eval_shape(rolled, jax.random.key(0))
  num_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(rollout)) / (STEPS * ENVS)
  num_bytes += 4 * (STATE_SIZE - NUM_STATE)  # the simulator tells the critic more than the toy does
  assert num_bytes <= 10_000
  stack = config.num_history * HEIGHT * WIDTH * 3
  assert stack >= 25 * num_bytes
  print(f'{num_bytes:.0f} bytes, {stack / num_bytes:.1f} times less than {stack}')
