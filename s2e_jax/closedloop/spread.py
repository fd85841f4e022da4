"""Episodes over devices: every device drives its share in a loop of its own, which waits for no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = 'episodes'


def mesh_of(num_devices: int) -> Mesh:
  """The first local devices in a row. Raises ValueError when there are fewer, or none are asked for."""
  devices = jax.local_devices()
  if not 1 <= num_devices <= len(devices):
    raise ValueError(
      f'num_devices={num_devices} must be 1..{len(devices)}: this process has {len(devices)} devices'
    )
  return Mesh(np.array(devices[:num_devices]), (_AXIS,))


def over_devices(drive: Callable[..., Any], num_devices: int) -> Callable[..., Any]:
  """`drive(params, episodes, scenery=None, legs=None)` of `episodes.make_drive`, each device with B / num_devices
  episodes and legs; not yet jitted. Raises ValueError when it is traced for a B that does not divide.
  """
  each, all_of_it = PartitionSpec(_AXIS), PartitionSpec()
  shared = jax.shard_map(
    drive,
    mesh=mesh_of(num_devices),
    in_specs=(all_of_it, each, all_of_it, each),
    out_specs=each,
    check_vma=False,
  )

  def driven(params: Any, episodes: Any, scenery: Any = None, legs: Any = None) -> Any:
    return shared(params, episodes, scenery, legs)

  return driven


def on_devices(tree: Any, num_devices: int) -> Any:
  """Parameters or scenery, copied to every device that will read them; what stays on one is left where it is."""
  if num_devices == 1:
    return tree
  return jax.device_put(tree, NamedSharding(mesh_of(num_devices), PartitionSpec()))


def filled(num: int, num_devices: int) -> int:
  """The smallest number of episodes from `num` on that devices can share evenly."""
  return -(-num // num_devices) * num_devices
