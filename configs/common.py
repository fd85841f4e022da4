"""What configs share: the typed argument string and the blocks that more than one config uses."""

from __future__ import annotations

import difflib
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def _typed(name: str, text: str, default: Any) -> Any:
  """`text` as the type of `default`."""
  if isinstance(default, bool):
    words = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}
    if text.lower() not in words:
      raise ValueError(f'config argument {name}={text!r} must be a bool: one of {sorted(words)}')
    return words[text.lower()]
  try:
    return type(default)(text)
  except ValueError as error:
    raise ValueError(f'config argument {name}={text!r} must be {type(default).__name__}') from error


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
  """Typed values of the argument string behind a config's colon: 'a=1,b=x' -> {a: 1, b: 'x'}.

  A bare word 'smoke' means 'smoke=true' when that default is a bool. Unknown names, values of the wrong type
  and repeated names raise ValueError and name the nearest known argument.
  """
  values = dict(defaults)
  seen: set[str] = set()
  for item in filter(None, (arg or '').split(',')):
    name, equals, text = item.partition('=')
    if name not in defaults:
      near = difflib.get_close_matches(name, defaults, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(f'unknown config argument {name!r}{hint} Known arguments: {sorted(defaults)}')
    if name in seen:
      raise ValueError(f'config argument {name!r} is given twice in {arg!r}')
    seen.add(name)
    if not equals:
      if not isinstance(defaults[name], bool):
        raise ValueError(f'config argument {name!r} needs a value: write {name}=VALUE')
      text = 'true'
    values[name] = _typed(name, text, defaults[name])
  return ConfigDict(values)


def policy_block(name: str) -> ConfigDict:
  """The policy's config: a preset by name; every other leaf overrides it, None keeps the preset's value."""
  return ConfigDict(
    dict(
      name=name,  # s2e_tiny | s2e_small | s2e_v1 | s2e_v2
      image_height=placeholder(int),  # pixels
      image_width=placeholder(int),  # pixels
      num_history=placeholder(int),  # frames K at 4 Hz, the present one included
      encoder=placeholder(str),  # tiny | small | efficientnet_b0 | vit_s16
      pooling=placeholder(str),  # mean (the paper's global pool) | flatten | attention
      width=placeholder(int),  # token width D
      num_context_layers=placeholder(int),
      num_decoder_layers=placeholder(int),
      num_heads=placeholder(int),
      mlp_dim=placeholder(int),  # hidden width of the transformers' MLPs
      num_anchors=placeholder(int),  # M; 1 = unimodal (the published S2E-BC-Single)
      anchor_kind=placeholder(str),  # fan | kmeans (end points of the training set)
      anchor_self_attention=placeholder(bool),
      compute_dtype=placeholder(str),  # auto (bfloat16 on GPU and TPU, float32 on CPU) | float32 | bfloat16
      norm=placeholder(str),  # EfficientNet's batch norm: frozen (running statistics) | batch (synchronised)
      clearance_head=placeholder(bool),  # auxiliary head of pretraining: distances ahead, where the data know them
      encoder_weights='',  # path of ImageNet weights to import (.safetensors, .pth, .npz, Keras .h5); '' = none
    )
  )


def window_block() -> ConfigDict:
  """How windows are cut from clips."""
  return ConfigDict(
    dict(
      num_windows=8,  # windows W that share the encoded frames of one segment
      goal_min_s=5.0,  # seconds ahead; a goal inside the 2.5 s horizon would solve the loss without looking
      goal_max_s=20.0,  # seconds ahead (or the end of the clip, whichever comes first)
      goal_dropout=0.5,  # probability that a window has no goal
      min_waypoints=5,  # of 10: windows with fewer true waypoints are masked out
    )
  )


def world_block(look: str = 'B') -> ConfigDict:
  """Which worlds there are. Ranges are (low, high): the curriculum's level goes from the first to the second."""
  return ConfigDict(
    dict(
      look=look,  # A broad like web video | B plain simulator | C-near, C-far: held out, never trained on
      slots='small',  # room for things and people: small (32 primitives) | standard (64) | large (128)
      layouts=ConfigDict(),  # weight by name (straight, curve, corner, crossing, ...); empty = the look's own
      object_density=(0.5, 3.0),  # obstacles beside the way per 10 m
      people=(0, 4),  # number
      goal_distance=(10.0, 28.0),  # m of way from start to goal
      start_yaw=0.4,  # rad that the robot looks off the way at most
      person=ConfigDict(
        dict(
          speed_mean=1.45,  # m/s
          speed_std=0.32,  # m/s
          scripted=0.2,  # probability: follows a path and steps around others late
          yielding=0.6,  # probability that one of the others makes way for the robot
          grouped=0.45,  # probability to be together with the one before
          standing=0.12,  # probability to stand and talk
          hidden=0.15,  # probability to wait behind something and step out in front of the robot
          turning=0.35,  # probability of a path that turns a corner or crosses a road
        )
      ),
    )
  )


def env_block(robot: str = 'delivery') -> ConfigDict:
  """One environment: who drives, under which rules, for which rewards."""
  return ConfigDict(
    dict(
      robot=robot,  # delivery | coco | quadruped
      dynamics='planar',  # planar (fast) | wheels (full wheels on ground)
      action='command',  # command (m/s, rad/s) | unit ([-1, 1] spans the limits)
      time_limit=30.0,  # s
      goal_radius=1.0,  # m from the goal that count as arrival
      min_impulse=0.5,  # N s above which a contact is a collision
      end_on_collision=True,  # training; judging goes on
      discount=0.99,  # gamma, for the potential-based distance terms
      gps_bias=0.0,  # m standard deviation of the goal's slow error
      gps_time=30.0,  # s correlation time of that
      gps_noise=0.0,  # m standard deviation of the error new in every step
      rewards=ConfigDict(
        dict(
          arrival=1.0,
          collision=-0.5,
          distance_far=0.4,
          distance_coarse=0.3,
          distance_fine=0.2,
          lateral_offset=-0.005,
          off_pavement=-0.02,
          personal_space=-0.05,
          obstacle_space=0.0,  # ours: driving close to things
          command_change=-0.01,
          turning_rate=-0.005,
          path_distance=-0.005,
        )
      ),  # weight per term; 0 switches it off
    )
  )


def judging_env_block(robot: str = 'delivery', smoke: bool = False) -> ConfigDict:
  """One environment by the rules of judging: a minute, a contact only counts, and nobody is paid."""
  env = env_block(robot)
  env.time_limit = 10.0 if smoke else 60.0
  env.end_on_collision = False
  for name in env.rewards:
    env.rewards[name] = 0.0
  return env


def picture_block(height: int = 64, width: int = 128) -> ConfigDict:
  """What the camera gives."""
  return ConfigDict(
    dict(
      height=height,  # pixels
      width=width,  # pixels
      nearest=8,  # primitives that may be seen behind one another in one image column; 12 for 128 primitives
      shadow=True,  # of the sun
    )
  )


def curriculum_block() -> ConfigDict:
  """How the level of the worlds follows success, per environment."""
  return ConfigDict(
    dict(
      start=0.0,  # level at first, 0..1
      target=0.7,  # success rate at which the level settles
      step=0.02,  # gain of level per success; a failure costs step * target / (1 - target)
      review=0.2,  # share of episodes drawn below the present level
      is_shared=False,  # all environments of a device share one level
    )
  )
