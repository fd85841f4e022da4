"""Tensors of PyTorch's zip archives (`torch.save`) without PyTorch and without running what a pickle asks for.

The pickle inside names storages by key; only stand-ins are built while it is read. A tensor's bytes are fetched
when it is asked for, after its shape was checked against them.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from s2e_jax.data.formats.safe_pickle import Function
from s2e_jax.navbench.formats.stored import SplatFileError, bad_file

MAX_PICKLE_BYTES = 2**24
_STORAGES = {
  'FloatStorage': '<f4', 'DoubleStorage': '<f8', 'HalfStorage': '<f2', 'BFloat16Storage': 'bfloat16',
  'LongStorage': '<i8', 'IntStorage': '<i4', 'ShortStorage': '<i2', 'CharStorage': 'i1', 'ByteStorage': 'u1',
  'BoolStorage': '?',
}  # fmt: skip
_REMEDY = "save the scene again with torch.save({'splats': ...}, path), or as .npz"


class _StorageType:
  """Stand-in of a torch storage class."""

  __slots__ = ('dtype',)

  def __init__(self, dtype: str):
    self.dtype = dtype

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError('storage types have no state')


class Mapping(dict):
  """Stand-in of collections.OrderedDict; attributes that come with it (versions of modules) are dropped."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    pass


class Tensor:
  """Stand-in of a tensor: where its values lie. shape, dtype: as stated by the pickle."""

  __slots__ = ('_archive', 'dtype', 'key', 'offset', 'shape', 'stride')

  def __init__(self, archive: Archive, storage: Any, offset: Any, shape: Any, stride: Any):
    if not (isinstance(storage, tuple) and len(storage) == 2 and len(shape) == len(stride)):
      raise pickle.UnpicklingError('a tensor without a storage')
    self._archive = archive
    self.dtype, self.key = storage
    self.offset = int(offset)
    self.shape, self.stride = tuple(int(n) for n in shape), tuple(int(n) for n in stride)

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError('tensors have no state')

  def values(self) -> np.ndarray:
    """The tensor as an array; raises ValueError when its storage is missing or too small."""
    return self._archive.values(self)


class Archive:
  """An open `torch.save` archive; `content` is what was saved, with `Tensor` in the place of tensors.

  Raises ValueError when it is damaged or asks for anything but tensors and plain containers.
  """

  def __init__(self, path: Path, bundle: zipfile.ZipFile):
    self.path, self._bundle = path, bundle
    pickles = [name for name in bundle.namelist() if name.rpartition('/')[2] == 'data.pkl']
    if len(pickles) != 1:
      raise bad_file(path, f'{len(pickles)} files data.pkl', 'one, as torch.save writes', _REMEDY)
    self._prefix = pickles[0].removesuffix('data.pkl')
    if f'{self._prefix}byteorder' in bundle.namelist() and self._member('byteorder', 16).strip() != b'little':
      raise bad_file(path, 'big-endian tensors', 'little-endian ones', _REMEDY)
    try:
      self.content = _Unpickler(self, self._bundle.open(self._stored('data.pkl', MAX_PICKLE_BYTES))).load()
    except SplatFileError:
      raise
    except Exception as error:  # a damaged pickle raises nearly anything
      raise bad_file(path, f'a damaged pickle ({type(error).__name__}: {error})', 'tensors', _REMEDY) from error

  def _stored(self, name: str, most: int) -> zipfile.ZipInfo:
    try:
      info = self._bundle.getinfo(self._prefix + name)
    except KeyError as error:
      raise bad_file(self.path, f'no {name!r} in the archive', 'all its storages', _REMEDY) from error
    # torch.save does not compress, so a member cannot unfold to more than the file holds
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > most:
      raise bad_file(self.path, f'{info.file_size} bytes or compression in {name!r}', f'{most} plain', _REMEDY)
    return info

  def _member(self, name: str, most: int) -> bytes:
    return self._bundle.read(self._stored(name, most))

  def values(self, tensor: Tensor) -> np.ndarray:
    """Values of a tensor in the order of its axes; bfloat16 comes out as float32."""
    is_bfloat = tensor.dtype == 'bfloat16'
    raw = self._member(f'data/{tensor.key}', self.path.stat().st_size)
    dtype = np.dtype('<u2' if is_bfloat else tensor.dtype)
    flat = np.frombuffer(raw, dtype, len(raw) // dtype.itemsize)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    # as many values as places: strides of zero would let a few bytes unfold to any size
    is_sound = min(tensor.offset, *tensor.shape, *tensor.stride, 0) == 0 and math.prod(tensor.shape) <= len(flat)
    if math.prod(tensor.shape) and not (is_sound and last < len(flat)):
      raise bad_file(
        self.path, f'a tensor of shape {tensor.shape} in {len(flat)} values', 'a whole storage', _REMEDY
      )
    strides = [step * dtype.itemsize for step in tensor.stride]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
    return (view.astype(np.uint32) << 16).view(np.float32) if is_bfloat else np.array(view)


class _Unpickler(pickle.Unpickler):
  """Resolves the names that tensors need to stand-ins; refuses all others."""

  def __init__(self, archive: Archive, file: Any):
    super().__init__(file)
    self._archive = archive

  def find_class(self, module: str, name: str) -> Any:
    if module in ('torch', 'torch.storage') and name in _STORAGES:
      return _StorageType(_STORAGES[name])
    known: dict[tuple[str, str], Callable[..., Any]] = {
      ('collections', 'OrderedDict'): Mapping,
      ('torch._utils', '_rebuild_tensor_v2'): self._tensor,
      ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
      ('torch', 'Size'): tuple,
    }
    if (module, name) in known:
      return Function(known[module, name])
    raise bad_file(
      self._archive.path,
      f'a pickle that asks for {module}.{name}',
      'tensors and plain containers only',
      f'nothing was run; do not trust this file, or {_REMEDY}',
    )

  def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
    return Tensor(self._archive, storage, offset, shape, stride)

  def persistent_load(self, pid: Any) -> tuple[str, str]:
    """(dtype, key) of a storage."""
    kind, storage_type, key = pid[:3]
    if kind != 'storage' or not isinstance(storage_type, _StorageType) or not str(key).isalnum():
      raise pickle.UnpicklingError(f'{pid!r} is not a storage')
    return storage_type.dtype, str(key)
