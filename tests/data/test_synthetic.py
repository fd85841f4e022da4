"""The procedural video: exact projection, an expert worth imitating, one dataset per seed."""

import dataclasses

import cv2
import numpy as np
import pytest
import simplejpeg

from s2e_jax import geometry
from s2e_jax.data import synthetic
from s2e_jax.data.dataset import open_dataset
from s2e_jax.data.street import drive, ground, light, render, things, world
from s2e_jax.structs import Camera

CAMERA = Camera(120, 70, 61.0, 55.0, 57.0, 31.0, model='pinhole', mount_height=0.7, mount_forward=0.15)


def drives(count, seconds=20.0):
  return [drive.make_drive(seconds, 4.0, np.random.default_rng([3, i])) for i in range(count)]


def open_square(half_width=30.0):
  """A straight street along +x, walkable for 30 m to both sides."""
  n = 900
  return world.Street(
    kind='park',
    layout='straight',
    centre=np.stack([np.arange(n) * world.SPACING - 20.0, np.zeros(n)], axis=-1),
    heading=np.zeros(n),
    half_width=half_width,
    side=1,
    band_edges=np.array([-half_width]),
    band_materials=('grass', 'asphalt'),
    wall_low=-half_width - 5,
    wall_high=half_width + 5,
    wall_seed=1,
  )


def owners_of(stuff, position, yaw, camera=CAMERA):
  rng = np.random.default_rng(0)
  looks = light.make_looks(False, rng)
  renderer = render.Renderer(open_square(), stuff, camera, looks, np.array([position]), rng)
  return renderer.frame_and_owners(np.array(position), yaw, 0.0)


def thing(parts, position, yaw=0.0):
  return things.Thing('thing', tuple(parts), np.array(position), yaw, 1.0, 0.0, 0.0)


@pytest.mark.parametrize('position, yaw', [((0.0, 0.0), 0.0), ((1.0, -2.0), 0.4), ((0.5, 2.0), -0.5)])
def test_a_pole_is_drawn_exactly_where_its_axis_projects(position, yaw):
  pole = np.array([6.0, 0.4])
  high = 1.6
  _, owners = owners_of(
    [thing([things.Part(things.CYLINDER, (0.05, 0.05), 0.0, high, (1, 0, 0))], pole)], position, yaw
  )
  in_robot = geometry.to_robot_frame(pole, np.array(position), np.array(yaw))
  ends = np.array([[*in_robot, 0.0], [*in_robot, high]])
  (foot, top), visible = geometry.project(ends, CAMERA)
  assert visible.all()
  rows, columns = np.nonzero(owners == 0)
  ray = 1 / light.SUPERSAMPLE
  # Centres of the rays that meet it, in pixels of `project`.
  assert abs((columns + 0.5).mean() * ray - foot[0]) < 0.3
  # Its near side is 5 cm nearer than the axis: at 4 m and more less than half a pixel.
  assert abs((rows.max() + 1) * ray - foot[1]) < 1.0
  assert abs(rows.min() * ray - top[1]) < 1.0


def test_a_box_covers_the_hull_of_its_projected_corners():
  centre, yaw_box, half, (low, high) = np.array([3.5, 0.8]), 0.5, (0.6, 0.35), (0.0, 0.45)
  position, yaw = np.array([0.2, 0.3]), 0.15
  _, owners = owners_of(
    [thing([things.Part(things.BOX, half, low, high, (1, 0, 0))], centre, yaw_box)], position, yaw
  )
  signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
  corners = geometry.to_robot_frame(
    geometry.to_world_frame(signs * half, centre, np.array(yaw_box)), position, np.array(yaw)
  )
  corners = np.concatenate([np.column_stack([corners, np.full(4, z)]) for z in (low, high)])
  pixels, visible = geometry.project(corners, CAMERA)
  assert visible.all()
  hull = cv2.convexHull(pixels.astype(np.float32))
  expected = np.zeros_like(owners, bool)
  for i, j in np.ndindex(expected.shape):
    centre_of_ray = ((j + 0.5) / light.SUPERSAMPLE, (i + 0.5) / light.SUPERSAMPLE)
    expected[i, j] = cv2.pointPolygonTest(hull, centre_of_ray, False) >= 0
  assert expected.sum() > 500
  assert ((owners == 0) != expected).sum() <= 0.01 * expected.sum()


