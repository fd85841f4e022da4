"""Augmentation of whole segments in numpy: one horizontal flip and one photometric draw for all frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, what JPEG itself uses
# rows give Y, Cb = (B - Y) / 1.772 and Cr = (R - Y) / 1.402
_YCC = np.stack([_LUMA, (np.array([0, 0, 1]) - _LUMA) / 1.772, (np.array([1, 0, 0]) - _LUMA) / 1.402])
_RGB = np.linalg.inv(_YCC)


@dataclasses.dataclass(frozen=True)
class Photometric:
  """One draw of camera and light: hue and saturation first, then on values in 0..1 per channel
  ((x ** gamma - 0.5) * contrast + 0.5 + brightness) * gain.

  hue: rad by which (Cb, Cr) turn, as video does it: luma stays. saturation: 0 is grey, 1 unchanged. gains: of red,
  green and blue (white balance).
  """

  brightness: float = 0.0
  contrast: float = 1.0
  gamma: float = 1.0
  hue: float = 0.0
  saturation: float = 1.0
  gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


def check(flip_prob: float, photometric: float, hue: float) -> None:
  """Raises ValueError for numbers of the augmentation that break a rule."""
  if not 0 <= flip_prob <= 1:
    raise ValueError(f'flip_prob={flip_prob} must be a probability')
  draw_photometric(np.random.default_rng(0), photometric, hue)


def draw_photometric(rng: np.random.Generator, strength: float, hue: float = 0.0) -> Photometric:
  """A random draw; every factor lies within exp(+-strength) of 1, colour gains within a third of that.

  strength: 0 gives the identity; 0.25 is moderate. ValueError outside 0..1. hue: rad, the largest turn of colours;
  ValueError outside 0..pi.
  """
  if not 0 <= hue <= np.pi:
    raise ValueError(f'hue={hue} must be an angle between 0 (off) and pi (any colour) rad')
  if not 0 <= strength <= 1:
    raise ValueError(f'photometric={strength} must be a strength between 0 (off) and 1')
  brightness, contrast, gamma, saturation = rng.uniform(-strength, strength, 4)
  gains = np.exp(rng.uniform(-strength / 3, strength / 3, 3))
  return Photometric(
    brightness=float(brightness) / 2,
    contrast=float(np.exp(contrast)),
    gamma=float(np.exp(gamma)),
    hue=float(rng.uniform(-hue, hue)) if hue else 0.0,
    saturation=float(np.exp(saturation)),
    gains=(float(gains[0]), float(gains[1]), float(gains[2])),
  )


def colour_matrix(draw: Photometric) -> np.ndarray:
  """[3, 3] float32 from RGB to RGB: saturation and hue."""
  s = np.float32(draw.saturation)
  mix = s * np.eye(3, dtype=np.float32) + (1 - s) * np.tile(_LUMA, (3, 1))
  if not draw.hue:
    return mix
  cos, sin = np.cos(draw.hue), np.sin(draw.hue)
  turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
  return (mix @ _RGB @ turn @ _YCC).astype(np.float32)


def lookup_table(draw: Photometric) -> np.ndarray:
  """[256, 3] uint8: what each channel value becomes, hue and saturation aside."""
  x = np.linspace(0, 1, 256)[:, None] ** draw.gamma
  y = ((x - 0.5) * draw.contrast + 0.5 + draw.brightness) * np.array(draw.gains)
  return np.rint(255 * np.clip(y, 0, 1)).astype(np.uint8)


def photometric_op(draw: Photometric) -> Callable[[np.ndarray], np.ndarray]:
  """Function that brings one image [h, w, 3] uint8 RGB under `draw`; tables are made once."""
  table, mix = lookup_table(draw)[None], colour_matrix(draw)
  is_mixed = draw.saturation != 1 or draw.hue != 0

  def apply(image: np.ndarray) -> np.ndarray:
    return cv2.LUT(cv2.transform(image, mix) if is_mixed else image, table)

  return apply


def apply_photometric(frames: np.ndarray, draw: Photometric) -> np.ndarray:
  """Frames [*B, h, w, 3] uint8 RGB under `draw`; a new array."""
  op, out = photometric_op(draw), np.empty_like(frames)
  for i in np.ndindex(frames.shape[:-3]):
    out[i] = op(frames[i])
  return out


def flip_image(image: np.ndarray, out: np.ndarray) -> None:
  """Writes `image` [h, w, 3] mirrored left to right into `out`; far faster than copying a reversed view."""
  cv2.flip(image, 1, dst=out)


def flip_labels(labels: dict[str, Any]) -> dict[str, Any]:
  """Labels of the mirrored drive: y negated in goal_in_robot and waypoints_in_robot, clearances left for right."""
  mirror = np.array([1, -1], np.float32)
  mirrored = {name: labels[name] * mirror for name in ('goal_in_robot', 'waypoints_in_robot')}
  return labels | mirrored | {'clearances': labels['clearances'][..., ::-1].copy()}


def flip(segment: dict[str, Any]) -> dict[str, Any]:
  """The segment seen in a mirror: images left to right, and y negated in goals and waypoints.

  segment: the fields of `structs.SegmentBatch`, with or without the batch axis; arrays are not changed in place.
  """
  frames = segment['frames']
  mirrored = np.empty_like(frames, order='C')
  for i in np.ndindex(frames.shape[:-3]):
    flip_image(frames[i], mirrored[i])
  return flip_labels(segment) | {'frames': mirrored}
