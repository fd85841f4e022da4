"""What a policy does closed loop on validation episodes while it is finetuned; a film of before and after.

The episodes are the first ones of the split 'validation' in the worlds that it trains in, at level 1, by the rules
of judging: it acts deterministically, contact only counts. They change nothing of the run and choose nothing but
the checkpoint in `best`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from s2e_jax.closedloop import pictures
from s2e_jax.closedloop.episodes import Traces
from s2e_jax.closedloop.metrics import CLASSES, episode_metrics
from s2e_jax.closedloop.policies import Contender, camera_policy
from s2e_jax.closedloop.report import with_any_contact
from s2e_jax.closedloop.run import Judged, judge
from s2e_jax.closedloop.splits import episode_keys
from s2e_jax.reporting import write_whole
from s2e_jax.sim import settings
from s2e_jax.training.agent import Agent

FOLDER, BEFORE, FILM = 'trials', 'before.npz', 'before_and_after.mp4'
_FIGURES = {
  'success': 'success',
  'rc': 'route_completion',
  'contacts': 'contacts',
  'any_contact': 'any_contact',
  'speed': 'speed',
}


def check(block: ConfigDict) -> None:
  """Raises ValueError when a number of config.trials breaks its rule."""
  if block.every < 0:
    raise ValueError(f'config.trials.every={block.every} must not be negative; 0 = never')
  for name in ('episodes', 'batch'):
    if block[name] < 1:
      raise ValueError(f'config.trials.{name}={block[name]} must be at least 1')
  if not block.seconds > 0:
    raise ValueError(f'config.trials.seconds={block.seconds} must be > 0')
  if block.every and block.film:
    pictures.require_pyav()


def figures_of(judged: Judged, name: str) -> dict[str, float]:
  """Means over the episodes of one contender, and the share of each way to end."""
  figures = with_any_contact(judged.figures[name])
  means = {f'validation/{shown}': float(np.mean(figures[own])) for own, shown in _FIGURES.items()}
  shares = np.bincount(figures['failure'].astype(int), minlength=len(CLASSES)) / len(figures['failure'])
  return means | {f'validation/ends/{end}': float(s) for end, s in zip(CLASSES[1:], shares[1:], strict=True)}


class Trials:
  """Holds trials for one run; a later process goes on with what an earlier one left in the folder."""

  def __init__(self, config: ConfigDict, agent: Agent, workdir: Path) -> None:
    """Builds the environment of judging; nothing is compiled before the first trial."""
    self._block, self._folder = config.trials, workdir / FOLDER
    if not self._block.every:
      return
    # `s2e_jax.evaluate` judges by the same rules, rewards included, and finds this program in the cache.
    rules = {'end_on_collision': False, 'time_limit': self._block.seconds, 'action': 'command'}
    nobody_is_paid = dict.fromkeys(config.env.rewards, 0.0)
    self._env = settings.make_env(config, **rules, weights=nobody_is_paid)
    pixels = {name: config.picture[name] for name in ('nearest', 'shadow')}
    self._policy = camera_policy(agent.policy.config, agent.limits, agent.lookahead, agent.rule, **pixels)
    self._last: Traces | None = None

  def is_due(self, iteration: int, last: int) -> bool:
    """Before the first iteration, after every `every`-th one and after the last."""
    every = self._block.every
    return bool(every) and (iteration % every == 0 or iteration == last)

  def hold(self, variables: Any) -> dict[str, float]:
    """Figures 'validation/...' of the policy with these variables; what the first ones show is kept as before."""
    keys = episode_keys('validation', self._block.episodes)
    quiet = lambda message: logging.debug('%s', message)
    contender, devices = Contender('now', self._policy, variables), jax.local_device_count()
    judged = judge(self._env, [contender], keys, self._block.batch, say=quiet, num_devices=devices)
    self._last = judged.traces['now']
    if jax.process_index() == 0 and not (self._folder / BEFORE).exists():
      self._folder.mkdir(parents=True, exist_ok=True)
      leaves: Any = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(self._last))}
      packed = io.BytesIO()
      np.savez_compressed(packed, **leaves)
      write_whole(self._folder / BEFORE, packed.getvalue())
    figures = figures_of(judged, 'now')
    shown = ('success', 'route_completion', 'contacts', 'any_contact')
    logging.info('trial: %s', '  '.join(f'{name} {figures["validation/" + name]:.3f}' for name in shown))
    return figures

  def film(self) -> Path | None:
    """Writes the film of the most telling episode, before the run beside now; None if there is none."""
    if not self._block.every or not self._block.film or self._last is None:
      return None
    with np.load(self._folder / BEFORE) as stored:
      leaves = [stored[str(i)] for i in range(len(stored.files))]
    traces = {'before': jax.tree.unflatten(jax.tree.structure(self._last), leaves), 'after': self._last}
    figures = {name: episode_metrics(t) for name, t in traces.items()}
    (row,) = pictures.telling_rows(figures, 1)
    return pictures.side_by_side(self._folder / FILM, traces, row, self._env.config.robot.footprint)
