"""Prepares a splat scene for the benchmark: python -m s2e_jax.navbench.prepare SCENE --out=DIR.

SCENE is any splat file or folder that `s2e_jax.navbench.formats` reads. DIR gets scene.json, gaussians.npz,
maps.npz, episodes_<task>.json and pictures/{map,views}.png. Look at the pictures and at the printed figures
before anything is judged in the scene: up axis and scale can be set with --up and --scale. What a triangle mesh
shows, such as glass that gaussians hardly do, is an obstacle too: --mesh=FILE, or the mesh of a Vid2Sim scene.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench.arcs import Turns, turns_of
from s2e_jax.navbench.episode_files import write_episodes
from s2e_jax.navbench.episodes import (
  TASKS,
  PlannedEpisode,
  Sampling,
  blocked_share,
  graph_of,
  leg_span,
  sample_episodes,
)
from s2e_jax.navbench.formats.mesh import read_mesh
from s2e_jax.navbench.formats.read import read_gaussians
from s2e_jax.navbench.formats.vid2sim import mesh_beside, splat_of
from s2e_jax.navbench.frame import apply_similarity, detect_frame
from s2e_jax.navbench.ground_field import GroundField
from s2e_jax.navbench.map_pictures import write_map
from s2e_jax.navbench.maps import MAX_SLOPE, Maps, build_maps_with_mesh
from s2e_jax.navbench.mesh_cells import Mesh
from s2e_jax.navbench.occupancy import Band
from s2e_jax.navbench.routes import RouteGraph
from s2e_jax.navbench.scale_check import scale_figures, scale_lines
from s2e_jax.navbench.scene_folder import PICTURES, PreparedScene, hash_of_source, write_scene
from s2e_jax.navbench.views import write_views
from s2e_jax.robots import ROBOTS, robot_description

# Writes eye-level pictures of a prepared scene with its episodes into a folder; returns their paths.
WriteViews = Callable[[PreparedScene, Mapping[str, Sequence[PlannedEpisode]], Path], Sequence[Path]]
Say = Callable[[str], None]
BESIDE, NO_MESH = 'beside', 'none'  # for the file of a mesh
_MIN_OPACITY = 0.5 / 255  # less is nothing once it is stored in 8 bits


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is made of a scene. up, scale: as in `detect_frame`. cell: m of the maps. robot_radius: m.

  turns: of a robot that has to drive to turn. tasks: of `episodes.TASKS`. num, seed: episodes per task and what
  they are drawn from.
  """

  up: str | None = None
  scale: float | None = None
  cell: float = 0.1
  band: Band = Band()
  max_slope: float = MAX_SLOPE
  robot_radius: float = ROBOTS['delivery'].radius
  turns: Turns | None = None
  tasks: tuple[str, ...] = TASKS
  num: int = 25
  seed: int = 0
  sampling: Sampling = Sampling()


