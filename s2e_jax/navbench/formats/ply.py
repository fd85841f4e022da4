"""PLY files (Stanford polygon format): the header, and elements as structured arrays."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np

from s2e_jax.navbench.formats.stored import bad_file

MAGIC = b'ply'
MAX_HEADER_BYTES = 2**18
_END = b'end_header'
_TYPES = {
  'char': 'i1', 'int8': 'i1', 'uchar': 'u1', 'uint8': 'u1',
  'short': 'i2', 'int16': 'i2', 'ushort': 'u2', 'uint16': 'u2',
  'int': 'i4', 'int32': 'i4', 'uint': 'u4', 'uint32': 'u4',
  'float': 'f4', 'float32': 'f4', 'double': 'f8', 'float64': 'f8',
}  # fmt: skip
_ORDERS = {'ascii': '=', 'binary_little_endian': '<', 'binary_big_endian': '>'}
_REMEDY = 'copy or export the file again'


@dataclasses.dataclass(frozen=True)
class Property:
  """A named value of every row; a list of them where `length_type` is set. Types are numpy codes."""

  name: str
  type: str
  length_type: str | None = None


@dataclasses.dataclass(frozen=True)
class Element:
  """A table of the file."""

  name: str
  count: int
  properties: tuple[Property, ...]

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the properties, in the order of the file."""
    return tuple(p.name for p in self.properties)


@dataclasses.dataclass(frozen=True)
class Header:
  """Elements in the order of the file; num_bytes: where their data begins."""

  path: Path
  encoding: str
  elements: tuple[Element, ...]
  num_bytes: int

  def element(self, name: str) -> Element | None:
    """The element of that name, if there is one."""
    return next((e for e in self.elements if e.name == name), None)


def read_header(path: Path) -> Header:
  """Header of a PLY file; raises ValueError when it is not one."""
  with path.open('rb') as file:
    head = file.read(MAX_HEADER_BYTES)
  at = head.find(_END)
  end = head.find(b'\n', at)
  if not head.startswith(MAGIC) or at < 0 or end < 0:
    raise bad_file(path, 'no complete PLY header', f"'ply' ... 'end_header' in {MAX_HEADER_BYTES} bytes", _REMEDY)
  encoding = ''
  elements: list[Element] = []
  for line in head[:at].decode('latin1').splitlines()[1:]:
    words = line.split()
    match words:
      case [] | ['comment', *_] | ['obj_info', *_]:
        pass
      case ['format', name, *_] if name in _ORDERS:
        encoding = name
      case ['element', name, count] if count.isascii() and count.isdigit():
        elements.append(Element(name, int(count), ()))
      case ['property', 'list', length, kind, name] if elements and {length, kind} <= set(_TYPES):
        elements[-1] = _with(elements[-1], Property(name, _TYPES[kind], _TYPES[length]), path)
      case ['property', kind, name] if elements and kind in _TYPES:
        elements[-1] = _with(elements[-1], Property(name, _TYPES[kind]), path)
      case _:
        raise bad_file(path, f'the header line {line[:80]!r}', 'PLY 1.0', _REMEDY)
  if not encoding:
    raise bad_file(path, 'no format line', f'one of {sorted(_ORDERS)}', _REMEDY)
  return Header(path, encoding, tuple(elements), end + 1)


def _with(element: Element, added: Property, path: Path) -> Element:
  if added.name in element.names:
    raise bad_file(path, f'property {added.name!r} twice in {element.name!r}', 'every name once', _REMEDY)
  return dataclasses.replace(element, properties=(*element.properties, added))


def read_elements(header: Header, names: Collection[str]) -> dict[str, np.ndarray]:
  """The named elements as structured arrays [count]; a list property of K values is a field of shape [K].

  Binary data stay on disk until they are touched. Lists must be equally long in all rows of an element. Raises
  ValueError on missing data, checked before anything is allocated.
  """
  found: dict[str, np.ndarray] = {}
  wanted = [e for e in header.elements if e.name in names]
  at = header.num_bytes
  read = _read_ascii if header.encoding == 'ascii' else _read_binary
  for element in header.elements:
    if len(found) == len(wanted):
      break
    rows, at = read(header, element, at)
    if element in wanted:
      found[element.name] = rows
  return found


def _cut_short(header: Header, element: Element, needed: int, has: int) -> ValueError:
  return bad_file(
    header.path,
    f'{has} bytes left for {element.count} rows of {element.name!r}',
    f'at least {needed}',
    'the file is cut short: copy it again',
  )


