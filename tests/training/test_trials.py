"""Trials of a run: when they are held, what is kept of the first, what the film shows."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import closedloop as closedloop_config
from configs import finetune as finetune_config
from s2e_jax.closedloop.episodes import Traces
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.run import Judged
from s2e_jax.controller import CommandLimits
from s2e_jax.policy.config import policy_config
from s2e_jax.policy.policy import Policy
from s2e_jax.robots import ROBOTS
from s2e_jax.sim import settings
from s2e_jax.training import parts, trials
from s2e_jax.training.agent import Agent

NUM, STEPS = 3, 8


def traces_of(reached, speed=1.0):
  """Episodes along x, of which the first `reached` arrive after 6 m and the others stop half way."""
  t = np.arange(STEPS + 1) * speed
  arrived = np.arange(NUM) < reached
  x = np.where(arrived[:, None], np.minimum(t, 6.0), np.minimum(t, 3.0))
  position = np.stack([x, np.zeros_like(x)], axis=-1)
  none = np.zeros((NUM, STEPS), bool)
  contact = none.copy()
  contact[-1, [1, 7]] = True
  return Traces(
    position=position, yaw=0 * x, speed=0 * x + speed, way=6.0 - x, gap=0 * x + 1e3,
    clearance=0 * x + 1e3,
    people=np.zeros((NUM, STEPS + 1, 1, 2)), command=np.zeros((NUM, STEPS, 2)), contact=contact, by_robot=none,
    hit_kind=np.zeros((NUM, STEPS), int), num_steps=np.full(NUM, STEPS), has_arrived=arrived,
    nan_actions=np.zeros(NUM, int), scene=np.zeros((NUM, 1)), is_person=np.zeros((NUM, 1), bool),
    goal=np.tile([6.0, 0.0], (NUM, 1)), path_length=np.full(NUM, 6.0), layout=np.zeros(NUM, int),
    num_goals=np.ones(NUM, int), goals_reached=arrived.astype(int),
  )  # fmt: skip


@pytest.fixture
def agent():
  config = policy_config('s2e_tiny', image_height=32, image_width=48, width=32, num_heads=2, mlp_dim=48)
  return Agent(Policy(config), None, CommandLimits.of(ROBOTS['delivery']))


@pytest.fixture
def config():
  config = finetune_config.get_config('checkpoint=somewhere')
  config.trials.every, config.trials.episodes = 3, NUM
  return config


@pytest.fixture
def judged(monkeypatch):
  """What the next trial shall find; and what it was asked."""
  box = {'traces': traces_of(1), 'asked': []}

  def judge(env, contenders, keys, batch, say, num_devices):
    (one,) = contenders
    assert num_devices == jax.local_device_count()
    box['asked'].append((env, one, keys))
    return Judged({one.name: box['traces']}, {one.name: episode_metrics(box['traces'])})

  monkeypatch.setattr(trials, 'judge', judge)
  return box


def test_trials_are_held_before_now_and_then_and_after(agent, config, tmp_path):
  held = trials.Trials(config, agent, tmp_path)
  assert [i for i in range(9) if held.is_due(i, last=8)] == [0, 3, 6, 8]
  config.trials.every = 0
  held = trials.Trials(config, agent, tmp_path)
  assert not any(held.is_due(i, last=8) for i in range(9))
  assert held.film() is None


def test_a_trial_judges_by_the_rules_of_judging_and_tells_means(agent, config, tmp_path, judged):
  held = trials.Trials(config, agent, tmp_path)
  figures = held.hold({'params': 'p'})
  ((env, contender, keys),) = judged['asked']
  assert not env.config.end_on_collision and env.config.max_steps == 240 and len(keys) == NUM
  # the same rules to the last number: `s2e_jax.evaluate` then finds the trial's program in the cache
  assert env.config == settings.make_env(closedloop_config.get_config('look=B')).config
  assert contender.params == {'params': 'p'}
  assert figures['validation/success'] == pytest.approx(1 / 3)
  # 3 m of the 5 m that lie before the goal's radius, twice
  assert figures['validation/route_completion'] == pytest.approx((1 + 2 * 0.6) / 3)
  # two contacts in one of the three
  assert figures['validation/contacts'] == pytest.approx(2 / 3)
  assert figures['validation/any_contact'] == pytest.approx(1 / 3)
  assert sum(v for k, v in figures.items() if '/ends/' in k) == pytest.approx(2 / 3)


def test_the_film_shows_the_first_trial_ever_beside_the_last(agent, config, tmp_path, judged, monkeypatch):
  shown = {}
  monkeypatch.setattr(
    trials.pictures,
    'side_by_side',
    lambda path, traces, row, footprint: shown.update(traces=traces, row=row) or path,
  )
  trials.Trials(config, agent, tmp_path).hold({})
  later = trials.Trials(config, agent, tmp_path)  # a process that resumes
  judged['traces'] = traces_of(2)
  later.hold({})
  judged['traces'] = traces_of(3, speed=2.0)
  later.hold({})
  assert later.film() == tmp_path / 'trials' / 'before_and_after.mp4'
  for name, expected in (('before', traces_of(1)), ('after', traces_of(3, speed=2.0))):
    for field in dataclasses.fields(expected):
      np.testing.assert_array_equal(getattr(shown['traces'][name], field.name), getattr(expected, field.name))
  assert shown['row'] in (1, 2)  # where the two differ


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('every', -1, 'every=-1 must not be negative'),
    ('episodes', 0, 'episodes=0 must be at least 1'),
    ('batch', 0, 'batch=0 must be at least 1'),
    ('seconds', 0.0, 'seconds=0.0 must be > 0'),
  ],
)
def test_bad_numbers_are_named(config, name, value, message):
  config.trials[name] = value
  with pytest.raises(ValueError, match=message):
    trials.check(config.trials)


def test_shares_add_up_to_the_rollout_and_parts_never_exceed_it():
  found = parts.shares({'render': 0.1, 'encode': 0.2, 'decide': 0.05}, steps=10, rollout_s=5.0, total_s=8.0)
  assert found['time/render_share'] == pytest.approx(1 / 8)
  assert found['time/simulate_share'] == pytest.approx(1.5 / 8)
  assert sum(found.values()) == pytest.approx(5 / 8)
  found = parts.shares({'render': 1.0, 'encode': 0.0, 'decide': 0.0}, steps=10, rollout_s=5.0, total_s=8.0)
  assert found['time/render_share'] == pytest.approx(5 / 8) and found['time/simulate_share'] == 0
  assert parts.shares({}, 10, 5.0, 8.0) == {}
  assert jax.tree.leaves(parts.shares({'render': 1.0}, 0, 0.0, 0.0)) == []
