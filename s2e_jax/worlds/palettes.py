"""Colours and patterns of things, by kind and by ground surface: what the named looks are made of.

Colours are sRGB hex codes, as one picks them from a photograph; `looks` turns them into linear light.
"""

from __future__ import annotations

import dataclasses

Range = tuple[float, float]
# Name of `scene.PATTERNS` and the range of its scale (m), see `Scene.scale`.
Pattern = tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Finish:
  """How the surfaces of one kind may look.

  colours: hex codes, space separated. patterns: equally likely (listed twice is twice as likely).
  accents: second colours of the patterns; '' = the colour itself times a factor in `shade`.
  jitter: spread of brightness (log) round the colours; a third of it of hue. contrast: of the ground's patterns.
  """

  colours: str
  patterns: tuple[Pattern, ...] = (('plain', 0.5, 0.5),)
  accents: str = ''
  shade: Range = (0.35, 0.7)
  jitter: float = 0.2
  contrast: Range = (0.2, 0.5)


_PLAIN: Pattern = ('plain', 0.5, 0.5)
_STONE = 'c9bfae b7ab97 a39a8c d8d0c0 8f8a82 bdb6aa 77736d e2dccf'
_FACADE = (
  'b5523b 9c4a34 7d3b2c c4714f a8654a d9b48f e6d3b1 cdb895 bfa27a f0e6d2 e8ddc8 d4c9b0 9a948a b8b4ac '
  'c9c6c0 8c8a88 6e6f72 56585c dcdcda f4f2ee a9b7c0 7f93a3 8fa58e d7a9a0 e3c46f c98f5a 5c4a42 3f4147'
)
_GLASS = '20262d 2f3a44 46525e 8b98a3 cfd6da 15181c'
_TIMBER = '8a6239 6f4e2f a97d4d 5a4230 b4936b 7c6f60 3c5a48 2f4a66'
_STEEL = '3a3d40 565b60 7b8085 2c4a3a 1f2f45 8f9498 4a4036'
_PAINT = 'b01e1e d9d9d9 f2f2f0 16181b 2b3f63 6b7076 9aa3ab 7a1f2b 33523b c9b78a 3a6ea5 e0a526 4b2e20'
_SHIRTS = (
  '8e2323 24437a c9c2b4 2e6b4a d2a02c 2a2a2e e8e6e1 5c3b6e 77a1c4 b5562b 3c3f45 a8b0b5 d47a8c 446b6f 6e4b2f f0c7a0'
)
_TROUSERS = '1e2433 3b3a38 5b5347 2a3a5c 777067 141416 8b7d66'
_SKIN = 'e3b594 c98e68 8d5a3b 5c3a26 f0cdb0 a86f4a'
_HAIR = '2a1d14 4a3322 15110e 8a6b3f'
_LEAVES = '3f6b2a 557d31 2f5526 6d8a3a 8a8f3a 48702f 7f9a4c a07a32'
_SIGNALS = 'c8281e e0b21a 1f4e9c f2f2ee 2d8a4a e8731c'

