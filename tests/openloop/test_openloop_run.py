import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s2e_jax import geometry
from s2e_jax.openloop import report
from s2e_jax.openloop.cases import cut_cases
from s2e_jax.openloop.run import evaluate_openloop
from s2e_jax.structs import TrajectoryMixture

K, M, H = 3, 4, 10
ANCHORS = [[10.0, 0.0], [8.0, 5.0], [8.0, -5.0], [5.0, 0.0]]


def fan(goal, has_goal, v=0.25):
  """A mixture that needs no parameters: straight lines to the anchors; the score prefers the goal's direction."""
  b = goal.shape[0]
  anchors = jnp.asarray(ANCHORS)
  mean = jnp.linspace(0.1, 1.0, H)[None, None, :, None] * anchors[None, :, None, :]
  cosine = (goal[:, None] * anchors[None]).sum(-1) / (1e-3 + jnp.linalg.norm(goal, axis=-1)[:, None] * 9)
  return TrajectoryMixture(
    logits=jnp.where(has_goal[:, None], 5 * cosine, jnp.arange(4.0)[None]),
    mean=jnp.broadcast_to(mean, (b, M, H, 2)),
    log_std=jnp.zeros((b, M, H, 2)),
    rho=jnp.zeros((b, M, H)),
    step_length=jnp.full((b, M), v),
  )


def evaluate(dataset, predict=None, **changes):
  seen = []

  def default(observation):
    seen.append(observation)
    return fan(observation.goal_in_robot, observation.has_goal)

  arguments = dict(
    training_indices=dataset.clip_indices('train'),
    anchors=ANCHORS,
    num_history=K,
    image_height=16,
    image_width=24,
    batch_size=8,
    num_resamples=50,
  )
  found = evaluate_openloop(predict or default, dataset, dataset.clip_indices('test'), **(arguments | changes))
  return found, seen


@pytest.fixture(scope='module')
def evaluation(marked_dataset):
  return evaluate(marked_dataset)[0]


def test_the_policy_sees_every_window_once_with_its_own_frames(marked_dataset):
  evaluation, seen = evaluate(marked_dataset)
  cases = evaluation.cases
  assert {tuple(o.frames.shape) for o in seen} == {(8, K, 16, 24, 3)}  # one static shape, the last batch too
  with_goal = np.concatenate([o.frames for o in seen[::2]])[: len(cases)]
  numbers = np.array([int(marked_dataset.clips[c].clip_id.split('/')[1]) for c in cases.clip])
  colour = with_goal.mean(axis=(2, 3))
  np.testing.assert_allclose(colour[..., 0], np.broadcast_to(20 * numbers[:, None], colour.shape[:2]), atol=3)
  np.testing.assert_allclose(colour[..., 1], 4 * cases.history, atol=3)
  np.testing.assert_array_equal(np.concatenate([o.has_goal for o in seen[::2]])[: len(cases)], cases.has_goal)
  assert not any(o.has_goal.any() for o in seen[1::2])


def test_a_jitted_policy_compiles_once(marked_dataset):
  traces = []

  @jax.jit
  def predict(observation):
    traces.append(1)
    return fan(observation.goal_in_robot, observation.has_goal)

  evaluate(marked_dataset, predict)
  assert len(traces) == 1


def test_batch_size_does_not_change_the_results(marked_dataset, evaluation):
  other, _ = evaluate(marked_dataset, batch_size=5)
  assert other.results == evaluation.results


def test_errors_are_those_of_a_plain_loop(marked_dataset, evaluation):
  """ADE of the top mode, window by window, from poses and predictions alone."""
  errors = []
  for index in marked_dataset.clip_indices('test'):
    clip = marked_dataset.clips[index]
    for present in range(K - 1, clip.num_frames - H):
      future = geometry.to_robot_frame(
        clip.position[present + 1 : present + 1 + H],
        clip.position[present],
        np.full(H, clip.yaw[present]),
      )
      last = min(present + 40, clip.num_frames - 1)
      goal = geometry.to_robot_frame(clip.position[last], clip.position[present], clip.yaw[present])
      has_goal = last - present > H
      mixture = fan(jnp.asarray(goal)[None], jnp.asarray([has_goal]))
      top = int(np.argmax(mixture.logits[0]))
      errors.append(np.linalg.norm(np.asarray(mixture.waypoints_in_robot[0, top]) - future, axis=-1).mean())
  found = evaluation.results['groups']['all']['methods']['policy']['ade']
  assert found['n'] == len(errors) and found['value'] == pytest.approx(np.mean(errors), rel=1e-4)


def test_sources_are_judged_apart_and_together(evaluation):
  groups = evaluation.results['groups']
  assert set(groups) == {'all', 'source_0', 'source_1'}
  ade = {name: group['methods']['constant_velocity']['ade'] for name, group in groups.items()}
  total = sum(ade[s]['value'] * ade[s]['n'] for s in ('source_0', 'source_1'))
  assert ade['all']['value'] == pytest.approx(total / ade['all']['n'])
  assert ade['source_0']['low'] is not None  # two clips
  assert ade['source_1']['low'] is None  # one clip


