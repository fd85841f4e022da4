"""Batches that are on the devices before the step asks for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

_END = object()


class Feed:
  """Iterator of (batch on the devices, loader state behind it) that a thread keeps `depth` batches ahead.

  The state belongs to the batch it comes with: setting it on a fresh loader makes that one go on with the batch
  after, whatever was loaded ahead and lost. `waited_s` adds up the seconds for which a consumer stood still.
  """

  def __init__(self, loader: Any, put: Callable[[Any], Any], depth: int = 2, with_state: bool = True):
    """loader: iterator with get_state() -> bytes. put: host batch -> device batch."""
    self.waited_s = 0.0
    self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._fill, args=(loader, put, with_state), name='feed', daemon=True)
    self._thread.start()

  def _fill(self, loader: Any, put: Callable[[Any], Any], with_state: bool) -> None:
    try:
      for batch in loader:
        state = loader.get_state() if with_state else b''
        if not self._offer((put(batch), state)):
          return
      self._offer(_END)
    except BaseException as error:  # whatever ends the thread must surface in the consumer, or it waits for ever
      self._offer(error)

  def _offer(self, item: Any) -> bool:
    while not self._stop.is_set():
      try:
        self._queue.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def __iter__(self) -> Feed:
    """Itself."""
    return self

  def __next__(self) -> tuple[Any, bytes]:
    """The next batch and the loader's state behind it; raises what the loader raised."""
    begin = time.perf_counter()
    item = self._queue.get()
    self.waited_s += time.perf_counter() - begin
    if item is _END:
      self._stop.set()
      raise StopIteration
    if isinstance(item, BaseException):
      self._stop.set()
      raise item
    return item

  def close(self) -> None:
    """Stops the thread; batches loaded ahead are dropped."""
    self._stop.set()
    while not self._queue.empty():
      self._queue.get_nowait()
    self._thread.join(timeout=10.0)
