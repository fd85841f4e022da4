"""How splats are drawn, and the rules of blending that every splat renderer shares."""

from __future__ import annotations

import dataclasses

# Rules of 3D Gaussian Splatting's renderer and of gsplat's.
ALPHA_MIN = 1 / 255  # what covers a pixel by less is not drawn
ALPHA_MAX = 0.99
STOP = 1e-4  # a gaussian that would leave less than this share of what lies behind is not drawn, nor any after it
EXTENT = 3.33  # standard deviations up to which a gaussian is drawn; less where its opacity is low
BLUR = 0.3  # pixels^2 added to the variances in the image

WORD = 32  # gaussians whose membership in a tile is one word; also the size of a unit of the hierarchy
MAX_TILES = 255  # along one axis: tile numbers are packed into bytes


@dataclasses.dataclass(frozen=True)
class SplatOptions:
  """How pictures of splats are made; static, so a change compiles anew.

  height, width: pixels. budget: gaussians that one camera may draw, coarser where more are in view; 0 draws the
  scene exactly. antialias: gaussians smaller than a pixel lose opacity instead of growing to one (Yu et al.,
  Mip-Splatting, CVPR 2024); without it small pictures are fat and speckled. tile: side of the square of pixels
  that is blended together. group: gaussians that a tile takes at once. near, far: m along the camera's axis that
  are drawn. smallest: tiles at which the loop stops giving up finished tiles. together: cameras are blended in one
  loop; None: not on CPUs, whose caches hold the tiles of one picture and not of sixteen.
  """

  height: int = 96
  width: int = 192
  budget: int = 0
  antialias: bool = True
  tile: int = 8
  group: int = 16
  near: float = 0.05
  far: float = 500.0
  smallest: int = 8
  together: bool | None = None

  def __post_init__(self) -> None:
    """Raises ValueError when an option breaks its rule."""
    for name in ('height', 'width', 'tile', 'group', 'smallest'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r} must be at least 1')
    if self.budget < 0 or self.budget % WORD:
      near = -(-max(self.budget, 1) // WORD) * WORD
      raise ValueError(f'budget={self.budget} must be 0 (exact) or a multiple of {WORD}; use {near}')
    if not 0 < self.near < self.far:
      raise ValueError(f'near={self.near}, far={self.far} must be 0 < near < far')
    if max(self.tiles) > MAX_TILES:
      raise ValueError(
        f'{self.height} x {self.width} pixels in tiles of {self.tile} are {self.tiles} tiles; at most {MAX_TILES} '
        f'fit along an axis: use tile={-(-max(self.height, self.width) // MAX_TILES)} or more'
      )

  @property
  def tiles(self) -> tuple[int, int]:
    """Number of tiles (down, across)."""
    return -(-self.height // self.tile), -(-self.width // self.tile)
