"""From the frame of a splat file to a world with z up, metres and the floor near z = 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.sh_rotation import rotate_sh
from s2e_jax.navbench.up_axis import Plane, Surfaces, as_direction, flat_surfaces, lowest_plane, vertical_planes

MIN_EXTENT, MAX_EXTENT = 2.0, 2000.0  # m: what is smaller or larger is no place that a robot drives through
# Degrees: ground that leans less than this in a file whose axis is up is a slope, more is a file out of level.
_MAX_LEAN = 6.0
# Of the surfaces in view: a ground that covers less is a table top or the lid of an object.
_MIN_GROUND_SHARE = 0.01
_MIN_GROUND_GAUSSIANS = 200


@dataclasses.dataclass(frozen=True)
class Similarity:
  """world_from_file: p_in_world = scale * rotation @ p_in_file + translation.

  rotation: [3, 3]. scale: metres per unit of the file. translation: [3] m.
  """

  rotation: np.ndarray
  scale: float
  translation: np.ndarray

  def points(self, points_in_file: np.ndarray) -> np.ndarray:
    """[..., 3] points in the world, in the dtype that came in."""
    moved = self.scale * (np.asarray(points_in_file, float) @ self.rotation.T) + self.translation
    return moved.astype(np.asarray(points_in_file).dtype)

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form, inverse of `from_dict`."""
    return {
      'rotation': np.round(self.rotation, 12).tolist(),
      'scale': float(self.scale),
      'translation': np.round(self.translation, 9).tolist(),
    }

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> Similarity:
    """Similarity from `to_dict`'s form."""
    return cls(np.array(fields['rotation'], float), float(fields['scale']), np.array(fields['translation'], float))


@dataclasses.dataclass(frozen=True)
class FrameReport:
  """How a frame was found, for a person to judge.

  found_by: 'given' or 'detected'. up_in_file: unit vector. confidence: 0..1, how much better the chosen direction
  explains the scene than the next best (1 where it was given). ground_lean: degrees between up and the median
  normal of the ground. ground_share: part of all surfaces that is ground. extent: m along x, y and z that hold
  98 % of the surfaces. notes: what to check by eye.
  """

  found_by: str
  up_in_file: tuple[float, float, float]
  confidence: float
  ground_lean: float
  ground_share: float
  extent: tuple[float, float, float]
  notes: tuple[str, ...]

  def to_dict(self) -> dict[str, Any]:
    """JSON-able form."""
    return {
      name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
    }


def detect_frame(
  gaussians: Gaussians, up: str | Sequence[float] | None = None, scale: float | None = None
) -> tuple[Similarity, FrameReport]:
  """The similarity world_from_file and how it was found; x and y keep the origin of the file.

  up: an axis of the file ('z', '-y', ...), three numbers, or None to look for it. scale: metres per unit of the
  file; None takes the units for metres, which only a known length can confirm.
  Raises ValueError when there is no ground under the scene or the scale is absurd.
  """
  if scale is not None and not scale > 0:
    raise ValueError(f'scale={scale} must be > 0 metres per unit of the file')
  surfaces = flat_surfaces(gaussians)
  if up is not None:
    direction, found_by, confidence = as_direction(up), 'given', 1.0
    plane = lowest_plane(surfaces, direction)
    tried = [f'up={up}: {_account(plane)}']
  else:
    planes = vertical_planes(surfaces)
    direction, found_by = (planes[0].up if planes else np.array([0.0, 0.0, 1.0])), 'detected'
    plane = planes[0] if planes else None
    runner_up = planes[1].score if len(planes) > 1 else 0.0
    confidence = 1 - runner_up / max(plane.score, 1e-12) if plane else 0.0
    tried = [f'up={_named(p.up)}: {_account(p)}' for p in planes[:4]]
  factor = 1.0 if scale is None else float(scale)
  _check_extent(surfaces, direction, factor, is_given=scale is not None)
  if plane is None or plane.num < _MIN_GROUND_GAUSSIANS or plane.share < _MIN_GROUND_SHARE:
    raise ValueError(
      f'no ground found among {surfaces.num} flat opaque gaussians '
      f'({"; ".join(tried) or "no direction has a plane"}); a ground needs {_MIN_GROUND_GAUSSIANS} of them and '
      f'{_MIN_GROUND_SHARE:.0%} of the surface at the bottom of the scene: pass up= (an axis such as z or -y, or '
      'three numbers), or check that the file is a place and not an object'
    )
  lean = _degrees(direction, plane.normal)
  notes = [_scale_note(scale)]
  if found_by == 'detected':
    if confidence < 0.15:
      notes.append(
        f'up={_named(direction)} is barely better than {_named(planes[1].up)}: look at the map, pass up='
      )
    if lean > _MAX_LEAN:
      notes.append(f'no axis of the file is up: levelled by its ground, {lean:.1f} degrees off the nearest axis')
      direction = plane.normal
      lean = 0.0
      plane = lowest_plane(surfaces, direction) or plane
  elif lean > _MAX_LEAN:
    notes.append(f'the ground leans {lean:.1f} degrees: a slope, or up= is not quite right')
  rotation = _turn_up(direction)
  similarity = Similarity(rotation, factor, np.array([0.0, 0.0, -factor * plane.height]))
  x, y, z = (round(float(e), 2) for e in np.ptp(_central(similarity.points(surfaces.centre)), axis=0))
  report = FrameReport(
    found_by,
    _triple(direction),
    round(float(confidence), 3),
    round(lean, 2),
    round(float(plane.share), 3),
    (x, y, z),
    tuple(notes),
  )
  return similarity, report


