"""Contenders by name and by file, with their cameras and rates compared before anything is compiled."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from s2e_jax.closedloop.policies import (
  SHARES,
  Contender,
  DrivingPolicy,
  camera_policy,
  constant_arc,
  expert,
  goal_seeker,
)
from s2e_jax.closedloop.run import check_names
from s2e_jax.command_mixture import CommandMixture, mode_command
from s2e_jax.contracts import camera_contract, check_camera_contract, check_robot_contract
from s2e_jax.controller import CommandLimits
from s2e_jax.navbench.pieces import arrays_of
from s2e_jax.navbench.policies.one_shape import Model, in_one_shape
from s2e_jax.navbench.policies.onnx_contract import S2E_RELEASED, OnnxContract, check_contract_camera
from s2e_jax.navbench.policies.onnx_policy import onnx_policy
from s2e_jax.navbench.policies.reactive import ReactiveConfig, reactive
from s2e_jax.navbench.scene_folder import hash_of_arrays, hash_of_source
from s2e_jax.policy.config import PolicyConfig
from s2e_jax.robots import RobotDescription
from s2e_jax.structs import DT, Camera
from s2e_jax.training.restore import load_policy
from s2e_jax.training.rundir import BEST, CHECKPOINTS, is_run

NAMES = (*SHARES, 'constant_arc', 'reactive', 'expert', 'careful_expert')
_ARC = re.compile(r'constant_arc\((-?[\d.]+),\s*(-?[\d.]+)\)')


@dataclasses.dataclass(frozen=True)
class Lineup:
  """contenders: files first, then those by name. notes: allowed differences of cameras, rates and robots, and what
  could not be compared.
  models: of each file by name: path, model, step; of checkpoints method ('pretrained', or the variant of
    finetuning), seed and num_anchors, None where a file does not say.
  """

  contenders: list[Contender]
  models: dict[str, dict[str, Any]]
  notes: list[str]


def make_contenders(
  names: Sequence[str],
  checkpoints: Sequence[str | Path],
  robot: RobotDescription,
  *,
  cameras: Callable[[int, int], Iterable[Camera]] | None = None,
  which: str | int = 'best',
  lookahead: int = 2,
  rule: str = 'arc',
  nearest: int = 8,
  shadow: bool = True,
  careful: bool = False,
  reactive_config: ReactiveConfig | None = None,
  contracts: Mapping[str, OnnxContract] | None = None,
  allow_other_camera: bool = False,
  choose: Callable[[CommandMixture], jax.Array] = mode_command,
) -> Lineup:
  """The contenders of `names`, see `by_name`, and of files: checkpoints of ours, and *.onnx.

  checkpoints: runs' folders, or what is in them, named as `name_of` says; ONNX files, named after the file.
  cameras: of height and width, those that pictures will come from; None: the robot's own mount. which: see
  `restore.load_policy`. lookahead, rule: of F_d. nearest, shadow: of `RenderOptions`.
  contracts: of ONNX files, by their names; others are taken to be S2E_RELEASED. choose: see `camera_policy`.
  Checkpoints of one shape share a program, see `in_one_shape`. Raises ValueError for unknown or equal names, a
  missing file, and for a camera or rate that is not the one trained with, unless allow_other_camera.
  """
  shown = cameras if cameras is not None else lambda height, width: [robot.mount.camera(height, width)]
  limits = CommandLimits.of(robot)
  others = by_name(names, robot, lookahead, rule, careful, reactive_config)
  labels = [name_of(path) for path in checkpoints]
  check_names([*labels, *(c.name for c in others)])
  unused = sorted(set(contracts or {}) - {n for n, p in zip(labels, checkpoints, strict=True) if is_onnx(p)})
  if unused:
    raise ValueError(f'contracts of {unused} belong to no ONNX file; the files are {labels}')
  ours: dict[str, Model] = {}
  identities: dict[str, str] = {}
  files: dict[str, Contender] = {}
  lineup = Lineup([], {}, [])

  def compare(name: str, size: tuple[int, int, int], check: Callable[..., list[str]]) -> None:
    """size: height, width, frames. check: of (given contract, whether differences are allowed)."""
    given = camera_contract(*size, 1 / DT, shown(size[0], size[1]))
    try:
      lines = check(given, allow_other_camera)
    except ValueError as error:
      raise ValueError(f'{name} cannot drive the robot {robot.name!r}: {error}') from error
    lineup.notes.extend(f'{name} was trained with another camera: {line}.' for line in lines)

  for name, path in zip(labels, checkpoints, strict=True):
    if is_onnx(path):
      contract = (contracts or {}).get(name, S2E_RELEASED)
      size = contract.height, contract.width, contract.num_history
      compare(name, size, functools.partial(check_contract_camera, contract))
      if contract.camera is None:
        lineup.notes.append(f'The camera that {name} was trained with is not known, and was not compared.')
      model = onnx_policy(path, contract, limits, lookahead, rule, nearest, shadow)
      own = [hash_of_source(Path(path)), contract, limits, lookahead, rule, nearest, shadow]
      files[name] = Contender(name, model, None, identity_of('onnx', *own))
      lineup.models[name] = {'path': str(path), 'model': contract.name, 'step': None}
      continue
    policy, variables, description = load_policy(path, which)
    c = policy.config
    size = c.image_height, c.image_width, c.num_history
    compare(name, size, functools.partial(check_camera_contract, description['camera_contract']))
    ours[name] = c, variables
    own = [hash_of_arrays(arrays_of(variables)), c, limits, lookahead, rule, nearest, shadow, choose.__qualname__]
    identities[name] = identity_of('checkpoint', *own)
    lineup.models[name] = {'path': str(path), 'model': c.name, **_provenance(description, c)}
    finetuned_on = description.get('finetuned', {}).get('robot')
    if finetuned_on:  # other robots may well be driven, but whoever reads the table has to know
      lines = check_robot_contract(finetuned_on, dataclasses.asdict(robot), allow=True)
      lineup.notes.extend(f'{name} was finetuned on another robot: {line}.' for line in lines)
  policies: dict[PolicyConfig, DrivingPolicy] = {}
  for name, (shape, params) in zip(ours, in_one_shape(list(ours.values())), strict=True):
    if shape not in policies:
      policies[shape] = camera_policy(shape, limits, lookahead, rule, nearest, shadow, choose=choose)
    files[name] = Contender(name, policies[shape], params, identities[name])
  lineup.contenders.extend([*(files[name] for name in labels), *others])
  return lineup


def by_name(
  names: Sequence[str],
  robot: RobotDescription,
  lookahead: int = 2,
  rule: str = 'arc',
  careful: bool = False,
  reactive_config: ReactiveConfig | None = None,
) -> list[Contender]:
  """The contenders of NAMES; 'constant_arc(0.5,0.2)' drives that (m/s, rad/s), without numbers half speed ahead.

  careful: 'expert' drives like 'careful_expert'. Raises ValueError for other names, listing NAMES.
  """
  unknown = [name for name in names if name not in NAMES and not _ARC.fullmatch(name)]
  if unknown:
    raise ValueError(f'baselines={unknown} are unknown: choose from {NAMES}')
  seeker, arc = goal_seeker(CommandLimits.of(robot), lookahead, rule), constant_arc()
  found = []
  for name in names:
    policy, params = seeker, None
    if name in SHARES:
      params = jnp.float32(SHARES[name])
    elif name == 'reactive':
      policy = reactive(robot, reactive_config)
    elif name.startswith('constant_arc'):
      policy, params = arc, arc_params(name, robot)
    else:
      policy, params = expert(robot, careful or name == 'careful_expert'), jnp.zeros(())
    own = [robot, lookahead, rule, careful, reactive_config]
    found.append(Contender(name, policy, params, identity_of(name, *own)))
  return found


def identity_of(*parts: Any) -> str:
  """Of a contender: plain records and strings that say all that it does depends on."""
  return ' '.join(map(repr, parts))


def arc_params(name: str, robot: RobotDescription) -> jax.Array:
  """Command [2] (m/s, rad/s) of 'constant_arc' or 'constant_arc(v,w)'; ValueError beyond the robot's limits."""
  given = _ARC.fullmatch(name)
  v, w = (float(x) for x in given.groups()) if given else (robot.max_speed / 2, 0.0)
  if not (robot.min_speed <= v <= robot.max_speed and abs(w) <= robot.max_yaw_rate):
    raise ValueError(
      f'{name}: {robot.name} drives {robot.min_speed:g} to {robot.max_speed:g} m/s and turns up to '
      f'{robot.max_yaw_rate:g} rad/s; use numbers within these'
    )
  return jnp.array([v, w], jnp.float32)


def _provenance(description: Mapping[str, Any], config: PolicyConfig) -> dict[str, Any]:
  """What a checkpoint says of how it was made; see Lineup."""
  method = description.get('finetuned', {}).get('variant') or ('pretrained' if 'kind' in description else None)
  seed = description.get('config', {}).get('seed')
  return {'step': description.get('step'), 'method': method, 'seed': seed, 'num_anchors': config.num_anchors}


def is_onnx(path: str | Path) -> bool:
  """Whether the name is that of an ONNX file."""
  return Path(path).suffix.lower() == '.onnx'


def name_of(path: str | Path) -> str:
  """The file's name of an ONNX file; the run's folder's of a run, one of its folders, or one checkpoint.

  Runs of a sweep, which are numbered, are named after its folder too: sweep/003 is sweep_003.
  """
  path = Path(path).absolute()
  if is_onnx(path):
    return path.stem
  while path.name in (BEST, CHECKPOINTS) or (path.name.isdigit() and not is_run(path)):
    path = path.parent
  return f'{path.parent.name}_{path.name}' if path.name.isdigit() else path.name
