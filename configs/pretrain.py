"""Pretraining on video ("seeing"): AGDM behaviour cloning from navigation clips.

Run: python -m s2e_jax.train --config=configs/pretrain.py --workdir=runs/pretrain
     python -m s2e_jax.train --config=configs/pretrain.py:data=PATH,model=s2e_v1 --workdir=runs/v1
     python -m s2e_jax.train --config=configs/pretrain.py:smoke --workdir=/tmp/smoke        (seconds on a CPU)
Arguments behind the colon: data (a folder written by s2e_jax.data.convert; '' = the embedded synthetic video),
model, steps, batch, folds, fold, unimodal, smoke. Every leaf below can be set by --config.NAME=VALUE.
"""

from ml_collections import ConfigDict

from configs import common

# model -> (steps, segments per step, learning rate, encoder learning-rate multiplier)
_RECIPES = {
  's2e_tiny': (2000, 16, 1e-3, 1.0),
  's2e_small': (2000, 16, 1e-3, 1.0),
  's2e_v1': (100_000, 32, 2e-4, 0.1),
  's2e_v2': (100_000, 32, 2e-4, 0.1),
}


def get_config(arg: str | None = None) -> ConfigDict:
  """The locked pretraining config for an argument string like 'data=PATH,model=s2e_tiny'."""
  args = common.parse_arg(
    arg, data='', model='s2e_tiny', steps=0, batch=0, folds=0, fold=0, unimodal=False, smoke=False
  )
  if args.model not in _RECIPES:
    raise ValueError(f'model={args.model!r} must be one of {sorted(_RECIPES)}')
  steps, batch, learning_rate, encoder_scale = _RECIPES[args.model]
  steps, batch = args.steps or (20 if args.smoke else steps), args.batch or (8 if args.smoke else batch)

  config = ConfigDict()
  config.kind = 'pretrain'
  config.seed = 0  # parameters, data order and augmentation all derive from it
  config.init_from = ''  # run or checkpoint whose parameters (and anchors) this run starts from; '' = fresh
  config.allow_other_camera = False  # init_from a checkpoint that was trained with another camera
  config.policy = common.policy_block(args.model)
  config.policy.clearance_head = True  # ours; False is the paper
  if args.unimodal:
    config.policy.num_anchors = 1
  config.window = common.window_block()

  config.data = ConfigDict()
  config.data.path = args.data  # internal dataset folder; '' = embedded synthetic video
  config.data.split_train = 'train'
  config.data.split_val = 'val'  # chooses the best checkpoint
  config.data.folds = args.folds  # > 1: ignore the stored splits, cross-validate by clip
  config.data.fold = args.fold  # test fold; the next one validates, the rest train
  config.data.train_share = 1.0  # of the training clips that are used; a smaller share is part of a larger one
  config.data.flip_prob = 0.5  # horizontal flip of a whole segment, labels mirrored
  config.data.photometric = 0.25  # strength of brightness/contrast/gamma/colour jitter; 0 = off
  config.data.hue = 0.0  # rad, largest turn of all colours of a segment (pi: any); 0 = off
  config.data.num_threads = 2  # threads that read and decode
  config.data.num_workers = 0  # processes; threads win on small machines
  config.data.prefetch = 8  # batches decoded ahead

  config.synthetic = ConfigDict()  # the embedded default, used when data.path == ''
  config.synthetic.num_clips = 6 if args.smoke else 96  # expert drives through simulated streets
  config.synthetic.looks = ('A',)  # of the worlds: A broad like web video | B plain simulator; several take turns
  config.synthetic.robot = 'delivery'  # who drives
  config.synthetic.slots = 'small'  # room for things and people: small | standard | large
  config.synthetic.level = 1.0  # 0..1: longer ways through more things and people
  config.synthetic.seconds = 30.0  # longest drive
  config.synthetic.seed = 0

  config.loss = ConfigDict()
  config.loss.assignment = 'pred_direction'  # pred_direction (the paper's) | anchor_endpoint | ade
  config.loss.score_weight = 1.0
  # The term is in (m/s)^2: at weight 1, errors of 0.2 m/s drown beside the likelihood.
  config.loss.velocity_weight = 20.0

  # Squared error of log distances ahead, where the data know them: expert drives do, real video does not.
  config.loss.clearance_weight = 1.0

  config.optim = ConfigDict()
  config.optim.learning_rate = learning_rate  # peak, reached after warm-up, then cosine to 1 %
  config.optim.encoder_lr_scale = encoder_scale  # learning-rate multiplier of the image encoder
  config.optim.warmup_steps = max(1, steps // 20)
  config.optim.weight_decay = 0.05  # matrices only
  config.optim.clip_norm = 1.0
  config.optim.b2 = 0.95
  config.optim.ema_decay = 0.0  # > 0: evaluate and export an exponential moving average

  config.train = ConfigDict()
  config.train.steps = steps
  config.train.batch_segments = batch  # segments per step over all devices; each holds window.num_windows windows
  config.train.log_every = min(50, max(1, steps // 10))  # steps
  config.train.eval_every = max(1, steps // 10)  # steps between evaluations on the validation split
  config.train.checkpoint_every = max(1, steps // 10)  # steps; a killed process loses at most this much
  config.train.keep = 3  # newest checkpoints kept beside the best one
  config.train.best_by = 'ade_top'  # validation figure that chooses the best checkpoint: ade_top (m) | loss
  config.train.max_bad_steps = 20  # consecutive non-finite steps (skipped and counted) before the run stops
  return config.lock()
