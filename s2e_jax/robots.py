"""Robot descriptions that data, simulator, benchmark and deployment share: limits, lag, footprint, camera."""

from __future__ import annotations

import dataclasses
import math

from s2e_jax.structs import Camera, Footprint

DRIVES = ('differential', 'ackermann', 'legged')


@dataclasses.dataclass(frozen=True)
class CameraMount:
  """The robot's forward camera: level, its axis lowered or raised by lens shift.

  hfov: rad. height: m above the ground. forward: m ahead of the robot origin. pitch: rad, positive looks down;
  the horizon lies where a lens shift by tan(pitch) puts it, verticals stay vertical.
  """

  hfov: float = math.radians(100)
  height: float = 0.6
  forward: float = 0.25
  pitch: float = math.radians(-4)

  def camera(self, height: int, width: int) -> Camera:
    """The pinhole camera (`structs.Camera`) whose `height` x `width` pixel pictures look like this mount's."""
    focal = width / 2 / math.tan(self.hfov / 2)
    return Camera(
      width,
      height,
      focal,
      focal,
      width / 2,
      height / 2 - focal * math.tan(self.pitch),
      model='pinhole',
      mount_height=self.height,
      mount_forward=self.forward,
    )


@dataclasses.dataclass(frozen=True)
class RobotDescription:
  """What a robot can do, at the level of its velocity interface: command (v m/s, w rad/s), held for 0.25 s.

  drive: 'differential' turns in place; 'ackermann' turns with |w| <= |v| tan(max_steer) / wheelbase; 'legged'
    turns in place and sways.
  footprint, height: outline on the ground and top of the body (m). mass: kg.
  max_speed, min_speed: m/s forward (min_speed < 0: it can reverse). max_yaw_rate: rad/s.
  max_acceleration, max_braking: m/s^2. max_yaw_acceleration: rad/s^2.
  time_constant, yaw_time_constant: s of the first-order lag of speed and turning rate behind the command.
  latency: s from command to wheels.
  slip: (low, high) share of the commanded speed lost, drawn once per episode.
  wheelbase, track, wheel_radius, max_steer: m, m, m, rad (0 where a drive has none).
  sway: (lateral m, roll-free yaw rad) amplitude, sway_rate Hz: of the gait, seen by the camera.
  """

  name: str
  drive: str
  footprint: Footprint
  height: float
  mass: float
  max_speed: float
  min_speed: float
  max_yaw_rate: float
  max_acceleration: float
  max_braking: float
  max_yaw_acceleration: float
  time_constant: float
  yaw_time_constant: float
  latency: float
  slip: tuple[float, float] = (0.0, 0.0)
  wheelbase: float = 0.0
  track: float = 0.0
  wheel_radius: float = 0.0
  max_steer: float = 0.0
  sway: tuple[float, float] = (0.0, 0.0)
  sway_rate: float = 0.0
  mount: CameraMount = CameraMount()

  def __post_init__(self) -> None:
    """Raises ValueError when a field breaks its rule."""
    if self.drive not in DRIVES:
      raise ValueError(f'robot drive={self.drive!r} must be one of {DRIVES}')
    for name in (
      'height',
      'mass',
      'max_speed',
      'max_yaw_rate',
      'max_acceleration',
      'max_braking',
      'time_constant',
    ):
      if not getattr(self, name) > 0:
        raise ValueError(f'robot {name}={getattr(self, name)!r} must be > 0')
    if self.min_speed > 0:
      raise ValueError(f'robot min_speed={self.min_speed!r} must be <= 0: every robot can stand still')
    if self.drive == 'ackermann' and not (self.wheelbase > 0 and self.max_steer > 0):
      raise ValueError('an ackermann robot needs wheelbase > 0 and max_steer > 0')

  @property
  def radius(self) -> float:
    """m from the origin to the farthest point of the footprint."""
    return math.hypot(self.footprint.length, self.footprint.width) / 2

  @property
  def reach(self) -> float:
    """m from the origin to the middles of the discs of the footprint's width in its front and its rear."""
    return max(self.footprint.length / 2 - self.footprint.width / 2, 0.0)

  @property
  def curvature(self) -> float:
    """1/m of the tightest turn of an ackermann robot; 0 for robots that turn on the spot."""
    return math.tan(self.max_steer) / self.wheelbase if self.drive == 'ackermann' else 0.0

  @property
  def inertia(self) -> float:
    """kg m^2 about the vertical axis, of a solid box of this footprint."""
    return self.mass * (self.footprint.length**2 + self.footprint.width**2) / 12


ROBOTS = {
  robot.name: robot
  for robot in (
    RobotDescription(
      'delivery', 'differential', Footprint(0.6, 0.45), 0.55, 30.0,
      max_speed=1.5, min_speed=-0.4, max_yaw_rate=1.5, max_acceleration=1.5, max_braking=2.5,
      max_yaw_acceleration=4.0, time_constant=0.15, yaw_time_constant=0.175, latency=0.05, slip=(0.0, 0.06),
      track=0.4, wheel_radius=0.1,
    ),
    RobotDescription(
      'coco', 'ackermann', Footprint(0.75, 0.5), 0.65, 40.0,
      max_speed=2.5, min_speed=0.0, max_yaw_rate=1.2, max_acceleration=1.2, max_braking=2.5,
      max_yaw_acceleration=4.0, time_constant=0.25, yaw_time_constant=0.2, latency=0.1, slip=(0.0, 0.08),
      wheelbase=0.456, track=0.42, wheel_radius=0.11, max_steer=0.35,
      mount=CameraMount(hfov=math.radians(110), height=0.65, forward=0.35),
    ),
    # Lag, limits, slip and sway: fitted to a learned Go1 gait of MuJoCo Playground in simulation
    # (experiments/gait). Assumed: latency, which stands for the command's way to the robot; the gait has none.
    # Not modelled: the gait stands still below 0.2 m/s, and on the spot below 0.4 rad/s.
    RobotDescription(
      'quadruped', 'legged', Footprint(0.7, 0.32), 0.42, 15.0,
      max_speed=1.5, min_speed=-0.5, max_yaw_rate=1.5, max_acceleration=4.0, max_braking=6.0,
      max_yaw_acceleration=30.0, time_constant=0.12, yaw_time_constant=0.04, latency=0.05, slip=(0.0, 0.07),
      sway=(0.003, 0.003), sway_rate=3.2, mount=CameraMount(height=0.4, forward=0.3),
    ),
  )
}  # fmt: skip


def robot_description(name: str) -> RobotDescription:
  """The robot of this name; ValueError lists the names there are."""
  if name not in ROBOTS:
    raise ValueError(f'robot={name!r} must be one of {sorted(ROBOTS)}')
  return ROBOTS[name]
