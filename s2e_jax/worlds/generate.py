"""Generator of urban worlds: a pure function of a typed key, drawn on the device, one world per environment.

Every world keeps a free lane from the start past the goal (`placement`), so that the goal can be reached without
leaving pavements and crossings. All draws are arithmetic on one array of uniforms: no branch, no second try.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from s2e_jax.fences import computed_once
from s2e_jax.scene import KIND, Boxes, Ground, Rounds, Scene, ground_height
from s2e_jax.worlds import looks, placement
from s2e_jax.worlds.catalogue import STREET_FURNITURE, THINGS, thing_table
from s2e_jax.worlds.config import WorldConfig, budget
from s2e_jax.worlds.draws import Draws, lerp
from s2e_jax.worlds.facades import Blocks, draw_facades, draw_vehicles
from s2e_jax.worlds.layouts import layout_table
from s2e_jax.worlds.looks import ROLE, ROLES
from s2e_jax.worlds.people import place_people, spawn_people
from s2e_jax.worlds.routes import free_space, geodesic, geodesic_at
from s2e_jax.worlds.street import (
  NUM_LANE,
  STRETCH,
  Street,
  along,
  draw_street,
  in_world,
  lane,
  make_ground,
  yaw_in_world,
)
from s2e_jax.worlds.world import World

Range = tuple[float, float]
__all__ = ['Generator', 'World', 'WorldConfig', 'make_generator']

Generator = Callable[[jax.Array, jax.Array], World]

LANE_MARGIN = 0.35  # m that the free lane leaves on each side of the robot
START_CLEAR, GOAL_CLEAR = 0.9, 0.6  # m that stay free beside the robot at the start and at the goal


def _standing(street: Street, ground: Ground, blocks: Blocks) -> tuple[placement.Pose, jax.Array]:
  """World (x, y, yaw) and floor z of blocks."""
  x, y = in_world(street, blocks.s, blocks.d)
  floor = ground_height(ground, blocks.s, street.mirror * blocks.d)
  return (x, y, yaw_in_world(street, blocks.s, blocks.heading)), floor


def _joined(*blocks: Blocks) -> Blocks:
  return Blocks(*(jnp.concatenate(values) for values in zip(*blocks, strict=True)))


def make_generator(config: WorldConfig) -> Generator:
  """The function (key, level) -> World that draws worlds of `config`; level in [0, 1] is the curriculum.

  Pure and cheap to vmap; the key is consumed. At the start the robot's disc keeps 0.3 m from everything and
  everybody; the goal lies on free pavement and a way of pavement and crossings as wide as the robot leads there.
  """
  look, slots, share = config.look_distribution, config.slots, budget(config.slots)
  layouts = layout_table({name: w for name, w in config.layout_weights.items() if w > 0})
  box_things, cylinder_things = (thing_table(THINGS, look.things, is_box) for is_box in (True, False))
  furniture_things = thing_table(STREET_FURNITURE, look.furniture)
  finishes = looks.finish_table(look.finishes, ROLES)
  lane_half = config.robot_radius + LANE_MARGIN
  num_boxes = share.obstacles[0]
  # a way that swings from side to side turns back against the sweeps at every piece
  num_draws = 160 + 25 * slots.num

  def in_level(limits: Range, level: jax.Array, u: jax.Array) -> jax.Array:
    return lerp(limits[0], lerp(limits[0], limits[1], level), u)

  def generate(key: jax.Array, level: jax.Array) -> World:
    key, key_people = jax.random.split(key)
    draws = Draws(key, num_draws)
    level = jnp.clip(level, 0, 1)
    distance = in_level(config.goal_distance, level, draws.take())
    street = computed_once(draw_street(draws, layouts, distance, lane_half))
    ground = make_ground(street, draws.within(look.curb))

    # the free lane, and the task on it
    u = jnp.linspace(0.0, 1.0, NUM_LANE) * STRETCH * street.goal_distance
    s, d, _ = along(street, u, lane(street, u))
    x, y = computed_once(in_world(street, s, d))
    start, goal = jnp.stack([x[0], y[0]]), _point_at(x, y, street.goal_distance)
    yaw = yaw_in_world(street, s[0], draws.within((-config.start_yaw, config.start_yaw)))
    r = config.robot_radius
    way = placement.Way(x, y, start, goal, r + START_CLEAR, r + GOAL_CLEAR)

    facades = draw_facades(draws, layouts, street, share.facades)
    traffic = draws.within(look.traffic)
    bodies, cabins = draw_vehicles(draws, street, share.vehicles, traffic)
    pieces = placement.draw_pieces(layouts, street, share.pieces)
    count = jnp.round(in_level(config.object_density, level, draws.take()) * street.goal_distance / 10)
    obstacles = placement.draw_obstacles(
      draws, street, ground, box_things, cylinder_things, share.obstacles, count
    )
    rows = placement.draw_furniture(
      draws, street, ground, furniture_things, share.furniture, draws.within(look.furniture_share)
    )

    # pieces first, then rows along the curb, then what lies about
    at, _ = _standing(street, ground, pieces)
    is_free = placement.keeps_clear(pieces, at, jnp.zeros(share.pieces, bool), way, street.lane_half)
    pieces = pieces._replace(kind=jnp.where(is_free, pieces.kind, 0))
    pieces = _joined(pieces, _empty(num_boxes - share.pieces))
    small = computed_once(_joined(rows, obstacles))
    at_small, _ = _standing(street, ground, small)
    solid = _joined(facades, bodies, pieces)
    at_solid, _ = _standing(street, ground, solid)
    is_round = jnp.concatenate([jnp.ones(share.furniture, bool), jnp.arange(sum(share.obstacles)) >= num_boxes])
    is_there = (small.kind > 0) & placement.keeps_clear(small, at_small, is_round, way, street.lane_half)
    is_there &= placement.keeps_apart(small, at_small, is_there, solid, at_solid)
    small = small._replace(kind=jnp.where(is_there, small.kind, 0))

    split = share.furniture, share.furniture + num_boxes
    loose = Blocks(
      *(jnp.where(pieces.kind > 0, a, b[split[0] : split[1]]) for a, b in zip(pieces, small, strict=True))
    )
    boxes = _joined(facades, bodies, cabins, loose)
    cylinders = Blocks(*(jnp.concatenate([v[: split[0]], v[split[1] :]]) for v in small))
    scene = _assemble(street, ground, boxes, cylinders, draws)
    scene = _dress(draws, scene)

    people = spawn_people(
      key_people,
      scene,
      slots.people,
      jnp.round(in_level((config.people[0] - 0.499, config.people[1] + 0.499), level, draws.take())),
      jnp.stack([start, goal]),
      jnp.stack([x, y], axis=-1),
      config.people_config,
    )
    to_goal = geodesic(scene, computed_once(free_space(scene, r)), goal)
    length = geodesic_at(to_goal, ground, start[None])[0]
    return World(place_people(scene, people), people, start, yaw, goal, to_goal, length, street.variant)

  def _assemble(street: Street, ground: Ground, boxes: Blocks, cylinders: Blocks, draws: Draws) -> Scene:
    """The scene without a look."""
    (x, y, yaw), floor = _standing(street, ground, boxes)
    z = lambda blocks, floor, top: floor + jnp.where(blocks.kind > 0, top, 0.0)
    record = Boxes(x, y, yaw, boxes.half_x, boxes.half_y, z(boxes, floor, boxes.low), z(boxes, floor, boxes.high))
    (cx, cy, _), below = _standing(street, ground, cylinders)
    rounds = Rounds(
      cx, cy, cylinders.half_x, z(cylinders, below, cylinders.low), z(cylinders, below, cylinders.high)
    )

    # crowns on the first trunks, bushes on planters
    radius, low, high = placement.crowns(draws, cylinders, share.crowns)
    planters = slice(slots.boxes - share.bushes, slots.boxes)
    is_planter = boxes.kind[planters] == KIND['planter']
    bush = 0.95 * jnp.minimum(boxes.half_x, boxes.half_y)[planters]
    foot = record.high[planters] - 0.4 * bush
    rest = slots.rounds - share.crowns - share.bushes
    none, people = jnp.zeros(rest), jnp.zeros(2 * slots.people)
    capsules = Rounds(
      x=jnp.concatenate([people, cx[: share.crowns], x[planters], none]),
      y=jnp.concatenate([people, cy[: share.crowns], y[planters], none]),
      radius=jnp.concatenate([people, radius, bush, none]),
      low=jnp.concatenate([people, below[: share.crowns] + low, foot, none]),
      high=jnp.concatenate(
        [people, below[: share.crowns] + high, foot + jnp.where(is_planter, 2 * bush, 0.0), none]
      ),
    )
    crown = jnp.where(cylinders.kind[: share.crowns] == KIND['trunk'], KIND['crown'], 0)
    bushes = jnp.where(is_planter, KIND['crown'], 0)
    is_person = jnp.full(2 * slots.people, KIND['person'])
    empty = jnp.zeros(rest, jnp.int32)
    num = slots.num
    return Scene(
      boxes=record,
      cylinders=rounds,
      capsules=capsules,
      kind=jnp.concatenate([boxes.kind, cylinders.kind, is_person, crown, bushes, empty]).astype(jnp.int32),
      colour=jnp.zeros((num, 3)),
      accent=jnp.zeros((num, 3)),
      pattern=jnp.zeros(num, jnp.int32),
      scale=jnp.ones(num),
      ground=ground,
      light=None,  # type: ignore[arg-type]
      mount=None,  # type: ignore[arg-type]
    )

  def _dress(draws: Draws, scene: Scene) -> Scene:
    """`scene` with colours, patterns, light and camera."""
    # heads and cabins have colours of their own
    role = scene.kind
    head = slots.boxes + slots.cylinders + slots.people
    index = jnp.arange(slots.num)
    role = jnp.where((index >= head) & (index < head + slots.people), ROLE['head'], role)
    cabin = share.facades + share.vehicles
    role = jnp.where((index >= cabin) & (index < cabin + share.vehicles), ROLE['cabin'], role)
    colour, accent, pattern, scale, _ = looks.draw_finishes(draws, finishes, role)
    # a vehicle is of one colour
    body = slice(share.facades, cabin)
    colour = jnp.concatenate([colour[:cabin], colour[body], colour[cabin + share.vehicles :]])
    return dataclasses.replace(
      scene,
      colour=colour,
      accent=accent,
      pattern=pattern,
      scale=scale,
      ground=looks.dressed_ground(draws, look, scene.ground),
      light=looks.draw_light(draws, look),
      mount=looks.draw_mount(draws, look, config.mount),
    )

  return generate


def _empty(num: int) -> Blocks:
  zero = jnp.zeros(num)
  return Blocks(zero, zero, zero, zero, zero, zero, zero, jnp.zeros(num, jnp.int32))


def _point_at(x: jax.Array, y: jax.Array, distance: jax.Array) -> jax.Array:
  """The point [2] `distance` (m) along the line through points [M]; its end if it is shorter."""
  step = jnp.hypot(jnp.diff(x), jnp.diff(y))
  before = jnp.cumsum(step) - step
  share = jnp.clip((distance - before) / jnp.maximum(step, 1e-6), 0, 1)
  return jnp.stack([v[0] + jnp.sum(share * jnp.diff(v)) for v in (x, y)])
