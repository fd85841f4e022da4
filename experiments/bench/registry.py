"""All benchmarks by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from experiments.bench import contact, encoders, env, judging, loss, ppo, render, splats, splats_devices, training
from experiments.bench.timing import Row


def benchmarks() -> dict[str, Callable[[], Row]]:
  """name -> function that measures and returns its row; a row's name is its function's name."""
  functions = (
    encoders.encoder_vs_grouped_conv,
    encoders.tiny_encoder_frames_per_s,
    encoders.encoder_gradient_in_loop,
    encoders.encoder_gradient_in_chunks,
    training.loader_images_per_s,
    training.train_step_images_per_s,
    loss.loss_vs_distrax,
    env.env_step,
    env.env_step_wide_vectors,
    contact.contact_vs_mjx,
    ppo.ppo_cached_vs_naive,
    ppo.ppo_cached_vs_naive_small,
    ppo.ppo_steps_per_s,
    render.render_vs_mujoco,
    render.render_vs_mujoco_shadow,
    render.render_vs_mjwarp,
    render.render_shadow_cost,
    splats.splat_vs_painter,
    splats_devices.splat_vs_mjwarp,
    splats_devices.splat_batch,
    splats.splat_gradient,
    splats.splat_lod,
    judging.splat_judging,
  )
  return {function.__name__: function for function in functions}
