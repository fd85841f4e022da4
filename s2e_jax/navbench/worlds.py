"""Planned episodes as worlds of the simulator: the scene's walls, what was put between them, people, a task."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from s2e_jax.closedloop.episodes import Legs
from s2e_jax.gaussians import Array
from s2e_jax.navbench.episode_files import EpisodeFile
from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.scenery import Scenery
from s2e_jax.scene import KIND, Boxes, Light, Rounds, Scene, Slots, Walls
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import Episode
from s2e_jax.worlds import looks
from s2e_jax.worlds.builders import mount_of
from s2e_jax.worlds.draws import Draws
from s2e_jax.worlds.looks import LOOKS, ROLE, ROLES
from s2e_jax.worlds.routes import free_space, geodesic, geodesic_at
from s2e_jax.worlds.walled import Furniture, walled_world

# Room for what `episodes.Sampling` puts into an episode.
ROOM = Slots(boxes=8, cylinders=8, people=6, rounds=0)
DRESS = 'C-near'  # the look whose colours and patterns things and people wear: no stage of training has seen it
_DRAWS = 12  # uniform numbers per slot for them


@struct.dataclass
class Plans:
  """B planned episodes. key: [B, 2] uint32. start: [B, 2] m. yaw: [B] rad. num_people: [B] int32.

  goals: [B, L, 2] m, the last one repeated where there are fewer. num_goals: [B] int32. things: furniture [B, ...]
  with all slots filled up by empty ones.
  """

  key: Array
  start: Array
  yaw: Array
  goals: Array
  num_goals: Array
  num_people: Array
  things: Furniture


def episode_seed(file: EpisodeFile, number: int) -> np.ndarray:
  """[2] uint32 key of episode `number` of a file: of its scene, task and seed, and nothing else."""
  digest = hashlib.sha256(f'{file.scene_hash}/{file.task}/{file.seed}/{number}'.encode()).digest()
  return np.frombuffer(digest[:8], np.uint32)


def plans_of(file: EpisodeFile, numbers: Sequence[int], slots: Slots = ROOM) -> Plans:
  """Episodes `numbers` of a file as arrays; ValueError where one has more things or people than slots."""
  planned = [file.episodes[number] for number in numbers]
  # of all episodes, not only of these: batches share a program
  most = max(len(e.goals) for e in file.episodes)
  things = [_furniture(number, episode, slots) for number, episode in zip(numbers, planned, strict=True)]
  for number, episode in zip(numbers, planned, strict=True):
    if episode.num_people > slots.people:
      raise ValueError(
        f'episode {number} of {file.scene_name}, task {file.task}, has {episode.num_people} people; there are '
        f'{slots.people} slots: choose larger ones'
      )
  return Plans(
    key=np.stack([episode_seed(file, number) for number in numbers]),
    start=np.array([e.start for e in planned], np.float32),
    yaw=np.array([e.start_yaw for e in planned], np.float32),
    goals=np.array([(*e.goals, *[e.goals[-1]] * (most - len(e.goals))) for e in planned], np.float32),
    num_goals=np.array([len(e.goals) for e in planned], np.int32),
    num_people=np.array([e.num_people for e in planned], np.int32),
    things=jax.tree.map(lambda *x: np.stack(x), *things),
  )


def _furniture(number: int, episode: PlannedEpisode, slots: Slots) -> Furniture:
  """Things of one episode, standing on z = 0, boxes first; all slots filled up."""
  boxes = [t for t in episode.things if t.half_y is not None]
  rounds = [t for t in episode.things if t.half_y is None]
  for name, given, room in (('boxes', boxes, slots.boxes), ('cylinders', rounds, slots.cylinders)):
    if len(given) > room:
      raise ValueError(f'episode {number} has {len(given)} {name}; there are {room} slots: choose larger ones')

  def column(things: Sequence[Any], room: int, value: Callable[[Any], float]) -> Any:
    return np.array([*(value(t) for t in things), *[0.0] * (room - len(things))], np.float32)

  of_boxes = lambda value: column(boxes, slots.boxes, value)
  of_rounds = lambda value: column(rounds, slots.cylinders, value)
  tall = lambda t: t.high - t.low
  kinds = [KIND[t.kind] for t in boxes], [KIND[t.kind] for t in rounds]
  kind: Any = [*kinds[0], *[0] * (slots.boxes - len(boxes)), *kinds[1], *[0] * (slots.cylinders - len(rounds))]
  colour: Any = np.full((slots.boxes + slots.cylinders, 3), 0.5, np.float32)
  return Furniture(
    boxes=Boxes(
      x=of_boxes(lambda t: t.x),
      y=of_boxes(lambda t: t.y),
      yaw=of_boxes(lambda t: t.yaw),
      half_x=of_boxes(lambda t: t.half_x),
      half_y=of_boxes(lambda t: t.half_y),
      low=of_boxes(lambda t: 0.0),
      high=of_boxes(tall),
    ),
    cylinders=Rounds(
      x=of_rounds(lambda t: t.x),
      y=of_rounds(lambda t: t.y),
      radius=of_rounds(lambda t: t.half_x),
      low=of_rounds(lambda t: 0.0),
      high=of_rounds(tall),
    ),
    kind=np.array(kind, np.int32),  # type: ignore[arg-type]
    colour=colour,
  )


@functools.cache
def _finishes() -> looks.FinishTable:
  return looks.finish_table(LOOKS[DRESS].finishes, ROLES)


def dressed(scene: Scene, slots: Slots, key: jax.Array) -> Scene:
  """`scene` with colours and patterns of the look DRESS on things and people; consumes the key."""
  index = jnp.arange(slots.num)
  head = slots.boxes + slots.cylinders + slots.people
  role = jnp.where((index >= head) & (index < head + slots.people), ROLE['head'], scene.kind)
  colour, accent, pattern, scale, _ = looks.draw_finishes(Draws(key, _DRAWS * slots.num), _finishes(), role)
  return dataclasses.replace(scene, colour=colour, accent=accent, pattern=pattern, scale=scale)


Begin = Callable[[Scenery, Plans], tuple[Episode, Legs | None]]


@functools.lru_cache(maxsize=16)
def make_begin(env: UrbanEnv, slots: Slots) -> Begin:
  """A jitted function (scenery, plans [B]) -> episodes [B] at their starts, and their chains of goals.

  The latter are None where all have one goal. One compile per shapes.
  """
  radius = env.config.robot.radius

  def begin_one(walls: Walls, free_points: jax.Array, light: Light, plan: Plans) -> tuple[Episode, Legs | None]:
    people_key, dress_key = jax.random.split(jax.random.wrap_key_data(plan.key, impl='threefry2x32'))
    world = walled_world(
      people_key,
      walls,
      plan.start,
      plan.yaw,
      plan.goals[0],
      plan.things,
      plan.num_people,
      free_points,
      mount_of(env.config.robot.mount),
      light,
      slots,
      radius,
    )
    world = dataclasses.replace(world, scene=dressed(world.scene, slots, dress_key))
    episode = env.begin_in(world, plan.key, jnp.float32(1.0)).pipeline_state
    if plan.goals.shape[0] == 1:
      return episode, None
    scene = world.scene
    free = free_space(scene, radius, grid=world.to_goal.shape)
    to_goal = jax.lax.map(lambda goal: geodesic(scene, free, goal), plan.goals)
    before = jnp.concatenate([plan.start[None], plan.goals[:-1]])
    length = jax.vmap(lambda grid, point: geodesic_at(grid, scene.ground, point[None])[0])(to_goal, before)
    length = jnp.where(jnp.arange(length.shape[0]) < plan.num_goals, length, 0.0)
    return episode, Legs(plan.goals, to_goal, length, plan.num_goals)

  def begin(scenery: Scenery, plans: Plans) -> tuple[Episode, Legs | None]:
    shared = scenery.walls, scenery.free_points, scenery.light
    return jax.vmap(begin_one, in_axes=(None, None, None, 0))(*shared, plans)

  return jax.jit(begin)
