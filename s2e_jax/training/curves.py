"""How a finetuning run went, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2e_jax.store.metrics import read_records

FILE = 'curves.png'
_PARTS = ('simulate', 'render', 'encode', 'decide', 'update')
# what is drawn together; only what a run has
PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
  ('share of episodes in training', ('episodes/success', 'episodes/collision', 'episodes/time_out')),
  ('validation, deterministic', ('validation/success', 'validation/route_completion', 'validation/any_contact')),
  ('reward per step', ('rollout/reward', 'rollout/reward/arrival', 'rollout/reward/collision')),
  ('nats', ('ppo/entropy', 'rollout/score_entropy')),
  ('level of the worlds', ('rollout/level',)),
  ('KL of an update', ('ppo/kl',)),
  ('learning rate', ('ppo/learning_rate', 'imitation/learning_rate')),
  ('explained variance', ('ppo/explained_variance',)),
  ('imitation', ('imitation/loss', 'imitation/error_v', 'imitation/error_w')),
  ('share of time', tuple(f'time/{part}_share' for part in _PARTS)),
)
_LOGARITHMIC = ('KL of an update', 'learning rate')


def draw_curves(run: Path) -> Path:
  """Writes curves.png of the metrics.jsonl in the folder of a finetuning run; returns its path."""
  from matplotlib.figure import Figure  # takes long to import, and a run is drawn when it has ended

  records = read_records(run / 'metrics.jsonl')
  per_iteration = next(r['policy_steps'] / r['step'] for r in records if 'policy_steps' in r)
  panels = [(label, names) for label, names in PANELS if any(name in r for r in records for name in names)]
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout='constrained')
  axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
  for axis, (label, names) in zip(axes.flat, panels, strict=False):
    _draw_panel(axis, label, names, records, per_iteration)
  for axis in axes.flat[len(panels) :]:
    axis.set_visible(False)
  for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
    axis.set_xlabel('thousand policy steps')
    axis.tick_params(labelbottom=True)
  figure.savefig(run / FILE, dpi=110)
  return run / FILE


def _draw_panel(
  axis: Any, label: str, names: Sequence[str], records: Sequence[Mapping[str, Any]], per_iteration: float
) -> None:
  for name in names:
    found = [(r['step'] * per_iteration / 1000, r[name]) for r in records if name in r]
    if not found:
      continue
    # few points are trials: show where they are
    axis.plot(*zip(*found, strict=True), label=name.partition('/')[2], marker='o' if len(found) < 12 else None)
  axis.set_ylabel(label)
  axis.grid(alpha=0.3)
  axis.legend(frameon=False, fontsize=8)
  if label in _LOGARITHMIC:
    axis.set_yscale('log')
