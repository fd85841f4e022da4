"""Identifies the quadruped's lag and sway from a learned Go1 gait, and measures how far law and gait part.

Run: python -m experiments.gait.run [--data=DIR] [--out=experiments/gait] [--num=32] [--seconds=10]
Writes OUT/results.json, OUT/steps.png and OUT/walks.png. Needs onnxruntime and the Go1 files, see README.md.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from absl import app, flags

from experiments.dynamics.drives import drive, random_commands
from experiments.dynamics.identify import FITTED, simulate
from experiments.gait import plots
from experiments.gait.fit import at_once, fit_lag, lost_shares, parted, respond
from experiments.gait.go1 import CONTROL_STEP, Go1, held, missing, speeds, states
from experiments.gait.sway import measure_sway
from s2e_jax.robots import ROBOTS, RobotDescription
from s2e_jax.sim.planar import make_planar

_DATA = flags.DEFINE_string('data', '../shared/data/robots/go1_mjx_playground', 'Folder of the Go1 files.')
_OUT = flags.DEFINE_string('out', 'experiments/gait', 'Folder for results.json and the figures.')
_NUM = flags.DEFINE_integer('num', 32, 'Command sequences for fitting, and again for each judging.')
_SECONDS = flags.DEFINE_integer('seconds', 10, 'Length of each sequence.')

# What the description said before a gait was run.
ASSUMED: dict[str, Any] = dict(
  time_constant=0.25, yaw_time_constant=0.2, latency=0.05,
  max_acceleration=2.0, max_braking=2.0, max_yaw_acceleration=5.0,
)  # fmt: skip
# Where the held-out sequences are walked: level of observation noise, friction of the floor, least speed (m/s).
JUDGED: dict[str, tuple[float, float, float | None]] = {
  'nominal': (0.0, 0.6, None),
  'brisk': (0.0, 0.6, 0.4),
  'noise': (1.0, 0.6, None),
  'friction_0.4': (0.0, 0.4, None),
  'friction_1.0': (0.0, 1.0, None),
}
SPEEDS = (-1.0, -0.5, -0.4, -0.3, -0.25, -0.2, -0.1, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.8, 1.0, 1.25, 1.5, 2.0)
TURNS = (-1.5, -1.0, -0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
STEPS = (
  ((0.0, 0.0), (1.0, 0.0)),
  ((0.5, 0.0), (1.5, 0.0)),
  ((1.0, 0.0), (0.0, 0.0)),
  ((1.0, 0.0), (-0.5, 0.0)),
  ((0.8, 0.0), (0.8, 1.0)),
  ((0.8, 1.0), (0.8, -1.0)),
  ((0.0, 0.0), (0.0, 1.5)),
  ((0.0, 0.0), (0.0, 0.8)),
)
SWAYED = (
  (0.5, 0.0),
  (0.8, 0.0),
  (1.0, 0.0),
  (1.25, 0.0),
  (1.5, 0.0),
  (-0.5, 0.0),
  (0.0, 1.5),
  (0.8, 1.0),
  (1.5, 1.5),
)
TRUNK = 0.29  # m of the trunk's middle above the ground: the camera is higher and rolls with it


def steady(go1: Go1, command: tuple[float, float], seconds: float = 8.0, skip: float = 3.0) -> np.ndarray:
  """Poses of a walk under one held command after its first `skip` s."""
  return go1.walk(np.array([command]), seconds)[round(skip / CONTROL_STEP) :]


def tracking(go1: Go1) -> dict[str, list[tuple[float, float]]]:
  """(commanded, reached) pairs: speed straight on, turning rate on the spot and at 0.8 m/s."""

  def reached(command: tuple[float, float], axis: int) -> float:
    return float(speeds(steady(go1, command))[:, axis].mean())

  return {
    'speed': [(v, reached((v, 0.0), 0)) for v in SPEEDS],
    'turning_on_the_spot': [(w, reached((0.0, w), 2)) for w in TURNS],
    'turning_at_0.8': [(w, reached((0.8, w), 2)) for w in TURNS],
    'speed_in_full_turn': [(v, reached((v, 1.5), 0)) for v in (0.5, 1.0, 1.5)],
  }


def step_responses(go1: Go1, robots: dict[str, RobotDescription], num: int = 10) -> list[dict[str, Any]]:
  """Per step of `STEPS`: speed and turning rate around it, of gaits met in `num` phases and of the law."""
  before, after, lead = 100, 75, 25
  out = []
  for first, then in STEPS:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ('gait', *robots)}
    for n in range(num):
      begun = before + 4 * n
      commands = np.array([first] * begun + [then] * after)
      walk = speeds(go1.walk(commands, CONTROL_STEP))[:, [0, 2]]
      rows['gait'].append(walk[begun - lead :])
      for name, robot in robots.items():
        rows[name].append(respond(robot, commands[None], CONTROL_STEP)[0, begun - lead :])
    out.append({'first': first, 'then': then, 'lead': lead} | {k: np.array(v) for k, v in rows.items()})
  return out


def times_to(response: dict[str, Any], name: str, shares: tuple[float, ...] = (0.5, 0.9)) -> list[float]:
  """s after the command until the mean response has come `shares` of the way."""
  axis = 0 if response['first'][0] != response['then'][0] else 1
  low, high = response['first'][axis], response['then'][axis]
  way = (response[name][..., axis].mean(0) - low) / (high - low)
  way = way[response['lead'] :]
  return [round(float((np.argmax(way >= share) + 0.5) * CONTROL_STEP), 3) for share in shares]


def walked(go1: Go1, commands: np.ndarray, noise: float, friction: float) -> np.ndarray:
  """Walks [S, 1 + N, 7] under `commands` [S, T, 2]."""
  go1.noise = noise
  go1.model.geom('floor').friction[0] = friction
  return np.array([go1.walk(sequence) for sequence in commands])


def judging_commands(robot: RobotDescription, num: int, steps: int, least: float | None) -> np.ndarray:
  """Held-out commands [num, steps, 2]; `least`: speeds begin there instead of at the robot's limit."""
  commands = random_commands(robot, num, steps, seed=2)
  if least is not None:
    share = (commands[..., 0] - robot.min_speed) / (robot.max_speed - robot.min_speed)
    commands[..., 0] = least + share * (robot.max_speed - least)
  return commands


