"""MuJoCo XML of the robots, generated from their descriptions; opens in MuJoCo's viewer.

Levels: 'planar' is a base that slides and turns on the ground under three velocity servos fixed to its body;
'wheels' drives over the ground on wheels. Bodies collide with nothing but the ground: obstacles are analytic
(`sim.contacts`).
"""

from __future__ import annotations

import math

from s2e_jax.robots import RobotDescription

LEVELS = ('planar', 'wheels')

# Physics steps per policy step of 0.25 s, by measurement (experiments/dynamics).
PLANAR_SUBSTEPS = 5
WHEELS_SUBSTEPS = 25
POLICY_STEP = 0.25  # s
GRAVITY = 9.81  # m/s^2
TRACTION = 0.8  # coefficient of friction of tyres and feet on pavement
WHEEL_MASS = 0.02  # of the robot's, each
STEER_STIFFNESS = 40.0  # N m / rad


def lag_share(time_constant: float, time_step: float) -> float:
  """Share of the remaining error that a first-order lag removes in one step, exact for a held command."""
  return 1 - math.exp(-time_step / time_constant) if time_constant > 0 else 1.0


def _hull(robot: RobotDescription) -> list[str]:
  """Geoms of the body that are drawn, never touched: a box and a bumper, legs."""
  length, width = robot.footprint.length, robot.footprint.width
  clear = robot.wheel_radius if robot.wheel_radius else 0.55 * robot.height
  half_height = (robot.height - clear) / 2
  z = clear + half_height
  lines = [
    f'<geom name="hull" class="visual" type="box" size="{length / 2 - width / 8:g} {width / 2:g} {half_height:g}" '
    f'pos="0 0 {z:g}" rgba=".9 .9 .92 1"/>',
    f'<geom name="bumper" class="visual" type="cylinder" size="{width / 2:g} {half_height * 0.6:g}" '
    f'pos="{(length - width) / 2:g} 0 {z:g}" rgba=".2 .5 .8 1"/>',
  ]
  if robot.drive == 'legged':
    for x in (-0.36 * length, 0.36 * length):
      for y in (-0.4 * width, 0.4 * width):
        ends = f'{x:g} {y:g} {clear:g} {x:g} {y:g} .03'
        lines.append(f'<geom class="visual" type="capsule" size=".03" fromto="{ends}" rgba=".2 .2 .2 1"/>')
  return lines


def wheel_places(robot: RobotDescription) -> dict[str, tuple[float, float]]:
  """name -> (x, y) m of the wheels that carry the robot, none of a legged one; driven wheels first."""
  y = robot.track / 2
  if robot.drive == 'differential':
    return {'left': (0.0, y), 'right': (0.0, -y)}
  if robot.drive == 'ackermann':
    x = robot.wheelbase / 2
    return {'rear_left': (-x, y), 'rear_right': (-x, -y), 'front_left': (x, y), 'front_right': (x, -y)}
  return {}


def _tyre(robot: RobotDescription, pos: str = '') -> str:
  return (
    f'<geom class="visual" type="cylinder" size="{robot.wheel_radius:g} .03" zaxis="0 1 0" {pos}'
    'rgba=".15 .15 .15 1"/>'
  )


def _camera(robot: RobotDescription) -> list[str]:
  """The mounted camera, level, its horizon moved by a shifted principal point as the renderer does."""
  mount = robot.mount
  camera = mount.camera(96, 192)
  pos = f'{mount.forward:g} 0 {mount.height:g}'
  return [
    f'<geom name="lens" class="visual" type="sphere" size=".03" pos="{pos}" rgba=".1 .1 .1 1"/>',
    f'<camera name="front" pos="{pos}" xyaxes="0 -1 0 0 0 1" resolution="192 96" sensorsize="192 96" '
    f'focalpixel="{camera.fx:.6g} {camera.fy:.6g}" principalpixel="0 {48 - camera.cy:.6g}"/>',
  ]


