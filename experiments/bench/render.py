"""Renderer benchmarks: 96x192, 64 primitives, against MuJoCo's renderers drawing the same scene.

CPU seconds of the whole process are compared, because MuJoCo's software renderer uses one core and ours all. Ours
draws RGB, segmentation and sun shadows with textures; the baselines draw RGB of plain colours only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.bench.timing import Row, Unavailable, interleaved
from experiments.render.clutter import clutter, mjcf
from s2e_jax.render.render import Pictures, RenderOptions, render

HEIGHT, WIDTH, BATCH, WORLDS = 96, 192, 128, 8
UNIT = 'frames/CPU-s (96x192, 64 primitives, RGB + segmentation + shadow)'


def _ours(shadow: bool = True) -> Callable[[], Pictures]:
  scene, view = clutter(BATCH, seed=1)
  options = RenderOptions(height=HEIGHT, width=WIDTH, shadow=shadow)
  draw = jax.jit(lambda scene, view: render(scene, view, options, ('rgb', 'segmentation')))
  return lambda: draw(scene, view)


def _models(shadow: int) -> list[tuple[Any, Any]]:
  """MuJoCo's (model, data) of the first scenes of our batch."""
  import mujoco

  scene, view = clutter(BATCH, seed=1)
  models = []
  for i in range(WORLDS):
    at = jax.tree.map(lambda x, i=i: np.asarray(x)[i], (scene, view))
    model = mujoco.MjModel.from_xml_string(mjcf(at[0], at[1], HEIGHT, WIDTH, shadow))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    models.append((model, data))
  return models


def _mujoco(shadow: int) -> Callable[[], None]:
  """mujoco.Renderer on OSMesa drawing WORLDS frames; `Unavailable` where it does not start."""
  os.environ.setdefault('MUJOCO_GL', 'osmesa')
  import mujoco

  models = _models(shadow)
  try:
    renderers = [(mujoco.Renderer(model, HEIGHT, WIDTH), data) for model, data in models]
  except Exception as error:
    raise Unavailable(
      f'mujoco.Renderer does not start ({error!r}): apt install libosmesa6, set MUJOCO_GL=osmesa'
    ) from error

  def draw() -> None:
    for renderer, data in renderers:
      renderer.update_scene(data, camera='c')
      renderer.render()

  return draw


def _row(name: str, baseline: Callable[[], Any], baseline_name: str) -> Row:
  return interleaved(
    name,
    _ours(),
    baseline,
    work=BATCH,
    unit=UNIT,
    baseline_name=baseline_name,
    baseline_work=WORLDS,
    clock=time.process_time,
  )


def render_vs_mujoco() -> Row:
  """Against mujoco.Renderer without multisampling and without shadows."""
  return _row('render_vs_mujoco', _mujoco(0), 'mujoco.Renderer (OSMesa, no MSAA, no shadow)')


def render_vs_mujoco_shadow() -> Row:
  """Against mujoco.Renderer with a shadow map of 512 x 512."""
  return _row('render_vs_mujoco_shadow', _mujoco(512), 'mujoco.Renderer (OSMesa, no MSAA, shadow map 512)')


def render_vs_mjwarp() -> Row:
  """Against mujoco_warp's ray casting renderer on the CPU, without shadows."""
  try:
    import mujoco_warp
    import warp
  except ImportError as error:
    raise Unavailable('needs `pip install warp-lang mujoco-warp`') from error
  warp.config.quiet = True
  model, data = _models(0)[0]
  with warp.ScopedDevice('cpu'):
    worlds, state = mujoco_warp.put_model(model), mujoco_warp.put_data(model, data, nworld=WORLDS)
    context = mujoco_warp.create_render_context(
      model, nworld=WORLDS, cam_res=(WIDTH, HEIGHT), render_rgb=True, render_depth=False, use_shadows=False
    )

  def draw() -> None:
    with warp.ScopedDevice('cpu'):
      mujoco_warp.refit_bvh(worlds, state, context)
      mujoco_warp.render(worlds, state, context)
      warp.synchronize()

  return _row('render_vs_mjwarp', draw, 'mujoco_warp renderer on the CPU, no shadow')


def render_shadow_cost() -> Row:
  """With sun shadows against without: 1 / ratio is what they cost."""
  return interleaved(
    'render_shadow_cost',
    _ours(),
    _ours(shadow=False),
    work=BATCH,
    unit=UNIT,
    baseline_name='the same without shadow',
    clock=time.process_time,
  )
