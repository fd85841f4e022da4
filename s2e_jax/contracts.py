"""What a checkpoint was trained to see, and whether a dataset or a robot shows it the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from s2e_jax.structs import Camera

# How far a view may differ before it is another camera: angles in radians (about 6 degrees), heights in metres.
ANGLE_TOLERANCE = 0.1
HEIGHT_TOLERANCE = 0.15

_EXACT = {
  'image_height': 'pixels',
  'image_width': 'pixels',
  'num_history': 'frames',
  'rate': 'Hz',
}
_RANGES = {
  'hfov': ('rad', ANGLE_TOLERANCE),
  'vfov': ('rad', ANGLE_TOLERANCE),
  'pitch': ('rad', ANGLE_TOLERANCE),
  'mount_height': ('m', HEIGHT_TOLERANCE),
}


def field_of_view(camera: Camera) -> tuple[float, float]:
  """Horizontal and vertical field of view (rad), of the ideal lens without its small distortion terms."""
  x, y = camera.width / 2 / camera.fx, camera.height / 2 / camera.fy
  return (2 * x, 2 * y) if camera.model == 'fisheye' else (2 * math.atan(x), 2 * math.atan(y))


def camera_contract(
  image_height: int, image_width: int, num_history: int, rate: float, cameras: Iterable[Camera]
) -> dict[str, Any]:
  """JSON-able record of what the policy is shown: its input size, history and rate, and the cameras behind it.

  image_height, image_width: pixels of the policy's input, whatever the size of the stored frames.
  num_history: frames K; rate: Hz of these frames.
  cameras: of every clip; each of hfov, vfov, pitch (rad) and mount_height (m) is kept as its range [low, high].
    A picture squeezed into another aspect ratio shows up as another vfov.
  Raises ValueError when there is no camera.
  """
  cameras = list(cameras)
  if not cameras:
    raise ValueError('no cameras: a camera contract needs at least one clip')
  views = [field_of_view(c) for c in cameras]
  values = {
    'hfov': [v[0] for v in views],
    'vfov': [v[1] for v in views],
    'pitch': [c.pitch for c in cameras],
    'mount_height': [c.mount_height for c in cameras],
  }
  return {
    'image_height': int(image_height),
    'image_width': int(image_width),
    'num_history': int(num_history),
    'rate': float(rate),
    **{name: [round(float(min(v)), 4), round(float(max(v)), 4)] for name, v in values.items()},
    'models': sorted({c.model for c in cameras}),
  }


def check_robot_contract(trained: Mapping[str, Any], given: Mapping[str, Any], allow: bool = False) -> list[str]:
  """The differences between two robots (`dataclasses.asdict` of their descriptions) that a policy feels.

  Raises ValueError naming both values and the remedy when there are any and `allow` is False.
  """
  found = [
    f'{name}: trained with {trained.get(name)}, given {given.get(name)}'
    for name in ('footprint', 'drive', 'max_speed', 'min_speed', 'max_yaw_rate')
    if trained.get(name) != given.get(name)
  ]
  if found and not allow:
    raise ValueError(
      f'the checkpoint was finetuned on another robot ({trained.get("name")}, given {given.get("name")}): '
      f'{"; ".join(found)}. Use the same robot, or set --config.allow_other_robot=True to go on regardless'
    )
  return found


def camera_differences(trained: dict[str, Any], given: dict[str, Any]) -> list[str]:
  """One line per field in which `given` leaves what `trained` covers; empty if the contracts agree.

  Sizes, history and rate must be equal; ranges must lie within the trained range widened by the tolerance.
  """
  found = []
  for name, unit in _EXACT.items():
    if trained[name] != given[name]:
      found.append(f'{name}: trained with {trained[name]:g} {unit}, given {given[name]:g} {unit}')
  for name, (unit, tolerance) in _RANGES.items():
    (low, high), (given_low, given_high) = trained[name], given[name]
    if given_low < low - tolerance or given_high > high + tolerance:
      spans = (
        ' .. '.join(f'{v:.2f}' for v in (low, high)),
        ' .. '.join(f'{v:.2f}' for v in (given_low, given_high)),
      )
      found.append(f'{name}: trained with {spans[0]} {unit}, given {spans[1]} {unit} (tolerance {tolerance:g})')
  return found


def check_camera_contract(trained: dict[str, Any], given: dict[str, Any], allow: bool = False) -> list[str]:
  """The differences between two contracts of `camera_contract`, for a log line.

  Raises ValueError naming both values and the remedy when there are any and `allow` is False.
  """
  found = camera_differences(trained, given)
  if found and not allow:
    hint = ' (the given intrinsics are a guess)' if 'unknown' in given['models'] else ''
    raise ValueError(
      f'the checkpoint was trained with another camera{hint}: {"; ".join(found)}. '
      'Use data of the same camera, or set --config.allow_other_camera=True to go on regardless'
    )
  return found
