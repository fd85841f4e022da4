"""Amplitude and rate of a gait's sway, from the poses of a steady walk."""

from __future__ import annotations

import numpy as np

STRIDES = (1.2, 6.0)  # Hz; where the stride frequency is looked for


def _level(signal: np.ndarray) -> np.ndarray:
  """`signal` [T] without its mean, slope and bend."""
  time = np.linspace(-1, 1, len(signal))
  return signal - np.polyval(np.polyfit(time, signal, 3), time)


def stride_rate(signal: np.ndarray, step: float) -> float:
  """Hz of the strongest oscillation within `STRIDES` of `signal` [T], sampled every `step` s."""
  size = 1 << 14
  spectrum = np.abs(np.fft.rfft(_level(signal) * np.hanning(len(signal)), size))
  rates = np.fft.rfftfreq(size, step)
  within = (rates >= STRIDES[0]) & (rates <= STRIDES[1])
  return float(rates[within][spectrum[within].argmax()])


def phasor(signal: np.ndarray, rate: float, step: float) -> complex:
  """a of the part Re(a exp(2 pi i rate t)) of `signal` [T] at `rate` Hz: |a| is its amplitude."""
  angle = 2 * np.pi * rate * step * np.arange(len(signal))
  time = np.linspace(-1, 1, len(signal))
  columns = [np.cos(angle), -np.sin(angle), *(time**k for k in range(4))]
  weights = np.hanning(len(signal))[:, None]
  solution = np.linalg.lstsq(weights * np.stack(columns, 1), weights[:, 0] * signal, rcond=None)[0]
  return complex(solution[0], solution[1])


def sideways(x: np.ndarray, y: np.ndarray, yaw: np.ndarray) -> np.ndarray:
  """m [T] to the left of the mean motion of a steady walk (straight or circling) at x, y, yaw [T]."""
  time = np.linspace(-1, 1, len(yaw))
  heading = np.polyval(np.polyfit(time, yaw, 3), time)
  middle = (heading[1:] + heading[:-1]) / 2
  steps = np.diff(y) * np.cos(middle) - np.diff(x) * np.sin(middle)
  return np.concatenate([[0.0], np.cumsum(steps - steps.mean())])


def measure_sway(walk: np.ndarray, step: float, above: float = 0.0, window: float = 2.0) -> dict[str, float]:
  """Median over windows of `window` s of the sway of a steady walk [T, 7] (`go1.POSE`).

  rate: Hz of the stride. left (m), yaw, pitch, roll (rad), up (m): amplitudes at the stride; up, pitch and roll
  also at twice the stride (`*_2`), where both pairs of legs look alike. left is that of a point `above` m over the
  trunk's middle, which roll moves too. *_std: of all motion around the mean, slow wandering included.
  """
  size, rows = round(window / step), []
  for start in range(0, len(walk) - size + 1, size // 2):
    x, y, up, yaw, pitch, roll, thigh = walk[start : start + size].T
    rate = stride_rate(thigh, step)
    signals = {'left': sideways(x, y, yaw) - above * roll, 'yaw': yaw, 'up': up, 'pitch': pitch, 'roll': roll}
    row = {'rate': rate} | {name: abs(phasor(s, rate, step)) for name, s in signals.items()}
    row |= {f'{name}_2': abs(phasor(signals[name], 2 * rate, step)) for name in ('up', 'pitch', 'roll')}
    rows.append(row | {f'{name}_std': float(_level(s).std()) for name, s in signals.items()})
  return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
