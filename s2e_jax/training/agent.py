"""Policy, exploration and critic as one agent: from frames to a distribution over commands and a value.

The parameter tree is {'policy': ..., 'critic': ..., 'exploration': {'log_std': [2]}}, see `training.variants`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from s2e_jax import command_mixture
from s2e_jax.command_mixture import CommandMixture
from s2e_jax.controller import CommandLimits
from s2e_jax.policy.critic import Critic
from s2e_jax.policy.policy import Policy
from s2e_jax.structs import TrajectoryMixture


@dataclasses.dataclass(frozen=True)
class Agent:
  """Pure functions of parameters; static, so that it may be closed over by jitted programs.

  policy, critic: modules. limits: of the robot. lookahead, rule: of `controller.trajectory_to_command` (F_d).
  temperature: scores are divided by it before they are drawn from: the lower, the closer is what PPO learns from
  to the best mode, by which policies are judged. It changes no best mode.
  """

  policy: Policy
  critic: Critic
  limits: CommandLimits
  lookahead: int = 2
  rule: str = 'arc'
  temperature: float = 1.0

  def encode(self, params: Any, model_state: Any, frames: jax.Array) -> jax.Array:
    """Tokens [*B, D] of frames [*B, h, w, 3] uint8."""
    return self._apply(params, model_state, frames, method='encode_frames')

  def context(self, params: Any, model_state: Any, tokens: jax.Array, goal: jax.Array) -> jax.Array:
    """Context [*B, K+1, D] of tokens [*B, K, D], oldest first, and goals [*B, 2] m."""
    has_goal = jnp.ones(goal.shape[:-1], bool)
    return self._apply(params, model_state, tokens, goal, has_goal, method='context')

  def trajectories(self, params: Any, model_state: Any, context: jax.Array) -> TrajectoryMixture:
    """Mixture over trajectories [*B, M, ...] of a context [*B, K+1, D]."""
    return self._apply(params, model_state, context, method='decode')

  def commands(self, params: Any, model_state: Any, context: jax.Array) -> CommandMixture:
    """Mixture over commands [*B, M, 2] of a context [*B, K+1, D]."""
    return self.steered(params, self.trajectories(params, model_state, context))

  def steered(self, params: Any, trajectories: TrajectoryMixture) -> CommandMixture:
    """The mixture over commands of one over trajectories."""
    log_std = params['exploration']['log_std']
    trajectories = dataclasses.replace(trajectories, logits=trajectories.logits / self.temperature)
    return command_mixture.command_mixture(trajectories, log_std, self.limits, self.lookahead, self.rule)

  def value(self, params: Any, context: jax.Array, goal: jax.Array, privileged: jax.Array) -> jax.Array:
    """Normalised values [*B]; privileged [*B, P] normalised."""
    has_goal = jnp.ones(goal.shape[:-1], bool)
    variables = {'params': params['critic']}
    value: Any = self.critic.apply(variables, context, goal, has_goal, privileged)
    return value

  def _apply(self, params: Any, model_state: Any, *args: Any, method: str) -> Any:
    return self.policy.apply({'params': params['policy'], **model_state}, *args, method=method)


def init_agent_params(agent: Agent, policy_params: Any, num_privileged: int, std: Any, key: jax.Array) -> Any:
  """The agent's parameters: those of the policy, a fresh critic, the exploration std (m/s, rad/s) restored."""
  c = agent.policy.config
  context = jnp.zeros((1, c.num_history + 1, c.width))
  goal, has_goal = jnp.zeros((1, 2)), jnp.ones(1, bool)
  critic = agent.critic.init(key, context, goal, has_goal, jnp.zeros((1, num_privileged)))['params']
  return {
    'policy': policy_params,
    'critic': critic,
    'exploration': {'log_std': command_mixture.restored_log_std(std)},
  }
