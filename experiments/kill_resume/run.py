"""SIGKILLs a smoke-size run at random moments and checks that nothing is lost.

Run: python -m experiments.kill_resume.run [--kills=20] [--out=runs/kill_resume] [--seed=0]
Writes OUT/results.json and OUT/table.md; ends with exit code 1 when a check fails. See README.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging

from experiments.drawn import write_drawn
from s2e_jax import trees
from s2e_jax.store.checkpoint import CheckpointStore, whole_steps
from s2e_jax.store.metrics import read_records

_KILLS = flags.DEFINE_integer('kills', 20, 'How many times to kill.')
_OUT = flags.DEFINE_string('out', 'runs/kill_resume', 'Folder for runs and results; emptied first.')
_SEED = flags.DEFINE_integer('seed', 0, 'Draws the moments.')

# A policy of smoke size: what is tested is the machinery around it.
SIZES = {
  'config.policy.image_height': 32, 'config.policy.image_width': 64, 'config.policy.width': 32,
  'config.policy.mlp_dim': 48, 'config.policy.num_context_layers': 1, 'config.policy.num_decoder_layers': 1,
  'config.window.num_windows': 4, 'config.train.log_every': 4, 'config.train.eval_every': 10,
  'config.train.checkpoint_every': 3, 'config.data.num_threads': 1,
}  # fmt: skip
TRAINING = 'first step with compilation'  # printed by a life once it trains
SLOWEST_START_S = 600.0


@dataclasses.dataclass
class Life:
  """One process of the run, and what was found after its death.

  killed: False for the one that reached the end. phase: 'startup' or 'training'. after_s: seconds since the
  process started (startup) or began to train. resumed_from: step it went on from (0: the beginning; None: killed
  before it got there). newest: newest whole checkpoint after death. half_written: folders of an unfinished save.
  faults: what went wrong, empty if all is well.
  """

  killed: bool
  phase: str
  after_s: float
  resumed_from: int | None
  newest: int
  checkpoints: list[int]
  best: list[int]
  half_written: list[str]
  faults: list[str]


def command(data: Path, workdir: Path, steps: int, sizes: dict[str, Any]) -> list[str]:
  """The training command."""
  words = [sys.executable, '-m', 's2e_jax.train', f'--config=configs/pretrain.py:smoke,data={data},steps={steps}']
  return [*words, f'--workdir={workdir}', *(f'--{name}={value}' for name, value in sizes.items())]


def live(words: list[str], workdir: Path, kill: tuple[str, float] | None, environment: dict[str, str]) -> Life:
  """Starts a life, ends it at `kill` = (phase, seconds) or waits for its end, and looks at what is left."""
  newest_before = max(whole_steps(workdir / 'checkpoints'), default=0)
  best_before = _best_metric(workdir)
  log = workdir.with_name(workdir.name + '.log')
  with log.open('w') as file:
    process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
      if kill is not None:
        if kill[0] == 'training':
          begin = time.monotonic()
          while process.poll() is None and TRAINING not in log.read_text():
            if time.monotonic() - begin > SLOWEST_START_S:
              raise TimeoutError(f'no step within {SLOWEST_START_S} s: {log.read_text()[-2000:]}')
            time.sleep(0.01)
        try:
          process.wait(timeout=kill[1])
        except subprocess.TimeoutExpired:
          process.send_signal(signal.SIGKILL)
      code = process.wait(timeout=3 * SLOWEST_START_S)
    finally:
      process.kill()
      process.wait()
  killed = code == -signal.SIGKILL
  text = log.read_text()
  found = re.search(r'resuming from checkpoint \S+/(\d+)', text)
  resumed = int(found[1]) if found else 0 if TRAINING in text else None
  folder = workdir / 'checkpoints'
  steps = whole_steps(folder)
  faults = [f'{folder.name}/{step}: {fault}' for step in steps if (fault := _fault(folder, step))]
  faults += [
    f'best/{step}: {fault}' for step in whole_steps(workdir / 'best') if (fault := _fault(workdir / 'best', step))
  ]
  if code not in (0, -signal.SIGKILL):
    faults.append(f'ended with exit code {code}: {text[-2000:]}')
  if resumed is not None and resumed != newest_before:
    faults.append(f'resumed from {resumed}, newest checkpoint was {newest_before}')
  if max(steps, default=0) < newest_before:
    faults.append(f'newest checkpoint was {newest_before}, now {steps}')
  if _best_metric(workdir) > best_before:
    faults.append(f'best metric was {best_before}, now {_best_metric(workdir)}')
  half = [p.name for p in folder.glob('*orbax-checkpoint-tmp*')] if folder.is_dir() else []
  phase, after = kill if kill and killed else ('end', 0.0)
  return Life(
    killed, phase, after, resumed, max(steps, default=0), steps, whole_steps(workdir / 'best'), half, faults
  )


def _fault(folder: Path, step: int) -> str | None:
  """What is wrong with a checkpoint that claims to be whole."""
  try:
    store = CheckpointStore(folder, read_only=True)
    arrays, description = store.load(step, 'policy', 'trainer'), store.description(step)
    store.close()
  except ValueError as error:
    return str(error)
  if description['step'] != step or 'policy' not in arrays:
    return f'describes step {description["step"]} and holds {sorted(arrays)}'
  bad = [x for x in jax.tree.leaves(arrays) if not np.isfinite(x).all()]
  return f'{len(bad)} arrays with non-finite values' if bad else None


def _best_metric(workdir: Path) -> float:
  found = [json.loads(p.read_text())['metric'] for p in (workdir / 'best').glob('[0-9]*/description/metadata')]
  return min(found, default=float('inf'))


def same_end(a: Path, b: Path, steps: int) -> list[str]:
  """Differences between two finished runs: final arrays bit for bit, metrics (without times), best step."""
  left, right = (
    CheckpointStore(w / 'checkpoints', read_only=True).load(steps, 'policy', 'trainer') for w in (a, b)
  )
  faults = []
  if trees.paths(left) != trees.paths(right):
    faults.append('the final checkpoints have different structures')
  else:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    unequal = sum(x.dtype != y.dtype or x.tobytes() != y.tobytes() for x, y in pairs)
    faults += [f'{unequal} final arrays differ'] if unequal else []
  lines = [
    [{k: v for k, v in r.items() if not k.startswith('time/')} for r in read_records(w / 'metrics.jsonl')]
    for w in (a, b)
  ]
  if lines[0] != lines[1]:
    faults.append(f'metrics differ: {len(lines[0])} and {len(lines[1])} lines')
  if whole_steps(a / 'best') != whole_steps(b / 'best'):
    faults.append(f'best steps differ: {whole_steps(a / "best")} and {whole_steps(b / "best")}')
  return faults


def study(out: Path, kills: int, steps: int, seed: int, longest_s: float, sizes: dict[str, Any]) -> dict[str, Any]:
  """All lives until `kills` of them were killed and the run was then finished; JSON-able results.

  longest_s: a training life is killed uniformly within this many seconds of its first step; one in four is killed
  during startup instead. A run that ends before enough kills is followed by another one from scratch.
  """
  out = out.absolute()
  data = out / 'data'
  write_drawn(data, 6, 8.0, 0, sizes['config.policy.image_height'], sizes['config.policy.image_width'])
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  environment.setdefault('JAX_COMPILATION_CACHE_DIR', str(out / 'xla'))
  reference = out / 'reference'
  begin = time.monotonic()
  whole = live(command(data, reference, steps, sizes), reference, None, environment)
  start_s = time.monotonic() - begin
  if whole.faults:
    raise RuntimeError(f'the uninterrupted run failed: {whole.faults}')
  rng, run = np.random.default_rng(seed), 0
  lives: list[Life] = []
  endings: list[str] = []
  while True:
    workdir = out / f'killed_{run}'
    words = command(data, workdir, steps, sizes)
    while True:
      left = kills - sum(life.killed for life in lives)
      is_startup = rng.uniform() < 0.25
      moment = rng.uniform(0, min(start_s, 10.0)) if is_startup else rng.uniform(0, longest_s)
      life = live(
        words, workdir, ('startup' if is_startup else 'training', float(moment)) if left else None, environment
      )
      lives.append(life)
      print(_row(len(lives), life), flush=True)
      if not life.killed:
        break
    endings += same_end(reference, workdir, steps)
    faults = [fault for life in lives for fault in life.faults] + endings
    if sum(life.killed for life in lives) >= kills or faults:
      break
    run += 1
  return {
    'kills': sum(life.killed for life in lives),
    'runs': run + 1,
    'steps': steps,
    'kills_in_startup': sum(life.killed and life.phase == 'startup' for life in lives),
    'kills_in_training': sum(life.killed and life.phase == 'training' for life in lives),
    'kills_during_a_save': sum(life.killed and bool(life.half_written) for life in lives),
    'is_bitwise_equal': not faults,
    'faults': faults,
    'lives': [dataclasses.asdict(life) for life in lives],
  }


HEADER = (
  '| life | killed | after s | resumed from | newest whole | half-written | faults |\n'
  '|--:|---|--:|--:|--:|---|---|'
)


def _row(number: int, life: Life) -> str:
  killed = f'in {life.phase}' if life.killed else 'no'
  half, resumed = ', '.join(life.half_written) or '-', '-' if life.resumed_from is None else life.resumed_from
  faults = '; '.join(life.faults)[:200] or '-'
  return f'| {number} | {killed} | {life.after_s:.2f} | {resumed} | {life.newest} | {half} | {faults} |'


def table(results: dict[str, Any]) -> str:
  """Markdown of a study."""
  rows = [_row(i + 1, Life(**life)) for i, life in enumerate(results['lives'])]
  r = results
  summary = (
    f'{r["kills"]} kills ({r["kills_in_startup"]} in startup, {r["kills_in_training"]} in training, '
    f'{r["kills_during_a_save"]} during a save), {r["runs"]} run(s) of {r["steps"]} steps: final parameters, '
    f'optimiser state and metrics {"equal" if r["is_bitwise_equal"] else "DIFFER from"} the uninterrupted run '
    'bit for bit.'
  )
  return '\n'.join([summary, '', HEADER, *rows, ''])


def main(argv: list[str]) -> int:
  """Runs the study and writes it down."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; use --kills=N --out=DIR --seed=N')
  logging.set_verbosity(logging.WARNING)
  out = Path(_OUT.value)
  if out.exists():
    shutil.rmtree(out)
  out.mkdir(parents=True)
  results = study(out, _KILLS.value, 300, _SEED.value, longest_s=5.0, sizes=SIZES)
  (out / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
  (out / 'table.md').write_text(table(results))
  print(table(results))
  return 1 if results['faults'] else 0


if __name__ == '__main__':
  app.run(main)
