"""What a policy is made of: the frozen config and the presets s2e_tiny, s2e_small, s2e_v1 and s2e_v2."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import jax
import jax.numpy as jnp

from s2e_jax.policy.anchors import Anchors, fan_anchors
from s2e_jax.policy.attention import ACTIVATIONS
from s2e_jax.policy.encoders.pooling import POOLINGS
from s2e_jax.policy.encoders.small import SIZES, STRIDE

# What a residual-attention branch reads; 'none' = the policy has no branches (see `policy.residual`).
RAM_INPUTS = ('none', 'query', 'frozen_out')
ENCODER_STRIDES = {**dict.fromkeys(SIZES, STRIDE), 'efficientnet_b0': 32, 'vit_s16': 16}
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]; published with torchvision's and timm's weights
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
  """Static description of a policy, all that is needed to rebuild it; hashable, JSON-able through `to_dict`.

  name: label of the preset it came from. image_height, image_width: pixels.
  num_history: K frames at 4 Hz, the present one included. horizon: H waypoints, 0.25 s apart.
  encoder: 'tiny' | 'small' | 'efficientnet_b0' | 'vit_s16'. pooling: see `encoders.pooling`.
  width: token width D. mlp_dim: hidden width of the transformers' MLPs. activation: 'gelu' | 'relu' in them.
  num_anchors: M; 1 is the unimodal variant. anchor_kind: 'fan' | 'kmeans'.
  anchors: M end points in units of one mean step; () asks for the fan, or, with kmeans, still has to be filled
    from the training set (`kmeans_anchors`) before the policy is built.
  compute_dtype: 'auto' (bfloat16 on GPU and TPU, float32 on CPU) | 'float32' | 'bfloat16'; parameters and outputs
    are float32 always.
  norm: EfficientNet's batch norm: 'frozen' (running statistics) | 'batch' (statistics of the batch when train).
  encoder_padding: padding of EfficientNet's strided convolutions, 'torch' (symmetric) | 'same' (TensorFlow,
    Keras: asymmetric); bn_epsilon: its variance floor. Imported weights decide both.
  depthwise: 'auto' (shift on CPU, grouped elsewhere) | 'shift' | 'grouped'.
  image_mean, image_std: normalisation of RGB in [0, 1] before EfficientNet and ViT.
  encoder_weights: path of the weights the encoder was imported from, '' = none.
  ram_input: residual-attention branches (S2E, arXiv:2507.22028, RAM): 'none' | 'query' (they read the queries, the
    paper's formula) | 'frozen_out' (they read the frozen cross-attention's output, the paper's figure).
  clearance_head: a linear head, for pretraining only, tells from the newest frame's context token how far the
    nearest thing is in each sector ahead (ours: the paper leaves auxiliary depth and occupancy heads open).
  """

  name: str
  image_height: int
  image_width: int
  num_history: int
  encoder: str
  pooling: str
  width: int
  num_context_layers: int
  num_decoder_layers: int
  num_heads: int
  mlp_dim: int
  num_anchors: int
  anchor_kind: str = 'fan'
  anchors: Anchors = ()
  anchor_self_attention: bool = False
  activation: str = 'gelu'
  compute_dtype: str = 'auto'
  norm: str = 'frozen'
  encoder_weights: str = ''
  horizon: int = 10
  encoder_padding: str = 'torch'
  bn_epsilon: float = 1e-5
  depthwise: str = 'auto'
  image_mean: tuple[float, float, float] = IMAGENET_MEAN
  image_std: tuple[float, float, float] = IMAGENET_STD
  ram_input: str = 'none'
  clearance_head: bool = False

  def __post_init__(self) -> None:
    """Fills the fan anchors; raises ValueError when a field breaks its rule."""
    choices: dict[str, Any] = dict(
      encoder=ENCODER_STRIDES,
      pooling=POOLINGS,
      anchor_kind=('fan', 'kmeans'),
      activation=ACTIVATIONS,
      compute_dtype=('auto', 'float32', 'bfloat16'),
      norm=('frozen', 'batch'),
      encoder_padding=('torch', 'same'),
      depthwise=('auto', 'shift', 'grouped'),
      ram_input=RAM_INPUTS,
    )
    for name, allowed in choices.items():
      if getattr(self, name) not in allowed:
        raise ValueError(f'policy {name}={getattr(self, name)!r} must be one of {sorted(allowed)}')
    for name in (
      'image_height',
      'image_width',
      'num_history',
      'width',
      'num_heads',
      'mlp_dim',
      'num_anchors',
      'horizon',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'policy {name}={getattr(self, name)!r} must be >= 1')
    for name in ('num_context_layers', 'num_decoder_layers'):
      if getattr(self, name) < 0:
        raise ValueError(f'policy {name}={getattr(self, name)!r} must be >= 0')
    stride = ENCODER_STRIDES[self.encoder]
    for name in ('image_height', 'image_width'):
      size = getattr(self, name)
      if size % stride:
        near = max(stride, round(size / stride) * stride)
        raise ValueError(
          f'policy {name}={size} must be a multiple of {stride} for encoder {self.encoder}; use {near}'
        )
    if self.width % self.num_heads:
      raise ValueError(f'policy width={self.width} must be divisible by num_heads={self.num_heads}')
    anchors: Any = self.anchors
    if not anchors and self.anchor_kind == 'fan':
      anchors = fan_anchors(self.num_anchors, self.horizon)
    anchors = tuple((float(x), float(y)) for x, y in anchors)
    if anchors and len(anchors) != self.num_anchors:
      raise ValueError(f'policy has {len(anchors)} anchors but num_anchors={self.num_anchors}; make them equal')
    object.__setattr__(self, 'anchors', anchors)
    object.__setattr__(self, 'image_mean', tuple(float(x) for x in self.image_mean))
    object.__setattr__(self, 'image_std', tuple(float(x) for x in self.image_std))

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, inverse of `from_dict`."""
    fields = dataclasses.asdict(self)
    # Checkpoints older than these fields describe the same model, and resuming compares descriptions.
    if self.ram_input == 'none':
      del fields['ram_input']
    if not self.clearance_head:
      del fields['clearance_head']
    lists = dict(anchors=[list(a) for a in self.anchors])
    return fields | lists | dict(image_mean=list(self.image_mean), image_std=list(self.image_std))

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> PolicyConfig:
    """Config from `to_dict`'s form; unknown or missing keys raise TypeError."""
    return cls(**fields)


def resolve_dtype(compute_dtype: str, backend: str | None = None) -> Any:
  """The dtype behind `compute_dtype`, where 'auto' asks the default (or given) JAX backend."""
  if compute_dtype == 'auto':
    compute_dtype = 'float32' if (backend or jax.default_backend()) == 'cpu' else 'bfloat16'
  return jnp.dtype(compute_dtype)


def resolve_depthwise(depthwise: str, backend: str | None = None) -> str:
  """'shift' or 'grouped', where 'auto' asks the default (or given) JAX backend."""
  if depthwise != 'auto':
    return depthwise
  return 'shift' if (backend or jax.default_backend()) == 'cpu' else 'grouped'


_FOR_CPUS = dict(
  image_height=64,
  image_width=128,
  num_history=5,
  pooling='flatten',
  width=128,
  num_context_layers=2,
  num_decoder_layers=2,
  num_heads=4,
  mlp_dim=256,
  num_anchors=8,
  activation='relu',
)

PRESETS: dict[str, dict[str, Any]] = {
  # Ours: the same code at a size that a laptop CPU trains. s2e_small differs in its encoder only.
  's2e_tiny': dict(encoder='tiny', **_FOR_CPUS),
  's2e_small': dict(encoder='small', **_FOR_CPUS),
  # S2E, arXiv:2507.22028v1.
  's2e_v1': dict(
    image_height=320,
    image_width=640,
    num_history=5,
    encoder='efficientnet_b0',
    pooling='mean',
    width=768,
    num_context_layers=4,
    num_decoder_layers=4,
    num_heads=8,
    mlp_dim=3072,
    num_anchors=8,
  ),
  # S2E, arXiv:2507.22028v2, the shape of the released weights.
  's2e_v2': dict(
    image_height=256,
    image_width=256,
    num_history=11,
    encoder='vit_s16',
    pooling='mean',
    width=768,
    num_context_layers=6,
    num_decoder_layers=4,
    num_heads=8,
    mlp_dim=3072,
    num_anchors=64,
    anchor_kind='kmeans',
  ),
}


def policy_config(name: str, **overrides: Any) -> PolicyConfig:
  """The preset `name` with `overrides` on top; overrides that are None keep the preset's value.

  Raises ValueError for unknown presets and fields, naming the nearest known one.
  """
  if name not in PRESETS:
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'policy name={name!r} must be one of {sorted(PRESETS)}{hint}')
  known = [field.name for field in dataclasses.fields(PolicyConfig)]
  for field in overrides:
    if field not in known:
      near = difflib.get_close_matches(field, known, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(f'unknown policy field {field!r}{hint} Known fields: {known}')
  return PolicyConfig(name=name, **(PRESETS[name] | {k: v for k, v in overrides.items() if v is not None}))
