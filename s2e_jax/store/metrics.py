"""Metrics of a run: one JSON line per record, TensorBoard, and a progress line for people."""

from __future__ import annotations

import json
import logging as std_logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tensorboardX import SummaryWriter


def read_records(path: str | Path) -> list[dict[str, Any]]:
  """All whole records of a JSONL file, in order; a last line that was cut short is left out."""
  path = Path(path)
  lines = path.read_bytes().split(b'\n')[:-1] if path.exists() else []
  return [json.loads(line) for line in lines if line.strip()]


def truncate(path: str | Path, last_step: int) -> int:
  """Drops the records after `last_step` (and a line cut short) and returns how many were dropped; atomic."""
  path = Path(path)
  if not path.exists():
    return 0
  *whole, rest = path.read_bytes().split(b'\n')
  kept = [line for line in whole if line.strip() and json.loads(line)['step'] <= last_step]
  dropped = len(whole) - len(kept) + bool(rest)
  if dropped:
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_bytes(b''.join(line + b'\n' for line in kept))
    os.replace(temporary, path)
  return dropped


def jsonable(value: Any) -> Any:
  """`value` in JSON's types: arrays to lists, scalars to numbers, non-finite numbers to their names."""
  if isinstance(value, Mapping):
    return {str(k): jsonable(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [jsonable(v) for v in value]
  if hasattr(value, 'tolist'):
    return jsonable(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


class MetricsWriter:
  """Writes `metrics.jsonl` and `tensorboard/` in a run's folder.

  A record is {'step': n, 'group/name': value, ...}; values are numbers or lists of numbers. Opening at `step`
  drops what a killed run wrote after it, so that a resumed run has no line twice. Silent where `is_primary` is
  False.
  """

  def __init__(self, folder: str | Path, step: int = 0, is_primary: bool = True):
    """step: the step that the run goes on from (0 for a fresh one)."""
    self.path = Path(folder) / 'metrics.jsonl'
    self._file: int | None = None
    self._board: SummaryWriter | None = None
    if is_primary:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      truncate(self.path, step)
      self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
      self._board = SummaryWriter(str(self.path.parent / 'tensorboard'), purge_step=step + 1 if step else None)

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends one record; the whole line goes out in one system call."""
    if self._file is None or self._board is None:
      return
    line = json.dumps({'step': int(step)} | jsonable(values), allow_nan=False).encode() + b'\n'
    written = os.write(self._file, line)
    if written != len(line):
      raise OSError(f'{self.path}: {written} of {len(line)} bytes written at step {step}; is the disk full?')
    for name, value in values.items():
      array = np.asarray(value)
      if array.dtype.kind not in 'biuf':
        continue
      if array.ndim == 0:
        self._board.add_scalar(name, float(array), step)
      else:
        for i, item in enumerate(array.ravel()):
          self._board.add_scalar(f'{name}_{i:02d}', float(item), step)

  def close(self) -> None:
    """Flushes and closes the files."""
    if self._board is not None:
      self._board.close()
    if self._file is not None:
      os.close(self._file)
    self._file = self._board = None


class Progress:
  """The console's progress line and the clock behind it.

  Throughput and ETA count from the end of the first step, so that compile time does not distort them.
  """

  def __init__(self, first_step: int, last_step: int, images_per_step: int, clock: Any = time.perf_counter):
    """first_step: where the run starts or goes on; clock: seconds, replaceable for tests."""
    self._clock = clock
    self._images, self._last = images_per_step, last_step
    self._begin = self._mark = clock()
    self._mark_step = first_step
    self._wait = 0.0
    self._rate: float | None = None
    self.compile_s: float | None = None

  def compiled(self, step: int) -> None:
    """The first step (with its compilation) is done: the clock starts over."""
    now = self._clock()
    self.compile_s = now - self._begin
    self._mark, self._mark_step, self._wait = now, step, 0.0

  def waited(self, seconds: float) -> None:
    """Adds time for which the step stood still because no batch was ready."""
    self._wait += seconds

  def paused(self, seconds: float) -> None:
    """Takes time that was no training (validation) out of the interval."""
    self._mark += seconds

  def interval(self, step: int) -> dict[str, float]:
    """Figures since the last call: time/step_s, time/images_per_s, time/data_wait_share, time/eta_s."""
    now = self._clock()
    steps, seconds = step - self._mark_step, max(now - self._mark, 1e-9)
    if steps < 1:
      return {}
    per_step = seconds / steps
    # The ETA follows the recent past, smoothed: one slow interval must not double it.
    self._rate = per_step if self._rate is None else 0.7 * self._rate + 0.3 * per_step
    wait = min(1.0, self._wait / seconds)
    self._mark, self._mark_step, self._wait = now, step, 0.0
    return {
      'time/step_s': per_step,
      'time/images_per_s': self._images / per_step,
      'time/data_wait_share': wait,
      'time/eta_s': self._rate * (self._last - step),
    }


def log_to_console() -> None:
  """Shows this project's messages and everybody's warnings on stderr; other packages' chatter stays away."""
  package = str(Path(__file__).resolve().parents[1])
  handler = logging.get_absl_handler()
  handler.setFormatter(std_logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
  handler.addFilter(lambda r: r.levelno >= std_logging.WARNING or r.pathname.startswith(package))
  logging.set_verbosity(logging.INFO)
  logging.use_absl_handler()


def duration(seconds: float) -> str:
  """'1:02:03' or '2:03' for people."""
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  return f'{hours}:{m:02d}:{s:02d}' if hours else f'{m}:{s:02d}'


def log_progress(
  step: int, last_step: int, loss: float, figure: tuple[str, float], timing: Mapping[str, float]
) -> None:
  """Prints 'step 50/3000  loss 1.234  ade_top 0.321 m  850 images/s  data wait 0.4 %  ETA 3:21'."""
  parts = [f'step {step}/{last_step}', f'loss {loss:.4f}', f'{figure[0]} {figure[1]:.3f}']
  if timing:
    parts += [
      f'{timing["time/images_per_s"]:.0f} images/s',
      f'data wait {100 * timing["time/data_wait_share"]:.1f} %',
      f'ETA {duration(timing["time/eta_s"])}',
    ]
  logging.info('%s', '  '.join(parts))
