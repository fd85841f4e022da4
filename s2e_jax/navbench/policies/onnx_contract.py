"""What an ONNX policy takes and gives, said beforehand, and whether a file keeps to it. Needs no ONNX packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.contracts import check_camera_contract

LAYOUTS, STACKINGS = ('NCHW', 'NHWC'), ('axis', 'channels')
GOAL_FORMS = ('polar', 'metres', 'picture', 'none')
MEANINGS = ('waypoints', 'command')
Dims = tuple[int | str | None, ...]  # None or a name: any number


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One input or output: its name, dimensions, and element type as ONNX Runtime spells it, 'tensor(float)'."""

  name: str
  dims: Dims
  kind: str = 'tensor(float)'

  def __str__(self) -> str:
    return f'{self.name} ({", ".join("?" if d is None else str(d) for d in self.dims)}) {self.kind}'


@dataclasses.dataclass(frozen=True)
class OnnxContract:
  """How pictures and a goal go into a model of H waypoints or one command, and how these come out.

  name: for messages. height, width: pixels. num_history: K frames, oldest first, 1 / rate seconds apart.
  frames, goal, output: names of the inputs and of the output. scores: the output [B, M] by which one of M
    trajectories is chosen, '' if there is one only. unread: outputs that it must have as well; more are allowed.
  layout: 'NCHW' | 'NHWC'. stacking: K is an 'axis' behind the batch, or it is folded into the 'channels'.
  kind: element type of the frames, 'tensor(float)' | 'tensor(uint8)', which come as they are.
  value_range: what 0 and 255 become, then (x - mean) / std of each channel.
  goal_form: 'polar' (clip(d, 0.1, 200) / 200, cos, sin of the bearing) | 'metres' (x, y) | 'picture' (laid out
    like a frame) | 'none', no such input.
  meaning: of the output: 'waypoints' [B, H, 2 or more] or [B, M, H, 2 or more], x forward and y left of the robot
    first, in units of `scale` m, 1 / rate seconds apart | 'command' [B, 2] m/s, rad/s times `scale`.
  rate: Hz of frames and waypoints; where another one than the simulator's is allowed, it counts as that.
  horizon: H. camera: ranges of hfov, vfov, pitch (rad), mount_height (m) that it was trained with, as in
    `contracts.camera_contract`; None if they are unknown.
  """

  name: str
  height: int
  width: int
  num_history: int
  frames: str
  output: str
  goal: str = ''
  scores: str = ''
  unread: tuple[str, ...] = ()
  layout: str = 'NCHW'
  stacking: str = 'axis'
  kind: str = 'tensor(float)'
  value_range: tuple[float, float] = (0.0, 1.0)
  mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  goal_form: str = 'polar'
  meaning: str = 'waypoints'
  scale: float = 1.0
  rate: float = 4.0
  horizon: int = 10
  camera: Mapping[str, Sequence[float]] | None = dataclasses.field(default=None, hash=False)

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    for name, known in (
      ('layout', LAYOUTS),
      ('stacking', STACKINGS),
      ('goal_form', GOAL_FORMS),
      ('meaning', MEANINGS),
      ('kind', ('tensor(float)', 'tensor(uint8)')),
    ):
      if getattr(self, name) not in known:
        raise ValueError(f'contract {self.name}: {name}={getattr(self, name)!r} must be one of {known}')
    for name in ('height', 'width', 'num_history', 'horizon', 'rate'):
      if not getattr(self, name) > 0:
        raise ValueError(f'contract {self.name}: {name}={getattr(self, name)!r} must be positive')
    if bool(self.goal) != (self.goal_form != 'none'):
      raise ValueError(
        f'contract {self.name}: goal={self.goal!r} does not go with goal_form={self.goal_form!r}: name the input, '
        "or say goal_form='none'"
      )

  @property
  def told(self) -> str:
    """Which of `closedloop.policies.GOALS` the model is told."""
    return {'picture': 'image', 'none': 'none'}.get(self.goal_form, 'point')

  def inputs(self) -> list[Tensor]:
    """What the model must take; the batch is open."""
    colours = 3 * (self.num_history if self.stacking == 'channels' else 1)
    history = (self.num_history,) if self.stacking == 'axis' else ()
    found = [Tensor(self.frames, (None, *history, *self._picture(colours)), self.kind)]
    if self.goal_form == 'picture':
      found.append(Tensor(self.goal, (None, *self._picture(3)), self.kind))
    elif self.goal:
      found.append(Tensor(self.goal, (None, 3 if self.goal_form == 'polar' else 2)))
    return found

  def _picture(self, colours: int) -> tuple[int, ...]:
    size = self.height, self.width
    return (colours, *size) if self.layout == 'NCHW' else (*size, colours)


# The released model: inputs and outputs as published; its camera, and what its score says of its one trajectory,
# are not.
S2E_RELEASED = OnnxContract(
  name='S2E_RELEASED',
  height=256,
  width=256,
  num_history=11,
  frames='obs_images',
  goal='goal',
  output='wp_pred',
  unread=('wp_pred_score',),
  scale=0.25,
)


