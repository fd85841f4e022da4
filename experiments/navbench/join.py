"""Joins what two machines made of the same episodes: means over all seeds, and bounds of their intervals.

Run: python -m experiments.navbench.join FIRST/results.json SECOND/results.json [--out=FILE.json]
Where the folders `driven` of both are at hand, copy them into one and judge there again instead: that costs
nothing and gives exact intervals. From results alone the interval of a mean over both can only be bounded, by the
mean of their half widths: the standard deviation of a sum is at most the sum of the standard deviations, however
the seeds go together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags

from s2e_jax.reporting import write_whole

METRICS = ('success', 'rc', 'contacts')
_SAME = ('benchmark', 'protocol', 'scenes')  # of what must be equal

Joined = dict[str, dict[str, dict[str, Any]]]  # task -> method -> {'seeds', metric: {'value', 'low', 'high'}}


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> Joined:
  """Tables of two results.json as one. ValueError when they are not of the same episodes or share a policy."""
  for name in _SAME:
    if first[name] != second[name]:
      raise ValueError(f'{name} of the two results differs: they are not of the same episodes')
  tasks = {name: cell['num_episodes'] for name, cell in first['tasks'].items()}
  others = {name: cell['num_episodes'] for name, cell in second['tasks'].items()}
  if tasks != others:
    raise ValueError(f'episodes per task differ: {tasks} and {others}; judge as many of both')
  if twice := sorted(set(first['policies']) & set(second['policies'])):
    raise ValueError(f'policies={twice} are in both results: take one of them away')
  return {
    task: {
      method: _mean(
        [
          (result['tasks'][task]['methods'][method]['metrics'], len(result['methods'][method]))
          for result in (first, second)
          if method in result['methods']
        ]
      )
      for method in {**first['methods'], **second['methods']}
    }
    for task in tasks
  }


def _mean(parts: list[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
  """Means of metrics over parts of so many seeds each, their intervals as wide as they can be at most."""
  seeds = sum(num for _, num in parts)
  row: dict[str, Any] = {'seeds': seeds}
  for name in METRICS:
    known = [(num / seeds, metrics[name]) for metrics, num in parts]
    mean = lambda key: sum(share * (m['value'] if m[key] is None else m[key]) for share, m in known)  # noqa: B023
    row[name] = {key: mean(key) for key in ('value', 'low', 'high')}
  return row


def table(tasks: Joined) -> str:
  """Markdown: SR [interval] / RC / contacts per method and task."""
  lines = [f'| method | seeds | {" | ".join(tasks)} |', '|---|---:|' + '---:|' * len(tasks)]
  for method, row in next(iter(tasks.values())).items():
    cells = []
    for task in tasks:
      sr, rc, contacts = (tasks[task][method][name] for name in METRICS)
      cells.append(
        f'{sr["value"]:.2f} [{sr["low"]:.2f}, {sr["high"]:.2f}] / {rc["value"]:.2f} / {contacts["value"]:.2f}'
      )
    lines.append(f'| {method} | {row["seeds"]} | {" | ".join(cells)} |')
  return '\n'.join(lines) + '\n'


def main(argv: list[str]) -> None:
  """The command; says what is wrong in one line instead of a traceback."""
  if len(argv) != 3:
    raise app.UsageError(f'two results.json are joined, got {argv[1:]}')
  try:
    tasks = joined(*(json.loads(Path(path).read_text()) for path in argv[1:]))
  except (ValueError, OSError) as error:
    raise SystemExit(f'error: {error}') from error
  print(table(tasks), end='')
  if out := flags.FLAGS.out:
    write_whole(Path(out), json.dumps(tasks, indent=1) + '\n')


if __name__ == '__main__':
  flags.DEFINE_string('out', '', 'File for the joined table as JSON.')
  app.run(main)
