"""Random cluttered street scenes, as Scene records and as MJCF of the very same geometry."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from s2e_jax.render.view import View
from s2e_jax.scene import KIND, PATTERN, SLOTS, Boxes, Ground, Light, Mount, Rounds, Scene, Slots

# Kind and pattern of the furniture, in turn.
FURNITURE = (
  ('box', 'planks'),
  ('bench', 'planks'),
  ('vehicle', 'vehicle'),
  ('planter', 'bricks'),
  ('kiosk', 'panels'),
)
COLUMNS = (('pole', 'plain'), ('bin', 'bands'), ('trunk', 'noise'), ('bollard', 'bands'))


def _rounds(x: np.ndarray, y: np.ndarray, radius: np.ndarray, low: np.ndarray, high: np.ndarray) -> Rounds:
  return Rounds(*(jnp.asarray(f, jnp.float32) for f in np.broadcast_arrays(x, y, radius, low, high)))


def clutter(
  num: int, slots: Slots = SLOTS['standard'], seed: int = 0, curvature: float = 0.0
) -> tuple[Scene, View]:
  """num scenes and views: a street with buildings along it and furniture, people and balls all over its pavements.

  Every slot is used, so this is denser than any street. Positions are drawn in street coordinates.
  """
  r = np.random.default_rng(seed)
  curb, n_box, n_people = 0.15, slots.boxes, slots.people
  road_half, walk = r.uniform(2.5, 4.5, (num, 1)), r.uniform(2.0, 4.0, (num, 1))

  def place(n: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    s = r.uniform(1.8, 30, (num, n)) * np.where(r.random((num, n)) < 0.85, 1, -1)
    side = np.where(r.random((num, n)) < 0.6, -1, 1)
    return s, side * (road_half + r.uniform(low, high, (num, n)) * walk)

  def world(s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not curvature:
      return s, d
    return (1 / curvature - d) * np.sin(curvature * s), 1 / curvature - (1 / curvature - d) * np.cos(curvature * s)

  houses = max(1, n_box // 3)
  step = 60 / ((houses + 1) // 2)
  index = np.arange(houses)
  s, d = place(n_box, 0.05, 0.95)
  half = np.stack([r.uniform(0.15, 0.7, (num, n_box)), r.uniform(0.15, 0.5, (num, n_box))])
  half[0, :, :houses] = r.uniform(2, min(6.0, step / 2 - 1), (num, houses))
  half[1, :, :houses] = r.uniform(2, 4, (num, houses))
  s[:, :houses] = -10 + step * (index // 2 + 0.5) + r.uniform(-1, 1, (num, houses))
  offset = road_half + walk + half[1, :, :houses] + r.uniform(0.2, 1.5, (num, houses))
  d[:, :houses] = np.where(index % 2, 1, -1) * offset
  yaw = r.uniform(-1.5, 1.5, (num, n_box))
  yaw[:, :houses] = 0
  high = curb + r.uniform(0.3, 1.6, (num, n_box))
  high[:, :houses] = r.uniform(4, 14, (num, houses))
  f32 = lambda *xs: [jnp.asarray(x, jnp.float32) for x in xs]
  boxes = Boxes(*f32(*world(s, d), yaw + curvature * s, *half, np.full_like(s, curb), high))

  s, d = place(slots.cylinders, 0.05, 0.95)
  radius = r.uniform(0.05, 0.35, s.shape)
  tall = np.where(radius < 0.15, r.uniform(2.5, 5, s.shape), r.uniform(0.5, 1.2, s.shape))
  cylinders = _rounds(*world(s, d), radius, np.full_like(s, curb), curb + tall)

  s, d = place(n_people, -0.8, 0.95)
  people = world(s, d)
  low = np.where(np.abs(d) > road_half, curb, 0.0)
  height, width = r.uniform(1.5, 1.9, s.shape), r.uniform(0.2, 0.28, s.shape)
  s, d = place(slots.rounds, 0.05, 0.95)
  ball = r.uniform(0.15, 0.6, s.shape)
  balls = world(s, d)
  head = np.full_like(width, 0.12)
  join = lambda *xs: np.concatenate(xs, 1)
  capsules = _rounds(
    join(people[0], people[0], balls[0]),
    join(people[1], people[1], balls[1]),
    join(width, head, ball),
    join(low, low + height - 0.24, np.full_like(ball, curb)),
    join(low + height - 0.22, low + height, curb + 2 * ball),
  )
  looks = [('building', ('windows', 'bricks', 'shopfront')[i % 3]) for i in range(houses)]
  looks += [FURNITURE[i % len(FURNITURE)] for i in range(n_box - houses)]
  looks += [COLUMNS[i % len(COLUMNS)] for i in range(slots.cylinders)]
  looks += [('person', 'person')] * (2 * n_people) + [('crown', 'foliage')] * slots.rounds
  kind = np.array([KIND[k] for k, _ in looks])
  pattern = np.array([PATTERN[p] for _, p in looks])
  tile = lambda x: jnp.asarray(np.broadcast_to(x, (num, *x.shape)))
  azimuth, elevation = r.uniform(0, 2 * np.pi, num), r.uniform(0.5, 1.1, num)
  sun = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], -1)
  colour = 0.2 + 0.6 * r.random((num, slots.num, 3))
  absent = np.tile(np.array([0.0, -1.0], np.float32), (num, 1))
  full = lambda value: jnp.full((num,), value, jnp.float32)
  ground = Ground(
    curvature=full(curvature),
    road=jnp.asarray(np.hstack([-road_half, road_half]), jnp.float32),
    paved=jnp.asarray(np.hstack([-road_half - walk, road_half + walk]), jnp.float32),
    cross_road=jnp.asarray(absent),
    cross_paved=jnp.asarray(absent),
    crossings=jnp.asarray(np.tile(absent[:, None], (1, 2, 2))),
    plazas=jnp.asarray(np.tile(absent[:, None], (1, 2, 2))),
    curb_height=full(curb),
    bounds=tile(np.array([-60, 60, -30, 30], np.float32)),
    colour=tile(np.array([[0.1] * 3, [0.5] * 3, [0.42, 0.4, 0.37], [0.14, 0.22, 0.07], [0.8] * 3], np.float32)),
    pattern=tile(np.array([PATTERN[p] for p in ('asphalt', 'plain', 'slabs', 'grass', 'plain')], np.int32)),
    scale=tile(np.array([0.5, 1.0, 0.6, 0.3, 1.0], np.float32)),
    contrast=tile(np.array([0.3, 0.1, 0.5, 0.6, 0.2], np.float32)),
  )
  light = Light(
    sun=jnp.asarray(sun, jnp.float32),
    sun_strength=full(0.9),
    ambient=full(0.5),
    zenith=tile(np.array([0.18, 0.36, 0.72], np.float32)),
    horizon=tile(np.array([0.62, 0.72, 0.82], np.float32)),
    fog=full(0.008),
    exposure=full(1.0),
    white_balance=tile(np.ones(3, np.float32)),
  )
  scene = Scene(
    boxes=boxes,
    cylinders=cylinders,
    capsules=capsules,
    kind=tile(kind),
    colour=jnp.asarray(colour, jnp.float32),
    accent=jnp.asarray(np.clip(colour[..., ::-1] * 0.5, 0, 1), jnp.float32),
    pattern=tile(pattern),
    scale=jnp.asarray(r.uniform(0.5, 2.5, (num, slots.num)), jnp.float32),
    ground=ground,
    light=light,
    mount=Mount(full(0.6), full(0.0), full(0.0), full(1.0)),
  )
  x, y = world(np.zeros((num,)), -(road_half + walk * 0.5)[:, 0])
  view = View(
    position=jnp.asarray(np.stack([x, y, np.full(num, curb + 0.6)], -1), jnp.float32),
    yaw=jnp.asarray(r.uniform(-0.6, 0.6, num), jnp.float32),
    tan_pitch=full(0.0),
    half_width=full(1.0),
  )
  return scene, view


def _geoms(scene: Scene) -> list[str]:
  rows = []
  colour = lambda i: ' '.join(f'{c:.3f}' for c in np.asarray(scene.colour[i]))
  slot = 0
  for kind, part in (('box', scene.boxes), ('cylinder', scene.cylinders), ('capsule', scene.capsules)):
    for values in zip(*(np.asarray(x, float) for x in jax.tree.leaves(part)), strict=True):
      x, y, low, high = *values[:2], *values[-2:]
      middle, half = (low + high) / 2, (high - low) / 2
      if kind == 'box':
        size, turn = f'{values[3]} {values[4]} {half}', f' euler="0 0 {values[2]}"'
      else:
        radius = values[2]
        size, turn = f'{radius} {half if kind == "cylinder" else max(half - radius, 1e-6)}', ''
      rows.append(
        f'<geom name="p{slot}" type="{kind}" pos="{x} {y} {middle}" size="{size}"{turn} rgba="{colour(slot)} 1"/>'
      )
      slot += 1
  return rows


def mjcf(scene: Scene, view: View, height: int, width: int, shadow: int = 0, pitch: float = 0.0) -> str:
  """MJCF of one scene without batch axis on a straight street, seen by camera 'c' turned down by `pitch` (rad).

  shadow: size of the shadow map, 0 for none. Needs tan_pitch 0. Geoms of primitives are named p0, p1, ...
  """
  curb, road = float(scene.ground.curb_height), float(scene.ground.road[1])
  fovy = 2 * np.degrees(np.arctan(float(view.half_width) * height / width))
  yaw = float(view.yaw)
  forward, right = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([np.sin(yaw), -np.cos(yaw), 0])
  up = np.array([0, 0, np.cos(pitch)]) + forward * np.sin(pitch)
  axes = ' '.join(f'{a}' for a in np.concatenate([right, up]))
  text = lambda x: ' '.join(f'{a}' for a in np.asarray(x, float))
  return f"""<mujoco><compiler angle="radian"/>
<visual><quality offsamples="0" shadowsize="{shadow or 512}"/><global offwidth="{width}" offheight="{height}"/>
<map znear="0.001" zfar="2"/></visual><statistic extent="50"/>
<worldbody>
<light type="directional" dir="{text(-scene.light.sun)}" pos="0 0 30" castshadow="{str(shadow > 0).lower()}"/>
<camera name="c" pos="{text(view.position)}" xyaxes="{axes}" fovy="{fovy}"/>
<geom name="road" type="plane" size="200 200 1" rgba=".35 .35 .36 1"/>
<geom name="left" type="box" pos="0 {road + 50} {curb / 2}" size="200 50 {curb / 2}" rgba=".65 .63 .6 1"/>
<geom name="right" type="box" pos="0 {-road - 50} {curb / 2}" size="200 50 {curb / 2}" rgba=".65 .63 .6 1"/>
<body name="b" pos="0 0 -50"><freejoint/><geom type="sphere" size=".01" mass="1"/></body>
{''.join(_geoms(scene))}</worldbody></mujoco>"""
