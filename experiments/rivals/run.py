"""All variants of finetuning at equal budget: trains them, judges them on the same test episodes, compares them.

Run: python -m experiments.rivals.run --checkpoint=runs/bc --out=runs/rivals [--variants=ram,sft] [--seeds=0,1,2]
         [--steps=1000000] [--looks=C-near,C-far] [--tasks=obstacle,both,empty] [--episodes=256] [--print_only]
Each stage is one of the public commands, printed as it is run. Run again, it goes on where it stopped, and with
other variants, seeds, looks or tasks it adds them: a policy is judged once per look and task. Ends with table.md,
results.json and success.png in --out; with --reference=ppo_full, say, differences are to that variant instead of
the pretrained policy, in table_less_ppo_full.md and results_less_ppo_full.json. See README.md.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from configs.closedloop import TASKS
from configs.finetune import VARIANTS
from experiments.rivals import compare
from s2e_jax.reporting import write_whole
from s2e_jax.worlds.looks import LOOKS

TRAINED = 'trained.json'  # {run: {'steps', 'seconds'}} of what has been trained to the end


def run_name(variant: str, seed: int) -> str:
  """Folder and name of one run, e.g. ram_s0."""
  return f'{variant}{compare.SEED}{seed}'


def check(
  checkpoint: Path,
  variants: Sequence[str],
  seeds: Sequence[int],
  looks: Sequence[str],
  tasks: Sequence[str],
  reference: str = '',
) -> None:
  """Raises ValueError, before anything runs, naming what is unknown, missing or given twice."""
  check_lists(variants=(variants, VARIANTS), seeds=(seeds, None), looks=(looks, LOOKS), tasks=(tasks, TASKS))
  if not checkpoint.is_dir():
    raise ValueError(f'checkpoint={str(checkpoint)!r} is no folder: give the run of a pretrained policy')
  if compare.variant_of(checkpoint.name) in variants:
    raise ValueError(f'checkpoint={str(checkpoint)!r} is named like a run of this study: rename its folder')
  if reference and reference not in variants:
    raise ValueError(f'reference={reference!r} must be one of the variants {list(variants)}: add it to them')


def check_lists(**lists: tuple[Sequence[Any], Collection[str] | None]) -> None:
  """Raises ValueError for a list, (values, what to choose from), with an unknown value, one twice, or none."""
  for name, (values, known) in lists.items():
    if known is not None and (unknown := [value for value in values if value not in known]):
      raise ValueError(f'{name}={unknown} are unknown: choose from {sorted(known)}')
    if not values or len(set(values)) != len(values):
      raise ValueError(f'{name}={list(values)} must name at least one, each once')


def train_command(checkpoint: Path, out: Path, variant: str, seed: int, steps: int) -> list[str]:
  """The training command of one run."""
  config = f'configs/finetune.py:variant={variant},checkpoint={checkpoint},steps={steps}'
  workdir = out / run_name(variant, seed)
  return ['s2e_jax.train', f'--config={config}', f'--config.seed={seed}', f'--workdir={workdir}']


def judge_command(checkpoints: Sequence[Path], cell: Path, look: str, task: str, episodes: int) -> list[str]:
  """The command that judges policies which the folder `cell` does not have yet, in a folder of their own there."""
  out = cell / f'{len(list(cell.glob("*/episodes.jsonl"))):02d}'
  return [
    's2e_jax.evaluate',
    f'--config=configs/closedloop.py:look={look},task={task},split=test,episodes={episodes}',
    f'--config.batch={min(128, episodes)}',
    '--config.baselines=()' if out.name != '00' else "--config.baselines=('straight_to_goal',)",
    '--config.film=False',
    '--config.num_maps=0',
    f'--checkpoint={",".join(map(str, checkpoints))}',
    f'--out={out}',
  ]


def run(words: Sequence[str], title: str, print_only: bool = False) -> float:
  """Runs one of the package's commands, prints it, returns the seconds it took."""
  print(f'\n{title}\n  $ {shlex.join(["python", "-m", *words])}', flush=True)
  begin = time.monotonic()
  if not print_only:
    subprocess.run([sys.executable, '-m', *words], check=True)
  return time.monotonic() - begin


def judge_missing(
  checkpoints: Sequence[Path],
  out: Path,
  looks: Sequence[str],
  tasks: Sequence[str],
  episodes: int,
  print_only: bool = False,
) -> None:
  """Judges each of the policies in every cell where it was not judged yet."""
  for look in looks:
    for task in tasks:
      cell = out / compare.JUDGED / f'{look}_{task}'
      judged = compare.episodes_of(cell)
      if missing := [path for path in checkpoints if path.name not in judged]:
        words = judge_command(missing, cell, look, task, episodes)
        run(words, f'judge {len(missing)} in look {look}, task {task}', print_only)


def main(argv: list[str]) -> None:
  """Trains what is not trained, judges what is not judged, compares all there is."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  given = flags.FLAGS
  checkpoint, out, seeds = Path(given.checkpoint), Path(given.out), [int(seed) for seed in given.seeds]
  check(checkpoint, given.variants, seeds, given.looks, given.tasks, given.reference)
  out.mkdir(parents=True, exist_ok=True)
  record = out / TRAINED
  trained: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
  # seeds outside: whoever stops early has all variants at the seeds that are done
  wanted = [(variant, seed) for seed in seeds for variant in given.variants]
  for number, (variant, seed) in enumerate(wanted):
    name = run_name(variant, seed)
    if trained.get(name, {}).get('steps') != given.steps:
      words = train_command(checkpoint, out, variant, seed, given.steps)
      seconds = run(words, f'[{number + 1}/{len(wanted)}] train {name}', given.print_only)
      if not given.print_only:
        trained[name] = {'steps': given.steps, 'seconds': round(seconds)}
        write_whole(record, json.dumps(trained, indent=2) + '\n')
  everybody = [checkpoint, *(out / run_name(variant, seed) for variant, seed in wanted)]
  judge_missing(everybody, out, given.looks, given.tasks, given.episodes, given.print_only)
  if not given.print_only:
    suffix = f'_less_{given.reference}' if given.reference else ''
    print(compare.write(out, given.reference or checkpoint.name, suffix))


if __name__ == '__main__':
  flags.DEFINE_string('checkpoint', None, 'Run of the pretrained policy that all start from.', required=True)
  flags.DEFINE_string('out', None, 'Folder of runs, judgements and results.', required=True)
  flags.DEFINE_list(
    'variants', ['ram', 'sft', 'dagger', 'decoder_ft', 'ppo_full', 'ppo_scratch'], 'See finetune.py.'
  )
  flags.DEFINE_list('seeds', ['0'], 'One run of every variant for each.')
  flags.DEFINE_integer('steps', 1_000_000, 'Policy steps of every run; expert steps for sft.')
  flags.DEFINE_list('looks', ['C-near', 'C-far'], 'Of the test worlds.')
  flags.DEFINE_list('tasks', ['obstacle', 'both', 'empty'], f'Of {sorted(TASKS)}.')
  flags.DEFINE_integer('episodes', 256, 'Test episodes per look and task, the same for everybody.')
  flags.DEFINE_string('reference', '', 'Variant that the others are compared with; default the pretrained policy.')
  flags.DEFINE_bool('print_only', False, 'Print the commands instead, for a scheduler to run.')
  app.run(main)