def prepare_gaussians(
  gaussians: Gaussians,
  out: Path,
  name: str,
  source: Mapping[str, Any],
  settings: Settings = Settings(),
  write_views: WriteViews | None = None,
  say: Say = print,
  mesh: Mesh | None = None,
) -> tuple[PreparedScene, dict[str, list[PlannedEpisode]]]:
  """Prepares gaussians in the frame of their file and writes the folder `out`; returns the scene and its episodes.

  source: JSON-able facts about where they come from, kept in scene.json. write_views: draws eye-level pictures;
  none are drawn without it. say: gets a line per step. mesh: in the frame of the gaussians' file; what it occupies
  is occupied in the maps as well. Raises ValueError, before anything is written, when the scene has no ground, no
  connected drivable region, no way of the wanted length, an absurd scale, or a mesh of another place.
  """
  clock = _Clock(say)
  world_from_file, frame = detect_frame(gaussians, settings.up, settings.scale)
  visible = np.asarray(gaussians.opacity) >= _MIN_OPACITY
  num_invisible = int((~visible).sum())
  if num_invisible:
    gaussians = Gaussians(**{f.name: getattr(gaussians, f.name)[visible] for f in dataclasses.fields(gaussians)})
  gaussians = apply_similarity(gaussians, world_from_file)
  clock.done(
    f'frame: up in the file {_vector(frame.up_in_file)} ({frame.found_by}, confidence {frame.confidence:.2f}), '
    f'ground leans {frame.ground_lean:.1f} degrees'
  )
  for note in frame.notes:
    say(f'  {note}')
  triangles = None if mesh is None else world_from_file.points(mesh.vertices)[mesh.faces]
  maps, ground, brought = build_maps_with_mesh(
    gaussians, triangles, settings.robot_radius, settings.cell, settings.band, settings.max_slope
  )
  clock.done(f'maps: {maps.grid.shape[0]} x {maps.grid.shape[1]} cells, {maps.drivable_area:.1f} m^2 drivable')
  graph = graph_of(maps)
  leg_span(graph, settings.sampling)
  figures = scale_figures(gaussians, maps, graph)
  about = {
    'source': dict(source),
    'frame': frame.to_dict(),
    'num_gaussians': gaussians.num,
    'num_dropped_as_invisible': num_invisible,
    'sh_degree': gaussians.sh_degree,
    'bounds': _bounds(gaussians, maps),
    'cell': settings.cell,
    'band': dataclasses.asdict(settings.band),
    'max_slope': settings.max_slope,
    'ground': _ground_stats(ground, maps),
    'figures': figures,
  }
  if mesh is not None and brought is not None:
    about['mesh'] = {'file': mesh.file, 'sha256': mesh.sha256, 'num_faces': len(mesh.faces), **brought.to_dict()}
    say(
      f'  mesh {mesh.file}: {brought.num} cells in the height band, {brought.num_only} that no gaussian occupies; '
      f'{brought.near:.0%} lie by what gaussians occupy (hardly any: is the mesh in their frame? look at the map)'
    )
  scene = write_scene(out, name, gaussians, maps, world_from_file, about)
  clock.done(f'scene {name!r} written, hash {scene.hash[:16]}')
  episodes = _draw_episodes(scene, settings, graph, clock)
  pictures = out / PICTURES
  pictures.mkdir(exist_ok=True)
  lines = ['Are metres metres? ' + scale_lines(figures)[0], *scale_lines(figures)[1:]]
  write_map(pictures / 'map.png', name, scene.gaussians, maps, episodes, lines)
  clock.done(f'picture: {pictures / "map.png"}')
  if write_views is not None:
    views = write_views(scene, episodes, pictures)
    clock.done(f'views: {len(views)} pictures')
  for line in lines:
    say(line)
  return scene, episodes


def prepare(
  path: Path,
  out: Path,
  settings: Settings = Settings(),
  name: str = '',
  level: int | None = None,
  write_views: WriteViews | None = None,
  say: Say = print,
  mesh: str | Path = BESIDE,
) -> tuple[PreparedScene, dict[str, list[PlannedEpisode]]]:
  """Reads a splat file or folder and prepares it, see `prepare_gaussians`. level: of detail, if there are any.

  mesh: a triangle mesh (PLY) in the units and axes of the splat, 'beside' for the one of a Vid2Sim scene where
  there is one, or 'none'.
  """
  clock = _Clock(say)
  splat = splat_of(path)
  surface = _mesh_of(splat, mesh)
  gaussians, report = read_gaussians(splat, level)
  source = {
    'file': splat.name,
    'sha256': hash_of_source(splat),
    'format': report.format,
    'version': report.version,
    'level': report.level,
    'num_read': report.num_read,
    'num_dropped': report.num_dropped,
    'dropped': dict(report.dropped),
  }
  dropped = ', '.join(f'{reason} {count}' for reason, count in report.dropped.items())
  clock.done(
    f'read {splat.name}: {report.num_kept} gaussians ({report.format}, spherical harmonics of degree '
    f'{report.sh_degree}); dropped {report.num_dropped}' + (f' ({dropped})' if dropped else '')
  )
  for note in report.notes:
    say(f'  {note}')
  named = name or (path.stem if path.is_file() else path.resolve().name)
  return prepare_gaussians(gaussians, out, named, source, settings, write_views, say, surface)


def _mesh_of(splat: Path, given: str | Path) -> Mesh | None:
  path = {BESIDE: mesh_beside(splat), NO_MESH: None}.get(str(given), Path(given))
  if path is None:
    return None
  try:
    vertices, faces = read_mesh(path)
  except (ValueError, OSError) as error:
    raise ValueError(f'{error}, or leave the mesh out with --mesh={NO_MESH}') from error
  return Mesh(path.name, hash_of_source(path), vertices, faces)


def _draw_episodes(
  scene: PreparedScene, settings: Settings, graph: RouteGraph, clock: _Clock
) -> dict[str, list[PlannedEpisode]]:
  episodes = {}
  for task in settings.tasks:
    drawn = sample_episodes(
      scene.maps, task, settings.num, settings.seed, scene.hash, settings.sampling, graph, settings.turns
    )
    write_episodes(
      scene.folder,
      task,
      drawn,
      scene_name=scene.name,
      scene_hash=scene.hash,
      seed=settings.seed,
      robot_radius=scene.maps.robot_radius,
      turn_radius=0.0 if settings.turns is None else settings.turns.radius,
    )
    lengths = [episode.geodesic_length for episode in drawn]
    clock.done(
      f'{task}: {len(drawn)} episodes, ways {min(lengths):.1f} to {max(lengths):.1f} m, straight line blocked in '
      f'{blocked_share(drawn):.0%}'
    )
    episodes[task] = drawn
  return episodes