# Look A: as broad as video from the web.
BROAD = {
  'building': Finish(
    _FACADE,
    (
      *[('windows', 2.4, 3.6)] * 4,
      *[('shopfront', 2.0, 2.8)] * 2,
      ('bricks', 0.6, 1.0),
      ('panels', 1.2, 3.0),
    ),
    _GLASS,
    shade=(0.6, 1.4),
    jitter=0.25,
  ),
  'wall': Finish(
    _FACADE,
    (('bricks', 0.5, 1.0), _PLAIN, ('noise', 0.3, 1.0), ('panels', 0.8, 2.0), ('slabs', 0.4, 0.9)),
    shade=(0.5, 0.9),
  ),
  'trunk': Finish('5a4432 6d5a46 463629 7d7266 938a7c', (('noise', 0.1, 0.4),)),
  'crown': Finish(_LEAVES, (('foliage', 0.5, 1.4),), shade=(0.35, 0.6), jitter=0.3),
  'hedge': Finish(_LEAVES, (('foliage', 0.4, 0.9),), shade=(0.4, 0.65), jitter=0.25),
  'pole': Finish(_STEEL, (_PLAIN, _PLAIN, ('bands', 0.8, 1.6))),
  'bin': Finish(
    '1f5c36 3a3d40 2b3f63 a85c1e 6e6f72 c9bfae 7a1f2b',
    (_PLAIN, ('panels', 0.2, 0.5), ('bands', 0.4, 0.9), ('stripes', 0.1, 0.3)),
  ),
  'bench': Finish(_TIMBER, (('planks', 0.4, 0.8), ('bands', 0.2, 0.4)), shade=(0.3, 0.6)),
  'box': Finish(
    'a9814f b8925f 8f6a3d 5d6a72 3c5f8a c7bba0 8a8a86 4f6b45',
    (_PLAIN, ('panels', 0.3, 0.8), ('planks', 0.4, 0.8), ('noise', 0.3, 1.0)),
  ),
  'cone': Finish('e8641b f07a1e d9481a e0b21a', (('bands', 0.3, 0.7),), 'f2f2ee e6e6df', jitter=0.1),
  'vehicle': Finish(_PAINT, (('vehicle', 1.0, 1.0),), '1b2228 2a333b 10151a', jitter=0.15),
  'cabin': Finish(_PAINT, (('shopfront', 0.4, 0.5),), '1b2228 2a333b 10151a', jitter=0.15),
  'person': Finish(_SHIRTS, (('person', 1.0, 1.0),), _TROUSERS),
  'head': Finish(_SKIN, (_PLAIN,), _HAIR),
  'bollard': Finish(_STEEL + ' c8281e f2f2ee ' + _STONE, (_PLAIN, _PLAIN, ('bands', 0.4, 0.9)), _SIGNALS),
  'planter': Finish(
    _STONE + ' ' + _TIMBER, (_PLAIN, ('planks', 0.5, 1.0), ('noise', 0.3, 1.0), ('slabs', 0.3, 0.7))
  ),
  'barrier': Finish(
    'c8281e f2f2ee e0b21a e8731c', (('stripes', 0.3, 0.8), ('bands', 0.4, 0.8)), 'f2f2ee e8e4da 1c1c1e', jitter=0.1
  ),
  'sign': Finish(_SIGNALS + ' 1c1c1e a9814f', (_PLAIN, ('panels', 0.3, 0.8), ('stripes', 0.2, 0.6)), _SIGNALS),
}
_SIDEWALKS: tuple[Pattern, ...] = (
  *[('slabs', 0.4, 1.1)] * 3,
  *[('bond', 0.3, 0.9)] * 2,
  *[('bricks', 0.4, 0.9)] * 2,
  ('cobbles', 0.5, 1.3),
  ('asphalt', 0.3, 1.0),
  ('noise', 0.15, 0.5),
  ('panels', 0.5, 1.2),
  ('planks', 0.4, 0.8),
)
BROAD_GROUND = {
  'road': Finish(
    '3b3c3f 46474a 55565a 626264 2f3033 6d6a66',
    (*[('asphalt', 0.2, 0.8)] * 3, ('noise', 0.15, 0.4), ('cobbles', 0.5, 1.0)),
  ),
  'curb': Finish(_STONE + ' a7a6a3', (_PLAIN, ('noise', 0.2, 0.5), ('slabs', 0.6, 1.0))),
  'sidewalk': Finish(
    _STONE + ' 9b8f83 a78672 b3755c 8d939a c2b280 6a6764 ada59f', _SIDEWALKS, jitter=0.25, contrast=(0.15, 0.7)
  ),
  'grass': Finish('55702f 66803a 45602a 7d8747 8e8a55 6f6a45 9a8f6c', (('grass', 0.3, 1.0), ('noise', 0.1, 0.4))),
  'paint': Finish('e6e5e0 d8d6cf f2f0ea d9b53c', jitter=0.1),
}

# Look B: a simulator with a handful of materials, each of one colour.
PLAIN = {
  'building': Finish('b9b4aa 9fa6ad c7bda8 a08f7f', (('windows', 3.0, 3.0),), '56616b', jitter=0.05),
  'wall': Finish('9a9a9a', jitter=0.05),
  'trunk': Finish('6b5138', jitter=0.05),
  'crown': Finish('4f7a3a', jitter=0.05),
  'hedge': Finish('4f7a3a', jitter=0.05),
  'pole': Finish('6e6f72', jitter=0.05),
  'bin': Finish('2f6b45 3a3d40', jitter=0.05),
  'bench': Finish('8a6239', jitter=0.05),
  'box': Finish('b08a58 7d8fa8', jitter=0.05),
  'cone': Finish('e8641b', (('bands', 0.5, 0.5),), 'f2f2ee', jitter=0.0),
  'vehicle': Finish('c9c9c9 8c2f2f 2b3f63', (('vehicle', 1.0, 1.0),), '2a333b', jitter=0.05),
  'cabin': Finish('c9c9c9 8c2f2f 2b3f63', (('shopfront', 0.45, 0.45),), '2a333b', jitter=0.05),
  'person': Finish('3f6fb0 b05a3f 6a6a6a', (('person', 1.0, 1.0),), '2a2f3a', jitter=0.05),
  'head': Finish('d9ab8a', (_PLAIN,), '3a2a1c', jitter=0.05),
  'bollard': Finish('e0b21a 6e6f72', jitter=0.05),
  'planter': Finish('a39a8c', jitter=0.05),
  'barrier': Finish('c8281e', (('stripes', 0.5, 0.5),), 'f2f2ee', jitter=0.0),
  'sign': Finish('1f4e9c', jitter=0.05),
}
PLAIN_GROUND = {
  'road': Finish('55565a', jitter=0.05, contrast=(0.0, 0.0)),
  'curb': Finish('b0b0ac', jitter=0.05, contrast=(0.0, 0.0)),
  'sidewalk': Finish('a9a59c 98989a', (('slabs', 1.0, 1.0),), jitter=0.05, contrast=(0.15, 0.15)),
  'grass': Finish('6a8a48', jitter=0.05, contrast=(0.0, 0.0)),
  'paint': Finish('f0f0ee', jitter=0.0, contrast=(0.0, 0.0)),
}

