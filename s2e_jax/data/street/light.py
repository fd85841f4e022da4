"""Rays of the lens, and light and haze of a clip: what ground, walls and solids share."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from s2e_jax.structs import Camera

SUPERSAMPLE = 2  # rays per pixel side
_HAZE_RANGE = 70.0  # metres
_LAMP_RANGE = 14.0  # metres a corridor is lit ahead

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Rays:
  """The rays of a level pinhole, SUPERSAMPLE per pixel side, as slopes.

  Pixel (row i, column j) covers [j, j + 1) x [i, i + 1) of the plane that `geometry.project` maps to.
  right: [columns] metres to the right per metre ahead. down: [rows] metres down per metre ahead, ascending.
  horizon: first row that looks down. eye_height: m. focal: rays per unit of slope, downwards.
  """

  right: Array
  down: Array
  horizon: int
  eye_height: float
  focal: float

  @classmethod
  def of(cls, camera: Camera) -> Rays:
    """Rays of `camera`; ValueError unless it is level and undistorted."""
    if camera.pitch or camera.distortion or camera.model == 'fisheye':
      raise ValueError(
        f'camera pitch={camera.pitch}, distortion={camera.distortion}, model={camera.model!r}: this renderer '
        'draws level undistorted pinholes only'
      )
    n = SUPERSAMPLE
    right = (((np.arange(camera.width * n) + 0.5) / n - camera.cx) / camera.fx).astype(np.float32)
    down = (((np.arange(camera.height * n) + 0.5) / n - camera.cy) / camera.fy).astype(np.float32)
    return cls(right, down, int(np.searchsorted(down, 0.0)), camera.mount_height, camera.fy * n)


@dataclasses.dataclass(frozen=True)
class Looks:
  """Light and colour of a clip.

  weather: 'sunny', 'overcast' or 'evening'. sun: its azimuth and elevation (rad), None if it does not shine.
  tint: [3] colour cast. brightness: factor. noise: standard deviation of the sensor noise, in 1/255.
  far: [3] colour that things fade to with distance. is_indoor: lit from the robot's surroundings only.
  """

  weather: str
  sun: tuple[float, float] | None
  tint: Array
  brightness: float
  noise: float
  far: Array
  is_indoor: bool

  @property
  def sun_up(self) -> float:
    """Sine of the sun's elevation, 0 without sun."""
    return math.sin(self.sun[1]) if self.sun else 0.0

  def facing(self, azimuth: Array, shade: float, sun: float) -> Array:
    """Light on upright faces that look to `azimuth` (rad, world): `shade` plus `sun` times the sun's share."""
    if self.sun is None:
      return 0.75 + 0.12 * np.cos(azimuth - 0.7)
    return shade + sun * math.cos(self.sun[1]) * np.maximum(0, np.cos(azimuth - self.sun[0]))

  def haze_share(self, depth: Array) -> Array:
    """Share of its own colour that something keeps at `depth` m."""
    if self.is_indoor:
      return 0.45 + 0.55 * np.exp(depth / -_LAMP_RANGE)
    return np.exp(depth / -_HAZE_RANGE)

  def fade(self, colour: Array, depth: Array) -> None:
    """Blends `colour` [..., 3] in place towards `far` with depth [..., 1] (m)."""
    share = self.haze_share(depth)
    colour *= share
    colour += (1 - share) * self.far


def make_looks(is_indoor: bool, rng: np.random.Generator) -> Looks:
  """Random looks of a clip."""
  weather = str(rng.choice(['sunny', 'overcast', 'evening'], p=[0.5, 0.35, 0.15]))
  sun = None
  if not is_indoor and weather != 'overcast':
    elevation = (0.2, 0.4) if weather == 'evening' else (0.6, 1.1)
    sun = (float(rng.uniform(-math.pi, math.pi)), float(rng.uniform(*elevation)))
  tint = {'sunny': (1.03, 1.0, 0.96), 'overcast': (0.97, 1.0, 1.03), 'evening': (1.1, 0.97, 0.82)}[weather]
  far = {'sunny': (0.76, 0.83, 0.9), 'overcast': (0.78, 0.79, 0.81), 'evening': (0.9, 0.74, 0.58)}[weather]
  return Looks(
    weather=weather,
    sun=sun,
    tint=np.array(tint) * rng.normal(1, 0.02, 3),
    brightness=float(rng.uniform(0.95, 1.25)),
    noise=float(rng.uniform(1, 2.5)),
    far=np.zeros(3, np.float32) if is_indoor else np.array(far, np.float32),
    is_indoor=is_indoor,
  )
