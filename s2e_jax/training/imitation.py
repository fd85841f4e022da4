"""Supervised rivals of PPO in its own loop: the policy learns the commands of a privileged expert.

`sft`, `sft_full`: in the states of the expert's drives (supervised on demonstrations). `dagger`: in the policy's
own, where it acts as it is judged (Ross et al., arXiv:1011.0686), without keeping those of earlier rollouts. Like
PPO they see every policy step in `num_epochs` epochs, then never again, so that budgets compare.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from s2e_jax import command_mixture
from s2e_jax.sim.drives import expert_driver
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.training import epochs
from s2e_jax.training.agent import Agent
from s2e_jax.training.ppo import Learner, contexts_of
from s2e_jax.training.rollout import Expert, Rollout
from s2e_jax.worlds.expert import CAREFUL, ExpertConfig

VARIANTS = ('sft', 'sft_full', 'dagger')


@dataclasses.dataclass(frozen=True)
class ImitationOptions:
  """Numbers of config.imitation, and those of config.ppo that supervised variants share.

  std: of the label around the command of a mode, m/s and rad/s. judged_weight: of the error of the command by
  which policies are judged, see `imitation_loss`. expert_share: probability that the expert drives an episode.
  careful: the expert keeps as far from everything as in demonstrations. num_epochs, num_minibatches: per rollout.
  chunk: samples whose gradient is taken at once, 0 = all of a minibatch.
  """

  std: tuple[float, float] = (0.1, 0.15)
  judged_weight: float = 0.0
  expert_share: float = 1.0
  careful: bool = True
  num_epochs: int = 3
  num_minibatches: int = 4
  chunk: int = 0

  def __post_init__(self) -> None:
    """Raises ValueError when a number breaks its rule."""
    if len(self.std) != 2 or not all(0 < s < math.inf for s in self.std):
      raise ValueError(f'imitation.std={self.std!r} must be two numbers > 0 (m/s, rad/s)')
    if not 0 <= self.judged_weight < math.inf:
      raise ValueError(f'imitation.judged_weight={self.judged_weight!r} must be a number >= 0')
    if not 0 <= self.expert_share <= 1:
      raise ValueError(f'imitation.expert_share={self.expert_share!r} must be in 0..1')


@struct.dataclass
class Labelled:
  """What the loss reads; leading axis of samples N, then T where the trunk trains, as in `ppo.Samples`.

  context: [N, K+1, D] or None; frames: [N, F, h, w, 3] and begins [N, F] then. goal: [N, (T), 2] m. label:
  [N, (T), 2] m/s, rad/s.
  """

  context: Any
  frames: Any
  begins: Any
  goal: jax.Array
  label: jax.Array


def make_expert(env: UrbanEnv, options: ImitationOptions) -> Expert:
  """The privileged planner (`worlds.expert`) for batches of `env`, which must take commands, not unit actions."""
  driver = expert_driver(env, CAREFUL if options.careful else ExpertConfig())
  unused = jax.random.key(0)
  return Expert(
    begin=jax.vmap(lambda state: driver.begin(state, unused)),
    act=jax.vmap(lambda state, memory: driver.act(memory, state)),
    share=options.expert_share,
  )


def samples_of(rollout: Rollout) -> Labelled:
  """The samples of one device's rollout; entries of it where contexts are kept, whole environments otherwise."""
  is_cached = rollout.context is not None

  def order(x: Any) -> Any:
    return x.reshape(-1, *x.shape[2:]) if is_cached else jnp.swapaxes(x, 0, 1)

  parts = rollout.context, rollout.frames, rollout.begins, rollout.goal, rollout.label
  return Labelled(*jax.tree.map(order, parts))


def imitation_loss(
  agent: Agent, options: ImitationOptions, params: Any, model_state: Any, samples: Any
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """(loss [], figures []) as means over all entries of `samples` (`Labelled`).

  The loss is the negative log-density of the label, marginal over modes, with a fixed deviation: the learned one
  is of exploration. Any mode that has the label contents it; so options.judged_weight times the distance of the
  judged command in deviations (a Laplace density's) is added. error_v (m/s), error_w (rad/s): of the command by
  which policies are judged.
  """
  mixture = agent.commands(params, model_state, contexts_of(agent, params, model_state, samples))
  mixture = dataclasses.replace(mixture, log_std=jnp.log(jnp.asarray(options.std, jnp.float32)))
  error = jnp.abs(command_mixture.mode_command(mixture) - samples.label)
  loss = -command_mixture.log_prob(mixture, samples.label).mean()
  if options.judged_weight:
    loss += options.judged_weight * (error / jnp.asarray(options.std)).sum(axis=-1).mean()
  return loss, {'loss': loss, 'error_v': error[..., 0].mean(), 'error_w': error[..., 1].mean()}


def update(
  agent: Agent,
  optimizer: optax.GradientTransformation,
  labels: Any,
  options: ImitationOptions,
  learner: Learner,
  model_state: Any,
  rollout: Rollout,
  key: jax.Array,
) -> tuple[Learner, dict[str, jax.Array]]:
  """All epochs over one device's rollout, gradients averaged over devices; inside `pmap`. Consumes the key.

  labels: of `variants.variant_labels`. The learning rate stays as it is. An update whose gradient is not finite
  changes nothing and is counted. Returns figures as means over all updates that are finite.
  """

  def loss(params: Any, samples: Labelled, key: jax.Array) -> tuple[jax.Array, Any]:
    del key
    return imitation_loss(agent, options, params, model_state, samples)

  return epochs.run_epochs(loss, optimizer, labels, learner, samples_of(rollout), options, key)