def test_gain_is_against_the_better_rival(evaluation):
  group = evaluation.results['groups']['all']
  ade = {name: method['ade']['value'] for name, method in group['methods'].items()}
  want = 1 - ade['policy'] / min(ade['constant_velocity'], ade['straight_to_goal'])
  assert group['gain']['policy']['value'] == pytest.approx(want)


def test_a_perfect_policy_is_perfect(marked_dataset):
  cases = cut_cases(marked_dataset.clips, marked_dataset.clip_indices('test'), K)
  v = np.linalg.norm(np.diff(cases.waypoints, axis=1, prepend=0 * cases.waypoints[:, :1]), axis=-1).mean(axis=1)
  start = iter(range(0, 10_000, 4))
  calls = []

  def predict(observation):
    if not calls or len(calls) % 2 == 0:  # called twice per batch: with goals and without
      calls.append(next(start))
    else:
      calls.append(calls[-1])
    rows = np.minimum(np.arange(calls[-1], calls[-1] + 4), len(cases) - 1)
    mixture = fan(observation.goal_in_robot, observation.has_goal)
    right = (cases.waypoints[rows] / v[rows, None, None])[:, None]
    return mixture.replace(
      mean=jnp.asarray(np.repeat(right, M, 1)), step_length=jnp.asarray(np.repeat(v[rows, None], M, 1))
    )

  found, _ = evaluate(marked_dataset, predict, batch_size=4)
  method = found.results['groups']['all']['methods']['policy']
  assert method['ade']['value'] < 1e-6 and method['miss_rate']['value'] == 0
  assert method['coverage_50_top']['value'] == 1


def test_a_policy_that_gives_nan_is_named(marked_dataset):
  broken = lambda o: fan(o.goal_in_robot, o.has_goal, v=float('nan'))
  with pytest.raises(ValueError, match=r"policy predicts values that are not finite in \['step_length'\]"):
    evaluate(marked_dataset, broken)


def test_clips_without_a_window_are_an_error_before_anything_is_predicted(marked_dataset):
  def never(observation):
    raise AssertionError('predicted')

  with pytest.raises(ValueError, match='none of the 3 clips holds a window'):
    evaluate(marked_dataset, never, num_history=30)
  with pytest.raises(ValueError, match='batch_size=0'):
    evaluate(marked_dataset, never, batch_size=0)


def test_report_writes_strict_json_table_and_pictures(marked_dataset, evaluation, tmp_path):
  written = report.write_report(evaluation, marked_dataset, tmp_path, num_pictures=4)
  results = json.loads((tmp_path / 'results.json').read_text(), parse_constant=pytest.fail)
  assert results['num_windows'] == len(evaluation.cases)
  names = {path.name for path in written if path.suffix == '.png'}
  assert names == {f'{n}.png' for n in ('calibration', 'anchors', 'best_1', 'best_2', 'median_1', 'worst_1')}
  assert all(path.stat().st_size > 5000 for path in written if path.suffix == '.png')
  table = (tmp_path / 'table.md').read_text()
  for method in (*results['groups']['all']['methods'], 'source_0', 'source_1'):
    assert method in table
  value = results['groups']['all']['methods']['goal_only']['ade']['value']
  assert re.search(rf'\| goal_only \| {value:.3f} ', table)
  # every row of a table has as many cells as its head
  for block in re.findall(r'(?:^\|.*\n)+', table, re.M):
    assert len({line.count('|') for line in block.splitlines()}) == 1


def test_a_second_report_leaves_no_old_pictures(marked_dataset, evaluation, tmp_path):
  report.write_report(evaluation, marked_dataset, tmp_path, num_pictures=3)
  report.write_report(evaluation, marked_dataset, tmp_path, num_pictures=0)
  assert not list(tmp_path.rglob('*.png'))


def test_picked_cases_are_the_extremes_and_prefer_different_clips(evaluation):
  picked = dict(report.picked_cases(evaluation, 9))
  assert len(picked) == len(set(picked.values())) == 9
  top = np.argmax(evaluation.mixtures['policy'].logits, axis=1)
  predicted = evaluation.mixtures['policy'].waypoints_in_robot[np.arange(len(top)), top]
  error = np.linalg.norm(predicted - evaluation.cases.waypoints, axis=-1).mean(axis=-1)
  assert error[picked['best_1']] == error.min() and error[picked['worst_1']] == error.max()
  assert len({evaluation.cases.clip[picked[f'best_{k}']] for k in (1, 2, 3)}) == 3


def test_synthetic_data_is_labelled(evaluation):
  assert 'ynthetic' not in report.table(evaluation.results)
  assert '**Synthetic data' in report.table(evaluation.results | {'is_synthetic': True})
