"""Splat benchmarks that need another program or another process: MuJoCo Warp's renderer, a device per core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.bench.splats import EXACT, HEIGHT, WIDTH, drawing, street, street_cameras
from experiments.bench.timing import Row, Unavailable, interleaved
from s2e_jax.closedloop.spread import on_devices, over_devices
from s2e_jax.compilation import num_cores, use_wide_vectors
from s2e_jax.gaussians import SH_C0
from s2e_jax.render.splats.draw import draw_splats
from s2e_jax.render.splats.hierarchy import make_splat_scene

_NUM = 50_000


def _warp() -> Callable[[], np.ndarray]:
  """Draws the street's first view by MuJoCo Warp on the CPU; the call gives [h, w, 3] uint8."""
  try:
    import mujoco
    import mujoco_warp
    import warp
  except ImportError as error:
    raise Unavailable('needs `pip install warp-lang mujoco-warp`') from error
  warp.config.quiet = True
  gaussians = street(_NUM, degree=0)
  camera = jax.tree.map(lambda x: np.asarray(x[0], float), street_cameras(1))
  right, down, _ = camera.cam_from_world
  place = -camera.cam_from_world.T @ camera.translation
  fovy = np.degrees(2 * np.arctan(HEIGHT / 2 / camera.focal[1]))
  numbers = lambda values: ' '.join(f'{v:.9g}' for v in values)
  model = mujoco.MjModel.from_xml_string(f"""
    <mujoco><worldbody>
      <camera pos="{numbers(place)}" xyaxes="{numbers(right)} {numbers(-down)}" fovy="{fovy:.9g}"/>
      <geom type="sphere" size="0.01" pos="0 0 -100"/>
    </worldbody></mujoco>""")
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  colours = np.clip(0.5 + SH_C0 * gaussians.sh[:, 0], 0, 1)
  turn = gaussians.rotation / np.linalg.norm(gaussians.rotation, axis=1, keepdims=True)
  with warp.ScopedDevice('cpu'):
    worlds, state = mujoco_warp.put_model(model), mujoco_warp.put_data(model, data)
    context = mujoco_warp.create_render_context(
      model,
      cam_res=(WIDTH, HEIGHT),
      render_rgb=True,
      use_shadows=False,
      splat_position=gaussians.mean,
      splat_rotation=turn.astype(np.float32),
      splat_scale=gaussians.scale,
      splat_rgba=np.concatenate([colours, gaussians.opacity[:, None]], 1).astype(np.float32),
    )

  def draw() -> np.ndarray:
    with warp.ScopedDevice('cpu'):
      mujoco_warp.render(worlds, state, context)
      warp.synchronize()
    packed = context.rgb_data.numpy().reshape(HEIGHT, WIDTH).astype(np.uint32)
    return np.stack([(packed >> shift) & 255 for shift in (16, 8, 0)], -1).astype(np.uint8)

  return draw


def splat_vs_mjwarp() -> Row:
  """One picture of the same gaussians, without harmonics; Warp takes the density along rays, without sizes."""
  warps = _warp()
  ours = drawing(make_splat_scene(street(_NUM, degree=0)), street_cameras(1), EXACT)
  error = np.mean((np.clip(np.asarray(ours().rgb[0]), 0, 1) - warps() / 255) ** 2)
  return interleaved(
    'splat_vs_mjwarp',
    ours,
    warps,
    work=1,
    unit=f'frames/s (50,000 gaussians; PSNR between the two {-10 * np.log10(error):.0f} dB)',
    baseline_name="mujoco_warp's splats on the CPU",
    rounds=7,
  )


class _Worker:
  """This module in a process of its own, with a JAX device per core."""

  def __init__(self, num_devices: int) -> None:
    environment = os.environ | {'JAX_NUM_CPU_DEVICES': str(num_devices), 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', 'experiments.bench.splats_devices']
    root = Path(__file__).resolve().parents[2]
    self._process = subprocess.Popen(
      command, env=environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

  def draw(self) -> None:
    """One batch; returns when it is done. Raises RuntimeError when the process has died."""
    assert self._process.stdin is not None and self._process.stdout is not None
    self._process.stdin.write('draw\n')
    self._process.stdin.flush()
    for line in self._process.stdout:  # imports may print
      if line.startswith('{'):
        return
    raise RuntimeError(f'the process with a device per core ended with {self._process.wait()}')

  def close(self) -> None:
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()


def splat_batch() -> Row:
  """Sixteen cameras shared by a device per core, as judging shares them, against one camera after the other."""
  num_devices = max(n for n in (1, 2, 4, 8, 16) if n <= num_cores())
  worker = _Worker(num_devices)
  try:
    return interleaved(
      'splat_batch',
      worker.draw,
      drawing(make_splat_scene(street(_NUM)), street_cameras(1), EXACT),
      work=16,
      baseline_work=1,
      unit=f'frames/s (16 cameras, {num_devices} devices, 50,000 gaussians)',
      baseline_name='one camera at a time, one device',
      rounds=7,
    )
  finally:
    worker.close()


def serve() -> None:
  """Draws sixteen cameras on all devices for every line of stdin and answers with a line of JSON."""
  num = jax.device_count()
  scene = on_devices(make_splat_scene(street(_NUM)), num)
  share = over_devices(lambda params, cameras, scene, legs: draw_splats(scene, cameras, EXACT), num)
  cameras, draw = street_cameras(16), jax.jit(share)
  for _ in sys.stdin:
    pictures: Any = jax.block_until_ready(draw(None, cameras, scene))
    print(json.dumps({'drawn': len(pictures.alpha)}), flush=True)


if __name__ == '__main__':
  use_wide_vectors()
  serve()
