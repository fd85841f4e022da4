"""Pretraining ("seeing"): AGDM behaviour cloning of video windows (S2E, arXiv:2507.22028)."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from s2e_jax import mixture
from s2e_jax.policy.policy import Policy
from s2e_jax.store.metrics import MetricsWriter, Progress, log_progress
from s2e_jax.structs import SegmentBatch
from s2e_jax.training import checkpoints, optim, parallel, rundir, sources, startup
from s2e_jax.training.feed import Feed
from s2e_jax.training.optim import TrainState

# Steps whose metrics may still be on their way: the host never waits for the newest one, and never runs far ahead.
LAG = 2


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """The numbers of config.loss: see `mixture.pretrain_loss`, and `clearance_error` for clearance_weight."""

  assignment: str = 'pred_direction'
  score_weight: float = 1.0
  velocity_weight: float = 1.0
  clearance_weight: float = 0.0


def clearance_error(log_clearances: jax.Array, clearances: jax.Array) -> jax.Array:
  """[*B] mean squared error of log distances [*B, S] over the sectors whose clearances (m) are known, else 0.

  Distances below 0.1 m count as 0.1 m: the logarithm would make them all that matters.
  """
  is_known = jnp.isfinite(clearances)
  target = jnp.log(jnp.maximum(jnp.where(is_known, clearances, 1.0), 0.1))
  square = jnp.where(is_known, (log_clearances - target) ** 2, 0.0)
  return square.sum(axis=-1) / jnp.maximum(is_known.sum(axis=-1), 1)


def window_sums(
  policy: Policy, options: LossOptions, variables: Any, batch: SegmentBatch, train: bool
) -> tuple[dict[str, jax.Array], Any]:
  """Sums over the valid windows of `batch` of everything `pretrain_loss` returns, and the new model state.

  'count' is the number of these windows; sums are scalars except 'mode_used' [M].
  """
  collections_ = [name for name in variables if name != 'params'] if train else []
  (prediction, log_clearances), model_state = policy.apply(
    variables, batch.frames, batch.goal_in_robot, batch.has_goal, train, method='segments', mutable=collections_
  )
  values = mixture.pretrain_loss(
    prediction,
    jnp.asarray(policy.config.anchors, jnp.float32),
    batch.waypoints_in_robot,
    batch.waypoint_mask & batch.window_mask[..., None],
    options.assignment,
    options.score_weight,
    options.velocity_weight,
  )
  if log_clearances is not None:
    values['clearance'] = clearance_error(log_clearances, batch.clearances)
    values['loss'] = values['loss'] + options.clearance_weight * values['clearance']
  mask = batch.window_mask
  sums = {
    k: jnp.where(mask.reshape(mask.shape + (1,) * (v.ndim - 2)), v, 0.0).sum((0, 1)) for k, v in values.items()
  }
  return sums | {'count': mask.sum().astype(jnp.float32)}, model_state


def make_train_step(
  policy: Policy, optimizer: optax.GradientTransformation, options: LossOptions, ema_decay: float = 0.0
) -> Callable[[TrainState, SegmentBatch], tuple[TrainState, dict[str, jax.Array]]]:
  """The pure step (state, batch) -> (state, metrics), run by `parallel.pmap` on each device's share of a batch.

  The loss is the sum over all devices of the masked window losses over the number of windows of all devices: how
  windows are dealt to devices does not matter. metrics: global sums (see `window_sums`) and the update's figures.
  """

  def train_step(state: TrainState, batch: SegmentBatch) -> tuple[TrainState, dict[str, jax.Array]]:
    total = jnp.maximum(parallel.psum(batch.window_mask.sum().astype(jnp.float32)), 1.0)

    def share_of_loss(params: Any) -> tuple[jax.Array, Any]:
      sums, model_state = window_sums(policy, options, {'params': params, **state.model_state}, batch, train=True)
      return sums['loss'] / total, (sums, model_state)

    grads, (sums, model_state) = jax.grad(share_of_loss, has_aux=True)(state.params)
    grads, sums, model_state = parallel.psum(grads), parallel.psum(sums), parallel.pmean(model_state)
    loss = sums['loss'] / total
    state, figures = optim.guarded_update(
      state, optimizer, loss, grads, {**state.model_state, **model_state}, ema_decay
    )
    return state, sums | figures

  return train_step


def means(sums: dict[str, Any]) -> dict[str, Any]:
  """Averages over windows of `window_sums`-like host sums, and the count that they average over."""
  count = float(sums['count'])
  return {k: np.asarray(v, np.float64) / max(count, 1.0) for k, v in sums.items() if k != 'count'} | {
    'count': count
  }


class Interval:
  """Host-side sums of the train metrics of a log interval; steps that were not finite are left out."""

  def __init__(self, stored: dict[str, Any] | None = None) -> None:
    """Empty, or as it was when `to_dict` gave `stored`: a run resumed within an interval keeps its start."""
    stored = stored or {'sums': {}, 'norms': [], 'num_bad': 0}
    self._sums: dict[str, Any] = {k: np.asarray(v, np.float64) for k, v in stored['sums'].items()}
    self._norms: list[float] = list(stored['norms'])
    self._num_bad = int(stored['num_bad'])

  def to_dict(self) -> dict[str, Any]:
    """JSON-able and exact."""
    sums = {k: np.asarray(v).tolist() for k, v in self._sums.items()}
    return {'sums': sums, 'norms': self._norms, 'num_bad': self._num_bad}

  def add(self, metrics: dict[str, Any]) -> None:
    """Adds the metrics of one step, on the host."""
    figures = {name: metrics.pop(name) for name in ('grad_norm', 'num_bad', 'bad_streak')}
    self._num_bad = int(figures['num_bad'])
    if figures['bad_streak'] == 0:
      self._norms.append(float(figures['grad_norm']))
      self._sums = {k: self._sums.get(k, 0.0) + np.asarray(v, np.float64) for k, v in metrics.items()}

  def take(self) -> dict[str, Any]:
    """'train/...' means and 'optim/...' figures since the last call."""
    values = {f'train/{k}': v for k, v in means(self._sums).items()} if self._sums else {'train/count': 0.0}
    values |= {
      'optim/grad_norm': np.mean(self._norms) if self._norms else float('nan'),
      'optim/num_bad': self._num_bad,
    }
    self._sums, self._norms = {}, []
    return values


def make_eval_step(policy: Policy, options: LossOptions) -> Callable[[Any, SegmentBatch], dict[str, jax.Array]]:
  """The pure step (variables, batch) -> `window_sums` of one device's share."""
  return lambda variables, batch: window_sums(policy, options, variables, batch, train=False)[0]


