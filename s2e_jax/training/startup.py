"""Everything that happens once before the first step of pretraining, and at its end."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from s2e_jax.data import augment
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.mixture import ASSIGNMENTS
from s2e_jax.policy import policy as policy_lib
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy
from s2e_jax.training import optim, parallel, rundir, sources
from s2e_jax.training.initial import first_policy
from s2e_jax.training.optim import TrainState


@dataclasses.dataclass(frozen=True)
class Setup:
  """What `prepare` returns."""

  policy: Policy
  optimizer: optax.GradientTransformation
  initial_state: TrainState
  source: sources.Source
  spec: SegmentSpec
  description: dict[str, Any]


def prepare(config: ConfigDict, workdir: Path) -> Setup:
  """Opens folder and data, builds policy and optimiser; compiles only the initialisation.

  Raises ValueError that names value, rule and remedy.
  """
  bare = policy_config(**config.policy.to_dict())
  spec = sources.segment_spec(config, bare)
  if jax.process_index() == 0:
    rundir.open_run(workdir, json.loads(config.to_json()))
  parallel.meet()
  source = sources.open_source(config, workdir, bare.image_height, bare.image_width)
  rundir.check_data(workdir, source.dataset.content_hash)
  full, variables = first_policy(config, workdir, bare, source, spec)
  policy = Policy(full, axis_name=parallel.AXIS)
  cfg = config.optim
  optimizer = optim.make_optimizer(
    variables['params'],
    config.train.steps,
    cfg.learning_rate,
    cfg.warmup_steps,
    encoder_lr_scale=cfg.encoder_lr_scale,
    weight_decay=cfg.weight_decay,
    clip_norm=cfg.clip_norm,
    b2=cfg.b2,
  )
  state = optim.init_state(variables, optimizer, cfg.ema_decay)
  description = {
    'format': 1,
    'kind': config.kind,
    'model': policy.config.name,
    'policy': policy.config.to_dict(),
    **sources.describe(source, spec, policy.config),
    'config': json.loads(config.to_json()),
    **rundir.environment(),
  }
  table = rundir.parameter_table(variables['params'])
  rundir.write_json(workdir / rundir.DESCRIPTION, description)
  rundir.write_text(workdir / rundir.PARAMETERS, table)
  logging.info('config:\n%s', config)
  logging.info('devices: %s', description['devices'])
  logging.info(
    'parameters (all trainable; each one in %s):\n%s',
    rundir.PARAMETERS,
    policy_lib.parameter_table(variables['params']),
  )
  return Setup(policy, optimizer, state, source, spec, description)


def check(config: ConfigDict) -> None:
  """Raises ValueError for numbers of config.train, config.loss and the augmentation that break a rule."""
  train = config.train
  parallel.check_divisible('config.train.batch_segments', train.batch_segments)
  for name in ('steps', 'log_every', 'eval_every', 'checkpoint_every', 'keep', 'max_bad_steps'):
    if train[name] < 1:
      raise ValueError(f'config.train.{name}={train[name]} must be at least 1')
  if train.best_by not in ('ade_top', 'loss'):
    raise ValueError(f"config.train.best_by={train.best_by!r} must be 'ade_top' or 'loss'")
  if config.loss.assignment not in ASSIGNMENTS:
    raise ValueError(f'config.loss.assignment={config.loss.assignment!r} must be one of {ASSIGNMENTS}')
  augment.check(config.data.flip_prob, config.data.photometric, config.data.hue)


class StopSignals:
  """Context in which SIGTERM and SIGINT only ask for the end; a second signal acts as it did before."""

  def __init__(self) -> None:
    """No signal so far."""
    self.is_set = False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> StopSignals:
    """Takes the signals over (does nothing outside the main thread, where Python allows no handlers)."""
    try:
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._handle)
    except ValueError:
      logging.warning('not in the main thread: SIGTERM and SIGINT will not save')
    return self

  def _handle(self, number: int, frame: FrameType | None) -> None:
    logging.info('%s: finishing this step, then saving', signal.Signals(number).name)
    self.is_set = True
    self.__exit__()

  def __exit__(self, *error: Any) -> None:
    """Gives the signals back."""
    while self._before:
      number, handler = self._before.popitem()
      signal.signal(number, handler)


def say_where(workdir: Path) -> None:
  """Logs where the results of a run lie."""
  names = ['metrics.jsonl', 'tensorboard', rundir.CHECKPOINTS, rundir.BEST, rundir.DESCRIPTION, rundir.PARAMETERS]
  logging.info('run folder %s: %s', workdir, ', '.join(name for name in names if (workdir / name).exists()))
