"""Contact with 25 obstacles: analytic, from the scene record, against colliding MJX geoms."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from experiments.bench.timing import Row, interleaved
from s2e_jax.robots import ROBOTS
from s2e_jax.scene import Scene, Slots
from s2e_jax.sim.contacts import FRICTION, disc_offsets, obstacles_near
from s2e_jax.sim.dynamics import make_base
from s2e_jax.sim.geoms import scene_geoms
from s2e_jax.sim.mjcf import PLANAR_SUBSTEPS, robot_mjcf
from s2e_jax.worlds import builders

NUM_ENVS = 64
NUM_OBSTACLES = 25
ROBOT = ROBOTS['delivery']


def scene_of_obstacles() -> Scene:
  """A flat square with 13 boxes and 12 poles."""
  rng = np.random.default_rng(0)
  scene = builders.empty_scene(
    Slots(boxes=13, cylinders=12, people=0, rounds=0), road=(0.0, -1.0), paved=(-20.0, 20.0), curb_height=0.0,
    bounds=(-10.0, 10.0, -10.0, 10.0),
  )  # fmt: skip
  for i, (x, y) in enumerate(rng.uniform(-8, 8, (NUM_OBSTACLES, 2))):
    if i < 13:
      scene = builders.with_box(scene, i, x, y, 0.3, 0.4, 1.0, yaw=float(rng.uniform(-3, 3)))
    else:
      scene = builders.with_cylinder(scene, i - 13, x, y, 0.2, 1.0)
  return scene


def colliding_model(scene: Scene) -> mujoco.MjModel:
  """The planar base, its three discs as upright capsules, among the scene's obstacles as geoms that collide."""
  touch = f'contype="{{}}" conaffinity="{{}}" condim="3" friction="{FRICTION} 0 0" solref=".1 1"'
  disc = f'<geom type="capsule" size="{ROBOT.footprint.width / 2}" mass="0" {touch.format(1, 0)} '
  hull = [f'{disc} fromto="{x} 0 .3 {x} 0 .6"/>' for x in disc_offsets(ROBOT)]
  geoms = scene_geoms(scene, touch.format(0, 1), is_round_capsule=True)
  xml = robot_mjcf(ROBOT, 'planar')
  xml = xml.replace(
    '<flag contact="disable" constraint="disable" eulerdamp="disable"/>', '<flag eulerdamp="disable"/>'
  )
  xml = re.sub(r'iterations="1" ls_iterations="4"', 'iterations="4" ls_iterations="8"', xml)
  xml = xml.replace('</body>\n', '\n'.join(hull) + '</body>\n' + '\n'.join(geoms), 1)
  return mujoco.MjModel.from_xml_string(xml)


def contact_vs_mjx() -> Row:
  """A policy step of the planar base among 25 obstacles: ours against the same obstacles as MJX geoms.

  Both take 5 steps of 0.05 s, which flatters MJX: its soft contacts want steps several times smaller.
  """
  scene = scene_of_obstacles()
  rng = np.random.default_rng(1)
  position = jnp.asarray(rng.uniform(-8, 8, (NUM_ENVS, 2)), jnp.float32)
  yaw = jnp.asarray(rng.uniform(-3, 3, NUM_ENVS), jnp.float32)
  command = jnp.asarray(rng.uniform((-0.4, -1.5), (1.5, 1.5), (NUM_ENVS, 2)), jnp.float32)

  base = make_base(ROBOT)
  state = jax.vmap(base.reset)(position, yaw, jax.random.split(jax.random.key(0), NUM_ENVS))
  # Every environment has a scene of its own, as in training.
  scenes = jax.tree.map(lambda x: jnp.repeat(x[None], NUM_ENVS, 0), scene)

  def advance(state: Any, scene: Scene, command: jax.Array) -> Any:
    return base.advance(state, command, obstacles_near(ROBOT, scene, state.position))

  analytic = jax.jit(jax.vmap(advance))

  model = colliding_model(scene)
  physics, template = mjx.put_model(model, impl='jax'), mjx.make_data(model, impl='jax')
  pairs = template._impl.contact.dist.shape[0]

  def collide(qpos: jax.Array, qvel: jax.Array, warm: jax.Array, command: jax.Array) -> Any:
    def substep(_: int, carry: Any) -> Any:
      qpos, qvel, warm = carry
      ctrl = jnp.stack([command[0], jnp.zeros(()), command[1]])
      data = mjx.step(physics, template.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warm, ctrl=ctrl))
      return data.qpos, data.qvel, data.qacc_warmstart

    return jax.lax.fori_loop(0, PLANAR_SUBSTEPS, substep, (qpos, qvel, warm))

  geoms = jax.jit(jax.vmap(collide))
  qpos = jnp.concatenate([position, yaw[:, None]], 1)
  rest = jnp.zeros((NUM_ENVS, 3))
  return interleaved(
    'contact_vs_mjx',
    lambda: analytic(state, scenes, command),
    lambda: geoms(qpos, rest, rest, command),
    work=NUM_ENVS,
    unit=f'policy steps/s ({NUM_ENVS} environments, {NUM_OBSTACLES} obstacles)',
    baseline_name=f'MJX geoms ({pairs} contact slots)',
  )
