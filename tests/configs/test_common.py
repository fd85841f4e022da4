"""Config arguments are typed and typos are answered."""

import pytest
from ml_collections import ConfigDict

from configs import common, openloop, pretrain, watch


def test_arguments_take_the_type_of_their_default():
  args = common.parse_arg('steps=7,rate=0.5,smoke,data=a/b', steps=0, rate=1.0, smoke=False, data='')
  assert (args.steps, args.rate, args.smoke, args.data) == (7, 0.5, True, 'a/b')


@pytest.mark.parametrize(
  'arg,message',
  [('setps=3', "did you mean 'steps'"), ('steps=x', 'must be int'), ('steps', 'needs a value'),
   ('steps=1,steps=2', 'twice'), ('smoke=maybe', 'must be a bool')],
)  # fmt: skip
def test_bad_arguments_say_what_is_wrong(arg, message):
  with pytest.raises(ValueError, match=message):
    common.parse_arg(arg, steps=0, smoke=False)


def test_a_misspelt_config_key_is_answered():
  config = pretrain.get_config('smoke')
  with pytest.raises(AttributeError, match='Did you mean'):
    config.optim.learning_rat = 1.0


def test_an_unknown_model_lists_the_known_ones():
  with pytest.raises(ValueError, match='s2e_tiny'):
    pretrain.get_config('model=s2e_v9')


@pytest.mark.parametrize('module', [pretrain, openloop, watch], ids=lambda m: m.__name__)
def test_every_leaf_is_a_scalar_a_tuple_of_scalars_or_a_typed_placeholder(module):
  scalar = (bool, int, float, str)

  def walk(node):
    for key in node:
      value = node.get_ref(key).get() if not isinstance(node[key], ConfigDict) else None
      if isinstance(node[key], ConfigDict):
        walk(node[key])
      else:
        parts = value if isinstance(value, tuple) else (value,)
        assert value is None or all(isinstance(part, scalar) for part in parts), key

  walk(module.get_config())
