"""Draws success by look and task of chosen policies, by names of one's own, from results.json files of this study.

Run: python -m experiments.rivals.picture --results=A/results.json,B/results.json --out=success.png \\
         --policies='bc=BC,ram=PPO through the branches'
A file may hold its cells at the top or in sections. Who stands in several is taken from the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from experiments.rivals import compare

Cells = dict[str, dict[str, Any]]  # cell -> policy -> its figures


def cells_of(path: Path) -> Iterator[Cells]:
  """Cells of a results.json, those at its top first.

  Raises ValueError for a file that is missing, not JSON, or has none.
  """
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f'--results: {str(path)!r} cannot be read as JSON: {error}') from error
  sections = [found, *found.values()] if isinstance(found, dict) else []
  cells = [section['cells'] for section in sections if isinstance(section, dict) and 'cells' in section]
  if not cells:
    raise ValueError(f'--results: {str(path)!r} has no cells: give what experiments.rivals has written')
  yield from cells


def parse_names(policies: Sequence[str]) -> dict[str, str]:
  """{policy: name to show} of 'policy=name' or 'policy'. ValueError where a policy or a name comes twice."""
  pairs = [(policy, name or policy) for policy, _, name in (words.partition('=') for words in policies)]
  names = dict(pairs)
  if not pairs or len(names) < len(pairs) or len(set(names.values())) < len(pairs):
    raise ValueError(f'--policies={list(policies)} must name at least one, each once, by names of their own')
  return names


def choose(sources: Sequence[Cells], names: Mapping[str, str]) -> Cells:
  """The cells of those policies alone, by their new names and in their order.

  Raises ValueError for policies that are in no source.
  """
  own = {
    policy: next((s for s in sources if any(policy in cell for cell in s.values())), None) for policy in names
  }
  if missing := [policy for policy, source in own.items() if source is None]:
    known = sorted({policy for source in sources for cell in source.values() for policy in cell})
    raise ValueError(f'--policies: {missing} are in none of --results; there are {known}')
  found: Cells = {}
  for policy, source in own.items():
    for cell, policies in (source or {}).items():
      if policy in policies:
        found.setdefault(cell, {})[names[policy]] = policies[policy]
  return found


def main(argv: list[str]) -> None:
  """Reads and draws."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments {argv[1:]}')
  given = flags.FLAGS
  names = parse_names(given.policies)
  cells = choose([cells for path in given.results for cells in cells_of(Path(path))], names)
  compare.plot({'reference': next(iter(names.values())), 'cells': cells}, Path(given.out))


if __name__ == '__main__':
  flags.DEFINE_list('results', None, 'Files of results, the first that has a policy counts.', required=True)
  flags.DEFINE_list('policies', None, 'POLICY=NAME TO SHOW, in this order.', required=True)
  flags.DEFINE_string('out', None, 'PNG file.', required=True)
  app.run(main)
