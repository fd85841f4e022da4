"""Compares policies by the episodes.jsonl of several judgements: seeds pooled, differences paired by episode.

Run: python -m experiments.rivals.compare --out=runs/study --reference=bc
of judgements that `s2e_jax.evaluate` wrote into runs/study/judged/LOOK_TASK/ANY_NAME, as `experiments.rivals.run`
does at its end. Writes table.md, results.json and success.png in --out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from absl import app, flags

from s2e_jax.closedloop.intervals import mean_interval, paired_difference
from s2e_jax.closedloop.report import by_layout, with_any_contact
from s2e_jax.reporting import Interval, interval_cell, write_whole
from s2e_jax.worlds.looks import LOOKS

JUDGED = 'judged'  # folder of one folder per cell, LOOK_TASK, of one folder per judgement
SEED = '_s'  # between the variant and the seed in a run's name
_FIGURES = ('success', 'rc', 'contacts', 'contact_share', 'spl', 'speed')
_ALL = (*_FIGURES, 'any_contact')
_PAIRED = ('success', 'rc', 'contacts', 'contact_share', 'any_contact')

Episodes = dict[str, dict[int, dict[str, Any]]]  # policy -> number of the episode -> what became of it


def variant_of(name: str) -> str:
  """'ram' of 'ram_s0'; names without a seed are variants of their own."""
  variant, mark, seed = name.rpartition(SEED)
  return variant if mark and seed.isdigit() else name


def episodes_of(cell: Path) -> Episodes:
  """All that was judged in one cell. ValueError when a policy was judged twice there."""
  found: Episodes = {}
  for path in sorted(cell.glob('*/episodes.jsonl')):
    here: Episodes = {}
    for line in path.read_text().splitlines():
      row = json.loads(line)
      here.setdefault(row['policy'], {})[row['episode']] = row
    if twice := sorted(here.keys() & found.keys()):
      raise ValueError(f'{path}: {twice} were judged before in this cell; remove one of the folders')
    found |= here
  return found


def columns_of(episodes: Episodes) -> dict[str, Mapping[str, np.ndarray]]:
  """Figures [seeds, episodes] by variant, episodes in the same order for all.

  Raises ValueError when policies drove different episodes.
  """
  numbers = {name: sorted(rows) for name, rows in episodes.items()}
  first = next(iter(numbers.values()))
  if wrong := [name for name, own in numbers.items() if own != first]:
    raise ValueError(f'{wrong} drove other episodes than the rest: judge all with the same --episodes')
  grouped: dict[str, list[str]] = {}
  for name in episodes:
    grouped.setdefault(variant_of(name), []).append(name)
  return {
    variant: figures_of([episodes[name] for name in sorted(names)], first) for variant, names in grouped.items()
  }


def figures_of(
  seeds: Sequence[Mapping[Any, Mapping[str, Any]]], episodes: Sequence[Any]
) -> Mapping[str, np.ndarray]:
  """Figures [seeds, episodes] of one variant, `any_contact` among them, from the rows of each seed by episode."""
  value = lambda row, figure: np.nan if row[figure] is None else float(row[figure])
  return with_any_contact(
    {figure: np.array([[value(rows[n], figure) for n in episodes] for rows in seeds]) for figure in _FIGURES}
  )


def layouts_of(episodes: Episodes) -> list[str]:
  """[episodes] names of the layouts, in the order of `columns_of`."""
  rows = next(iter(episodes.values()))
  return [rows[n]['layout'] for n in sorted(rows)]


def compare(
  columns: Mapping[str, Mapping[str, np.ndarray]],
  reference: str,
  layouts: Sequence[str],
  num_resamples: int = 2000,
) -> dict[str, Any]:
  """Per variant: figures with intervals over episodes (of the mean over seeds), and differences to `reference`.

  layouts: [episodes] names; 'layouts' has the means of each, and how many episodes it has.
  Raises ValueError when `reference` was not judged.
  """
  if reference not in columns:
    raise ValueError(f'{reference!r} was not judged here, only {sorted(columns)}')
  over_seeds = {
    variant: {figure: values.mean(axis=0) for figure, values in figures.items()}
    for variant, figures in columns.items()
  }
  of_reference, of_layouts = over_seeds[reference], by_layout(over_seeds, layouts)
  results = {}
  for variant, figures in columns.items():
    means = over_seeds[variant]
    results[variant] = {
      'seeds': len(figures['success']),
      'success_by_seed': figures['success'].mean(axis=1).round(6).tolist(),
      'figures': {figure: mean_interval(means[figure], num_resamples) for figure in _ALL},
      'less_reference': {
        figure: paired_difference(means[figure], of_reference[figure], num_resamples) for figure in _PAIRED
      },
      'layouts': {
        layout: {'episodes': found['num_episodes'], **found['policies'][variant]}
        for layout, found in of_layouts.items()
      },
    }
  return results


def table(results: Mapping[str, Any], reference: str) -> str:
  """Markdown of `write`'s results."""
  lines = [
    '| look, task | policy | seeds | SR | by seed | RC | contacts | with a contact | time in contact | m/s '
    f'| SR less {reference} | RC | contacts | with a contact |',
    '|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|',
  ]
  for cell, variants in results['cells'].items():
    for variant, found in variants.items():
      own: Mapping[str, Interval] = found['figures']
      less: Mapping[str, Interval] = found['less_reference']
      bare = lambda figure, digits, own=own: (
        '-' if own[figure]['value'] is None else f'{own[figure]["value"]:{digits}}'
      )
      words = [
        cell.replace('_', ', '), variant, str(found['seeds']), interval_cell(own['success'], '.3f'),
        ' '.join(f'{value:.3f}' for value in found['success_by_seed']), bare('rc', '.3f'), bare('contacts', '.2f'),
        bare('any_contact', '.3f'), bare('contact_share', '.2f'), bare('speed', '.2f'),
      ]  # fmt: skip
      if variant == reference:
        words += ['-'] * 4
      else:
        words += [
          interval_cell(less['success'], '+.3f'),
          interval_cell(less['rc'], '+.3f'),
          interval_cell(less['contacts'], '+.2f'),
          interval_cell(less['any_contact'], '+.3f'),
        ]
      lines.append('| ' + ' | '.join(words) + ' |')
  return '\n'.join(lines) + '\n'


