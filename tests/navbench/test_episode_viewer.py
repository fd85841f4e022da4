"""What the viewer shows of an episode, by hand; the files it is read from; and the page itself where viser is."""

import contextlib
import dataclasses
import socket
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from s2e_jax.closedloop.episodes import Traces
from s2e_jax.gaussians import SH_C0, Gaussians, rotation_matrices
from s2e_jax.navbench import view
from s2e_jax.navbench.episode_files import write_episodes
from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.frame import Similarity
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import Maps
from s2e_jax.navbench.pieces import Pieces
from s2e_jax.navbench.scene_folder import write_scene
from s2e_jax.navbench.view_drive import drive_of, frustum_of, moment_of, path_lines, robot_of, splats_of
from s2e_jax.navbench.view_page import Page, about_splats, check_address
from s2e_jax.navbench.view_solids import box_rings, capsule_rings, circles, robot_solid, stacked
from s2e_jax.robots import ROBOTS
from s2e_jax.scene import KIND, Boxes, Ground, Light, Mount, Rounds, Scene
from tests.processes import free_port

NUM, STEPS = 2, 8
COCO = ROBOTS['coco']
GOALS = ((6.0, 0.0), (7.0, 1.0))
FIRST = 25  # number of the first episode in the file
NAME = f'bc <b>_1_{FIRST:03d}_0123456789abcdef.npz'
SLOPE = 0.1  # of the floor along x
NAMES = ('bc', 'hall', 'both')


def height(points):
  return SLOPE * np.asarray(points)[..., 0]


def rows(*values):
  """[NUM, ...] float32: the same in every episode."""
  return np.stack([np.array(values, np.float32)] * NUM)


def same(value):
  return np.full(NUM, value, np.float32)


def scene(robot=COCO):
  """A box, a cylinder, an absent and a present person, a ball; slots: 2 boxes, 1 cylinder, 2 people, 1 round."""
  boxes = Boxes(
    x=rows(2, 0), y=rows(3, 0), yaw=rows(np.pi / 2, 0), half_x=rows(0.5, 0), half_y=rows(0.2, 0), low=rows(0, 0),
    high=rows(1, 0),
  )  # fmt: skip
  mount = robot.mount
  num = 2 + 1 + 5
  colour = np.linspace(0, 1, num * 3).reshape(num, 3).astype(np.float32)
  kind = [KIND[k] for k in ('bench', 'empty', 'bin', 'person', 'person', 'person', 'person', 'planter')]
  return Scene(
    boxes=boxes,
    cylinders=Rounds(rows(4), rows(-1), rows(0.3), rows(0.0), rows(0.9)),
    capsules=Rounds(
      x=rows(0, 1, 0, 1, 5), y=rows(0, 2, 0, 2, 2), radius=rows(0.25, 0.25, 0.1, 0.1, 0.5),
      low=rows(0, 0, 1.5, 1.5, 0), high=rows(0, 1.4, 1.5, 1.7, 1),
    ),
    kind=np.array([kind] * NUM, np.int32), colour=np.stack([colour] * NUM), accent=None, pattern=None, scale=None,
    ground=None, light=None,
    mount=Mount(
      same(mount.height), same(mount.forward), same(np.tan(mount.pitch)), same(np.tan(mount.hfov / 2))
    ),
  )  # fmt: skip


def traces(**changes):
  """Episode 0 arrives after 6 steps of 1 m along x, turning across the half turn; episode 1 stands still."""
  t = np.minimum(np.arange(STEPS + 1.0), 6)
  x = np.stack([t, 0 * t])
  contact = np.zeros((NUM, STEPS), bool)
  contact[0, 2:4] = True
  walk = np.stack([1 + 0.5 * t, 2 + 0 * t], axis=-1)
  clearance = np.full((NUM, STEPS + 1), 0.4)
  clearance[:, 0] = 1e3
  return Traces(
    **{
      'position': np.stack([x, 0 * x], axis=-1),
      'yaw': np.stack([np.where(t < 1, 3.0, -3.0), 0 * t]),
      'speed': np.stack([0 * t + 4, 0 * t]),
      'way': np.stack([7 - t, 0 * t + 7]),
      'gap': np.full((NUM, STEPS + 1), 1.0),
      'clearance': clearance,
      'people': np.stack([np.stack([0 * walk, walk], axis=1)] * NUM),
      'command': np.zeros((NUM, STEPS, 2)),
      'contact': contact,
      'by_robot': contact,
      'hit_kind': np.zeros((NUM, STEPS), np.int32),
      'num_steps': np.array([6, STEPS]),
      'has_arrived': np.array([True, False]),
      'nan_actions': np.zeros(NUM, int),
      'scene': scene(),
      'is_person': np.tile([False, True], (NUM, 1)),
      'goal': np.tile(GOALS[-1], (NUM, 1)),
      'path_length': np.full(NUM, 7.0),
      'layout': np.zeros(NUM, int),
      'num_goals': np.array([2, 2]),
      'goals_reached': np.array([2, 0]),
      **changes,
    }
  )


