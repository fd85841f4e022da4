"""A picture of chosen policies takes each from the first file that has it, and refuses what is in none."""

import json
import types

import matplotlib.image
import pytest

from experiments.rivals import picture


def figures(value, seeds=1):
  success = {'value': value, 'low': value - 0.1, 'high': value + 0.1, 'n': 8}
  return {'seeds': seeds, 'success_by_seed': [value] * seeds, 'figures': {'success': success}}


@pytest.fixture
def files(tmp_path):
  """One file with its cells at the top, and one with two sections."""
  top, sections = tmp_path / 'top.json', tmp_path / 'sections.json'
  top.write_text(
    json.dumps({'reference': 'bc', 'cells': {'B_both': {'bc': figures(0.4), 'ram': figures(0.6, 2)}}})
  )
  first, second = {'C-far_both': {'ram': figures(0.3)}}, {'C-far_both': {'sft': figures(0.2), 'ram': figures(0.1)}}
  sections.write_text(json.dumps({'date': '', 'a': {'cells': first}, 'b': {'cells': second}, 'c': {'other': 1}}))
  return top, sections


def sources(*files):
  return [cells for path in files for cells in picture.cells_of(path)]


def value(found):
  return found['figures']['success']['value']


def test_the_first_source_that_has_a_policy_counts_in_the_order_asked_for(files):
  found = picture.choose(sources(*files), {'sft': 'SFT', 'ram': 'Full'})
  assert {cell: list(policies) for cell, policies in found.items()} == {'C-far_both': ['SFT'], 'B_both': ['Full']}
  assert value(found['B_both']['Full']) == 0.6
  turned = picture.choose(sources(*reversed(files)), {'ram': 'Full'})
  assert list(turned) == ['C-far_both'] and value(turned['C-far_both']['Full']) == 0.3


def test_names_are_what_stands_behind_the_sign():
  assert picture.parse_names(['bc', 'ram=PPO, through=it']) == {'bc': 'bc', 'ram': 'PPO, through=it'}


def test_it_draws(files, monkeypatch, tmp_path):
  out = tmp_path / 'success.png'
  given = types.SimpleNamespace(policies=['bc', 'ram=Full', 'sft'], results=[str(path) for path in files], out=out)
  monkeypatch.setattr(picture, 'flags', types.SimpleNamespace(FLAGS=given))
  picture.main(['picture'])
  drawn = matplotlib.image.imread(out)
  assert drawn.shape[1] > drawn.shape[0] > 100 and drawn[..., :3].std() > 0.05


@pytest.mark.parametrize('policies', [[], ['ram', 'ram=Full'], ['ram=A', 'bc=A']])
def test_names_that_come_twice_or_not_at_all_are_refused(policies):
  with pytest.raises(ValueError, match='must name at least one, each once, by names of their own'):
    picture.parse_names(policies)


def test_what_is_not_there_is_named(files, tmp_path):
  with pytest.raises(ValueError, match=r"\['rom'\] are in none of --results; there are \['bc', 'ram', 'sft'\]"):
    picture.choose(sources(*files), {'rom': 'ROM', 'bc': 'BC'})
  with pytest.raises(ValueError, match=r'nothing\.json. cannot be read as JSON'):
    sources(tmp_path / 'nothing.json')
  for text, message in [('{', 'cannot be read as JSON'), ('[1]', 'has no cells'), ('{"a": 1}', 'has no cells')]:
    (tmp_path / 'bad.json').write_text(text)
    with pytest.raises(ValueError, match=message):
      sources(tmp_path / 'bad.json')
