"""Hand-drawn worlds that several tests of the simulator drive in."""

import jax
import jax.numpy as jnp
import pytest

from s2e_jax.scene import KIND
from s2e_jax.worlds import builders
from s2e_jax.worlds.people import walkers


@pytest.fixture(scope='session')
def draw_world():
  """`builders.world_from`, its searches compiled whole: op by op they take many seconds."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(builders, 'geodesic', jax.jit(builders.geodesic))
    for name in ('primitive_distances', 'fence_distance', 'free_space', 'geodesic_at'):
      patch.setattr(builders, name, jax.jit(getattr(builders, name)))
    yield builders.world_from


@pytest.fixture(scope='session')
def street_world(draw_world):
  """A pavement along x with the start at (-6, 0), the goal at (6, 0), a box beside the way and one person far off.

  Slots 'small': a box (slot 0) at (0, 1.6), a bollard (slot 14) at (2, -1.5), people from slot 20 on.
  """
  scene = builders.empty_scene()
  scene = builders.with_box(scene, 0, 0.0, 1.6, 0.6, 0.4, 0.9)
  scene = builders.with_cylinder(scene, 0, 2.0, -1.5, 0.2, 1.0)
  scene = scene.replace(kind=scene.kind.at[20:28].set(KIND['person']))
  people = walkers(scene, jnp.array([[[10.0, 1.0], [12.0, 1.0]]]), 1.0, num=4)
  return draw_world(scene, (-6.0, 0.0), 0.0, (6.0, 0.0), people)
