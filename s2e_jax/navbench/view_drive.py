"""What the viewer shows of one judged episode: splats, solids, poses and texts over time. numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from s2e_jax.closedloop.metrics import CLASSES, NOBODY, contact_edges, episode_metrics
from s2e_jax.gaussians import SH_C0, Gaussians, rotation_matrices
from s2e_jax.navbench.view_solids import Height, Solid, goal_marks, people_of, raised, solids_of
from s2e_jax.robots import ROBOTS, RobotDescription, robot_description
from s2e_jax.structs import DT
from s2e_jax.worlds.builders import mount_of

_ASPECT, _SIGHT = 2.0, 0.6  # width by height of pictures; m that the drawn camera looks ahead
_ABOVE = 0.03  # m that lines lie above the floor
_MAX_SCALE = 250.0  # m: the page keeps variances in float16
_DRIVEN, _TOUCHED = (37, 99, 235), (220, 20, 20)
_SAME_CAMERA = 1e-4  # between the numbers of two cameras that are one


@dataclasses.dataclass(frozen=True)
class Splats:
  """Gaussians as the page takes them. centers: [N, 3] m. covariances: [N, 3, 3] m^2. rgbs: [N, 3] and opacities:
  [N, 1] in 0..1. share: of the scene's gaussians that were kept; share_seen: of all opacity times area."""

  centers: np.ndarray
  covariances: np.ndarray
  rgbs: np.ndarray
  opacities: np.ndarray
  share: float
  share_seen: float


@dataclasses.dataclass(frozen=True)
class Drive:
  """One episode up to its end, T steps. World: z up, metres, radians.

  position: [T+1, 3] on the floor. yaw, speed (m/s), way (m left), clearance (m): [T+1]. contact: [T] bool.
  contacts: [T+1] int, counted before each moment. people: [T+1, N, 3], those who are there.
  robot: whose outline is shown. facts: (name, value) that hold for the whole episode. solids: that never move.
  bodies, heads: [N] of the people, to be put where `people` says. frustum: [8, 2, 3] m, lines of the camera in the
  robot frame.
  """

  position: np.ndarray
  yaw: np.ndarray
  speed: np.ndarray
  way: np.ndarray
  clearance: np.ndarray
  contact: np.ndarray
  contacts: np.ndarray
  people: np.ndarray
  robot: RobotDescription
  facts: tuple[tuple[str, str], ...]
  solids: tuple[Solid, ...]
  bodies: tuple[Solid, ...]
  heads: tuple[Solid, ...]
  frustum: np.ndarray

  @property
  def seconds(self) -> float:
    """How long the episode took."""
    return len(self.contact) * DT


@dataclasses.dataclass(frozen=True)
class Moment:
  """What moves, at one time. position: [3] m, wxyz: [4] of the robot. people: [N, 3] m. facts: (name, value)."""

  position: np.ndarray
  wxyz: np.ndarray
  people: np.ndarray
  facts: tuple[tuple[str, str], ...]


def drive_of(
  traces: Any, row: int, goals: np.ndarray, height: Height, robot: RobotDescription, names: Sequence[str]
) -> Drive:
  """Episode `row` of `Traces` on the host.

  goals: [L, 2] m, in the order they are to be reached. height: of the floor. names: of policy, scene and task.
  """
  num = int(traces.num_steps[row])
  of = lambda name, end: np.asarray(getattr(traces, name)[row][:end], np.float64)
  position, contact = of('position', num + 1), np.asarray(traces.contact[row][:num], bool)
  people = of('people', num + 1)
  there = np.flatnonzero(traces.is_person[row])
  solids = solids_of(traces.scene, row, height, people.shape[1])
  bodies, heads = people_of(traces.scene, row, there, people.shape[1])
  figures = {name: float(values[row]) for name, values in episode_metrics(traces).items()}
  facts = [
    *zip(('policy', 'scene', 'task'), names, strict=True),
    ('ended', CLASSES[int(figures['failure'])].replace('_', ' ')),
    ('took', f'{figures["seconds"]:.2f} s, {figures["metres"]:.1f} m driven, {figures["contacts"]:.0f} contacts'),
  ]
  if int(traces.num_goals[row]) > 1:
    facts.append(('goals reached', f'{int(traces.goals_reached[row])} of {int(traces.num_goals[row])}'))
  mount = traces.scene.mount
  return Drive(
    position=raised(position, height),
    yaw=of('yaw', num + 1),
    speed=of('speed', num + 1),
    way=of('way', num + 1),
    clearance=of('clearance', num + 1),
    contact=contact,
    contacts=np.concatenate([[0], np.cumsum(contact_edges(contact[None])[0])]),
    people=raised(people[:, there], height),
    robot=robot,
    facts=tuple(facts),
    solids=(*solids, *goal_marks(goals, height)),
    bodies=bodies,
    heads=heads,
    frustum=frustum_of(*(float(np.asarray(v)[row]) for v in _camera(mount))),
  )


