"""Hand-drawn worlds: what is put where, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import CameraMount
from s2e_jax.scene import KIND, SLOTS, Slots, is_present
from s2e_jax.worlds.builders import empty_scene, mount_of, with_box, with_capsule, with_cylinder, world_from
from s2e_jax.worlds.people import walkers

pytestmark = pytest.mark.usefixtures('compiled_quickly')

SMALL = Slots(3, 2, 1, 1)


def test_an_empty_scene_is_empty():
  scene = empty_scene(SMALL)
  assert not is_present(scene).any()
  assert scene.kind.shape == (SMALL.num,)
  np.testing.assert_allclose(np.linalg.norm(scene.light.sun), 1, atol=1e-6)


def test_things_stand_on_the_ground_under_them():
  scene = with_box(empty_scene(SMALL), 1, 3.0, 0.5, 0.4, 0.2, 0.9, yaw=0.3, kind='bench', pattern='planks')
  scene = with_cylinder(scene, 0, -2.0, -5.0, 0.15, 0.7, kind='cone')  # on the road
  scene = with_capsule(scene, 2, 1.0, 1.0, 0.5, 2.0, 3.0)
  assert np.flatnonzero(is_present(scene)).tolist() == [1, 3, 7]
  assert (scene.boxes.low[1], scene.boxes.high[1]) == (np.float32(0.12), np.float32(1.02))
  assert (scene.cylinders.low[0], scene.cylinders.high[0]) == (0, np.float32(0.7))
  assert [int(scene.kind[i]) for i in (1, 3, 7)] == [KIND['bench'], KIND['cone'], KIND['crown']]


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (lambda s: with_box(s, 3, 0, 0, 1, 1, 1), 'boxes 3 does not fit: the scene has 3 slots'),
    (lambda s: with_cylinder(s, 2, 0, 0, 1, 1), 'cylinders 2 does not fit: the scene has 2 slots'),
    (lambda s: with_capsule(s, -1, 0, 0, 1, 0, 2), 'capsules -1 does not fit'),
    (lambda s: with_box(s, 0, 0, 0, 1, 0, 1), 'half_y=0 must be > 0'),
    (lambda s: with_capsule(s, 0, 0, 0, 1, 0, 1), 'must be at least 2 radius = 2'),
    (lambda s: with_box(s, 0, 0, 0, 1, 1, 1, kind='rocket'), "kind='rocket' must be one of"),
    (lambda s: with_box(s, 0, 0, 0, 1, 1, 1, pattern='tartan'), "pattern='tartan' must be one of"),
    (lambda s: empty_scene(bounds=(3, -3, 0, 1)), 'with low < high'),
    (lambda s: empty_scene(plazas=[(0, 1, 0, 1)] * 3), '3 plazas are more than the 2'),
  ],
)
def test_bad_input_is_refused(build, message):
  with pytest.raises(ValueError, match=message):
    build(empty_scene(SMALL))


@pytest.fixture(scope='module')
def blocked():
  """A pavement with a box on it, and a wall across everything further on."""
  scene = empty_scene(SLOTS['small'], bounds=(-6.0, 14.0, -3.0, 3.0), road=(0.0, -1.0), paved=(-3.0, 3.0))
  scene = with_box(scene, 0, 4.0, 0.0, 0.5, 0.5, 1.0)
  return with_box(scene, 1, 10.0, 0.0, 0.2, 4.0, 2.0, kind='wall')


def test_a_world_knows_its_way_round_a_box(blocked):
  world = world_from(blocked, (0.0, 0.0), 0.1, (8.0, 0.0))
  # exact shortest way round a box of half side 0.5 grown by the radius: over its corners
  assert 8.0 < float(world.path_length) < 8.0 + 1.5
  assert world.to_goal.shape == (64, 64)
  assert int(world.layout) == -1


@pytest.mark.parametrize(
  ('start', 'goal', 'message'),
  [
    ((0, 0), (4.2, 0.1), 'goal=\\(4.2, 0.1\\) lies -0.30 m from the box in slot 0'),
    ((0, 0), (4.0, 0.7), 'lies 0.20 m from the box in slot 0, the robot needs 0.375 m'),
    ((4, 0), (8, 0), 'start=\\(4, 0\\) lies'),
    ((0, 0), (8, 2.9), 'must lie 0.375 m inside the bounds'),
    ((0, 0), (20, 0), 'inside the bounds of the scene, not -6.00 m'),
    ((0, 0), (12, 0), 'no way leads from start=\\(0, 0\\) to goal=\\(12, 0\\)'),
  ],
)
def test_a_task_that_cannot_be_done_is_refused(blocked, start, goal, message):
  with pytest.raises(ValueError, match=message):
    world_from(blocked, start, 0.0, goal)


def test_people_are_put_into_the_scene(blocked):
  people = walkers(blocked, jnp.array([[[1.0, 1.5], [8.0, 1.5]]]), num=SLOTS['small'].people)
  world = world_from(blocked, (0.0, 0.0), 0.0, (8.0, 0.0), people)
  capsules = world.scene.capsules
  np.testing.assert_allclose([capsules.x[0], capsules.y[0]], [1.0, 1.5])
  assert capsules.high[0] > capsules.low[0] and capsules.high[1] <= capsules.low[1]


def test_the_mount_is_the_camera_s():
  mount = mount_of(CameraMount(hfov=np.pi / 2, height=0.7, forward=0.2, pitch=0.0))
  np.testing.assert_allclose(jax.tree.leaves(mount), [0.7, 0.2, 0.0, 1.0], atol=1e-6)
