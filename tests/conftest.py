"""Eight fake CPU devices, a compilation cache, and the fixtures that several rooms use."""

import ctypes.util
import functools
import os
import tempfile
from pathlib import Path

# Child processes of a test inherit the cache; it only saves time, never changes a result.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(Path(tempfile.gettempdir()) / 's2e_jax_test_cache'))
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# MuJoCo chooses its OpenGL library when it is first imported, by whichever test comes first: so it is set here.
if ctypes.util.find_library('OSMesa'):
  os.environ.setdefault('MUJOCO_GL', 'osmesa')

import jax
import pytest
from jax._src import compiler

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)

# Linux grants a process this many memory mappings. XLA's CPU programs take several each, a thousand tests leave
# tens of thousands, and a process that runs out of them dies by a signal in whatever it compiles next.
MAX_MAPPINGS = 65_530
MAPPINGS = Path('/proc/self/maps')

# XLA's compiler takes gigabytes, and the C library keeps them when they are freed: 2.5 of the 3.1 GB after the
# expert's drives were such.
MEMORY = Path('/proc/self/statm')
MUCH_MEMORY = 1 << 30

REPO = Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / 'shared' / 'data'


# The modules whose single tests take longest. They go first: while a long one ends last, the other cores wait.
LONGEST = ['experiments/test_demo.py', 'sim/test_demonstrations.py', 'test_train.py', 'test_watch.py']


def pytest_collection_modifyitems(items):
  """Runs the longest modules first, and everything else in its order."""
  rank = {REPO / 'tests' / name: i for i, name in enumerate(LONGEST)}
  items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True, scope='module')
def programs_are_dropped_in_time():
  """Forgets compiled programs after a module once they hold a quarter of the mappings that a process may have.

  Memory that was freed goes back to the system, so that test processes stay small.
  """
  yield
  if MAPPINGS.is_file() and MAPPINGS.read_bytes().count(b'\n') > MAX_MAPPINGS // 4:
    jax.clear_caches()
  if MEMORY.is_file() and int(MEMORY.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') > MUCH_MEMORY:
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # of glibc alone
    if trim is not None:
      trim(0)


@pytest.fixture(autouse=True, scope='module')
def nobody_stays_a_real_time_process():
  """A library that makes its caller one (SVT-AV1 does) would starve whatever runs beside the tests."""
  scheduler = lambda: os.sched_getscheduler(0) if hasattr(os, 'sched_getscheduler') else None
  before = scheduler()
  yield
  assert scheduler() == before


# XLA's older emitter of loops for CPUs compiles the simulator in half the time; its programs run a third longer.
# Later versions do not have it.
OLD_EMITTER = 'xla_cpu_use_fusion_emitters'


@functools.cache
def has_old_emitter():
  try:
    jax.jit(lambda x: x).lower(1.0).compile({OLD_EMITTER: False})
  except jax.errors.JaxRuntimeError:
    return False
  return True


@pytest.fixture(scope='module')
def compiled_quickly():
  """Compiles this module's programs with few optimisations: for tests of logic, whose programs run for seconds.

  Not for tests of accuracy or of bits across processes, which check programs as they are for users.
  """
  name = 'jax_disable_most_optimizations'
  before, options = jax.config.read(name), compiler.get_compile_options

  # JAX takes XLA's options per function, or from the environment once and for all
  def with_old_emitter(*args, env_options_overrides=None, **kwargs):
    return options(*args, env_options_overrides={**(env_options_overrides or {}), OLD_EMITTER: False}, **kwargs)

  jax.config.update(name, True)
  with pytest.MonkeyPatch.context() as m:
    if has_old_emitter():
      m.setattr(compiler, 'get_compile_options', with_old_emitter)
    yield
  jax.config.update(name, before)


@pytest.fixture(scope='session')
def quick_environment():
  """The environment for a command whose programs run for seconds, as `compiled_quickly` has them compiled."""
  quick = {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  if has_old_emitter():
    quick['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --{OLD_EMITTER}=false'.strip()
  return os.environ | quick


@pytest.fixture(scope='session')
def shared_data():
  """Folder of small real data sets kept beside the checkout; tests that need it skip without it."""
  if not SHARED_DATA.is_dir():
    pytest.skip('real data not found: expected ../shared/data beside the checkout')
  return SHARED_DATA


@pytest.fixture(scope='session')
def repo():
  """Root of the checkout."""
  return REPO
