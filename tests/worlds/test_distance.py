"""Signed distances: by hand, against MuJoCo's, against sampled outlines."""

import math

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from s2e_jax.scene import SLOTS, Slots, to_world
from s2e_jax.worlds.builders import empty_scene, with_box, with_capsule, with_cylinder
from s2e_jax.worlds.distance import FAR, clearance, fence_distance, outlines, primitive_distances

CURB = 0.12


def distances(scene, points, **kwargs):
  distance, normal = primitive_distances(scene, jnp.asarray(points, jnp.float32), **kwargs)
  return np.asarray(distance), np.asarray(normal)


@pytest.fixture(scope='module')
def one_of_each():
  scene = empty_scene(Slots(2, 1, 1, 1))
  scene = with_box(scene, 0, 2.0, 1.0, 1.0, 0.5, 1.2)
  scene = with_cylinder(scene, 0, -3.0, 0.0, 0.2, 1.0)
  return with_capsule(scene, 2, 0.0, -1.0, 0.3, CURB, CURB + 1.5, kind='statue')


@pytest.mark.parametrize(
  ('point', 'slot', 'distance', 'normal'),
  [
    ((4.0, 1.0), 0, 1.0, (1, 0)),  # before a face
    ((2.0, 2.0), 0, 0.5, (0, 1)),
    ((3.6, 2.3), 0, 1.0, (0.6, 0.8)),  # off a corner: 3, 4, 5
    ((0.4, -0.3), 0, 1.0, (-0.6, -0.8)),
    ((2.3, 1.4), 0, -0.1, (0, 1)),  # inside, nearer to the long face
    ((2.9, 1.0), 0, -0.1, (1, 0)),
    ((-3.0, 1.0), 2, 0.8, (0, 1)),
    ((-3.1, 0.0), 2, -0.1, (-1, 0)),  # inside the cylinder
    ((0.3, -1.4), 5, 0.2, (0.6, -0.8)),
    ((0.0, -1.15), 5, -0.15, (0, -1)),  # inside the capsule
  ],
)
def test_distances_and_normals_are_those_worked_by_hand(one_of_each, point, slot, distance, normal):
  found, direction = distances(one_of_each, [point])
  np.testing.assert_allclose(found[0, slot], distance, atol=1e-5)
  np.testing.assert_allclose(direction[0, slot], normal, atol=1e-4)


def test_a_turned_box_is_measured_in_its_own_frame():
  scene = with_box(empty_scene(), 0, 1.0, -1.0, 2.0, 0.25, 1.0, yaw=math.pi / 3)
  along = np.array([math.cos(math.pi / 3), math.sin(math.pi / 3)])
  found, direction = distances(scene, [np.array([1.0, -1.0]) + 3 * along])
  np.testing.assert_allclose(found[0, 0], 1.0, atol=1e-5)
  np.testing.assert_allclose(direction[0, 0], along, atol=1e-5)


def test_what_is_empty_overhead_or_flat_is_far(one_of_each):
  found, _ = distances(one_of_each, [(0.0, 0.0)])
  np.testing.assert_array_equal(found[0, [1, 3, 4]], FAR)
  scene = with_box(empty_scene(), 0, 0.0, 0.0, 1.0, 1.0, 0.5, low=CURB + 0.7)
  scene = with_box(scene, 1, 0.0, 0.0, 1.0, 1.0, 0.04)
  assert (distances(scene, [(0.0, 0.0)], height=0.65)[0] == FAR).all()
  assert distances(scene, [(0.0, 0.0)], height=0.75)[0][0, 0] == pytest.approx(-1.0)


def test_a_ball_overhead_counts_with_the_circle_that_a_robot_reaches():
  """A ball of radius 0.5 m whose lowest point hangs 0.6 m up meets a robot of 0.7 m in a circle of 0.3 m."""
  scene = with_capsule(empty_scene(Slots(1, 1, 0, 1)), 0, 0.0, 0.0, 0.5, CURB + 0.6, CURB + 1.6)
  found, _ = distances(scene, [(1.0, 0.0)], height=0.7)
  np.testing.assert_allclose(found[0, 2], 0.7, atol=1e-5)