@pytest.fixture
def drive():
  return drive_of(traces(), 0, np.array(GOALS), height, COCO, NAMES)


def test_robot_and_people_lie_on_the_floor_and_move_evenly_between_moments(drive):
  assert drive.seconds == 1.5 and drive.position.shape == (7, 3) and drive.people.shape == (7, 1, 3)
  moment = moment_of(drive, 0.625)  # half way between moments 2 and 3
  np.testing.assert_allclose(moment.position, [2.5, 0, 0.25])
  np.testing.assert_allclose(moment.people, [[2.25, 2, 0.225]])
  np.testing.assert_allclose(moment_of(drive, 0.5).position, [2, 0, 0.2])
  for late in (1.5, 99.0):
    np.testing.assert_allclose(moment_of(drive, late).position, [6, 0, 0.6])
  np.testing.assert_allclose(moment_of(drive, -1).position, [0, 0, 0])


def test_headings_turn_the_short_way_round(drive):
  wxyz = moment_of(drive, 0.125).wxyz  # between 3 and -3 rad lies half a turn, not 0
  np.testing.assert_allclose(rotation_matrices(wxyz) @ [1, 0, 0], [-1, 0, 0], atol=1e-12)
  wxyz = moment_of(drive, 0.25).wxyz
  np.testing.assert_allclose(rotation_matrices(wxyz) @ [1, 0, 0], [np.cos(3), -np.sin(3), 0], atol=1e-12)


def test_texts_are_of_the_last_moment_before(drive):
  assert dict(drive.facts) == {
    'policy': 'bc', 'scene': 'hall', 'task': 'both', 'ended': 'success',
    'took': '1.50 s, 6.0 m driven, 1 contacts', 'goals reached': '2 of 2',
  }  # fmt: skip
  facts = lambda seconds: dict(moment_of(drive, seconds).facts)
  assert facts(0) == {
    'time': '0.00 of 1.50 s', 'way left': '7.0 m', 'clearance': 'nothing near', 'speed': '4.00 m/s',
    'contacts so far': '0',
  }  # fmt: skip
  assert facts(0.6)['way left'] == '5.0 m' and facts(0.6)['clearance'] == '0.40 m'
  # the contact is in steps 2 and 3, and counts once
  touching = ['0', '0', '0, touching now', '1, touching now', '1', '1', '1']
  assert [facts(0.25 * i)['contacts so far'] for i in range(7)] == touching
  other = drive_of(traces(num_goals=np.ones(2, int)), 1, np.array(GOALS), height, COCO, NAMES)
  assert dict(other.facts)['ended'] == 'wrong stop' and 'goals reached' not in dict(other.facts)


def test_an_episode_without_a_step_is_shown_too():
  drive = drive_of(
    traces(num_steps=np.zeros(NUM, int), has_arrived=np.ones(NUM, bool)), 0, np.array(GOALS), height, COCO, NAMES
  )
  assert drive.seconds == 0 and path_lines(drive)[0].shape == (0, 2, 3)
  np.testing.assert_allclose(moment_of(drive, 1.0).position, 0)


def test_what_stands_there_is_shown_and_empty_slots_are_not(drive):
  solids = {solid.name: solid for solid in drive.solids}
  assert list(solids) == [
    '0_bench', '2_bin', '7_planter', 'goal_1_disc', 'goal_1_pole', 'goal_2_disc', 'goal_2_pole',
  ]  # fmt: skip
  bench, ball = solids['0_bench'], solids['7_planter']
  np.testing.assert_allclose(bench.position, [2, 3, 0.2])
  np.testing.assert_allclose(np.ptp(bench.vertices, axis=0), [0.4, 1, 1], atol=1e-6)  # turned by a quarter
  np.testing.assert_allclose(solids['goal_2_pole'].position, [7, 1, 0.7])
  np.testing.assert_allclose(np.ptp(ball.vertices, axis=0), [1, 1, 1], atol=1e-6)
  assert bench.colour == (0, 11, 22) and ball.colour == (233, 244, 255)
  assert [(s.name, float(s.vertices[:, 2].max())) for s in (*drive.bodies, *drive.heads)] == [
    ('1_body', pytest.approx(1.4)), ('1_head', pytest.approx(1.7)),
  ]  # fmt: skip


