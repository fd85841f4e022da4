"""Parameters, compile time and peak memory of each model's train step.

Run: python -m experiments.model_costs.run [--models=s2e_tiny,s2e_v1,s2e_v2] [--segments=1] [--json=PATH]
Nothing is trained: the step is lowered and compiled for abstract arrays, and XLA's own accounting is read. Each
model is compiled in a fresh process without a compilation cache; the process's peak resident memory tells what the
compiler itself took.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from s2e_jax import trees
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.structs import NUM_CLEARANCES, SegmentBatch
from s2e_jax.training import optim, parallel
from s2e_jax.training.pretrain import LossOptions, make_train_step

_MODELS = flags.DEFINE_list('models', ['s2e_tiny', 's2e_v1', 's2e_v2'], 'Presets to measure.')
_SEGMENTS = flags.DEFINE_integer('segments', 1, 'Segments per device and step.')
_WINDOWS = flags.DEFINE_integer('windows', 8, 'Windows per segment.')
_JSON = flags.DEFINE_string('json', '', 'File to write the rows to.')
_ONE = flags.DEFINE_string('one', '', 'Measure this model in this process and print one JSON line.')


def segment_shapes(config: Any, segments: int, num_windows: int) -> SegmentBatch:
  """Abstract [1, segments, ...] batch of one device."""

  def array(dtype: Any, *shape: int) -> Any:
    return jax.ShapeDtypeStruct((1, segments, *shape), dtype)

  frames, horizon = num_windows + config.num_history - 1, config.horizon
  return SegmentBatch(
    frames=array(jnp.uint8, frames, config.image_height, config.image_width, 3),
    goal_in_robot=array(jnp.float32, num_windows, 2),
    has_goal=array(jnp.bool_, num_windows),
    waypoints_in_robot=array(jnp.float32, num_windows, horizon, 2),
    waypoint_mask=array(jnp.bool_, num_windows, horizon),
    window_mask=array(jnp.bool_, num_windows),
    clearances=array(jnp.float32, num_windows, NUM_CLEARANCES),
  )


def measure(name: str, segments: int, num_windows: int) -> dict[str, Any]:
  """One row: parameters by group, seconds to lower and compile, bytes of XLA's plan for the step."""
  overrides = {'anchor_kind': 'fan'} if name == 's2e_v2' else {}  # k-means needs data; the shapes are the same
  config = policy_config(name, **overrides)
  policy = Policy(config, axis_name=parallel.AXIS)
  variables = jax.eval_shape(policy.init, jax.random.key(0), example_observation(config))
  optimizer = optim.make_optimizer(variables['params'], 100, 1e-4, 10, 0.1, 0.05)
  state = jax.eval_shape(lambda v: optim.init_state(v, optimizer), variables)
  state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), state)
  step: Any = parallel.pmap(make_train_step(policy, optimizer, LossOptions()), donate=(0,))
  begin = time.perf_counter()
  lowered = step.lower(state, segment_shapes(config, segments, num_windows))
  middle = time.perf_counter()
  memory = lowered.compile().memory_analysis()
  end = time.perf_counter()
  return {
    'model': name,
    'images': f'{config.num_history}x{config.image_height}x{config.image_width}',
    'parameters': trees.count_parameters(variables['params']),
    'parameters_by_group': {group: trees.count_parameters(tree) for group, tree in variables['params'].items()},
    'segments': segments,
    'windows': segments * num_windows,
    'lower_s': round(middle - begin, 1),
    'compile_s': round(end - middle, 1),
    'state_mib': round(memory.argument_size_in_bytes / 2**20),
    'step_temporaries_mib': round(memory.temp_size_in_bytes / 2**20),
    'process_peak_mib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
    'device': jax.devices()[0].device_kind,
  }


def table(rows: list[dict[str, Any]]) -> str:
  """Markdown table of the rows."""
  columns = (
    'model', 'images', 'parameters', 'windows', 'lower_s', 'compile_s', 'state_mib', 'step_temporaries_mib'
  )  # fmt: skip
  lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
  for row in rows:
    cells = (f'{row[c]:,}' if isinstance(row[c], int) else str(row[c]) for c in columns)
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  """Measures every model in a process of its own and prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  if _ONE.value:
    jax.config.update('jax_enable_compilation_cache', False)
    print(json.dumps(measure(_ONE.value, _SEGMENTS.value, _WINDOWS.value)))
    return
  rows = []
  for name in _MODELS.value:
    command = [sys.executable, '-m', 'experiments.model_costs.run', f'--one={name}']
    command += [f'--segments={_SEGMENTS.value}', f'--windows={_WINDOWS.value}']
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(rows[-1]), flush=True)
  print(table(rows))
  if _JSON.value:
    Path(_JSON.value).write_text(
      json.dumps({'rows': rows, 'jax': jax.__version__, 'date': time.strftime('%Y-%m-%d')}, indent=2) + '\n'
    )


if __name__ == '__main__':
  app.run(main)
