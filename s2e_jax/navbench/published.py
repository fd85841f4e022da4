"""What the paper S2E (arXiv:2507.22028) reports on its NavBench-GS: to stand beside our tables, never in them."""

from __future__ import annotations

from typing import Any

NOT_COMPARABLE = (
  'NOT COMPARABLE with the figures above. The paper did not release its environments, episodes, pedestrians or '
  'rules of judging: its figures come from other scenes, other starts and goals and another simulator. Its two '
  'versions do not agree with each other either. They are printed so that orders of magnitude and rankings can '
  'be looked at.'
)
PUBLISHED_TASKS = ('empty', 'obstacle', 'pedestrian', 'both')

# method -> (hours of data, (SR, RC, CT) by PUBLISHED_TASKS)
V1: dict[str, tuple[float, tuple[tuple[float, float, float], ...]]] = {
  'GNM': (70, ((0.23, 0.51, 0.72), (0.16, 0.49, 0.90), (0.09, 0.53, 1.28), (0.07, 0.44, 2.31))),
  'ViNT': (80, ((0.28, 0.51, 0.60), (0.13, 0.46, 1.21), (0.07, 0.48, 1.22), (0.08, 0.39, 1.99))),
  'NoMaD': (100, ((0.15, 0.46, 0.35), (0.11, 0.44, 0.89), (0.09, 0.48, 0.68), (0.08, 0.42, 1.83))),
  'ViNT retrained': (35, ((0.80, 0.81, 0.49), (0.61, 0.78, 1.18), (0.28, 0.71, 2.17), (0.03, 0.33, 4.84))),
  'NoMaD retrained': (35, ((0.06, 0.36, 0.58), (0.04, 0.33, 0.93), (0.02, 0.32, 0.73), (0.02, 0.24, 2.08))),
  'MBRA': (700, ((0.61, 0.75, 0.35), (0.46, 0.63, 0.50), (0.32, 0.66, 0.79), (0.24, 0.61, 1.61))),
  'CityWalker': (2000, ((0.66, 0.72, 0.42), (0.57, 0.69, 0.83), (0.39, 0.73, 1.20), (0.32, 0.60, 2.08))),
  'S2E-BC': (35, ((0.87, 0.91, 0.25), (0.55, 0.70, 1.22), (0.54, 0.80, 0.71), (0.38, 0.64, 2.73))),
  'S2E-PPO': (35, ((0.05, 0.12, 1.73), (0.02, 0.10, 2.37), (0.04, 0.12, 1.94), (0.01, 0.08, 4.94))),
  'S2E-SFT': (35, ((0.81, 0.85, 0.36), (0.71, 0.77, 0.69), (0.55, 0.86, 0.61), (0.50, 0.72, 2.03))),
  'S2E-Full': (35, ((0.83, 0.87, 0.39), (0.76, 0.81, 0.56), (0.57, 0.89, 0.58), (0.55, 0.75, 1.81))),
}
# method -> SR by PUBLISHED_TASKS
V2: dict[str, tuple[float, ...]] = {
  'S2E': (0.82, 0.57, 0.74, 0.51),
  'CityWalker, the same 100 h': (0.67, 0.52, 0.63, 0.47),
}


def published() -> dict[str, Any]:
  """JSON-able form: {'note', 'source', 'v1': {method: {'hours', task: {'sr', 'rc', 'ct'}}}, 'v2': {method: {task:
  {'sr'}}}}."""
  v1 = {
    name: {'hours': hours}
    | {
      task: dict(zip(('sr', 'rc', 'ct'), cells, strict=True))
      for task, cells in zip(PUBLISHED_TASKS, rows, strict=True)
    }
    for name, (hours, rows) in V1.items()
  }
  v2 = {
    name: {task: {'sr': sr} for task, sr in zip(PUBLISHED_TASKS, rows, strict=True)} for name, rows in V2.items()
  }
  return {'source': 'arXiv:2507.22028, v1 and v2', 'note': NOT_COMPARABLE, 'v1': v1, 'v2': v2}