def test_bodies_are_closed_and_face_outward():
  for rings, volume in (
    (box_rings(1, 0.5, 0.2, 1.2, 0.7), 2.0),
    (circles([(0.5, 0), (0.5, 2)]), np.pi * 0.25 * 2),
    (capsule_rings(0.5, 0, 3), np.pi * 0.25 * 2 + 4 / 3 * np.pi * 0.125),
  ):
    vertices, faces = stacked(rings)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert np.sum(a * np.cross(b, c)) / 6 == pytest.approx(volume, rel=0.03)
    edges = [tuple(edge) for i, j in ((0, 1), (1, 2), (2, 0)) for edge in faces[:, [i, j]].tolist()]
    assert len(set(edges)) == len(edges) and {(j, i) for i, j in edges} == set(edges)
  body = robot_solid(COCO)
  np.testing.assert_allclose(np.ptp(body.vertices, axis=0)[:2], [0.75, 0.5])
  assert body.vertices[:, 2].max() == COCO.height


def test_the_frustum_is_the_cameras():
  lines = frustum_of(height=0.6, forward=0.25, tan_pitch=0.1, half_width=1.2)
  np.testing.assert_allclose(lines[:4, 0], [[0.25, 0, 0.6]] * 4)
  slope = (lines[:4, 1] - lines[:4, 0]) / (lines[:4, 1] - lines[:4, 0])[:, :1]
  np.testing.assert_allclose(slope[:, 1:].min(axis=0), [-1.2, -0.6 - 0.1])
  np.testing.assert_allclose(slope[:, 1:].max(axis=0), [1.2, 0.6 - 0.1])


def test_the_path_is_red_where_something_was_touched(drive):
  lines, colours = path_lines(drive)
  assert lines.shape == colours.shape == (6, 2, 3)
  np.testing.assert_allclose(lines[3, :, 0], [3, 4])
  red = (colours[:, :, 0] > 200).all(axis=1)
  np.testing.assert_array_equal(np.flatnonzero(red), [2, 3])


def test_robots_are_told_by_their_cameras():
  for robot in ROBOTS.values():
    assert robot_of(scene(robot).mount, 1, None) is robot
  assert robot_of(scene(COCO).mount, 0, 'quadruped').name == 'quadruped'
  high = dataclasses.replace(scene().mount, height=same(1.5))
  with pytest.raises(ValueError, match=r'1.50 m high.*--robot'):
    robot_of(high, 0, None)


def gaussians():
  """Four, of which the second and third have most opacity times area."""
  turn = np.cos(np.pi / 4)
  return Gaussians(
    mean=np.arange(12, dtype=np.float32).reshape(4, 3),
    scale=np.float32([[1, 1, 1], [3, 2, 1], [2, 2, 0.1], [1e4, 1e-4, 1e-4]]),
    rotation=np.float32([[1, 0, 0, 0], [turn, 0, 0, turn], [1, 0, 0, 0], [1, 0, 0, 0]]),
    opacity=np.float32([0.5, 1, 0.5, 1]),
    sh=np.stack([np.full((4, 3), v, np.float32) for v in (0.5, -9)], axis=1),
  )


def test_the_most_visible_gaussians_are_kept_in_their_order():
  splats = splats_of(gaussians(), 2)
  np.testing.assert_array_equal(splats.centers, gaussians().mean[1:3])
  # the longest axis was turned from x to y
  np.testing.assert_allclose(splats.covariances[0], np.diag([4, 9, 1]), atol=1e-5)
  np.testing.assert_allclose(splats.rgbs, 0.5 + SH_C0 * 0.5, rtol=1e-6)
  np.testing.assert_array_equal(splats.opacities, [[1], [0.5]])
  assert splats.share == 0.5 and splats.share_seen == pytest.approx(8 / (8 + 0.5 + 0.025))
  assert about_splats(splats) == '2, 50.0% of the scene and 93.8% of its opacity times area'
  for most in (0, 4, 9):
    everything = splats_of(gaussians(), most)
    assert len(everything.centers) == 4 and everything.share == everything.share_seen == 1
  assert np.isfinite(everything.covariances.astype(np.float16)).all()


