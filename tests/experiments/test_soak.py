import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.soak import run as soaking
from s2e_jax.robots import ROBOTS

ROBOT = ROBOTS['delivery']


@pytest.mark.slow
def test_fifty_thousand_random_steps_break_nothing_and_every_fault_would_be_seen():
  batch = soaking.make_batch(40, time_limit=6.0, look='B', robot='delivery')
  counts = soaking.soak(batch, 50_000, seed=3)
  assert counts['steps'] >= 50_000 and counts['scenes'] > 1_500
  assert counts['has_collided'] > 100 and counts['truncated'] > 1_000
  assert {name: counts[name] for name in soaking.FAULTS} == dict.fromkeys(soaking.FAULTS, 0)

  state = batch.reset(jax.random.key(0))
  faults = jax.jit(lambda s: soaking.faults_of(s, ROBOT.footprint, ROBOT.height))
  assert not any(int(v) for v in faults(state).values())
  episode = state.pipeline_state

  def at(position, **changes):
    base = episode.base.replace(position=jnp.asarray(position, jnp.float32))
    return faults(state.replace(pipeline_state=episode.replace(base=base, **changes)))

  beyond = np.array(episode.base.position)
  beyond[3] = (500.0, 500.0)
  assert int(at(beyond)['beyond_fence']) == 1
  inside = np.array(episode.base.position)
  boxes = episode.world.scene.boxes
  size = np.where(np.asarray(boxes.high - boxes.low) > 1.0, np.minimum(boxes.half_x, boxes.half_y), 0.0)
  env, slot = np.unravel_index(size.argmax(), size.shape)
  inside[env] = (boxes.x[env, slot], boxes.y[env, slot])
  assert int(at(inside)['inside_something']) == 1 == int(at(inside)['overlap_at_start'])
  far = episode.way.at[5].set(2e3)
  assert int(at(episode.base.position, way=far)['unreachable_goal']) == 1
  bad = state.replace(reward=state.reward.at[7].set(jnp.nan))
  assert int(faults(bad)['not_finite']) == 1
