"""Looks: what each holds, that C is held out from A and B, and what is drawn from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.robots import CameraMount
from s2e_jax.scene import KIND, PATTERN, SURFACES
from s2e_jax.worlds.catalogue import STREET_FURNITURE, THINGS, thing_table
from s2e_jax.worlds.draws import Draws
from s2e_jax.worlds.facades import _HEIGHTS
from s2e_jax.worlds.layouts import LAYOUTS, RARE
from s2e_jax.worlds.looks import (
  LOOKS,
  ROLE,
  ROLES,
  draw_finishes,
  draw_light,
  draw_mount,
  finish_table,
  linear,
)
from s2e_jax.worlds.palettes import NOVEL_PATTERNS

SEEN, HELD_OUT = ('A', 'B'), ('C-near', 'C-far')


def patterns_of(look):
  finishes = [*look.finishes.values(), *look.ground.values()]
  return {name for finish in finishes for name, *_ in finish.patterns}


def kinds_of(look):
  """Every kind that a scene of this look can hold."""
  things = {THINGS[name].kind for name, weight in look.things.items() if weight > 0}
  rows = {STREET_FURNITURE[name].kind for name in look.furniture}
  layouts = {
    getattr(v, side) for name in look.layouts for v in LAYOUTS[name] for side in ('left', 'right', 'piece')
  }
  return (things | rows | layouts | {'crown', 'vehicle', 'person'}) - {''}


def test_no_pattern_kind_or_layout_of_c_appears_in_a_or_b():
  novel_kinds = {'kiosk', 'barrel', 'statue', 'scooter'}
  for name in SEEN:
    look = LOOKS[name]
    assert not patterns_of(look) & set(NOVEL_PATTERNS)
    assert not kinds_of(look) & novel_kinds
    assert not set(look.layouts) & set(RARE)
  for name in HELD_OUT:
    look = LOOKS[name]
    assert patterns_of(look) >= set(NOVEL_PATTERNS)
    assert kinds_of(look) >= novel_kinds
    assert set(look.layouts) >= set(RARE) and len(RARE) >= 2
    assert not {THINGS[thing].kind for thing in look.things} & kinds_of(LOOKS['A'])


def test_c_shares_no_pattern_of_surfaces_with_a_or_b():
  seen = patterns_of(LOOKS['A']) | patterns_of(LOOKS['B'])
  for name in HELD_OUT:
    # road markings are plain paint in every look
    surfaces = {p for key, f in LOOKS[name].ground.items() if key != 'paint' for p, *_ in f.patterns}
    things = {p for f in LOOKS[name].finishes.values() for p, *_ in f.patterns}
    assert not (surfaces | things) & seen


@pytest.mark.parametrize('name', sorted(LOOKS))
def test_every_kind_that_a_look_can_hold_has_a_finish(name):
  look = LOOKS[name]
  missing = kinds_of(look) - set(look.finishes) - {'empty'}
  assert not missing
  assert {'head', 'cabin'} <= set(look.finishes)
  assert set(look.ground) == set(SURFACES)
  assert kinds_of(look) <= set(KIND) and patterns_of(look) <= set(PATTERN)


def test_a_holds_hundreds_of_texture_sets_and_b_a_handful():
  def sets(look):
    """Combinations of pattern and colour of facades and pavements, before sizes and jitter."""
    count = lambda finish: len(finish.colours.split()) * len({p for p, *_ in finish.patterns})
    return count(look.finishes['building']) * count(look.ground['sidewalk'])

  assert sets(LOOKS['A']) > 1000
  assert sets(LOOKS['B']) <= 10


def draws(size=4096, seed=0):
  return Draws(jax.random.key(seed), size)


def test_finishes_come_from_their_palettes():
  table = finish_table(LOOKS['A'].finishes, ROLES)
  rows = jnp.full(200, ROLE['cone'])
  colour, accent, pattern, scale, _ = (np.asarray(x) for x in draw_finishes(draws(), table, rows))
  finish = LOOKS['A'].finishes['cone']
  known = np.stack([linear(code) for code in finish.colours.split()])
  ratio = colour[:, None] / known
  # within the jitter of brightness and hue of one of the palette's colours
  spread = np.exp(finish.jitter * 4 / 3) + 1e-4
  assert ((ratio < spread) & (ratio > 1 / spread)).all(-1).any(-1).all()
  assert set(pattern) == {PATTERN['bands']}
  _, low, high = finish.patterns[0]
  assert low <= scale.min() and scale.max() <= high and scale.std() > 0.05
  assert (accent > colour.min()).any()


def test_all_colours_of_a_palette_are_drawn_about_equally_often():
  look = LOOKS['A']
  table = finish_table(look.finishes, ROLES)
  num = len(look.finishes['bin'].patterns)
  pattern = np.asarray(draw_finishes(draws(9 * 4000), table, jnp.full(4000, ROLE['bin']))[2])
  shares = np.bincount(pattern, minlength=len(PATTERN)) / len(pattern)
  np.testing.assert_allclose(shares[shares > 0], 1 / num, atol=0.03)


def test_second_colours_of_joints_are_shades_of_the_first():
  table = finish_table(LOOKS['A'].finishes, ROLES)
  colour, accent, pattern, *_ = draw_finishes(draws(9 * 500), table, jnp.full(500, ROLE['building']))
  bricks = np.asarray(pattern) == PATTERN['bricks']
  ratio = np.asarray(accent)[bricks] / np.asarray(colour)[bricks]
  assert bricks.sum() > 20
  # one factor for all three channels
  np.testing.assert_allclose(ratio / ratio[:, :1], 1, atol=1e-3)


@pytest.mark.parametrize('name', sorted(LOOKS))
def test_light_lies_in_the_look_s_ranges(name):
  look = LOOKS[name]
  light = jax.vmap(lambda key: draw_light(Draws(key, 10), look))(jax.random.split(jax.random.key(1), 256))
  sun = np.asarray(light.sun)
  np.testing.assert_allclose(np.linalg.norm(sun, axis=1), 1, atol=1e-5)
  elevation = np.arcsin(np.clip(sun[:, 2], -1, 1))
  assert look.sun_elevation[0] - 1e-4 <= elevation.min() and elevation.max() <= look.sun_elevation[1] + 1e-4
  for value, limits in ((light.fog, look.fog), (light.exposure, look.exposure)):
    value = np.asarray(value)
    assert limits[0] - 1e-5 <= value.min() and value.max() <= limits[1] + 1e-5
  shines = np.asarray(light.sun_strength) > 0
  np.testing.assert_allclose(1 - shines.mean(), look.overcast, atol=0.1)
  # without a sun there is still light
  assert np.asarray(light.ambient).min() > 0.1


def test_c_far_is_darker_and_foggier_than_a_and_c_near_is_lit_like_a():
  near, far, broad = LOOKS['C-near'], LOOKS['C-far'], LOOKS['A']
  for name in ('sun_elevation', 'sun_strength', 'ambient', 'fog', 'exposure', 'warmth', 'skies'):
    assert getattr(near, name) == getattr(broad, name)
  assert far.sun_elevation[1] < np.mean(broad.sun_elevation)
  assert far.fog[0] > broad.fog[1]
  assert far.ambient[1] <= broad.ambient[0]


def test_only_a_moves_the_camera():
  own = CameraMount(hfov=1.9, height=0.55, forward=0.3, pitch=-0.1)
  for name, look in LOOKS.items():
    mounts = jax.vmap(lambda key, look=look: draw_mount(Draws(key, 3), look, own))(
      jax.random.split(jax.random.key(2), 64)
    )
    height = np.asarray(mounts.height)
    np.testing.assert_allclose(mounts.forward, 0.3, rtol=1e-6)
    if name == 'A':
      assert height.min() < 0.6 and height.max() > 1.3
      assert np.asarray(mounts.half_width).std() > 0.1
    else:
      np.testing.assert_allclose(height, 0.55, rtol=1e-6)
      np.testing.assert_allclose(mounts.half_width, np.tan(0.95), rtol=1e-5)
      np.testing.assert_allclose(mounts.tan_pitch, np.tan(-0.1), rtol=1e-5)


def test_linear_light_is_that_of_srgb():
  # IEC 61966-2-1: half grey (188) is about half of the light, 10 lies on the straight part
  np.testing.assert_allclose(linear('bcbcbc'), 0.5029, atol=1e-3)
  np.testing.assert_allclose(linear('0a00ff'), [10 / 255 / 12.92, 0, 1], atol=1e-6)


def test_unknown_things_are_named():
  with pytest.raises(ValueError, match=r"unknown things \['rocket'\]; known: .*'bench'"):
    thing_table(THINGS, {'rocket': 1.0})


def test_a_table_without_things_holds_an_empty_one():
  assert thing_table(THINGS, {'cone': 1.0}, is_box=True).kind.tolist() == [KIND['empty']]


def test_facades_have_a_height_for_every_kind_that_encloses_a_street():
  kinds = {getattr(v, side) for variants in LAYOUTS.values() for v in variants for side in ('left', 'right')}
  assert kinds - {''} <= set(_HEIGHTS)
