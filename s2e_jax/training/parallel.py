"""Data parallelism: the only file that knows pmap.

Every process holds its local devices; the axis 'devices' runs over all of them. Arrays on the devices have a
leading axis of local devices; what is the same everywhere is replicated along it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = 'devices'
# XLA compiles without the interpreter's lock, each program on little more than one core.
_COMPILERS = ThreadPoolExecutor(2, 'compiler')


def initialise_distributed() -> None:
  """Joins the other processes of a run; call before anything else touches JAX.

  JAX finds the cluster itself under SLURM, Open MPI and on TPU pods. Elsewhere the environment names it:
  JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Raises ValueError when only some of the
  three are set.
  """
  names = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
  values = {name: os.environ[name] for name in names if os.environ.get(name)}
  if not values:
    jax.distributed.initialize()
  elif len(values) < len(names):
    raise ValueError(f'{sorted(values)} are set; set all of {list(names)}, or none where JAX finds the cluster')
  else:
    address, num_processes, process_id = (values[name] for name in names)
    jax.distributed.initialize(address, int(num_processes), int(process_id))
  logging.info('process %d of %d', jax.process_index(), jax.process_count())


def check_divisible(name: str, value: int) -> int:
  """`value` divided by the number of all devices; ValueError with value, rule and remedy when it does not go."""
  num = jax.device_count()
  if value < 1 or value % num:
    below, above = value // num * num, -(-max(value, 1) // num) * num
    near = f'{below} or {above}' if below else f'{above}'
    raise ValueError(f'{name}={value} must be divisible by the {num} devices; use {near}')
  return value // num


def pmap(step: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
  """`step` on every device of every process, with axis 'devices'; arguments in `donate` are used up."""
  return jax.pmap(step, axis_name=AXIS, donate_argnums=donate)


def pmap_local(function: Callable[..., Any]) -> Callable[..., Any]:
  """`function` on the devices of this process alone: it may run a different number of times in each process."""
  return jax.pmap(function, devices=jax.local_devices())


def compiled_beside(pmapped: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], Any]:
  """(`pmapped` for arguments of these shapes, the shapes of what it returns), compiled while the caller goes on.

  arguments: device arrays with a leading device axis, or their shapes; they are not used up. The first call waits
  for the compilation, and raises what it raised. Of several processes: (`pmapped` as it is, None), since it makes
  arrays of all processes out of its arguments, which a program compiled ahead of its call does not.
  """
  if jax.process_count() > 1:
    return pmapped, None
  lowered = pmapped.lower(*arguments)  # type: ignore[attr-defined]
  compiled = _COMPILERS.submit(lowered.compile)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
  return lambda *given: compiled.result()(*given), shapes


def psum(tree: Any) -> Any:
  """Sum over all devices; only inside `pmap`."""
  return jax.lax.psum(tree, AXIS)


def pmean(tree: Any) -> Any:
  """Mean over all devices; only inside `pmap`."""
  return jax.lax.pmean(tree, AXIS)


def _placement() -> NamedSharding:
  """Leading axis over the local devices, as pmap places its own results: another would compile again."""
  return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))


def replicate(tree: Any) -> Any:
  """Host arrays -> the same on every local device, with a leading device axis."""
  num, place = jax.local_device_count(), _placement()
  return jax.tree.map(lambda x: jax.device_put(np.broadcast_to(x, (num, *np.shape(x))), place), tree)


def unreplicate(tree: Any) -> Any:
  """Replicated device arrays -> host numpy arrays of the first local device."""
  first = jax.tree.map(lambda x: x.addressable_shards[0].data, tree)
  for leaf in jax.tree.leaves(first):
    leaf.copy_to_host_async()
  return jax.tree.map(lambda x: np.asarray(x)[0], first)


def device_index() -> jax.Array:
  """Number [] of this device among all; only inside `pmap`."""
  return jax.lax.axis_index(AXIS)


def stack_local(trees: list[Any]) -> Any:
  """One tree per local device -> device arrays with a leading device axis."""
  return jax.device_put(jax.tree.map(lambda *x: np.stack([np.asarray(v) for v in x]), *trees), _placement())


def gather(tree: Any) -> Any:
  """Device arrays that differ from device to device -> host arrays of all devices of all processes."""
  host = jax.tree.map(np.asarray, tree)
  if jax.process_count() == 1:
    return host
  every = multihost_utils.process_allgather(host)
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), every)


def scatter(tree: Any) -> Any:
  """Inverse of `gather`: the part of this process on its local devices."""
  num = jax.local_device_count()
  first = jax.process_index() * num
  return jax.device_put(jax.tree.map(lambda x: x[first : first + num], tree), _placement())


def shard(batch: Any) -> Any:
  """Host arrays [B, ...] -> device arrays [local devices, B / local devices, ...]; returns before they arrive."""
  num = jax.local_device_count()

  def split(x: Any) -> Any:
    if x.shape[0] % num:
      raise ValueError(f'batch of {x.shape[0]} must be divisible by the {num} local devices')
    return x.reshape(num, x.shape[0] // num, *x.shape[1:])

  return jax.device_put(jax.tree.map(split, batch), _placement())


def fetch_async(tree: Any) -> Any:
  """Starts the copy of replicated arrays to the host, without waiting; `unreplicate` collects it."""
  for leaf in jax.tree.leaves(tree):
    leaf.addressable_shards[0].data.copy_to_host_async()
  return tree


def any_process(flag: bool) -> bool:
  """Whether `flag` is set in any process; a meeting point when there are several."""
  if jax.process_count() == 1:
    return flag
  return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def meet() -> None:
  """Returns when every process has come here."""
  any_process(False)


def sum_over_processes(tree: Any) -> Any:
  """Sum of host arrays over processes, in float64; a meeting point when there are several."""
  tree = jax.tree.map(lambda x: np.asarray(x, np.float64), tree)
  if jax.process_count() == 1:
    return tree
  # jax would round float64 to float32 on the way, bytes pass as they are
  every = multihost_utils.process_allgather(jax.tree.map(lambda x: np.atleast_1d(x).view(np.uint8), tree))
  shaped = jax.tree.map(lambda b, x: np.ascontiguousarray(b).view(np.float64).reshape(-1, *x.shape), every, tree)
  return jax.tree.map(lambda x: x.sum(axis=0), shaped)


def gather_bytes(data: bytes) -> list[bytes]:
  """`data` of every process, in order; a meeting point when there are several."""
  if jax.process_count() == 1:
    return [data]
  sizes = multihost_utils.process_allgather(np.asarray([len(data)], np.int32)).ravel()
  padded = np.zeros(int(sizes.max()), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)
  every = multihost_utils.process_allgather(padded)
  return [np.asarray(row[:size], np.uint8).tobytes() for row, size in zip(every, sizes, strict=True)]
