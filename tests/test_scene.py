"""The street frame and the areas of the ground."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import scene as scenes


def a_ground(**fields):
  base = dict(
    curvature=0.0,
    road=[-3.0, 3.0],
    paved=[-6.0, 5.0],
    cross_road=[10.0, 16.0],
    cross_paved=[8.0, 18.0],
    crossings=[[2.0, 5.0, -3.0, 3.0], [0.0, 0.0, 0.0, -1.0]],
    plazas=[[20.0, 26.0, -9.0, -6.0], [0.0, 0.0, 0.0, -1.0]],
    curb_height=0.12,
    bounds=[-2.0, 30.0, -10.0, 10.0],
    colour=np.full((5, 3), 0.5),
    pattern=np.zeros(5),
    scale=np.ones(5),
    contrast=np.zeros(5),
  )
  return scenes.Ground(**{k: jnp.asarray(v, jnp.float32) for k, v in (base | fields).items()})


@pytest.mark.parametrize('curvature', [0.0, 1e-6, -1e-4, 0.01, 1 / 25, -1 / 18])
def test_the_street_frame_is_an_arc_and_its_own_inverse(curvature):
  rng = np.random.default_rng(0)
  s, d = rng.uniform(-4, 24, 500).astype(np.float32), rng.uniform(-8, 8, 500).astype(np.float32)
  x, y = scenes.to_world(jnp.asarray(s), jnp.asarray(d), jnp.float32(curvature))
  # Reference: walk the centre line in float64 in many small steps.
  n = 20_000
  for i in (0, 3, 7):
    heading = curvature * (np.arange(n) + 0.5) / n * float(s[i])
    end = np.array([np.cos(heading).mean(), np.sin(heading).mean()]) * float(s[i])
    left = np.array([-np.sin(curvature * float(s[i])), np.cos(curvature * float(s[i]))])
    np.testing.assert_allclose([x[i], y[i]], end + float(d[i]) * left, atol=2e-4)
  back_s, back_d = scenes.to_street(x, y, jnp.float32(curvature))
  np.testing.assert_allclose(back_s, s, atol=2e-4)
  np.testing.assert_allclose(back_d, d, atol=2e-4)


def test_areas_of_the_ground_are_told_apart():
  ground = a_ground()
  where = {
    'sidewalk': (0.0, -4.0),
    'road': (0.0, 0.0),
    'crossing': (3.0, 1.0),
    'cross street': (12.0, 8.0),
    'pavement of the cross street': (9.0, 8.0),
    'grass': (0.0, 7.0),
    'plaza': (22.0, -8.0),
  }
  s, d = (jnp.asarray(v) for v in zip(*where.values(), strict=True))
  road = dict(zip(where, np.asarray(scenes.on_road(ground, s, d)), strict=True))
  paved = dict(zip(where, np.asarray(scenes.on_pavement(ground, s, d)), strict=True))
  assert {k for k, v in road.items() if v} == {'road', 'crossing', 'cross street'}
  assert {k for k, v in paved.items() if v} == {'sidewalk', 'crossing', 'pavement of the cross street', 'plaza'}
  height = np.asarray(scenes.ground_height(ground, s, d))
  np.testing.assert_allclose(height, np.where(list(road.values()), 0.0, 0.12), rtol=1e-6)


def test_a_range_that_is_reversed_is_absent():
  ground = a_ground(road=[0.0, -1.0], cross_road=[0.0, -1.0])
  s, d = jnp.meshgrid(jnp.linspace(-2, 30, 7), jnp.linspace(-10, 10, 5))
  assert not np.asarray(scenes.on_road(ground, s, d)).any()


def test_the_street_frame_has_finite_gradients():
  gradient = jax.grad(lambda k: scenes.to_world(jnp.float32(3), jnp.float32(1), k)[1])(jnp.float32(0.0))
  assert np.isfinite(float(gradient))


def test_slots_count_and_refuse_what_a_segmentation_cannot_name():
  assert {name: slots.num for name, slots in scenes.SLOTS.items()} == {'small': 32, 'standard': 64, 'large': 128}
  with pytest.raises(ValueError, match='primitives'):
    scenes.Slots(boxes=100, cylinders=29)
  with pytest.raises(ValueError, match=r'slots\.people=-1'):
    scenes.Slots(people=-1)


def test_names_are_unique():
  for names in (scenes.KINDS, scenes.PATTERNS, scenes.SURFACES):
    assert len(set(names)) == len(names)
