"""Diminishing returns: success against the amount of pretraining data, and against the budget of finetuning.

Run: python -m experiments.data_amount.run --data=datasets/A --out=runs/amount [--shares=0.01,0.03,0.1,0.3,1]
         [--steps=3000] [--looks=A,C-near] [--tasks=empty,obstacle] [--episodes=256] [--finetuned=RUN,RUN]
         [--also=results.json]    of an earlier study with the same number of steps, joined with what is found now
Pretrains on nested shares of the training clips for the same number of steps, judges every policy on the same test
episodes, and draws both curves; that of the budget is of the validation trials of the runs in --finetuned. Run
again, it goes on where it stopped. Ends with table.md, results.json and amount.png in --out. See README.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from absl import app, flags

from configs.closedloop import TASKS
from experiments.rivals import compare
from experiments.rivals.run import check_lists, judge_missing, run
from s2e_jax.closedloop.intervals import mean_interval
from s2e_jax.data.dataset import open_dataset, share_of
from s2e_jax.reporting import interval_cell, write_whole
from s2e_jax.store.metrics import read_records
from s2e_jax.worlds.looks import LOOKS

METRICS = 'metrics.jsonl'
_PREFIX = 'share_'


def run_name(share: float) -> str:
  """Folder and name of the run on a share of the clips, e.g. share_0.1."""
  return f'{_PREFIX}{share:g}'


def check(shares: Sequence[float], looks: Sequence[str], tasks: Sequence[str], finetuned: Sequence[Path]) -> None:
  """Raises ValueError, before anything runs, naming what is out of range, unknown, missing or given twice."""
  if wrong := [share for share in shares if not 0 < share <= 1]:
    raise ValueError(f'shares={wrong} must lie in (0, 1]: the parts of the training clips that are used')
  check_lists(shares=(shares, None), looks=(looks, LOOKS), tasks=(tasks, TASKS))
  if missing := [str(path) for path in finetuned if not (path / METRICS).is_file()]:
    raise ValueError(f'finetuned={missing} hold no {METRICS}: name folders of finetuning runs')
  budget_of(finetuned)


def train_command(data: Path, out: Path, share: float, steps: int) -> list[str]:
  """The pretraining command of one run."""
  return [
    's2e_jax.train',
    f'--config=configs/pretrain.py:data={data},steps={steps}',
    f'--config.data.train_share={share:g}',
    f'--workdir={out / run_name(share)}',
  ]


def least_of(folder: Path, figure: str) -> float:
  """Least value of a validation figure over a pretraining run; of val/ade_top [m] that of its best checkpoint."""
  return min(row[figure] for row in read_records(folder / METRICS) if figure in row)


def budget_of(runs: Sequence[Path]) -> list[dict[str, Any]]:
  """Validation trials of finetuning runs: policy steps, success of each run, in the order of the steps.

  Raises ValueError for another kind of run, and when they were not tried after the same iterations.
  """
  found: dict[str, dict[int, float]] = {}
  for path in runs:
    config = json.loads((path / 'config.json').read_text())
    if config['kind'] != 'finetune':
      raise ValueError(f'finetuned={path} is a run of kind {config["kind"]!r}: name folders of finetuning runs')
    per_iteration = config['num_envs'] * config['ppo']['horizon']
    rows = [row for row in read_records(path / METRICS) if 'validation/success' in row]
    found[path.name] = {row['step'] * per_iteration: row['validation/success'] for row in rows}
  steps = {tuple(sorted(trials)) for trials in found.values()}
  if len(steps) > 1:
    raise ValueError(f'{sorted(found)} were tried after {sorted(steps)} policy steps: they must be the same')
  return [
    {'policy_steps': step, 'success_by_run': [trials[step] for trials in found.values()]}
    for step in (min(steps) if steps else ())
  ]


def results_of(out: Path, data: Path, shares: Sequence[float], finetuned: Sequence[Path]) -> dict[str, Any]:
  """Everything that was measured: clips, validation figures, and success by share in cells that all drove in."""
  clips = {clip.clip_id: clip for clip in open_dataset(data).clips if clip.split == 'train'}
  cells = {path.name: compare.episodes_of(path) for path in sorted((out / compare.JUDGED).iterdir())}
  # a call with fewer looks leaves cells in which not every share was judged
  cells = {cell: found for cell, found in cells.items() if all(run_name(share) in found for share in shares)}
  points = []
  for share in shares:
    name, used = run_name(share), [clips[clip_id] for clip_id in share_of(clips, share)]
    judged = {}
    for cell, episodes in cells.items():
      rows = [episodes[name][n] for n in sorted(episodes[name])]
      judged[cell] = {
        'success': mean_interval(np.array([row['success'] for row in rows], float), is_share=True),
        'contacts': mean_interval(np.array([row['contacts'] for row in rows], float)),
      }
    points.append({
      'share': share,
      'clips': len(used),
      'frames': sum(clip.num_frames for clip in used),
      'hours': sum(float(clip.stamps[-1] - clip.stamps[0]) for clip in used) / 3600,
      'val_ade_m': least_of(out / name, 'val/ade_top'),
      'val_loss': least_of(out / name, 'val/loss'),
      'cells': judged,
    })  # fmt: skip
  straight = {
    cell: float(np.mean([row['success'] for row in episodes['straight_to_goal'].values()]))
    for cell, episodes in cells.items()
    if 'straight_to_goal' in episodes
  }
  return {
    'points': points,
    'straight_to_goal': straight,
    'finetuned': [path.name for path in finetuned],
    'budget': budget_of(finetuned),
  }


def read_earlier(
  path: Path, shares: Sequence[float], looks: Sequence[str], tasks: Sequence[str]
) -> dict[str, Any]:
  """results.json of an earlier study; ValueError unless it has other shares, driven in one of these cells."""
  if not path.is_file():
    raise ValueError(f'also={path} is not there: name the results.json of an earlier study')
  earlier: dict[str, Any] = json.loads(path.read_text())
  if not earlier.get('points'):
    raise ValueError(f'also={path} has no points: name the results.json of an earlier study')
  if twice := sorted({point['share'] for point in earlier['points']} & set(shares)):
    raise ValueError(f'also={path} has the shares {twice}, too: leave them out of --shares')
  cells = list(earlier['points'][0]['cells'])
  if not {f'{look}_{task}' for look in looks for task in tasks} & set(cells):
    raise ValueError(f'also={path} drove in {cells}: name one of these looks and tasks')
  return earlier


def joined(results: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
  """Both studies as one, in the cells that both drove in; the budget is that of the first where it has one."""
  cells = [cell for cell in results['points'][0]['cells'] if cell in earlier['points'][0]['cells']]
  points = [
    point | {'cells': {cell: point['cells'][cell] for cell in cells}}
    for point in [*earlier['points'], *results['points']]
  ]
  budget = results if results['budget'] else earlier
  return {
    'points': sorted(points, key=lambda point: point['share']),
    'straight_to_goal': earlier['straight_to_goal'] | results['straight_to_goal'],
    'finetuned': budget['finetuned'],
    'budget': budget['budget'],
  }


def table(results: dict[str, Any]) -> str:
  """Markdown of `results_of`."""
  cells = list(results['points'][0]['cells'])
  lines = [
    '| share | clips | hours | loss, validation | ADE m, validation | '
    + ' | '.join(f'SR {c.replace("_", ", ")}' for c in cells)
    + ' |',
    '|' + '---:|' * (5 + len(cells)),
  ]
  for point in results['points']:
    words = [f'{point["share"]:g}', f'{point["clips"]:,}', f'{point["hours"]:.1f}']
    words += [f'{point["val_loss"]:.2f}', f'{point["val_ade_m"]:.3f}']
    words += [interval_cell(point['cells'][cell]['success'], '.3f') for cell in cells]
    lines.append('| ' + ' | '.join(words) + ' |')
  if results['budget']:
    names = ' | '.join(results['finetuned'])
    lines += ['', f'| policy steps | {names} | mean |', '|' + '---:|' * (2 + len(results['finetuned']))]
    for trial in results['budget']:
      each = trial['success_by_run']
      words = [f'{trial["policy_steps"]:,}', *(f'{value:.3f}' for value in each), f'{np.mean(each):.3f}']
      lines.append('| ' + ' | '.join(words) + ' |')
  return '\n'.join(lines) + '\n'


def plot(results: dict[str, Any], path: Path) -> None:
  """Success against hours of drives, and against policy steps of finetuning where there are any."""
  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  columns = 1 + bool(results['budget'])
  figure, axes = plt.subplots(
    1, columns, figsize=(5.2 * columns, 3.8), sharey=True, squeeze=False, layout='constrained'
  )
  points = results['points']
  hours = [point['hours'] for point in points]
  for i, cell in enumerate(points[0]['cells']):
    found = [point['cells'][cell]['success'] for point in points]
    axes[0][0].plot(hours, [f['value'] for f in found], 'o-', color=f'C{i}', label=cell.replace('_', ', '))
    axes[0][0].vlines(hours, [f['low'] for f in found], [f['high'] for f in found], color=f'C{i}', lw=1.5)
    if cell in results['straight_to_goal']:
      axes[0][0].axhline(results['straight_to_goal'][cell], color=f'C{i}', lw=0.8, ls=':')
  axes[0][0].set_xscale('log')
  axes[0][0].set(xlabel='hours of drives pretrained on', ylabel='success rate', ylim=(0, 1.02))
  axes[0][0].set_title('pretraining alone (dotted: straight to the goal)', fontsize=10)
  axes[0][0].legend(frameon=False, fontsize=8)
  if results['budget']:
    steps = [trial['policy_steps'] / 1e6 for trial in results['budget']]
    runs = np.array([trial['success_by_run'] for trial in results['budget']])
    axes[0][1].plot(steps, runs, '-', color='C7', lw=0.8)
    axes[0][1].plot(steps, runs.mean(axis=1), 'ko-', label='mean')
    axes[0][1].set(xlabel='million policy steps of finetuning')
    axes[0][1].set_title(f'validation trials of {", ".join(results["finetuned"])}', fontsize=10)
    axes[0][1].legend(frameon=False, fontsize=8)
  for axis in axes[0]:
    axis.grid(alpha=0.3)
  figure.savefig(path, dpi=110)
  plt.close(figure)


def main(argv: list[str]) -> None:
  """Trains what is not trained, judges what is not judged, draws all there is."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  given = flags.FLAGS
  data, out = Path(given.data), Path(given.out)
  shares, finetuned = sorted(float(share) for share in given.shares), [Path(path) for path in given.finetuned]
  check(shares, given.looks, given.tasks, finetuned)
  open_dataset(data)  # is there, before anything is trained
  earlier = read_earlier(Path(given.also), shares, given.looks, given.tasks) if given.also else None
  out.mkdir(parents=True, exist_ok=True)
  for number, share in enumerate(shares):
    run(train_command(data, out, share, given.steps), f'[{number + 1}/{len(shares)}] pretrain on {share:g}')
  runs = [out / run_name(share) for share in shares]
  judge_missing(runs, out, given.looks, given.tasks, given.episodes)
  results = results_of(out, data, shares, finetuned)
  if earlier:
    results = joined(results, earlier)
  write_whole(out / 'results.json', json.dumps(results, indent=1, allow_nan=False) + '\n')
  shown = table(results)
  write_whole(out / 'table.md', shown)
  plot(results, out / 'amount.png')
  print(shown)


if __name__ == '__main__':
  flags.DEFINE_string('data', None, 'Folder of drives to pretrain on.', required=True)
  flags.DEFINE_string('out', None, 'Folder of runs, judgements and results.', required=True)
  flags.DEFINE_list('shares', ['0.01', '0.03', '0.1', '0.3', '1'], 'Of the training clips, nested.')
  flags.DEFINE_integer('steps', 3000, 'Training steps of every run.')
  flags.DEFINE_list('looks', ['A', 'C-near'], 'Of the test worlds.')
  flags.DEFINE_list('tasks', ['empty', 'obstacle'], f'Of {sorted(TASKS)}.')
  flags.DEFINE_integer('episodes', 256, 'Test episodes per look and task, the same for everybody.')
  flags.DEFINE_list('finetuned', [], 'Runs of finetuning whose trials are drawn against their budget.')
  flags.DEFINE_string('also', '', 'results.json of an earlier study whose points are joined with these.')
  app.run(main)
