"""Draws how a finetuning run went: python -m experiments.finetune_tiny.plot --run=RUN --out=curves.png."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from absl import app, flags

from s2e_jax.store.metrics import read_records

matplotlib.use('agg')
import matplotlib.pyplot as plt

PANELS = (
  ('share of episodes', ('episodes/success', 'episodes/collision', 'episodes/time_out')),
  ('reward per step', ('rollout/reward', 'rollout/reward/arrival', 'rollout/reward/collision')),
  ('nats', ('ppo/entropy', 'rollout/score_entropy')),
  ('KL of an update', ('ppo/kl',)),
  ('learning rate', ('ppo/learning_rate',)),
  ('explained variance', ('ppo/explained_variance',)),
)


def draw(run: Path, out: Path) -> None:
  """One panel per group of figures of `metrics.jsonl` over policy steps."""
  records = read_records(run / 'metrics.jsonl')
  steps = np.array([r['policy_steps'] for r in records]) / 1000
  figure, axes = plt.subplots(2, 3, figsize=(12, 5.5), sharex=True, constrained_layout=True)
  for axis, (label, names) in zip(axes.flat, PANELS, strict=True):
    for name in names:
      axis.plot(steps, [r[name] for r in records], label=name.split('/', 1)[1], linewidth=1.6)
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)
    if len(names) > 1:
      axis.legend(frameon=False, fontsize=8)
    if label in ('KL of an update', 'learning rate'):
      axis.set_yscale('log')
  for axis in axes[1]:
    axis.set_xlabel('thousand policy steps')
  figure.savefig(out, dpi=110)


def main(argv: list[str]) -> None:
  """Draws."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  draw(Path(flags.FLAGS.run), Path(flags.FLAGS.out))


if __name__ == '__main__':
  flags.DEFINE_string('run', None, 'Folder of a finetuning run.', required=True)
  flags.DEFINE_string('out', 'curves.png', 'Picture to write.')
  app.run(main)