def _document(robot: RobotDescription, level: str, option: str, body: list[str], actuators: list[str]) -> str:
  def block(lines: list[str], indent: int) -> str:
    return '\n'.join(' ' * indent + line for line in lines)

  return f"""<mujoco model="{robot.name} {level}">
  {option}
  <default>
    <default class="visual"><geom contype="0" conaffinity="0" group="1" mass="0"/></default>
    <default class="rolling"><geom contype="0" conaffinity="1" friction="{TRACTION:g} .005 .0001"/></default>
    <default class="sliding"><geom contype="0" conaffinity="1" priority="1" condim="1"/></default>
  </default>
  <visual><headlight ambient=".4 .4 .4" diffuse=".6 .6 .6"/></visual>
  <worldbody>
    <geom name="ground" type="plane" size="20 20 .1" rgba=".6 .6 .58 1" friction="{TRACTION:g} .005 .0001"/>
    <light pos="0 0 4" dir="0 .3 -1" directional="true"/>
{block(body, 4)}
  </worldbody>
  <actuator>
{block(actuators, 4)}
  </actuator>
</mujoco>
"""


def _planar(robot: RobotDescription) -> str:
  step = POLICY_STEP / PLANAR_SUBSTEPS
  forward = robot.mass * lag_share(robot.time_constant, step) / step
  turn = robot.inertia * lag_share(robot.yaw_time_constant, step) / step
  force = robot.mass * max(robot.max_acceleration, robot.max_braking)
  grip = robot.mass * GRAVITY * TRACTION
  tyres = [_tyre(robot, f'pos="{x:g} {y:g} {robot.wheel_radius:g}" ') for x, y in wheel_places(robot).values()]
  body = [
    '<body name="base">',
    '  <joint name="x" type="slide" axis="1 0 0"/>',
    '  <joint name="y" type="slide" axis="0 1 0"/>',
    '  <joint name="yaw" type="hinge" axis="0 0 1"/>',
    f'  <inertial pos="0 0 {robot.height / 2:g}" mass="{robot.mass:g}" '
    f'diaginertia="{robot.inertia:g} {robot.inertia:g} {robot.inertia:g}"/>',
    '  <site name="base" rgba="0 0 0 0"/>',
    *('  ' + line for line in [*_hull(robot), *tyres, *_camera(robot)]),
    '</body>',
  ]
  # Forces act in the body's own frame: wheels push along the robot and hold it sideways.
  actuators = [
    f'<velocity name="forward" site="base" gear="1 0 0 0 0 0" kv="{forward:.9g}" '
    f'ctrlrange="{robot.min_speed:g} {robot.max_speed:g}" forcerange="{-force:g} {force:g}"/>',
    f'<velocity name="sideways" site="base" gear="0 1 0 0 0 0" kv="{robot.mass / step:.9g}" '
    f'ctrlrange="0 0.001" forcerange="{-grip:g} {grip:g}"/>',
    f'<velocity name="turn" site="base" gear="0 0 0 0 0 1" kv="{turn:.9g}" '
    f'ctrlrange="{-robot.max_yaw_rate:g} {robot.max_yaw_rate:g}"/>',
  ]
  option = (
    f'<option timestep="{step:g}" integrator="Euler" iterations="1" ls_iterations="4">'
    '<flag contact="disable" constraint="disable" eulerdamp="disable"/></option>'
  )
  return _document(robot, 'planar', option, body, actuators)


def rotor_inertia(robot: RobotDescription) -> float:
  """kg m^2 of a driven wheel's motor at the wheel; gears make it heavier than the wheel, and its servo stable."""
  return robot.mass * robot.wheel_radius**2 / 30


def wheel_gain(robot: RobotDescription) -> float:
  """N m s / rad of the two driven wheels' velocity servos that give the robot its time constant."""
  # Rolling wheels count half their mass again, rotors as if their inertia were mass on the ground.
  rolling = 0.5 * WHEEL_MASS * len(wheel_places(robot)) + 2 / 30
  return robot.mass * (1 + rolling) * robot.wheel_radius**2 / (2 * robot.time_constant)


def turning_constant(robot: RobotDescription) -> float:
  """s, lag of the turning rate of two driven wheels whose servos have `wheel_gain`, tyres aside."""
  lever = robot.track / (2 * robot.wheel_radius)
  wheels = WHEEL_MASS * robot.mass * (robot.track / 2) ** 2 + 2 * rotor_inertia(robot) * lever**2
  return (robot.inertia + wheels) / (2 * wheel_gain(robot) * lever**2)


