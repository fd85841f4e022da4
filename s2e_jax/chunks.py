"""Many episodes or pictures, a few at a time: one shape for all parts, so that their program compiles once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def rows_in_chunks(num: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
  """(rows [size] of `num`, how many of them count); the last part is filled up with the last row."""
  for first in range(0, num, size):
    yield np.minimum(np.arange(first, first + size), num - 1), min(size, num - first)
