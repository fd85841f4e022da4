"""XLA's flags and the cache folder as the commands set them."""

import os
import re
import subprocess
import sys

import pytest

from s2e_jax import compilation
from s2e_jax.compilation import use_wide_vectors


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
  """Function (flags of the CPU, XLA_FLAGS before) -> XLA_FLAGS after."""

  def after(cpu, before=''):
    path = tmp_path / 'cpuinfo'
    path.write_text(f'processor : 0\nflags\t\t: fpu {cpu} ssse3\n')
    monkeypatch.setenv('XLA_FLAGS', before)
    use_wide_vectors(path)
    return os.environ['XLA_FLAGS']

  return after


def test_wide_vectors_are_asked_for_where_the_cpu_has_them(cpu_info):
  assert cpu_info('avx2 avx512f avx512bw') == '--xla_cpu_prefer_vector_width=512'
  assert cpu_info('avx512f', '--xla_one=1') == '--xla_one=1 --xla_cpu_prefer_vector_width=512'


def test_other_cpus_and_own_choices_are_left_alone(cpu_info, tmp_path, monkeypatch):
  assert cpu_info('avx2') == ''
  own = '--xla_cpu_prefer_vector_width=128'
  assert cpu_info('avx512f', own) == own
  monkeypatch.setenv('XLA_FLAGS', '')
  use_wide_vectors(tmp_path / 'no_such_file')
  assert os.environ['XLA_FLAGS'] == ''


@pytest.mark.parametrize('command', ['train', 'evaluate', 'demos', 'watch', 'navbench.command'])
def test_importing_a_command_starts_no_backend(command):
  """Or else the flags would come too late."""
  code = f'import s2e_jax.{command}; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == 'False'


@pytest.mark.parametrize(
  ('cores', 'items', 'expected'), [(2, 256, 2), (16, 256, 4), (3, 256, 2), (3, 192, 3), (1, 256, 1), (8, 8, 1)]
)
def test_every_core_is_a_device_if_all_get_enough(monkeypatch, cores, items, expected):
  asked = {}
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
  monkeypatch.setattr(compilation.os, 'sched_getaffinity', lambda pid: set(range(cores)), raising=False)
  monkeypatch.setattr(compilation.jax.config, 'update', asked.__setitem__)
  compilation.use_cpu_devices(items)
  assert asked.get('jax_num_cpu_devices', 1) == expected
  monkeypatch.setenv('JAX_NUM_CPU_DEVICES', '5')
  asked.clear()
  compilation.use_cpu_devices(items)
  assert not asked


def test_shares_need_not_be_even_where_the_last_one_is_filled_up(monkeypatch):
  asked = {}
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
  monkeypatch.setattr(compilation.os, 'sched_getaffinity', lambda pid: {0, 1}, raising=False)
  monkeypatch.setattr(compilation.jax.config, 'update', asked.__setitem__)
  compilation.use_cpu_devices(25, least=4)
  assert not asked
  compilation.use_cpu_devices(25, least=4, evenly=False)
  assert asked == {'jax_num_cpu_devices': 2}


def test_this_xla_knows_the_flag():
  code = 'from s2e_jax import compilation as c; c.use_wide_vectors(); import jax; print(jax.numpy.ones(3).sum())'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0 and done.stdout.splitlines()[-1] == '3.0', done.stderr[-500:]


WIDE = """
from s2e_jax import compilation
from s2e_jax.compilation import use_wide_vectors
use_wide_vectors()
import jax, jax.numpy as jnp, numpy as np, scipy.special as sp
from s2e_jax.geometry import arctan, arctan2
from s2e_jax.scene import to_street, to_world
x = np.random.default_rng(0).uniform(-3, 3, 1152).astype(np.float32)
y, p, u = x[::-1].copy(), np.abs(x) + 0.01, x / 3.001
for name, ours, theirs, inputs in (
  ('arctan2', arctan2, np.arctan2, (x, y)), ('arctan', arctan, np.arctan, (x,)),
  ('log', jnp.log, np.log, (p,)),
  ('exp', jnp.exp, np.exp, (x,)), ('tanh', jnp.tanh, np.tanh, (x,)),
  ('sin', jnp.sin, np.sin, (x,)), ('cos', jnp.cos, np.cos, (x,)), ('sqrt', jnp.sqrt, np.sqrt, (p,)),
  ('log1p', jnp.log1p, np.log1p, (p,)), ('expm1', jnp.expm1, np.expm1, (x,)), ('tan', jnp.tan, np.tan, (u,)),
  ('ndtri', jax.scipy.special.ndtri, sp.ndtri, ((u + 1) / 2,)), ('floor', jnp.floor, np.floor, (40 * x,)),
  ('erfinv', jax.scipy.special.erfinv, sp.erfinv, (u,)), ('hypot', jnp.hypot, np.hypot, (x, y)),
  ('mod', lambda a: jnp.mod(a, 0.75), lambda a: np.mod(a, 0.75), (x,)), ('cumsum', jnp.cumsum, np.cumsum, (x,)),
):
  error = np.abs(np.asarray(jax.jit(ours)(*inputs)) - theirs(*[v.astype(np.float64) for v in inputs])).max()
  assert error < 1e-4, (name, error)
s, d, k = 4 * x, 2 * y, np.linspace(-0.04, 0.04, 1152).astype(np.float32)
back = jax.jit(lambda s, d, k: to_street(*to_world(s, d, k), k))(s, d, k)
assert np.abs(back[0] - s).max() < 1e-4 and np.abs(back[1] - d).max() < 1e-4
print('right')
"""


def test_everything_that_is_used_is_right_with_wide_vectors():
  done = subprocess.run([sys.executable, '-c', WIDE], capture_output=True, text=True)
  assert done.returncode == 0 and done.stdout.splitlines()[-1] == 'right', done.stderr[-500:]


def test_nobody_uses_functions_that_xla_gets_wrong(repo):
  for path in (repo / 's2e_jax').rglob('*.py'):
    found = re.findall(r'(?:jnp|xp|lax|jax\.numpy)\.(?:arc|a)(?:tan2?|cos|sin)\(', path.read_text())
    assert not found, f'{path}: {found}; use geometry.arctan2'
