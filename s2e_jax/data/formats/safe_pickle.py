"""A pickle reader that can only ever build numpy arrays, numbers, text and plain containers.

Nothing of numpy itself is called while the pickle runs: its constructors are replaced by inert stand-ins that
collect what they are given, and arrays are built from that afterwards, after checks. (Handing out the real
`numpy.dtype` would let a crafted pickle set up inconsistent structured types and read wild memory.)
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from s2e_jax.data.clips import ClipError

MAX_BYTES = 256 * 2**20
MAX_ELEMENTS = 20_000_000
_MODULES = {
  'numpy',
  'numpy.core.multiarray',
  'numpy._core.multiarray',
  'numpy.core.numeric',
  'numpy._core.numeric',
}


class _Dtype:
  """Stand-in of numpy.dtype: a plain scalar type, or object."""

  __slots__ = ('order', 'spec')

  def __init__(self, spec: Any, align: Any = False, copy: Any = False):
    spec = spec.decode('latin1') if isinstance(spec, bytes) else spec
    if not isinstance(spec, str) or len(spec) > 8 or spec.lstrip('<>=|')[:1] not in tuple('biufOUSV'):
      raise pickle.UnpicklingError(f'dtype {spec!r} is not a plain number, text or object type')
    self.spec, self.order = spec.lstrip('<>=|'), '='

  def __setstate__(self, state: Any) -> None:
    if state[2] is not None or state[3] is not None or state[4] is not None:
      raise pickle.UnpicklingError('structured dtypes are not admitted')
    self.order = {'<': '<', '>': '>'}.get(_text(state[1]), '=')

  def real(self) -> np.dtype:
    """The numpy dtype."""
    if self.spec[:1] in 'OV':
      raise pickle.UnpicklingError(f'dtype {self.spec!r} has no plain bytes')
    return np.dtype(self.order + self.spec)


class _Array:
  """Stand-in of numpy.ndarray."""

  __slots__ = ('dtype', 'is_fortran', 'raw', 'shape')

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, is_fortran, raw = state
    self.shape = tuple(int(n) for n in shape)
    self.dtype, self.is_fortran, self.raw = dtype, bool(is_fortran), raw

  def real(self, convert: Callable[[Any], Any]) -> np.ndarray:
    """The numpy array; object arrays come out as object arrays of converted elements."""
    count = math.prod(self.shape)
    if not isinstance(self.dtype, _Dtype) or any(n < 0 for n in self.shape):
      raise pickle.UnpicklingError('array without a valid shape and dtype')
    order: Any = 'F' if self.is_fortran else 'C'
    if self.dtype.spec.startswith('O'):
      if not isinstance(self.raw, list) or len(self.raw) != count:
        raise pickle.UnpicklingError(f'object array of shape {self.shape} needs a list of {count} elements')
      flat = np.empty(count, object)
      for i, element in enumerate(self.raw):
        flat[i] = convert(element)
      return flat.reshape(self.shape, order=order)
    raw = self.raw.encode('latin1') if isinstance(self.raw, str) else self.raw
    dtype = self.dtype.real()
    if not isinstance(raw, bytes | bytearray) or len(raw) != count * dtype.itemsize:
      raise pickle.UnpicklingError(
        f'array of shape {self.shape} and type {dtype} needs {count * dtype.itemsize} bytes'
      )
    array = np.frombuffer(bytes(raw), dtype).reshape(self.shape, order=order)
    return array.astype(dtype.newbyteorder('='), copy=False)


class Function:
  """A callable that a pickle cannot alter (a plain function would accept new attributes)."""

  __slots__ = ('_call',)

  def __init__(self, call: Callable[..., Any]):
    self._call = call

  def __call__(self, *args: Any) -> Any:
    return self._call(*args)

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError('functions have no state')


def _text(value: Any) -> str:
  return value.decode('latin1') if isinstance(value, bytes) else value


def _reconstruct(subtype: Any, shape: Any, code: Any) -> _Array:
  if subtype is not _Array:
    raise pickle.UnpicklingError('only plain numpy.ndarray is admitted')
  return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
  array = _Array()
  array.__setstate__((1, shape, dtype, order == 'F', bytes(raw)))
  return array


def _scalar(dtype: Any, raw: Any = b'') -> Any:
  if not isinstance(dtype, _Dtype):
    raise pickle.UnpicklingError('scalar without a dtype')
  raw = raw.encode('latin1') if isinstance(raw, str) else raw
  real = dtype.real()
  if len(raw) != real.itemsize:
    raise pickle.UnpicklingError(f'scalar of type {real} needs {real.itemsize} bytes, has {len(raw)}')
  return np.frombuffer(raw, real)[0].item()


def _no_bytes() -> bytes:
  return b''


def _encode(text: Any, codec: Any) -> bytes:
  if _text(codec) not in ('latin1', 'latin-1') or not isinstance(text, str):
    raise pickle.UnpicklingError(f'codec {codec!r} is not admitted')
  return text.encode('latin1')


class _Unpickler(pickle.Unpickler):
  """Resolves the few names that numpy arrays need to stand-ins; refuses all others."""

  def find_class(self, module: str, name: str) -> Any:
    if module in _MODULES:
      if name == 'ndarray':
        return _Array
      if name == 'dtype':
        return _Dtype
      functions: dict[str, Callable[..., Any]] = {
        '_reconstruct': _reconstruct,
        'scalar': _scalar,
        '_frombuffer': _frombuffer,
      }
      if name in functions:
        return Function(functions[name])
    if module in ('builtins', '__builtin__') and name in ('set', 'frozenset', 'bytes'):
      # what old protocols write for sets and for empty bytes
      containers: dict[str, Callable[..., Any]] = {'set': set, 'frozenset': frozenset, 'bytes': _no_bytes}
      return Function(containers[name])
    if (module, name) == ('_codecs', 'encode'):
      return Function(_encode)
    raise ClipError(
      'unsafe_pickle',
      f'pickle asks for {module}.{name}: only numpy arrays, numbers and plain containers are admitted, nothing '
      'was run; do not trust this file, or export position and yaw again as arrays',
    )


class _Converter:
  """Replaces stand-ins by what they stand for, all the way down, within a budget of elements.

  Without the budget a few hundred bytes of nested references would unfold to billions of elements.
  """

  def __init__(self, budget: int = MAX_ELEMENTS):
    self.budget = budget

  def __call__(self, value: Any, depth: int = 0) -> Any:
    """Plain copy of `value`; raises UnpicklingError on anything that is not plain."""
    self.budget -= 1
    if depth > 32 or self.budget < 0:
      raise pickle.UnpicklingError(f'nested deeper than 32 levels or more than {MAX_ELEMENTS} elements')
    if isinstance(value, _Array):
      return value.real(lambda element: self(element, depth + 1))
    if isinstance(value, dict):
      return {self(k, depth + 1): self(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
      return type(value)(self(v, depth + 1) for v in value)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
      return value
    raise pickle.UnpicklingError(f'unexpected {type(value).__name__}')


def loads(data: bytes, where: str = 'pickle') -> Any:
  """The content of a pickle made of numpy arrays, numbers, text and plain containers.

  Raises ClipError: 'unsafe_pickle' when it asks for any other name, 'bad_pickle' when it is damaged.
  """
  if len(data) > MAX_BYTES:
    raise ClipError('bad_pickle', f'{where}: {len(data)} bytes, at most {MAX_BYTES} are read')
  try:
    # latin1: Python 2 stored array bytes as text
    return _Converter()(_Unpickler(io.BytesIO(data), encoding='latin1').load())
  except ClipError as error:
    raise ClipError(error.reason, f'{where}: {error}') from None
  except Exception as error:  # a damaged pickle raises nearly anything
    raise ClipError(
      'bad_pickle', f'{where}: cannot be read as a pickle ({type(error).__name__}: {error})'
    ) from error
