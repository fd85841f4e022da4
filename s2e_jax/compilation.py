"""How programs are compiled: vector width on CPUs, and where compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax

VECTOR_FLAG = '--xla_cpu_prefer_vector_width'


def set_up_compilation() -> None:
  """What every command does first, before anything touches a device: wide vectors and the compilation cache."""
  use_wide_vectors()
  use_compilation_cache()


def use_wide_vectors(cpu_info: Path = Path('/proc/cpuinfo')) -> None:
  """Lets XLA use 512-bit vectors on CPUs that have AVX-512, where it prefers 256 bits by itself.

  XLA's arc tangent is wrong at that width (see `geometry.arctan2`, which is right); a test checks all else that
  this package uses against numpy.
  The environment step takes 0.75 of the time (`python -m experiments.bench --only=env_step_wide_vectors`). Has no
  effect once JAX has started its CPU backend; an own --xla_cpu_prefer_vector_width in XLA_FLAGS is left alone.
  """
  flags = os.environ.get('XLA_FLAGS', '')
  if VECTOR_FLAG in flags or not cpu_info.is_file():
    return
  if ' avx512f ' in cpu_info.read_text(errors='replace'):
    os.environ['XLA_FLAGS'] = f'{flags} {VECTOR_FLAG}=512'.strip()


def use_cpu_devices(num_items: int, least: int = 64, evenly: bool = True) -> None:
  """Makes a JAX device of every CPU core, as far as each gets `least` of the items that they share (evenly, where
  nothing fills up the last share).

  Each core then runs a program of its own instead of a part of every operation, which takes less time for PPO and
  for pictures of splats (benchmarks `ppo_steps_per_s` and `splat_batch`). GPUs and TPUs are not touched. Call
  before JAX starts its backends; JAX_NUM_CPU_DEVICES in the environment decides otherwise.
  """
  if 'JAX_NUM_CPU_DEVICES' in os.environ:
    return
  cores = num_cores()
  fitting = [n for n in range(2, cores + 1) if num_items // n >= least and not (evenly and num_items % n)]
  if fitting:
    jax.config.update('jax_num_cpu_devices', max(fitting))


def num_cores() -> int:
  """CPU cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def use_compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder, unless the environment says where ('' for nowhere).

  The folder is $XDG_CACHE_HOME/s2e_jax/xla (default ~/.cache); JAX_COMPILATION_CACHE_DIR names another one.
  Programs that compile in less than half a second are not worth a file.
  """
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    root = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    jax.config.update('jax_compilation_cache_dir', str(root / 's2e_jax' / 'xla'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
