"""How long the rest of a judgement will take, by what chunks of episodes took so far."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np


class Progress:
  """Seconds per chunk of every contender, compilation apart. left: chunks of each contender."""

  def __init__(self, left: Mapping[str, int]) -> None:
    self._left = dict(left)
    self._seconds: dict[str, list[float]] = {name: [] for name in self._left}
    self._compiled: set[Hashable] = set()

  def add(self, name: str, program: Hashable, seconds: float) -> None:
    """Counts a chunk of a contender; the first one of a program compiles, and tells nothing of the rest."""
    self._left[name] -= 1
    if program in self._compiled:
      self._seconds[name].append(seconds)
    self._compiled.add(program)

  def eta(self) -> str:
    """', about N s left', once every contender has had a chunk that compiled nothing."""
    if any(count and not self._seconds[name] for name, count in self._left.items()):
      return ' with compiling' if not any(self._seconds.values()) else ''
    left = sum(count * float(np.mean(self._seconds[name] or [0])) for name, count in self._left.items())
    return f', about {left:.0f} s left'
