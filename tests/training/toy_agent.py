"""An agent of a few thousand parameters for the toy world."""

import dataclasses
import functools

import jax

from s2e_jax.controller import CommandLimits
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.critic import Critic
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.policy.residual import add_residual
from s2e_jax.training import variants
from s2e_jax.training.agent import Agent, init_agent_params
from s2e_jax.training.finetune_startup import RESIDUAL
from s2e_jax.training.ppo import Learner
from s2e_jax.training.rollout import statistics
from tests.training.toy_world import HEIGHT, NUM_STATE, WIDTH

ENVS, STEPS, HISTORY = 12, 10, 3
CONFIG = policy_config(
  's2e_tiny', image_height=HEIGHT, image_width=WIDTH, num_history=HISTORY, width=24, num_heads=2, mlp_dim=32,
  num_anchors=4, num_context_layers=1, num_decoder_layers=1,
)  # fmt: skip
LIMITS = CommandLimits(min_speed=-0.5, max_speed=1.5, max_yaw_rate=1.5)


@functools.cache
def pretrained():
  """Random parameters whose heads, unlike fresh ones, answer to what they are shown."""
  params = dict(jax.jit(Policy(CONFIG).init)(jax.random.key(3), example_observation(CONFIG)))['params']
  heads = jax.tree.map(lambda x: 30 * x if x.ndim > 1 else x, params['heads'])
  return {**params, 'heads': heads}


def make_agent(variant):
  has_branches = variant in RESIDUAL
  config = dataclasses.replace(CONFIG, ram_input='query' if has_branches else 'none')
  policy = add_residual(pretrained(), config) if has_branches else pretrained()
  agent = Agent(Policy(config), Critic((16,)), LIMITS)
  params = init_agent_params(agent, policy, NUM_STATE, (0.3, 0.4), jax.random.key(1))
  labels = variants.variant_labels(params, variant)
  optimizer = variants.make_finetune_optimizer(params, variant, 3e-3)
  learner = Learner(
    params, optimizer.init(variants.split(params, labels)[0]), statistics(NUM_STATE), statistics(1)
  )
  return agent, optimizer, labels, learner
