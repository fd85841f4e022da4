"""Finetuning in simulation ("experiencing"): PPO through the residual-attention module, or one of its rivals.

The supervised rivals learn the commands of a privileged expert: sft in the states of its drives, dagger in the
policy's own. Their episodes/... figures are of whoever drives, so those of sft are the expert's.

Run: python -m s2e_jax.train --config=configs/finetune.py:checkpoint=RUN --workdir=runs/finetune
     python -m s2e_jax.train --config=configs/finetune.py:variant=ppo_full,checkpoint=RUN --workdir=runs/full
     python -m s2e_jax.train --config=configs/finetune.py:checkpoint=RUN,smoke --workdir=/tmp/smoke
Arguments behind the colon: checkpoint (a pretrained run), variant, steps (policy steps in all), envs, look, robot,
smoke. Every leaf below can be set by --config.NAME=VALUE.
"""

from ml_collections import ConfigDict

from configs import common

# What trains by PPO: RAM's leaves | everything | decoder and heads | everything from random parameters.
# Supervised: RAM's leaves on demonstrations | everything on demonstrations | RAM's leaves in states of the policy.
VARIANTS = ('ram', 'ppo_full', 'decoder_ft', 'ppo_scratch', 'sft', 'sft_full', 'dagger')


def get_config(arg: str | None = None) -> ConfigDict:
  """The locked finetuning config for an argument string like 'variant=ram,checkpoint=runs/pretrain'."""
  args = common.parse_arg(
    arg, checkpoint='', variant='ram', steps=0, envs=0, look='B', robot='delivery', smoke=False
  )
  if args.variant not in VARIANTS:
    raise ValueError(f'variant={args.variant!r} must be one of {VARIANTS}')
  config = ConfigDict()
  config.kind = 'finetune'
  config.seed = 0  # of worlds, exploration, critic and minibatches
  config.variant = args.variant
  config.checkpoint = args.checkpoint  # run or checkpoint whose policy is finetuned
  config.which = 'best'  # of a run's checkpoints: best | latest | a step
  config.allow_other_camera = False  # finetune a policy that was trained with another camera or rate
  config.allow_other_robot = False  # go on with a policy that was finetuned on another robot
  config.ram_input = 'query'  # what the residual branch reads: query (the formula) | frozen_out (the figure)
  config.num_envs = args.envs or (8 if args.smoke else 256)  # over all devices

  config.world = common.world_block(args.look)
  config.env = common.env_block(args.robot)
  config.picture = common.picture_block()  # height and width are those of the checkpoint's policy
  config.curriculum = common.curriculum_block()
  if args.variant == 'dagger':  # nothing is found by trial: worlds are as those of judging from the start
    config.curriculum.start, config.curriculum.target = 1.0, 0.02

  config.controller = ConfigDict()  # F_d, from trajectory to command
  config.controller.lookahead = 2  # waypoint that the command leads through, 0.25 s each
  config.controller.rule = 'arc'  # arc through that waypoint | first (the authors' sibling code)
  config.exploration = ConfigDict()
  config.exploration.std = (0.3, 0.4)  # m/s and rad/s: restored before RL, learned from there
  # Modes are drawn by score / temperature. Policies are judged by their best mode: below 1, what PPO learns from
  # is closer to what is judged.
  config.exploration.temperature = 1.0
  config.critic = ConfigDict()
  config.critic.hidden = (256, 256)

  # of sft, sft_full and dagger, which take horizon, num_epochs, num_minibatches and chunk from config.ppo
  config.imitation = ConfigDict()
  config.imitation.std = (0.1, 0.15)  # m/s and rad/s: of the expert's command around that of a mode, in the loss
  # The loss is content where any mode has the expert's command; this weighs the error of the one that is judged.
  config.imitation.judged_weight = 1.0 if args.variant == 'dagger' else 0.0
  config.imitation.expert_share = 0.0 if args.variant == 'dagger' else 1.0  # probability that it drives an episode
  config.imitation.careful = True  # the expert keeps clear as in demonstrations; False: it is as fast as it can be

  config.ppo = ConfigDict()
  config.ppo.horizon = 4 if args.smoke else 32  # policy steps of every environment per rollout
  config.ppo.num_epochs = 3
  config.ppo.num_minibatches = 2 if args.smoke else 4
  config.ppo.clip = 0.2
  config.ppo.value_clip = 0.2  # in normalised values; 0 = none
  config.ppo.value_weight = 1.0  # alpha
  config.ppo.entropy_weight = 0.001  # beta
  config.ppo.entropy = 'bound'  # bound | monte_carlo | pairwise | pairwise_lower
  config.ppo.gamma = 0.99
  config.ppo.lam = 0.95
  config.ppo.group = 0  # copies of one state whose returns are compared, instead of GAE; 0 = GAE
  config.ppo.target_kl = 0.01  # the learning rate follows it; 0 = a fixed rate
  config.ppo.rate_factor = 1.5
  config.ppo.rate_range = (1e-5, 1e-3)  # at 1e-2 a run of s2e_tiny lost its policy after 400,000 steps
  # Samples whose gradient is taken at once: -1 = what suits the backend (a few on CPUs, whose cache then holds
  # them), 0 = a whole minibatch.
  config.ppo.chunk = -1

  config.optim = ConfigDict()
  config.optim.learning_rate = 1e-4  # to start with; supervised variants keep it
  if args.variant in ('ram', 'sft', 'dagger'):
    config.optim.learning_rate = 3e-4
  config.optim.clip_norm = 1.0  # of what trains

  # now and then the policy drives validation episodes in the worlds that it trains in, and the best one is kept
  config.trials = ConfigDict()
  config.trials.every = 0 if args.smoke else 40  # iterations; also before the first and after the last; 0 = never
  config.trials.episodes = 256  # with 64 the best of five trials is often not the best policy
  config.trials.batch = 128  # driven at once, shared by the devices of a process
  config.trials.seconds = 60.0  # time limit
  config.trials.film = True  # trials/before_and_after.mp4; needs PyAV

  config.train = ConfigDict()
  config.train.steps = args.steps or (64 if args.smoke else 1_000_000)  # policy steps in all
  config.train.log_every = 1 if args.smoke else 5  # iterations (rollout and update)
  config.train.time_parts = not args.smoke  # where a rollout's time goes, timed once; some more compiling
  config.train.checkpoint_every = 20  # iterations; a killed process loses at most this much
  config.train.keep = 2  # newest checkpoints kept
  config.train.collapse_entropy = 0.01  # nats of the scores below which the policy has collapsed: roll back
  config.train.max_rollbacks = 3  # to the last checkpoint, with half the learning rate each time
  return config.lock()
