"""Augmentation of whole segments in numpy: one horizontal flip and one photometric draw for all frames."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, what JPEG itself uses


@dataclasses.dataclass(frozen=True)
class Photometric:
  """One draw of camera and light: saturation first, then on values in 0..1 per channel
  ((x ** gamma - 0.5) * contrast + 0.5 + brightness) * gain.

  saturation: 0 is grey, 1 unchanged. gains: of red, green and blue (white balance).
  """

  brightness: float = 0.0
  contrast: float = 1.0
  gamma: float = 1.0
  saturation: float = 1.0
  gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw_photometric(rng: np.random.Generator, strength: float) -> Photometric:
  """A random draw; every factor lies within exp(+-strength) of 1, colour gains within a third of that.

  strength: 0 gives the identity; 0.25 is moderate. ValueError outside 0..1.
  """
  if not 0 <= strength <= 1:
    raise ValueError(f'photometric={strength} must be a strength between 0 (off) and 1')
  brightness, contrast, gamma, saturation = rng.uniform(-strength, strength, 4)
  gains = np.exp(rng.uniform(-strength / 3, strength / 3, 3))
  return Photometric(
    brightness=float(brightness) / 2,
    contrast=float(np.exp(contrast)),
    gamma=float(np.exp(gamma)),
    saturation=float(np.exp(saturation)),
    gains=(float(gains[0]), float(gains[1]), float(gains[2])),
  )


def lookup_table(draw: Photometric) -> np.ndarray:
  """[256, 3] uint8: what each channel value becomes, saturation aside."""
  x = np.linspace(0, 1, 256)[:, None] ** draw.gamma
  y = ((x - 0.5) * draw.contrast + 0.5 + draw.brightness) * np.array(draw.gains)
  return np.rint(255 * np.clip(y, 0, 1)).astype(np.uint8)


def apply_photometric(frames: np.ndarray, draw: Photometric) -> np.ndarray:
  """Frames [*B, h, w, 3] uint8 RGB under `draw`; a new array."""
  rows = np.ascontiguousarray(frames).reshape(-1, *frames.shape[-2:])
  s = np.float32(draw.saturation)
  if s != 1:
    rows = cv2.transform(rows, s * np.eye(3, dtype=np.float32) + (1 - s) * np.tile(_LUMA, (3, 1)))
  return cv2.LUT(rows, lookup_table(draw)[None]).reshape(frames.shape)


def flip(segment: dict[str, Any]) -> dict[str, Any]:
  """The segment seen in a mirror: images left to right, and y negated in goals and waypoints.

  segment: the fields of `structs.SegmentBatch`, with or without the batch axis; arrays are not changed in place.
  """
  mirror = np.array([1, -1], np.float32)
  return segment | {
    'frames': np.ascontiguousarray(segment['frames'][..., ::-1, :]),
    'goal_in_robot': segment['goal_in_robot'] * mirror,
    'waypoints_in_robot': segment['waypoints_in_robot'] * mirror,
  }
