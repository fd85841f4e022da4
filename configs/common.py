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
      name=name,  # s2e_tiny | s2e_v1 | s2e_v2
      image_height=placeholder(int),  # pixels
      image_width=placeholder(int),  # pixels
      num_history=placeholder(int),  # frames K at 4 Hz, the present one included
      encoder=placeholder(str),  # tiny | efficientnet_b0 | vit_s16
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
