import json

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from s2e_jax.store import metrics


def board_values(folder, tag):
  """step -> value of one TensorBoard tag, read from the event files' own framing."""
  found = {}
  for path in sorted(folder.glob('events*')):
    data, at = path.read_bytes(), 0
    while at < len(data):
      length = int.from_bytes(data[at : at + 8], 'little')
      event = Event.FromString(data[at + 12 : at + 12 + length])
      for value in event.summary.value:
        if value.tag == tag:
          found[event.step] = value.simple_value
      at += 12 + length + 4
  return found


def test_records_come_back_in_order_and_go_to_tensorboard(tmp_path):
  writer = metrics.MetricsWriter(tmp_path)
  for step in (5, 10):
    writer.write(
      step, {'train/loss': np.float32(step / 4), 'train/mode_usage': np.array([0.25, 0.75]), 'note': 'x'}
    )
  writer.close()
  assert metrics.read_records(tmp_path / 'metrics.jsonl') == [
    {'step': s, 'train/loss': s / 4, 'train/mode_usage': [0.25, 0.75], 'note': 'x'} for s in (5, 10)
  ]
  assert board_values(tmp_path / 'tensorboard', 'train/loss') == {5: 1.25, 10: 2.5}
  assert board_values(tmp_path / 'tensorboard', 'train/mode_usage_01') == {5: 0.75, 10: 0.75}


def test_a_resumed_run_has_no_line_twice_and_none_lost(tmp_path):
  writer = metrics.MetricsWriter(tmp_path)
  for step in range(1, 8):
    writer.write(step, {'train/loss': float(step)})
  writer.close()
  with open(tmp_path / 'metrics.jsonl', 'ab') as file:
    file.write(b'{"step": 8, "train/lo')  # killed in the middle of a line
  writer = metrics.MetricsWriter(tmp_path, step=4)
  for step in range(5, 10):
    writer.write(step, {'train/loss': 10.0 * step})
  writer.close()
  records = metrics.read_records(tmp_path / 'metrics.jsonl')
  assert [r['step'] for r in records] == list(range(1, 10))
  assert [r['train/loss'] for r in records] == [1, 2, 3, 4, 50, 60, 70, 80, 90]


def test_a_line_cut_short_is_not_read(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
  assert metrics.read_records(path) == [{'step': 1}, {'step': 2}]
  assert metrics.truncate(path, 1) == 2
  assert path.read_bytes() == b'{"step": 1}\n'


def test_non_finite_values_keep_the_file_valid_json(tmp_path):
  writer = metrics.MetricsWriter(tmp_path)
  writer.write(1, {'a': float('nan'), 'b': np.array([1.0, -np.inf])})
  writer.close()
  line = (tmp_path / 'metrics.jsonl').read_text()
  assert json.loads(line, parse_constant=pytest.fail) == {'step': 1, 'a': 'nan', 'b': [1.0, '-inf']}


def test_only_the_primary_process_writes(tmp_path):
  writer = metrics.MetricsWriter(tmp_path / 'x', is_primary=False)
  writer.write(1, {'a': 1.0})
  writer.close()
  assert not (tmp_path / 'x').exists()


def test_progress_counts_from_the_end_of_compilation():
  now = [100.0]
  progress = metrics.Progress(20, 100, images_per_step=30, clock=lambda: now[0])
  now[0] += 7.0
  progress.compiled(21)
  assert progress.compile_s == 7.0
  progress.waited(0.5)
  now[0] += 4.0
  progress.paused(2.0)
  now[0] += 2.0  # 10 steps in 6 s, of which 2 s were no training
  figures = progress.interval(31)
  assert figures == pytest.approx(
    {'time/step_s': 0.4, 'time/images_per_s': 75.0, 'time/data_wait_share': 0.125, 'time/eta_s': 0.4 * 69}
  )
  assert progress.interval(31) == {}


def test_the_progress_line_says_what_matters(caplog):
  timing = {'time/images_per_s': 812.4, 'time/data_wait_share': 0.013, 'time/eta_s': 3723.0}
  with caplog.at_level('INFO', logger='absl'):
    metrics.log_progress(50, 3000, 1.25, ('ade_top', 0.3216), timing)
  line = caplog.messages[-1]
  for part in ('step 50/3000', 'loss 1.2500', 'ade_top 0.322', '812 images/s', 'data wait 1.3 %', 'ETA 1:02:03'):
    assert part in line
