"""Checkpoints brought to one shape where that changes nothing of what they do: so they share a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.residual import add_residual

Model = tuple[PolicyConfig, Mapping[str, Any]]


def in_one_shape(models: Sequence[Model]) -> list[Model]:
  """Configs and variables of policies as they drive: without heads that only served training, and with residual
  branches that add zero where others of the same kind have trained ones. Their outputs keep every bit.
  """
  driving = [_without_clearance(*model) for model in models]
  residual: dict[PolicyConfig, set[str]] = {}
  for config, _ in driving:
    residual.setdefault(_plain(config), set()).add(config.ram_input)
  found: list[Model] = []
  for config, variables in driving:
    others = residual[_plain(config)] - {'none'}
    if config.ram_input == 'none' and len(others) == 1:
      config = dataclasses.replace(config, ram_input=others.pop())
      variables = {**variables, 'params': add_residual(variables['params'], config)}
    found.append((config, variables))
  return found


def _plain(config: PolicyConfig) -> PolicyConfig:
  return dataclasses.replace(config, ram_input='none')


def _without_clearance(config: PolicyConfig, variables: Mapping[str, Any]) -> Model:
  params = {name: leaves for name, leaves in variables['params'].items() if name != 'clearance'}
  return dataclasses.replace(config, clearance_head=False), {**variables, 'params': params}
