"""T steps of B environments under the policy: what PPO learns from, with every new frame encoded once.

Under a frozen trunk the rollout keeps context tokens instead of pictures, and a ring of frame tokens stands for
the stack of frames (exact, because what is upstream never changes). Where the trunk trains, it keeps every uint8
frame once, and the tokens of the last frames are made anew when its parameters have changed. With an expert, every
state carries the command that the expert gives in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import State
from brax.training.acme import running_statistics, specs
from flax import struct

from s2e_jax import command_mixture
from s2e_jax.policy.ring import frame_index, push_token
from s2e_jax.sim.batch import UrbanBatch
from s2e_jax.sim.chunks import chunk_size, refreshed
from s2e_jax.training import groups
from s2e_jax.training.agent import Agent


@dataclasses.dataclass(frozen=True)
class Expert:
  """Who tells in every state what to do; pure functions of the state of N environments.

  begin(env) -> memory [N, ...] at the start of N episodes.
  act(env, memory) -> (command [N, 2] m/s, rad/s, memory).
  share: probability that it drives an episode itself; otherwise the policy drives.
  """

  begin: Callable[[State], Any]
  act: Callable[[State, Any], tuple[jax.Array, Any]]
  share: float


@struct.dataclass
class Guidance:
  """What lasts of the expert for B episodes. memory: [B, ...] its own. is_driving: [B] bool, it drives itself."""

  memory: Any
  is_driving: jax.Array


@struct.dataclass
class Actor:
  """Where a rollout stands, between two of them.

  env: `UrbanBatch` state, num_history 1. tokens: [B, K, D] of the last K frames, oldest first. recent: those
  frames [K, B, h, w, 3] uint8, and begins: [K, B] whether each was the first of its episode; both only where the
  trunk trains, else None. key: [2] uint32 of what is drawn next. guidance: `Guidance`, None without an expert.
  """

  env: State
  tokens: jax.Array
  recent: Any
  begins: Any
  key: jax.Array
  guidance: Any = None


@struct.dataclass
class Rollout:
  """T steps of B environments, [T, B, ...]; a leading axis of samples once `ppo` has cut it into minibatches.

  context: [T, B, K+1, D] tokens, or None where frames [T + K - 1, B, h, w, 3] and begins [T + K - 1, B] are kept.
  goal: [T, B, 2] m. privileged: [T, B, P] state vector as the environment gives it. command: [T, B, 2] as sampled;
  beside an expert that of the best mode, or the expert's where it drives. log_prob, value (normalised), reward:
  [T, B]. terminated, truncated: [T, B] bool. last_value: [B] normalised.
  label: [T, B, 2] m/s, rad/s, the command of the expert, or None without one.
  """

  context: Any
  frames: Any
  begins: Any
  goal: jax.Array
  privileged: jax.Array
  command: jax.Array
  log_prob: jax.Array
  value: jax.Array
  reward: jax.Array
  terminated: jax.Array
  truncated: jax.Array
  last_value: jax.Array
  label: Any = None


def first_actor(
  batch: UrbanBatch, agent: Agent, key: jax.Array, keeps_frames: bool, expert: Expert | None = None
) -> Actor:
  """An actor before the first step: every episode is over, and the first step begins them all.

  So the first rollout holds a step of nothing: throw it away. No program of its own has to be compiled for it.
  """
  env_key, next_key = jax.random.split(key)
  num, c = batch.num_envs, agent.policy.config
  recent = begins = None
  if keeps_frames:
    recent = jnp.zeros((c.num_history, num, c.image_height, c.image_width, 3), jnp.uint8)
    begins = jnp.zeros((c.num_history, num), bool)
  env, guidance = batch.blank(env_key), None
  if expert is not None:
    shapes = jax.eval_shape(expert.begin, env)
    memory = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    guidance = Guidance(memory, jnp.zeros(num, bool))
  return Actor(
    env=env,
    tokens=jnp.zeros((num, c.num_history, c.width)),
    recent=recent,
    begins=begins,
    key=jax.random.key_data(next_key),
    guidance=guidance,
  )


def with_states_of(actor: Actor, rows: jax.Array) -> Actor:
  """`actor` without guidance whose environment b is where environment rows[b] was."""
  by_env = lambda tree: jax.tree.map(lambda x: x[rows], tree)
  by_time = lambda x: None if x is None else x[:, rows]
  return dataclasses.replace(
    actor,
    env=by_env(actor.env),
    tokens=by_env(actor.tokens),
    recent=by_time(actor.recent),
    begins=by_time(actor.begins),
  )


def begun_anew(expert: Expert, guidance: Guidance, env: State, begins: jax.Array, key: jax.Array) -> Guidance:
  """`guidance` with that of a first moment in `env` where `begins` [B] says so; consumes the key.

  The expert plans its way when an episode begins, which costs more than a step: only for as many as are needed.
  """
  num = begins.shape[0]
  memory = refreshed(begins, chunk_size(num), guidance.memory, lambda pick: expert.begin(pick(env)))
  drawn = jax.random.bernoulli(key, expert.share, (num,))
  return Guidance(memory, jnp.where(begins, drawn, guidance.is_driving))


def statistics(size: int) -> running_statistics.RunningStatisticsState:
  """Running mean and deviation of vectors [size]."""
  state = running_statistics.init_state(specs.Array((size,), jnp.dtype('float32')))
  return jax.tree.map(jnp.asarray, state)


def normalised(vector: jax.Array, stats: running_statistics.RunningStatisticsState) -> jax.Array:
  """(vector - mean) / deviation, clipped to +-10."""
  return running_statistics.normalize(vector, stats, max_abs_value=10.0)


@dataclasses.dataclass(frozen=True)
class Roller:
  """Makes rollouts; static. num_steps: T. keeps_frames: the trunk trains, so frames are kept instead of context.

  context_dtype: in which context tokens are kept; the policy acts on what is kept, so that ratios are exact.
  expert: labels every state, and drives in its share of the episodes; None for reinforcement learning.
  group: of `groups`, copies of one state with which every rollout begins; 0 for none.
  """

  batch: UrbanBatch
  agent: Agent
  num_steps: int
  keeps_frames: bool = False
  context_dtype: jnp.dtype = jnp.dtype('float32')
  expert: Expert | None = None
  group: int = 0

  def observe(self, params: Any, model_state: Any, actor: Actor, env: State, begins: jax.Array) -> Actor:
    """`actor` after the picture of `env`, whose episodes begin [B] with it, has been encoded."""
    frame = env.obs['frames'][:, -1]
    tokens = push_token(actor.tokens, self.agent.encode(params, model_state, frame), begins)
    recent, flags = actor.recent, actor.begins
    if self.keeps_frames:
      recent = jnp.concatenate([recent[1:], frame[None]])
      flags = jnp.concatenate([flags[1:], begins[None]])
    return dataclasses.replace(actor, env=env, tokens=tokens, recent=recent, begins=flags)

  def roll_out(
    self, params: Any, model_state: Any, actor: Actor, privileged_stats: Any
  ) -> tuple[Actor, Rollout, dict[str, jax.Array]]:
    """(actor afterwards, the rollout, sums over steps and environments of the metrics of `_counted`)."""
    agent, cut = self.agent, lambda x: x.astype(self.context_dtype)
    if self.group:
      copy_key, next_key = jax.random.split(jax.random.wrap_key_data(actor.key))
      actor = dataclasses.replace(actor, key=jax.random.key_data(next_key))
      actor = with_states_of(actor, groups.leaders(self.batch.num_envs, self.group, copy_key))
    before = actor.recent, actor.begins
    if self.keeps_frames:
      # the encoder has changed since these tokens were made
      fresh = agent.encode(params, model_state, actor.recent)
      index = frame_index(actor.begins, actor.begins.shape[0])[0]
      tokens = jnp.take_along_axis(fresh, index[:, :, None], axis=0)
      actor = dataclasses.replace(actor, tokens=jnp.moveaxis(tokens, 0, 1))

    def one(actor: Actor, t: jax.Array) -> tuple[Actor, Any]:
      env = actor.env
      goal, privileged = env.obs['goal_in_robot'], env.obs['state']
      context = cut(agent.context(params, model_state, actor.tokens, goal))
      trajectories = agent.trajectories(params, model_state, context)
      mixture = agent.steered(params, trajectories)
      act_key, next_key = jax.random.split(jax.random.wrap_key_data(actor.key))
      label, guidance, guide_key = None, actor.guidance, act_key  # which only an expert uses
      if self.expert is not None:
        act_key, guide_key = jax.random.split(act_key)
        label, memory = self.expert.act(env, guidance.memory)
        guidance = guidance.replace(memory=memory)
      command = command_mixture.sample(act_key, mixture)
      if self.group:
        sent = command_mixture.sample(act_key, mixture, groups.ranked_modes(mixture.logits, self.group))
        command = jnp.where(t == 0, sent, command)
      if label is not None:
        # without exploration: the states to learn from are those of a policy that is judged
        command = jnp.where(guidance.is_driving[:, None], label, command_mixture.mode_command(mixture))
      value = agent.value(params, context, goal, normalised(privileged, privileged_stats))
      env = self.batch._step(env, command)
      actor = dataclasses.replace(actor, key=jax.random.key_data(next_key))
      begins = self.batch.begins(env)
      if self.expert is not None:
        guidance = begun_anew(self.expert, guidance, env, begins, guide_key)
        actor = dataclasses.replace(actor, guidance=guidance)
      actor = self.observe(params, model_state, actor, env, begins)
      kept = {
        'context': None if self.keeps_frames else context,
        'frame': env.obs['frames'][:, -1] if self.keeps_frames else None,
        'begins': begins,
        'goal': goal,
        'privileged': privileged,
        'command': command,
        'label': label,
        'log_prob': command_mixture.log_prob(mixture, command),
        'value': value,
        'reward': env.reward,
        'terminated': env.info['terminated'],
        'truncated': env.info['truncated'],
      }
      return actor, (kept, _counted(env, mixture))

    actor, (kept, counts) = jax.lax.scan(one, actor, jnp.arange(self.num_steps))
    goal, privileged = actor.env.obs['goal_in_robot'], actor.env.obs['state']
    last = cut(agent.context(params, model_state, actor.tokens, goal))
    last_value = agent.value(params, last, goal, normalised(privileged, privileged_stats))
    frame, begins = kept.pop('frame'), kept.pop('begins')
    frames = flags = None
    if self.keeps_frames:
      # what the last step led to belongs to the next rollout
      frames = jnp.concatenate([before[0], frame[:-1]])
      flags = jnp.concatenate([before[1], begins[:-1]])
    rollout = Rollout(frames=frames, begins=flags, last_value=last_value, **kept)
    return actor, rollout, jax.tree.map(lambda x: x.sum(axis=0), counts)


def _counted(env: State, mixture: command_mixture.CommandMixture) -> dict[str, jax.Array]:
  """Sums over environments of one step: episodes that ended and how, rewards by term, what the policy chose."""
  log_q = jax.nn.log_softmax(mixture.logits)
  done = env.done > 0
  num_modes = mixture.logits.shape[-1]
  info = env.info
  used = jax.nn.one_hot(jnp.argmax(mixture.logits, axis=-1), num_modes)
  counts = {
    'steps': jnp.float32(done.shape[0]),
    'episodes': done,
    'success': info['has_arrived'] & done,
    'collision': info['has_collided'] & info['terminated'],
    'time_out': info['truncated'],
    'route_completion': env.metrics['route_completion'],
    'reward': env.reward,
    'speed': env.metrics['speed'],
    'level': env.metrics['level'],
    'score_entropy': -(jnp.exp(log_q) * log_q).sum(axis=-1),
    'nan_actions': jnp.where(done, info['nan_actions'], 0),
    **{f'reward/{name}': value for name, value in info['reward_terms'].items()},
  }
  sums = {name: jnp.sum(value.astype(jnp.float32)) for name, value in counts.items()}
  return sums | {'mode_used': used.sum(axis=0)}
