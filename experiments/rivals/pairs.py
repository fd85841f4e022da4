"""Differences between policies of any judgements, in simulated or splat scenes: seeds pooled, paired by episode.

Run: python -m experiments.rivals.pairs --folders=runs/study/judged --ours=ram --others=decoder_ft,dagger
       [--out=pairs.json]
Reads the results.json and episodes.jsonl that `s2e_jax.evaluate` writes, wherever they lie below the folders.
Policies are named without their seeds: ram stands for ram_s0, ram_s1 and so on. A cell (look and task, or task of
splat scenes) counts where both have driven; different episodes there are refused. Prints a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.rivals.compare import figures_of, variant_of
from s2e_jax.closedloop.intervals import paired_difference
from s2e_jax.reporting import Interval, interval_cell, write_whole

EPISODES = 'episodes.jsonl'
_SHOWN = {'success': '+.3f', 'contacts': '+.2f', 'any_contact': '+.3f', 'contact_share': '+.3f'}

Rows = dict[tuple[str, int], dict[str, Any]]  # (scene, number of the episode) -> what became of it
Cells = dict[str, dict[str, Rows]]  # cell -> policy -> rows


def cell_of(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
  """Name of the cell of an episode: its task in splat scenes, else look and task that all its neighbours have."""
  return str(row['task']) if 'task' in row else f'{settings["look"]}_{settings["task"]}'


def read(folders: Sequence[Path], variants: Sequence[str]) -> Cells:
  """All episodes of these variants below the folders.

  Raises ValueError where a folder has none or lacks results.json beside them, a variant is in no folder, or one
  policy drove an episode differently in two places.
  """
  cells: Cells = {}
  for folder in folders:
    paths = sorted(folder.rglob(EPISODES))
    if not paths:
      raise ValueError(f'{str(folder)!r} holds no {EPISODES}: give folders that a judgement has written')
    for path in paths:
      about = path.parent / 'results.json'
      if not about.is_file():
        raise ValueError(f'{str(about)!r}, which names the cell, is missing beside {EPISODES}: judge again')
      settings = json.loads(about.read_text())['settings']
      for line in path.read_text().splitlines():
        row = json.loads(line)
        if variant_of(row['policy']) not in variants:
          continue
        rows = cells.setdefault(cell_of(row, settings), {}).setdefault(row['policy'], {})
        key = row.get('scene', ''), row['episode']
        if rows.setdefault(key, row) != row:
          raise ValueError(f'{path}: {row["policy"]} drove episode {key} differently elsewhere; leave one out')
  found = {variant_of(policy) for policies in cells.values() for policy in policies}
  if missing := sorted(set(variants) - found):
    raise ValueError(f'{missing} drove nowhere below {[str(folder) for folder in folders]}')
  return cells


def columns(policies: Mapping[str, Rows], variant: str) -> tuple[list[tuple[str, int]], dict[str, np.ndarray]]:
  """Episodes that the variant drove, in order, and its figures there, means over its seeds.

  Raises ValueError when its seeds drove different episodes.
  """
  seeds = [rows for policy, rows in policies.items() if variant_of(policy) == variant]
  episodes = sorted(seeds[0])
  if any(sorted(rows) != episodes for rows in seeds):
    raise ValueError(f'seeds of {variant!r} drove different episodes: judge all with the same settings')
  return episodes, {figure: values.mean(axis=0) for figure, values in figures_of(seeds, episodes).items()}


def differences(cells: Cells, ours: str, others: Sequence[str]) -> dict[str, dict[str, dict[str, Interval]]]:
  """{cell: {other: {figure: ours less other}}} where both drove, paired by episode.

  Raises ValueError when `ours` is among the others, two drove different episodes of a cell, or there is no cell
  where both drove.
  """
  if ours in others:
    raise ValueError(f'--others={list(others)} names {ours!r}, which is --ours')
  results: dict[str, dict[str, dict[str, Interval]]] = {}
  for cell, policies in sorted(cells.items()):
    here = {variant_of(policy) for policy in policies}
    if ours not in here:
      continue
    episodes, own = columns(policies, ours)
    for other in (name for name in others if name in here):
      others_episodes, rival = columns(policies, other)
      if episodes != others_episodes:
        raise ValueError(
          f'{cell}: {ours!r} and {other!r} drove different episodes: judge both with the same settings'
        )
      results.setdefault(cell, {})[other] = {f: paired_difference(own[f], rival[f]) for f in _SHOWN}
  if not results:
    raise ValueError(f'{ours!r} and {list(others)} share no cell')
  return results


def table(results: Mapping[str, Mapping[str, Mapping[str, Interval]]], ours: str) -> str:
  """Markdown of `differences`."""
  lines = [
    f'| cell | {ours} less | SR | contacts per episode | with a contact | time in contact |',
    '|---|---|---:|---:|---:|---:|',
  ]
  for cell, rivals in results.items():
    for other, found in rivals.items():
      lines.append(
        '| '
        + ' | '.join([cell.replace('_', ', '), other, *(interval_cell(found[f], s) for f, s in _SHOWN.items())])
        + ' |'
      )
  return '\n'.join(lines) + '\n'


def main(_: list[str]) -> None:
  """Reads, prints, and writes what `--out` names."""
  given = flags.FLAGS
  folders = [Path(folder) for folder in given.folders]
  results = differences(read(folders, [given.ours, *given.others]), given.ours, given.others)
  print(table(results, given.ours))
  if given.out:
    write_whole(
      Path(given.out), json.dumps({'ours': given.ours, 'less': results}, indent=1, allow_nan=False) + '\n'
    )


if __name__ == '__main__':
  flags.DEFINE_list('folders', None, 'Folders of judgements; all below them is read.', required=True)
  flags.DEFINE_string('ours', None, 'Policy, without its seed.', required=True)
  flags.DEFINE_list('others', None, 'Policies that it is compared with, without their seeds.', required=True)
  flags.DEFINE_string('out', '', 'JSON file for the differences.')
  app.run(main)
