"""Our pedestrians beside real ones: speeds, accelerations, curvature, clearances and groups.

Run: python -m experiments.pedestrians.run --data=PATH/TO/eth_ucy_trajnet_txt [--out=FOLDER] [--worlds=48]
Writes results.json and distributions.png. The data stay where they are.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags
from scipy.stats import ks_2samp

from experiments.pedestrians import streets, tracks

_DATA = flags.DEFINE_string('data', None, 'Folder of ETH/UCY text files (frame, person, x, y).', required=True)
_OUT = flags.DEFINE_string('out', str(Path(__file__).parent), 'Folder for results.json and distributions.png.')
_WORLDS = flags.DEFINE_integer('worlds', 48, 'Simulated worlds of each sort.')
_SECONDS = flags.DEFINE_float('seconds', 40.0, 'Simulated seconds per world.')
_SEED = flags.DEFINE_integer('seed', 1, 'Seed of the simulation.')

UNITS = {
  'speed': 'm/s',
  'acceleration': 'm/s^2',
  'curvature': '1/m',
  'straightness': 'share of 4 s of walking',
  'passing_distance': 'm',
  'group_distance': 'm',
}


def summary(values: np.ndarray, real: np.ndarray) -> dict[str, object]:
  """Size, quantiles and the Kolmogorov-Smirnov statistic against the real values."""
  row: dict[str, object] = {'num': len(values)}
  if set(np.unique(values)) <= {0.0, 1.0}:
    return row | {'share': round(float(values.mean()), 3)}
  row['quantiles'] = [round(float(q), 3) for q in np.quantile(values, tracks.QUANTILES)]
  if values is not real:
    row['ks'] = round(float(ks_2samp(real, values).statistic), 3)
  return row


def plot(measured: dict[str, dict[str, np.ndarray]], path: Path) -> None:
  """Cumulative distributions side by side."""
  figure, axes = plt.subplots(2, 3, figsize=(9, 5))
  for axis, (name, unit) in zip(axes.ravel(), UNITS.items(), strict=True):
    for label, colour in (('real', 'black'), ('streets', 'tab:blue'), ('square', 'tab:orange')):
      values = np.sort(measured[label][name])
      axis.plot(values, np.linspace(0, 1, len(values)), color=colour, label=label, lw=1.2)
    low, high = np.quantile(np.concatenate([m[name] for m in measured.values()]), (0.005, 0.975))
    axis.set(xlabel=f'{name.replace("_", " ")} ({unit})', xlim=(low, high), ylim=(0, 1))
    axis.grid(alpha=0.3)
  axes[0, 0].legend(frameon=False)
  figure.tight_layout()
  figure.savefig(path, dpi=70)


def main(argv: list[str]) -> None:
  """Measures, compares, prints and writes."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  data = Path(_DATA.value)
  missing = [name for name in tracks.STREETS if not (data / f'{name}.txt').is_file()]
  if missing:
    raise ValueError(f'data={data} lacks {missing}: it must hold the text files of ETH/UCY')
  measured = {'real': tracks.measure([tracks.read_tracks(data / f'{name}.txt') for name in tracks.STREETS])}
  for name in ('streets', 'square'):
    measured[name] = tracks.measure(streets.our_tracks(name, _WORLDS.value, _SECONDS.value, _SEED.value))
  results: dict[str, object] = {'quantiles': list(tracks.QUANTILES)}
  for measure in tracks.MEASURES:
    rows = {label: summary(values[measure], measured['real'][measure]) for label, values in measured.items()}
    results[measure] = rows
    for label, row in rows.items():
      print(f'{measure:17s} {label:8s} {row}', flush=True)
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  (out / 'results.json').write_text(json.dumps(results, indent=1) + '\n')
  plot(measured, out / 'distributions.png')


if __name__ == '__main__':
  app.run(main)
