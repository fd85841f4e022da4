"""The batch of environments as a Gymnasium vector environment, numpy in and out: for the torch world.

Needs the extra 'gym' (pip install s2e_jax[gym]).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from s2e_jax.sim.batch import UrbanBatch

_INFOS = ('has_arrived', 'has_collided', 'hit_slot', 'hit_kind', 'hit_by_robot', 'route_completion', 'nan_actions',
          'clamped_actions')  # fmt: skip


class UrbanVectorEnv(VectorEnv):
  """`batch` in Gymnasium's terms: observations are dicts of numpy arrays, as in `UrbanBatch`.

  Autoreset mode is SAME_STEP: the observation of a step that ends an episode already belongs to the next one, and
  infos['final_obs'][i] holds the last one of the old. Its 'state' and 'goal_in_robot' are exact; nobody renders a
  final state, so its 'frames' are those of the step before. infos['final_info'] and infos['reward_terms'] hold
  arrays by name; every info has its mask '_name' as Gymnasium wants it.
  """

  metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium declares it so)
    'autoreset_mode': AutoresetMode.SAME_STEP,
    'render_modes': ['rgb_array'],
    'render_fps': 4,
  }

  def __init__(self, batch: UrbanBatch, seed: int = 0) -> None:
    """seed: of the first reset that is not given one."""
    self.batch = batch
    self.num_envs = batch.num_envs
    self.render_mode = 'rgb_array' if batch.options is not None else None
    low, high = (np.array(x, np.float32) for x in batch.env.config.action_range)
    self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
    self.single_observation_space = gymnasium.spaces.Dict(
      {
        name: gymnasium.spaces.Box(0, 255, shape, np.uint8)
        if name == 'frames'
        else gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        for name, shape in batch.observation_size.items()
      }
    )
    self.action_space = batch_space(self.single_action_space, self.num_envs)
    self.observation_space = batch_space(self.single_observation_space, self.num_envs)
    self._key = jax.random.key(seed)
    self._state: Any = None
    self._obs: dict[str, np.ndarray] = {}

  def reset(
    self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
  ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """First observations of `num_envs` episodes, and infos.

    seed: one for all (environment i takes seed + i), one for each, or None to draw on. There are no options:
    single environments cannot be reset. ValueError for a wrong number of seeds and for options.
    """
    if options:
      raise ValueError(f'options={sorted(options)} are unknown: environments reset themselves, one by one')
    if seed is None:
      self._key, key = jax.random.split(self._key)
      keys = jax.random.split(key, self.num_envs)
    else:
      seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else list(seed)
      if len(seeds) != self.num_envs:
        raise ValueError(f'{len(seeds)} seeds for {self.num_envs} environments; give one, or one for each')
      keys = jax.vmap(jax.random.key)(np.array(seeds, np.uint32))
      self._key = jax.random.fold_in(keys[0], 1)
    self._state = self.batch.reset(keys)
    self._obs = self._on_host(self._state.obs)
    return self._obs, self._infos(self._state)

  def step(
    self, actions: np.ndarray
  ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Observations, rewards, terminations, truncations and infos; actions [num_envs, 2] in the action space."""
    if self._state is None:
      raise ValueError('reset the environments before the first step')
    self._state = self.batch.step(self._state, jnp.asarray(actions, jnp.float32))
    before, self._obs = self._obs, self._on_host(self._state.obs)
    info = self._state.info
    terminated, truncated = np.array(info['terminated']), np.array(info['truncated'])
    infos = self._infos(self._state)
    done = terminated | truncated
    if done.any():
      last = np.array(info['final_state'])
      final = np.full(self.num_envs, None, object)
      for i in np.flatnonzero(done):
        final[i] = {name: value[i] for name, value in before.items()}
        # the first three entries are clip(d, 0.1, 200) / 200 and the bearing
        final[i] |= {'state': last[i], 'goal_in_robot': last[i, 0] * 200 * last[i, 1:3]}
      infos |= {'final_obs': final, '_final_obs': done, 'final_info': dict(infos), '_final_info': done}
    return self._obs, np.array(self._state.reward), terminated, truncated, infos

  def render(self) -> tuple[np.ndarray, ...] | None:
    """The newest picture of each environment, [h, w, 3] uint8; None without pictures."""
    return tuple(self._obs['frames'][:, -1]) if self.render_mode else None

  def close_extras(self, **kwargs: Any) -> None:
    """Forgets the state."""
    self._state = None

  def _on_host(self, obs: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.array(obs[name]) for name in self.batch.observation_size}

  def _infos(self, state: Any) -> dict[str, Any]:
    everyone = np.ones(self.num_envs, bool)
    infos = {name: np.array(state.info[name]) for name in _INFOS} | {f'_{name}': everyone for name in _INFOS}
    terms = {name: np.array(value) for name, value in state.info['reward_terms'].items()}
    return infos | {'reward_terms': terms, '_reward_terms': everyone}
