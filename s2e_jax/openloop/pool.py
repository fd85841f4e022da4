"""Pools the folds of a cross-validation: python -m s2e_jax.openloop.pool EVAL_DIR EVAL_DIR ... [--out=FILE.json].

Every clip is judged by the policy that did not train on it; ADE is then averaged over the windows of all folds,
with one interval over all clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.openloop import bootstrap
from s2e_jax.openloop.run import POLICIES, RIVALS


def pool_results(results: Sequence[dict[str, Any]], num_resamples: int = 5000) -> dict[str, Any]:
  """Figures over all folds, from several results.json.

  {'num_windows', 'num_clips', 'gain': {policy: interval}, 'ade' and 'ade_at_true_speed' (m): {method: interval}}.

  Raises ValueError when a clip occurs in two of them: it would be judged twice.
  """
  per_clip: dict[str, dict[str, Any]] = {}
  for result in results:
    if repeated := per_clip.keys() & result['per_clip'].keys():
      raise ValueError(f'clips {sorted(repeated)[:3]} occur in several evaluations; give each fold once')
    per_clip |= result['per_clip']
  counts = [clip['num_windows'] for clip in per_clip.values()]
  clip = np.repeat(np.arange(len(counts)), counts)

  def windows(key: str) -> dict[str, np.ndarray]:
    """[num_windows] values of every method that all clips have, a clip's mean for each of its windows."""
    methods = set.intersection(*(set(c[key]) for c in per_clip.values()))
    ordered = [name for name in next(iter(per_clip.values()))[key] if name in methods]
    return {name: np.repeat([c[key][name] for c in per_clip.values()], counts) for name in ordered}

  ade = windows('ade')
  intervals = {
    key: {name: bootstrap.mean_interval(v, clip, num_resamples) for name, v in windows(key).items()}
    for key in ('ade', 'ade_at_true_speed')
  }
  return {
    'num_windows': len(clip),
    'num_clips': len(counts),
    **intervals,
    'gain': {
      name: bootstrap.gain_interval(ade[name], [ade[rival] for rival in RIVALS], clip, num_resamples)
      for name in POLICIES
    },
  }


def main(argv: Sequence[str] | None = None) -> None:
  """Prints a Markdown table and, with --out, writes the pooled JSON."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('evaluations', nargs='+', type=Path, help='output folders of s2e_jax.evaluate, one per fold')
  parser.add_argument('--out', type=Path, help='JSON file to write')
  args = parser.parse_args(argv)
  pooled = pool_results([json.loads((folder / 'results.json').read_text()) for folder in args.evaluations])
  shown = lambda i, form: (
    f'{i["value"]:{form}}' + (f' [{i["low"]:{form}}, {i["high"]:{form}}]' if i['low'] is not None else '')
  )
  print(f'{pooled["num_windows"]} windows of {pooled["num_clips"]} clips in {len(args.evaluations)} folds\n')
  print('| method | ADE m | below the better of constant velocity and straight to goal | ADE at true speed m |')
  print('|---|---:|---:|---:|')
  for name, interval in pooled['ade'].items():
    gain = shown(pooled['gain'][name], '.1%') if name in pooled['gain'] else '-'
    print(f'| {name} | {shown(interval, ".3f")} | {gain} | {shown(pooled["ade_at_true_speed"][name], ".3f")} |')
  if args.out:
    args.out.write_text(json.dumps(pooled, indent=1) + '\n')


if __name__ == '__main__':
  main()
