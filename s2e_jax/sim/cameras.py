"""Where the cameras of the robots are: the mount of their scene, carried by the base, swaying with the gait."""

from __future__ import annotations

import jax

from s2e_jax.render.view import View, view_of
from s2e_jax.scene import ground_height, to_street
from s2e_jax.sim.episode import Episode


def views_of(episodes: Episode) -> View:
  """Views [B] of B episodes, ready for `render.render(episodes.world.scene, ...)`."""
  scene, base = episodes.world.scene, episodes.base
  left = jax.numpy.stack([-jax.numpy.sin(base.yaw), jax.numpy.cos(base.yaw)], axis=-1)
  position = base.position + base.sway[:, :1] * left

  def floor(ground, point):
    return ground_height(ground, *to_street(point[0], point[1], ground.curvature))

  return view_of(scene.mount, position, base.yaw + base.sway[:, 1], jax.vmap(floor)(scene.ground, base.position))
