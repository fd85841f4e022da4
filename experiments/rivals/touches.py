"""Where do contacts come from? When, where and how fast a robot touches again, and whether driving slower helps.

Run: python -m experiments.rivals.touches --checkpoint=runs/bc,runs/rivals/ram_s0 --out=runs/touches [--slower=1.0]
         [--config=configs/closedloop.py:look=C-near,task=obstacle,split=validation]
A contact counts as in judging. Of all but the first of an episode: for how long the robot had been free, and how
far it had come since the one before. A policy that sees K frames has seen the last contact only if it was free for
less than (K - 1) / 4 seconds. With --slower=1.0,0.7 every policy also drives with its forward speed held below
these m/s, as NAME_v1. Writes the report of a closed-loop evaluation, touches.md and touches.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments.rivals.modes import judge_lineup, lineup
from s2e_jax.closedloop.metrics import contact_edges
from s2e_jax.closedloop.policies import Contender
from s2e_jax.command_mixture import CommandMixture, mode_command
from s2e_jax.compilation import set_up_compilation
from s2e_jax.reporting import write_whole
from s2e_jax.robots import RobotDescription
from s2e_jax.store.metrics import log_to_console
from s2e_jax.structs import DT

HISTORIES = (5, 11)  # frames that the models see
PLACE = 1.0  # m between two contacts of one place


def touches_of(traces: Any) -> dict[str, np.ndarray]:
  """Figures [C] of the contacts that count in traces [B] (`closedloop.episodes.Traces` on the host).

  episode: row. speed: m/s forward in the moment before. lasted: s. free: s since the end of the last contact
  before, counted or not, and metres: from where the last counted one began; both NaN for the first of an episode.
  """
  contact, position = np.asarray(traces.contact, bool), np.asarray(traces.position, float)
  rows, times = np.nonzero(contact_edges(contact))
  lasted, free, metres = (np.full(len(rows), np.nan) for _ in range(3))
  for i, (b, t) in enumerate(zip(rows, times, strict=True)):
    after = np.flatnonzero(~contact[b, t:])
    lasted[i] = (after[0] if len(after) else contact.shape[1] - t) * DT
    if i and rows[i - 1] == b:
      free[i] = (t - 1 - np.flatnonzero(contact[b, :t])[-1]) * DT
      metres[i] = np.linalg.norm(position[b, t] - position[b, times[i - 1]])
  return {
    'episode': rows,
    'speed': np.asarray(traces.speed, float)[rows, times],
    'lasted': lasted,
    'free': free,
    'metres': metres,
  }


def summary(touches: dict[str, np.ndarray], num_episodes: int) -> dict[str, Any]:
  """What `touches_of` found in so many episodes; quartiles are [25, 50, 75 %], None where nothing came again."""
  again = ~np.isnan(touches['free'])
  free, metres = touches['free'][again], touches['metres'][again]

  def quartiles(values: np.ndarray) -> list[float] | None:
    return [round(float(v), 3) for v in np.percentile(values, [25, 50, 75])] if len(values) else None

  share = lambda mask: round(float(mask.mean()), 4) if len(mask) else None
  return {
    'episodes': num_episodes,
    'contacts': len(again),
    'episodes_with_a_contact': len(np.unique(touches['episode'])),
    'again': int(again.sum()),
    'speed_before': quartiles(touches['speed']),
    'seconds_free_before_again': quartiles(free),
    'metres_from_the_one_before': quartiles(metres),
    'share_again_in_the_same_place': share(metres < PLACE),
    **{f'share_again_within_{k}_frames': share(free < (k - 1) * DT) for k in HISTORIES},
  }


def table(found: dict[str, dict[str, Any]]) -> str:
  """Markdown of summaries by policy."""
  heads = [
    'policy', 'contacts per episode', 'episodes with one', 'speed before, m/s', 'touches again: contacts',
    's free before', 'm from the one before', 'in the same place',
    *(f'last seen in {k} frames' for k in HISTORIES),
  ]  # fmt: skip
  lines = ['| ' + ' | '.join(heads) + ' |', '|---|' + '---:|' * (len(heads) - 1)]
  percent = lambda share: '' if share is None else f'{100 * share:.0f} %'
  of = lambda q: '' if q is None else f'{q[1]:.2f} ({q[0]:.2f} to {q[2]:.2f})'
  for name, s in found.items():
    cells = [
      name,
      f'{s["contacts"] / s["episodes"]:.2f}',
      f'{s["episodes_with_a_contact"] / s["episodes"]:.2f}',
      of(s['speed_before']),
      str(s['again']),
      of(s['seconds_free_before_again']),
      of(s['metres_from_the_one_before']),
      percent(s['share_again_in_the_same_place']),
      *(percent(s[f'share_again_within_{k}_frames']) for k in HISTORIES),
    ]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def held_below(speed: float) -> Callable[[CommandMixture], jax.Array]:
  """Function from a mixture to its best mode's command [B, 2] with the forward speed held below `speed` m/s."""

  def choose(mixture: CommandMixture) -> jax.Array:
    command = mode_command(mixture)
    return jnp.stack([jnp.minimum(command[..., 0], speed), command[..., 1]], axis=-1)

  choose.__qualname__ = f'held_below({speed:g})'  # part of a contender's identity
  return choose


def contenders_of(
  paths: Sequence[Path], config: ConfigDict, robot: RobotDescription, speeds: Sequence[float]
) -> list[Contender]:
  """Every policy as it is judged, and as NAME_v1 with its forward speed held below each of `speeds` (m/s).

  Raises ValueError for a speed that is not above 0, and as `make_contenders` does.
  """
  if any(not speed > 0 for speed in speeds):
    raise ValueError(f'slower={list(speeds)} must be speeds > 0 m/s')
  found = lineup(paths, config, robot)
  for speed in speeds:
    slow = lineup(paths, config, robot, held_below(speed))
    found += [dataclasses.replace(c, name=f'{c.name}_v{speed:g}') for c in slow]
  return found


def main(argv: Sequence[str]) -> None:
  """Judges and writes the reports."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}; see --help')
  given = flags.FLAGS
  config, out = given.config, Path(given.out)
  slower, paths = [float(speed) for speed in given.slower], [Path(path) for path in given.checkpoint]
  _, judged = judge_lineup(config, out, lambda robot: contenders_of(paths, config, robot, slower))
  found = {name: summary(touches_of(t), config.num_episodes) for name, t in judged.traces.items()}
  write_whole(out / 'touches.json', json.dumps(found, indent=2) + '\n')
  print(write_whole(out / 'touches.md', table(found)).read_text())


if __name__ == '__main__':
  config_flags.DEFINE_config_file(
    'config', 'configs/closedloop.py:look=C-near,task=obstacle,split=validation,episodes=256', 'Config of judging.'
  )
  flags.DEFINE_list('checkpoint', None, 'Runs, or checkpoints in them.')
  flags.DEFINE_list('slower', [], 'Speeds in m/s below which everybody drives as well.')
  flags.DEFINE_string('out', None, 'Folder for the reports.')
  flags.mark_flags_as_required(['checkpoint', 'out'])
  set_up_compilation()
  log_to_console()
  app.run(main)
