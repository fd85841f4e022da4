"""The demo of the README runs from nothing, and again on what it has left."""

import os
import subprocess
import sys

import pytest


@pytest.mark.process
def test_the_demo_ends_with_a_table_and_pictures_and_can_be_run_again(repo, tmp_path):
  out = tmp_path / 'demo'
  # Look B has one camera; of three drives in look A the one that is held out may be seen from elsewhere.
  command = [sys.executable, '-m', 'experiments.demo', f'--out={out}', '--steps=4', '--clips=3', '--looks=B']
  outputs = []
  for _ in range(2):
    done = subprocess.run(
      command, cwd=repo, env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs.append(done.stdout)
  for text in outputs:
    assert text.count('| constant_velocity |') == 1 and 'Synthetic data' in text
    pictures = [line for line in text.splitlines() if line.endswith('.png')]
    assert len(pictures) > 3 and all((repo / picture).exists() for picture in pictures)
  assert '[1/4] Drive' in outputs[0] and '[1/3] Look' in outputs[1]
  assert 'Synthetic data: these figures show' in (out / 'eval' / 'table.md').read_text()
