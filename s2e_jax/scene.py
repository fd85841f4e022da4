"""The scene record: everything of an urban world that is drawn, touched or measured, in fixed slots.

One record feeds rendering, contact, distance fields, segmentation, rewards and the expert. World frame: x along
the street at its origin, y to the left, z up, metres; the road surface is z = 0, everything else lies one curb
higher. All fields carry leading axes [*B]; shapes below leave them out.

Street frame: s metres along the centre line, d metres to its left. The centre line is a circular arc through the
world origin with `curvature` kappa (1/m, positive turns left), so s = x and d = y where kappa is 0.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.geometry import arctan

# What a primitive is part of. The index is `Scene.kind`; 0 is an empty slot.
KINDS = (
  'empty', 'building', 'wall', 'trunk', 'crown', 'pole', 'bin', 'bench', 'box', 'cone', 'vehicle', 'person',
  'bollard', 'planter', 'barrier', 'sign', 'kiosk', 'barrel', 'statue', 'scooter', 'hedge',
)  # fmt: skip
KIND = {name: i for i, name in enumerate(KINDS)}

# Surface patterns of primitives (`Scene.pattern`) and of the ground (`Ground.pattern`).
PATTERNS = (
  'plain', 'noise', 'windows', 'bricks', 'planks', 'stripes', 'panels', 'shopfront', 'foliage', 'person',
  'vehicle', 'bands', 'slabs', 'bond', 'cobbles', 'asphalt', 'grass', 'checks', 'dots', 'zigzag', 'hexagons',
)  # fmt: skip
PATTERN = {name: i for i, name in enumerate(PATTERNS)}

# Pixels of a segmentation: below MAX_PRIMITIVES the slot of the primitive, else one of these.
MAX_PRIMITIVES = 128
SKY, ROAD, CURB, SIDEWALK, GRASS, CROSSING = 255, 254, 253, 252, 251, 250

# Rows of the ground's materials.
SURFACES = ('road', 'curb', 'sidewalk', 'grass', 'paint')


@dataclasses.dataclass(frozen=True)
class Slots:
  """How many primitives of each shape a scene has room for.

  Order of all per-primitive fields: `boxes`, `cylinders`, then the capsules: `people` bodies, as many heads,
  and `rounds` (tree crowns, balls). Person i is the body in capsule i with the head in capsule people + i.
  """

  boxes: int = 28
  cylinders: int = 12
  people: int = 8
  rounds: int = 8

  def __post_init__(self) -> None:
    """Raises ValueError when a count is negative or there are more primitives than a segmentation can name."""
    for field in dataclasses.fields(self):
      if getattr(self, field.name) < 0:
        raise ValueError(f'slots.{field.name}={getattr(self, field.name)} must not be negative')
    if not 0 < self.num <= MAX_PRIMITIVES:
      raise ValueError(f'{self.num} primitives; a scene has 1 to {MAX_PRIMITIVES}: lower the slots')

  @property
  def capsules(self) -> int:
    """Number of capsules."""
    return 2 * self.people + self.rounds

  @property
  def num(self) -> int:
    """Number of primitives P."""
    return self.boxes + self.cylinders + self.capsules


# Slots by size of the scene: 32 primitives for fast training, 64 for everything else, 128 for crowds.
SLOTS = {'small': Slots(14, 6, 4, 4), 'standard': Slots(28, 12, 8, 8), 'large': Slots(56, 24, 16, 16)}


@struct.dataclass
class Boxes:
  """N upright boxes; one with high <= low is empty.

  x, y, yaw: [N] centre (m) and heading (rad) in the world. half_x, half_y: [N] half sides (m) in the box's own
  frame. low, high: [N] z of bottom and top (m).
  """

  x: jax.Array
  y: jax.Array
  yaw: jax.Array
  half_x: jax.Array
  half_y: jax.Array
  low: jax.Array
  high: jax.Array


@struct.dataclass
class Rounds:
  """N upright cylinders, or capsules (a sphere is a capsule with high - low = 2 radius); high <= low is empty.

  x, y: [N] axis in the world (m). radius: [N] (m). low, high: [N] z of the lowest and highest point (m).
  """

  x: jax.Array
  y: jax.Array
  radius: jax.Array
  low: jax.Array
  high: jax.Array


@struct.dataclass
class Ground:
  """The ground in the street frame: a carriageway between pavements, an optional cross street, crossings, plazas.

  curvature: [] 1/m of the centre line.
  road: [2] d-range of the carriageway. paved: [2] d-range of road and pavements together.
  cross_road: [2] s-range of the carriageway of a cross street, over all d. cross_paved: [2] the same with its
    pavements. A range with high <= low is absent.
  crossings: [2, 4] rectangles (s_low, s_high, d_low, d_high) where people may cross a carriageway.
  plazas: [2, 4] paved rectangles, same form.
  curb_height: [] m of everything but the carriageways.
  bounds: [4] (s_low, s_high, d_low, d_high) of the world; nobody leaves it.
  colour: [5, 3] linear RGB in 0..1 of SURFACES. pattern: [5] int32 of PATTERNS. scale: [5] m of one pattern cell.
  contrast: [5] 0..1.
  """

  curvature: jax.Array
  road: jax.Array
  paved: jax.Array
  cross_road: jax.Array
  cross_paved: jax.Array
  crossings: jax.Array
  plazas: jax.Array
  curb_height: jax.Array
  bounds: jax.Array
  colour: jax.Array
  pattern: jax.Array
  scale: jax.Array
  contrast: jax.Array


@struct.dataclass
class Light:
  """Sun, sky and exposure.

  sun: [3] unit vector to the sun. sun_strength, ambient: [] radiance of sun and sky on a white surface.
  zenith, horizon: [3] RGB of the sky. fog: [] 1/m. exposure: [] factor. white_balance: [3] factors.
  """

  sun: jax.Array
  sun_strength: jax.Array
  ambient: jax.Array
  zenith: jax.Array
  horizon: jax.Array
  fog: jax.Array
  exposure: jax.Array
  white_balance: jax.Array


@struct.dataclass
class Mount:
  """The camera on the robot: an upright lens whose axis may be shifted.

  height: [] m above the ground under the robot. forward: [] m ahead of the robot origin.
  tan_pitch: [] slope that the middle row looks down. half_width: [] tan of half the horizontal field of view.
  """

  height: jax.Array
  forward: jax.Array
  tan_pitch: jax.Array
  half_width: jax.Array


@struct.dataclass
class Walls:
  """Static things of any shape as a grid of distances, I cells along x and J along y in the world; not drawn.

  distance: [I, J] float32 m from the middle of each cell to the nearest surface, negative inside. They are as tall
    as anybody. All that lies beyond the middles of the outermost cells counts as solid.
  origin: [2] m, world x, y of the middle of cell [0, 0]. cell: [] m, side of a cell.
  """

  distance: jax.Array
  origin: jax.Array
  cell: jax.Array


@struct.dataclass
class Scene:
  """One urban world at one moment. P primitives in the order of `Slots`: boxes, cylinders, capsules.

  kind: [P] int32 of KINDS. colour, accent: [P, 3] RGB in 0..1, ground colour and second colour of the pattern.
  pattern: [P] int32 of PATTERNS. scale: [P] m of one pattern cell.
  walls: what else is touched and measured, None for nothing.
  """

  boxes: Boxes
  cylinders: Rounds
  capsules: Rounds
  kind: jax.Array
  colour: jax.Array
  accent: jax.Array
  pattern: jax.Array
  scale: jax.Array
  ground: Ground
  light: Light
  mount: Mount
  walls: Walls | None = None


def is_present(scene: Scene) -> jax.Array:
  """[*B, P] bool: the slot holds a primitive."""
  parts = (scene.boxes, scene.cylinders, scene.capsules)
  return jnp.concatenate([part.high > part.low for part in parts], axis=-1)


def num_slots(scene: Scene) -> int:
  """Number of primitives P."""
  return scene.kind.shape[-1]


def to_street(x: jax.Array, y: jax.Array, curvature: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Street coordinates (s, d) of world points; exact for every curvature, also near and at 0.

  Valid where curvature * d < 1 and |curvature * s| < pi / 2.
  """
  k = curvature
  a = 1 - k * y
  root = jnp.sqrt(a * a + (k * x) ** 2)
  d = (2 * y - k * (x * x + y * y)) / (1 + root)
  t = x / a
  z = k * t
  small = jnp.abs(z) < 1e-3
  safe = jnp.where(small, 1.0, z)
  return t * jnp.where(small, 1 - z * z / 3, arctan(safe) / safe), d


