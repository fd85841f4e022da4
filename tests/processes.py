"""Processes of tests that work together."""

import socket


def free_port():
  """A port of the loopback interface that nobody listens at."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def exit_codes(children, timeout=240):
  """Exit codes of started processes, which are killed where one takes longer than `timeout` s."""
  try:
    return [child.wait(timeout=timeout) for child in children]
  finally:
    for child in children:
      child.kill()
      child.wait()