def test_nearer_things_hide_farther_ones_and_nothing_behind_the_lens_is_drawn():
  post = [things.Part(things.CYLINDER, (0.3, 0.3), 0.0, 1.2, (1, 0, 0))]
  _, owners = owners_of(
    [thing(post, (8.0, 0.0)), thing(post, (3.0, 0.0)), thing(post, (-3.0, 0.0))], (0.0, 0.0), 0.0
  )
  assert set(np.unique(owners)) == {-1, 1}


def test_the_edge_of_the_grass_lies_where_the_ground_projects():
  street = dataclasses.replace(open_square(), band_edges=np.array([-0.6]))
  rng = np.random.default_rng(0)
  looks = dataclasses.replace(light.make_looks(False, rng), sun=None, noise=0.0)
  renderer = render.Renderer(street, [], CAMERA, looks, np.zeros((1, 2)), rng)
  image = renderer.frame(np.zeros(2), 0.0, 0.0).astype(float)
  greenness = image[..., 1] - image[..., 2]
  for row in (50, 60, 69):
    x = CAMERA.mount_forward + CAMERA.mount_height * CAMERA.fy / (row + 0.5 - CAMERA.cy)
    (u, _), _ = geometry.project(np.array([x, -0.6, 0.0]), CAMERA)
    green = greenness[row] > 25
    first = int(np.argmax(green))
    assert green[first:].mean() > 0.95 and not green[: first - 1].any()
    assert abs(first - u) < 1.5


def test_street_coordinates_invert_places():
  for street, _, _ in drives(4):
    rng = np.random.default_rng(5)
    s, e = rng.uniform(0, street.length, 300), rng.uniform(-street.half_width, street.half_width, 300)
    found = ground.street_coordinates(street, street.place(s, street.side * e))
    assert np.abs(found[:, 1] - e).max() < 0.02
    assert np.abs(found[:, 0] - s).max() < world.SPACING


def test_a_tilted_camera_is_refused():
  tilted = dataclasses.replace(CAMERA, pitch=0.1)
  with pytest.raises(ValueError, match=r'pitch=0\.1'):
    light.Rays.of(tilted)


def test_drives_keep_speed_acceleration_turning_and_clearance():
  fastest, stood, turned = [], 0, 0.0
  for _, stuff, run in drives(40):
    step = np.hypot(*np.diff(run.position, axis=0).T)
    speed = step / np.diff(run.stamps)
    fastest.append(speed.max())
    stood += (speed < 0.02).any()
    assert np.abs(np.diff(speed)).max() < 0.6 * 0.25 + 0.1
    assert np.abs(np.diff(run.yaw)).max() / 0.25 < 1.0
    turned += np.abs(run.yaw - run.yaw[0]).max() > 0.6
    fine = np.linspace(0, len(run.stamps) - 1, 4 * len(run.stamps))
    path = np.stack([np.interp(fine, np.arange(len(run.stamps)), run.position[:, i]) for i in range(2)], axis=-1)
    for item in stuff:
      if item.is_obstacle:
        gap = np.hypot(*(path - item.position).T).min() - item.radius - drive.ROBOT_RADIUS
        assert gap > drive.MIN_CLEARANCE - 0.02, item.name
    moving = step > 0.05
    course = np.arctan2(*np.diff(run.position, axis=0)[:, ::-1].T)
    middle = (run.yaw[1:] + run.yaw[:-1]) / 2
    assert np.abs(geometry.wrap_angle(course - middle))[moving].max() < 0.12
  assert min(fastest) > 0.5 and max(fastest) < 1.65
  assert stood >= 8  # they wait for people, stand before works or start from rest
  assert turned >= 12


@pytest.mark.parametrize('d', [-0.6, 0.3])
def test_an_obstacle_is_passed_early_and_with_room_on_its_wider_side(d):
  street, s = open_square(half_width=2.0), 40.0
  obstacle = things.make_thing(
    street, 'bin', s, d, things.OBSTACLES['bin'][0](np.random.default_rng(0)), 0.28, is_obstacle=True
  )
  path = drive.plan_path(street, [obstacle])
  assert drive.clearance(path, obstacle) > drive.CLEARANCE - 0.1
  offset = path.points[:, 1] * -np.sign(d)
  at = np.interp([s - 12, s - 1.0, s, s + 1.0, s + 12], path.s, offset)
  assert at[2] > 0.25 and min(at[1], at[3]) > 0.75 * at[2]
  assert abs(at[0]) < 0.01 and abs(at[4]) < 0.01


