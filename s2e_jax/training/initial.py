"""The variables a run starts from: fresh, with imported encoder weights, or those of an earlier checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from s2e_jax.contracts import check_camera_contract
from s2e_jax.data.windows import SegmentSpec
from s2e_jax.policy.anchors import kmeans_anchors
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.encoders.weights import with_imported_encoder
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.store.checkpoint import whole_steps
from s2e_jax.training import rundir, sources
from s2e_jax.training.restore import load_policy

# Fields that go with the parameters of a checkpoint, and those in which its user may choose otherwise.
_TAKEN = ('clearance_head', 'anchors', 'anchor_kind', 'encoder_padding', 'bn_epsilon', 'image_mean', 'image_std')
_FREE = frozenset({'compute_dtype', 'depthwise', 'encoder_weights', 'norm'})


def first_policy(
  config: ConfigDict, workdir: Path, bare: PolicyConfig, source: sources.Source, spec: SegmentSpec
) -> tuple[PolicyConfig, dict[str, Any]]:
  """The policy of a run with its anchors and the conventions of imported weights, and variables to start from.

  bare: the policy config that `config.policy` asks for, perhaps still without anchors.
  A run that has checkpoints keeps the policy of its description; its variables serve as a template only, so that
  the files it started from may be gone.
  Raises ValueError when config.init_from or config.policy.encoder_weights does not fit.
  """
  if config.init_from and bare.encoder_weights:
    raise ValueError(
      f'init_from={config.init_from!r} and policy.encoder_weights={bare.encoder_weights!r} both set the encoder; '
      'give one of them'
    )
  if whole_steps(workdir / rundir.CHECKPOINTS):
    stored = json.loads((workdir / rundir.DESCRIPTION).read_text())
    full = PolicyConfig.from_dict(stored['policy'])
    return full, initial_variables(full, config.seed)
  if config.init_from:
    return from_checkpoint(config, bare, source, spec)
  full = with_anchors(bare, source, spec, config.seed)
  full, variables = with_imported_encoder(full, initial_variables(full, config.seed))
  if full.encoder_weights:
    logging.info('image encoder starts from %s', full.encoder_weights)
  return full, variables


def from_checkpoint(
  config: ConfigDict, bare: PolicyConfig, source: sources.Source, spec: SegmentSpec
) -> tuple[PolicyConfig, dict[str, Any]]:
  """Policy config and variables of the checkpoint `config.init_from`, which keep its anchors.

  Raises ValueError when it is another model, or was trained with another camera and config.allow_other_camera is
  not set.
  """
  trained, variables, description = load_policy(config.init_from)
  where = f'config.init_from={config.init_from}'
  policy = dataclasses.replace(bare, **{name: getattr(trained.config, name) for name in _TAKEN})
  fixed = lambda policy: {k: v for k, v in policy.to_dict().items() if k not in _FREE}
  rundir.check_model(fixed(trained.config), fixed(policy), where)
  given = sources.describe(source, spec, bare)['camera_contract']
  for line in check_camera_contract(description['camera_contract'], given, config.allow_other_camera):
    logging.warning('init_from: another camera: %s', line)
  logging.info('starting from %s, step %s', config.init_from, description.get('step'))
  return policy, dict(variables)


def with_anchors(policy: PolicyConfig, source: sources.Source, spec: SegmentSpec, seed: int) -> PolicyConfig:
  """`policy` with k-means anchors of the training end points, if it asks for them."""
  if policy.anchor_kind != 'kmeans' or policy.anchors:
    return policy
  points = sources.end_points(source, spec)
  anchors = kmeans_anchors(points, policy.num_anchors, seed)
  logging.info('%d k-means anchors from %d training end points', len(anchors), len(points))
  return dataclasses.replace(policy, anchors=anchors)


def initial_variables(config: PolicyConfig, seed: int) -> dict[str, Any]:
  """Variables of a fresh policy, the same on every process for a seed."""
  init = functools.partial(Policy(config).init, jax.random.key(seed))
  return dict(jax.jit(init)(example_observation(config)))
