"""The checkpoints that come with the project."""

import jax
import numpy as np
import pytest

from experiments import demo
from s2e_jax.policy.residual import strip_residual
from s2e_jax.training.restore import load_policy

MODELS = {'shipped': 's2e_tiny', 'small': 's2e_small', 'small_hue': 's2e_small'}
PAIRS = pytest.mark.parametrize('pair', MODELS)


def test_the_demo_judges_the_pair_of_the_size_that_it_trains():
  assert list(demo.shipped()) == ['shipped_bc', 'shipped_full']


@PAIRS
@pytest.mark.parametrize('stage', ['bc', 'full'])
def test_they_load_and_name_no_path(pair, stage, repo):
  folder = demo.SHIPPED / f'{pair}_{stage}'
  policy, _, description = load_policy(folder)
  assert policy.config.name == MODELS[pair] and description['data']['licences'] == ['Apache-2.0 (generated)']
  files = [path for path in folder.rglob('*') if path.is_file()]
  assert sum(f.stat().st_size for f in files) < 6e6

  def words(node):
    if isinstance(node, dict):
      return [w for v in node.values() for w in words(v)]
    return [w for v in node for w in words(v)] if isinstance(node, list) else [node]

  assert not [w for w in words(description) if isinstance(w, str) and w.startswith('/')]
  marks = list(folder.rglob('commit_success.txt'))
  assert marks and not [mark for mark in marks if '/' in mark.read_text()]
  roots = [root.encode() for root in ('/home/', '/root/', '/tmp/', '/Users/', f'{repo.parent}/')]
  assert not [path for path in files if any(root in path.read_bytes() for root in roots)]


@PAIRS
def test_what_was_pretrained_is_in_the_finetuned_one_bit_for_bit(pair):
  unbranched, before, _ = load_policy(demo.SHIPPED / f'{pair}_bc')
  branched, after, description = load_policy(demo.SHIPPED / f'{pair}_full')
  assert (unbranched.config.ram_input, branched.config.ram_input) == ('none', 'query')
  assert description['finetuned']['variant'] == 'ram' and description['finetuned']['checkpoint'] == f'{pair}_bc'
  plain, before = strip_residual(after['params']), dict(before['params'])
  before.pop('clearance')  # served pretraining
  assert jax.tree.structure(plain) == jax.tree.structure(before)
  for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(before), strict=True):
    np.testing.assert_array_equal(x, y)
