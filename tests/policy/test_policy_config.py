"""PolicyConfig: presets, overrides, rules."""

import json

import jax
import jax.numpy as jnp
import pytest

from configs.common import policy_block
from s2e_jax.policy.anchors import fan_anchors
from s2e_jax.policy.config import PRESETS, PolicyConfig, policy_config, resolve_depthwise, resolve_dtype
from s2e_jax.policy.policy import Policy, example_observation, parameter_table
from s2e_jax.trees import count_parameters


@pytest.mark.parametrize('name', sorted(PRESETS))
def test_config_survives_json_and_hashes(name):
  config = policy_config(name)
  again = PolicyConfig.from_dict(json.loads(json.dumps(config.to_dict())))
  assert again == config and hash(again) == hash(config)


def test_every_leaf_of_the_config_block_is_a_field():
  block = policy_block('s2e_tiny')
  block.width = 64
  config = policy_config(**block)
  assert config.width == 64 and config.num_history == 5


@pytest.mark.parametrize(
  'fields,message',
  [
    (dict(encoder='resnet'), 'encoder='),
    (dict(image_height=70), 'image_height=70 must be a multiple of 16.*use 64'),
    (dict(width=130), 'width=130 must be divisible by num_heads=4'),
    (dict(num_anchors=0), 'num_anchors=0'),
    (dict(anchors=fan_anchors(4)), '4 anchors but num_anchors=8'),
    (dict(compute_dtype='float16'), 'compute_dtype'),
    (dict(widht=64), "did you mean 'width'"),
  ],
)
def test_broken_rules_name_value_and_remedy(fields, message):
  with pytest.raises(ValueError, match=message):
    policy_config('s2e_tiny', **fields)


def test_unknown_preset_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 's2e_tiny'"):
    policy_config('s2e_tinny')


def test_auto_follows_the_backend():
  assert resolve_dtype('auto', 'cpu') == jnp.float32 and resolve_dtype('auto', 'gpu') == jnp.bfloat16
  assert resolve_depthwise('auto', 'cpu') == 'shift' and resolve_depthwise('auto', 'tpu') == 'grouped'
  assert resolve_depthwise('grouped', 'cpu') == 'grouped'


def test_kmeans_without_anchors_is_refused_before_anything_compiles():
  config = policy_config('s2e_v2')
  with pytest.raises(ValueError, match='kmeans_anchors'):
    jax.eval_shape(Policy(config).init, jax.random.key(0), example_observation(config))


@pytest.mark.parametrize(
  'name,low,high,encoder',
  [
    ('s2e_v1', 61e6, 70e6, 4_007_548),
    ('s2e_v2', 95e6, 96e6, 21_596_160),
    ('s2e_tiny', 0.5e6, 1e6, None),
    ('s2e_small', 1e6, 1.5e6, None),
  ],
)
def test_parameter_totals(name, low, high, encoder):
  """4,007,548 = torchvision's 5,288,548 less its classifier; 21,596,160 = DINOv3's ViT-S/16 less mask token."""
  config = policy_config(name, anchors=fan_anchors(64) if name == 's2e_v2' else None)
  shapes = jax.eval_shape(Policy(config).init, jax.random.key(0), example_observation(config))
  assert low < count_parameters(shapes['params']) < high
  if encoder:
    assert count_parameters(shapes['params']['encoder']) == encoder
  assert 'total' in parameter_table(shapes['params'])
  groups = {'encoder', 'frame_proj', 'goal', 'context', 'anchors', 'decoder', 'heads'}
  assert set(shapes['params']) == groups
