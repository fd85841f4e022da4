"""What a judged episode was worth: pure numpy on traces (`episodes.Traces`) that lie on the host.

Every function here gives one figure per episode; means, intervals and comparisons are `intervals`' and `report`'s.

Classes of how an episode ended; the first that fits is the one. An episode ends by arrival or the time limit, so
all but the first ran out of time, and say what the robot was at when it did:
  success: it came within 1 m of the goal.
  collision_stuck: in its last 10 s it stayed within 1 m of its mean place, touching something for at least a
    quarter of them.
  wrong_stop: it stayed there, touched less, and hardly moved: less than 0.05 m/s on average, and less than half a
    turn in all.
  oscillation: it stayed there and moved or turned; or in its last 20 s it neither came 0.5 m nearer to the goal
    (by way) than it ever had been, nor got as far from where it had been as a third of what it drove.
  off_route: it is at least 5 m of way farther from the goal than it once was, or farther than at the start.
  time_out: all else: on its way, but too late.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from s2e_jax.scene import KIND
from s2e_jax.structs import DT

CLASSES = ('success', 'collision_stuck', 'wrong_stop', 'oscillation', 'off_route', 'time_out')
REFRACTORY = 1.0  # s after a counted contact in which none is counted
GOAL_RADIUS = 1.0  # m from the goal that route completion and SPL take as arrival
NOBODY = 100.0  # m: a larger gap means that there are no people
PERSONAL_SPACE = 0.5  # m between outlines below which the robot is too close to a person

_LATELY, _LONG = 10.0, 20.0  # s before the end
_PLACE = 1.0  # m round the mean place that count as staying
_STUCK_SHARE = 0.25  # of the last 10 s
_STILL_SPEED, _STILL_TURN = 0.05, np.pi  # m/s, rad in all
_NEARER, _USEFUL = 0.5, 1 / 3  # m of way; share of the driven metres
_LOST = 5.0  # m of way


def route_completion(distance: np.ndarray) -> np.ndarray:
  """[B] of distances to the goal [B, T+1] m: clip((d0 - dmin) / (d0 - 1 m), 0, 1) (s2e: NavBench's RC).

  With ways along the pavement instead of straight distances it is the geodesic variant. 1 where d0 <= 1 m.
  """
  start = distance[:, 0]
  gained = (start - distance.min(axis=1)) / np.maximum(start - GOAL_RADIUS, 1e-6)
  return np.where(start <= GOAL_RADIUS, 1.0, np.clip(gained, 0.0, 1.0))


def contact_edges(contact: np.ndarray, refractory: float = REFRACTORY) -> np.ndarray:
  """[B, T] bool: the contacts that count (CT), of contact [B, T] bool every 0.25 s.

  A contact counts where it begins, unless the last one that counted began less than `refractory` seconds before.
  """
  contact = np.asarray(contact, bool)
  before = np.concatenate([np.zeros_like(contact[:, :1]), contact[:, :-1]], axis=1)
  rises = contact & ~before
  counted = np.zeros_like(rises)
  last = np.full(len(rises), -np.inf)
  for t in range(rises.shape[1]):
    counted[:, t] = rises[:, t] & (t * DT - last >= refractory - 1e-9)
    last = np.where(counted[:, t], t * DT, last)
  return counted


def path_length(position: np.ndarray) -> np.ndarray:
  """[B] metres driven through positions [B, T+1, 2]."""
  return np.linalg.norm(np.diff(position, axis=1), axis=-1).sum(axis=1)


def spl(success: np.ndarray, shortest: np.ndarray, driven: np.ndarray) -> np.ndarray:
  """[B] success weighted by path length (Anderson et al., arXiv:1807.06757): S l / max(l, p), all [B] (m).

  shortest: way from the start to the goal; both end where arrival begins, so GOAL_RADIUS is taken off it.
  """
  least = np.maximum(shortest - GOAL_RADIUS, 1e-6)
  return np.where(success, least / np.maximum(least, driven), 0.0)


def sct(success: np.ndarray, shortest: np.ndarray, seconds: np.ndarray, top_speed: float) -> np.ndarray:
  """[B] success weighted by completion time (Yokoyama et al., arXiv:2103.08022): S T_fast / max(T, T_fast).

  T_fast is a bound that nobody beats: the shortest way [B] (m), less the GOAL_RADIUS at its end, at `top_speed`
  (m/s) all along; the paper plans with the robot's dynamics instead, so ours is the stricter figure. Raises
  ValueError unless top_speed > 0.
  """
  if not top_speed > 0:
    raise ValueError(f'top_speed={top_speed} m/s must be > 0: the fastest that the robot can drive')
  fastest = np.maximum(shortest - GOAL_RADIUS, 1e-6) / top_speed
  return np.where(success, fastest / np.maximum(fastest, seconds), 0.0)


def intrusion_share(gap: np.ndarray, num_steps: np.ndarray, near: float = PERSONAL_SPACE) -> np.ndarray:
  """[B] share of the moments up to the end, of gap [B, T+1] m, in which a person is nearer than `near` m.

  NaN where there are no people.
  """
  seen = np.arange(gap.shape[1]) <= np.asarray(num_steps)[:, None]
  share = ((gap < near) & seen).sum(axis=1) / seen.sum(axis=1)
  return np.where(gap.min(axis=1) < NOBODY, share, np.nan)


def jerk(speed: np.ndarray, num_steps: np.ndarray) -> np.ndarray:
  """[B] mean |second difference| of the forward speed [B, T+1] m/s up to the end, m/s^3; NaN below two steps."""
  bends = np.abs(np.diff(np.asarray(speed, float), n=2, axis=1)) / DT**2
  counts = np.arange(2, speed.shape[1]) <= np.asarray(num_steps)[:, None]
  num = counts.sum(axis=1)
  return np.where(num > 0, (bends * counts).sum(axis=1) / np.maximum(num, 1), np.nan)


def failure_class(
  success: np.ndarray,
  num_steps: np.ndarray,
  position: np.ndarray,
  yaw: np.ndarray,
  way: np.ndarray,
  contact: np.ndarray,
) -> np.ndarray:
  """[B] int rows of CLASSES, as the module says.

  success: [B] bool. num_steps: [B]. position: [B, T+1, 2] m, yaw: [B, T+1] rad, way: [B, T+1] m of way to the
  goal.
  contact: [B, T] bool.
  """
  return np.array(
    [
      CLASSES.index(
        _class_of(position[b, : n + 1], yaw[b, : n + 1], way[b, : n + 1], contact[b, :n]) if not s else 'success'
      )
      for b, (s, n) in enumerate(zip(success, num_steps.astype(int), strict=True))
    ],
    int,
  )


def _class_of(position: np.ndarray, yaw: np.ndarray, way: np.ndarray, contact: np.ndarray) -> str:
  """The class of one episode [n+1] that did not arrive."""
  lately, long = round(_LATELY / DT), round(_LONG / DT)
  last = position[-lately - 1 :]
  steps = np.linalg.norm(np.diff(position, axis=0), axis=-1)
  turned = np.abs(np.diff(np.unwrap(yaw[-lately - 1 :]))).sum()
  stays = bool((np.linalg.norm(last - last.mean(axis=0), axis=-1) <= _PLACE).all())
  if stays and contact[-lately:].mean() >= _STUCK_SHARE:
    return 'collision_stuck'
  is_still = steps[-lately:].mean() / DT < _STILL_SPEED and turned < _STILL_TURN
  if stays:
    return 'wrong_stop' if is_still else 'oscillation'
  recent, driven = position[-long - 1 :], steps[-long:].sum()
  reach = np.linalg.norm(recent - recent[0], axis=-1).max()
  earlier = way[: max(len(way) - long, 1)].min()
  if way[-long:].min() > earlier - _NEARER and reach < _USEFUL * driven:
    return 'oscillation'
  if way[-1] > min(way.min() + _LOST, way[0]):
    return 'off_route'
  return 'time_out'


def episode_metrics(traces: Any) -> dict[str, np.ndarray]:
  """Figures [B] by name, of `episodes.Traces` on the host; NaN where an episode has none.

  success: 0/1. rc, rc_way: route completion, straight and along the way; of chains of goals always along it.
  contacts: CT. contact_share: of the time.
  contacts_by_robot: those of CT in which the robot moved into the other. contacts_with_people, hit_by_people:
  those with people, and of these the ones in which they moved into the robot. metres driven, seconds. spl.
  time_to_goal (s, successes only). speed (m/s, driven metres by seconds). person_gap: m, the least.
  nan_commands. failure: row of CLASSES.
  """
  success = np.asarray(traces.has_arrived, bool)
  position = np.asarray(traces.position, np.float64)
  num_steps = np.asarray(traces.num_steps)
  contact, way = np.asarray(traces.contact, bool), np.asarray(traces.way, np.float64)
  distance = np.linalg.norm(position - np.asarray(traces.goal)[:, None], axis=-1)
  driven, seconds = path_length(position), num_steps * DT
  counted = contact_edges(contact)
  is_person = np.asarray(traces.hit_kind) == KIND['person']
  by_robot, is_chain = np.asarray(traces.by_robot, bool), np.asarray(traces.num_goals) > 1
  gap = np.asarray(traces.gap).min(axis=1)
  return {
    'success': success.astype(float),
    'rc': np.where(success, 1.0, route_completion(np.where(is_chain[:, None], way, distance))),
    'rc_way': np.where(success, 1.0, route_completion(way)),
    'contacts': counted.sum(axis=1).astype(float),
    'contact_share': contact.sum(axis=1) / np.maximum(num_steps, 1),
    'contacts_by_robot': (counted & by_robot).sum(axis=1).astype(float),
    'contacts_with_people': (counted & is_person).sum(axis=1).astype(float),
    'hit_by_people': (counted & is_person & ~by_robot).sum(axis=1).astype(float),
    'metres': driven,
    'seconds': seconds,
    'spl': spl(success, np.asarray(traces.path_length, np.float64), driven),
    'time_to_goal': np.where(success, seconds, np.nan),
    'speed': driven / np.maximum(seconds, DT),
    'person_gap': np.where(gap < NOBODY, gap, np.nan),
    'nan_commands': np.asarray(traces.nan_actions, float),
    'failure': failure_class(success, num_steps, position, np.asarray(traces.yaw), way, contact).astype(float),
  }


def driving_metrics(traces: Any, top_speed: float) -> dict[str, np.ndarray]:
  """More figures [B] by name, of how well it was driven; NaN where an episode has none. Same traces.

  sct: see `sct`; top_speed: m/s. intrusion: share of the time within a person's PERSONAL_SPACE. jerk: m/s^3.
  clearance: m, the least between the robot's outline and anything; NaN where nothing was near.
  """
  num_steps, gap = np.asarray(traces.num_steps), np.asarray(traces.gap, np.float64)
  success, shortest = np.asarray(traces.has_arrived, bool), np.asarray(traces.path_length, np.float64)
  least = np.asarray(traces.clearance, np.float64).min(axis=1)
  return {
    'sct': sct(success, shortest, num_steps * DT, top_speed),
    'intrusion': intrusion_share(gap, num_steps),
    'jerk': jerk(np.asarray(traces.speed), num_steps),
    'clearance': np.where(least < NOBODY, least, np.nan),
  }
