"""Places beside the robot's route where a person cannot be seen before stepping out in front of the robot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from s2e_jax.scene import Scene, ground_height, to_street, to_world
from s2e_jax.worlds.distance import Outlines
from s2e_jax.worlds.people_parties import BODY
from s2e_jax.worlds.people_paths import along_route, nearest_object, pass_boxes, route_in_street

_ALONG = 24  # points of the route that are looked at
_BESIDE = (-0.6, 0.0, 0.6)  # places behind an object, in units of its half width across the route
MIN_HEIGHT = 1.1  # m, of a child
_REACH = 4.5  # m from the route to the middle of the object


@struct.dataclass
class HidingPlaces:
  """Q places, in the street frame unless said otherwise.

  spot: [Q, 2] world (m), where the person waits. waypoints: [Q, 6, 2] the spot, the route in front of the robot,
  and points farther along it. trigger: [Q] m to the robot when the person sets off.
  tallest: [Q] m, height of a person that cannot be seen there. is_good: [Q] bool: hidden, free and reachable.
  """

  spot: jax.Array
  waypoints: jax.Array
  trigger: jax.Array
  tallest: jax.Array
  is_good: jax.Array


def _hidden_height(
  box: tuple[jax.Array, ...], top: jax.Array, eye: jax.Array, eye_height: jax.Array, target: jax.Array
) -> jax.Array:
  """Height [Q] (m) up to which box q hides a point above target [Q, 2] from an eye at eye [Q, 2]; 0 if not.

  box: x, y, cos, sin, half_x, half_y of Q boxes. top: [Q] m.
  """
  near, far = pass_boxes(box, eye, target - eye)
  blocked = (near < far) & (near > 0.05) & (far < 1.0)
  # a ray that rises on its way is stopped where it comes in
  return jnp.where(blocked, eye_height + (top - eye_height) / jnp.maximum(near, 0.05), 0.0)


def hiding_places(scene: Scene, shape: Outlines, route: jax.Array, u: jax.Array) -> HidingPlaces:
  """Three places behind each of the scene's boxes (Q = 3 boxes), seen from a robot that follows the route.

  shape: static outlines. route: [L, 2] m in the world, the robot's start first. u: [boxes, 3] uniform numbers.
  """
  ground, boxes = scene.ground, scene.boxes
  k = ground.curvature
  street, arc = route_in_street(ground, route)
  # where the route passes each box, and which way it goes there
  at = arc[-1] * (jnp.arange(_ALONG) + 0.5) / _ALONG
  px, py = to_world(*along_route(street, arc, at), k)
  far = (px[:, None] - boxes.x) ** 2 + (py[:, None] - boxes.y) ** 2
  passing = at[jnp.argmin(far, axis=0)]
  s0, d0 = along_route(street, arc, passing - 0.3)
  s1, d1 = along_route(street, arc, passing + 0.3)
  x0, y0 = to_world(s0, d0, k)
  x1, y1 = to_world(s1, d1, k)
  tx, ty = x1 - x0, y1 - y0
  size = jnp.maximum(jnp.sqrt(tx * tx + ty * ty), 1e-3)
  tx, ty = tx / size, ty / size
  x, y = (x0 + x1) / 2, (y0 + y1) / 2
  lateral = tx * (boxes.y - y) - ty * (boxes.x - x)
  side = jnp.where(lateral > 0, 1.0, -1.0)
  nx, ny = -ty * side, tx * side  # away from the route
  turn_cos, turn_sin = jnp.abs(shape.cos * tx + shape.sin * ty), jnp.abs(shape.cos * ty - shape.sin * tx)
  long = turn_cos * boxes.half_x + turn_sin * boxes.half_y
  wide = turn_sin * boxes.half_x + turn_cos * boxes.half_y
  beside = jnp.array(_BESIDE)

  def spread(values: jax.Array) -> jax.Array:
    return jnp.repeat(values, len(_BESIDE), axis=0)

  offset = jnp.tile(beside, boxes.x.shape[0]) * spread(wide)
  ahead = spread(long + BODY + 0.15)
  spot_x = spread(boxes.x) + ahead * spread(tx) + offset * spread(nx)
  spot = jnp.stack([spot_x, spread(boxes.y) + ahead * spread(ty) + offset * spread(ny)], axis=-1)
  spot_s, spot_d = to_street(spot[:, 0], spot[:, 1], k)

  # from two places of the robot, to both sides of the body
  meeting = spread(passing) + ahead
  before = spread(2.5 + 2.0 * u[:, 0])
  every = tuple(spread(getattr(shape, name)) for name in ('x', 'y', 'cos', 'sin', 'half_x', 'half_y'))
  floor = ground_height(ground, spot_s, spot_d)
  eye_height = scene.mount.height + ground.curb_height
  tallest = jnp.full(spot.shape[0], 3.0)
  for back in (before, before + 3.0):
    eye = jnp.stack(to_world(*along_route(street, arc, meeting - back), k), axis=-1)
    view = spot - eye
    view = view / jnp.maximum(jnp.sqrt(jnp.sum(view * view, axis=-1, keepdims=True)), 1e-3)
    for sign in (-1.0, 1.0):
      edge = spot + sign * BODY * jnp.stack([-view[:, 1], view[:, 0]], axis=-1)
      tallest = jnp.minimum(tallest, _hidden_height(every, spread(boxes.high), eye, eye_height, edge) - floor)
  eye = jnp.stack(to_world(*along_route(street, arc, meeting - before), k), axis=-1)
  trigger = jnp.sqrt(jnp.sum((spot - eye) ** 2, axis=-1))

  # out to the route and on along it, with the robot or against it
  cross_s, cross_d = along_route(street, arc, meeting)
  onwards = jnp.where(spread(u[:, 1]) < 0.5, 1.0, -1.0)
  length = spread(8.0 + 8.0 * u[:, 2])
  later = [along_route(street, arc, meeting + onwards * length * share) for share in (0.25, 0.5, 0.75, 1.0)]
  corners = [(spot_s, spot_d), (cross_s, cross_d), *later]
  waypoints = jnp.stack([jnp.stack(corner, axis=-1) for corner in corners], axis=1)
  cross = jnp.stack(to_world(cross_s, cross_d, k), axis=-1)
  way = spot + (cross - spot) * jnp.linspace(0.0, 1.0, 5)[:, None, None]
  free = jnp.min(nearest_object(shape, way[..., 0], way[..., 1]), axis=0)
  bounds = ground.bounds
  inside = (
    (spot_s > bounds[0] + 0.4)
    & (spot_s < bounds[1] - 0.4)
    & (spot_d > bounds[2] + 0.4)
    & (spot_d < bounds[3] - 0.4)
  )
  is_good = (spread(boxes.high) > spread(boxes.low)) & (tallest > MIN_HEIGHT + 0.05) & inside
  is_good &= (free > BODY + 0.05) & (jnp.abs(spread(lateral)) < _REACH)
  is_good &= (meeting > 5.0) & (meeting < arc[-1] - 1.0)
  return HidingPlaces(spot, waypoints, trigger, tallest, is_good)
