"""Pickles: everything plain comes back as the standard unpickler gives it, nothing else is ever run."""

import pickle
import struct

import numpy as np
import pytest

from s2e_jax.data.clips import ClipError
from s2e_jax.data.formats import safe_pickle

PLAIN = {
  'position': np.arange(14, dtype=np.float64).reshape(7, 2),
  'fortran': np.asfortranarray(np.arange(15, dtype=np.int16).reshape(3, 5)),
  'strided': np.arange(20, dtype=np.float32)[::3],
  'big_endian': np.arange(3, dtype='>f8'),
  'bools': np.array([True, False, True]),
  'zero_d': np.array(3.5),
  'empty': np.zeros((0, 2)),
  'no_bytes': b'',
  'text': np.array(['ab', 'c']),
  'scalar': np.float32(1.25),
  'scalar_bool': np.bool_(True),
  'nested': [1, 2.5, None, True, 'x', b'\xff', (3, {4}, frozenset({5})), {'a': [np.arange(2)]}],
}


def same(a, b):
  if isinstance(b, np.ndarray):
    return (
      isinstance(a, np.ndarray) and a.dtype == b.dtype.newbyteorder('=') and a.shape == b.shape and (a == b).all()
    )
  if isinstance(b, dict):
    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
  if isinstance(b, list | tuple):
    return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
  return a == b


@pytest.mark.parametrize('protocol', range(6))
def test_plain_content_equals_the_standard_unpickler(protocol):
  data = pickle.dumps(PLAIN, protocol)
  assert same(safe_pickle.loads(data), pickle.loads(data))


@pytest.mark.parametrize('protocol', range(6))
def test_object_arrays_come_back(protocol):
  rows = np.empty((3, 2), object)
  rows[:] = [[1.5, np.float64(2.5)], [3, None], [np.arange(2), 'x']]
  back = safe_pickle.loads(pickle.dumps(rows, protocol))
  assert back.dtype == object and back.shape == (3, 2)
  assert back[0, 0] == 1.5 and back[0, 1] == 2.5 and back[1, 1] is None and (back[2, 0] == [0, 1]).all()


def test_module_names_of_numpy_1_are_known():
  data = pickle.dumps({'yaw': np.arange(4.0), 'n': np.int64(3)}, 0)
  assert b'numpy._core' in data
  back = safe_pickle.loads(data.replace(b'numpy._core', b'numpy.core'))
  assert (back['yaw'] == np.arange(4.0)).all() and back['n'] == 3


class Touch:
  """Creates a file when it is unpickled by a careless reader."""

  def __init__(self, how, path):
    self.how, self.path = how, str(path)

  def __reduce__(self):
    import os

    if self.how == 'system':
      return os.system, (f'touch {self.path}',)
    if self.how == 'eval':
      return eval, (f'open({self.path!r}, "w")',)
    return open, (self.path, 'w')


@pytest.mark.parametrize('how', ['system', 'eval', 'open'])
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_code_in_a_pickle_does_not_run(tmp_path, how, protocol):
  victim = tmp_path / 'ran'
  data = pickle.dumps({'position': np.zeros((3, 2)), 'yaw': Touch(how, victim)}, protocol)
  with pytest.raises(ClipError, match='nothing was run') as caught:
    safe_pickle.loads(data, 'traj_data.pkl')
  assert caught.value.reason == 'unsafe_pickle'
  assert not victim.exists()
  pickle.loads(data)  # the same pickle does run when it is read carelessly, so the test can fail
  assert victim.exists()


@pytest.mark.parametrize(
  'module, name',
  [
    ('numpy', 'load'),
    ('numpy', 'fromfile'),
    ('numpy', 'ndarray.tofile'),
    ('numpy', 'dtype.__class__'),
    ('numpy.core.multiarray', 'fromfile'),
    ('builtins', 'getattr'),
    ('builtins', '__import__'),
    ('collections', 'OrderedDict'),
  ],
)
def test_every_other_name_is_refused(module, name):
  data = b'\x80\x04' + b''.join(b'\x8c' + bytes([len(t)]) + t.encode() for t in (module, name)) + b'\x93.'
  with pytest.raises(ClipError) as caught:
    safe_pickle.loads(data)
  assert caught.value.reason == 'unsafe_pickle' and f'{module}.{name}' in str(caught.value)


def test_structured_types_subclasses_and_codecs_are_refused():
  record = np.zeros(3, [('a', 'f8'), ('b', 'O')])
  with pytest.raises(ClipError):
    safe_pickle.loads(pickle.dumps(record))
  with pytest.raises(ClipError):
    safe_pickle.loads(pickle.dumps(np.ma.array([1, 2])))
  with pytest.raises(ClipError):
    safe_pickle.loads(b'c_codecs\nencode\n(Vabc\nVrot13\ntR.')


def test_arrays_that_lie_about_their_size_are_refused():
  data = pickle.dumps(np.arange(6, dtype=np.float64), 2)
  lie = data.replace(b'K\x06\x85', b'K\x07\x85')
  assert lie != data
  with pytest.raises(ClipError, match='bytes') as caught:
    safe_pickle.loads(lie)
  assert caught.value.reason == 'bad_pickle'


def test_functions_handed_out_cannot_be_altered():
  # BUILD on the callable itself, with a state that would set attributes of a plain function
  attack = b'cnumpy.core.multiarray\nscalar\n}(V__defaults__\n(I1\ntub.'
  with pytest.raises(ClipError):
    safe_pickle.loads(attack)
  assert safe_pickle._scalar.__defaults__ == (b'',)


def test_nested_references_do_not_unfold_without_end(monkeypatch):
  monkeypatch.setattr(safe_pickle._Converter.__init__, '__defaults__', (10_000,))
  bomb = []
  for _ in range(30):
    bomb = [bomb] * 4
  with pytest.raises(ClipError) as caught:
    safe_pickle.loads(pickle.dumps(bomb))
  assert caught.value.reason == 'bad_pickle'


@pytest.mark.parametrize(
  'data', [b'', b'\x80\x04', b'not a pickle', pickle.dumps(PLAIN)[:-40], struct.pack('<I', 7)]
)
def test_damaged_pickles_are_refused(data):
  with pytest.raises(ClipError) as caught:
    safe_pickle.loads(data)
  assert caught.value.reason == 'bad_pickle'