def prepared(folder, name='hall', start=(0.0, 0.0), num=FIRST + NUM):
  grid = Grid((-2.0, -4.0), 0.25, (64, 32))
  everywhere = np.ones(grid.shape, bool)
  maps = Maps(
    grid, ~everywhere, np.ones(grid.shape, np.float32), everywhere,
    height(grid.centres()).astype(np.float32), everywhere, 0.3,
  )  # fmt: skip
  written = write_scene(folder, name, gaussians(), maps, Similarity(np.eye(3), 1.0, np.zeros(3)), {})
  episodes = [PlannedEpisode(start, 0.0, GOALS, (start, *GOALS), 7.0, 7.0, False, (), 1) for _ in range(num)]
  write_episodes(folder, 'both', episodes, scene_name=name, scene_hash=written.hash, seed=0, robot_radius=0.3)
  return folder


@pytest.fixture
def kept(tmp_path):
  """(file of driven episodes, folder of the scene)."""
  path = tmp_path / 'driven' / 'hall_both' / NAME
  plain = lambda scene: dataclasses.replace(
    scene, **{name: np.zeros(NUM) for name in ('accent', 'pattern', 'scale')}, **ground_and_light()
  )
  Pieces(tmp_path / 'driven', {}).save(path, traces(scene=plain(scene())))
  return path, prepared(tmp_path / 'hall')


def ground_and_light():
  zeros = lambda kind: kind(**{field.name: np.zeros(NUM) for field in dataclasses.fields(kind)})
  return {'ground': zeros(Ground), 'light': zeros(Light)}


def test_a_kept_episode_is_found_with_its_scene(kept):
  drive, splats = view.load_drive(*kept)
  assert drive.robot.name == 'coco'
  assert dict(drive.facts)['policy'] == 'bc <b>_1' and dict(drive.facts)['task'] == f'both, episode {FIRST}'
  np.testing.assert_allclose(drive.position[-1], [6, 0, 0.6], atol=1e-6)
  assert len(splats.centers) == 4
  other, fewer = view.load_drive(*kept, episode=FIRST + 1, robot='delivery', max_gaussians=3)
  assert (other.robot.name, dict(other.facts)['ended'], len(fewer.centers)) == ('delivery', 'wrong stop', 3)


def test_bad_input_is_refused(kept, tmp_path):
  file, folder = kept
  refused = lambda message: pytest.raises(ValueError, match=message)
  with refused(r'nowhere.npz is no file: name one under OUT/driven'):
    view.load_drive(tmp_path / 'nowhere.npz', folder)
  with refused(r'max_gaussians=-1 must not be negative'):
    view.load_drive(file, folder, max_gaussians=-1)
  with refused(rf'episode=0 is not in .*, which holds {FIRST} to {FIRST + 1}: choose one'):
    view.load_drive(file, folder, 0)
  with refused(rf'episode={FIRST + 2} is not in'):
    view.load_drive(file, folder, FIRST + 2)
  with refused(r"is 'yard', but .* was driven in 'hall'"):
    view.load_drive(file, prepared(tmp_path / 'yard', 'yard'))
  with refused(rf'episode={FIRST} was driven from \(0.00, 0.00\) and begins at \(3.0, 0.0\).*prepared again'):
    view.load_drive(file, prepared(tmp_path / 'moved', start=(3.0, 0.0)))
  with refused(rf'episode={FIRST} was driven from .* and does not exist in'):
    view.load_drive(file, prepared(tmp_path / 'short', num=2))
  with refused(r'no scene.json'):
    view.load_drive(file, tmp_path)
  with refused(r"robot='tank' must be one of"):
    view.load_drive(file, folder, robot='tank')


@pytest.mark.parametrize('name', ['hall_both/bc.npz', 'hall_rain/' + NAME, '_both/' + NAME, NAME])
def test_a_file_of_another_name_is_refused(kept, name):
  file, folder = kept
  other = file.parents[1] / 'moved' / name
  other.parent.mkdir(parents=True)
  other.write_bytes(file.read_bytes())
  with pytest.raises(ValueError, match=r'must end in SCENE_TASK/POLICY_NUMBER_KEY\.npz'):
    view.load_drive(other, folder)


