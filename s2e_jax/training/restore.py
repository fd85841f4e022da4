"""A trained policy back from disk: rebuilt from the checkpoint's own description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from s2e_jax.policy.config import PolicyConfig
from s2e_jax.policy.policy import Policy, example_observation
from s2e_jax.store.checkpoint import CheckpointStore, MismatchError, fit, whole_steps
from s2e_jax.training import rundir
from s2e_jax.training.checkpoints import POLICY


def load_policy(path: str | Path, which: str | int = 'best') -> tuple[Policy, dict[str, Any], dict[str, Any]]:
  """(policy, variables, description) of a checkpoint; `policy.apply(variables, obs)` gives its mixture.

  path: a run's folder; a folder of checkpoints in it (`best`, `checkpoints`); or one checkpoint. All stay as is.
  which: 'best' (lowest validation figure), 'latest' or a step, of a run's folder or a folder of checkpoints;
    ignored for one checkpoint.
  variables hold the moving average of the parameters if the run kept one. description: see
  `training.startup.prepare`; its 'step' says which checkpoint it is.
  Raises ValueError when there is no such checkpoint, MismatchError when its arrays are not those of the policy
  that its description names.
  """
  folder, step = _find(Path(path), which)
  store = CheckpointStore(folder, read_only=True)
  where = f'checkpoint {folder / str(step)}'
  description = store.description(step)
  try:
    policy = Policy(PolicyConfig.from_dict(description['policy']))
  except (KeyError, TypeError) as error:
    raise MismatchError(
      f'{where} was written by another version, commit {(description.get("git") or {}).get("commit")}: {error}'
    ) from error
  like = jax.eval_shape(policy.init, jax.random.key(0), example_observation(policy.config))
  variables = fit(
    store.load(step, POLICY)[POLICY], dict(like), f'{where}, which says it is {policy.config.name!r},'
  )
  store.close()
  return policy, jax.tree.map(jax.numpy.asarray, variables), description


def _find(path: Path, which: str | int) -> tuple[Path, int]:
  """Folder of checkpoints and step meant by `path` and `which`."""
  is_run = rundir.is_run(path)
  if path.name.isdigit() and not is_run and int(path.name) in whole_steps(path.parent):
    return path.parent, int(path.name)
  if isinstance(which, str) and which.isdigit():
    which = int(which)
  if which not in ('best', 'latest') and not isinstance(which, int):
    raise ValueError(f"which={which!r} must be 'best', 'latest' or a step")
  if not path.is_dir():
    raise ValueError(f'checkpoint path {path} does not exist')
  in_run = {'best': [rundir.BEST], 'latest': [rundir.CHECKPOINTS]}.get(
    str(which), [rundir.BEST, rundir.CHECKPOINTS]
  )
  folders = [path / name for name in in_run] if is_run else [path]
  steps = {folder: whole_steps(folder) for folder in folders}
  for folder, found in steps.items():
    if isinstance(which, int) and which in found:
      return folder, which
    if not isinstance(which, int) and found:
      store = CheckpointStore(folder, read_only=True)
      step = store.best() if which == 'best' else store.latest()
      store.close()
      assert step is not None
      return folder, step
  listed = ', '.join(f'{folder}: steps {found}' for folder, found in steps.items())
  raise ValueError(f'no checkpoint {which!r} in {path} ({listed}); train first, or name another folder or step')
