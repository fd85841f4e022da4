"""The checkpoints that come with the project."""

import jax
import numpy as np
import pytest

from experiments import demo
from s2e_jax.policy.residual import strip_residual
from s2e_jax.training.restore import load_policy


@pytest.mark.parametrize('name', ['shipped_bc', 'shipped_full'])
def test_they_load_and_name_no_path(name):
  assert name in demo.shipped()
  policy, _, description = load_policy(demo.SHIPPED / name)
  assert policy.config.name == 's2e_tiny' and description['data']['licences'] == ['Apache-2.0 (generated)']
  size = sum(f.stat().st_size for f in (demo.SHIPPED / name).rglob('*') if f.is_file())
  assert size < 6e6

  def words(node):
    if isinstance(node, dict):
      return [w for v in node.values() for w in words(v)]
    return [w for v in node for w in words(v)] if isinstance(node, list) else [node]

  assert not [w for w in words(description) if isinstance(w, str) and w.startswith('/')]
  marks = list((demo.SHIPPED / name).rglob('commit_success.txt'))
  assert marks and not [mark for mark in marks if '/' in mark.read_text()]


def test_what_was_pretrained_is_in_the_finetuned_one_bit_for_bit():
  _, before, _ = load_policy(demo.SHIPPED / 'shipped_bc')
  _, after, description = load_policy(demo.SHIPPED / 'shipped_full')
  assert description['finetuned']['variant'] == 'ram'
  plain, before = strip_residual(after['params']), dict(before['params'])
  before.pop('clearance')  # served pretraining
  assert jax.tree.structure(plain) == jax.tree.structure(before)
  for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(before), strict=True):
    np.testing.assert_array_equal(x, y)
