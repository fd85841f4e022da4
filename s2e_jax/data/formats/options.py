"""Options that readers of foreign formats understand, checked before anything is read or written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from s2e_jax.data.clips import ClipError
from s2e_jax.structs import Camera, Footprint

PLANES = ('xy', 'xz')
YAW_UNITS = ('rad', 'deg', 'compass_rad', 'compass_deg')


@dataclasses.dataclass(frozen=True)
class Options:
  """How foreign files are read; None means "what the format states, or its documented default".

  rate: Hz, frames nearest to this grid are kept (0: all of them). nominal_rate: Hz, for sources without stamps.
  height, width: pixels, resize to this (one of them alone keeps the shape).
  min_seconds: shorter clips are skipped. max_gap: seconds; a clip is cut where frames are further apart.
  camera: a camera.json in the form of `Camera.to_dict`, or 'fx,fy,cx,cy' in pixels of the source images, or
    'fx,fy,cx,cy,width,height' if those intrinsics belong to another size.
  camera_height, camera_forward: metres; camera_pitch: radians, positive looks down; hfov: radians, for cameras
    without intrinsics.
  footprint: 'LENGTHxWIDTH' in metres. scale: positions are multiplied by it. is_metric: positions are metres.
  splits_dir: folder with {train,test}/traj_names.txt (gnm). images, poses: folder or file (kitti, video).
  plane: ground plane of the poses; forward_axis: body axis that looks ahead; time_offset: seconds added to the
    pose stamps, or 'start' (first pose = first frame) (video).
  video_key, pose_keys, yaw_unit: which camera and which columns hold x, y, yaw (lerobot).
  split: which published split is read (rlds).
  """

  source: str | None = None
  licence: str = 'unknown'
  embodiment: str | None = None
  rate: float = 4.0
  nominal_rate: float | None = None
  height: int | None = None
  width: int | None = None
  min_seconds: float = 3.5
  max_gap: float = 1.0
  camera: str | None = None
  camera_height: float | None = None
  camera_forward: float | None = None
  camera_pitch: float | None = None
  hfov: float = 1.57
  footprint: str | None = None
  scale: float | None = None
  is_metric: bool | None = None
  splits_dir: Path | None = None
  images: str | None = None
  poses: Path | None = None
  plane: str = 'xy'
  forward_axis: str | None = None
  time_offset: str = '0'
  video_key: str | None = None
  pose_keys: str | None = None
  yaw_unit: str = 'rad'
  split: str | None = None

  def __post_init__(self) -> None:
    """Raises ValueError when an option breaks its rule."""
    for name in ('nominal_rate', 'height', 'width', 'camera_height', 'hfov', 'max_gap', 'scale'):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise ValueError(f'--{name}={value} must be > 0; leave it out to use the default')
    for name in ('rate', 'min_seconds'):
      if not getattr(self, name) >= 0:
        raise ValueError(f'--{name}={getattr(self, name)} must be >= 0')
    for name, choices in (('plane', PLANES), ('forward_axis', ('x', 'z', None)), ('yaw_unit', YAW_UNITS)):
      if getattr(self, name) not in choices:
        raise ValueError(f'--{name}={getattr(self, name)!r} must be one of {[c for c in choices if c]}')
    if self.time_offset != 'start':
      try:
        float(self.time_offset)
      except ValueError:
        raise ValueError(f"--time_offset={self.time_offset!r} must be seconds, or 'start'") from None
    for name in ('splits_dir', 'poses'):
      path = getattr(self, name)
      if path is not None and not path.exists():
        raise ValueError(f'--{name}={path} does not exist')
    self.robot_footprint()
    self.given_camera()

  def robot_footprint(self, default: Footprint = Footprint()) -> Footprint:
    """The footprint as given by the user, or `default`."""
    if self.footprint is None:
      return default
    try:
      length, width = (float(side) for side in self.footprint.lower().split('x'))
    except ValueError:
      raise ValueError(f'--footprint={self.footprint!r} must be LENGTHxWIDTH in metres, like 0.7x0.4') from None
    return Footprint(length, width)

  def given_camera(self) -> tuple[dict[str, Any], bool] | None:
    """Fields of the user's camera and whether width and height are among them; None if no camera is given."""
    if self.camera is None:
      return None
    if self.camera.endswith('.json'):
      path = Path(self.camera)
      if not path.is_file():
        raise ValueError(f'--camera={self.camera} does not exist; give a JSON file or fx,fy,cx,cy')
      try:
        return Camera.from_dict(json.loads(path.read_text())).to_dict(), True
      except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
          f'--camera={self.camera} must hold the fields of Camera (width, height, fx, fy, cx, cy, model, '
          f'distortion, mount_height, mount_forward, pitch): {error}'
        ) from error
    try:
      values = [float(v) for v in self.camera.split(',')]
    except ValueError:
      values = []
    if len(values) not in (4, 6) or not (values[0] > 0 and values[1] > 0):
      raise ValueError(
        f'--camera={self.camera!r} must be a .json file, fx,fy,cx,cy or fx,fy,cx,cy,width,height in pixels'
      )
    fields: dict[str, Any] = dict(zip(('fx', 'fy', 'cx', 'cy'), values[:4], strict=True), model='pinhole')
    if len(values) == 6:
      fields |= {'width': int(values[4]), 'height': int(values[5])}
    return fields, len(values) == 6

  def camera_for(self, width: int, height: int, known: Camera | None = None, mount_height: float = 0.5) -> Camera:
    """The camera of source images of `width` x `height` pixels.

    In this order: what the user gives, what the format states (`known`, for images of any size of the same
    shape), a guess from --hfov. Raises ClipError when the intrinsics belong to images of another shape.
    """
    given = self.given_camera()
    if given is not None:
      fields, _ = given
      camera = Camera(**({'width': width, 'height': height, 'mount_height': mount_height} | fields))
    elif known is not None:
      camera = known
    else:
      camera = Camera.guess(width, height, self.hfov, mount_height=mount_height)
    if abs(camera.width * height - camera.height * width) > 0.02 * camera.width * height:
      raise ClipError(
        'camera_shape',
        f'camera intrinsics are for {camera.width}x{camera.height} images, these are {width}x{height}: the shape '
        'must be the same; give --camera=fx,fy,cx,cy,width,height for the images as they are',
      )
    mount: dict[str, Any] = {
      field: value
      for field, value in (
        ('mount_height', self.camera_height),
        ('mount_forward', self.camera_forward),
        ('pitch', self.camera_pitch),
      )
      if value is not None
    }
    return dataclasses.replace(camera.resized(width, height), **mount)
