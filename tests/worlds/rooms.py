"""A corridor with a turn and a pillar, drawn twice: by primitives, and by the grid of their exact distances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.scene import Slots, Walls
from s2e_jax.worlds.builders import with_box, with_cylinder
from s2e_jax.worlds.distance import clearance
from s2e_jax.worlds.walled import walled_scene

SLOTS = Slots(boxes=5, cylinders=1, people=3, rounds=0)
CELL, SHAPE = 0.05, (241, 201)  # 12 m by 10 m
START, GOAL = (1.5, 2.0), (10.0, 8.5)
# x, y, half_x, half_y: the block within the turn, then the four sides
BLOCKS = (
  (4.25, 6.75, 4.25, 3.25), (6.0, 0.25, 6.0, 0.25), (0.25, 5.0, 0.25, 5.0), (11.75, 5.0, 0.25, 5.0),
  (6.0, 9.75, 6.0, 0.25),
)  # fmt: skip
PILLAR = (5.0, 2.0, 0.3)

to_things = jax.jit(lambda scene, points: clearance(scene, points)[0])


def by_primitives():
  """The scene without walls."""
  scene = walled_scene(Walls(jnp.ones(SHAPE), jnp.zeros(2), jnp.float32(CELL)), slots=SLOTS)
  for i, block in enumerate(BLOCKS):
    scene = with_box(scene, i, *block, 2.0, kind='building')
  return dataclasses.replace(with_cylinder(scene, 0, *PILLAR, 2.0), walls=None)


def walls_of(scene):
  """The distances to a scene's primitives as walls."""
  axes = (CELL * np.arange(num) for num in SHAPE)
  points = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).astype(np.float32)
  distance = to_things(scene, points.reshape(-1, 2)).reshape(SHAPE)
  return Walls(distance, jnp.zeros(2), jnp.float32(CELL))


def by_walls(scene):
  """The scene of `by_primitives` without primitives, between walls instead."""
  empty = lambda part: jax.tree.map(jnp.zeros_like, part)
  return dataclasses.replace(
    scene, boxes=empty(scene.boxes), cylinders=empty(scene.cylinders), walls=walls_of(scene)
  )


def free_points(scene, num, room, seed=0):
  """[num, 2] points of the corridor at least `room` m from everything."""
  points = np.random.default_rng(seed).uniform((0.5, 0.5), (11.5, 9.5), (8 * num, 2)).astype(np.float32)
  return points[np.asarray(to_things(scene, points)) > room][:num]
