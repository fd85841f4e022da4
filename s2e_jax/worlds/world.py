"""A world: a scene, the people in it, and the task of a robot there."""

from __future__ import annotations

import jax
from flax import struct

from s2e_jax.scene import Scene
from s2e_jax.worlds.people_state import People


@struct.dataclass
class World:
  """What an episode starts from. All fields carry leading axes [*B].

  scene: with the people already in it. people: where they stand and walk.
  start_in_world: [2] m, start_yaw: [] rad: pose of the robot origin.
  goal_in_world: [2] m.
  to_goal: [I, J] m of way from every cell of the world to the goal (`routes.geodesic`); 64 by 64 in streets.
  path_length: [] m of way from the start to the goal.
  layout: [] int32 row of the generator's table of layouts (`layouts.LayoutTable`), -1 in hand-drawn worlds.
  """

  scene: Scene
  people: People
  start_in_world: jax.Array
  start_yaw: jax.Array
  goal_in_world: jax.Array
  to_goal: jax.Array
  path_length: jax.Array
  layout: jax.Array
