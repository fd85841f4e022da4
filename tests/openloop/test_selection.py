import pytest

from s2e_jax.data.dataset import fold_split
from s2e_jax.openloop.selection import choose_clips


def description(dataset, train='train', val='val', folds=0, fold=0, content_hash=None):
  return {
    'data': {
      'content_hash': content_hash or dataset.content_hash,
      'train_clips': dataset.clip_ids(train),
      'val_clips': dataset.clip_ids(val),
    },
    'config': {'data': {'folds': folds, 'fold': fold}},
  }


def ids(dataset, indices):
  return [dataset.clips[i].clip_id for i in indices]


def test_the_test_split_is_judged_by_default(marked_dataset):
  chosen = choose_clips(marked_dataset, description(marked_dataset))
  assert ids(marked_dataset, chosen.evaluated) == marked_dataset.clip_ids('test')
  assert ids(marked_dataset, chosen.training) == marked_dataset.clip_ids('train')
  assert chosen.notes == [] and chosen.label == 'the test clips'


def test_all_of_other_data_is_judged_by_default(marked_dataset):
  chosen = choose_clips(marked_dataset, description(marked_dataset, content_hash='other'))
  assert len(chosen.evaluated) == 9 and chosen.training == []


def test_baselines_never_learn_from_judged_clips_of_other_data(marked_dataset):
  chosen = choose_clips(marked_dataset, description(marked_dataset, content_hash='other'), split='test')
  assert ids(marked_dataset, chosen.training) == marked_dataset.clip_ids('train')
  assert not set(chosen.training) & set(chosen.evaluated)


def test_folds_of_the_checkpoint_are_used_again(marked_dataset):
  parts = fold_split(marked_dataset.clip_ids(), 3, 1)
  told = description(marked_dataset, folds=3, fold=1)
  told['data'] |= {'train_clips': parts['train'], 'val_clips': parts['val']}
  chosen = choose_clips(marked_dataset, told)
  assert sorted(ids(marked_dataset, chosen.evaluated)) == sorted(parts['test'])
  assert not any('trained on' in note or 'chose' in note for note in chosen.notes)
  assert chosen.label == 'the test clips of fold 1 of 3'


def test_judging_clips_that_were_learnt_from_is_said(marked_dataset):
  told = description(marked_dataset)
  assert any('5 of these 5 clips were trained on' in n for n in choose_clips(marked_dataset, told, 'train').notes)
  assert any('1 of these 1 clips chose' in n for n in choose_clips(marked_dataset, told, 'val').notes)
  assert any('no time stamps' in n for n in choose_clips(marked_dataset, told, 'all').notes)


@pytest.mark.parametrize('split, words', [('tset', 'must be one of'), ('val', 'has no clips')])
def test_a_wrong_split_names_those_there_are(marked_dataset, split, words):
  told = description(marked_dataset)

  class OnlyTrain:
    """The dataset as if it had only its training split."""

    splits = ('train',)
    path, clips, content_hash = marked_dataset.path, marked_dataset.clips, marked_dataset.content_hash
    clip_indices = marked_dataset.clip_indices

  with pytest.raises(ValueError, match=words):
    choose_clips(OnlyTrain(), told, split)
  with pytest.raises(ValueError, match='cross-validate'):
    choose_clips(OnlyTrain(), told)