def plot(results: Mapping[str, Any], path: Path) -> None:
  """A panel per task: success by look, the nearest to training first, with intervals and a dot per seed."""
  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  cells = {tuple(name.rsplit('_', 1)): variants for name, variants in results['cells'].items()}
  looks = sorted({look for look, _ in cells}, key=list(LOOKS).index)
  tasks = sorted({task for _, task in cells})
  names = list(dict.fromkeys([results['reference'], *(name for variants in cells.values() for name in variants)]))
  width = 0.7 / len(names)
  size = 2.2 + 1.8 * len(looks) * len(tasks), 3.8
  figure, axes = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False, layout='constrained')
  for axis, task in zip(axes[0], tasks, strict=True):
    for i, name in enumerate(names):
      places = [x for x, look in enumerate(looks) if name in cells.get((look, task), {})]
      found = [cells[looks[x], task][name] for x in places]
      own = [variants['figures']['success'] for variants in found]
      at = np.array(places) + (i - (len(names) - 1) / 2) * width
      # looks are no scale: the line only leads the eye from one to the next
      axis.plot(at, [interval['value'] for interval in own], 'o-', color=f'C{i}', lw=0.6, ms=5, label=name)
      for x, interval, variants in zip(at, own, found, strict=True):
        if interval['low'] is not None:
          axis.vlines(x, interval['low'], interval['high'], color=f'C{i}', lw=2)
        if variants['seeds'] > 1:
          axis.plot([x] * variants['seeds'], variants['success_by_seed'], 'k.', ms=3)
    axis.set_xticks(range(len(looks)), [f'look {look}' for look in looks])
    axis.set(title=task, xlim=(-0.5, len(looks) - 0.5), ylim=(0, 1.02))
    axis.grid(axis='y', alpha=0.3)
  axes[0][0].set_ylabel('success rate')
  handles, labels = axes[0][0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside right center', frameon=False, fontsize=8)
  figure.savefig(path, dpi=110)
  plt.close(figure)


def write(out: Path, reference: str, suffix: str = '') -> str:
  """Writes results.json, table.md and success.png of all that was judged below `out`; returns the table.

  suffix: of the names of the first two. The picture, which shows no differences, is only drawn where it is ''.
  Raises ValueError when nothing was judged.
  """
  cells = {path.name: episodes_of(path) for path in sorted((out / JUDGED).glob('*')) if path.is_dir()}
  cells = {name: episodes for name, episodes in cells.items() if episodes}
  if not cells:
    raise ValueError(f'{out / JUDGED} holds no episodes: judge something first')
  results = {
    'reference': reference,
    'episodes': {name: len(next(iter(episodes.values()))) for name, episodes in cells.items()},
    'cells': {
      name: compare(columns_of(episodes), reference, layouts_of(episodes)) for name, episodes in cells.items()
    },
  }
  write_whole(out / f'results{suffix}.json', json.dumps(results, indent=1, allow_nan=False) + '\n')
  shown = table(results, reference)
  write_whole(out / f'table{suffix}.md', shown)
  if not suffix:
    plot(results, out / 'success.png')
  return shown


def main(argv: list[str]) -> None:
  """Writes and prints the comparison."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  print(write(Path(flags.FLAGS.out), flags.FLAGS.reference))


if __name__ == '__main__':
  flags.DEFINE_string('out', None, f'Folder whose {JUDGED} holds a folder LOOK_TASK per cell.', required=True)
  flags.DEFINE_string('reference', None, 'Whom the others are compared with, without its seed.', required=True)
  app.run(main)
