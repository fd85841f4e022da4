"""From gaussians in the world to ellipses in the image: EWA projection and colours, as struct of arrays.

Zwicker et al., EWA volume splatting (2001), with the bounds on the Jacobian and the blur of 3D Gaussian Splatting.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from s2e_jax.gaussians import SH_C0, Array, Gaussians
from s2e_jax.render.splats.cameras import Cameras
from s2e_jax.render.splats.options import ALPHA_MIN, BLUR, EXTENT, SplatOptions

# Rows of the geometry [10, M]: mean x y z, covariance xx xy xz yy yz zz, opacity.
NUM_GEOMETRY = 10
# Columns of the features [M, 12] that blending reads.
FEATURES = ('x', 'y', 'xx', 'xy', 'yy', 'opacity', 'depth', 'red', 'green', 'blue', 'slope_x', 'slope_y')
NUM_FEATURES = len(FEATURES)
_MARGIN = 0.15  # of the image's size, beyond which the Jacobian is taken at the border
_LEAST_SHARE = 2.5e-5  # of the area that compensation leaves


class Footprints(NamedTuple):
  """M gaussians in one image.

  features: [M, 12] columns of FEATURES: centre (pixels), inverse covariance (1/pixels^2), opacity, depth (m),
  colour, and how much deeper the gaussian's plane of greatest density lies per pixel to the right and down (m).
  reach_x, reach_y: [M] pixels from the centre that are covered. is_seen: [M] bool.
  """

  features: jax.Array
  reach_x: jax.Array
  reach_y: jax.Array
  is_seen: jax.Array


def geometry_of(gaussians: Gaussians) -> tuple[jax.Array, jax.Array]:
  """Geometry [10, M] and coefficients [3 K, M] (red's, then green's, then blue's) of gaussians; differentiable."""
  w, x, y, z = (gaussians.rotation / jnp.linalg.norm(gaussians.rotation, axis=-1, keepdims=True)).T
  s0, s1, s2 = (gaussians.scale**2).T
  r = (
    (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
    (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
    (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
  )
  cov = [
    r[i][0] * r[j][0] * s0 + r[i][1] * r[j][1] * s1 + r[i][2] * r[j][2] * s2
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
  ]
  geometry = jnp.stack([*gaussians.mean.T, *cov, gaussians.opacity])
  sh = gaussians.sh
  return geometry, sh.transpose(2, 1, 0).reshape(-1, sh.shape[0])


def harmonics(num: int, x: Array, y: Array, z: Array) -> list[Array]:
  """The first `num` (1, 4, 9 or 16) real spherical harmonics of unit directions, signs as in 3DGS files."""
  basis: list[Array] = [SH_C0]
  if num > 1:
    c = 0.4886025119029199
    basis += [-c * y, c * z, -c * x]
  if num > 4:
    c = 1.0925484305920792
    basis += [
      c * x * y,
      -c * y * z,
      0.31539156525252005 * (2 * z * z - x * x - y * y),
      -c * x * z,
      0.5 * c * (x * x - y * y),
    ]
  if num > 9:
    a, b = 0.5900435899266435, 0.4570457994644658
    basis += [
      -a * y * (3 * x * x - y * y),
      2.890611442640554 * x * y * z,
      -b * y * (4 * z * z - x * x - y * y),
      0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
      -b * x * (4 * z * z - x * x - y * y),
      1.445305721320277 * z * (x * x - y * y),
      -a * x * (x * x - 3 * y * y),
    ]
  return basis


def colours(sh: jax.Array, x: jax.Array, y: jax.Array, z: jax.Array) -> list[jax.Array]:
  """[M] each of red, green, blue of coefficients [3 K, M] seen along unit directions x, y, z [M]."""
  num = sh.shape[0] // 3
  basis = harmonics(num, x, y, z)
  # sums of products of whole rows: as a matrix product this takes 50 times as long on a CPU
  return [
    jnp.maximum(sum(basis[k] * sh[num * c + k].astype(jnp.float32) for k in range(num)) + 0.5, 0.0)
    for c in range(3)
  ]


def project(geometry: jax.Array, sh: jax.Array, camera: Cameras, options: SplatOptions) -> Footprints:
  """Footprints of M gaussians, geometry [10, M] and coefficients [3 K, M], in one camera (without batch axis)."""
  r, t = camera.cam_from_world, camera.translation
  (fx, fy), (cx, cy) = camera.focal, camera.centre
  width, height = options.width, options.height
  mean, cov, opacity = geometry[:3], geometry[3:9], geometry[9]
  x, y, depth = (r[i, 0] * mean[0] + r[i, 1] * mean[1] + r[i, 2] * mean[2] + t[i] for i in range(3))
  is_seen = (depth > options.near) & (depth < options.far) & (opacity >= ALPHA_MIN)
  per_depth = 1 / jnp.where(is_seen, depth, 1.0)
  u, v = x * per_depth, y * per_depth
  # far beside the image the linearisation explodes: there it is taken at the border
  margin_u, margin_v = _MARGIN * width / fx, _MARGIN * height / fy
  u_in = jnp.clip(u, -cx / fx - margin_u, (width - cx) / fx + margin_u)
  v_in = jnp.clip(v, -cy / fy - margin_v, (height - cy) / fy + margin_v)
  across = [fx * per_depth * (r[0, k] - u_in * r[2, k]) for k in range(3)]
  down = [fy * per_depth * (r[1, k] - v_in * r[2, k]) for k in range(3)]

  def times_cov(a: list[jax.Array]) -> list[jax.Array]:
    xx, xy, xz, yy, yz, zz = cov
    return [
      xx * a[0] + xy * a[1] + xz * a[2],
      xy * a[0] + yy * a[1] + yz * a[2],
      xz * a[0] + yz * a[1] + zz * a[2],
    ]

  dot = lambda a, b: a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
  cov_across, cov_down = times_cov(across), times_cov(down)
  xx, xy, yy = dot(across, cov_across), dot(across, cov_down), dot(down, cov_down)
  wide_xx, wide_yy = xx + BLUR, yy + BLUR
  per_det = 1 / jnp.maximum(wide_xx * wide_yy - xy * xy, 1e-10)
  if options.antialias:
    opacity = opacity * jnp.sqrt(jnp.maximum((xx * yy - xy * xy) * per_det, _LEAST_SHARE))
  # where exp(-r^2 / 2) times the opacity falls to ALPHA_MIN
  extent = jnp.minimum(EXTENT**2, jnp.maximum(2 * jnp.log(jnp.maximum(opacity, 1e-9) / ALPHA_MIN), 0.0))
  reach_x, reach_y = jnp.sqrt(extent * wide_xx), jnp.sqrt(extent * wide_yy)
  px, py = fx * u + cx, fy * v + cy
  is_seen &= (opacity >= ALPHA_MIN) & (px + reach_x > 0) & (px - reach_x < width)
  is_seen &= (py + reach_y > 0) & (py - reach_y < height)
  inv_xx, inv_xy, inv_yy = wide_yy * per_det, -xy * per_det, wide_xx * per_det
  # covariance of depth with the place in the image: the plane on which the density is greatest along each ray
  cov_forward = times_cov([r[2, k] for k in range(3)])
  depth_x, depth_y = dot(across, cov_forward), dot(down, cov_forward)
  camera_in_world = -(r[0] * t[0] + r[1] * t[1] + r[2] * t[2])
  ray = [mean[k] - camera_in_world[k] for k in range(3)]
  per_length = jax.lax.rsqrt(jnp.maximum(dot(ray, ray), 1e-20))
  rgb = colours(sh, *(k * per_length for k in ray))
  slopes = inv_xx * depth_x + inv_xy * depth_y, inv_xy * depth_x + inv_yy * depth_y
  features = jnp.stack([px, py, inv_xx, inv_xy, inv_yy, opacity, depth, *rgb, *slopes], axis=-1)
  return Footprints(features, reach_x, reach_y, is_seen)
