import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from s2e_jax.navbench.blocks_shipped import FOLDER as SCENES
from s2e_jax.navbench.blocks_shipped import shipped_names
from s2e_jax.navbench.formats.read import read_gaussians
from s2e_jax.navbench.frame import Similarity, apply_similarity, detect_frame
from s2e_jax.navbench.sh_rotation import rotate_sh, sh_basis, spread_directions
from s2e_jax.navbench.up_axis import as_direction, flat_surfaces, vertical_planes
from tests.navbench.procedural_splats import World, courtyard, splat, turned

# file_from_world of the conventions that splat files come in
FILES = {
  'z': np.eye(3),
  '-y': np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
  'y': np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
  '-z': np.diag([1, -1, -1]),
}


@pytest.fixture(scope='module')
def court():
  return splat(courtyard(), num_floaters=300)


@pytest.mark.parametrize('up', FILES)
def test_the_up_axis_is_detected_and_the_world_comes_back(court, up):
  given = turned(court, FILES[up])
  similarity, report = detect_frame(given)
  np.testing.assert_allclose(report.up_in_file, as_direction(up), atol=1e-6)
  assert report.found_by == 'detected'
  assert report.confidence > 0.1
  assert report.ground_lean < 1.0
  world = apply_similarity(given, similarity)
  np.testing.assert_allclose(world.mean[:, 2], court.mean[:, 2], atol=0.03)
  floor = np.abs(court.mean[:, 2]) < 0.05
  assert abs(np.median(world.mean[floor, 2])) < 0.02


INDOORS = ('corridor', 'hall', 'rooms')  # whose ceilings are as wide as their floors, and smoother


@pytest.mark.parametrize(
  ('name', 'up'),
  [
    (name, up)
    for i, name in enumerate(shipped_names())
    for up in (FILES if name in INDOORS else [list(FILES)[i % 4]])
  ],
)
def test_the_up_axis_of_every_scene_that_ships_is_detected(name, up):
  gaussians, _ = read_gaussians(SCENES / f'{name}.spz')
  best, other = vertical_planes(flat_surfaces(turned(gaussians, FILES[up])))[:2]
  np.testing.assert_allclose(best.up, as_direction(up), atol=1e-6)
  assert best.score > 1.2 * other.score


def test_a_file_out_of_level_is_levelled_by_its_ground(court):
  lean = Rotation.from_euler('xyz', [17, -12, 40], degrees=True).as_matrix()
  similarity, report = detect_frame(turned(court, FILES['-y'] @ lean))
  up = FILES['-y'] @ lean @ np.array([0, 0, 1])
  assert np.degrees(np.arccos(np.dot(report.up_in_file, up))) < 1.0
  np.testing.assert_allclose(similarity.rotation @ up, [0, 0, 1], atol=0.02)


def test_a_given_up_and_scale_are_kept_and_a_lean_is_told(court):
  sloping = splat(World(courtyard().solids, slope=0.14))
  similarity, report = detect_frame(sloping, up='z', scale=1.5)
  assert report.found_by == 'given'
  np.testing.assert_array_equal(similarity.rotation, np.eye(3))
  assert similarity.scale == 1.5
  assert 6 < report.ground_lean < 10
  assert any('leans' in note for note in report.notes)
  assert any('confirm' in note for note in report.notes)
  as_numbers, _ = detect_frame(court, up=(0, 0, 2.0))
  np.testing.assert_array_equal(as_numbers.rotation, np.eye(3))


def test_scale_reaches_means_and_sizes(court):
  given = turned(court, np.eye(3), 0.2)
  similarity, report = detect_frame(given, up='z', scale=5.0)
  world = apply_similarity(given, similarity)
  np.testing.assert_allclose(world.scale, court.scale, rtol=1e-4)
  np.testing.assert_allclose(world.mean, court.mean, atol=0.03)
  assert 14 < max(report.extent) < 18


@pytest.mark.parametrize(('factor', 'scale'), [(0.01, None), (1000.0, None), (1.0, 0.01)])
def test_an_absurd_scale_is_refused(court, factor, scale):
  with pytest.raises(ValueError, match=r'm wide .* 2 to 2000 m: pass scale='):
    detect_frame(turned(court, np.eye(3), factor), up='z', scale=scale)


def test_a_scene_without_ground_is_refused_with_what_was_tried(court):
  rng = np.random.default_rng(0)
  cloud = court.replace(
    mean=rng.normal(size=court.mean.shape).astype(np.float32) * 5,
    rotation=rng.normal(size=court.rotation.shape).astype(np.float32),
  )
  with pytest.raises(ValueError, match=r'no ground found among .*up=.*pass up='):
    detect_frame(cloud)
  with pytest.raises(ValueError, match='no ground found among 0 flat'):
    detect_frame(court.replace(opacity=court.opacity * 0))


@pytest.mark.parametrize('up', ['w', '1,2', (0, 0, 0), '0,0,nan'])
def test_an_unknown_up_is_refused(court, up):
  with pytest.raises(ValueError, match='must be one of'):
    detect_frame(court, up=up)


def test_turned_harmonics_show_the_same_colours():
  rng = np.random.default_rng(3)
  sh = rng.normal(size=(5, 16, 3))
  directions = rng.normal(size=(40, 3))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  for turn in Rotation.random(4, rng=rng).as_matrix():
    before = np.einsum('dk,nkc->ndc', sh_basis(directions, 3), sh)
    after = np.einsum('dk,nkc->ndc', sh_basis(directions @ turn.T, 3), rotate_sh(sh, turn))
    np.testing.assert_allclose(after, before, atol=1e-10)
    single = rotate_sh(sh.astype(np.float32), turn)
    assert single.dtype == np.float32
    np.testing.assert_allclose(
      np.einsum('dk,nkc->ndc', sh_basis(directions @ turn.T, 3), single), before, atol=1e-5
    )


def test_the_basis_is_orthonormal_on_the_sphere():
  basis = sh_basis(spread_directions(20_000), 3)
  np.testing.assert_allclose(4 * np.pi * basis.T @ basis / len(basis), np.eye(16), atol=2e-3)
  with pytest.raises(ValueError, match='degree=4'):
    sh_basis(np.eye(3), 4)


def test_rotations_and_harmonics_turn_with_the_frame():
  from s2e_jax.gaussians import rotation_matrices

  court = splat(World(courtyard().solids[:1], spacing=0.3), sh_degree=2)
  turn = Rotation.from_euler('xyz', [0.4, -1.0, 2.0]).as_matrix()
  moved = apply_similarity(court, Similarity(turn, 2.0, np.array([1.0, 2.0, 3.0])))
  np.testing.assert_allclose(moved.mean, 2 * court.mean @ turn.T + [1, 2, 3], atol=1e-4)
  np.testing.assert_allclose(
    rotation_matrices(moved.rotation), turn @ rotation_matrices(court.rotation), atol=1e-5
  )
  np.testing.assert_allclose(moved.sh, rotate_sh(court.sh, turn))
  assert moved.sh.dtype == np.float32
  assert Similarity.from_dict(Similarity(turn, 2.0, np.ones(3)).to_dict()).scale == 2.0