def apply_similarity(gaussians: Gaussians, world_from_file: Similarity) -> Gaussians:
  """The gaussians in the world: means, scales, rotations, and harmonics of degree 1 and more."""
  turn = _quaternion(world_from_file.rotation)
  is_turned = not np.allclose(world_from_file.rotation, np.eye(3), atol=1e-9)
  rotation = np.asarray(gaussians.rotation)
  return Gaussians(
    mean=world_from_file.points(gaussians.mean),
    scale=(np.asarray(gaussians.scale) * world_from_file.scale).astype(np.asarray(gaussians.scale).dtype),
    rotation=_product(turn, rotation).astype(rotation.dtype) if is_turned else rotation,
    opacity=gaussians.opacity,
    sh=rotate_sh(np.asarray(gaussians.sh), world_from_file.rotation) if is_turned else gaussians.sh,
  )


def _check_extent(surfaces: Surfaces, up: np.ndarray, scale: float, is_given: bool) -> None:
  if surfaces.num == 0:
    return
  extent = float(np.ptp(_central(surfaces.centre @ _turn_up(up).T), axis=0)[:2].max()) * scale
  if not MIN_EXTENT <= extent <= MAX_EXTENT:
    raise ValueError(
      f'the scene would be {extent:.4g} m wide with {"scale=" if is_given else "the file taken as metres, scale="}'
      f'{scale:g}; a place to drive through is {MIN_EXTENT:g} to {MAX_EXTENT:g} m: pass scale= (metres per unit '
      'of the file), found from a length you know'
    )


def _central(points: np.ndarray) -> np.ndarray:
  return np.percentile(points, [1, 99], axis=0) if len(points) else np.zeros((2, 3))


def _scale_note(scale: float | None) -> str:
  if scale is None:
    return (
      'scale: units of the file taken as metres; compare a door (2 m) or a camera height with the figures below'
    )
  return f'scale: {scale:g} m per unit of the file, as given; nothing in the file can confirm it'


def _triple(vector: np.ndarray) -> tuple[float, float, float]:
  x, y, z = (round(float(v), 6) for v in vector)
  return x, y, z


def _account(plane: Plane | None) -> str:
  if plane is None:
    return 'no flat gaussians across it'
  return f'lowest plane of {plane.num} gaussians, {plane.share:.1%} of the surface'


def _named(up: np.ndarray) -> str:
  axis = int(np.argmax(np.abs(up)))
  if abs(up[axis]) > 0.999:
    return ('-' if up[axis] < 0 else '') + 'xyz'[axis]
  return ','.join(f'{v:.3f}' for v in up)


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def _turn_up(up: np.ndarray) -> np.ndarray:
  """[3, 3] the smallest turn that brings `up` to +z; half a turn about x for -z."""
  x, y, z = up
  if z < -1 + 1e-9:
    return np.diag([1.0, -1.0, -1.0])
  cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0.0]])  # of the axis up x z
  turn = np.eye(3) + cross + cross @ cross / (1 + z)
  return np.where(np.abs(turn) < 1e-12, 0.0, turn)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
  """[4] w, x, y, z of a rotation matrix."""
  x, y, z, w = Rotation.from_matrix(rotation).as_quat()
  return np.array([w, x, y, z])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Quaternions a [4] times b [N, 4]: first turned by b, then by a."""
  w, x, y, z = a
  left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
  return b @ left.T