def moment_of(drive: Drive, seconds: float) -> Moment:
  """The episode `seconds` after its start, clipped to its length.

  Places and headings between moments lie on straight lines, headings the short way round; texts are of the last
  moment before.
  """
  at = float(np.clip(seconds, 0, drive.seconds)) / DT
  before = min(int(at + 1e-6), len(drive.contact))
  after = min(before + 1, len(drive.contact))
  part = max(at - before, 0.0)
  between = lambda x: (1 - part) * x[before] + part * x[after]
  turn = (drive.yaw[after] - drive.yaw[before] + np.pi) % (2 * np.pi) - np.pi
  clearance = drive.clearance[before]
  # a contact belongs to a step, which lies between two moments
  touches = before < len(drive.contact) and bool(drive.contact[before])
  facts = (
    ('time', f'{at * DT:.2f} of {drive.seconds:.2f} s'),
    ('way left', f'{drive.way[before]:.1f} m'),
    ('clearance', f'{clearance:.2f} m' if clearance < NOBODY else 'nothing near'),
    ('speed', f'{drive.speed[before]:.2f} m/s'),
    ('contacts so far', f'{int(drive.contacts[before])}' + (', touching now' if touches else '')),
  )
  return Moment(between(drive.position), yaw_wxyz(drive.yaw[before] + part * turn), between(drive.people), facts)


def robot_of(mount: Any, row: int, name: str | None) -> RobotDescription:
  """The robot of this name, or without one the robot whose camera the episode was driven with.

  mount: of the traces' scene, fields [B]. Raises ValueError for an unknown name, or a camera that no robot has.
  """
  if name:
    return robot_description(name)
  driven = [float(np.asarray(v)[row]) for v in _camera(mount)]
  for robot in ROBOTS.values():
    if np.allclose(driven, _camera(mount_of(robot.mount)), atol=_SAME_CAMERA):
      return robot
  raise ValueError(
    f'the camera {driven[0]:.2f} m high and {driven[1]:.2f} m ahead is of no robot in {sorted(ROBOTS)}: say with '
    '--robot whose outline to show'
  )


def splats_of(gaussians: Gaussians, max_gaussians: int = 0) -> Splats:
  """At most `max_gaussians` gaussians (0: all), those of most opacity times area, in their order.

  Colours are the mean over all directions: the page knows no others.
  """
  scale = np.minimum(np.asarray(gaussians.scale, np.float32), _MAX_SCALE)
  opacity = np.asarray(gaussians.opacity, np.float32)
  sides = np.sort(scale, axis=1)
  seen = (opacity * sides[:, 1] * sides[:, 2]).astype(np.float64)
  num = min(max_gaussians or gaussians.num, gaussians.num)
  kept = np.sort(np.argsort(-seen, kind='stable')[:num])
  axes = rotation_matrices(np.asarray(gaussians.rotation, np.float32)[kept]) * scale[kept, None, :]
  return Splats(
    centers=np.asarray(gaussians.mean, np.float32)[kept],
    covariances=axes @ axes.swapaxes(-1, -2),
    rgbs=np.clip(0.5 + SH_C0 * np.asarray(gaussians.sh, np.float32)[kept, 0], 0, 1),
    opacities=opacity[kept, None],
    share=num / max(gaussians.num, 1),
    share_seen=float(seen[kept].sum() / max(seen.sum(), 1e-12)),
  )


def frustum_of(height: float, forward: float, tan_pitch: float, half_width: float) -> np.ndarray:
  """[8, 2, 3] m, lines from the camera to the corners of its picture, and around it, in the robot frame."""
  eye = np.array([forward, 0.0, height])
  half_height = half_width / _ASPECT
  corners = [(1.0, y * half_width, z * half_height - tan_pitch) for y, z in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
  ends = eye + _SIGHT * np.array(corners)
  rays = [(eye, end) for end in ends]
  return np.array([*rays, *zip(ends, np.roll(ends, -1, axis=0), strict=True)])


def path_lines(drive: Drive) -> tuple[np.ndarray, np.ndarray]:
  """Lines [T, 2, 3] m of the driven path, and their colours [T, 2, 3] uint8, red where something was touched."""
  points = drive.position + np.array([0, 0, _ABOVE])
  colours = np.where(drive.contact[:, None], np.array(_TOUCHED, np.uint8), np.array(_DRIVEN, np.uint8))
  return np.stack([points[:-1], points[1:]], axis=1), np.repeat(colours[:, None], 2, axis=1)


def yaw_wxyz(yaw: float) -> np.ndarray:
  """[4] quaternion w, x, y, z of a turn by `yaw` (rad) about z."""
  return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def _camera(mount: Any) -> tuple[Any, ...]:
  return mount.height, mount.forward, mount.tan_pitch, mount.half_width
