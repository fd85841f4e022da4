"""table.md of a benchmark run: the paper's layout, more figures, comparisons, and the published numbers apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s2e_jax.closedloop.metrics import CLASSES
from s2e_jax.navbench.published import PUBLISHED_TASKS
from s2e_jax.navbench.report_cells import TASK_TITLES
from s2e_jax.reporting import interval_cell, interval_table

# column -> (figure, format)
MORE = {
  'RC by way': ('rc_way', '.3f'),
  'SPL': ('spl', '.3f'),
  'SCT': ('sct', '.3f'),
  'time to goal s': ('time_to_goal', '.1f'),
  'speed m/s': ('speed', '.2f'),
  'jerk m/s³': ('jerk', '.2f'),
}
CONTACT = {
  'in contact, share of time': ('contact_share', '.3f'),
  'contacts per 100 m': ('contacts_per_100m', '.2f'),
  'by the robot': ('contacts_by_robot', '.2f'),
  'with people': ('contacts_with_people', '.2f'),
  'of these walked into it': ('hit_by_people', '.2f'),
  'least clearance m': ('clearance', '.2f'),
  'least gap to people m': ('person_gap', '.2f'),
  'in personal space, share of time': ('intrusion', '.3f'),
}
DIFFERENCES = {'SR': ('success', '+.3f'), 'RC': ('rc', '+.3f'), 'CT': ('contacts', '+.2f'), 'SPL': ('spl', '+.3f')}


def protocol_lines(results: Mapping[str, Any]) -> list[str]:
  """How it was judged, a sentence or two each."""
  rules = results['protocol']
  limits = ', '.join(
    f'{"/".join(f"{s:g}" for s in seconds)} s ({TASK_TITLES[task]})'
    for task, seconds in rules['time_limit'].items()
  )
  return [
    f'Success (SR): the robot came within {rules["success_radius"]:g} m of the goal before the time limit: '
    f'{limits}. Contact does not end an episode.',
    'RC, route completion: 1 on success, else (d0 - least d) / (d0 - 1 m) of the straight distance d to the '
    'goal, cut to 0..1; "RC by way" takes the shortest way instead.',
    f'CT: contacts per episode that began at least {rules["contact_refractory"]:g} s after the last one counted.',
    'SPL weighs success by the shortest way over the way driven. SCT weighs it by the least time over the time '
    f'taken (arXiv:2103.08022); the least time is the shortest way at {rules["top_speed"]:g} m/s, a bound '
    'nobody beats.',
    f'Personal space: less than {rules["personal_space"]:g} m between the outlines of robot and person. Jerk: '
    f'mean second difference of the forward speed, at {1 / rules["period"]:g} Hz.',
    'Every policy drives the same episodes from the same states, acts deterministically, and its commands pass '
    'through the same controller and limits. Policies that sense "everything" know what no camera shows: they '
    'are upper bounds, not competitors.',
    'Value [95 % bootstrap interval over episodes]. Policies of one method are its seeds: a method has the '
    'mean over them, and an episode counts once. Intervals speak of episodes in these scenes, not of other '
    'scenes, and not of other trainings where there is one seed.',
  ]


def headline(results: Mapping[str, Any]) -> list[str]:
  """Lines of the paper's table: a row per method, 'SR [interval] / RC / CT' per task."""
  tasks = results['tasks']
  lines = [
    '| method | kind | told | senses | seeds | ' + ' | '.join(TASK_TITLES[t] for t in tasks) + ' |',
    '|---|---|---|---|---:|' + '---:|' * len(tasks),
  ]
  for method, names in results['methods'].items():
    card = results['policies'][names[0]]
    cells = [three(found['methods'][method]['metrics']) for found in tasks.values()]
    about = [method, card['kind'], card['told'], card['senses'], len(names)]
    lines.append('| ' + ' | '.join([*(_cell(x) for x in about), *cells]) + ' |')
  return lines


def three(metrics: Mapping[str, Any]) -> str:
  """'SR [low, high] / RC / CT'."""
  plain = lambda key: interval_cell({**metrics[key], 'low': None}, '.2f')
  return f'{interval_cell(metrics["success"], ".2f")} / {plain("rc")} / {plain("contacts")}'


def table(results: Mapping[str, Any]) -> str:
  """The Markdown page of `report_summary.results_of`."""
  return '\n'.join(_lines(results)) + '\n'


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
  tasks = results['tasks']
  counts = ', '.join(f'{TASK_TITLES[t]} {found["num_episodes"]}' for t, found in tasks.items())
  yield from (f'# {results["benchmark"]}', '', f'{len(results["scenes"])} scenes; episodes: {counts}.', '')
  yield from ('SR [95 % interval] / RC / CT:', '', *headline(results), '')
  yield from (f'- {line}' for line in protocol_lines(results))
  if results['settings']:
    yield from ('', 'Settings: ' + ', '.join(f'{k} {v}' for k, v in results['settings'].items()))
  for task, found in tasks.items():
    metrics = {_cell(name): method['metrics'] for name, method in found['methods'].items()}
    yield from ('', f'## {TASK_TITLES[task]}', '', *interval_table('method', MORE, metrics))
    yield from ('', *interval_table('method', CONTACT, metrics), '')
    yield from ends(found)
    if found['method_pairs']:
      yield from (
        '',
        'Differences on the same episodes, first minus second (p without correction for their number):',
        '',
      )
      yield from pairs(found['method_pairs'])
  if results['finetuning']:
    found = results['finetuning']
    yield from ('', f'## What finetuning gained: {found["after"]} minus {found["before"]}', '', *finetuning(found))
    yield from ('', forgetting(found))
  for line in broken(results):
    yield from ('', f'**{line}**')
  yield from ('', '## Policies', '', *cards(results), '', '## Scenes', '', *scenes(results))
  of_paper = results['published']
  yield from ('', f'## Published numbers ({of_paper["source"]}): not comparable', '', f'> {of_paper["note"]}', '')
  yield from (*published_v1(of_paper), '', *published_v2(of_paper))