def _dtype(header: Header, element: Element, first_row: list[int]) -> np.dtype:
  """Row type; first_row: lengths of the lists in the first row."""
  order = _ORDERS[header.encoding]
  lengths = iter(first_row)
  fields: list[tuple] = []
  for p in element.properties:
    if p.length_type is None:
      fields.append((p.name, order + p.type))
    else:
      fields += [(f'{p.name}/length', order + p.length_type), (p.name, order + p.type, (next(lengths),))]
  return np.dtype(fields)


def _check_lengths(header: Header, element: Element, rows: np.ndarray, lengths: list[int]) -> None:
  lists = [p for p in element.properties if p.length_type is not None]
  for p, length in zip(lists, lengths, strict=True):
    if (rows[f'{p.name}/length'] != length).any():
      raise bad_file(
        header.path,
        f'lists {p.name!r} of different lengths in {element.name!r}',
        f'{length} values in each, as in the first',
        'triangulate the mesh and export it again',
      )


def _read_binary(header: Header, element: Element, at: int) -> tuple[np.ndarray, int]:
  size = header.path.stat().st_size
  lengths = _binary_lengths(header, element, at) if element.count else [0] * len(element.properties)
  # a list may state any length: its size is compared with the file before numpy is asked for a type of it
  row_bytes = sum(np.dtype(p.type).itemsize for p in element.properties if p.length_type is None)
  lists = (p for p in element.properties if p.length_type is not None)
  for p, length in zip(lists, lengths, strict=False):
    row_bytes += np.dtype(p.length_type).itemsize + length * np.dtype(p.type).itemsize
  if element.count * row_bytes > size - at:
    raise _cut_short(header, element, element.count * row_bytes, size - at)
  dtype = _dtype(header, element, lengths)
  if element.count == 0 or dtype.itemsize == 0:
    return np.empty(0, dtype), at
  rows = np.memmap(header.path, dtype, 'r', at, (element.count,))
  _check_lengths(header, element, rows, lengths[: sum(p.length_type is not None for p in element.properties)])
  return rows, at + element.count * dtype.itemsize


def _binary_lengths(header: Header, element: Element, at: int) -> list[int]:
  """Lengths of the lists in the first row."""
  lengths: list[int] = []
  if all(p.length_type is None for p in element.properties):
    return lengths
  with header.path.open('rb') as file:
    file.seek(at)
    for p in element.properties:
      item = np.dtype(p.type).itemsize
      if p.length_type is None:
        file.seek(item, 1)
        continue
      kind = np.dtype(_ORDERS[header.encoding] + p.length_type)
      raw = file.read(kind.itemsize)
      if len(raw) < kind.itemsize:
        raise _cut_short(header, element, kind.itemsize, len(raw))
      length = int(np.frombuffer(raw, kind)[0])
      if length < 0:
        raise bad_file(header.path, f'a list of {length} values', 'a length of 0 or more', _REMEDY)
      lengths.append(length)
      file.seek(length * item, 1)
  return lengths


def _read_ascii(header: Header, element: Element, at: int) -> tuple[np.ndarray, int]:
  size = header.path.stat().st_size
  # one digit and one blank per value at least
  if element.count * (2 * len(element.properties) or 1) > size - at + 1:
    raise _cut_short(header, element, element.count * 2 * len(element.properties), size - at)
  with header.path.open('rb') as file:
    file.seek(at)
    words = file.readline().split() if element.count else []
    lengths: list[int] = []
    place = 0
    try:
      for p in element.properties:
        if p.length_type is not None:
          lengths.append(int(words[place]) if words else 0)
          place += lengths[-1]
        place += 1
      if any(not 0 <= length <= len(words) for length in lengths):
        raise ValueError('a list longer than its line')
      dtype = _dtype(header, element, lengths)
      if element.count == 0:
        return np.empty(0, dtype), at
      file.seek(at)
      lines = (line for _, line in zip(range(element.count), iter(file.readline, b''), strict=False))
      with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # 'input contained no data': told below
        rows = np.loadtxt(lines, dtype, comments=None, encoding='latin1', ndmin=1)
    except (ValueError, IndexError, OverflowError) as error:
      raise bad_file(
        header.path, f'rows of {element.name!r} that are not as stated ({error})', 'numbers', _REMEDY
      ) from error
    if len(rows) != element.count:
      raise bad_file(
        header.path,
        f'{len(rows)} rows of {element.name!r}',
        f'{element.count}',
        'the file is cut short: copy it again',
      )
    _check_lengths(header, element, rows, lengths)
    return rows, file.tell()
