"""The whole method on the embedded default: drives -> pretraining -> PPO through RAM -> judging in closed loop.

Run: python -m experiments.demo [--out=runs/demo] [--clips=N] [--steps=N] [--rl_steps=N] [--envs=N] [--episodes=N]
(`make demo` installs first). Each stage is one of the public commands, printed as it is run, so that it can be
repeated by hand. Run again, the demo keeps its data and its finished training. The streets are procedural: the
demo shows that the machinery works and what this little of it gives, not how good S2E is. Beside this run stand
two checkpoints that come with the project, trained longer by the same commands (experiments/shipped).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

SHIPPED = Path(__file__).resolve().parent / 'shipped'


def shipped() -> dict[str, Path]:
  """The checkpoints that come with the project, by name."""
  return {path.name: path for path in sorted(SHIPPED.glob('shipped_*'))}


def stages(
  out: Path, clips: int, looks: str, steps: int, rl_steps: int, envs: int, episodes: int
) -> list[tuple[str, list[str]]]:
  """(title, command) of every stage that is still to do, in order."""
  data, bc, full = out / 'data', out / 'bc', out / 'full'
  python = [sys.executable, '-m']
  train, evaluate = [*python, 's2e_jax.train'], [*python, 's2e_jax.evaluate']
  generate = [*python, 's2e_jax.demos', f'--dst={data}', f'--clips={clips}', f'--looks={looks}', '--slots=small']
  # A finished dataset is never written over; a killed generation goes on by itself.
  first = [] if (data / 'dataset_info.json').exists() else [('Drive through simulated streets', generate)]
  pretrain = [f'--config=configs/pretrain.py:data={data},steps={steps}', f'--workdir={bc}']
  look = ['--config=configs/openloop.py', f'--checkpoint={bc}', f'--out={out / "openloop"}']
  finetune = [
    f'--config=configs/finetune.py:checkpoint={bc},steps={rl_steps},envs={envs}',
    f'--config.trials.episodes={episodes}',
    # Judging is at the full level: so short a training cannot climb there from empty streets.
    '--config.curriculum.start=0.5',
    '--config.train.time_parts=False',  # three programs less to compile
    f'--workdir={full}',
  ]
  judge = [
    f'--config=configs/closedloop.py:look=B,split=test,episodes={episodes}',
    "--config.baselines=('straight_to_goal',)",
    '--config.batch=128',  # as in trials, which have compiled this program
    f'--checkpoint={",".join(map(str, [bc, full, *shipped().values()]))}',
    f'--out={out / "closedloop"}',
  ]
  return [
    *first,
    ('Look at the data', [*python, 's2e_jax.data.inspect', str(data), f'--out={out / "inspect"}']),
    ('Seeing: pretrain s2e_tiny', [*train, *pretrain]),
    ('Evaluate open loop', [*evaluate, *look]),
    ('Experiencing: PPO through the residual branches', [*train, *finetune]),
    ('Judge in closed loop', [*evaluate, *judge]),
  ]


def main(argv: list[str]) -> None:
  """Runs the stages and ends with the table and the paths of what is to be looked at."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; see --help')
  given = flags.FLAGS
  out = Path(given.out)
  out.mkdir(parents=True, exist_ok=True)
  begin = time.monotonic()
  plan = stages(out, given.clips, given.looks, given.steps, given.rl_steps, given.envs, given.episodes)
  for i, (title, command) in enumerate(plan):
    shown = ' '.join(shlex.quote(word) for word in ['python', *command[1:]])
    minutes = (time.monotonic() - begin) / 60
    print(f'\n[{i + 1}/{len(plan)}] {title}, after {minutes:.1f} minutes\n  $ {shown}', flush=True)
    subprocess.run(command, check=True)
  # The last stage has just printed its table; what is left is where to look.
  found = [out / 'inspect' / 'contact_sheet.png', out / 'full' / 'curves.png', *sorted(out.rglob('*.mp4'))]
  for path in [*found, *sorted((out / 'openloop').rglob('*.png')), *sorted((out / 'closedloop').rglob('*.png'))]:
    print(path)
  print(f'\nSimulated streets: figures show that the pipeline works. {time.monotonic() - begin:.0f} s in all.')


if __name__ == '__main__':
  flags.DEFINE_string('out', 'runs/demo', 'Folder for data, runs, evaluations and pictures.')
  flags.DEFINE_integer('clips', 800, 'Expert drives.')
  flags.DEFINE_string('looks', 'A', 'Looks of the streets that are pretrained on: A, B or A,B.')
  flags.DEFINE_integer('steps', 3000, 'Training steps on the drives.')
  flags.DEFINE_integer('rl_steps', 400_000, 'Policy steps of PPO.')
  flags.DEFINE_integer('envs', 256, 'Environments that PPO drives at once.', lower_bound=1)
  flags.DEFINE_integer('episodes', 128, 'Of the closed loop and of trials, in streets that no stage has seen.')
  app.run(main)