def validate(eval_step: Callable[..., Any], variables: Any, loader: Any) -> dict[str, Any]:
  """Means over all windows of the validation part, all processes together ('val/...')."""
  feed = Feed(loader, parallel.shard, with_state=False)
  total: dict[str, Any] = {}
  flying: collections.deque[Any] = collections.deque()

  def land() -> None:
    for name, value in flying.popleft().items():
      total[name] = total.get(name, 0.0) + np.asarray(value, np.float64).sum(axis=0)

  for batch, _ in feed:
    flying.append(eval_step(variables, batch))
    if len(flying) > LAG:
      land()
  while flying:
    land()
  feed.close()
  return {f'val/{k}': v for k, v in means(parallel.sum_over_processes(total)).items()}


def run(config: ConfigDict, workdir: str | Path) -> None:
  """Trains until config.train.steps, from the newest checkpoint in `workdir` if there is one.

  Raises ValueError for a config, data or folder that breaks a rule, before anything is compiled; SaveError when a
  checkpoint cannot be written; NonFiniteError when training diverges. SIGTERM and SIGINT finish the step, save and
  return.
  """
  workdir = Path(workdir).absolute()
  startup.check(config)
  with rundir.locked(workdir):
    _run(config, workdir)


def _run(config: ConfigDict, workdir: Path) -> None:
  """`run` in a folder that nobody else writes to."""
  setup = startup.prepare(config, workdir)
  cfg, policy, source, spec = config.train, setup.policy, setup.source, setup.spec
  store = checkpoints.RunCheckpoints(workdir, cfg.keep, setup.description)
  state, resumed = store.restore_or(setup.initial_state)
  step = int(state.step)
  if step >= cfg.steps:
    store.close()
    logging.info('the run in %s is complete: %d steps', workdir, step)
    startup.say_where(workdir)
    return

  options = LossOptions(**config.loss.to_dict())
  train_step = parallel.pmap(
    make_train_step(policy, setup.optimizer, options, config.optim.ema_decay), donate=(0,)
  )
  eval_step = parallel.pmap_local(make_eval_step(policy, options))
  new_val_loader = functools.partial(sources.val_loader, source, spec, policy.config, config)
  new_val_loader().close()  # too short a validation part must not come to light after hours
  loader = sources.train_loader(source, spec, policy.config, config)
  if resumed is not None:
    loader.set_state(resumed.loader_state)
  state = parallel.replicate(state)
  progress = Progress(step, cfg.steps, cfg.batch_segments * spec.num_frames)
  rate = optim.learning_rate(config.optim.learning_rate, config.optim.warmup_steps, cfg.steps)
  interval, flying = Interval(resumed.interval if resumed else None), collections.deque[tuple[int, Any]]()

  def land() -> None:
    """Takes in the metrics of the oldest step on its way."""
    at, metrics = flying.popleft()
    metrics = parallel.unreplicate(metrics)
    optim.check_streak(at, int(metrics['bad_streak']), cfg.max_bad_steps)
    good_steps = at - int(metrics['num_bad'])
    interval.add(metrics)
    if at % cfg.log_every == 0 or at == cfg.steps:
      progress.waited(feed.waited_s)
      feed.waited_s = 0.0
      values = interval.take() | {'optim/learning_rate': float(rate(max(0, good_steps - 1)))}
      timing = progress.interval(at)
      writer.write(at, values | timing)
      figure = ('ade_top [m]', float(values.get('train/ade_top', np.nan)))
      log_progress(at, cfg.steps, float(values.get('train/loss', np.nan)), figure, timing)

  logging.info('compiling the train step')
  is_first, stop = True, False
  with contextlib.ExitStack() as stack:
    writer = stack.enter_context(
      contextlib.closing(MetricsWriter(workdir, step, is_primary=jax.process_index() == 0))
    )
    stack.enter_context(contextlib.closing(store))
    stack.enter_context(contextlib.closing(loader))
    feed = stack.enter_context(contextlib.closing(Feed(loader, parallel.shard)))
    signals = stack.enter_context(startup.StopSignals())
    while step < cfg.steps and not stop:
      batch, loader_state = next(feed)
      state, metrics = train_step(state, batch)
      step += 1
      flying.append((step, parallel.fetch_async(metrics)))
      if is_first:
        jax.block_until_ready(metrics)
        progress.compiled(step)
        feed.waited_s, is_first = 0.0, False
        logging.info('first step with compilation took %.1f s', progress.compile_s)
      while len(flying) > LAG:
        land()
      # Several processes must agree on the step to stop at; meeting at every step would cost more than it brings.
      if jax.process_count() == 1 or step % cfg.log_every == 0:
        stop = parallel.any_process(signals.is_set)
      evaluates = step % cfg.eval_every == 0 or step == cfg.steps
      saves = step % cfg.checkpoint_every == 0 or step == cfg.steps or stop
      if not (evaluates or saves):
        continue
      while flying:
        land()
      begin = time.perf_counter()
      if evaluates:
        val = validate(eval_step, state.policy_variables, new_val_loader())
        writer.write(step, val)
        logging.info('step %d  val loss %.4f  val ade_top %.3f m', step, val['val/loss'], val['val/ade_top'])
        store.save_if_best(state, float(val[f'val/{cfg.best_by}']), val)
      if saves:
        store.save(state, loader_state, interval.to_dict())
      store.check()
      progress.paused(time.perf_counter() - begin)
  if step < cfg.steps:
    logging.info('stopped by a signal after step %d of %d; run the same command again to go on', step, cfg.steps)
  else:
    logging.info('trained %d steps', step)
  startup.say_where(workdir)
