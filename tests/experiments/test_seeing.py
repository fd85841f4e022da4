"""Probes of what tokens hold, on tokens that hold what they were made of."""

import dataclasses

import numpy as np
import pytest

from experiments.seeing.run import Seen, area_under_curve, check_reference, drift, halves, probe
from s2e_jax.policy.config import policy_config


def seen(context, clearances=None, seed=0):
  """Windows of 20 clips."""
  num = len(context)
  clip = np.random.default_rng(seed).integers(0, 20, num)
  clearances = np.full((num, 8), 5.0) if clearances is None else clearances
  return Seen(context, clearances, clip, *(np.zeros(num) for _ in range(3)))


def test_the_area_is_the_share_of_pairs_in_order():
  rng = np.random.default_rng(0)
  truth = rng.random(60) < 0.4
  score = np.round(rng.normal(size=60) + truth, 1)  # ties count one half
  pairs = [(a > b) + 0.5 * (a == b) for a in score[truth] for b in score[~truth]]
  assert area_under_curve(score, truth) == pytest.approx(np.mean(pairs))
  assert np.isnan(area_under_curve(score, np.ones(60, bool)))


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is():
  rng = np.random.default_rng(1)
  ways = np.exp(rng.uniform(np.log(0.5), np.log(12.0), (3000, 8)))
  told = seen(
    np.concatenate([np.log(ways), np.log(ways).min(1, keepdims=True), rng.normal(size=(3000, 5))], axis=1), ways
  )
  found = probe(*halves(told))
  assert found['nearest_r2'] > 0.98 and found['all_r2'] > 0.98 and found['least_sector_auc'] > 0.98
  blind = probe(*halves(seen(rng.normal(size=(3000, 14)), ways)))
  assert abs(blind['nearest_r2']) < 0.05 and abs(blind['sector_auc'] - 0.5) < 0.05


def test_halves_share_no_clip():
  one, other = halves(seen(np.zeros((200, 2))))
  assert not set(one.clip) & set(other.clip) and len(one.clip) + len(other.clip) == 200


def test_drift_tells_a_turn_from_a_loss():
  rng = np.random.default_rng(2)
  reference = seen(rng.normal(size=(4000, 12)))
  assert drift(reference, reference)['token_drift'] == 0
  turn, _ = np.linalg.qr(rng.normal(size=(12, 12)))
  turned = drift(seen(reference.context @ turn), reference)
  assert turned['token_drift'] > 0.5 and turned['token_r2'] > 0.99
  others = drift(seen(rng.normal(size=(4000, 12))), reference)
  assert others['token_drift'] == pytest.approx(2**0.5, abs=0.03) and abs(others['token_r2']) < 0.05


def test_a_reference_of_another_shape_is_refused():
  policy = policy_config('s2e_tiny')
  check_reference(policy, dataclasses.replace(policy, mlp_dim=64))
  with pytest.raises(ValueError, match=r'--reference has num_history=6, --checkpoint .*same shape'):
    check_reference(policy, dataclasses.replace(policy, num_history=6))
