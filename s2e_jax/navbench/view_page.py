"""The viewer's page: what `view_drive` and `view_solids` say is shown, as nodes and controls of viser."""

from __future__ import annotations

import html
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from s2e_jax.gaussians import rotation_matrices
from s2e_jax.navbench.view_drive import Drive, Splats, moment_of, path_lines
from s2e_jax.navbench.view_point import first_view
from s2e_jax.navbench.view_solids import Solid, robot_solid

_PICTURES = 20  # per second while it plays
_FRUSTUM, _PATH_WIDTH, _SEE_THROUGH = (30, 30, 30), 0.05, 0.35


def require_viser() -> Any:
  """The module; ImportError with the remedy where it is not installed."""
  try:
    import viser
  except ImportError as error:
    raise ImportError("the viewer needs viser: pip install 's2e_jax[viewer]'") from error
  return viser


def check_address(host: str, port: int) -> None:
  """Raises ValueError unless a server can listen there: the library would take another port, or never begin."""
  if not 1 <= port <= 65535:
    raise ValueError(f'port={port} must be 1 to 65535')
  if not host:  # a server takes this for every address
    raise ValueError("host='' is no address: leave it out for 127.0.0.1, this machine only")
  try:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    socket.create_server((host, port), family=family).close()
  except (OSError, UnicodeError) as error:
    raise ValueError(
      f'host={host} port={port} cannot be listened on ({error}): choose another --port, or an address of this '
      'machine as --host'
    ) from error


class Page:
  """The page of one episode, served from its making until `close`.

  slider: seconds. play: whether it runs on by itself. speed: seconds shown per second. robot: node of the scene.
  people: for each person the nodes of body and head.
  """

  def __init__(self, drive: Drive, splats: Splats, host: str = '127.0.0.1', port: int = 8080) -> None:
    """Raises ImportError without viser, and ValueError for an address that cannot be listened on."""
    viser = require_viser()
    check_address(host, port)
    self._drive, self._lock = drive, threading.Lock()
    self.server = viser.ViserServer(host=host, port=port, label='NavBench', verbose=False)
    # a share would send the page through a stranger's machine
    self.server.gui.configure_theme(show_share_button=False, show_logo=False)
    scene = self.server.scene
    scene.set_up_direction('+z')
    eye, target = first_view(
      splats.centers, splats.covariances, splats.opacities[:, 0], drive.position[0], float(drive.yaw[0])
    )
    self.server.initial_camera.position, self.server.initial_camera.look_at = eye, target
    scene.add_gaussian_splats('/splats', splats.centers, splats.covariances, splats.rgbs, splats.opacities)
    for solid in drive.solids:
      opacity = _SEE_THROUGH if solid.name.endswith('disc') else None
      self._add(f'/things/{solid.name}', solid, opacity)
    if len(drive.contact):
      lines, colours = path_lines(drive)
      scene.add_line_segments('/path', lines, colours, thickness=_PATH_WIDTH)
    self.robot = scene.add_frame('/robot', show_axes=False)
    self._add('/robot/body', robot_solid(drive.robot))
    colours = np.full(drive.frustum.shape, _FRUSTUM, np.uint8)
    scene.add_line_segments('/robot/camera', drive.frustum, colours, thickness=_PATH_WIDTH / 3)
    self.people = [
      tuple(self._add(f'/people/{part.name}', part) for part in parts)
      for parts in zip(drive.bodies, drive.heads, strict=True)
    ]
    gui = self.server.gui
    gui.add_html(_table(drive.facts))
    self._facts = gui.add_html('')
    self.slider = gui.add_slider('time (s)', 0.0, max(drive.seconds, 0.25), 0.01, 0.0)
    self.play = gui.add_checkbox('play', False)
    self.speed = gui.add_slider('speed', 0.25, 8.0, 0.25, 1.0)
    gui.add_button('look through its camera').on_click(lambda event: self.look_through(event.client))
    gui.add_html(_table([('gaussians', about_splats(splats))]))
    self.slider.on_update(lambda _: self._show())
    self.play.on_update(lambda _: self._rewind())
    self._show()

  @property
  def url(self) -> str:
    """Where the page is."""
    host = self.server.get_host()
    return f'http://{f"[{host}]" if ":" in host else host}:{self.server.get_port()}'

  def run(self, stopped: threading.Event) -> None:
    """Plays, while `play` is ticked, until `stopped` is set."""
    last = time.perf_counter()
    while not stopped.wait(1 / _PICTURES):
      now = time.perf_counter()
      self.advance(now - last)
      last = now

  def advance(self, seconds: float) -> None:
    """Moves the slider on by so many seconds times the speed if it plays; at the end it plays no more."""
    if not self.play.value:
      return
    then = self.slider.value + seconds * self.speed.value
    self.slider.value = min(then, self._drive.seconds)
    if then >= self._drive.seconds:
      self.play.value = False

  def look_through(self, client: Any) -> None:
    """Puts the view of one visitor where the robot's camera is now, looking where that looks."""
    eye, *corners = self._drive.frustum[0, 0], *self._drive.frustum[:4, 1]
    eye, ahead = self._in_world(self.slider.value, np.stack([eye, np.mean(corners, axis=0)]))
    with client.atomic():
      client.camera.position, client.camera.look_at = eye, ahead

  def close(self) -> None:
    """Stops serving."""
    self.server.stop()

  def _rewind(self) -> None:
    """From the end it plays from the start."""
    if self.play.value and self.slider.value >= self._drive.seconds:
      self.slider.value = 0.0

  def _show(self) -> None:
    with self._lock, self.server.atomic():
      moment = moment_of(self._drive, self.slider.value)
      self.robot.position, self.robot.wxyz = moment.position, moment.wxyz
      for parts, place in zip(self.people, moment.people, strict=True):
        for part in parts:
          part.position = place
      self._facts.content = _table(moment.facts)

  def _in_world(self, seconds: float, points: np.ndarray) -> np.ndarray:
    """[N, 3] m of points [N, 3] m in the robot frame."""
    moment = moment_of(self._drive, seconds)
    return moment.position + points @ rotation_matrices(moment.wxyz).T

  def _add(self, name: str, solid: Solid, opacity: float | None = None) -> Any:
    vertices, faces = solid.vertices.astype(np.float32), solid.faces.astype(np.uint32)
    return self.server.scene.add_mesh_simple(
      name, vertices, faces, color=solid.colour, opacity=opacity, flat_shading=True, position=solid.position
    )


def about_splats(splats: Splats) -> str:
  """How many gaussians are shown, and which share of the scene that is."""
  return (
    f'{len(splats.centers)}, {splats.share:.1%} of the scene and {splats.share_seen:.1%} of its opacity times area'
  )


def _table(facts: Sequence[tuple[str, str]]) -> str:
  rows = (f'<tr><td>{html.escape(name)}&ensp;</td><td>{html.escape(value)}</td></tr>' for name, value in facts)
  return f'<table style="margin:0.5em 1em;font-size:0.85em;text-align:left">{"".join(rows)}</table>'