def test_most_obstacles_keep_their_place():
  _, stuff, _ = zip(*drives(20), strict=True)
  assert np.mean([sum(item.is_obstacle for item in some) for some in stuff]) > 6


def test_nobody_is_touched_while_crossing():
  met = 0
  for _, stuff, run in drives(40):
    for item in stuff:
      if item.name in ('crosser', 'walker'):
        met += item.name == 'crosser' and any(item.velocity)
        for stamp, position in zip(run.stamps, run.position, strict=True):
          assert np.hypot(*(item.position_at(stamp) - position)) > item.radius + drive.ROBOT_RADIUS
  assert met >= 5


def test_the_same_seed_gives_the_same_dataset_and_another_seed_another(tmp_path):
  summaries = {}
  for name, seed in (('a', 4), ('b', 4), ('c', 5)):
    summaries[name] = synthetic.write_synthetic(tmp_path / name, 4, 5.0, seed, 36, 60, progress=False)
  assert summaries['a'].content_hash == summaries['b'].content_hash != summaries['c'].content_hash
  data = open_dataset(tmp_path / 'a')
  assert {split: len(data.clip_ids(split)) for split in data.splits} == {'train': 2, 'val': 1, 'test': 1}
  for index, clip in enumerate(data.clips):
    assert (clip.source, clip.licence, clip.embodiment) == ('synthetic', 'Apache-2.0 (generated)', 'synthetic')
    assert clip.is_metric and not clip.is_rate_assumed
    np.testing.assert_allclose(clip.stamps, np.arange(20) * 0.25)
    image = simplejpeg.decode_jpeg(data.frames(index, [7])[0])
    assert image.shape == (36, 60, 3) and image.std() > 10
    assert clip.camera == synthetic.synthetic_camera(36, 60)


def test_a_clip_does_not_depend_on_how_many_others_there_are():
  one, two = synthetic.make_clip(2, 4.0, 9, 36, 60), synthetic.make_clip(2, 4.0, 9, 36, 60)
  assert list(one.frames) == list(two.frames)
  assert list(synthetic.make_clip(3, 4.0, 9, 36, 60).frames) != list(one.frames)


def test_standing_still_does_not_repeat_frames():
  for index in range(60):
    _, _, run = drive.make_drive(12.0, 4.0, np.random.default_rng([9, index]))
    still = np.flatnonzero(np.hypot(*np.diff(run.position, axis=0).T) == 0)
    if len(still):
      break
  clip = synthetic.make_clip(index, 12.0, 9, 36, 60)
  assert clip.frames[still[0]] != clip.frames[still[0] + 1]


@pytest.mark.parametrize('num_clips', [3, 4, 10, 48])
def test_every_split_has_a_clip(num_clips):
  splits = synthetic.assign_splits(num_clips, 0)
  assert len(splits) == num_clips
  held = max(1, round(num_clips / 10))
  assert splits.count('val') == splits.count('test') == held


@pytest.mark.parametrize(
  'bad, message',
  [
    ({'num_clips': 2}, 'num_clips=2'),
    ({'seconds': 1.0}, 'seconds=1.0'),
    ({'seconds': float('nan')}, 'seconds=nan'),
    ({'seed': -1}, 'seed=-1'),
    ({'height': 8}, 'height=8'),
  ],
)
def test_bad_arguments_are_named_before_anything_is_written(tmp_path, bad, message):
  arguments = {'num_clips': 3, 'seconds': 5.0, 'seed': 0} | bad
  with pytest.raises(ValueError, match=message):
    synthetic.write_synthetic(tmp_path / 'x', **arguments, progress=False)
  assert not list(tmp_path.iterdir())


def test_the_command_line_writes_a_dataset_and_refuses_to_replace_it(tmp_path, capsys):
  arguments = [f'--dst={tmp_path / "x"}', '--clips=3', '--seconds=4', '--seed=1', '--height=32', '--width=64']
  synthetic.main(arguments)
  assert '3 synthetic clips, 48 frames' in capsys.readouterr().out
  with pytest.raises(SystemExit) as stop:
    synthetic.main(arguments)
  assert stop.value.code == 2
  assert 'exists already' in capsys.readouterr().err
