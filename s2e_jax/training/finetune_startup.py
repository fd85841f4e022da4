"""Everything that happens once before the first iteration of finetuning."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from ml_collections import ConfigDict

from s2e_jax import controller
from s2e_jax.contracts import camera_contract, check_camera_contract, check_robot_contract
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.critic import Critic
from s2e_jax.policy.policy import Policy
from s2e_jax.policy.residual import add_residual, strip_residual
from s2e_jax.sim import settings
from s2e_jax.sim.batch import UrbanBatch
from s2e_jax.structs import DT
from s2e_jax.training import imitation, parallel, ppo, rundir, trials, variants
from s2e_jax.training.agent import Agent, init_agent_params
from s2e_jax.training.imitation import ImitationOptions
from s2e_jax.training.initial import initial_variables
from s2e_jax.training.ppo import Learner, PPOOptions
from s2e_jax.training.restore import load_policy
from s2e_jax.training.rollout import Roller, statistics

# Variants whose image encoder and self-attention never change: the rollout keeps context tokens.
FROZEN_TRUNK = ('ram', 'decoder_ft', 'sft', 'dagger')
RESIDUAL = ('ram', 'sft', 'dagger')  # variants that train the residual branches and nothing else
_CPU_CHUNK = 128  # policy steps


@dataclasses.dataclass(frozen=True)
class Setup:
  """What `prepare` returns: the static parts of a run, its first learner, and what goes with every checkpoint.

  update: (learner, model_state, rollout, key) -> (learner, figures) of the variant, inside `pmap`.
  """

  agent: Agent
  batch: UrbanBatch
  roller: Roller
  update: Callable[..., tuple[Learner, dict[str, jax.Array]]]
  learner: Learner
  model_state: Any
  description: dict[str, Any]


def check(config: ConfigDict) -> None:
  """Raises ValueError for numbers of a finetuning config that break a rule."""
  known = (*variants.PPO_VARIANTS, *imitation.VARIANTS)
  if config.variant not in known:
    raise ValueError(f'config.variant={config.variant!r} must be one of {known}')
  if not config.checkpoint and config.variant != 'ppo_scratch':
    raise ValueError(f'variant={config.variant} finetunes a pretrained policy; give it by config.checkpoint=RUN')
  if not config.checkpoint:
    raise ValueError('ppo_scratch takes the shape of a pretrained policy; give one by config.checkpoint=RUN')
  for name in ('steps', 'log_every', 'checkpoint_every', 'keep'):
    if config.train[name] < 1:
      raise ValueError(f'config.train.{name}={config.train[name]} must be at least 1')
  if config.ppo.horizon < 1:
    raise ValueError(f'config.ppo.horizon={config.ppo.horizon} must be at least 1')
  share = parallel.check_divisible('config.num_envs', config.num_envs)
  keeps_context = config.variant in FROZEN_TRUNK
  num = share * config.ppo.horizon if keeps_context else share
  if num % config.ppo.num_minibatches:
    what = f'{share} environments x {config.ppo.horizon} steps' if keeps_context else f'{share} environments'
    raise ValueError(
      f'config.ppo.num_minibatches={config.ppo.num_minibatches} must divide the {what} of each of the '
      f'{jax.device_count()} devices; choose a divisor of {num}'
    )
  if config.ppo.chunk < -1:
    raise ValueError(f'config.ppo.chunk={config.ppo.chunk} must be a number of samples, 0 (all) or -1 (automatic)')
  if config.ppo.chunk > 0 and num // config.ppo.num_minibatches % config.ppo.chunk:
    raise ValueError(
      f'config.ppo.chunk={config.ppo.chunk} must divide the {num // config.ppo.num_minibatches} samples of a '
      'minibatch on one device; 0 takes them all at once'
    )
  ppo_options(config)
  if config.ppo.group and (share % config.ppo.group or config.variant in imitation.VARIANTS):
    raise ValueError(
      f'config.ppo.group={config.ppo.group} must divide the {share} environments of a device, and the variant '
      f'({config.variant}) must be one of {variants.PPO_VARIANTS}; 0 switches groups off'
    )
  imitation_options(config)
  trials.check(config.trials)
  if config.variant in imitation.VARIANTS and config.env.action != 'command':
    raise ValueError(
      f'config.env.action={config.env.action!r} must be command: the expert of {config.variant} sends it'
    )
  if not config.exploration.temperature > 0:
    raise ValueError(
      f'config.exploration.temperature={config.exploration.temperature} must be > 0; 1 draws modes by their scores'
    )
  if config.exploration.temperature != 1 and config.variant in imitation.VARIANTS:
    raise ValueError(
      f'config.exploration.temperature={config.exploration.temperature} is for PPO, which draws modes; '
      f'{config.variant} needs 1'
    )
  if config.controller.rule not in controller.RULES:
    raise ValueError(f'config.controller.rule={config.controller.rule!r} must be one of {controller.RULES}')
  if config.controller.lookahead < 1:
    raise ValueError(f'config.controller.lookahead={config.controller.lookahead} must be at least 1 waypoint')


def chunk_size(config: ConfigDict) -> int:
  """config.ppo.chunk, or what suits the backend: a few policy steps at once on CPUs, else a whole minibatch.

  Where the trunk trains, a sample is an environment with all its steps.
  """
  chunk: int = config.ppo.chunk
  if chunk != -1:
    return chunk
  if jax.default_backend() != 'cpu':
    return 0
  share = config.num_envs // jax.device_count()
  keeps_context = config.variant in FROZEN_TRUNK
  num = share * (config.ppo.horizon if keeps_context else 1) // config.ppo.num_minibatches
  most = _CPU_CHUNK if keeps_context else max(1, _CPU_CHUNK // config.ppo.horizon)
  return max(size for size in range(1, min(most, max(num, 1)) + 1) if num % size == 0)


def ppo_options(config: ConfigDict) -> PPOOptions:
  """The numbers of config.ppo but the horizon."""
  fields = config.ppo.to_dict()
  fields.pop('horizon')
  return PPOOptions(**fields | {'rate_range': tuple(fields['rate_range']), 'chunk': chunk_size(config)})


def imitation_options(config: ConfigDict) -> ImitationOptions:
  """The numbers of config.imitation, and of config.ppo what supervised variants share with PPO."""
  fields = config.imitation.to_dict()
  shared = {name: config.ppo[name] for name in ('num_epochs', 'num_minibatches')} | {'chunk': chunk_size(config)}
  return ImitationOptions(**fields | shared | {'std': tuple(fields['std'])})


def policy_variables(config: ConfigDict) -> tuple[Policy, Any, Any, dict[str, Any]]:
  """(policy, its parameters, its other collections, the pretrained checkpoint's description) to start from.

  The residual branches are added where the variant trains them, and taken away where it does not.
  """
  trained, variables, description = load_policy(config.checkpoint, config.which)
  params = dict(variables.pop('params')) if 'params' in variables else {}
  ram = config.ram_input if config.variant in RESIDUAL else 'none'
  params.pop('clearance', None)  # served pretraining
  full: PolicyConfig = dataclasses.replace(trained.config, ram_input=ram, clearance_head=False)
  if config.variant == 'ppo_scratch':
    fresh = initial_variables(full, config.seed)
    return Policy(full), fresh.pop('params'), fresh, description
  params = add_residual(params, full) if ram != 'none' else strip_residual(params)
  return Policy(full), params, dict(variables), description


def prepare(config: ConfigDict, workdir: Path) -> Setup:
  """Opens the folder, loads the policy, builds everything; ValueError names value, rule and remedy."""
  check(config)
  policy, params, model_state, base = policy_variables(config)
  c, asked = policy.config, json.loads(config.to_json())
  with config.unlocked():
    config.picture.height, config.picture.width = c.image_height, c.image_width
  share = config.num_envs // jax.device_count()
  batch = settings.make_batch(config, share)
  robot = batch.env.config.robot
  given = camera_contract(
    c.image_height, c.image_width, c.num_history, 1 / DT, [robot.mount.camera(c.image_height, c.image_width)]
  )
  for line in check_camera_contract(base['camera_contract'], given, config.allow_other_camera):
    logging.warning('finetuning with another camera: %s', line)
  if 'finetuned' in base:
    given_robot = json.loads(json.dumps(dataclasses.asdict(robot)))
    for line in check_robot_contract(base['finetuned']['robot'], given_robot, config.allow_other_robot):
      logging.warning('finetuning another robot: %s', line)

  if config.ppo.group > c.num_anchors:
    raise ValueError(
      f'config.ppo.group={config.ppo.group} sends every copy along another anchor, but the policy has '
      f'{c.num_anchors}; take at most as many'
    )
  limits = controller.CommandLimits.of(robot)
  dtype = jnp.dtype('float32')
  critic = Critic(tuple(config.critic.hidden), 'relu', dtype)
  how = config.controller.lookahead, config.controller.rule, config.exploration.temperature
  agent = Agent(policy, critic, limits, *how)
  key = jax.random.fold_in(jax.random.key(config.seed), 0)
  num_privileged = batch.env.observation_size
  tree = init_agent_params(agent, params, num_privileged, tuple(config.exploration.std), key)
  optimizer = variants.make_finetune_optimizer(
    tree, config.variant, config.optim.learning_rate, config.optim.clip_norm
  )
  labels = variants.variant_labels(tree, config.variant)
  trainable, _ = variants.split(tree, labels)
  learner = Learner(tree, optimizer.init(trainable), statistics(num_privileged), statistics(1))
  description: dict[str, Any] = {
    **{k: base[k] for k in ('format', 'model', 'data', 'camera_contract') if k in base},
    'kind': 'finetune',
    'policy': c.to_dict(),
    'finetuned': {
      'variant': config.variant,
      'checkpoint': str(Path(config.checkpoint).absolute()),
      'step': base.get('step'),
      'robot': dataclasses.asdict(robot),
    },
    'config': json.loads(config.to_json()),
    **rundir.environment(),
  }
  if jax.process_index() == 0:
    rundir.open_run(workdir, asked)
  parallel.meet()
  count = lambda tree: sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
  rundir.write_json(workdir / rundir.DESCRIPTION, description)
  rundir.write_text(workdir / rundir.PARAMETERS, rundir.parameter_table(tree))
  logging.info('config:\n%s', config)
  logging.info('%s trains %s of %s parameters', config.variant, f'{count(trainable):,}', f'{count(tree):,}')
  expert, update = None, functools.partial(ppo.update, agent, optimizer, labels, ppo_options(config))
  if config.variant in imitation.VARIANTS:
    options = imitation_options(config)
    expert = imitation.make_expert(batch.env, options)
    update = functools.partial(imitation.update, agent, optimizer, labels, options)
  roller = Roller(
    batch,
    agent,
    config.ppo.horizon,
    keeps_frames=config.variant not in FROZEN_TRUNK,
    context_dtype=jnp.dtype('bfloat16') if jax.default_backend() != 'cpu' else dtype,
    expert=expert,
    group=config.ppo.group,
  )
  return Setup(agent, batch, roller, update, learner, model_state, description)