def random_scene(rng, curvature=0.0):
  scene = empty_scene(Slots(4, 3, 1, 2), curvature=curvature)
  for i in range(4):
    x, y = rng.uniform(-6, 6, 2)
    half = rng.uniform(0.2, 1.5, 2)
    scene = with_box(scene, i, x, y, half[0], half[1], 2.0, yaw=rng.uniform(-4, 4), low=0.0)
  for i in range(3):
    scene = with_cylinder(scene, i, *rng.uniform(-6, 6, 2), rng.uniform(0.1, 1.0), 2.0, low=0.0)
  for i in range(2):
    scene = with_capsule(scene, 2 + i, *rng.uniform(-6, 6, 2), rng.uniform(0.1, 0.4), 0.0, 2.0, kind='statue')
  return scene


def test_distances_agree_with_mujoco_outside():
  rng = np.random.default_rng(0)
  scene = random_scene(rng)
  points = rng.uniform(-8, 8, (40, 2))
  ours, _ = distances(scene, points)
  geoms = []
  box, cylinder, capsule = scene.boxes, scene.cylinders, scene.capsules
  for i in range(4):
    geoms.append(
      f'<geom type="box" pos="{box.x[i]} {box.y[i]} 1" euler="0 0 {box.yaw[i]}" '
      f'size="{box.half_x[i]} {box.half_y[i]} 1"/>'
    )
  for i in range(3):
    geoms.append(f'<geom type="cylinder" pos="{cylinder.x[i]} {cylinder.y[i]} 1" size="{cylinder.radius[i]} 1"/>')
  for i in (2, 3):
    half = 1 - capsule.radius[i]
    geoms.append(f'<geom type="capsule" pos="{capsule.x[i]} {capsule.y[i]} 1" size="{capsule.radius[i]} {half}"/>')
  body = '<body mocap="true"><geom name="point" type="sphere" size=".01"/></body>'
  model = mujoco.MjModel.from_xml_string(
    f'<mujoco><compiler angle="radian"/><worldbody>{"".join(geoms)}{body}</worldbody></mujoco>'
  )
  data = mujoco.MjData(model)
  point = model.geom('point').id
  slots = [0, 1, 2, 3, 4, 5, 6, 9, 10]
  compared = 0
  for row, (x, y) in enumerate(points):
    data.mocap_pos[0] = (x, y, 1.0)
    mujoco.mj_forward(model, data)
    for geom, slot in enumerate(slots):
      theirs = mujoco.mj_geomDistance(model, data, geom, point, 100.0, np.zeros(6)) + 0.01
      if theirs > 0.02:
        assert ours[row, slot] == pytest.approx(theirs, abs=2e-4)
        compared += 1
  assert compared > 300


def test_normals_are_the_gradients_of_the_distances():
  rng = np.random.default_rng(1)
  scene = random_scene(rng, curvature=0.02)
  points = rng.uniform(-8, 8, (60, 2))
  _, normal = distances(scene, points)
  step = 0.01
  x = (distances(scene, points + [step, 0])[0] - distances(scene, points - [step, 0])[0]) / (2 * step)
  y = (distances(scene, points + [0, step])[0] - distances(scene, points - [0, step])[0]) / (2 * step)
  gradient = np.stack([x, y], axis=-1)
  # away from ridges, where the nearest face changes, the gradient has length one
  smooth = np.abs(np.linalg.norm(gradient, axis=-1) - 1) < 1e-2
  assert smooth.sum() > 450
  np.testing.assert_allclose(normal[smooth], gradient[smooth], atol=0.05)