def packed(contract: OnnxContract, frames: np.ndarray) -> np.ndarray:
  """Frames [B, K, h, w, 3] uint8 as the model takes them; [B, h, w, 3], a goal's picture, likewise."""
  x, num_pictures = frames, 1
  if contract.stacking == 'channels' and x.ndim == 5:
    num, num_pictures, height, width, colours = x.shape
    x = np.moveaxis(x, 1, 3).reshape(num, height, width, num_pictures * colours)
  # moved while it is bytes, then widened in one pass: this is most of what a small model's step costs
  x = np.ascontiguousarray(np.moveaxis(x, -1, -3) if contract.layout == 'NCHW' else x)
  if contract.kind == 'tensor(uint8)':
    return x
  low, high = contract.value_range
  mean, std = np.array(contract.mean), np.array(contract.std)
  form = (-1, 1, 1) if contract.layout == 'NCHW' else (-1,)
  gain, offset = (
    np.tile(v, num_pictures).astype(np.float32).reshape(form)
    for v in ((high - low) / 255 / std, (low - mean) / std)
  )
  x = x * gain
  return x + offset if offset.any() else x


def chosen(contract: OnnxContract, output: np.ndarray, scores: np.ndarray | None) -> np.ndarray:
  """[B, H, 2] m or [B, 2] m/s, rad/s of what the model gave; the trajectory of the highest score, if it gave many.

  Raises ValueError for an output of another shape.
  """
  if contract.meaning == 'command':
    wanted, is_right = '(B, 2)', output.ndim == 2 and output.shape[1] == 2
  elif not contract.scores:
    wanted = f'(B, {contract.horizon}, 2 or more)'
    is_right = output.ndim == 3 and output.shape[1] == contract.horizon and output.shape[2] >= 2
  else:
    wanted = f'(B, M, {contract.horizon}, 2 or more) with {contract.scores} (B, M)'
    is_right = output.ndim == 4 and output.shape[2] == contract.horizon and output.shape[3] >= 2
    is_right = is_right and scores is not None and scores.shape == output.shape[:2]
  if not is_right:
    given = '' if scores is None else f' with {contract.scores} {scores.shape}'
    raise ValueError(
      f'the model gives {contract.output} {output.shape}{given}; contract {contract.name} wants {wanted}'
    )
  if scores is not None:
    output = output[np.arange(len(output)), scores.argmax(axis=1)]
  return np.asarray(output[..., :2] * np.float32(contract.scale), np.float32)


def check_signature(
  path: str | Path, contract: OnnxContract, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> int | None:
  """Batch that the model insists on (1), None if it takes any. ValueError names the file's side and the other.

  inputs, outputs: as the file declares them. Inputs must be those of the contract, of outputs only names count:
  their shapes are often not declared, and `chosen` looks at what comes out.
  """
  wanted = {t.name: t for t in contract.inputs()}
  given = {t.name: t for t in inputs}
  faults = [f'{name} is missing' for name in wanted if name not in given]
  faults += [f'{name} is not in the contract' for name in given if name not in wanted]
  for name, tensor in wanted.items():
    if name in given and not _fits(given[name], tensor):
      faults.append(f'{name} differs')
  named = [t.name for t in outputs]
  read = [name for name in (contract.output, contract.scores) if name]
  faults += [f'output {name} is missing' for name in (*read, *contract.unread) if name not in named]
  if faults:
    raise ValueError(
      f'{path} does not keep contract {contract.name}: {"; ".join(faults)}. It takes {_listed(inputs)} and gives '
      f'{_listed(outputs)}; the contract takes {_listed(contract.inputs())} and gives '
      f'{", ".join([*read, *contract.unread])}. Give the contract of this model'
    )
  batches = {t.dims[0] for t in inputs if isinstance(t.dims[0], int) and t.dims[0] > 0}
  if batches - {1}:
    raise ValueError(f'{path} takes batches of {sorted(batches)} only; export it with a batch of 1 or an open one')
  return 1 if batches else None


def check_contract_camera(contract: OnnxContract, given: Mapping[str, Any], allow: bool = False) -> list[str]:
  """How the contract's camera and rate differ from `given` (`contracts.camera_contract`), line by line.

  A camera that is not known differs in nothing. Raises ValueError naming both sides and the remedy when there are
  differences and `allow` is False.
  """
  ranges = {name: given[name] for name in ('hfov', 'vfov', 'pitch', 'mount_height')}
  size = dict(image_height=contract.height, image_width=contract.width, num_history=contract.num_history)
  trained = {**ranges, **(contract.camera or {}), **size, 'rate': contract.rate}
  return check_camera_contract(trained, dict(given), allow)


def _fits(given: Tensor, wanted: Tensor) -> bool:
  """Whether declared dimensions may be those wanted, apart from the batch."""
  if given.kind != wanted.kind or len(given.dims) != len(wanted.dims):
    return False
  pairs = zip(given.dims[1:], wanted.dims[1:], strict=True)
  return all(not isinstance(g, int) or g < 1 or g == w for g, w in pairs)


def _listed(tensors: Sequence[Tensor]) -> str:
  return ', '.join(str(t) for t in tensors) or 'nothing'
