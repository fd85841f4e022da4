"""Tracks of our own pedestrians: in generated streets and on an open square."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.pedestrians.tracks import STEP, Tracks
from s2e_jax.scene import SLOTS, Scene, Slots
from s2e_jax.structs import DT
from s2e_jax.worlds.builders import empty_scene
from s2e_jax.worlds.generate import WorldConfig, make_generator
from s2e_jax.worlds.people import People, PeopleConfig, spawn_people, step_people

_FAR = 1e3  # m, where the robot is: nowhere
# s around the moment when somebody turns round at the end of a path. Real people leave the picture there.
_TURNING = 1.5


def open_square(key: jax.Array, slots: Slots, config: PeopleConfig) -> tuple[Scene, People]:
  """An empty square of 16 x 14 m, about what the real films show, full of people."""
  scene = empty_scene(slots, bounds=(-8, 8, -7, 7), road=(0, -1), paved=(-7, 7), plazas=[(-8, 8, -7, 7)])
  return scene, spawn_people(key, scene, slots.people, slots.people, jnp.full((1, 2), _FAR), None, config)


def simulate(scene: Scene, people: People, seconds: float) -> tuple[jax.Array, jax.Array]:
  """Positions [T, N, 2] (m) and directions [T, N] of people at the simulator's own steps."""

  def step(people: People, _: None) -> tuple[People, tuple[jax.Array, jax.Array]]:
    people = step_people(people, scene, jnp.full(2, _FAR), jnp.zeros(2), DT)
    return people, (people.position, people.direction)

  return jax.lax.scan(step, people, None, round(seconds / DT))[1]


def as_tracks(people: People, positions: np.ndarray, directions: np.ndarray) -> Tracks:
  """Tracks of one world, without the moments when people turn round at the end of their paths."""
  turns = np.zeros(directions.shape, bool)
  turns[1:] = np.diff(directions, axis=0) != 0
  reach = round(_TURNING / DT)
  near = np.stack([turns[max(t - reach, 0) : t + reach + 1].any(axis=0) for t in range(len(turns))])
  walks = np.asarray(people.present & (people.preferred_speed > 0))
  positions = np.where((near | ~walks)[..., None], np.nan, positions)
  return Tracks(positions[:: round(STEP / DT)])


def our_tracks(name: str, num_worlds: int, seconds: float, seed: int) -> list[Tracks]:
  """Tracks in `num_worlds` worlds; name: 'streets' (the generator's default mixture) or 'square'."""
  slots, config = SLOTS['standard'], PeopleConfig(hidden=0.0)

  if name == 'streets':
    generate = make_generator(WorldConfig(slots=slots, people=(slots.people, slots.people), people_config=config))

    def live(key: jax.Array) -> tuple[People, tuple[jax.Array, jax.Array]]:
      world = generate(key, jnp.float32(1.0))
      return world.people, simulate(world.scene, world.people, seconds)
  else:

    def live(key: jax.Array) -> tuple[People, tuple[jax.Array, jax.Array]]:
      scene, people = open_square(key, slots, config)
      return people, simulate(scene, people, seconds)

  keys = jax.random.split(jax.random.key(seed), num_worlds)
  people, (positions, directions) = jax.tree.map(np.asarray, jax.jit(jax.vmap(live))(keys))
  return [
    as_tracks(jax.tree.map(lambda v, w=w: v[w], people), positions[w], directions[w]) for w in range(num_worlds)
  ]