def test_a_broken_file_is_refused(kept):
  file, folder = kept
  whole = file.read_bytes()
  with np.load(file) as arrays:
    some = {name: arrays[name] for name in arrays.files if name != 'yaw'}
  for content in (whole[: len(whole) // 2], b'', b'text'):
    file.write_bytes(content)
    with pytest.raises(ValueError, match='broken or of another version'):
      view.load_drive(file, folder)
  with file.open('wb') as to:
    np.savez(to, **some)
  with pytest.raises(ValueError, match=r"another version of this program \('yaw'\)"):
    view.load_drive(file, folder)


def test_addresses_that_nobody_can_listen_on_are_refused():
  for port in (0, -1, 65536):
    with pytest.raises(ValueError, match=f'port={port} must be 1 to 65535'):
      check_address('127.0.0.1', port)
  with pytest.raises(ValueError, match="host='' is no address"):
    check_address('', 8080)
  with pytest.raises(ValueError, match=r'host=a\.\.b port=8080 cannot be listened on'):
    check_address('a..b', 8080)
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(ValueError, match=f'port={port} cannot be listened on .*choose another --port'):
      check_address('127.0.0.1', port)
  check_address('127.0.0.1', port)


def test_without_viser_the_remedy_is_named(monkeypatch, drive):
  monkeypatch.setitem(sys.modules, 'viser', None)
  with pytest.raises(ImportError, match=r"pip install 's2e_jax\[viewer\]'"):
    Page(drive, splats_of(gaussians()))


def test_the_command_says_in_one_line_what_is_wrong(monkeypatch, kept):
  file, folder = kept
  given = SimpleNamespace(
    driven=str(file), scene=str(folder), episode=3, robot=None, max_gaussians=0, port=free_port(), host='127.0.0.1'
  )
  monkeypatch.setattr(view.flags, 'FLAGS', given)
  monkeypatch.setattr(view, 'require_viser', lambda: None)
  monkeypatch.setattr(view, 'Page', lambda *_: pytest.fail('it was served'))
  with pytest.raises(SystemExit, match=r'^error: episode=3 is not in'):
    view.main(['view'])


def test_the_page_is_served_plays_and_stops(drive):
  pytest.importorskip('viser')
  port = free_port()
  page = Page(drive, splats_of(gaussians()), port=port)
  stopped = threading.Event()
  playing = threading.Thread(target=page.run, args=(stopped,))
  try:
    assert page.url == f'http://127.0.0.1:{port}'
    with urllib.request.urlopen(page.url, timeout=20) as reply:
      assert reply.status == 200 and b'<html' in reply.read()
    np.testing.assert_allclose(page.robot.position, [0, 0, 0])
    page.slider.value = 0.625
    ((body, head),) = page.people
    np.testing.assert_allclose(page.robot.position, [2.5, 0, 0.25])
    np.testing.assert_allclose(body.position, [2.25, 2, 0.225])
    np.testing.assert_allclose(head.position, body.position)
    visitor = SimpleNamespace(camera=SimpleNamespace(), atomic=contextlib.nullcontext)
    page.slider.value = 0.25
    page.look_through(visitor)
    mount, heading = COCO.mount, np.array([np.cos(3), -np.sin(3), 0])
    np.testing.assert_allclose(visitor.camera.position, [1, 0, 0.1 + mount.height] + mount.forward * heading)
    ahead = visitor.camera.look_at - visitor.camera.position
    np.testing.assert_allclose(ahead / 0.6, heading - [0, 0, np.tan(mount.pitch)], atol=1e-6)
    page.slider.value = 0.625
    page.advance(1.0)
    assert page.slider.value == 0.625  # not ticked
    page.speed.value, page.play.value = 2.0, True
    page.advance(0.25)
    assert page.slider.value == pytest.approx(1.125)
    page.advance(9.0)
    assert page.slider.value == 1.5 and not page.play.value
    np.testing.assert_allclose(page.robot.position, [6, 0, 0.6])
    page.play.value = True  # once more from the start
    assert page.slider.value == 0
    playing.start()
    deadline = time.monotonic() + 20
    while page.slider.value == 0 and time.monotonic() < deadline:
      time.sleep(0.02)
    assert page.slider.value > 0 and page.robot.position[0] > 0
    with pytest.raises(ValueError, match='cannot be listened on'):
      Page(drive, splats_of(gaussians()), port=port)
  finally:
    stopped.set()
    if playing.ident is not None:
      playing.join()
    page.close()
  with pytest.raises(OSError):
    urllib.request.urlopen(page.url, timeout=5)
