"""The ring of frame tokens against stacks filled frame by frame."""

import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax.policy.ring import frame_index, push_token

K, FRAMES, ENVS, WIDTH = 4, 30, 5, 3


@pytest.fixture(scope='module')
def drive():
  """Frames [F, B, D], begins [F, B], and the stacks [F, B, K, D] by the obvious loop."""
  rng = np.random.default_rng(0)
  frames = rng.normal(size=(FRAMES, ENVS, WIDTH)).astype(np.float32)
  begins = rng.random((FRAMES, ENVS)) < 0.15
  begins[0] = True
  stacks, now = [], [[] for _ in range(ENVS)]
  for t in range(FRAMES):
    for b in range(ENVS):
      now[b] = [frames[t, b]] * K if begins[t, b] else now[b][1:] + [frames[t, b]]
    stacks.append(np.stack([np.stack(s) for s in now]))
  return frames, begins, np.stack(stacks)


def test_the_ring_holds_what_a_stack_would(drive):
  frames, begins, stacks = drive
  ring = jnp.full((ENVS, K, WIDTH), jnp.nan)
  for t in range(FRAMES):
    ring = push_token(ring, jnp.asarray(frames[t]), jnp.asarray(begins[t]))
    np.testing.assert_array_equal(ring, stacks[t])


@pytest.mark.parametrize('first', [0, 3, 11])
def test_indices_pick_the_same_stacks_from_frames_that_are_kept_once(drive, first):
  """Whatever frame a piece starts with: episodes that began just before it count too."""
  frames, begins, stacks = drive
  kept, flags = frames[first:], begins[first:]
  index = np.asarray(frame_index(jnp.asarray(flags), K))
  assert index.shape == (FRAMES - first - K + 1, K, ENVS)
  picked = np.stack([kept[index[:, :, b], b] for b in range(ENVS)], axis=1)
  np.testing.assert_array_equal(picked, stacks[first + K - 1 :])