def _ground_stats(ground: GroundField, maps: Maps) -> dict[str, Any]:
  heights = maps.ground[maps.drivable]
  return {
    'num_gaussians': ground.num,
    'spread': round(ground.spread, 4),
    'height_on_drivable': [round(float(v), 3) for v in np.percentile(heights, [0, 5, 50, 95, 100])],
  }


def _bounds(gaussians: Gaussians, maps: Maps) -> dict[str, Any]:
  mean = np.asarray(gaussians.mean)
  (x, y), (nx, ny), cell = maps.grid.origin, maps.grid.shape, maps.grid.cell
  short = lambda values: [round(float(v), 3) for v in values]
  return {
    'gaussians_low': short(mean.min(axis=0)),
    'gaussians_high': short(mean.max(axis=0)),
    'maps_low': short((x, y)),
    'maps_high': short((x + nx * cell, y + ny * cell)),
  }


def _vector(values: Sequence[float]) -> str:
  return '(' + ', '.join(f'{v:.2g}' for v in values) + ')'


class _Clock:
  """Says what was done and how many seconds it took."""

  def __init__(self, say: Say):
    self._say, self._since = say, time.perf_counter()

  def done(self, what: str) -> None:
    now = time.perf_counter()
    self._say(f'[{now - self._since:6.1f} s] {what}')
    self._since = now


def define_flags() -> None:
  """Called as a command only: several of the package's commands have a flag of the same name."""
  flags.DEFINE_string('out', None, 'Folder of the prepared scene.', required=True)
  flags.DEFINE_string('name', '', 'Name of the scene (default: of the file or folder).')
  flags.DEFINE_string(
    'up', None, "Up in the file: z, -y, ... or three numbers; looked for by default. '-y': --up=-y."
  )
  flags.DEFINE_float('scale', None, 'Metres per unit of the file; by default its units are taken for metres.')
  flags.DEFINE_integer('level', None, 'Level of detail of a streamed scene; by default the finest there is.')
  flags.DEFINE_string(
    'mesh', BESIDE, "Mesh (PLY) in the splat's frame; 'beside': a Vid2Sim scene's own; or 'none'."
  )
  flags.DEFINE_float('cell', 0.1, 'm, cells of the maps.')
  flags.DEFINE_float('band_low', 0.1, 'm above the ground: what ends lower is driven over.')
  flags.DEFINE_float('band_high', 1.2, 'm above the ground: what begins higher is driven under.')
  flags.DEFINE_float('max_slope', MAX_SLOPE, 'Rise over run that the robot drives up.')
  flags.DEFINE_enum('robot', 'delivery', sorted(ROBOTS), 'Whose radius and turns ways are planned for.')
  flags.DEFINE_float('robot_radius', None, 'm; instead of the radius of --robot.')
  flags.DEFINE_list('tasks', list(TASKS), 'Tasks to draw episodes of.')
  flags.DEFINE_integer('episodes', 25, 'Episodes per task.')
  flags.DEFINE_integer('seed', 0, 'Episodes are drawn from the scene, the task and this.')
  flags.DEFINE_bool('views', True, 'Draw pictures/views.png, what robots will see; compiles for some seconds.')
  flags.DEFINE_float('min_length', None, 'm of the shortest way to a goal; by default 8, less in small scenes.')
  flags.DEFINE_float('max_length', None, 'm of the same; by default 28, less in small scenes.')


def main(argv: Sequence[str]) -> None:
  """The command; says what is wrong in one line instead of a traceback."""
  if len(argv) != 2:
    raise app.UsageError(f'one scene is prepared at a time, got {list(argv[1:])}')
  given = flags.FLAGS
  try:
    settings = Settings(
      up=given.up,
      scale=given.scale,
      cell=given.cell,
      band=Band(low=given.band_low, high=given.band_high),
      max_slope=given.max_slope,
      robot_radius=robot_description(given.robot).radius if given.robot_radius is None else given.robot_radius,
      turns=turns_of(robot_description(given.robot)),
      tasks=tuple(given.tasks),
      num=given.episodes,
      seed=given.seed,
      sampling=Sampling(given.min_length, given.max_length),
    )
    views = write_views if given.views else None
    prepare(Path(argv[1]), Path(given.out), settings, given.name, given.level, views, mesh=given.mesh)
  except ValueError as error:
    raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
  define_flags()
  app.run(main)
