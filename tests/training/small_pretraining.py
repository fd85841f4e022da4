"""A policy of a few thousand parameters, segments with uneven masks and a training state, for tests."""

import jax
import numpy as np

from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.structs import NUM_CLEARANCES, SegmentBatch
from s2e_jax.training import optim, parallel


def small_policy(**overrides):
  sizes = dict(
    image_height=16, image_width=32, num_history=3, width=16, num_context_layers=1, num_decoder_layers=1,
    num_heads=2, mlp_dim=24, num_anchors=4,
  )  # fmt: skip
  return Policy(policy_config('s2e_tiny', **(sizes | overrides)), axis_name=parallel.AXIS)


def random_batch(policy, seed, num_segments=16, num_windows=5):
  """Segments whose masks are uneven, so that devices hold unequal numbers of windows."""
  c, rng = policy.config, np.random.default_rng(seed)
  b, w, h = num_segments, num_windows, c.horizon
  steps = rng.normal(size=(b, w, h, 2)).astype(np.float32) * 0.1 + np.float32([0.2, 0.0])
  window_mask = rng.uniform(size=(b, w)) < np.linspace(0.0, 1.0, b)[:, None]
  return SegmentBatch(
    frames=rng.integers(0, 256, (b, w + c.num_history - 1, c.image_height, c.image_width, 3), np.uint8),
    goal_in_robot=rng.normal(size=(b, w, 2)).astype(np.float32) * 5,
    has_goal=rng.uniform(size=(b, w)) < 0.5,
    waypoints_in_robot=np.where(window_mask[..., None, None], np.cumsum(steps, axis=2), np.nan).astype(np.float32),
    waypoint_mask=(np.arange(h) < rng.integers(5, h + 1, (b, w, 1))),
    window_mask=window_mask,
    clearances=np.where(rng.uniform(size=(b, w, NUM_CLEARANCES)) < 0.7, 3.0, np.nan).astype(np.float32),
  )


def make_state(policy, steps=50, ema=0.0, **options):
  variables = jax.jit(policy.init)(jax.random.key(0), example_observation(policy.config))
  settings = dict(learning_rate_peak=1e-2, warmup_steps=2, weight_decay=0.05, b2=0.95) | options
  tx = optim.make_optimizer(variables['params'], steps, **settings)
  return optim.init_state(variables, tx, ema), tx
