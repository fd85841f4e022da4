"""The checkpoints that come with the project load; what was pretrained is in the finetuned ones bit for bit."""

import jax
import numpy as np
import pytest

from experiments.shipped.make import HERE
from s2e_jax.policy.residual import strip_residual
from s2e_jax.training.restore import load_policy

MODELS = {'shipped': 's2e_tiny', 'small': 's2e_small'}


@pytest.mark.parametrize('name', MODELS)
def test_a_shipped_pair_loads_and_shares_every_pretrained_bit(name):
  plain, before, _ = load_policy(HERE / f'{name}_bc')
  branched, after, description = load_policy(HERE / f'{name}_full')
  assert plain.config.name == branched.config.name == MODELS[name]
  assert plain.config.ram_input == 'none' and branched.config.ram_input == 'query'
  assert description['finetuned']['checkpoint'] == f'{name}_bc'
  kept = {group: tree for group, tree in before['params'].items() if group != 'clearance'}  # served pretraining
  assert jax.tree.structure(kept) == jax.tree.structure(strip_residual(after['params']))
  for x, y in zip(jax.tree.leaves(kept), jax.tree.leaves(strip_residual(after['params'])), strict=True):
    np.testing.assert_array_equal(x, y)


def test_nothing_shipped_names_a_folder_of_the_machine_it_was_made_on(repo):
  roots = [folder.encode() for folder in ('/home/', '/root/', '/tmp/', '/Users/', f'{repo.parent}/')]
  files = [path for path in HERE.rglob('*') if path.is_file() and path.suffix != '.pyc']
  assert len(files) > 40
  for path in files:
    assert not any(root in path.read_bytes() for root in roots), path
