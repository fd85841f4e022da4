"""Looks: distributions of everything that pictures show but the geometry: colours, patterns, light and cameras.

A is broad like video from the web, B is a plain simulator, C holds patterns, kinds of things and layouts that
neither A nor B has: C-near in the light and colours of A, C-far in odd colours, at dusk, in fog.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.robots import CameraMount
from s2e_jax.scene import KINDS, PATTERN, PATTERNS, SURFACES, Ground, Light, Mount
from s2e_jax.worlds import palettes
from s2e_jax.worlds.draws import Draws, lerp
from s2e_jax.worlds.layouts import COMMON, RARE
from s2e_jax.worlds.palettes import Finish

Range = tuple[float, float]
# Kinds, and the parts of things that look different from the rest.
ROLES = (*KINDS, 'head', 'cabin')
ROLE = {name: i for i, name in enumerate(ROLES)}
# Patterns whose second colour is a joint or a grain: always a shade of the first.
JOINTED = ('noise', 'bricks', 'planks', 'foliage', 'slabs', 'bond', 'cobbles')


@dataclasses.dataclass(frozen=True)
class Look:
  """One named look; ranges are drawn from uniformly.

  finishes: by kind. ground: by surface. things: weights of `catalogue.THINGS` among obstacles.
  furniture: weights of `catalogue.STREET_FURNITURE`. layouts: those it knows, with default weights.
  furniture_share, traffic: how many of the places for street furniture and parked vehicles are taken (low, high).
  sun_elevation: rad. sun_strength, ambient: radiance of sun and sky on white. overcast: probability of a sky
  without sun. skies: (zenith, horizon) hex codes. sky_jitter: log spread of their brightness.
  fog: 1/m. exposure: factor. warmth: log of red over blue. curb: m.
  camera_height: m, camera_pitch: rad (positive looks down), camera_hfov: rad: None keeps the robot's own.
  """

  finishes: Mapping[str, Finish]
  ground: Mapping[str, Finish]
  things: Mapping[str, float]
  layouts: Mapping[str, float]
  skies: tuple[tuple[str, str], ...]
  furniture: Mapping[str, float]
  furniture_share: Range = (0.3, 1.0)
  traffic: Range = (0.2, 0.9)
  sun_elevation: Range = (0.35, 1.2)
  sun_strength: Range = (0.7, 1.2)
  ambient: Range = (0.35, 0.6)
  overcast: float = 0.0
  sky_jitter: float = 0.0
  fog: Range = (0.0, 0.0)
  exposure: Range = (1.0, 1.0)
  warmth: Range = (0.0, 0.0)
  curb: Range = (0.12, 0.12)
  camera_height: Range | None = None
  camera_pitch: Range | None = None
  camera_hfov: Range | None = None


_COMMON_FURNITURE = {'tree': 0.55, 'lamp': 0.25, 'row_bollard': 0.2}
_BROAD_THINGS = {
  'litter_bin': 1.0, 'bench': 1.0, 'parcel': 1.5, 'flower_box': 1.0, 'works_barrier': 1.0, 'board': 0.8,
  'low_wall': 0.5, 'clipped_hedge': 0.7, 'cone': 1.5, 'bollard': 1.0, 'round_bin': 1.0, 'post': 0.7, 'tub': 0.8,
}  # fmt: skip
_PLAIN_THINGS = {'litter_bin': 1.0, 'bench': 1.0, 'parcel': 2.0, 'works_barrier': 0.5, 'cone': 2.0, 'bollard': 1.0}
_RARE_THINGS = {'kiosk': 0.8, 'scooter': 1.5, 'barrel': 1.5, 'statue': 1.0}
_SKIES = (
  ('3f74b5', 'c3d8ea'), ('5a8fc8', 'dfe9f0'), ('2f62a8', 'a9c6e0'), ('7fa6cc', 'eef2f4'), ('6f9bd0', 'f2e6d0'),
  ('a8b4c0', 'd9dde0'), ('c2c8cd', 'e6e8e9'), ('8f9aa5', 'c8ccd0'), ('5b6f8f', 'e8c8a0'), ('4a5c82', 'f0b890'),
)  # fmt: skip
_BROAD = Look(
  finishes=palettes.BROAD,
  ground=palettes.BROAD_GROUND,
  things=_BROAD_THINGS,
  layouts=dict.fromkeys(COMMON, 1.0),
  skies=_SKIES,
  furniture=_COMMON_FURNITURE,
  sun_elevation=(0.2, 1.3),
  sun_strength=(0.5, 1.4),
  ambient=(0.3, 0.7),
  overcast=0.3,
  sky_jitter=0.25,
  fog=(0.0, 0.012),
  exposure=(0.7, 1.45),
  warmth=(-0.25, 0.25),
  curb=(0.06, 0.16),
  camera_height=(0.35, 1.6),
  camera_pitch=(math.radians(-8), math.radians(12)),
  camera_hfov=(math.radians(65), math.radians(115)),
)
_NEAR = dataclasses.replace(
  _BROAD,
  finishes=palettes.NEAR,
  ground=palettes.NEAR_GROUND,
  things=_RARE_THINGS,
  layouts={**dict.fromkeys(RARE, 1.0), **dict.fromkeys(COMMON, 0.25)},
  camera_height=None,
  camera_pitch=None,
  camera_hfov=None,
)
LOOKS: dict[str, Look] = {
  'A': _BROAD,
  'B': Look(
    finishes=palettes.PLAIN,
    ground=palettes.PLAIN_GROUND,
    things=_PLAIN_THINGS,
    layouts=dict.fromkeys(COMMON, 1.0),
    skies=(('6f9bd0', 'd5e2ee'),),
    furniture=_COMMON_FURNITURE,
    sun_elevation=(0.8, 0.95),
    sun_strength=(0.9, 1.0),
    ambient=(0.5, 0.55),
  ),
  'C-near': _NEAR,
  'C-far': dataclasses.replace(
    _NEAR,
    finishes=palettes.FAR,
    ground=palettes.FAR_GROUND,
    skies=(
      ('0a0a22', '3a1f4a'), ('1a0c14', '6e2f1f'), ('0c2a26', '2f6e5c'), ('2a1a44', 'c05a8a'), ('101418', '30383f'),
    ),
    sun_elevation=(0.05, 0.25),
    sun_strength=(0.3, 1.2),
    ambient=(0.12, 0.3),
    overcast=0.2,
    fog=(0.02, 0.08),
    exposure=(0.6, 1.6),
    warmth=(-0.7, 0.7),
  ),
}  # fmt: skip


def linear(code: str) -> np.ndarray:
  """[3] linear RGB in 0..1 of an sRGB hex code."""
  value = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)]) / 255
  return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FinishTable:
  """Finishes of R rows as arrays, each list filled up to the longest by repeating it: uniform picks stay uniform
  because a pick is scaled by the row's own length.

  colours, accents: [R, N, 3] linear. patterns: [R, N] int. scales: [R, N, 2] of the patterns. num: [R, 3] lengths
  of the three. has_accent: [R]. shade, contrast: [R, 2]. jitter: [R].
  """

  colours: np.ndarray
  accents: np.ndarray
  patterns: np.ndarray
  scales: np.ndarray
  num: np.ndarray
  has_accent: np.ndarray
  shade: np.ndarray
  contrast: np.ndarray
  jitter: np.ndarray


def finish_table(finishes: Mapping[str, Finish], rows: tuple[str, ...]) -> FinishTable:
  """The table of finishes with one row for each name, plain grey where a name has none."""
  listed = [finishes.get(name, Finish('808080')) for name in rows]
  colours = [np.stack([linear(code) for code in f.colours.split()]) for f in listed]
  accents = [np.stack([linear(code) for code in (f.accents or '000000').split()]) for f in listed]
  patterns = [np.array([PATTERN[name] for name, *_ in f.patterns]) for f in listed]
  scales = [np.array([scale for _, *scale in f.patterns], np.float32) for f in listed]

  def padded(lists: list[np.ndarray]) -> np.ndarray:
    longest = max(map(len, lists))
    return np.stack([np.resize(values, (longest, *values.shape[1:])) for values in lists])

  return FinishTable(
    colours=padded(colours),
    accents=padded(accents),
    patterns=padded(patterns),
    scales=padded(scales),
    num=np.array(
      [[len(c), len(a), len(p)] for c, a, p in zip(colours, accents, patterns, strict=True)], np.float32
    ),
    has_accent=np.array([bool(f.accents) for f in listed]),
    shade=np.array([f.shade for f in listed], np.float32),
    contrast=np.array([f.contrast for f in listed], np.float32),
    jitter=np.array([f.jitter for f in listed], np.float32),
  )


def draw_finishes(
  draws: Draws, table: FinishTable, row: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
  """Colour [N, 3], accent [N, 3], pattern [N], scale [N] and contrast [N] for rows [N] of the table."""
  u = draws.take(9, row.shape[0])
  which = jnp.floor(u[:3].T * jnp.asarray(table.num)[row]).astype(jnp.int32)
  shade, contrast = jnp.asarray(table.shade)[row], jnp.asarray(table.contrast)[row]
  scale = jnp.asarray(table.scales)[row, which[:, 2]]
  jitter = jnp.asarray(table.jitter)[row][:, None]
  brightness = jnp.exp(jitter * (2 * u[3] - 1)[:, None])
  tint = jnp.exp(jitter / 3 * (2 * u[4:7].T - 1))
  colour = jnp.clip(jnp.asarray(table.colours)[row, which[:, 0]] * brightness * tint, 0.002, 0.95)
  own = jnp.asarray(table.accents)[row, which[:, 1]] * tint
  derived = colour * lerp(shade[:, 0], shade[:, 1], u[7])[:, None]
  pattern = jnp.asarray(table.patterns)[row, which[:, 2]].astype(jnp.int32)
  is_jointed = np.isin(np.arange(len(PATTERNS)), [PATTERN[name] for name in JOINTED])
  has_accent = jnp.asarray(table.has_accent)[row] & ~jnp.asarray(is_jointed)[pattern]
  accent = jnp.where(has_accent[:, None], own, derived)
  return colour, accent, pattern, lerp(scale[:, 0], scale[:, 1], u[8]), lerp(contrast[:, 0], contrast[:, 1], u[7])


def dressed_ground(draws: Draws, look: Look, ground: Ground) -> Ground:
  """`ground` with colours and patterns."""
  table = finish_table(look.ground, SURFACES)
  colour, _, pattern, scale, contrast = draw_finishes(draws, table, jnp.arange(len(SURFACES)))
  return dataclasses.replace(ground, colour=colour, pattern=pattern, scale=scale, contrast=contrast)


def draw_light(draws: Draws, look: Look) -> Light:
  """Sun, sky and exposure."""
  u = draws.take(9)
  azimuth = 2 * jnp.pi * u[0]
  elevation = lerp(*look.sun_elevation, u[1])
  is_overcast = u[2] < look.overcast
  skies = np.stack([[linear(zenith), linear(horizon)] for zenith, horizon in look.skies])
  sky = jnp.asarray(skies)[jnp.floor(u[3] * len(look.skies)).astype(jnp.int32)]
  sky = sky * jnp.exp(look.sky_jitter * (2 * u[4] - 1))
  # without a sun the whole sky is the light, and hides its blue
  grey = jnp.mean(sky, axis=-1, keepdims=True)
  sky = jnp.clip(jnp.where(is_overcast, 0.25 * sky + 0.75 * grey, sky), 0, 1)
  strength, ambient = lerp(*look.sun_strength, u[5]), lerp(*look.ambient, u[6])
  flat = jnp.cos(elevation)
  warmth = lerp(*look.warmth, u[7])
  return Light(
    sun=jnp.stack([flat * jnp.cos(azimuth), flat * jnp.sin(azimuth), jnp.sin(elevation)]),
    sun_strength=jnp.where(is_overcast, 0.0, strength),
    ambient=jnp.where(is_overcast, ambient + 0.5 * strength, ambient),
    zenith=sky[0],
    horizon=sky[1],
    fog=lerp(*look.fog, u[8] ** 2),
    exposure=jnp.exp(lerp(math.log(look.exposure[0]), math.log(look.exposure[1]), draws.take())),
    white_balance=jnp.exp(jnp.stack([0.5 * warmth, 0.0 * warmth, -0.5 * warmth])),
  )


def draw_mount(draws: Draws, look: Look, mount: CameraMount) -> Mount:
  """The camera: the look's own where it has one, else the robot's."""
  u = draws.take(3)

  def value(limits: Range | None, own: float, share: jax.Array) -> jax.Array:
    return lerp(*limits, share) if limits else jnp.full((), own)

  return Mount(
    height=value(look.camera_height, mount.height, u[0]),
    forward=jnp.full((), mount.forward),
    tan_pitch=jnp.tan(value(look.camera_pitch, mount.pitch, u[1])),
    half_width=jnp.tan(0.5 * value(look.camera_hfov, mount.hfov, u[2])),
  )
