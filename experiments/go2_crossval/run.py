"""Pretraining on 20 real quadruped drives, cross-validated by trajectory, and the overfitting check.

Run: python -m experiments.go2_crossval.run --src=PATH/TO/go2_apartment/raw --out=runs/go2 [--folds=5] [--steps=N]
Every stage is one of the public commands, printed as it is run; finished stages are not repeated, so a killed
study goes on. Each fold tests on four drives, chooses its checkpoint on four others and trains on the rest.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

_SRC = flags.DEFINE_string('src', None, 'Folder of GNM-style trajectory folders.', required=True)
_OUT = flags.DEFINE_string('out', 'runs/go2', 'Folder for dataset, runs, evaluations and results.')
_FOLDS = flags.DEFINE_integer('folds', 5, 'Folds.')
_STEPS = flags.DEFINE_integer('steps', 400, 'Training steps per fold.')
_OVERFIT_STEPS = flags.DEFINE_integer('overfit_steps', 2000, 'Steps of the overfitting check; 0 = leave it out.')
_RATE = flags.DEFINE_float('nominal_rate', 4.0, 'Hz assumed for the recordings, which have no time stamps.')
_EXTRA = flags.DEFINE_multi_string('set', [], 'Further --config.NAME=VALUE leaves for the folds, without dashes.')

IMAGE = ['--config.policy.image_height=96', '--config.policy.image_width=96']  # the frames' own size
# Speeds are a tenth of a delivery robot's: in (m/s)^2 the velocity term would vanish beside the other two.
SLOW_ROBOT = ['--config.loss.velocity_weight=100.0']


def run_once(done: Path, command: list[str]) -> None:
  """Runs a public module unless the file `done` exists."""
  if done.exists():
    return
  print('  $ python -m ' + ' '.join(shlex.quote(word) for word in command), flush=True)
  begin = time.monotonic()
  log = done.parent.with_suffix('.log')
  log.parent.mkdir(parents=True, exist_ok=True)
  with log.open('w') as out:
    status = subprocess.run([sys.executable, '-m', *command], stdout=out, stderr=subprocess.STDOUT, check=False)
  if status.returncode:
    raise SystemExit(f'{command[0]} failed with {status.returncode}; see {log}')
  done.touch()
  print(f'    {time.monotonic() - begin:.0f} s', flush=True)


def train_and_evaluate(out: Path, name: str, data: Path, arguments: str, leaves: list[str], split: str) -> Path:
  """Folder of the evaluation of a policy trained with these config arguments."""
  run, evaluation = out / name, out / f'{name}_eval_{split}'
  config = f'--config=configs/pretrain.py:data={data},{arguments}'
  run_once(run / 'study_done', ['s2e_jax.train', config, *IMAGE, *SLOW_ROBOT, *leaves, f'--workdir={run}'])
  config = f'--config=configs/openloop.py:split={split}'
  run_once(evaluation / 'study_done', ['s2e_jax.evaluate', config, f'--checkpoint={run}', f'--out={evaluation}'])
  return evaluation


def main(argv: list[str]) -> None:
  """Converts, trains and evaluates all folds, pools them, and ends with the overfitting check."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  out, data = Path(_OUT.value), Path(_OUT.value) / 'dataset'
  out.mkdir(parents=True, exist_ok=True)
  convert = ['s2e_jax.data.convert', '--from=gnm', f'--src={_SRC.value}', f'--dst={data}']
  convert += ['--source=go2_apartment', '--licence=MIT', '--embodiment=quadruped', '--camera_height=0.35']
  run_once(data / 'study_done', [*convert, f'--nominal_rate={_RATE.value}'])
  extra = [f'--{leaf}' for leaf in _EXTRA.value]
  tests = [
    train_and_evaluate(out, f'fold{k}', data, f'folds={_FOLDS.value},fold={k},steps={_STEPS.value}', extra, 'test')
    for k in range(_FOLDS.value)
  ]
  subprocess.run(
    [sys.executable, '-m', 's2e_jax.openloop.pool', *map(str, tests), f'--out={out / "pooled.json"}'], check=True
  )
  if _OVERFIT_STEPS.value:
    plain = ['data.flip_prob=0.0', 'data.photometric=0.0', 'optim.weight_decay=0.0', 'window.goal_dropout=0.0']
    leaves = [f'--config.{leaf}' for leaf in plain]
    arguments = f'folds={_FOLDS.value},fold=0,steps={_OVERFIT_STEPS.value}'
    # The check asks whether the model can learn its training part by heart: judge the newest checkpoint on it.
    run = out / 'overfit'
    config = f'--config=configs/pretrain.py:data={data},{arguments}'
    run_once(run / 'study_done', ['s2e_jax.train', config, *IMAGE, *SLOW_ROBOT, *leaves, f'--workdir={run}'])
    evaluation = out / 'overfit_eval_train'
    command = ['s2e_jax.evaluate', '--config=configs/openloop.py:split=train', '--config.which=latest']
    run_once(evaluation / 'study_done', [*command, f'--checkpoint={run}', f'--out={evaluation}'])
    print((evaluation / 'table.md').read_text())


if __name__ == '__main__':
  app.run(main)