def ends(found: Mapping[str, Any]) -> Iterator[str]:
  """Lines of a table: episodes of every method by how they ended, over all its seeds."""
  yield '| how episodes ended | ' + ' | '.join(c.replace('_', ' ') for c in CLASSES) + ' |'
  yield '|---|' + '---:|' * len(CLASSES)
  for name, method in found['methods'].items():
    yield f'| {_cell(name)} | ' + ' | '.join(str(method['failures'][c]) for c in CLASSES) + ' |'


def pairs(compared: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """Lines of a table: differences of pairs of methods, and McNemar's test."""
  yield '| first | second | ' + ' | '.join(DIFFERENCES) + ' | first / second did better | McNemar p |'
  yield '|---|---|' + '---:|' * (len(DIFFERENCES) + 2)
  for pair in compared:
    cells = [interval_cell(pair['difference'][key], form) for key, form in DIFFERENCES.values()]
    test = pair['mcnemar']
    cells += [f'{test["only_ours"]} / {test["only_others"]}', f'{test["p"]:.2g}']
    yield f'| {_cell(pair["first"])} | {_cell(pair["second"])} | ' + ' | '.join(cells) + ' |'


def finetuning(found: Mapping[str, Any]) -> Iterator[str]:
  """Lines of a table: what RL gained per task."""
  rows = {TASK_TITLES[task]: gain for task, gain in found['gain'].items()}
  yield from interval_table('task', DIFFERENCES, rows)


def forgetting(found: Mapping[str, Any]) -> str:
  """A sentence on what RL cost where nothing is in the way; '' where that was not judged."""
  lost = found['forgetting_on_empty']
  return f'Forgetting on Empty (SR before minus after): {interval_cell(lost, "+.3f")}' if lost else ''


def broken(results: Mapping[str, Any]) -> Iterator[str]:
  """A sentence per policy that gave commands which are no numbers."""
  for name in results['policies']:
    count = sum(found['policies'][name]['nan_commands'] for found in results['tasks'].values())
    if count:
      yield f'{name} gave {count} commands that are not numbers; it stood still then.'


def cards(results: Mapping[str, Any]) -> Iterator[str]:
  """Lines of a table: where every policy comes from."""
  yield from ('| policy | method | checkpoint | step | seed |', '|---|---|---|---:|---:|')
  for name, card in results['policies'].items():
    facts = [card['group'], card['checkpoint'], card['step'], card['seed']]
    yield f'| {_cell(name)} | ' + ' | '.join('-' if x in (None, '') else _cell(x) for x in facts) + ' |'


def scenes(results: Mapping[str, Any]) -> Iterator[str]:
  """Lines of a table: what tells the scenes apart."""
  yield from ('| scene | gaussians | drivable m² | robot radius m | hash |', '|---|---:|---:|---:|---|')
  for name, facts in results['scenes'].items():
    area, radius = f'{facts["drivable_area"]:.0f}', f'{facts["robot_radius"]:g}'
    yield f'| {_cell(name)} | {facts["num_gaussians"] or "-"} | {area} | {radius} | `{facts["hash"][:16]}` |'


def published_v1(found: Mapping[str, Any]) -> Iterator[str]:
  """Lines of the table of the paper's first version."""
  titles = ' | '.join(TASK_TITLES[task] for task in PUBLISHED_TASKS)
  yield from (f'| paper v1, SR / RC / CT | hours of data | {titles} |', '|---|---:|---:|---:|---:|---:|')
  for name, row in found['v1'].items():
    cells = [' / '.join(f'{row[task][key]:.2f}' for key in ('sr', 'rc', 'ct')) for task in PUBLISHED_TASKS]
    yield f'| {name} | {row["hours"]:g} | ' + ' | '.join(cells) + ' |'


def published_v2(found: Mapping[str, Any]) -> Iterator[str]:
  """Lines of the table of the paper's second version."""
  titles = ' | '.join(TASK_TITLES[task] for task in PUBLISHED_TASKS)
  yield from (f'| paper v2, SR | {titles} |', '|---|---:|---:|---:|---:|')
  for name, row in found['v2'].items():
    yield f'| {name} | ' + ' | '.join(f'{row[task]["sr"]:.2f}' for task in PUBLISHED_TASKS) + ' |'


def _cell(text: Any) -> str:
  """Text that does not break a row."""
  return str(text).replace('|', '\\|').replace('\n', ' ')