def main(argv: list[str]) -> None:
  """Walks, fits, judges, prints and writes the results."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  data = Path(_DATA.value)
  reason = missing(data)
  if reason:
    sys.exit(f'experiments.gait needs a gait to run: {reason}')
  go1, described = Go1(data), ROBOTS['quadruped']
  assumed = dataclasses.replace(described, **ASSUMED)
  reached = tracking(go1)
  print('reached', json.dumps(reached), flush=True)

  steps = 4 * _SECONDS.value
  fitting = random_commands(described, _NUM.value, steps, seed=1)
  motion = speeds(walked(go1, fitting, 0.0, 0.6))[..., [0, 2]]
  identified = fit_lag(assumed, held(fitting), motion, CONTROL_STEP)
  lost = np.median(lost_shares(identified, held(fitting), motion, CONTROL_STEP), 0)
  # The command's way to the robot is in the description's latency, but not in this gait.
  robots = {
    'identified': identified,
    'described_less_latency': dataclasses.replace(described, latency=identified.latency),
    'assumed': assumed,
    'at_once': at_once(described),
  }
  judged: dict[str, Any] = {}
  slip: dict[str, Any] = {}
  refitted: dict[str, Any] = {}  # the constants that the judged walks themselves would give
  drift: dict[str, float] = {}  # m/s to the left
  drives: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for name, (noise, friction, least) in JUDGED.items():
    commands = judging_commands(described, _NUM.value, steps, least)
    walks = walked(go1, commands, noise, friction)
    gait = states(walks)
    judged[name] = {law: parted(robot, commands, gait) for law, robot in robots.items()}
    judged[name]['identified_less_median_slip'] = parted(identified, commands * (1 - lost), gait)
    motion = speeds(walks)[..., [0, 2]]
    refitted[name] = constants(fit_lag(assumed, held(commands), motion, CONTROL_STEP))
    shares = lost_shares(identified, held(commands), motion, CONTROL_STEP)
    slip[name] = {'speed': percentiles(shares[:, 0]), 'turning': percentiles(shares[:, 1])}
    slip[name]['both'] = percentiles(shares.ravel())
    drift[name] = float(speeds(walks)[..., 1].mean())
    drives[name] = gait, simulate(identified, commands)
    print(name, json.dumps(judged[name]), json.dumps(slip[name]), flush=True)
  nominal = judging_commands(described, _NUM.value, steps, None)
  twin = np.abs(simulate(described, nominal) - drive(make_planar(described), nominal))[..., :2].max()

  go1.noise, go1.model.geom('floor').friction[0] = 0.0, 0.6
  responses = step_responses(go1, {'identified': identified, 'assumed': assumed})
  above = described.mount.height - TRUNK
  sway = [{'command': c} | measure_sway(steady(go1, c, 12.0), CONTROL_STEP, above) for c in SWAYED]
  sample = steady(go1, (1.0, 0.0), 5.0)
  go1.noise = 1.0
  shaken = [{'command': c} | measure_sway(steady(go1, c, 12.0), CONTROL_STEP, above) for c in SWAYED]
  results = {
    'reached': reached,
    'fitted': {
      name: constants(robot)
      for name, robot in (('identified', identified), ('described', described), ('assumed', assumed))
    },
    'refitted': refitted,
    'judged': judged,
    'slip': slip,
    'drift_to_the_left': drift,
    'times_to_50_and_90_percent': [
      {'first': r['first'], 'then': r['then']}
      | {name: times_to(r, name) for name in ('gait', 'identified', 'assumed')}
      for r in responses
    ],
    'sway': sway,
    'sway_median': {k: float(np.median([row[k] for row in sway])) for k in sway[0] if k != 'command'},
    'sway_under_noise': shaken,
    'planar_against_its_numpy_twin': float(twin),
    'mujoco': mujoco.__version__,
    'onnxruntime': importlib.metadata.version('onnxruntime'),
    'date': time.strftime('%Y-%m-%d'),
    'command': f'python -m experiments.gait.run --num={_NUM.value} --seconds={_SECONDS.value}',
  }
  out = Path(_OUT.value)
  out.mkdir(parents=True, exist_ok=True)
  (out / 'results.json').write_text(json.dumps(rounded(results), indent=1) + '\n')
  plots.plot_steps(responses, reached, out / 'steps.png')
  plots.plot_walks({name: drives[name] for name in ('nominal', 'brisk')}, sample, sway, out / 'walks.png')
  print(json.dumps({k: results[k] for k in ('fitted', 'sway_median', 'times_to_50_and_90_percent')}, indent=1))


def constants(robot: RobotDescription) -> dict[str, float]:
  """The fitted constants of a robot by name."""
  return {field: getattr(robot, field) for field in FITTED}


def percentiles(values: np.ndarray) -> list[float]:
  """5th, 50th and 95th percentile."""
  return [float(x) for x in np.percentile(values, (5, 50, 95))]


def rounded(tree: Any) -> Any:
  """`tree` with floats of five decimals: what is below is not reproducible anyway."""
  if isinstance(tree, dict):
    return {name: rounded(value) for name, value in tree.items()}
  if isinstance(tree, list | tuple):
    return [rounded(value) for value in tree]
  return round(tree, 5) if isinstance(tree, float) else tree


if __name__ == '__main__':
  app.run(main)
