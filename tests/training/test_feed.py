import json
import threading
import time

import pytest

from s2e_jax.training.feed import Feed


class Counter:
  """A loader of consecutive numbers."""

  def __init__(self, start=0, stop=None, fail_at=None, delay=0.0):
    self.next, self.stop, self.fail_at, self.delay = start, stop, fail_at, delay

  def __iter__(self):
    return self

  def __next__(self):
    time.sleep(self.delay)
    if self.next == self.fail_at:
      raise ValueError('clip 7 is damaged')
    if self.next == self.stop:
      raise StopIteration
    self.next += 1
    return self.next - 1

  def get_state(self):
    return json.dumps(self.next).encode()


def test_the_state_belongs_to_the_batch_it_comes_with_not_to_those_loaded_ahead():
  loader = Counter()
  feed = Feed(loader, lambda x: 10 * x, depth=3)
  for expected in range(5):
    batch, state = next(feed)
    assert batch == 10 * expected
  deadline = time.monotonic() + 5
  while loader.next < 8 and time.monotonic() < deadline:
    time.sleep(0.01)
  assert loader.next >= 8  # three batches are waiting, one more is in the thread's hands
  feed.close()
  resumed = Feed(Counter(start=json.loads(state)), lambda x: 10 * x)
  assert next(resumed)[0] == 50
  resumed.close()


def test_the_end_of_the_data_ends_the_feed():
  assert [batch for batch, _ in Feed(Counter(stop=4), lambda x: x)] == [0, 1, 2, 3]


def test_an_error_in_the_thread_is_raised_where_batches_are_asked_for():
  feed = Feed(Counter(fail_at=2), lambda x: x)
  assert [next(feed)[0], next(feed)[0]] == [0, 1]
  with pytest.raises(ValueError, match='clip 7 is damaged'):
    next(feed)


def test_waiting_is_measured_only_when_no_batch_is_ready():
  slow = Feed(Counter(delay=0.1), lambda x: x)
  next(slow)
  next(slow)
  assert slow.waited_s > 0.1
  slow.close()
  fast = Feed(Counter(), lambda x: x, depth=4)
  next(fast)
  time.sleep(0.2)
  fast.waited_s = 0.0
  next(fast)
  assert fast.waited_s < 0.05
  fast.close()


def test_closing_ends_the_thread_although_nobody_takes_the_batches():
  before = threading.active_count()
  feed = Feed(Counter(), lambda x: x, depth=1)
  next(feed)
  feed.close()
  assert threading.active_count() == before
