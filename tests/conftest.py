"""Eight fake CPU devices, a compilation cache, and the fixtures that several rooms use."""

import ctypes.util
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

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)

# Linux grants a process this many memory mappings. XLA's CPU programs take several each, a thousand tests leave
# tens of thousands, and a process that runs out of them dies by a signal in whatever it compiles next.
MAX_MAPPINGS = 65_530
MAPPINGS = Path('/proc/self/maps')

REPO = Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / 'shared' / 'data'


@pytest.fixture(autouse=True, scope='module')
def programs_are_dropped_in_time():
  """Forgets compiled programs after a module once they hold a quarter of the mappings that a process may have."""
  yield
  if MAPPINGS.is_file() and MAPPINGS.read_bytes().count(b'\n') > MAX_MAPPINGS // 4:
    jax.clear_caches()


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
