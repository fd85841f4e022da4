"""Regex rules over parameter trees: every parameter matches exactly one rule, or an error lists the paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax


def path_of(key_path: Sequence[Any]) -> str:
  """'a/b/c' of a `jax.tree_util` key path."""
  return jax.tree_util.keystr(tuple(key_path), simple=True, separator='/')


def paths(tree: Any) -> list[str]:
  """Paths of all leaves of `tree`, in leaf order."""
  return [path_of(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]


def label_tree(tree: Any, rules: Sequence[tuple[str, str]], first_match: bool = False) -> Any:
  """Tree of labels: each leaf gets the label of the one rule whose regex fully matches its path.

  rules: (regex, label) pairs, matched with `re.fullmatch` against 'a/b/c'.
  first_match: let earlier rules win; otherwise a leaf that matches two rules is an error.
  Raises ValueError when a leaf matches no rule, when it matches several (unless first_match), or when a rule
  matches no leaf at all; the message lists the paths.
  """
  compiled = [(re.compile(pattern), label) for pattern, label in rules]
  hits: dict[str, list[int]] = {}
  for path in paths(tree):
    found = [i for i, (regex, _) in enumerate(compiled) if regex.fullmatch(path)]
    hits[path] = found[:1] if first_match else found
  unmatched = [p for p, found in hits.items() if not found]
  if unmatched:
    raise ValueError(f'parameters matched by no rule: {unmatched}; add a rule for them to {list(rules)}')
  ambiguous = [(p, [rules[i][0] for i in found]) for p, found in hits.items() if len(found) > 1]
  if ambiguous:
    raise ValueError(f'parameters matched by more than one rule: {ambiguous}; make the patterns disjoint')
  used = {i for found in hits.values() for i in found}
  idle = [rules[i][0] for i in range(len(rules)) if i not in used]
  if idle:
    raise ValueError(f'rules that match nothing: {idle}; parameters are {sorted(hits)}')
  return jax.tree_util.tree_map_with_path(lambda p, _: rules[hits[path_of(p)][0]][1], tree)


def mask_of(labels: Any, wanted: Iterable[str]) -> Any:
  """Tree of bools: True where the label is one of `wanted` (the mask form that optax takes)."""
  wanted = frozenset(wanted)
  return jax.tree.map(lambda label: label in wanted, labels)


def count_parameters(tree: Any) -> int:
  """Number of scalars in all leaves of `tree`."""
  return sum(int(leaf.size) for leaf in jax.tree.leaves(tree))
