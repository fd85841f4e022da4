"""Many environments in one jitted step: auto-reset into fresh worlds, then one picture each.

Whoever is done begins anew within the same step, so no picture of a final state exists: bootstrap the time limit
from the state before, r + gamma V(s_t). `terminated` and `truncated` stay apart in State.info.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import Env, State

from s2e_jax.render.render import RenderOptions, render
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.chunks import chunk_size, refreshed
from s2e_jax.sim.contacts import NOTHING
from s2e_jax.sim.curriculum import Curriculum
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import Episode, episode_key, next_key, stream
from s2e_jax.structs import Observation

_LEVEL_STREAM = 2**31 - 1  # no step of an episode uses it


def check_divisible(num_envs: int, num_devices: int) -> int:
  """Environments per device; ValueError with value, rule and remedy when they do not go evenly."""
  if num_envs < 1 or num_envs % num_devices:
    below, above = num_envs // num_devices * num_devices, -(-max(num_envs, 1) // num_devices) * num_devices
    near = f'{below} or {above}' if below > 0 else f'{above}'
    raise ValueError(f'num_envs={num_envs} must be divisible by the {num_devices} devices; use {near}')
  return num_envs // num_devices


class UrbanBatch(Env):
  """B environments on one device; `reset` and `step` are one jitted program, pmap them for several devices.

  env: one environment. num_envs: over all devices, num_devices: that share them (B = num_envs / num_devices).
  options: of the pictures, None for none. num_history: frames K in the observation, the newest last.
  reset_chunk: episodes begun at once where some are done: only as many worlds are generated as are needed, in
  chunks of this size; None: as many as are to be expected in one step, num_envs / 64, but 4 to 64.
  curriculum: None keeps the environment's own level.

  State.obs: 'state' [B, S] (`observe.LAYOUT`), 'goal_in_robot' [B, 2] m and, with options, 'frames'
  [B, K, h, w, 3] uint8, oldest first, all of the new episode where one has begun. State.done [B]: an episode ended
  in this step. State.info, beside the environment's: 'final_state' [B, S], the vector before the auto-reset, and
  'curriculum' [B], the levels.
  """

  def __init__(
    self,
    env: UrbanEnv,
    num_envs: int,
    options: RenderOptions | None = None,
    num_history: int = 1,
    reset_chunk: int | None = None,
    curriculum: Curriculum | None = None,
    num_devices: int = 1,
  ) -> None:
    """Raises ValueError when environments cannot be shared evenly, or for counts below 1."""
    self.env = env
    self.num_envs = check_divisible(num_envs, num_devices)
    if reset_chunk is None:
      reset_chunk = chunk_size(self.num_envs)
    for name, value in (('num_history', num_history), ('reset_chunk', reset_chunk)):
      if value < 1:
        raise ValueError(f'{name}={value} must be at least 1')
    self.options = options
    self.num_history = num_history
    self.reset_chunk = min(reset_chunk, self.num_envs)
    self.curriculum = curriculum
    self._program = jax.jit(self._step)

  @property
  def observation_size(self) -> dict[str, tuple[int, ...]]:
    """Shape of each part of one environment's observation."""
    sizes: dict[str, tuple[int, ...]] = {'state': (self.env.observation_size,), 'goal_in_robot': (2,)}
    if self.options is not None:
      sizes['frames'] = (self.num_history, self.options.height, self.options.width, 3)
    return sizes

  @property
  def action_size(self) -> int:
    """Entries of one environment's action."""
    return self.env.action_size

  @property
  def backend(self) -> str:
    """The physics below."""
    return self.env.backend

  @property
  def dt(self) -> float:
    """Seconds of one policy step."""
    return self.env.dt

  def reset(self, rng: jax.Array) -> State:
    """First states of B episodes, from one key or from B of them; typed and legacy keys will do."""
    return self.step(self.blank(rng), jnp.zeros((self.num_envs, self.action_size)))

  def step(self, state: State, action: jax.Array) -> State:
    """States 0.25 s later under actions [B, 2]; whoever is done has begun a new episode."""
    return self._program(state, action)

  def begins(self, state: State) -> jax.Array:
    """[B] bool, whether the observation is the first of an episode."""
    is_first: jax.Array = state.pipeline_state.step == 0
    return is_first

  def _keys(self, rng: jax.Array) -> jax.Array:
    """[B, 2] uint32 keys of the episodes."""
    is_typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    if rng.ndim == (0 if is_typed else 1):
      return jax.random.bits(rng, (self.num_envs, 2), jnp.uint32)
    if rng.shape[0] != self.num_envs:
      raise ValueError(f'{rng.shape[0]} keys for {self.num_envs} environments; give one key, or one for each')
    return jax.vmap(episode_key)(rng)

  def blank(self, rng: jax.Array) -> State:
    """A state in which every episode is over before it began (step -1): the next step begins them all.

    So a reset needs no program of its own, worlds and pictures are compiled once. Under pmap, map this and `step`.
    """
    num, keys = self.num_envs, self._keys(rng)
    level = jnp.full(num, self.env.level if self.curriculum is None else self.curriculum.start, jnp.float32)
    shapes = jax.eval_shape(jax.vmap(self.env.begin), keys, level)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    episode = state.pipeline_state.replace(key=keys, step=jnp.full(num, -1, jnp.int32))
    obs = {'state': state.obs, 'goal_in_robot': jnp.zeros((num, 2))}
    if self.options is not None:
      size = self.num_history, self.options.height, self.options.width, 3
      obs['frames'] = jnp.zeros((num, *size), jnp.uint8)
    nothing = jnp.full(num, NOTHING, jnp.int32)
    info = {**state.info, 'hit_slot': nothing, 'final_state': state.obs, 'curriculum': level}
    return state.replace(pipeline_state=episode, obs=obs, info=info)

  def _step(self, state: State, action: jax.Array) -> State:
    """B states 0.25 s later under actions [B, 2]; whoever is done begins anew."""
    if action.shape != (self.num_envs, self.action_size):
      raise ValueError(f'actions {action.shape} must be ({self.num_envs}, {self.action_size}): one row each')
    is_blank = state.pipeline_state.step < 0
    after = jax.vmap(self.env.step)(state.replace(obs=state.obs['state']), action)
    # nothing counts that happened before the first episode
    account = [(s.reward, s.done, s.metrics, s.info) for s in (state, after)]
    keep = lambda old, new: jnp.where(is_blank.reshape(-1, *[1] * (new.ndim - 1)), old, new)
    reward, done, metrics, info = jax.tree.map(keep, *account)
    level = info['curriculum']
    if self.curriculum is not None:
      level = self.curriculum.moved(level, after.pipeline_state.level, done > 0, info['has_arrived'])
    begins = is_blank | (done > 0)
    episode, vector = self._begun_anew(after.pipeline_state, after.obs, begins, level)
    obs = {'state': vector, 'goal_in_robot': episode.goal_in_robot}
    if self.options is not None:
      obs['frames'] = self._frames(episode, state.obs['frames'], begins)
    info = {**info, 'final_state': after.obs, 'curriculum': level}
    following = State(episode, obs, reward, done, metrics, info)
    # a weak type in the output would compile the next step anew
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), following)

  def _begun_anew(
    self, episode: Episode, obs: jax.Array, begins: jax.Array, level: jax.Array
  ) -> tuple[Episode, jax.Array]:
    """Episodes and state vectors [B, S], where `begins` [B] says so those of a start in a new world."""

    def begin(pick: Callable[[Any], Any]) -> tuple[Episode, jax.Array]:
      keys, wanted = jax.vmap(next_key)(pick(episode.key)), pick(level)
      if self.curriculum is not None:
        level_keys = jax.vmap(lambda key: stream(key, _LEVEL_STREAM))(keys)
        wanted = jax.vmap(self.curriculum.drawn)(level_keys, wanted)
      fresh = jax.vmap(self.env.begin)(keys, wanted)
      return fresh.pipeline_state, fresh.obs

    anew: tuple[Episode, jax.Array] = refreshed(begins, self.reset_chunk, (episode, obs), begin)
    return anew

  def _frames(self, episode: Episode, frames: jax.Array, begins: jax.Array) -> jax.Array:
    """[B, K, h, w, 3] the last K pictures, K times the first one of an episode that begins."""
    assert self.options is not None
    picture = camera_pictures(episode, self.options)[:, None]
    if self.num_history == 1:
      return picture
    shifted = jnp.concatenate([frames[:, 1:], picture], axis=1)
    return jnp.where(begins[:, None, None, None, None], picture, shifted)


def camera_pictures(episodes: Episode, options: RenderOptions) -> jax.Array:
  """[B, h, w, 3] uint8, what the cameras of B robots see."""
  rgb = render(episodes.world.scene, views_of(episodes), options).rgb
  assert rgb is not None
  return rgb


def policy_observation(obs: dict[str, jax.Array]) -> Observation:
  """What a policy with a camera sees of a batch's State.obs."""
  goal = obs['goal_in_robot']
  return Observation(obs['frames'], goal, jnp.ones(goal.shape[:-1], bool))
