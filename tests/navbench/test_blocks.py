"""Blocks are what they promise: the same again, closed, connected, wide enough, with ways of every length."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from s2e_jax.navbench.blocks import BLOCKS, Block, make_block, truth_walls, walkable
from s2e_jax.navbench.blocks_parts import SLOTS, Coat, Paving, assemble, box, daylight
from s2e_jax.scene import KIND, is_present
from s2e_jax.worlds import looks, palettes
from s2e_jax.worlds.walls import check_walls

CELL = 0.2


@pytest.fixture(scope='module')
def built():
  return {name: (block := make_block(name), truth_walls(block, CELL)) for name in BLOCKS}


def _same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_there_are_eight_blocks_at_least_indoors_and_outdoors(built):
  indoor = [block.is_indoor for block, _ in built.values()]
  assert len(indoor) >= 8
  assert 2 <= sum(indoor) <= len(indoor) - 2


def test_a_block_is_the_same_for_the_same_seed_and_differs_for_another():
  assert _same(make_block('street', 3).scene, make_block('street', 3).scene)
  assert not _same(make_block('street', 3).scene, make_block('street', 4).scene)


def test_an_unknown_block_is_refused_with_those_there_are():
  with pytest.raises(ValueError, match=r"'nowhere' must be one of \['alley'"):
    make_block('nowhere')


@pytest.mark.parametrize('name', sorted(BLOCKS))
def test_the_walkable_area_is_closed_large_and_connected_by_wide_passages(name, built):
  block, walls = built[name]
  check_walls(walls)
  free = walkable(block, walls)
  assert not (free[0].any() or free[-1].any() or free[:, 0].any() or free[:, -1].any()), 'it reaches the border'
  assert free.sum() * CELL**2 >= 60
  # what a disc of 1 m reaches is nearly all of it: no room hangs on a narrower passage
  wide = walkable(block, walls, 0.5)
  near = ndimage.binary_dilation(wide, iterations=2)
  assert (free & near).sum() >= 0.95 * free.sum()


@pytest.mark.parametrize('name', sorted(BLOCKS))
def test_there_are_ways_of_8_to_28_m_and_some_straight_lines_are_blocked(name, built):
  block, walls = built[name]
  free = walkable(block, walls)
  lengths, straight, blocked = _ways(free, CELL, np.random.default_rng(0))
  wanted = (lengths >= 8) & (lengths <= 28)
  assert wanted.mean() > 0.2
  assert blocked[wanted].mean() > 0.1
  assert (lengths + CELL >= straight).all()


def _ways(free, cell, rng):
  """Lengths (m) of ways between random cells, of straight lines, and whether these are blocked."""
  index = np.full(free.shape, -1)
  index[free] = np.arange(free.sum())
  rows, columns, weights = [], [], []
  for i, j in ((0, 1), (1, 0), (1, 1), (1, -1)):
    here = index[: free.shape[0] - i, max(0, -j) : free.shape[1] - max(0, j)]
    there = index[i:, max(0, j) : free.shape[1] + min(0, j)]
    both = (here >= 0) & (there >= 0)
    rows.append(here[both])
    columns.append(there[both])
    weights.append(np.full(both.sum(), np.hypot(i, j) * cell))
  num = int(free.sum())
  graph = csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (num, num))
  cells = np.argwhere(free)
  starts, goals = rng.integers(num, size=8), rng.integers(num, size=60)
  lengths = dijkstra(graph, directed=False, indices=starts)[:, goals]
  a, b = cells[starts][:, None], cells[goals][None]
  steps = np.linspace(0, 1, 80)[:, None, None, None]
  on_line = np.round(a + (b - a) * steps).astype(int)
  blocked = ~free[on_line[..., 0], on_line[..., 1]].all(0)
  return lengths, np.linalg.norm(a - b, axis=-1) * cell, blocked


def test_every_room_of_the_flat_can_be_reached(built):
  block, walls = built['rooms']
  free = walkable(block, walls)
  for x, y in ((-3, 2.6), (5, 2.2), (-5, -2.2), (0, -3), (5, -2.2), (0, 0)):
    assert free[tuple(np.round((np.array([x, y]) - walls.origin) / CELL).astype(int))], (x, y)


def test_indoor_blocks_have_a_ceiling_over_everything(built):
  for block, _ in built.values():
    if not block.is_indoor:
      continue
    boxes = jax.tree.map(np.asarray, block.scene.boxes)
    x0, x1, y0, y1 = block.bounds
    covers = (np.abs(boxes.x - (x0 + x1) / 2) + (x1 - x0) / 2 <= boxes.half_x) & (
      np.abs(boxes.y - (y0 + y1) / 2) + (y1 - y0) / 2 <= boxes.half_y
    )
    assert (covers & (boxes.low > 2)).any(), block.name


def test_truth_is_the_exact_distance():
  light = daylight((0, 0, 1), 1.0, 0.5, '6090c0', 'd0e0f0')
  crate = box(1.0, 0.5, 0.5, 0.25, 0.8, Coat('c0a080'))
  arch = box(-1.5, 0.0, 0.3, 0.3, 2.5, Coat('c0a080'), low=2.0)
  scene = assemble([crate, arch], (-2.0, 2.0, -1.0, 1.5), Paving(Coat('a0a0a0')), light)
  block = Block('crate', 0, scene, (-2.0, 2.0, -1.0, 1.5), (0.0, 0.0), False)
  walls = truth_walls(block, 0.125)
  x, y = (walls.origin[k] + walls.cell * np.arange(n) for k, n in enumerate(walls.distance.shape))
  u, v = np.abs(x[:, None] - 1.0) - 0.5, np.abs(y[None] - 0.5) - 0.25
  exact = np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0)
  np.testing.assert_allclose(walls.distance, exact, atol=1e-5)


def test_a_start_inside_a_thing_is_refused(built):
  block, walls = built['plaza']
  with pytest.raises(ValueError, match=r'is not 0\.4 m from everything'):
    walkable(dataclasses.replace(block, start=(0.0, 0.0)), walls)


def test_too_many_parts_are_refused():
  crates = [box(i, 0.0, 0.2, 0.2, 1.0, Coat('c0a080')) for i in range(SLOTS.boxes + 1)]
  light = daylight((0, 0, 1), 1.0, 0.5, '6090c0', 'd0e0f0')
  with pytest.raises(ValueError, match=f"{SLOTS.boxes + 1} parts of shape 'box'"):
    assemble(crates, (-1.0, 1.0, -1.0, 1.0), Paving(Coat('a0a0a0')), light)


def test_nobody_stands_in_a_block_and_its_colours_are_of_no_training_look(built):
  codes = ' '.join(
    f'{finish.colours} {finish.accents}'
    for table in (palettes.BROAD, palettes.PLAIN, palettes.BROAD_GROUND, palettes.PLAIN_GROUND)
    for finish in table.values()
  ).split()
  known = {tuple(np.round(looks.linear(code), 5)) for code in codes}
  for block, _ in built.values():
    scene = block.scene
    there = np.asarray(is_present(scene))
    assert not (np.asarray(scene.kind)[there] == KIND['person']).any()
    used = {tuple(row) for row in np.round(np.asarray(scene.colour)[there], 5)}
    assert len(used & known) <= 0.1 * len(used), (block.name, used & known)
