"""Films and maps show what happened, where it happened."""

import json

import av
import numpy as np
import pytest

from s2e_jax.render import topview
from s2e_jax.scene import SLOTS
from s2e_jax.sim import film
from s2e_jax.worlds import builders


@pytest.fixture(scope='module')
def scene():
  scene = builders.empty_scene(SLOTS['small'], bounds=(-8.0, 12.0, -9.0, 5.0))
  scene = builders.with_box(scene, 0, 3.0, -0.5, 1.0, 0.5, 1.0, yaw=np.pi / 2, colour=(1.0, 0.0, 1.0))
  return builders.with_cylinder(scene, 2, -2.0, 1.0, 0.4, 1.0, colour=(0.0, 1.0, 1.0))


def moments(count):
  rng = np.random.default_rng(0)
  return [
    film.Moment(
      picture=rng.integers(0, 255, (20, 36, 3), np.uint8),
      position=np.array([0.25 * t, 0.1 * t]),
      yaw=0.3,
      people=np.array([[2.0, 2.0]]) if t else np.zeros((0, 2)),
      command=(1.0, 0.2),
      speed=0.9,
      rewards={'arrival': 1.0 if t == count - 1 else 0.0, 'turning_rate': -0.01},
      time=0.25 * t,
      note='arrived' if t == count - 1 else '',
    )
    for t in range(count)
  ]


def episode(scene, count=5):
  return film.Episode(scene, np.array([6.0, 0.0]), np.array([[0.0, 0.0], [6.0, 0.0]]), 0.6, 0.45, moments(count))


def pixel(picture, view, x, y):
  right, down = view.pixels(np.array([x, y]))
  return picture[int(down), int(right)]


def test_the_map_has_everything_in_its_place(scene):
  view = topview.view_of_world(scene, 20.0)
  picture = topview.draw_map(scene, view)
  assert picture.shape == (*view.size, 3)
  magenta, cyan = np.array([255, 0, 255]), np.array([0, 255, 255])
  # The box is turned by 90 degrees: long across the street, short along it.
  for x, y, inside in ((3.0, 0.4, True), (3.0, -1.4, True), (3.7, -0.5, False), (3.4, -0.5, True)):
    assert (np.abs(pixel(picture, view, x, y).astype(int) - magenta).max() < 12) == inside
  assert np.abs(pixel(picture, view, -2.0, 1.3).astype(int) - cyan).max() < 12
  road, pavement = pixel(picture, view, 0.0, -5.0), pixel(picture, view, 6.0, 1.0)
  assert tuple(road) != tuple(pavement)
  assert tuple(pixel(picture, view, -8.5, 0.0)) not in (tuple(road), tuple(pavement))


def test_a_bend_of_the_street_bends_the_map():
  scene = builders.empty_scene(SLOTS['small'], curvature=1 / 20, bounds=(0.0, 15.0, -6.0, 6.0), road=(-5.0, -2.0))
  view = topview.view_of_world(scene, 10.0)
  picture = topview.draw_ground(scene, view)
  # 14 m along the centre line of a circle of 20 m radius, on the road 3.5 m to the right of it.
  angle = 14 / 20
  x, y = 23.5 * np.sin(angle), 20 - 23.5 * np.cos(angle)
  assert tuple(pixel(picture, view, x, y)) == tuple(pixel(picture, view, 5.0, 20 - np.sqrt(23.5**2 - 25.0)))
  assert tuple(pixel(picture, view, x, y)) != tuple(pixel(picture, view, 14.0, -3.5))


def test_every_frame_has_the_same_even_size_and_shows_the_trail(scene):
  frames = list(film.film_frames(episode(scene), height=120))
  assert len(frames) == 5 and len({f.shape for f in frames}) == 1
  assert all(side % 2 == 0 for side in frames[0].shape[:2])
  assert (frames[0] != frames[4]).any()


def test_a_film_can_be_read_back(scene, tmp_path):
  path = tmp_path / 'films' / 'episode.mp4'
  assert film.write_mp4(path, film.film_frames(episode(scene, 7), height=120), 4.0) == 7
  with av.open(str(path)) as container:
    read = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
  first = next(iter(film.film_frames(episode(scene, 7), height=120)))
  assert len(read) == 7 and read[0].shape == first.shape
  assert np.abs(read[0].astype(int) - first).mean() < 8
  assert list(path.parent.iterdir()) == [path]


def test_a_film_without_frames_is_an_error_and_leaves_nothing(tmp_path):
  with pytest.raises(ValueError, match='no frames'):
    film.write_mp4(tmp_path / 'x.mp4', [], 4.0)
  assert list(tmp_path.iterdir()) == []


def test_the_account_adds_up(scene):
  row = film.summary_of(episode(scene, 5))
  assert row['ended'] == 'arrived' and row['seconds'] == 1.25
  assert row['metres'] == pytest.approx(4 * np.hypot(0.25, 0.1))
  assert row['return'] == pytest.approx(1 - 0.05) and row['terms']['arrival'] == 1.0
  assert json.loads(json.dumps(row)) == row


def test_a_contact_sheet_holds_every_picture_once():
  pictures = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)
  sheet = film.contact_sheet(pictures, columns=2, gap=1)
  assert sheet.shape == (3 * 5 + 1, 2 * 7 + 1, 3)
  np.testing.assert_array_equal(sheet[6:10, 8:14], pictures[3])
  assert (sheet[11:15, 8:14] == 255).all()
