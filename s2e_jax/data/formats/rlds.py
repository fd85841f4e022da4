"""RLDS datasets of TFDS: berkeley_gnm_recon, berkeley_gnm_cory_hall and berkeley_gnm_sac_son.

Read without TensorFlow from a prepared ArrayRecord folder. Poses come from observation/position and
observation/yaw; `action` (next waypoint in the robot frame divided by the dataset's spacing) only cross-checks
them. They have no time stamps: 4 Hz by convention, `is_rate_assumed`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from s2e_jax import geometry
from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.data.formats import base, recon
from s2e_jax.data.formats.options import Options

OPTIONS = frozenset({'nominal_rate', 'split'})
NOMINAL_RATE = 4.0
# Metres per unit of `action`, as published with visualnav-transformer.
SPACING = {'berkeley_gnm_recon': 0.25, 'berkeley_gnm_cory_hall': 0.06, 'berkeley_gnm_sac_son': 0.255}


def _builder(src: Path) -> Any:
  """The prepared builder in `src` or its only version folder; ValueError says how to get one."""
  folders = (
    [src] if (src / 'dataset_info.json').is_file() else sorted(p.parent for p in src.rglob('dataset_info.json'))
  )
  if len(folders) != 1:
    found = [str(f) for f in folders[:5]] or 'none'
    raise ValueError(f'--src={src} must be one prepared TFDS folder (with dataset_info.json); found {found}')
  builder = tfds.builder_from_directory(str(folders[0]))
  if builder.info.file_format is None or builder.info.file_format.value != 'array_record':
    kind = builder.info.file_format.value if builder.info.file_format else 'no'
    raise ValueError(
      f'{folders[0]} holds {kind} files, which only TensorFlow can read. Convert them once to ArrayRecord: '
      "pip install 's2e_jax[tf]' && python -m tensorflow_datasets.scripts.convert_format "
      f'--dataset_dir={folders[0]} --out_file_format=array_record --out_dir=NEW_FOLDER && then --src=NEW_FOLDER'
    )
  return builder


def _image_undecoded(features: Any) -> dict[str, Any]:
  """Decoders that leave the encoded picture as it is; ValueError unless the features are those published."""
  try:
    observation = features['steps'].feature['observation']
    missing = [name for name in ('image', 'position', 'yaw') if name not in observation]
  except (KeyError, AttributeError, TypeError):
    missing = ['steps/observation']
  if missing:
    raise ValueError(f'features lack {missing}: expected steps/observation with image, position and yaw')
  return {'steps': {'observation': {'image': tfds.decode.SkipDecoding()}}}


def find(src: Path, options: Options) -> list[base.Item]:
  """One item per episode of --split (by default all splits)."""
  builder = _builder(src)
  decoders = _image_undecoded(builder.info.features)
  splits = [options.split] if options.split else sorted(builder.info.splits)
  items = []
  for split in splits:
    if split not in builder.info.splits:
      raise ValueError(f'--split={split!r} must be one of {sorted(builder.info.splits)}')
    episodes = builder.as_data_source(split=split, decoders=decoders)
    for i in range(len(episodes)):
      item_id = f'{base.safe_id(builder.name)}/{base.safe_id(split)}-{i:06d}'
      load = functools.partial(_load, episodes, i, item_id, builder.name, options)
      items.append(base.Item(item_id, f'{src} {split}[{i}]', load))
  return items


def count_action_agreement(
  position: np.ndarray, yaw: np.ndarray, action: np.ndarray, spacing: float
) -> tuple[int, int]:
  """(agreeing, disagreeing) steps: `action` [T, 2] times `spacing` against the next position in the robot frame.

  Agreement: within 0.02 m plus 10 % of the step. The last step and steps that are not finite do not count.
  """
  step = geometry.to_robot_frame(position[1:], position[:-1], yaw[:-1])
  error = np.linalg.norm(action[:-1] * spacing - step, axis=1)
  finite = np.isfinite(error)
  agrees = error[finite] <= 0.02 + 0.1 * np.linalg.norm(step[finite], axis=1)
  return int(agrees.sum()), int((~agrees).sum())


def _load(
  episodes: Any, index: int, item_id: str, name: str, options: Options, tally: base.Tally
) -> Sequence[Clip]:
  images: list[bytes] = []
  positions, yaws, actions = [], [], []
  for step in episodes[index]['steps']:
    observation = step['observation']
    image = observation['image']
    images.append(image if isinstance(image, bytes) else bytes(image))
    positions.append(np.asarray(observation['position'], np.float64)[:2])
    yaws.append(float(np.asarray(observation['yaw'], np.float64).reshape(-1)[0]))
    actions.append(np.asarray(step.get('action', (np.nan, np.nan)), np.float64)[:2])
  if not images:
    raise ClipError('empty', f'{item_id} has no steps')
  position, yaw = np.stack(positions), np.array(yaws)
  if name in SPACING and len(images) > 1:
    agrees, differs = count_action_agreement(position, yaw, np.stack(actions), SPACING[name])
    tally.note('steps_where_action_agrees_with_poses', agrees)
    tally.note('steps_where_action_differs_from_poses', differs, item_id)

  def read(indices: np.ndarray) -> Iterator[base.FrameContent]:
    for i in indices:
      yield images[int(i)]

  track = base.Track(
    item_id,
    base.nominal_stamps(len(images), options, NOMINAL_RATE),
    position,
    yaw,
    read,
    source=name,
    is_rate_assumed=True,
    camera=recon.CAMERA if name == 'berkeley_gnm_recon' else None,
    embodiment='wheeled' if name in SPACING else 'unknown',
    footprint=recon.JACKAL if name == 'berkeley_gnm_recon' else options.robot_footprint(),
  )
  return base.clips_of(track, options, tally)