def centre_of_mass(robot: RobotDescription) -> float:
  """m above the ground: batteries and motors lie low."""
  return 1.2 * robot.wheel_radius


def _wheel(robot: RobotDescription, name: str, x: float, y: float, is_steered: bool) -> list[str]:
  """One wheel, a sphere that rolls about its axle; a steered one turns about a kingpin in its centre."""
  mass, radius = WHEEL_MASS * robot.mass, robot.wheel_radius
  spin, turn = 0.5 * mass * radius**2, 0.3 * mass * radius**2
  damping = STEER_STIFFNESS * robot.yaw_time_constant
  rotor = '' if is_steered else f' armature="{rotor_inertia(robot):g}"'
  lines = [f'<body name="{name}" pos="{x:g} {y:g} {radius:g}">']
  if is_steered:
    lines.append(f'  <joint name="steer_{name}" type="hinge" axis="0 0 1" damping="{damping:g}" armature=".01"/>')
  return [
    *lines,
    f'  <joint name="{name}" type="hinge" axis="0 1 0" damping=".002"{rotor}/>',
    f'  <inertial pos="0 0 0" mass="{mass:g}" diaginertia="{turn:g} {spin:g} {turn:g}"/>',
    f'  <geom type="sphere" size="{radius:g}" mass="0" rgba="0 0 0 0" group="3" class="rolling"/>',
    '  ' + _tyre(robot),
    '</body>',
  ]


def _wheels(robot: RobotDescription) -> str:
  places = wheel_places(robot)
  driven = list(places)[:2]
  wheel = WHEEL_MASS * robot.mass
  mass = robot.mass - wheel * len(places)
  # Wheels count with their masses at their places; the body has the rest of the inertia.
  turn = robot.inertia - sum(wheel * (x * x + y * y + 0.3 * robot.wheel_radius**2) for x, y in places.values())
  tilt = mass * (robot.footprint.width**2 + robot.height**2) / 12
  body = [
    '<body name="base">',
    '  <freejoint name="base"/>',
    f'  <inertial pos="0 0 {centre_of_mass(robot):g}" mass="{mass:g}" diaginertia="{tilt:g} {tilt:g} {turn:g}"/>',
    '  <site name="base" rgba="0 0 0 0"/>',
    *('  ' + line for line in [*_hull(robot), *_camera(robot)]),
  ]
  if robot.drive == 'differential':
    caster = robot.wheel_radius / 2
    for name, x in (('front', 0.4 * robot.footprint.length), ('back', -0.4 * robot.footprint.length)):
      body.append(
        f'  <geom name="caster_{name}" class="sliding" type="sphere" size="{caster:g}" pos="{x:g} 0 {caster:g}" '
        'mass="0" rgba=".3 .3 .3 1"/>'
      )
  for name, (x, y) in places.items():
    body += ['  ' + line for line in _wheel(robot, name, x, y, name not in driven)]
  body.append('</body>')
  top = 2 * robot.max_speed / robot.wheel_radius
  actuators = [
    f'<velocity name="{name}" joint="{name}" kv="{wheel_gain(robot):.9g}" ctrlrange="{-top:g} {top:g}"/>'
    for name in driven
  ]
  actuators += [
    f'<position name="steer_{name}" joint="steer_{name}" kp="{STEER_STIFFNESS:g}" '
    f'ctrlrange="{-1.3 * robot.max_steer:g} {1.3 * robot.max_steer:g}"/>'
    for name in places
    if name not in driven
  ]
  option = (
    f'<option timestep="{POLICY_STEP / WHEELS_SUBSTEPS:g}" integrator="implicitfast" iterations="4" '
    'ls_iterations="8"><flag eulerdamp="disable"/></option>'
  )
  return _document(robot, 'wheels', option, body, actuators)


def robot_mjcf(robot: RobotDescription, level: str = 'planar') -> str:
  """MuJoCo XML of the robot at a level of dynamics ('planar' or 'wheels'); ValueError for a level it lacks."""
  if level not in LEVELS:
    raise ValueError(f'level={level!r} must be one of {LEVELS}')
  if level == 'planar':
    return _planar(robot)
  if robot.drive == 'legged':
    raise ValueError(f"robot {robot.name!r} has legs, no level 'wheels'; use 'planar'")
  return _wheels(robot)
