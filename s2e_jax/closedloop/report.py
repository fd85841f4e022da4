"""results.json, episodes.jsonl and table.md of a closed-loop evaluation."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.closedloop.intervals import contacts_per_100m, mcnemar, mean_interval, paired_difference
from s2e_jax.closedloop.metrics import CLASSES
from s2e_jax.reporting import Interval, interval_cell, interval_table, write_whole

Figures = Mapping[str, np.ndarray]  # of one policy, by name, [B] each: `metrics.episode_metrics`

# column -> (figure, format)
_MAIN = {
  'SR': ('success', '.3f'),
  'RC': ('rc', '.3f'),
  'RC by way': ('rc_way', '.3f'),
  'CT': ('contacts', '.2f'),
  'SPL': ('spl', '.3f'),
  'time to goal s': ('time_to_goal', '.1f'),
  'speed m/s': ('speed', '.2f'),
}
_CONTACT = {
  'episodes with a contact': ('any_contact', '.3f'),
  'in contact, share of time': ('contact_share', '.3f'),
  'contacts per 100 m': ('contacts_per_100m', '.2f'),
  'by the robot': ('contacts_by_robot', '.2f'),
  'with people': ('contacts_with_people', '.2f'),
  'of these walked into it': ('hit_by_people', '.2f'),
  'least gap to people m': ('person_gap', '.2f'),
}
_PAIRED = {
  'SR': ('success', '+.3f'),
  'RC': ('rc', '+.3f'),
  'CT': ('contacts', '+.2f'),
  'with a contact': ('any_contact', '+.3f'),
}
_BY_LAYOUT = ('success', 'contacts', 'any_contact')
_NOT_AVERAGED = ('failure', 'metres', 'seconds', 'nan_commands')


def summarise(figures: Mapping[str, Figures], num_resamples: int = 2000) -> dict[str, Any]:
  """JSON-able comparison of policies that drove the same episodes, in the order given.

  {'num_episodes', 'policies': {name: {'metrics': {figure: interval}, 'failures': {class: episodes},
  'nan_commands'}}, 'pairs': [{'first', 'second', 'difference': {figure: interval of first - second}, 'mcnemar'}]}.
  Raises ValueError when the policies were not judged on equally many episodes.
  """
  counts = {name: len(f['success']) for name, f in figures.items()}
  if len(set(counts.values())) != 1:
    raise ValueError(f'policies were judged on {counts} episodes: comparisons need the same ones for all')
  figures = {name: with_any_contact(f) for name, f in figures.items()}
  policies = {}
  for name, f in figures.items():
    metrics: dict[str, Interval] = {
      key: mean_interval(values, num_resamples, is_share=key in ('success', 'any_contact'))
      for key, values in f.items()
      if key not in _NOT_AVERAGED
    }
    metrics['contacts_per_100m'] = contacts_per_100m(f, num_resamples)
    tally = np.bincount(f['failure'].astype(int), minlength=len(CLASSES))
    policies[name] = {
      'metrics': metrics,
      'failures': dict(zip(CLASSES, tally.tolist(), strict=True)),
      'nan_commands': int(f['nan_commands'].sum()),
    }
  pairs = [
    {
      'first': a,
      'second': b,
      'difference': {
        key: paired_difference(figures[a][key], figures[b][key], num_resamples) for key, _ in _PAIRED.values()
      },
      'mcnemar': mcnemar(figures[a]['success'], figures[b]['success']),
    }
    for a, b in itertools.combinations(figures, 2)
  ]
  return {'num_episodes': next(iter(counts.values())), 'policies': policies, 'pairs': pairs}


def with_any_contact(figures: Figures) -> Figures:
  """The figures with `any_contact`, 1 where an episode has a contact: who gets stuck at the first has one CT."""
  return {**figures, 'any_contact': (np.asarray(figures['contacts']) > 0).astype(float)}


def by_layout(figures: Mapping[str, Figures], layouts: Sequence[str]) -> dict[str, Any]:
  """{layout: {'num_episodes', 'policies': {name: {figure: mean}}}}, the commonest layout first.

  figures: of `with_any_contact`. layouts: [B] names of the episodes' layouts.
  """
  names = np.asarray(layouts)
  found: dict[str, Any] = {}
  for layout, count in sorted(Counter(layouts).items(), key=lambda item: (-item[1], item[0])):
    is_here = names == layout
    means = {name: {key: float(f[key][is_here].mean()) for key in _BY_LAYOUT} for name, f in figures.items()}
    found[layout] = {'num_episodes': count, 'policies': means}
  return found


def episode_rows(
  figures: Mapping[str, Figures], layouts: Sequence[str], first: int = 0
) -> Iterator[dict[str, Any]]:
  """One JSON-able row per policy and episode; layouts: [B] names, first: number of row 0 in its split."""
  for name, f in figures.items():
    for b in range(len(f['success'])):
      row: dict[str, Any] = {'policy': name, 'episode': first + b, 'layout': layouts[b]}
      for key, values in f.items():
        row[key] = round(float(values[b]), 4) if np.isfinite(values[b]) else None
      yield row | {'success': bool(f['success'][b]), 'failure': CLASSES[int(f['failure'][b])]}


def table(results: Mapping[str, Any]) -> str:
  """The Markdown page of `summarise`'s results; 'settings' (name: value), 'checkpoints', 'notes' if any.

  'layouts' of `by_layout`, if any.
  """
  policies = results['policies']
  metrics = {name: policy['metrics'] for name, policy in policies.items()}
  settings = ', '.join(f'{name} {value}' for name, value in results.get('settings', {}).items())
  lines = [
    '# Closed-loop evaluation',
    '',
    f'{results["num_episodes"]} episodes, the same for every policy{": " if settings else ""}{settings}. '
    'All act deterministically through the same controller; contact does not end an episode. '
    'Value [95 % bootstrap over episodes].',
    '',
    *(
      f'- {name}: `{c["path"]}` ({c["model"]}, step {c["step"]})'
      for name, c in results.get('checkpoints', {}).items()
    ),
    *(f'> {note}' for note in results.get('notes', [])),
    '',
    *interval_table('policy', _MAIN, metrics),
    '',
    'SR success rate, RC route completion (straight distance), CT contacts per episode that began at least 1 s '
    'after the one counted before. Contacts in detail, per episode:',
    '',
    *interval_table('policy', _CONTACT, metrics),
    '',
    '## How episodes ended',
    '',
    '| policy | ' + ' | '.join(CLASSES) + ' |',
    '|---|' + '---:|' * len(CLASSES),
  ]
  for name, policy in policies.items():
    lines.append(f'| {name} | ' + ' | '.join(str(policy['failures'][c]) for c in CLASSES) + ' |')
  if 'layouts' in results:
    lines += ['', '## By layout: SR / CT', '']
    lines += ['| layout | episodes | ' + ' | '.join(policies) + ' |', '|---|---:|' + '---:|' * len(policies)]
  for layout, here in results.get('layouts', {}).items():
    cells = [f'{mean["success"]:.2f} / {mean["contacts"]:.2f}' for mean in here['policies'].values()]
    lines.append(f'| {layout} | {here["num_episodes"]} | ' + ' | '.join(cells) + ' |')
  if results['pairs']:
    lines += ['', '## Differences on the same episodes (first minus second)', '']
    lines += [
      '| first | second | ' + ' | '.join(_PAIRED) + ' | only first / only second arrived | McNemar p |',
      '|---|---|' + '---:|' * (len(_PAIRED) + 2),
    ]
  for pair in results['pairs']:
    cells = [interval_cell(pair['difference'][key], form) for key, form in _PAIRED.values()]
    test = pair['mcnemar']
    cells += [f'{test["only_ours"]} / {test["only_others"]}', f'{test["p"]:.2g}']
    lines.append(f'| {pair["first"]} | {pair["second"]} | ' + ' | '.join(cells) + ' |')
  for name, policy in policies.items():
    if policy['nan_commands']:
      lines += [
        '',
        f'**{name} gave {policy["nan_commands"]} commands that are not numbers; it stood still then.**',
      ]
  return '\n'.join(lines) + '\n'


def write_report(
  results: Mapping[str, Any], rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]], out: Path
) -> list[Path]:
  """Writes table.md, results.json and episodes.jsonl into `out`; returns their paths."""
  out.mkdir(parents=True, exist_ok=True)
  lines = ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows)
  return [
    write_whole(out / 'results.json', json.dumps(results, indent=1, allow_nan=False) + '\n'),
    write_whole(out / 'episodes.jsonl', lines),
    write_whole(out / 'table.md', table(results)),
  ]
