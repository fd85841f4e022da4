"""The whole job on the embedded default: expert drives -> pretraining -> open-loop evaluation.

Run: python -m experiments.demo [--out=runs/demo] [--steps=N] [--clips=N] [--looks=A]  (`make demo` installs first)
Each stage is one of the public commands, printed as it is run, so that it can be repeated by hand. Run again, the
demo keeps its data and its finished training. The data are procedural and labelled synthetic: the demo shows that
the machinery works, not how good S2E is.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

_OUT = flags.DEFINE_string('out', 'runs/demo', 'Folder for data, run, evaluation and pictures.')
_STEPS = flags.DEFINE_integer('steps', 1200, 'Training steps.')
_CLIPS = flags.DEFINE_integer('clips', 96, 'Expert drives.')
_LOOKS = flags.DEFINE_string('looks', 'A', 'Looks of the streets: A, B or A,B.')


def stages(out: Path, steps: int, clips: int, looks: str) -> list[tuple[str, list[str]]]:
  """(title, command) of every stage that is still to do, in order."""
  data, run = out / 'data', out / 'run'
  python = [sys.executable, '-m']
  generate = [*python, 's2e_jax.demos', f'--dst={data}', f'--clips={clips}', f'--looks={looks}', '--slots=small']
  # A finished dataset is never written over; a killed generation goes on by itself.
  first = [] if (data / 'dataset_info.json').exists() else [('Drive through simulated streets', generate)]
  return [
    *first,
    ('Look at the data', [*python, 's2e_jax.data.inspect', str(data), f'--out={out / "inspect"}']),
    (
      'Pretrain s2e_tiny',
      [*python, 's2e_jax.train', f'--config=configs/pretrain.py:data={data},steps={steps}', f'--workdir={run}'],
    ),
    (
      'Evaluate open loop',
      [
        *python,
        's2e_jax.evaluate',
        '--config=configs/openloop.py',
        f'--checkpoint={run}',
        f'--out={out / "eval"}',
      ],
    ),
  ]


def main(argv: list[str]) -> None:
  """Runs the stages and ends with the table and the paths of the pictures."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; use --out=DIR, --steps=N, --clips=N and --looks=A')
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  begin = time.monotonic()
  plan = stages(out, _STEPS.value, _CLIPS.value, _LOOKS.value)
  for i, (title, command) in enumerate(plan):
    shown = ' '.join(shlex.quote(word) for word in ['python', *command[1:]])
    print(f'\n[{i + 1}/{len(plan)}] {title}\n  $ {shown}', flush=True)
    subprocess.run(command, check=True)
  # The evaluation has just printed its table; what is left is where to look.
  for picture in [out / 'inspect' / 'contact_sheet.png', *sorted((out / 'eval').rglob('*.png'))]:
    print(picture)
  print(f'\nSynthetic data: figures show that the pipeline works. {time.monotonic() - begin:.0f} s in all.')


if __name__ == '__main__':
  app.run(main)
