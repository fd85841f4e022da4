"""Parties: people who walk or stand together, the room they take, and where each of them is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import Scene, on_pavement, to_world
from s2e_jax.worlds.distance import Outlines
from s2e_jax.worlds.people_paths import nearest_object

MAX_GROUP = 3
BODY = 0.27  # m, radius of the widest body
SPACING = 0.62  # m between the middles of people who walk side by side
FILE = 0.9  # m between people who walk in file
RING = 0.55  # m from the middle of a group that stands and talks
GAP = 0.2  # m kept free between parties, and between people and objects
_FENCE = 0.4  # m from the fence
_PASSAGE = 0.5  # m of half a way past people who stand


@struct.dataclass
class Party:
  """N parties: size [N] int32, is_standing [N] bool, turn [N] 0..1 of the ring in which those who stand talk."""

  size: jax.Array
  is_standing: jax.Array
  turn: jax.Array

  @property
  def reach(self) -> jax.Array:
    """[N] m from the middle that the party needs for itself."""
    return jnp.where(self.is_standing, RING, 0.5 * FILE * (self.size - 1)) + BODY + 0.05


def party_layout(
  u: jax.Array, grouped: float | jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Who walks with whom among the first `count` of N people: leader, rank and size, each [N] int32.

  Groups hold 2 or MAX_GROUP people in neighbouring slots, the first of which leads. u: [N] uniform numbers.
  """
  num = u.shape[0]
  index = jnp.arange(num)
  place = index % MAX_GROUP
  joins = (u < grouped) & (place > 0)
  before = jnp.roll(joins, 1)
  leader = jnp.where(joins, jnp.where((place == 2) & before, index - 2, index - 1), index)
  rank = index - leader
  same = (leader[:, None] == leader) & (index < count)
  return leader, rank, jnp.sum(same, axis=-1)


def place_in_party(
  party: Party, rank: jax.Array | int, step: jax.Array, in_file: jax.Array, metric: jax.Array
) -> jax.Array:
  """Place [N, 2] (street frame) of the member with this rank [N], seen from the middle of its party.

  step: [N, 2] direction of walking. in_file: [N] bool, one behind the other instead of side by side. metric: [N]
  metres of a metre of s there.
  """
  order = (rank - (party.size - 1) / 2)[:, None]
  left = jnp.stack([-step[:, 1], step[:, 0]], axis=-1)
  around = 2 * jnp.pi * (rank / jnp.maximum(party.size, 1) + party.turn)
  ring = jnp.where(party.size > 1, RING, 0.0)[:, None] * jnp.stack([jnp.cos(around), jnp.sin(around)], axis=-1)
  walking = order * jnp.where(in_file[:, None], FILE * step, SPACING * left)
  place = jnp.where(party.is_standing[:, None], ring, walking)
  return place / jnp.stack([metric, jnp.ones_like(metric)], axis=-1)


def has_room(
  scene: Scene, shape: Outlines, party: Party, start: jax.Array, step: jax.Array, in_file: jax.Array
) -> jax.Array:
  """Whether parties have room at starts [N, K, 2] (street frame), and leave a way past them when they stand.

  shape: static outlines. step: [N, K, 2] direction of walking. in_file: [N, K] bool.
  """
  k, bounds = scene.ground.curvature, scene.ground.bounds
  metric = 1 - k * start[..., 1]
  place = jax.vmap(place_in_party, (None, None, 1, 1, 1), 1)
  members = [place(party, rank, step, in_file, metric) for rank in range(MAX_GROUP)]
  past = (RING + BODY + _PASSAGE) * jnp.stack([-step[..., 1] / metric, step[..., 0]], axis=-1)
  offsets = jnp.stack([*members, past, -past])
  s, d = start[..., 0] + offsets[..., 0], start[..., 1] + offsets[..., 1]
  distance = nearest_object(shape, *to_world(s, d, k))
  fence = jnp.minimum(jnp.minimum(s - bounds[0], bounds[1] - s), jnp.minimum(d - bounds[2], bounds[3] - d))
  is_free = (distance > BODY + GAP) & (fence > _FENCE)
  way_past = (is_free & (distance > _PASSAGE) & on_pavement(scene.ground, s, d))[MAX_GROUP:]
  is_spare = jnp.arange(MAX_GROUP)[:, None] >= party.size
  has_place = jnp.all(is_free[:MAX_GROUP] | is_spare[..., None], axis=0)
  return has_place & (jnp.any(way_past, axis=0) | ~party.is_standing[:, None])


def choose_places(
  start: jax.Array, is_free: jax.Array, score: jax.Array, reach: jax.Array, is_asked: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Candidate [N] for each party in turn, so that no two come near each other, and whether there was one [N].

  start: [N, K, 2] m. is_free: [N, K]. score: [N, K]. reach: [N] m of a party. is_asked: [N] parties to place.
  """
  num = start.shape[0]

  def place(carry: tuple[jax.Array, jax.Array], row: tuple[jax.Array, ...]) -> tuple:
    taken, taken_reach = carry
    here, free, value, own, asked, index = row
    gap = jnp.sqrt(jnp.sum((here[:, None] - taken) ** 2, axis=-1)) - taken_reach - own
    free = free & jnp.all(gap > GAP, axis=-1) & asked
    best = jnp.argmax(jnp.where(free, value, -1e3))
    chosen = jnp.arange(here.shape[0]) == best
    found = jnp.any(free)
    spot = jnp.sum(jnp.where(chosen[:, None], here, 0.0), axis=0)
    mine = (jnp.arange(num) == index) & found
    taken = jnp.where(mine[:, None], spot, taken)
    return (taken, jnp.where(mine, own, taken_reach)), (best, found)

  # nobody stands in the places that are not taken yet
  carry = (jnp.zeros((num, 2)), jnp.full(num, -1e6))
  rows = (start, is_free, score, reach, is_asked, jnp.arange(num))
  return jax.lax.scan(place, carry, rows)[1]
