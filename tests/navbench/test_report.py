"""Figures of the benchmark's report against hand computation, its files, and bad input."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from s2e_jax.closedloop.intervals import mean_interval
from s2e_jax.closedloop.metrics import episode_metrics
from s2e_jax.closedloop.run import Judged
from s2e_jax.gaussians import Gaussians
from s2e_jax.navbench import report, report_films
from s2e_jax.navbench.episodes import PlannedEpisode
from s2e_jax.navbench.grid import Grid
from s2e_jax.navbench.maps import Maps
from s2e_jax.navbench.placed_things import PlacedThing
from s2e_jax.navbench.report import write_navbench_report
from s2e_jax.navbench.report_cells import Cell, PolicyCard

DT, STEPS = 0.25, 40
FILES = ('episodes.jsonl', 'report.html', 'results.json', 'table.md')


def card(group, seed=None, **changes):
  facts = {'kind': 'BC', 'told': 'point goal', 'senses': 'rgb'} | changes
  return PolicyCard(**facts, group=group, checkpoint=f'runs/{group}/{seed}', step=100, seed=seed)


# A name that a page or a table could trip over.
BLIND = 'blind <b>&|'
POLICIES = {
  'bc 0': card('S2E-BC', 0),
  'bc 1': card('S2E-BC', 1),
  'full': card('S2E-Full', 0, kind='RL finetuned'),
  BLIND: card(BLIND, kind='baseline', senses='nothing'),
}


def prepared(name='hall'):
  grid = Grid((-2.0, -4.0), 0.25, (64, 32))
  occupied = np.zeros(grid.shape, bool)
  occupied[:, [0, -1]] = True
  free = ~occupied
  zeros = np.zeros(grid.shape, np.float32)
  maps = Maps(grid, occupied, np.where(free, 1, -1).astype(np.float32), free, zeros, free, 0.3)
  rng = np.random.default_rng(0)
  num = 300
  splat = Gaussians(
    mean=rng.uniform((-2, -4, 0), (14, 4, 0.5), (num, 3)).astype(np.float32),
    scale=np.full((num, 3), 0.2, np.float32),
    rotation=np.tile(np.float32([1, 0, 0, 0]), (num, 1)),
    opacity=np.ones(num, np.float32),
    sh=rng.normal(0, 0.5, (num, 1, 3)).astype(np.float32),
  )
  about = {'source': {'sha256': 'ab'}, 'num_gaussians': num}
  return SimpleNamespace(name=name, hash=name * 8, gaussians=splat, maps=maps, about=about)


def planned(task):
  things = (PlacedThing('bin', 'bin', 5.0, 1.5, 0.3, 0.4, None, 0.0, 1.0),) if task != 'empty' else ()
  things += (PlacedThing('bench', 'bench', 7.0, -1.5, 0.3, 0.4, 0.2, 0.0, 1.0),) if task != 'empty' else ()
  people = 1 if task == 'both' else 0
  return [
    PlannedEpisode((0.0, y), 0.0, ((11.0, y),), ((0.0, y), (11.0, y)), 11.0, 11.0, bool(i % 2), things, people)
    for i, y in enumerate((-1.0, 0.0, 1.0, 2.0))
  ]


def traces_of(episodes, reach, contacts, task):
  """Straight drives at 2 m/s that stop `reach` m along; who reaches 10 m has arrived. contacts: per episode."""
  num = len(episodes)
  t = np.arange(STEPS + 1) * DT
  reach = np.asarray(reach, float)
  along = np.minimum(2 * t, reach[:, None])
  y = np.array([e.start[1] for e in episodes])
  position = np.stack([along, np.broadcast_to(y[:, None], along.shape)], axis=-1)
  arrived = reach >= 10
  num_steps = np.where(arrived, 20, STEPS)
  contact = np.zeros((num, STEPS), bool)
  for b, n in enumerate(contacts):
    contact[b, 4 : 4 + 5 * n : 5] = True  # 1.25 s apart: each counts
  has_people = task == 'both'
  people = np.zeros((num, STEPS + 1, 2, 2)) + np.stack([t, 3 - 0.1 * t], axis=-1)[None, :, None]
  return SimpleNamespace(
    position=position,
    yaw=np.zeros((num, STEPS + 1)),
    speed=np.where(along < reach[:, None], 2.0, 0.0),
    way=11 - along,
    gap=np.full((num, STEPS + 1), 0.4 if has_people else 1e3),
    clearance=np.full((num, STEPS + 1), 0.25),
    people=people,
    command=np.zeros((num, STEPS, 2)),
    contact=contact,
    by_robot=contact,
    hit_kind=np.zeros((num, STEPS), int),
    num_steps=num_steps,
    has_arrived=arrived,
    nan_actions=np.zeros(num, int),
    is_person=np.tile([has_people, False], (num, 1)),
    goal=np.array([e.goals[-1] for e in episodes]),
    path_length=np.array([e.geodesic_length for e in episodes]),
    num_goals=np.ones(num, int),
  )


# metres reached and contacts by policy: an episode succeeds at 10 m
DRIVES = {
  'bc 0': ([10, 5, 10, 2.5], [0, 1, 2, 3]),
  'bc 1': ([10, 10, 5, 2.5], [0, 0, 0, 0]),
  'full': ([10, 10, 10, 0], [1, 0, 0, 0]),
  BLIND: ([5, 0, 0, 0], [4, 4, 4, 4]),
}


def cell(scene, task, policies=POLICIES, drives=DRIVES):
  episodes = planned(task)
  traces = {name: traces_of(episodes, *drives[name], task) for name in policies}
  return Cell(
    scene, task, prepared(scene), episodes, Judged(traces, {n: episode_metrics(t) for n, t in traces.items()})
  )


def frames_of(cell, policy, row):
  num = int(cell.judged.traces[policy].num_steps[row]) + 1
  pictures = np.zeros((num, 36, 64, 3), np.uint8)
  pictures[:, :, :, 0] = np.arange(num)[:, None, None] * 5
  return pictures


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """(folder, results) of two scenes and two tasks."""
  cells = [cell('hall', 'empty'), cell('hall', 'both'), cell('yard', 'empty')]
  out = tmp_path_factory.mktemp('report')
  settings = {'robot': 'delivery', 'batch': 4}
  return out, write_navbench_report(cells, POLICIES, settings, out, top_speed=2.0, num_resamples=200, num_maps=1)


def test_figures_of_methods_by_hand(written):
  _, results = written
  assert results['tasks']['empty']['num_episodes'] == 8 and results['tasks']['both']['num_episodes'] == 4
  bc = results['tasks']['empty']['methods']['S2E-BC']
  value = lambda key: bc['metrics'][key]['value']
  assert bc['num_seeds'] == 2 and bc['seeds']['bc 1']['contacts'] == 0
  assert value('success') == pytest.approx(0.5)
  # 5 m of the 10 m to the circle of arrival are half of it
  assert value('rc') == pytest.approx((1 + 0.75 + 0.75 + 0.25) / 4)
  assert value('contacts') == pytest.approx((0 + 0.5 + 1 + 1.5) / 4)
  assert value('spl') == pytest.approx(0.5)  # ways were straight
  assert value('sct') == pytest.approx(0.5)  # 10 m at 2 m/s, as fast as can be
  assert value('contacts_per_100m') == pytest.approx(100 * 6 / 55)
  assert bc['failures'] == {
    'success': 8, 'collision_stuck': 0, 'wrong_stop': 0, 'oscillation': 0, 'off_route': 0, 'time_out': 8,
  }  # fmt: skip
  both = results['tasks']['both']['methods']['S2E-BC']['metrics']
  assert both['intrusion']['value'] == 1 and both['person_gap']['value'] == pytest.approx(0.4)
  assert bc['metrics']['intrusion']['value'] is None


def test_an_episode_counts_once_however_many_seeds_drove_it(written):
  found = written[1]['tasks']['empty']['methods']['S2E-BC']['metrics']['success']
  assert found == mean_interval(np.tile([1, 0.5, 0.5, 0], 2), 200)
  assert found['n'] == 8


def test_paired_tests_and_what_finetuning_gained(written):
  tasks = written[1]['tasks']
  pairs = {(p['first'], p['second']): p for p in tasks['empty']['method_pairs']}
  assert len(pairs) == 3 and len(tasks['empty']['pairs']) == 6
  pair = pairs['S2E-BC', 'S2E-Full']
  assert pair['mcnemar'] == {'only_ours': 0, 'only_others': 4, 'p': pytest.approx(2 / 2**4)}
  found = written[1]['finetuning']
  assert (found['before'], found['after']) == ('S2E-BC', 'S2E-Full')
  gain = found['gain']['empty']['success']
  assert gain['value'] == pytest.approx(0.25) and gain['low'] < 0.25 < gain['high']
  assert gain['low'] == pytest.approx(-pair['difference']['success']['high'])
  assert found['forgetting_on_empty']['value'] == pytest.approx(-0.25)
  assert found['gain']['both']['rc']['value'] == pytest.approx((3 + 0) / 4 - 2.75 / 4)


def test_json_and_rows_hold_every_cell_and_episode(written):
  out, results = written
  assert json.loads((out / 'results.json').read_text()) == json.loads(json.dumps(results))
  assert [(c['scene'], c['task']) for c in results['cells']] == [
    ('hall', 'empty'),
    ('hall', 'both'),
    ('yard', 'empty'),
  ]
  assert results['scenes']['yard']['hash'] == 'yard' * 8
  assert results['protocol']['time_limit'] == {'empty': [10.0], 'both': [10.0]}
  assert results['cells'][1]['policies']['full']['metrics']['success']['value'] == pytest.approx(0.75)
  assert results['cells'][1]['straight_blocked_share'] == 0.5
  rows = [json.loads(line) for line in (out / 'episodes.jsonl').read_text().splitlines()]
  assert len(rows) == 3 * len(POLICIES) * 4
  (row,) = [r for r in rows if (r['scene'], r['task'], r['policy'], r['episode']) == ('hall', 'both', 'bc 0', 1)]
  assert row['method'] == 'S2E-BC' and row['success'] is False and row['failure'] == 'time_out'
  assert row['rc'] == 0.5 and row['contacts'] == 1 and row['seconds'] == 10 and row['clearance'] == 0.25


def test_the_table_has_the_papers_layout_and_sets_published_numbers_apart(written):
  text = (written[0] / 'table.md').read_text()
  (row,) = re.findall(r'^\| S2E-Full \| RL finetuned .*$', text, re.M)
  assert re.search(r'\| 0\.75 \[0\.\d\d, \d\.\d\d\] / 0\.75 / 0\.25 \|', row)
  assert '| method | kind | told | senses | seeds | Empty | Obstacle+Pedestrian |' in text
  assert text.index('NOT COMPARABLE') < text.index('| CityWalker | 2000 |')
  assert (
    '| S2E-Full | 35 | 0.83 / 0.87 / 0.39 | 0.76 / 0.81 / 0.56 | 0.57 / 0.89 / 0.58 | 0.55 / 0.75 / 1.81 |' in text
  )
  for line in text.splitlines():
    if line.startswith('| blind'):
      assert 'blind <b>&\\|' in line


def test_nothing_is_written_when_something_fails(tmp_path, monkeypatch):
  pytest.importorskip('av')

  def broken(cell, policy, row):
    raise RuntimeError('no pictures')

  write = lambda **options: write_navbench_report(
    [cell('hall', 'empty')], POLICIES, {}, tmp_path / 'out', top_speed=2.0, num_maps=0, num_resamples=9, **options
  )
  with pytest.raises(RuntimeError):
    write(see=broken)
  assert not (tmp_path / 'out').exists()
  with pytest.raises(ValueError, match=r'see gave float64 \(2, 3\)'):
    write(see=lambda *_: np.zeros((2, 3)))
  write()
  before = {name: (tmp_path / 'out' / name).read_bytes() for name in FILES}
  with pytest.raises(RuntimeError):
    write(see=broken)
  assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before
  monkeypatch.setattr(report_films, 'require_pyav', lambda: (_ for _ in ()).throw(ValueError('films need PyAV')))
  monkeypatch.setattr(report, 'require_pyav', report_films.require_pyav)
  with pytest.raises(ValueError, match='films need PyAV'):
    write(see=frames_of)


def without(policy):
  here = cell('hall', 'empty')
  del here.judged.traces[policy]
  return here


def with_traces(policy, **changes):
  here = cell('hall', 'empty')
  for name, change in changes.items():
    setattr(here.judged.traces[policy], name, change(getattr(here.judged.traces[policy], name)))
  return here


def shorter():
  here = cell('hall', 'empty')
  return dataclasses.replace(here, planned=here.planned[:3])


GOOD = cell('hall', 'empty')
BAD = {
  'no cells': ([], POLICIES, {}),
  'no policies': ([GOOD], {}, {}),
  'are missing': ([without('full')], POLICIES, {}),
  'have no card': ([GOOD], {'full': POLICIES['full']}, {}),
  'given twice': ([GOOD, cell('hall', 'empty')], POLICIES, {}),
  'different hashes': ([GOOD, dataclasses.replace(cell('hall', 'both'), prepared=prepared('yard'))], POLICIES, {}),
  'must be one of': ([dataclasses.replace(GOOD, task='rain')], POLICIES, {}),
  'drove .4. episodes and 3 are planned': ([shorter()], POLICIES, {}),
  'the start is 3.00 m': ([with_traces('full', position=lambda p: p + [3.0, 0.0])], POLICIES, {}),
  'row 0: the goal is 2.00 m': ([with_traces('bc 1', goal=lambda g: g + [0.0, 2.0])], POLICIES, {}),
  'duplicate names': ([GOOD], POLICIES | {'Full ': card('other')}, {}),
  'duplicate name, rename': ([GOOD], POLICIES | {'x': card('full')}, {}),
  'seeds of one method are alike': ([GOOD], POLICIES | {'bc 1': card('S2E-BC', 1, senses='depth')}, {}),
  'same parameters twice': ([GOOD], POLICIES | {'bc 1': card('S2E-BC', 0)}, {}),
  'must be JSON-able': ([GOOD], POLICIES, {'robot': object()}),
}


@pytest.mark.parametrize('message', BAD)
def test_bad_input_is_refused_before_anything_is_written(message, tmp_path):
  cells, policies, settings = BAD[message]
  with pytest.raises(ValueError, match=message):
    write_navbench_report(cells, policies, settings, tmp_path / 'out', top_speed=2.0)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'top_speed': 0.0}, 'top_speed=0'),
    ({'num_maps': -1}, 'num_maps=-1'),
    ({'num_resamples': 0}, 'num_resamples=0'),
    ({'film': ['nobody']}, r"film=\['nobody'\]"),
  ],
)
def test_bad_options_are_refused(options, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    write_navbench_report([GOOD], POLICIES, {}, tmp_path / 'out', **({'top_speed': 2.0} | options))
  assert not (tmp_path / 'out').exists()