def to_world(s: jax.Array, d: jax.Array, curvature: jax.Array) -> tuple[jax.Array, jax.Array]:
  """World (x, y) of street coordinates; inverse of `to_street`."""
  half = curvature * s / 2
  small = jnp.abs(half) < 1e-3
  safe = jnp.where(small, 1.0, half)
  # Half angles: (1 - cos a) / a loses half of float32's digits where a is small, sin^2(a / 2) does not.
  sinc_half = jnp.where(small, 1 - half * half / 6, jnp.sin(safe) / safe)
  chord = s * sinc_half
  cos_half, sin_half = jnp.cos(half), jnp.sin(half)
  x = chord * cos_half - d * 2 * sin_half * cos_half
  y = chord * sin_half + d * (1 - 2 * sin_half * sin_half)
  return x, y


def street_heading(s: jax.Array, curvature: jax.Array) -> jax.Array:
  """Heading (rad) of the street in the world at s."""
  return curvature * s


def _within(value: jax.Array, span: jax.Array) -> jax.Array:
  return (value >= span[..., 0]) & (value <= span[..., 1])


def in_rectangles(s: jax.Array, d: jax.Array, rectangles: jax.Array) -> jax.Array:
  """Whether street points lie in any of [*B, R, 4] rectangles; s and d already broadcast against [*B]."""
  inside = jnp.zeros(jnp.broadcast_shapes(s.shape, d.shape), bool)
  for i in range(rectangles.shape[-2]):
    r = rectangles[..., i, :]
    inside |= _within(s, r[..., :2]) & _within(d, r[..., 2:])
  return inside


def on_road(ground: Ground, s: jax.Array, d: jax.Array) -> jax.Array:
  """Whether street points [...] of one scene lie on a carriageway, crossings included (vmap for many scenes)."""
  plaza = in_rectangles(s, d, ground.plazas)
  return (_within(d, ground.road) | _within(s, ground.cross_road)) & ~plaza


def on_pavement(ground: Ground, s: jax.Array, d: jax.Array) -> jax.Array:
  """Whether street points are where a robot may drive: pavements, plazas and crossings."""
  paved = _within(d, ground.paved) | _within(s, ground.cross_paved) | in_rectangles(s, d, ground.plazas)
  return (paved & ~on_road(ground, s, d)) | in_rectangles(s, d, ground.crossings)


def ground_height(ground: Ground, s: jax.Array, d: jax.Array) -> jax.Array:
  """z (m) of the ground: 0 on carriageways, one curb higher elsewhere."""
  return jnp.where(on_road(ground, s, d), 0.0, ground.curb_height)
