"""Films of judged episodes: what the robot saw, above the map it drove on. Runs on the host."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from s2e_jax.closedloop.metrics import CLASSES
from s2e_jax.navbench.report_cells import Cell, Figures, PolicyCard, methods_of
from s2e_jax.navbench.report_pictures import (
  Ink,
  Plan,
  draw_contacts,
  draw_line,
  draw_people,
  draw_plan_of_episode,
  draw_robot,
  ground_in,
  shrunk,
  window_over,
)
from s2e_jax.sim.film import require_pyav, write_mp4
from s2e_jax.structs import DT

See = Callable[[Cell, str, int], np.ndarray]  # (cell, policy, row) -> [T, h, w, 3] uint8
SPEED_UP = 2  # films run so much faster than the robot
_WIDTH, _STRIP = 400, 24  # pixels
_MAP_ASPECT = 0.7
_OVER_LINE = 6  # drawing pixels of the way driven
_PAPER, _INK, _CONTACT = (250, 249, 246), (34, 36, 40), (200, 20, 20)
_MOST_FILMED = 4  # policies that are filmed unless others are named


@dataclasses.dataclass(frozen=True)
class Film:
  """One film. rank: 'best', 'median' or 'worst' of the policy's episodes. account: how it ended. picture:
  [h, w, 3] uint8, to show before it plays."""

  policy: str
  rank: str
  title: str
  account: str
  mp4: bytes
  picture: np.ndarray


def filmed(policies: Mapping[str, PolicyCard], chosen: Sequence[str]) -> list[str]:
  """Policies to film: the chosen ones, or the first of each of the first methods; ValueError for unknown names."""
  unknown = [name for name in chosen if name not in policies]
  if unknown:
    raise ValueError(f'film={unknown} are no policies: choose from {list(policies)}')
  return list(chosen) or [names[0] for names in methods_of(policies).values()][:_MOST_FILMED]


def telling_episodes(
  cells: Sequence[Cell], figures: Sequence[Mapping[str, Figures]], policy: str
) -> dict[str, tuple[int, int]]:
  """(cell, row) of a policy's 'best', 'median' and 'worst' episode of all cells, by RC and then SPL; fewer where
  there are fewer episodes."""
  rows = [(c, b) for c, cell in enumerate(cells) for b in range(len(cell.planned))]
  column = lambda key: np.concatenate([f[policy][key] for f in figures])
  order = np.lexsort((column('spl'), column('rc')))
  ranks = {'best': order[-1], 'median': order[len(order) // 2], 'worst': order[0]}
  found: dict[str, tuple[int, int]] = {}
  for rank, row in ranks.items():
    if rows[row] not in found.values():
      found[rank] = rows[row]
  return found


def films_of(
  cells: Sequence[Cell],
  figures: Sequence[Mapping[str, Figures]],
  names: Sequence[str],
  plans: Mapping[str, Plan],
  inks: Mapping[str, Ink],
  see: See,
) -> list[Film]:
  """Three films per policy of `names`. Raises ValueError without PyAV, or where `see` gives no pictures."""
  require_pyav()
  films = []
  for name in names:
    for rank, (c, b) in telling_episodes(cells, figures, name).items():
      cell = cells[c]
      seen = np.asarray(see(cell, name, b))
      if seen.ndim != 4 or not len(seen) or seen.shape[-1] != 3 or seen.dtype != np.uint8:
        raise ValueError(
          f'see gave {seen.dtype} {seen.shape} for {cell.title}, {name}, row {b}: films need [T, h, w, 3] '
          'uint8, T > 0'
        )
      frames = list(film_frames(cell, name, b, plans[cell.scene], inks[name], seen))
      title = f'{cell.title}, episode {b}'
      films.append(Film(name, rank, title, account(figures[c][name], b), mp4(frames), frames[len(frames) // 2]))
  return films


def account(figures: Figures, b: int) -> str:
  """How episode b went, in a line."""
  end = CLASSES[int(figures['failure'][b])].replace('_', ' ')
  share = f'RC {figures["rc"][b]:.2f}, SPL {figures["spl"][b]:.2f}'
  return f'{end}, {share}, {figures["contacts"][b]:.0f} contacts, {figures["seconds"][b]:.1f} s'


def film_frames(cell: Cell, policy: str, b: int, plan: Plan, ink: Ink, seen: np.ndarray) -> Iterator[np.ndarray]:
  """One frame [h, w, 3] uint8 of even size per picture seen [T, h, w, 3]; picture t is of moment t."""
  traces, planned = cell.judged.traces[policy], cell.planned[b]
  end = int(traces.num_steps[b])
  position, people = np.asarray(traces.position[b, : end + 1], float), np.asarray(traces.people[b], float)
  contact, is_person = np.asarray(traces.contact[b, :end], bool), np.asarray(traces.is_person[b])
  window = window_over(np.concatenate([np.array([*planned.way, *planned.goals]), position]), _WIDTH, _MAP_ASPECT)
  ground = ground_in(plan, window)
  draw_plan_of_episode(ground, window, planned)
  height = round(_WIDTH * seen.shape[1] / seen.shape[2] / 2) * 2
  enlarged = cv2.INTER_AREA if seen.shape[2] >= _WIDTH else cv2.INTER_CUBIC
  for t, camera in enumerate(seen):
    n = min(t, end)
    below = ground.copy()
    draw_people(below, window, people[: n + 1], is_person)
    draw_line(below, window, position[: n + 1], ink.rgb, _OVER_LINE)
    draw_contacts(below, window, position[: n + 1], contact[:n])
    draw_robot(below, window, position[n], float(traces.yaw[b, n]), cell.prepared.maps.robot_radius, ink.rgb)
    touches = n > 0 and bool(contact[n - 1])
    strip = np.full((_STRIP, _WIDTH, 3), _PAPER, np.uint8)
    text = f'{n * DT:5.2f} s   {float(traces.speed[b, n]):.2f} m/s' + ('   CONTACT' if touches else '')
    ink_of_text = _CONTACT if touches else _INK
    cv2.putText(strip, text, (8, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink_of_text, 1, cv2.LINE_AA)
    top = cv2.resize(camera, (_WIDTH, height), interpolation=enlarged)
    yield np.concatenate([top, strip, shrunk(below)], axis=0)


def mp4(frames: Sequence[np.ndarray]) -> bytes:
  """An H.264 film of equal frames [h, w, 3] uint8 of even size."""
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'film.mp4'
    write_mp4(path, frames, SPEED_UP / DT)
    return path.read_bytes()
