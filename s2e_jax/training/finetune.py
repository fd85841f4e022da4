"""Finetuning ("experiencing"): PPO in simulation on what the variant trains (S2E, arXiv:2507.22028).

Its supervised rivals (`training.imitation`) run in the same loop, for as many policy steps. One iteration is a
rollout of T steps of all environments and the epochs over it, both pmapped over devices. A run resumes with its
environments, keys and statistics as they were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from s2e_jax.closedloop.splits import split_key
from s2e_jax.store.metrics import MetricsWriter, Progress, duration
from s2e_jax.training import curves, finetune_startup, parallel, parts, programs, rundir, startup, variants
from s2e_jax.training.finetune_checkpoints import Counters, FinetuneCheckpoints
from s2e_jax.training.finetune_startup import Setup
from s2e_jax.training.optim import NonFiniteError
from s2e_jax.training.ppo import Learner
from s2e_jax.training.rollout import Actor, first_actor
from s2e_jax.training.trials import Trials

_ACTOR_STREAM = 1  # of the run's seed


def first_actors(setup: Setup, seed: int) -> Actor:
  """Actors of the local devices before their first step, with a leading device axis."""
  # worlds that no judged episode has, whatever the seed
  key = jax.random.fold_in(jax.random.fold_in(split_key('train'), seed), _ACTOR_STREAM)
  keys = jax.random.split(key, jax.device_count())
  first = jax.process_index() * jax.local_device_count()
  roller = setup.roller
  make = functools.partial(
    first_actor, setup.batch, setup.agent, keeps_frames=roller.keeps_frames, expert=roller.expert
  )
  return parallel.stack_local([make(keys[first + i]) for i in range(jax.local_device_count())])


class Interval:
  """Host-side sums of the counts and figures of a log interval.

  num_envs: over all devices. group: of the figures, in names of metrics.
  """

  def __init__(self, num_envs: int, group: str = 'ppo') -> None:
    """Empty."""
    self._num_envs, self._group = num_envs, group
    self._clear()

  def _clear(self) -> None:
    self._counts: dict[str, Any] = {}
    self._figures: dict[str, list[Any]] = {}
    self._seconds = {'rollout': 0.0, 'update': 0.0}
    self._timed_steps = 0.0

  def add(self, counts: dict[str, Any], figures: dict[str, Any], seconds: dict[str, float]) -> None:
    """Adds one iteration. seconds: of 'rollout' and 'update', or nothing where it was compiled meanwhile."""
    self._counts = {k: self._counts.get(k, 0.0) + np.asarray(v, np.float64) for k, v in counts.items()}
    for name, value in figures.items():
      self._figures.setdefault(name, []).append(np.asarray(value, np.float64))
    self._seconds = {k: v + seconds.get(k, 0.0) for k, v in self._seconds.items()}
    self._timed_steps += float(counts['steps']) if seconds else 0.0

  def take(self, seconds_of_parts: dict[str, float]) -> dict[str, Any]:
    """'episodes/...' shares, 'rollout/...' means per step, GROUP/... figures and 'time/...' shares since then.

    seconds_of_parts: of `parts`, per step of all environments.
    """
    sums = dict(self._counts)
    steps, episodes = float(sums.pop('steps')), float(sums.pop('episodes'))
    values: dict[str, Any] = {'episodes/ended': episodes}
    for name in ('success', 'collision', 'time_out', 'route_completion'):
      values[f'episodes/{name}'] = float(sums.pop(name)) / max(episodes, 1.0)
    values['rollout/nan_actions'] = float(sums.pop('nan_actions'))
    values |= {f'rollout/{name}': value / steps for name, value in sums.items()}
    last = ('learning_rate', 'exploration_std')
    for name, series in self._figures.items():
      values[f'{self._group}/{name}'] = series[-1] if name in last else np.mean(series, axis=0)
    total, rollout_s = sum(self._seconds.values()), self._seconds['rollout']
    values |= {f'time/{name}_share': seconds / max(total, 1e-9) for name, seconds in self._seconds.items()}
    values |= parts.shares(seconds_of_parts, self._timed_steps / self._num_envs, rollout_s, total)
    self._clear()
    return values


def has_failed(figures: dict[str, Any], counts: dict[str, Any], collapse_entropy: float) -> str:
  """Why the policy of an iteration is not worth going on with; '' if it is."""
  entropy = float(counts['score_entropy']) / float(counts['steps'])
  is_ppo = 'policy_loss' in figures
  loss = float(figures['policy_loss' if is_ppo else 'loss'])
  if not np.isfinite(entropy) or not np.isfinite(loss) or figures['bad_updates'] > 0:
    return f'{int(figures["bad_updates"])} updates were not finite'
  # labels may well make a supervised policy sure of its mode; it does not explore
  if is_ppo and entropy < collapse_entropy and counts['mode_used'].shape[0] > 1:
    return f'score entropy {entropy:.4f} is below train.collapse_entropy={collapse_entropy}: one mode took all'
  return ''


def run(config: ConfigDict, workdir: str | Path) -> None:
  """Finetunes until config.train.steps policy steps, from the newest checkpoint in `workdir` if there is one.

  Raises ValueError for a config, checkpoint or folder that breaks a rule, before anything is compiled; SaveError
  when a checkpoint cannot be written; NonFiniteError when the policy fails max_rollbacks times. SIGTERM and SIGINT
  finish the iteration, save and return.
  """
  workdir = Path(workdir).absolute()
  finetune_startup.check(config)
  with rundir.locked(workdir):
    _run(config, workdir)


def _run(config: ConfigDict, workdir: Path) -> None:
  """`run` in a folder that nobody else writes to."""
  setup = finetune_startup.prepare(config, workdir)
  cfg, per_iteration = config.train, config.num_envs * config.ppo.horizon
  last = -(-cfg.steps // per_iteration)
  store = FinetuneCheckpoints(workdir, cfg.keep, setup)
  newest = store.newest()
  is_fresh = newest is None
  if newest is not None and newest >= last:  # on however many devices: nothing of it has to be restored
    store.close()
    logging.info('the run in %s is complete: %d policy steps', workdir, newest * per_iteration)
    startup.say_where(workdir)
    return
  learner, actors, counters = store.restore_or(setup.learner, first_actors(setup, config.seed))
  learner, model_state = parallel.replicate((learner, setup.model_state))
  logging.info('compiling rollout and update')
  roll_out, update = programs.begin_to_compile(setup, config.seed, learner, model_state, actors)
  progress = Progress(counters.iteration, last, per_iteration)
  group = 'ppo' if setup.roller.expert is None else 'imitation'
  interval, is_first, stop = Interval(config.num_envs, group), True, False
  trials, seconds = Trials(config, setup.agent, workdir), {}
  with contextlib.ExitStack() as stack:
    is_primary = jax.process_index() == 0
    writer = MetricsWriter(workdir, counters.iteration, is_primary)
    stack.callback(lambda: writer.close())
    stack.enter_context(contextlib.closing(store))
    signals = stack.enter_context(startup.StopSignals())
    if counters.iteration == 0:
      _hold_trial(trials, setup, store, writer, learner, counters, last)  # while the programs are compiled
      progress = Progress(0, last, per_iteration)
    if is_fresh:
      actors, _, _ = roll_out(learner, model_state, actors)  # begins the first episodes
      store.save(learner, actors, counters)  # what a rollback in the first interval goes back to
    while counters.iteration < last and not stop:
      times = [time.perf_counter()]
      actors, rollout, counts = roll_out(learner, model_state, actors)
      jax.block_until_ready(rollout.reward)
      times.append(time.perf_counter())
      learner, figures = update(learner, model_state, rollout, parallel.replicate(np.uint32(counters.updates)))
      figures, counts = parallel.unreplicate((figures, counts))
      times.append(time.perf_counter())
      counters = dataclasses.replace(counters, iteration=counters.iteration + 1, updates=counters.updates + 1)
      if is_first:
        if cfg.time_parts:
          seconds = parts.seconds_of_parts(setup, parallel.unreplicate(learner), setup.model_state, actors)
        progress.compiled(counters.iteration)
        logging.info('first iteration took %.1f s, with what was left to compile', progress.compile_s)
      if why := has_failed(figures, counts, cfg.collapse_entropy):
        learner, actors, counters = _rolled_back(store, setup, actors, counters, why, cfg.max_rollbacks)
        # records of what is undone go too
        writer.close()
        writer = MetricsWriter(workdir, counters.iteration, is_primary)
        interval = Interval(config.num_envs, group)
        progress, is_first = Progress(counters.iteration, last, per_iteration), False
        continue
      took = {'rollout': times[1] - times[0], 'update': times[2] - times[1]}
      interval.add(counts, figures, {} if is_first else took)
      is_first = False
      stop = parallel.any_process(signals.is_set)
      done = counters.iteration == last or stop
      if counters.iteration % cfg.log_every == 0 or done:
        values, timing = interval.take(seconds), progress.interval(counters.iteration)
        writer.write(counters.iteration, values | timing | {'policy_steps': counters.iteration * per_iteration})
        _log(counters.iteration * per_iteration, last * per_iteration, values, timing)
      begin = time.perf_counter()
      _hold_trial(trials, setup, store, writer, learner, counters, last)
      progress.paused(time.perf_counter() - begin)
      if counters.iteration % cfg.checkpoint_every == 0 or done:
        begin = time.perf_counter()
        store.save(learner, actors, counters)
        progress.paused(time.perf_counter() - begin)
      store.check()
  if counters.iteration < last:
    logging.info(
      'stopped by a signal after iteration %d of %d; run the same command again', counters.iteration, last
    )
  else:
    logging.info('finetuned %d policy steps', counters.iteration * per_iteration)
    if is_primary:
      for path in filter(None, (curves.draw_curves(workdir), trials.film())):
        logging.info('wrote %s', path)
  startup.say_where(workdir)


def _hold_trial(
  trials: Trials,
  setup: Setup,
  store: FinetuneCheckpoints,
  writer: MetricsWriter,
  learner: Learner,
  counters: Counters,
  last: int,
) -> None:
  """Judges the policy of a replicated learner if it is time, alike in every process, and keeps the best."""
  if not trials.is_due(counters.iteration, last):
    return
  variables = {'params': parallel.unreplicate(learner.params['policy']), **setup.model_state}
  figures = trials.hold(variables)
  writer.write(counters.iteration, figures)
  store.save_if_best(variables, counters, figures)


def _rolled_back(
  store: FinetuneCheckpoints, setup: Setup, actors: Actor, counters: Counters, why: str, most: int
) -> tuple[Learner, Actor, Counters]:
  """Learner, actors and counters of the last checkpoint, at half its rate; NonFiniteError after `most` times."""
  at, rollbacks = counters.iteration, counters.rollbacks + 1
  if rollbacks > most:
    raise NonFiniteError(
      f'iteration {at}: {why}, after {most} rollbacks (train.max_rollbacks). The last checkpoint is intact; lower '
      'optim.learning_rate or raise ppo.entropy_weight'
    )
  learner, actors, restored = store.restore_or(setup.learner, actors)
  # a checkpoint from after an earlier rollback holds a rate that was halved then
  rate = variants.learning_rate_of(learner.opt_state) / 2 ** (rollbacks - restored.rollbacks)
  learner = dataclasses.replace(
    learner, opt_state=variants.with_learning_rate(learner.opt_state, jnp.asarray(rate))
  )
  logging.warning(
    'iteration %d: %s; back to iteration %d with learning rate %.2e (rollback %d of %d)',
    at, why, restored.iteration, float(rate), rollbacks, most,
  )  # fmt: skip
  # other numbers than last time, or the same would happen again
  counters = dataclasses.replace(restored, rollbacks=rollbacks, updates=counters.updates)
  return parallel.replicate(jax.tree.map(np.asarray, learner)), actors, counters


def _log(step: int, last: int, values: dict[str, Any], timing: dict[str, float]) -> None:
  """One line for people."""
  parts = [
    f'step {step:,}/{last:,}',
    f'success {values["episodes/success"]:.3f}',
    f'collision {values["episodes/collision"]:.3f}',
    f'time-out {values["episodes/time_out"]:.3f}',
    f'level {float(values["rollout/level"]):.2f}',
    f'reward {float(values["rollout/reward"]):.4f}',
  ]
  figures = {'kl': 'ppo/kl', 'entropy': 'ppo/entropy', 'explained': 'ppo/explained_variance'}
  figures |= {name: f'imitation/{name}' for name in ('loss', 'error_v', 'error_w')}
  parts += [f'{word} {float(values[name]):.4f}' for word, name in figures.items() if name in values]
  if timing:
    parts += [f'{timing["time/images_per_s"]:,.0f} steps/s', f'ETA {duration(timing["time/eta_s"])}']
  logging.info('%s', '  '.join(parts))