def test_clearance_is_the_least_distance_and_leaves_people_out_unless_asked():
  rng = np.random.default_rng(2)
  scene = random_scene(rng)
  scene = with_capsule(scene, 0, 7.5, 7.5, 0.25, CURB, 1.6, kind='person')
  points = jnp.asarray(rng.uniform(-8, 8, (30, 2)), jnp.float32)
  all_distances, all_normals = distances(scene, points)
  person = 4 + 3
  things = np.delete(all_distances, person, axis=1)
  found, normal = clearance(scene, points)
  np.testing.assert_allclose(found, things.min(axis=1))
  with_people, _ = clearance(scene, points, include_people=True)
  np.testing.assert_allclose(with_people, all_distances.min(axis=1))
  slot = np.delete(np.arange(all_distances.shape[1]), person)[things.argmin(axis=1)]
  np.testing.assert_allclose(normal, all_normals[np.arange(30), slot], atol=1e-6)
  at_person = clearance(scene, jnp.array([[7.5, 7.0]]), include_people=True)[0]
  np.testing.assert_allclose(at_person, 0.25, atol=1e-5)


@pytest.mark.parametrize('curvature', [0.0, 0.03, -0.03])
def test_the_fence_is_where_a_sampled_outline_of_the_bounds_is(curvature):
  bounds = (-12.0, 14.0, -7.0, 5.0)
  ground = empty_scene(bounds=bounds, curvature=curvature).ground
  t = np.linspace(0, 1, 4001)
  s = np.concatenate([bounds[0] + 26 * t, bounds[0] + 26 * t, 0 * t + bounds[0], 0 * t + bounds[1]])
  d = np.concatenate([0 * t + bounds[2], 0 * t + bounds[3], bounds[2] + 12 * t, bounds[2] + 12 * t])
  outline = np.stack(to_world(jnp.asarray(s), jnp.asarray(d), jnp.float32(curvature)), axis=-1)
  rng = np.random.default_rng(3)
  inside = to_world(
    jnp.asarray(rng.uniform(-11.9, 13.9, 50)), jnp.asarray(rng.uniform(-6.9, 4.9, 50)), jnp.float32(curvature)
  )
  points = np.stack(inside, axis=-1).astype(np.float32)
  found, normal = fence_distance(ground, jnp.asarray(points))
  sampled = np.linalg.norm(points[:, None] - outline, axis=-1).min(axis=1)
  np.testing.assert_allclose(found, sampled, atol=5e-3)
  # half a centimetre along the normal the fence is as much farther
  moved = fence_distance(ground, jnp.asarray(points) + 0.05 * normal)[0]
  assert np.mean(np.abs(moved - found - 0.05) < 1e-3) > 0.9


def test_the_fence_is_negative_outside():
  ground = empty_scene(bounds=(-10.0, 10.0, -5.0, 3.0)).ground
  found, normal = fence_distance(ground, jnp.array([[0.0, 4.0], [-12.0, 0.0], [12.5, -1.0]]))
  np.testing.assert_allclose(found, [-1.0, -2.0, -2.5], atol=1e-5)
  np.testing.assert_allclose(normal, [[0, -1], [1, 0], [-1, 0]], atol=1e-6)


def test_a_batch_of_scenes_gives_what_each_gives_alone_with_one_compile():
  rng = np.random.default_rng(4)
  scenes = [random_scene(rng, curvature=k) for k in (0.0, 0.01, -0.02)]
  points = jnp.asarray(rng.uniform(-5, 5, (3, 7, 2)), jnp.float32)
  batch = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
  together = jax.jit(jax.vmap(clearance))
  found = together(batch, points)
  together(batch, points + 1)
  assert together._cache_size() == 1
  for i, scene in enumerate(scenes):
    alone = clearance(scene, points[i])
    np.testing.assert_allclose(found[0][i], alone[0], atol=1e-5)
    np.testing.assert_allclose(found[1][i], alone[1], atol=1e-4)


def test_nothing_to_touch_gives_finite_distances():
  scene = empty_scene(SLOTS['small'])
  shape = outlines(scene)
  assert not bool(shape.is_solid.any())
  distance, normal = clearance(scene, jnp.zeros((2, 2)))
  np.testing.assert_array_equal(distance, FAR)
  assert np.isfinite(normal).all()
