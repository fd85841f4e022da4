"""Pictures of a gait: step responses, what it reaches, walks against the planar law, sway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from experiments.gait.go1 import CONTROL_STEP
from experiments.gait.sway import sideways

COLORS = {'identified': 'C3', 'assumed': 'C7'}


def plot_steps(responses: list[dict[str, Any]], reached: dict[str, Any], path: Path) -> None:
  """One panel per step (gait: mean and range over its phases), two for commanded against reached speeds."""
  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(2, 5, figsize=(19, 7))
  for axis, response in zip(axes[:, :4].flat, responses, strict=True):
    is_turn = response['first'][0] == response['then'][0]
    gait = response['gait'][..., int(is_turn)]
    time = (np.arange(gait.shape[1]) - response['lead'] + 0.5) * CONTROL_STEP
    axis.fill_between(time, gait.min(0), gait.max(0), color='C0', alpha=0.25, lw=0)
    axis.plot(time, gait.mean(0), 'C0', label='gait')
    for name, color in COLORS.items():
      axis.plot(time, response[name][..., int(is_turn)].mean(0), color, ls='--', label=name)
    first, then = (f'({v:g}, {w:g})' for v, w in (response['first'], response['then']))
    axis.set(title=f'(v, w) {first} to {then}', xlabel='s', ylabel='rad/s' if is_turn else 'm/s', xlim=(-0.2, 1.2))
    axis.grid(alpha=0.4)
  axes[0, 0].legend()
  for axis, names in zip(axes[:, 4], (('speed',), ('turning_on_the_spot', 'turning_at_0.8')), strict=True):
    for name in names:
      commanded, got = np.array(reached[name]).T
      axis.plot(commanded, got, 'o-', ms=3, label=name.replace('_', ' '))
    axis.plot(commanded := np.array(axis.get_xlim()), commanded, 'k', lw=0.5)
    axis.set(xlabel='commanded', ylabel='reached')
    axis.grid(alpha=0.4)
    axis.legend()
  figure.tight_layout()
  figure.savefig(path, dpi=80)
  plt.close(figure)


def plot_walks(
  drives: dict[str, tuple[np.ndarray, np.ndarray]], sample: np.ndarray, sway: list[dict[str, Any]], path: Path
) -> None:
  """Six walks per setting (gait solid, identified law dashed), the sway of a walk, its rate over speed."""
  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, len(drives) + 2, figsize=(20, 5))
  for axis, (name, (gait, law)) in zip(axes, drives.items(), strict=False):
    for n in range(min(6, len(gait))):
      (line,) = axis.plot(*gait[n, :, :2].T)
      axis.plot(*law[n, :, :2].T, '--', color=line.get_color())
    axis.set(title=f'{name}: gait (solid), identified law', xlabel='x (m)', ylabel='y (m)', aspect='equal')
  axis = axes[-2]
  time = np.arange(len(sample)) * CONTROL_STEP
  x, y, _, yaw, pitch, roll, _ = sample.T
  axis.plot(time, 1e3 * sideways(x, y, yaw), label='left of the mean (mm)')
  for angle, name in ((yaw - yaw.mean(), 'yaw'), (pitch - pitch.mean(), 'pitch'), (roll - roll.mean(), 'roll')):
    axis.plot(time, 1e3 * angle, label=f'{name} (mrad)', lw=1)
  axis.set(title='1 m/s straight on', xlabel='s')
  axis.legend(fontsize=8)
  axis = axes[-1]
  straight = sorted((row['command'][0], row) for row in sway if row['command'][1] == 0)
  speeds = [speed for speed, _ in straight]
  axis.plot(speeds, [row['rate'] for _, row in straight], 'ko-', label='stride (Hz)')
  for name, unit in (('left', 'mm'), ('yaw', 'mrad'), ('pitch', 'mrad'), ('roll', 'mrad')):
    axis.plot(speeds, [1e3 * row[name] for _, row in straight], 'o-', label=f'{name} ({unit})')
  axis.set(title='amplitude at the stride', xlabel='commanded speed (m/s)')
  axis.legend(fontsize=8)
  figure.tight_layout()
  figure.savefig(path, dpi=80)
  plt.close(figure)
