"""Identifies the planar base from drives on full wheels and measures how far the two part.

Run: python -m experiments.dynamics.run [--out=experiments/dynamics] [--num=32] [--seconds=10]
Writes OUT/results.json and OUT/drives.png. See README.md.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib
import mujoco
import numpy as np
from absl import app, flags

from experiments.dynamics.drives import drive, errors, random_commands
from experiments.dynamics.identify import FITTED, identify, simulate
from s2e_jax.robots import ROBOTS, RobotDescription
from s2e_jax.sim.mjcf import robot_mjcf
from s2e_jax.sim.planar import make_planar
from s2e_jax.sim.wheels import make_wheels

_OUT = flags.DEFINE_string('out', 'experiments/dynamics', 'Folder for results.json and drives.png.')
_NUM = flags.DEFINE_integer('num', 32, 'Command sequences per robot, for fitting and again for judging.')
_SECONDS = flags.DEFINE_integer('seconds', 10, 'Length of each sequence.')

WHEELED = ('delivery', 'coco')
TIME_STEPS = (0.0025, 0.005, 0.01, 0.0125, 0.025)


def wheel_responses(robot: RobotDescription) -> list[dict[str, Any]]:
  """Rows per integrator and time step: how wheels in C MuJoCo answer a small step of speed.

  Shares of the step reached after 0.1 and 0.3 s; None where the simulation is unstable.
  """
  rows = []
  for integrator in ('Euler', 'implicitfast'):
    for time_step in TIME_STEPS:
      model = mujoco.MjModel.from_xml_string(robot_mjcf(robot, 'wheels'))
      model.opt.timestep = time_step
      model.opt.integrator = getattr(mujoco.mjtIntegrator, f'mjINT_{integrator.upper()}')
      data = mujoco.MjData(model)
      mujoco.mj_step(model, data, round(0.5 / time_step))
      row: dict[str, Any] = {'integrator': integrator, 'time_step': time_step}
      data.ctrl[:2] = 0.2 / robot.wheel_radius
      for begin, end in ((0.0, 0.1), (0.1, 0.3)):
        mujoco.mj_step(model, data, round(end / time_step) - round(begin / time_step))
        # MuJoCo starts over after a bad acceleration, and only warns.
        is_stable = not any(warning.number for warning in data.warning)
        row[f'response_{end}s'] = float(data.qvel[0] / 0.2) if is_stable else None
        row[f'lag_alone_{end}s'] = 1 - math.exp(-end / robot.time_constant)
      rows.append(row)
  return rows


def measure(name: str, num: int, steps: int) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
  """Results of one robot, and its drives on wheels and on the planar base."""
  robot = ROBOTS[name]
  base_wheels, base_planar = make_wheels(robot), make_planar(robot)
  fitting, judging = (random_commands(robot, num, steps, seed) for seed in (1, 2))
  fitted = identify(robot, fitting, drive(base_wheels, fitting))
  on_wheels, planar = drive(base_wheels, judging), drive(base_planar, judging)
  result = {
    'described': {field: getattr(robot, field) for field in FITTED},
    'identified': {field: round(getattr(fitted, field), 4) for field in FITTED},
    'planar_against_wheels': errors(planar, on_wheels),
    'identified_against_wheels': errors(simulate(fitted, judging), on_wheels),
    'planar_against_its_numpy_twin': float(np.abs(simulate(robot, judging) - planar)[..., :2].max()),
    'wheel_responses': wheel_responses(robot),
  }
  return result, (on_wheels, planar)


def plot(drives: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
  """Six drives per robot, wheels solid, planar dashed."""
  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, len(drives), figsize=(12, 5.5), squeeze=False)
  for axis, (name, (on_wheels, planar)) in zip(axes[0], drives.items(), strict=True):
    for n in range(6):
      (line,) = axis.plot(*on_wheels[n, :, :2].T)
      axis.plot(*planar[n, :, :2].T, '--', color=line.get_color())
    axis.set(title=f'{name}: wheels (solid), planar (dashed)', xlabel='x (m)', ylabel='y (m)', aspect='equal')
  figure.tight_layout()
  figure.savefig(path, dpi=90)


def main(argv: list[str]) -> None:
  """Measures every wheeled robot, prints the errors, writes the results."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  results, drives = {}, {}
  for name in WHEELED:
    results[name], drives[name] = measure(name, _NUM.value, 4 * _SECONDS.value)
    print(name, json.dumps(results[name] | {'wheel_responses': '...'}, indent=2), flush=True)
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  record = {
    'robots': results,
    'jax': jax.__version__,
    'mujoco': mujoco.__version__,
    'date': time.strftime('%Y-%m-%d'),
  }
  record |= {'command': f'python -m experiments.dynamics.run --num={_NUM.value} --seconds={_SECONDS.value}'}
  (out / 'results.json').write_text(json.dumps(record, indent=2) + '\n')
  plot(drives, out / 'drives.png')


if __name__ == '__main__':
  app.run(main)