# Look C: patterns that neither A nor B holds, in colours near A or far from it.
NOVEL_PATTERNS = ('checks', 'dots', 'zigzag', 'hexagons')
_THINGS = (
  'wall', 'box', 'bin', 'bench', 'planter', 'barrier', 'sign', 'bollard', 'kiosk', 'barrel', 'statue', 'scooter',
)  # fmt: skip


def _novel(low: float, high: float, names: tuple[str, ...] = NOVEL_PATTERNS) -> tuple[Pattern, ...]:
  return tuple((name, low, high) for name in names)


def novel(facades: str, things: str, accents: str, leaves: str, jitter: float) -> dict[str, Finish]:
  """Finishes of look C in these colours: every surface carries one of its own patterns."""
  toy = Finish(things, _novel(0.3, 1.0), accents, jitter=jitter)
  leafy = Finish(leaves, _novel(0.4, 1.0, ('dots', 'hexagons')), shade=(0.4, 0.7), jitter=jitter)
  slim = Finish(things, _novel(0.4, 0.9, ('zigzag', 'dots')), accents, jitter=jitter)
  car = Finish(things, _novel(0.6, 1.4, ('checks', 'hexagons')), accents, jitter=jitter)
  return {
    **dict.fromkeys(_THINGS, toy),
    **dict.fromkeys(('trunk', 'pole', 'cone'), slim),
    **dict.fromkeys(('crown', 'hedge'), leafy),
    **dict.fromkeys(('vehicle', 'cabin'), car),
    'building': Finish(facades, _novel(2.0, 4.5), accents, jitter=jitter),
    'person': Finish(things, _novel(0.5, 0.9, ('zigzag', 'checks')), accents, jitter=jitter),
    'head': Finish(_SKIN, _novel(0.2, 0.3, ('dots',)), _HAIR, jitter=jitter),
  }


NEAR = novel(_FACADE, _PAINT + ' ' + _SIGNALS, _GLASS + ' c9bfae e8ddc8', _LEAVES, 0.25)
NEAR_GROUND = {
  'road': Finish('3b3c3f 46474a 55565a 626264', _novel(0.8, 1.6, ('hexagons', 'dots')), contrast=(0.05, 0.25)),
  'curb': Finish(_STONE, _novel(0.4, 1.0, ('checks', 'zigzag')), contrast=(0.1, 0.4)),
  'sidewalk': Finish(_STONE, _novel(0.4, 1.2), jitter=0.25, contrast=(0.15, 0.6)),
  'grass': Finish('55702f 66803a 45602a 7d8747', _novel(0.4, 1.0, ('dots', 'zigzag'))),
  'paint': BROAD_GROUND['paint'],
}
_ODD = 'd61f8c 12c4b8 6a1fd6 f2e80c 0c1f8a e8470c 38d61f ff9ad5 0a0a14 8a0c4b'
FAR = novel(_ODD, _ODD, _ODD + ' ffffff 000000', 'b01f6a 1f6ab0 8a3fd6 d68a1f', 0.35)
FAR_GROUND = {
  'road': Finish('1a1030 0f2430 301018 24300f', _novel(0.6, 1.6, ('hexagons', 'zigzag')), contrast=(0.3, 0.7)),
  'curb': Finish(_ODD, _novel(0.3, 0.8, ('checks',)), contrast=(0.3, 0.7)),
  'sidewalk': Finish('4b2a6e 123a5c 6e1f3a 0f4a44 8a6a12', _novel(0.4, 1.4), jitter=0.35, contrast=(0.3, 0.8)),
  'grass': Finish('6a1fd6 0c8a6a b0571f 2a2a6e', _novel(0.4, 1.2, ('dots', 'zigzag')), contrast=(0.3, 0.7)),
  'paint': Finish('12c4b8 f2e80c ff9ad5', jitter=0.2),
}
