"""PPO benchmarks: whole iterations of the residual branches, with cached context and without.

Both use every JAX device there is; as the command for finetuning does, run them with a device per CPU core:
JAX_NUM_CPU_DEVICES=2 python -m experiments.bench --only=ppo_steps_per_s,ppo_cached_vs_naive.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench.timing import Row, interleaved
from experiments.sim_costs.run import make_batch
from s2e_jax import controller
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.critic import Critic
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.policy.residual import add_residual
from s2e_jax.policy.ring import frame_index
from s2e_jax.training import parallel, ppo, variants
from s2e_jax.training.agent import Agent, init_agent_params
from s2e_jax.training.ppo import Learner, PPOOptions, Samples
from s2e_jax.training.rollout import Roller, first_actor, statistics

ENVS, HORIZON = 256, 32


def _agent(model: str) -> tuple[Agent, Any, Any, Learner]:
  """(agent, optimiser, labels, learner) of a model with residual branches, as the default config has them."""
  config = policy_config(model, ram_input='query')
  robot = make_batch(1).env.config.robot
  agent = Agent(Policy(config), Critic(), controller.CommandLimits.of(robot))
  plain = dataclasses.replace(config, ram_input='none')
  params = jax.jit(Policy(plain).init)(jax.random.key(0), example_observation(plain))['params']
  size = make_batch(1).env.observation_size
  tree = init_agent_params(agent, add_residual(params, config), size, (0.3, 0.4), jax.random.key(1))
  labels = variants.variant_labels(tree, 'ram')
  optimizer = variants.make_finetune_optimizer(tree, 'ram', 3e-4)
  trainable, _ = variants.split(tree, labels)
  return agent, optimizer, labels, Learner(tree, optimizer.init(trainable), statistics(size), statistics(1))


def _naive(samples: Samples, history: int) -> Samples:
  """Samples [T B] that carry whole stacks of frames: every gradient encodes every frame of every stack again."""
  num, steps = samples.log_prob.shape
  index = jax.vmap(lambda begins: frame_index(begins, history))(samples.begins)
  stacks = jax.vmap(lambda frames, index: frames[index])(samples.frames, index)
  flat = lambda x: x.reshape(num * steps, 1, *x.shape[2:])
  rest = jax.tree.map(flat, dataclasses.replace(samples, context=None, frames=None, begins=None))
  return dataclasses.replace(
    rest,
    frames=stacks.reshape(num * steps, history, *stacks.shape[3:]),
    begins=jnp.zeros((num * steps, history), bool),
  )


def make_iteration(epochs: int, is_naive: bool, chunk: int = 128, model: str = 's2e_tiny') -> Callable[[], Any]:
  """A function that does one iteration, rollout and epochs, and keeps its state for the next."""
  agent, optimizer, labels, learner = _agent(model)
  options = PPOOptions(num_epochs=epochs, chunk=chunk)
  devices = jax.local_devices()
  batch = make_batch(ENVS // len(devices))
  roller = Roller(batch, agent, HORIZON, keeps_frames=is_naive)
  pmap = functools.partial(jax.pmap, axis_name=parallel.AXIS, devices=devices)
  placed = lambda trees: pmap(lambda x: x)(jax.tree.map(lambda *x: jnp.stack(x), *trees))
  actors = [first_actor(batch, agent, jax.random.key(2 + i), is_naive) for i in range(len(devices))]
  state = [placed([learner] * len(devices)), placed(actors)]
  roll_out = pmap(lambda learner, actor: roller.roll_out(learner.params, {}, actor, learner.privileged_stats)[:2])

  def learn(learner: Learner, rollout: Any) -> Learner:
    key = jax.random.key(3)
    if not is_naive:
      return ppo.update(agent, optimizer, labels, options, learner, {}, rollout, key)[0]
    samples, _, _ = ppo.samples_of(rollout, learner, options)
    stacks = _naive(samples, agent.policy.config.num_history)
    return ppo.run_epochs(agent, optimizer, labels, options, learner, {}, stacks, key)[0]

  update = pmap(learn)

  def iteration() -> Any:
    state[1], rollout = roll_out(state[0], state[1])
    state[0] = update(state[0], rollout)
    return state[0].opt_state

  for _ in range(2):  # episodes that began together drift apart
    iteration()
  return iteration


def _row(name: str, epochs: int, model: str = 's2e_tiny') -> Row:
  return interleaved(
    name,
    make_iteration(epochs, False, model=model),
    make_iteration(epochs, True, model=model),
    work=ENVS * HORIZON,
    unit=f'policy steps/s ({model}, {ENVS} environments, horizon {HORIZON}, {epochs} epochs, everything included)',
    baseline_name='every stack of frames encoded again in every epoch',
    rounds=3,
    warmup=1,
  )


def ppo_cached_vs_naive() -> Row:
  """PPO through the residual branches, 5 epochs, M = 8, s2e_tiny at 64x128: cached against re-encoding."""
  return _row('ppo_cached_vs_naive', 5)


def ppo_steps_per_s() -> Row:
  """The same at the 3 epochs of the default config."""
  return _row('ppo_steps_per_s', 3)


def ppo_cached_vs_naive_small() -> Row:
  """At 5 epochs, with the larger encoder of s2e_small."""
  return _row('ppo_cached_vs_naive_small', 5, 's2e_small')
