"""The slow, obvious twin of the rasteriser: every gaussian over every pixel, front to back, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import sph_harm_y

ALPHA_MIN, ALPHA_MAX, STOP = 1 / 255, 0.99, 1e-4


def real_harmonics(directions, degree):
  """[N, (degree + 1)^2] real spherical harmonics of unit directions, from scipy's complex ones, 3DGS's signs."""
  x, y, z = np.asarray(directions, float).T
  polar, azimuth = np.arccos(np.clip(z, -1, 1)), np.arctan2(y, x)
  columns = []
  for n in range(degree + 1):
    for m in range(-n, n + 1):
      value = sph_harm_y(n, abs(m), polar, azimuth)
      if m == 0:
        columns.append(value.real)
      else:
        # scipy's harmonics carry the Condon-Shortley phase (-1)^m, which 3DGS keeps
        columns.append(np.sqrt(2) * (value.real if m > 0 else value.imag))
  return np.stack(columns, axis=1)


def rotations(q):
  w, x, y, z = (q / jnp.linalg.norm(q, axis=-1, keepdims=True)).T
  return jnp.stack(
    [
      jnp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
      jnp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
      jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ],
    -2,
  )


def paint(gaussians, camera, options, limit=None, basis=None):
  """[h, w, 5] red, green, blue, depth, alpha of one camera; run it under jax.enable_x64(True).

  basis: [N, K] harmonics of the directions from the camera (None: degree 0). Differentiable but for the basis.
  """
  h, w = options.height, options.width
  r, t = camera.cam_from_world, camera.translation
  fx, fy, cx, cy = *camera.focal, *camera.centre
  axes = rotations(gaussians.rotation) * gaussians.scale[:, None, :]
  in_camera = gaussians.mean @ r.T + t
  cov_in_camera = r @ (axes @ axes.transpose(0, 2, 1)) @ r.T

  def pixel(p):
    return jnp.stack([fx * p[0] / p[2] + cx, fy * p[1] / p[2] + cy])

  def at_most(p):  # where the linearisation is taken
    low = jnp.stack([-cx / fx - 0.15 * w / fx, -cy / fy - 0.15 * h / fy])
    high = jnp.stack([(w - cx) / fx + 0.15 * w / fx, (h - cy) / fy + 0.15 * h / fy])
    return jnp.concatenate([jnp.clip(p[:2] / p[2], low, high) * p[2], p[2:]])

  depth = in_camera[:, 2]
  safe = jnp.where((depth > options.near)[:, None], in_camera, jnp.array([0.0, 0.0, 1.0]))
  centre = jax.vmap(pixel)(safe)
  jacobian = jax.vmap(jax.jacfwd(pixel))(jax.vmap(at_most)(safe))
  thin = jacobian @ cov_in_camera @ jacobian.transpose(0, 2, 1)
  wide = thin + 0.3 * jnp.eye(2)
  inverse = jnp.linalg.inv(wide)
  opacity = gaussians.opacity
  if options.antialias:
    opacity = opacity * jnp.sqrt(jnp.maximum(jnp.linalg.det(thin) / jnp.linalg.det(wide), 2.5e-5))
  # best linear guess of the depth from the place in the image
  slopes = jnp.einsum('nij,nj->ni', inverse, jnp.einsum('nij,nj->ni', jacobian, cov_in_camera[:, :, 2]))
  basis = jnp.full((len(depth), 1), 0.28209479177387814) if basis is None else basis
  colour = jnp.maximum(jnp.einsum('nk,nkc->nc', basis, gaussians.sh[:, : basis.shape[1]]) + 0.5, 0)
  y, x = jnp.meshgrid(jnp.arange(h) + 0.5, jnp.arange(w) + 0.5, indexing='ij')
  pixels = jnp.stack([x, y], -1)
  # ties as float32 sorts them
  order = jnp.argsort(jax.lax.stop_gradient(depth).astype(jnp.float32), stable=True)
  is_drawn = (depth > options.near) & (depth < options.far)

  def add(carry, i):
    through, image = carry
    apart = pixels - centre[i]
    square = jnp.einsum('hwi,ij,hwj->hw', apart, inverse[i], apart)
    raw = opacity[i] * jnp.exp(-0.5 * square)
    here = depth[i] + apart @ slopes[i]
    is_covered = is_drawn[i] & (raw >= ALPHA_MIN)
    if limit is not None:
      is_covered &= here < limit
    alpha = jnp.where(is_covered, jnp.minimum(raw, ALPHA_MAX), 0)
    behind = through * (1 - alpha)
    weight = jnp.where(behind > STOP, through * alpha, 0)
    value = jnp.concatenate([jnp.broadcast_to(colour[i], (h, w, 3)), here[..., None], jnp.ones((h, w, 1))], -1)
    return (behind, image + weight[..., None] * value), None

  (_, image), _ = jax.lax.scan(add, (jnp.ones((h, w)), jnp.zeros((h, w, 5))), order)
  return image
