"""Episodes driven to their ends, many at once, in one jitted loop; and what was seen to happen in them.

Worlds are begun by a program of their own: every policy under test starts from the very same states.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from brax.envs.base import State
from flax import struct

from s2e_jax.closedloop.policies import DrivingPolicy, at_goals, told
from s2e_jax.closedloop.spread import over_devices
from s2e_jax.geometry import to_robot_frame
from s2e_jax.render.render import Pictures, RenderOptions, render
from s2e_jax.scene import Scene
from s2e_jax.sim.cameras import views_of
from s2e_jax.sim.env import UrbanEnv
from s2e_jax.sim.episode import Episode, episode_key, pose_of
from s2e_jax.sim.observe import person_gap

Array = Any  # jax.Array, or numpy.ndarray once it is on the host


@struct.dataclass
class Traces:
  """B episodes of at most T steps. All fields carry a leading axis [B]; moment t is before step t.

  Of moments, the last one repeated after an episode's end: position: [T+1, 2] m. yaw: [T+1] rad. speed: [T+1] m/s.
  way: [T+1] m of way left to the goal. gap: [T+1] m between the robot's outline and the nearest person's, FAR
  without people. clearance: [T+1] m to the nearest thing, wall or person, 0 in contact, FAR before the first step.
  people: [T+1, N, 2] m.
  Of steps, zero after the end: command: [T, 2] m/s, rad/s. contact: [T] bool, an impulse above the environment's
  min_impulse. Where such a contact began, by_robot: [T] bool, it was the robot that moved into the other, and
  hit_kind: [T] int32 of scene.KINDS.
  Of episodes: num_steps: [] int32. has_arrived: [] bool. nan_actions: [] int32. scene: as it was at the start,
  without walls.
  is_person: [N] bool. goal: [2] m. path_length: [] m of way from start to goal. layout: [] int32. num_goals: []
  int32, goals_reached: [] int32; of a chain, goal is the last one, way and path_length lead through all.
  """

  position: Array
  yaw: Array
  speed: Array
  way: Array
  gap: Array
  clearance: Array
  people: Array
  command: Array
  contact: Array
  by_robot: Array
  hit_kind: Array
  num_steps: Array
  has_arrived: Array
  nan_actions: Array
  scene: Scene
  is_person: Array
  goal: Array
  path_length: Array
  layout: Array
  num_goals: Array
  goals_reached: Array


@struct.dataclass
class Legs:
  """Chains of L goals of B episodes, to be reached in turn; the first is the goal that the episode begins with.

  goal: [B, L, 2] m, the last one repeated. to_goal: [B, L, I, J] m of way to each, as in `World`. length: [B, L] m
  of way to each from the one before, 0 beyond the last. num: [B] int32 goals.
  """

  goal: Array
  to_goal: Array
  length: Array
  num: Array


Begin = Callable[[jax.Array, jax.Array], Episode]
Drive = Callable[..., Traces]
# (scenery, episodes [B], options, senses of a policy, wanted [B] bool or None=all) -> Pictures with these fields:
# what the robots' cameras see. Those that are not wanted may be anything.
See = Callable[..., Any]


def see_records(
  scenery: Any,
  episodes: Episode,
  options: RenderOptions,
  senses: tuple[str, ...],
  wanted: jax.Array | None = None,
) -> Pictures:
  """Pictures of the scene records that the episodes carry; they need no scenery beside them. All are drawn."""
  del scenery, wanted
  return render(episodes.world.scene, views_of(episodes), options, want=senses)


def pictures_for(
  policy: DrivingPolicy, see: See, scenery: Any, episodes: Episode, wanted: jax.Array | None = None
) -> Pictures | None:
  """What `policy` senses of episodes [B], and nothing else; None for the blind. wanted: [B] bool, None for all."""
  if policy.options is None:
    return None
  pictures: Pictures = see(scenery, episodes, policy.options, policy.senses, wanted)
  given = {name: getattr(pictures, name) for name in policy.senses}
  missing = [name for name, value in given.items() if value is None]
  if missing:
    raise ValueError(f'the policy senses {policy.senses}, but its pictures have no {missing}; give another `see`')
  return Pictures(**given)


def on_leg(episodes: Episode, legs: Legs, leg: jax.Array) -> Episode:
  """Episodes [B] with goal number `leg` [B] of their chains as the one to go to."""
  one = jnp.arange(legs.goal.shape[1]) == leg[:, None]
  goal = jnp.sum(jnp.where(one[..., None], legs.goal, 0.0), axis=1)
  rows = jnp.arange(leg.shape[0])
  world = dataclasses.replace(episodes.world, goal_in_world=goal, to_goal=legs.to_goal[rows, leg])
  base = episodes.base
  goal_in_robot = jax.vmap(to_robot_frame)(goal, base.position, base.yaw)
  way = jnp.sum(jnp.where(one, legs.length, 0.0), axis=1)
  return dataclasses.replace(episodes, world=world, goal_in_robot=goal_in_robot, way=way)


def goal_pictures(
  policy: DrivingPolicy, see: See, scenery: Any, episodes: Episode, legs: Legs | None = None
) -> jax.Array | None:
  """[L, B, h, w, 3] uint8, views at the goals of every leg, one without legs, with all else as it is now; None for
  who is not told an image.
  """
  if policy.goal != 'image':
    return None
  with_eyes = dataclasses.replace(policy, senses=('rgb',))

  def view(at: Episode, starts: jax.Array) -> jax.Array:
    pictures = pictures_for(with_eyes, see, scenery, at_goals(at, starts))
    assert pictures is not None and pictures.rgb is not None
    return pictures.rgb

  start = episodes.base.position
  if legs is None:
    return view(episodes, start)[None]
  starts = jnp.concatenate([start[None], jnp.swapaxes(legs.goal, 0, 1)[:-1]])

  def of_leg(given: tuple[jax.Array, jax.Array]) -> jax.Array:
    number, starts = given
    return view(on_leg(episodes, legs, jnp.full(start.shape[0], number)), starts)

  return jax.lax.map(of_leg, (jnp.arange(starts.shape[0]), starts))


@functools.lru_cache(maxsize=16)
def make_begin(env: UrbanEnv) -> Begin:
  """A jitted function (typed keys [B], level [] in 0..1) -> episodes [B] at their starts; one compile per B.

  One environment, one function: evaluations now and then share its programs.
  """

  def begin(keys: jax.Array, level: jax.Array) -> Episode:
    return jax.vmap(lambda key: env.begin(episode_key(key), level).pipeline_state)(keys)

  return jax.jit(begin)


@functools.lru_cache(maxsize=16)
def make_drive(env: UrbanEnv, policy: DrivingPolicy, see: See = see_records, num_devices: int = 1) -> Drive:
  """A jitted function (params, episodes [B] at their starts, scenery=None, legs=None) -> Traces.

  One compile per B and tree of params. see: makes the pictures, of what is in the episodes and of `scenery`, which
  all episodes share. num_devices: that share the episodes, of which B is a multiple. legs: chains of goals; one
  more is given out as each is reached, and the last one is arrival. The same arguments give the same function
  again. Runs at 4 Hz until all have arrived or the time limit; who is done stays as it is. Raises ValueError when
  `env` does not play by the rules of judging: contact only counts, there is a time limit, actions are commands.
  """
  config = env.config
  if config.end_on_collision or not config.max_steps or config.action != 'command':
    raise ValueError(
      f'judging needs end_on_collision=False, a time limit and action=command, not {config.end_on_collision}, '
      f'{config.time_limit:g} s and {config.action}; change EnvConfig'
    )
  num_steps = config.max_steps

  def moment(episodes: Episode, legs: Legs | None, leg: jax.Array) -> dict[str, jax.Array]:
    base = episodes.base
    later = 0.0 if legs is None else jnp.sum(jnp.where(_beyond(legs, leg), legs.length, 0.0), axis=1)
    gaps = jax.vmap(lambda people, b: person_gap(people, pose_of(b), config.robot.footprint))
    return {
      'position': base.position,
      'yaw': base.yaw,
      'speed': base.velocity[:, 0],
      'way': episodes.way + later,
      'gap': gaps(episodes.people, base),
      'clearance': base.touch.clearance,
      'people': episodes.people.position,
    }

  def one_step(params: Any, scenery: Any, legs: Legs | None, goals: jax.Array | None, carry: Any) -> Any:
    t, episodes, memory, is_over, has_arrived, leg, moments, steps = carry
    pictures = pictures_for(policy, see, scenery, episodes, ~is_over)
    shown = episodes if policy.is_privileged else told(episodes, policy.goal, shown_goal(goals, leg))
    command, memory = policy.act(params, memory, shown, pictures)
    # the state's other entries are outputs of a step only
    state = jax.vmap(lambda e, a: env.step(State(e, None, None, None, {}, {}), a))(episodes, command)
    info, after = state.info, state.pipeline_state
    seen = {
      'command': after.command,
      'contact': after.is_colliding,
      'by_robot': info['hit_by_robot'],
      'hit_kind': info['hit_kind'],
    }
    seen = {name: jnp.where(_rows(is_over, x), jnp.zeros_like(x), x) for name, x in seen.items()}
    reached = info['has_arrived'] & ~is_over
    goes_on = jnp.zeros_like(reached)
    if legs is not None:
      goes_on = reached & (leg < legs.num - 1)
      after = _chosen(goes_on, on_leg(after, legs, jnp.minimum(leg + 1, legs.num - 1)), after)
      if policy.is_privileged:  # what it remembers is of the goal before
        anew = lambda: _begun_anew(policy, goes_on, after, memory)
        memory = jax.lax.cond(jnp.any(goes_on), anew, lambda: memory)
    has_arrived = has_arrived | (reached & ~goes_on)
    episodes = _chosen(is_over, episodes, after)
    is_over = is_over | ((state.done > 0) & ~goes_on)
    leg = leg + goes_on
    moments = jax.tree.map(lambda all, now: all.at[t + 1].set(now), moments, moment(episodes, legs, leg))
    steps = jax.tree.map(lambda all, now: all.at[t].set(now), steps, seen)
    return t + 1, episodes, memory, is_over, has_arrived, leg, moments, steps

  def drive(params: Any, episodes: Episode, scenery: Any = None, legs: Legs | None = None) -> Traces:
    num = episodes.step.shape[0]
    start, nothing, leg = episodes, jnp.zeros(num, bool), jnp.zeros(num, jnp.int32)
    goals = goal_pictures(policy, see, scenery, episodes, legs)
    memory = policy.init(episodes if policy.is_privileged else told(episodes, policy.goal, shown_goal(goals, leg)))
    first = moment(episodes, legs, leg)
    moments = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_steps + 1, *x.shape)), first)
    steps = {name: jnp.zeros((num_steps, num), bool) for name in ('contact', 'by_robot')}
    steps['hit_kind'] = jnp.zeros((num_steps, num), jnp.int32)
    steps['command'] = jnp.zeros((num_steps, num, 2))
    carry = (jnp.zeros((), jnp.int32), episodes, memory, nothing, nothing, leg, moments, steps)
    carry = _like(carry, carry)
    goes_on = lambda carry: (carry[0] < num_steps) & ~jnp.all(carry[3])
    end, episodes, _, _, has_arrived, leg, moments, steps = jax.lax.while_loop(
      goes_on, lambda carry: _like(one_step(params, scenery, legs, goals, carry), carry), carry
    )
    # moments after the loop's own end: rows it never came to
    is_later = jnp.arange(num_steps + 1) > end
    moments = {name: jnp.where(_rows(is_later, x), x[end], x) for name, x in moments.items()}
    by_episode = {name: jnp.swapaxes(x, 0, 1) for name, x in (moments | steps).items()}
    return Traces(
      **by_episode,
      num_steps=episodes.step,
      has_arrived=has_arrived,
      nan_actions=episodes.nan_actions,
      scene=dataclasses.replace(start.world.scene, walls=None),  # a grid per episode, which nobody looks at later
      is_person=start.people.present,
      goal=start.world.goal_in_world if legs is None else legs.goal[:, -1],
      path_length=start.world.path_length if legs is None else jnp.sum(legs.length, axis=1),
      layout=start.world.layout,
      num_goals=jnp.ones(num, jnp.int32) if legs is None else legs.num,
      goals_reached=leg + has_arrived,
    )

  return jax.jit(drive if num_devices == 1 else over_devices(drive, num_devices))


def shown_goal(goals: jax.Array | None, leg: jax.Array) -> jax.Array | None:
  """Of goals [L, B, h, w, 3] those of leg number `leg` [B]; None where nothing is shown."""
  return None if goals is None else goals[leg, jnp.arange(leg.shape[0])]


def _begun_anew(policy: DrivingPolicy, goes_on: jax.Array, episodes: Episode, memory: Any) -> Any:
  """Memory [B] with that of `goes_on` [B] begun again, one after the other: in any one step they are few."""

  def one(inputs: tuple[jax.Array, Episode, Any]) -> Any:
    goes_on, episode, memory = inputs
    alone = jax.tree.map(lambda x: x[None], episode)
    begin = lambda: jax.tree.map(lambda x: x[0], policy.init(alone))
    return jax.lax.cond(goes_on, begin, lambda: memory)

  return jax.lax.map(one, (goes_on, episodes, memory))


def _beyond(legs: Legs, leg: jax.Array) -> jax.Array:
  """[B, L] bool: the goals after number `leg` [B]."""
  return jnp.arange(legs.length.shape[1]) > leg[:, None]


def _chosen(mask: jax.Array, yes: Any, no: Any) -> Any:
  """Of two trees with leading axes [B] the rows of `yes` where mask [B] says so."""
  return jax.tree.map(lambda a, b: jnp.where(_rows(mask, a), a, b), yes, no)


def _rows(mask: jax.Array, x: jax.Array) -> jax.Array:
  """mask [B] with as many axes as x [B, ...]."""
  return mask.reshape(-1, *[1] * (x.ndim - 1))


def _like(tree: Any, types: Any) -> Any:
  """`tree` with the dtypes of `types`, weak ones made firm: a loop's carry must keep its types."""
  return jax.tree.map(lambda x, t: jax.lax.convert_element_type(x, t.dtype), tree, types)
