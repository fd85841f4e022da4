"""Our projection and colours against the torch reference that gsplat keeps beside its CUDA kernels.

Runs where torch is installed. Where the package gsplat is importable, its `gsplat.cuda._torch_impl` is a reference
(written for gsplat 1.5.3); another are the formulas that its documentation states, in torch.

Conventions that are the same in both, so that no input is left out for them: 0.3 pixels^2 are added to the
variances in the image (`eps2d`), and the Jacobian is taken at most 0.3 * tan(half the field of view) beyond the
border, which is 0.15 of the image's size, also where the optical axis is off the middle.

Where they differ, and what is compared for that reason:
- compensation: gsplat's falls to 0, ours to sqrt(2.5e-5) = 0.005: compared with the larger of gsplat's and 0.005.
- both bound the determinant below by 1e-10, which no gaussian blurred by 0.3 pixels^2 reaches.
- near, far and beside the image: gsplat leaves out what 3.33 standard deviations, rounded up to whole pixels, do
  not bring into the image, ours what covers no pixel of it by 1/255: what gsplat draws is compared, and it must
  contain what we draw. Colours are compared for all gaussians.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.render.splats.cameras import Cameras
from s2e_jax.render.splats.options import BLUR, SplatOptions
from s2e_jax.render.splats.project import FEATURES, geometry_of, project

torch = pytest.importorskip('torch', reason='torch is not installed; gsplat states its formulas in it')
try:
  from gsplat.cuda import _torch_impl as gsplat
except ImportError:
  gsplat = None

H, W, NUM = 96, 160, 4000
LEAST = 2.5e-5**0.5  # of our compensation
COLUMN = {name: k for k, name in enumerate(FEATURES)}


class Stated:
  """The formulas of gsplat's documentation, for one batch of cameras; names and arguments as in its reference."""

  @staticmethod
  def _quat_scale_to_covar_preci(quats, scales, compute_preci=False):
    w, x, y, z = torch.unbind(quats / quats.norm(dim=-1, keepdim=True), dim=-1)
    rows = (
      (1 - 2 * (y**2 + z**2), 2 * (x * y - w * z), 2 * (x * z + w * y)),
      (2 * (x * y + w * z), 1 - 2 * (x**2 + z**2), 2 * (y * z - w * x)),
      (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x**2 + y**2)),
    )
    turn = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return turn @ torch.diag_embed(scales**2) @ turn.transpose(-1, -2), None

  @staticmethod
  def _fully_fused_projection(
    means, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane, calc_compensations=True
  ):
    turn, shift = viewmats[:, None, :3, :3], viewmats[:, None, :3, 3]
    x, y, depth = torch.unbind((turn @ means[None, ..., None])[..., 0] + shift, -1)
    fx, fy, cx, cy = (Ks[:, None, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    bounded = lambda t, f, c, size: torch.clamp(t, -c / f - 0.15 * size / f, (size - c) / f + 0.15 * size / f)
    zero = torch.zeros_like(x)
    across = torch.stack([fx / depth, zero, -fx * bounded(x / depth, fx, cx, width) / depth], -1)
    down = torch.stack([zero, fy / depth, -fy * bounded(y / depth, fy, cy, height) / depth], -1)
    to_image = torch.stack([across, down], -2) @ turn
    cov = to_image @ covars[None] @ to_image.transpose(-1, -2)
    wide = cov + eps2d * torch.eye(2, dtype=cov.dtype)
    inverse = torch.linalg.inv(wide)
    conics = torch.stack([inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 1]], -1)
    ratio = torch.linalg.det(cov) / torch.linalg.det(wide)
    means2d = torch.stack([fx * x / depth + cx, fy * y / depth + cy], -1)
    radii = torch.ceil(3.33 * torch.sqrt(torch.diagonal(wide, dim1=-2, dim2=-1)))
    size = torch.tensor([width, height], dtype=cov.dtype)
    inside = ((means2d + radii > 0) & (means2d - radii < size)).all(-1)
    inside &= (depth > near_plane) & (depth < far_plane)
    return radii * inside[..., None], means2d, depth, conics, torch.sqrt(torch.clamp(ratio, min=0.0))

  @staticmethod
  def _spherical_harmonics(degrees_to_use, dirs, coeffs):
    """Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2013, from the associated Legendre polynomials."""
    x, y, z = torch.unbind(dirs / dirs.norm(dim=-1, keepdim=True), -1)
    one, pi = torch.ones_like(x), np.pi
    basis = [one * (1 / (4 * pi)) ** 0.5]
    c1 = (3 / (4 * pi)) ** 0.5
    basis += [-c1 * y, c1 * z, -c1 * x]
    c2 = (15 / (4 * pi)) ** 0.5
    basis += [
      c2 * x * y,
      -c2 * y * z,
      (5 / (16 * pi)) ** 0.5 * (3 * z * z - 1),
      -c2 * x * z,
      c2 / 2 * (x * x - y * y),
    ]
    c33, c32, c31, c30 = ((k / pi) ** 0.5 for k in (35 / 32, 105 / 4, 21 / 32, 7 / 16))
    basis += [
      -c33 * y * (3 * x * x - y * y),
      c32 * x * y * z,
      -c31 * y * (5 * z * z - 1),
      c30 * z * (5 * z * z - 3),
      -c31 * x * (5 * z * z - 1),
      c32 / 2 * z * (x * x - y * y),
      -c33 * x * (x * x - 3 * y * y),
    ]
    num = (degrees_to_use + 1) ** 2
    return (torch.stack(basis[:num], -1)[..., None] * coeffs[..., :num, :]).sum(-2)


REFERENCES = [
  pytest.param(Stated, id='stated'),
  pytest.param(gsplat, id='gsplat', marks=pytest.mark.skipif(gsplat is None, reason='gsplat is not installed')),
]


def scattered(blobs, degree, seed=0):
  """Gaussians in view, beside it, near and far, from specks below a pixel to what covers the image."""
  gaussians = blobs(NUM, seed=seed, degree=degree, spread=9.0, size=0.05)
  rng = np.random.default_rng(seed + 100)
  grown = gaussians.scale * np.exp(rng.normal(size=(NUM, 1))).astype(np.float32)
  mean = gaussians.mean * rng.uniform(0.05, 4, (NUM, 1)).astype(np.float32)
  return gaussians.replace(scale=grown, mean=mean, opacity=np.full(NUM, 0.9, np.float32), sh=2 * gaussians.sh)


def askew(cameras):
  """Cameras with unequal focal lengths and an optical axis off the middle."""
  seen_from = cameras(3, H, W)
  focal = np.array([[100, 80], [55, 70], [140, 150]], np.float32)
  centre = np.array([[80, 48], [61.5, 57.25], [101, 33]], np.float32)
  return Cameras(seen_from.cam_from_world, seen_from.translation, jnp.asarray(focal), jnp.asarray(centre))


def ours(gaussians, seen_from, antialias=True):
  """(features [B, M, 12], is_seen [B, M]) of our projection."""
  options = SplatOptions(height=H, width=W, antialias=antialias)
  geometry, sh = jax.jit(geometry_of)(jax.tree.map(jnp.asarray, gaussians))
  found = jax.jit(jax.vmap(lambda camera: project(geometry, sh, camera, options)))(seen_from)
  return np.asarray(found.features), np.asarray(found.is_seen)


def theirs(reference, gaussians, seen_from, dtype):
  """radii, means2d, depths, conics, compensations of the reference, numpy."""
  as_torch = lambda x: torch.tensor(np.asarray(x), dtype=dtype)
  num = len(seen_from.focal)
  view = np.tile(np.eye(4), (num, 1, 1))
  view[:, :3, :3], view[:, :3, 3] = seen_from.cam_from_world, seen_from.translation
  lens = np.tile(np.eye(3), (num, 1, 1))
  lens[:, [0, 1], [0, 1]], lens[:, :2, 2] = seen_from.focal, seen_from.centre
  options = SplatOptions(height=H, width=W)
  covars, _ = reference._quat_scale_to_covar_preci(
    as_torch(gaussians.rotation), as_torch(gaussians.scale), compute_preci=False
  )
  found = reference._fully_fused_projection(
    as_torch(gaussians.mean),
    covars,
    as_torch(view),
    as_torch(lens),
    W,
    H,
    eps2d=BLUR,
    near_plane=options.near,
    far_plane=options.far,
    calc_compensations=True,
  )
  return [x.numpy() for x in found]


def worst(found, expected, floor):
  """Largest error relative to the expected value, or to `floor` where that is larger."""
  return float((np.abs(found - expected) / np.maximum(np.abs(expected), floor)).max())


@pytest.mark.parametrize('reference', REFERENCES)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_places_shapes_and_depths_are_gsplats(reference, dtype, blobs, cameras):
  gaussians, seen_from = scattered(blobs, 0), askew(cameras)
  features, is_seen = ours(gaussians, seen_from)
  radii, means2d, depths, conics, compensations = theirs(reference, gaussians, seen_from, getattr(torch, dtype))
  drawn = (radii > 0).all(axis=-1)
  assert 1000 < drawn.sum() < 0.6 * drawn.size
  assert not (is_seen & ~drawn).any()
  # the Jacobian is at its bound for many of them
  u = np.abs(means2d - np.asarray(seen_from.centre)[:, None]) / [W, H]
  assert (u.max(axis=-1) > 0.7)[drawn].sum() > 50
  features = features[drawn]
  at = lambda *names: features[:, [COLUMN[name] for name in names]]
  size = np.sqrt(conics[..., 0] * conics[..., 2])[drawn][:, None]
  found = {
    'means2d (pixels)': np.abs(at('x', 'y') - means2d[drawn]).max(),
    'depths (relative)': worst(at('depth'), depths[drawn][:, None], 1e-3),
    # relative to the geometric mean of the two precisions, as xy may be next to nothing
    'conics (relative)': (np.abs(at('xx', 'xy', 'yy') - conics[drawn]) / np.maximum(conics[drawn], size)).max(),
    'compensations': np.abs(at('opacity')[:, 0] / 0.9 - np.maximum(compensations[drawn], LEAST)).max(),
  }
  assert compensations[drawn].min() < 0.1 and compensations[drawn].max() > 0.95
  for name, value in found.items():
    # seen with torch 2.13 and gsplat 1.5.3: 1.7e-4 pixels, 2.9e-7, 2.7e-5 and 1.6e-5, from either dtype
    assert value < {'means2d (pixels)': 5e-4, 'depths (relative)': 1e-6}.get(name, 1e-4), name


@pytest.mark.parametrize('reference', REFERENCES)
def test_without_antialiasing_the_opacity_stays(reference, blobs, cameras):
  gaussians, seen_from = scattered(blobs, 0, seed=3), askew(cameras)
  features, _ = ours(gaussians, seen_from, antialias=False)
  radii, _, _, conics, _ = theirs(reference, gaussians, seen_from, torch.float32)
  drawn = (radii > 0).all(axis=-1)
  assert (features[..., COLUMN['opacity']] == np.float32(0.9)).all()
  assert worst(features[drawn][:, COLUMN['xx']], conics[drawn][:, 0], 1e-6) < 1e-3


@pytest.mark.parametrize('reference', REFERENCES)
@pytest.mark.parametrize('degree', [0, 1, 2, 3])
def test_colours_are_gsplats(reference, degree, blobs, cameras):
  gaussians, seen_from = scattered(blobs, degree, seed=degree), askew(cameras)
  features, _ = ours(gaussians, seen_from)
  found = features[..., COLUMN['red'] : COLUMN['blue'] + 1]
  turn = np.asarray(seen_from.cam_from_world, np.float64)
  position = -np.einsum('bji,bj->bi', turn, np.asarray(seen_from.translation, np.float64))
  towards = torch.tensor(gaussians.mean[None] - position[:, None], dtype=torch.float32)
  coefficients = torch.tensor(gaussians.sh)[None].expand(len(position), -1, -1, -1)
  # as `gsplat.rasterization` does: half added, nothing below black
  expected = torch.clamp_min(reference._spherical_harmonics(degree, towards, coefficients) + 0.5, 0.0).numpy()
  error = float(np.abs(found - expected).max())
  assert expected.std() > 0.1 and (expected == 0).any()
  assert error < 3e-6  # 4.8e-7 seen
