"""What a mesh occupies: glass that no gaussian shows, in any units and axes; nothing changes without a mesh."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from s2e_jax.navbench import prepare as prepare_command
from s2e_jax.navbench.formats.mesh import read_mesh
from s2e_jax.navbench.formats.read import read_gaussians, write_ply
from s2e_jax.navbench.frame import apply_similarity, detect_frame
from s2e_jax.navbench.ground_field import find_ground
from s2e_jax.navbench.maps import FIELDS, build_maps, build_maps_with_mesh
from s2e_jax.navbench.mesh_cells import Mesh, surface_layers
from s2e_jax.navbench.occupancy import Band, clean, signed_distance, solid_layers, thin_parts
from s2e_jax.navbench.prepare import Settings, prepare, prepare_gaussians
from s2e_jax.navbench.scene_folder import hash_of_source
from tests.navbench.procedural_splats import Solid, World, courtyard, splat, turned

RADIUS = 0.3
YARD = World((Solid(6, 2, 0.6, 0.6, 1.0), Solid(-6, -2, 0.5, None, 1.2)), slope=0.06)
PANE = 0.34  # m, x of the pane: within a cell of the maps, not on the line between two
ENDS = np.array([[-4.0, 1.0], [4.0, -1.0]])  # on either side of the pane


def quad(a, b, c, d):
  """[2, 3, 3] the triangles of a flat four-sided thing."""
  return np.array([[a, b, c], [a, c, d]], float)


def pane(x=PANE, half=4.9, low=0.0, high=2.0, ground=0.0):
  """[2, 3, 3] an upright pane across the yard, from low to high m above the ground there."""
  z = ground + np.array([low, high])
  return quad((x, -half, z[0]), (x, half, z[0]), (x, half, z[1]), (x, -half, z[1]))


def floor_of(world):
  """[2, 3, 3] the ground of a world, far beyond what is seen of it."""
  corners = [np.array([x, y]) for x, y in ((-90, -70), (80, -70), (80, 60), (-90, 60))]
  return quad(*((*corner, world.ground(corner)) for corner in corners))


def in_world(world, gaussians=None):
  gaussians = splat(world) if gaussians is None else gaussians
  similarity, _ = detect_frame(gaussians, up='z')
  return apply_similarity(gaussians, similarity), similarity


@pytest.fixture(scope='module')
def yard():
  """(gaussians in the world, the similarity, maps without a mesh)."""
  gaussians, similarity = in_world(YARD)
  return gaussians, similarity, build_maps(gaussians, RADIUS)[0]


def is_drivable(maps, points=ENDS):
  return maps.grid.at(maps.drivable, points, False)


def write_mesh(path, triangles):
  """A PLY file of triangles that share no corners."""
  head = (
    f'ply\nformat binary_little_endian 1.0\nelement vertex {3 * len(triangles)}\nproperty float x\n'
    f'property float y\nproperty float z\nelement face {len(triangles)}\n'
    'property list uchar int vertex_indices\nend_header\n'
  )
  faces = np.zeros(len(triangles), [('n', 'u1'), ('rows', '<i4', (3,))])
  faces['n'], faces['rows'] = 3, np.arange(3 * len(triangles)).reshape(-1, 3)
  path.write_bytes(head.encode() + np.asarray(triangles, '<f4').tobytes() + faces.tobytes())
  return path


def test_glass_is_blocked_with_the_mesh_and_free_without(yard):
  gaussians, similarity, without = yard
  assert is_drivable(without).all()
  triangles = similarity.points(pane(ground=YARD.ground(np.array([PANE, 0.0]))))
  maps, _, brought = build_maps_with_mesh(gaussians, triangles, RADIUS)
  # the pane parts the yard: the larger side is what is left
  assert is_drivable(maps).tolist() == [True, False]
  along = np.column_stack([np.full(91, PANE), np.linspace(-4.5, 4.5, 91)])
  assert maps.grid.at(maps.occupied, along, False).all()
  assert not maps.grid.at(without.occupied, along, False).any()
  points = maps.grid.centres()
  beside = (np.abs(points[..., 1]) < 4) & (np.abs(points[..., 0] - PANE) < 2)
  assert np.abs(maps.distance - np.abs(points[..., 0] - PANE))[beside].max() < 0.1
  assert brought.num_only == (maps.occupied & ~without.occupied).sum()
  assert 98 <= brought.num_only <= 2 * 98 + 4  # a cell or two wide over 9.8 m
  assert brought.near < 0.1  # no gaussian shows it


def test_the_band_decides_for_a_mesh_as_for_gaussians(yard):
  gaussians, similarity, without = yard
  ground = YARD.ground(np.array([PANE, 0.0]))
  of = lambda band=Band(), **place: build_maps_with_mesh(
    gaussians, similarity.points(pane(ground=ground, **place)), RADIUS, band=band
  )[0]
  kerb, lintel = {'low': 0.0, 'high': 0.07}, {'low': 1.3, 'high': 2.5}
  for place in (kerb, lintel):
    np.testing.assert_array_equal(of(**place).occupied, without.occupied)
  assert not is_drivable(of(Band(low=0.04), **kerb)).all()
  assert not is_drivable(of(Band(high=1.6), **lintel)).all()


def test_triangles_of_the_ground_add_nothing(yard):
  gaussians, similarity, without = yard
  maps, _, brought = build_maps_with_mesh(gaussians, similarity.points(floor_of(YARD)), RADIUS)
  for field in FIELDS:
    np.testing.assert_array_equal(getattr(maps, field), getattr(without, field))
  assert (brought.num, brought.num_only) == (0, 0)


def test_specks_of_a_mesh_go_and_closed_hulls_are_filled(yard):
  gaussians, similarity, without = yard
  z = YARD.ground(np.array([2.0, 0.0])) + similarity.translation[2]
  speck = quad((2, 0, z + 0.5), (2.1, 0, z + 0.5), (2.1, 0, z + 0.7), (2, 0, z + 0.7))
  maps, _, _ = build_maps_with_mesh(gaussians, speck, RADIUS)
  np.testing.assert_array_equal(maps.occupied, without.occupied)
  # a car that is only in the mesh: four sides without a floor below
  corners = [(1.2, -0.8), (2.8, -0.8), (2.8, 0.8), (1.2, 0.8)]
  sides = [
    quad((*a, z), (*b, z), (*b, z + 1.4), (*a, z + 1.4))
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
  ]
  hidden = (np.abs(gaussians.mean[:, 0] - 2) < 0.8) & (np.abs(gaussians.mean[:, 1]) < 0.8)
  bare = dataclasses.replace(
    gaussians, **{f.name: getattr(gaussians, f.name)[~hidden] for f in dataclasses.fields(gaussians)}
  )
  maps, _, _ = build_maps_with_mesh(bare, np.concatenate(sides), RADIUS)
  assert maps.grid.at(maps.distance, np.array([2.0, 0.0]), 9.0) < -0.5


def test_layers_of_triangles_are_those_of_many_points_on_them(monkeypatch):
  from s2e_jax.navbench import mesh_cells

  gaussians, _ = in_world(courtyard())
  ground = find_ground(gaussians)
  rng = np.random.default_rng(0)
  corner = rng.uniform((-9, -6, -1), (9, 6, 2), (40, 1, 3))
  triangles = corner + rng.normal(size=(40, 3, 3)) * np.exp(rng.uniform(-4, 1, (40, 1, 1)))
  band = Band()
  layers = surface_layers(triangles, ground, band)
  grid = ground.grid.refined(2)
  share = rng.dirichlet((1, 1, 1), 15_000)
  seen = np.zeros(layers.shape, bool)
  for triangle in triangles:
    points = share @ triangle
    above = points[:, 2] - ground.grid.sample(ground.height, points)
    cells = grid.cells(points)
    cells = cells[grid.holds(cells) & (above >= band.low) & (above < band.high)]
    seen[tuple(cells.T)] = True
  assert 300 < seen.sum() < 0.8 * seen.size
  # corners of cells that a triangle cuts by a hair differ, whole cells do not
  assert (layers > 0)[seen].mean() > 0.98
  assert not (seen & ~ndimage.binary_dilation(layers > 0, np.ones((3, 3)))).any()
  assert not ((layers > 0) & ~ndimage.binary_dilation(seen, np.ones((3, 3)))).any()
  monkeypatch.setattr(mesh_cells, '_CHUNK', 1000)
  np.testing.assert_array_equal(surface_layers(triangles, ground, band), layers)
  assert surface_layers(pane(), ground, band).max() == 11


def clean_of_gaussians_alone(layers, has_floor, band, cell):
  """Plain twin of `clean`, as it was before there were meshes."""
  mask = layers > 0
  labels, num = ndimage.label(mask, np.ones((3, 3)))
  step = (band.high - band.low) / max(1, round((band.high - band.low) / 0.1))
  for k in range(1, num + 1):
    own = labels == k
    if own.sum() * cell**2 < band.min_area and layers[own].max() * step < band.min_height:
      mask = mask & ~own
  holes, num = ndimage.label(~mask)
  border = set(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
  for k in set(range(1, num + 1)) - border:
    own = holes == k
    if has_floor[own].sum() < 0.3 * own.sum() or own.sum() * cell**2 < 0.05:
      mask = mask | own
  return ndimage.binary_erosion(mask, border_value=1) | thin_parts(mask)


def test_without_a_mesh_maps_are_bit_for_bit_those_of_gaussians_alone(yard):
  gaussians, _ = in_world(courtyard(), splat(courtyard(), seed=4))
  maps, ground = build_maps(gaussians, RADIUS)
  layers = solid_layers(gaussians, ground, Band(), 2)
  floor = ground.has_support.repeat(2, axis=0).repeat(2, axis=1)
  fine = clean_of_gaussians_alone(layers, floor, Band(), 0.05)
  np.testing.assert_array_equal(clean(layers, floor, Band(), 0.05), fine)
  blocks = lambda x: x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2)
  distance = blocks(signed_distance(fine, 0.05)).mean(axis=(1, 3))
  np.testing.assert_array_equal(maps.distance, np.round(distance, 3).astype(np.float32))
  np.testing.assert_array_equal(maps.occupied, (distance < -1e-4) | blocks(thin_parts(fine)).any(axis=(1, 3)))
  assert build_maps_with_mesh(gaussians, None, RADIUS)[2] is None


def settings(**changes):
  return Settings(**({'up': 'z', 'tasks': ('empty',), 'num': 2, 'robot_radius': RADIUS} | changes))


def as_mesh(triangles):
  vertices = np.asarray(triangles, np.float32).reshape(-1, 3)
  return Mesh('glass.ply', 'f' * 64, vertices, np.arange(len(vertices)).reshape(-1, 3))


def test_scene_json_tells_of_a_mesh_and_says_nothing_without(tmp_path):
  lines = []
  triangles = pane(ground=YARD.ground(np.array([PANE, 0.0])))
  quiet = {'say': lambda line: None}
  before, _ = prepare_gaussians(splat(YARD), tmp_path / 'a', 'yard', {}, settings(), **quiet)
  scene, _ = prepare_gaussians(
    splat(YARD), tmp_path / 'b', 'yard', {}, settings(), say=lines.append, mesh=as_mesh(triangles)
  )
  assert 'mesh' not in before.about and before.hash != scene.hash
  about = json.loads((tmp_path / 'b' / 'scene.json').read_text())
  num = int((scene.maps.occupied & ~before.maps.occupied).sum())
  assert about['mesh'] == scene.about['mesh']
  assert about['mesh'].items() >= {'file': 'glass.ply', 'sha256': 'f' * 64, 'num_faces': 2}.items()
  assert about['mesh']['cells_only_of_mesh'] == num > 90
  for key in ('source', 'frame', 'num_gaussians', 'gaussians_sha256'):
    assert about[key] == before.about[key]
  assert any('mesh glass.ply' in line and f'{num} that no gaussian occupies' in line for line in lines)
  assert 'mesh' not in repr(settings())  # shipped scenes are kept under this


@pytest.mark.parametrize(('up', 'scale'), [('-y', 2.5), ('x', 0.04)])
def test_a_mesh_of_other_units_and_axes_goes_the_way_of_the_gaussians(tmp_path, up, scale, yard):
  direction = {'-y': (0, -1, 0), 'x': (1, 0, 0)}[up]
  rotation = Rotation.align_vectors([direction], [(0, 0, 1)])[0].as_matrix()
  gaussians = turned(splat(YARD), rotation, 1 / scale)
  triangles = pane(ground=YARD.ground(np.array([PANE, 0.0]))) / scale @ rotation.T
  scene, _ = prepare_gaussians(
    gaussians,
    tmp_path,
    'yard',
    {},
    settings(up=up, scale=scale),
    say=lambda line: None,
    mesh=as_mesh(triangles),
  )
  place = lambda points: scene.world_from_file.points(
    np.column_stack([points, YARD.ground(points)]) / scale @ rotation.T
  )[..., :2]
  along = np.column_stack([np.full(81, PANE), np.linspace(-4.4, 4.4, 81)])
  assert scene.maps.grid.at(scene.maps.occupied, place(along), False).all()
  assert is_drivable(scene.maps, place(ENDS)).tolist() == [True, False]
  assert 98 <= scene.about['mesh']['cells_only_of_mesh'] <= 300


def test_a_mesh_of_another_place_is_refused(tmp_path):
  for moved in (pane() + [200, 0, 0], 1e3 * pane() + [5e3, 0, 0]):
    with pytest.raises(ValueError, match=r'the mesh spans x .* must lie in its scene, in the units and axes'):
      prepare_gaussians(
        splat(YARD), tmp_path / 'no', 'yard', {}, settings(), say=lambda line: None, mesh=as_mesh(moved)
      )
  assert not (tmp_path / 'no').exists()


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """A folder as of the release, with a pane in its mesh."""
  folder = tmp_path_factory.mktemp('raw') / '0007'
  folder.mkdir()
  write_ply(folder / 'point_cloud.ply', splat(YARD))
  write_mesh(folder / 'tsdf_fusion_post.ply', pane(ground=YARD.ground(np.array([PANE, 0.0]))))
  return folder


def test_a_scene_of_the_release_brings_its_mesh(released, tmp_path):
  quiet = {'say': lambda line: None}
  assert read_gaussians(released)[0].num == read_gaussians(released / 'point_cloud.ply')[0].num
  scene, _ = prepare(released, tmp_path / 'a', settings(), **quiet)
  mesh = released / 'tsdf_fusion_post.ply'
  assert scene.name == '0007'
  assert scene.about['source']['sha256'] == hash_of_source(released / 'point_cloud.ply')
  assert (scene.about['mesh']['file'], scene.about['mesh']['sha256']) == (mesh.name, hash_of_source(mesh))
  assert scene.about['mesh']['cells_only_of_mesh'] > 90
  bare, _ = prepare(released, tmp_path / 'b', settings(), **quiet, mesh='none')
  assert 'mesh' not in bare.about
  alone = tmp_path / 'alone.ply'
  alone.write_bytes((released / 'point_cloud.ply').read_bytes())
  given, _ = prepare(alone, tmp_path / 'c', settings(), **quiet, mesh=mesh)
  assert given.about['mesh'] == scene.about['mesh']
  assert given.about['maps_sha256'] == scene.about['maps_sha256'] != bare.about['maps_sha256']


def test_bad_meshes_are_refused_before_anything_is_written(released, tmp_path):
  no_faces = tmp_path / 'no_faces.ply'
  no_faces.write_bytes(write_mesh(no_faces, pane()).read_bytes().replace(b'element face 2', b'element face 0'))
  foreign = tmp_path / 'foreign.obj'
  foreign.write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n')
  cut = write_mesh(tmp_path / 'cut.ply', pane())
  cut.write_bytes(cut.read_bytes()[:-5])
  for path, found in (
    (
      tmp_path / 'nowhere.ply',
      r'nowhere\.ply: found nothing, expected a PLY file of a triangle mesh; check the path',
    ),
    (tmp_path, r'found a folder, expected a PLY file'),
    (no_faces, r'no_faces\.ply: found 6 vertices, faces \(0, 0\), expected triangles; triangulate'),
    (
      released / 'point_cloud.ply',
      r"found elements \['vertex'\], expected vertices and faces; give a triangle mesh",
    ),
    (foreign, r'foreign\.obj: found no complete PLY header'),
    (cut, r'cut short: copy it again'),
  ):
    with pytest.raises(ValueError, match=found + r'.*leave the mesh out with --mesh=none'):
      prepare(released, tmp_path / 'no', settings(), say=lambda line: None, mesh=path)
  assert not (tmp_path / 'no').exists()
  with pytest.raises(ValueError, match='found nothing'):
    read_mesh(tmp_path / 'nowhere.ply')


def test_the_command_takes_a_mesh(released, tmp_path, monkeypatch, capsys):
  from absl import flags

  given = flags.FlagValues()
  monkeypatch.setattr(prepare_command.flags, 'FLAGS', given)
  for kind in ('string', 'float', 'integer', 'bool', 'enum', 'list'):
    define = getattr(flags, f'DEFINE_{kind}')
    monkeypatch.setattr(
      prepare_command.flags, f'DEFINE_{kind}', lambda *a, _define=define, **k: _define(*a, **k, flag_values=given)
    )
  prepare_command.define_flags()
  argv = [
    'prepare',
    str(released),
    f'--out={tmp_path / "out"}',
    '--up=z',
    '--noviews',
    '--tasks=empty',
    '--episodes=1',
  ]
  assert given(argv)[1:] == [str(released)]
  assert given.mesh == 'beside'
  given(argv + [f'--mesh={tmp_path / "nowhere.ply"}'])
  with pytest.raises(SystemExit, match=r'error: .*nowhere\.ply: found nothing'):
    prepare_command.main(argv[:2])
  assert not (tmp_path / 'out').exists()
