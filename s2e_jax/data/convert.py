"""Converts foreign navigation data to the internal dataset.

Run: python -m s2e_jax.data.convert --from=gnm --src=FOLDER --dst=datasets/NAME
Formats: gnm (GNM, ViNT, NoMaD folders), rlds (TFDS), video (mp4 + pose text), kitti (images + 3x4 poses), lerobot
(v3, v2), recon (HDF5). Killed or interrupted, the same command goes on where it stopped. What cannot be used is
left out and counted by reason, in the table at the end and in DST/conversion.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import shutil
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from s2e_jax.data import staging
from s2e_jax.data.clips import ClipError, Skip
from s2e_jax.data.formats import base
from s2e_jax.data.formats.options import Options
from s2e_jax.data.records import SPLITS
from s2e_jax.data.writer import SUMMARY_FILE, DatasetWriter, Summary

_HELP = {
  'source': 'name of the dataset, stored with every clip (default: what the format states or the folder name)',
  'licence': 'its licence, stored with every clip',
  'embodiment': 'wheeled, quadruped, car, handheld, ...',
  'rate': 'Hz; frames nearest to this grid are kept, 0 keeps all',
  'nominal_rate': 'Hz of sources without time stamps (default 4; kitti 10); marked as assumed',
  'height': 'pixels; frames are resized (one of the two keeps the shape)',
  'width': 'pixels',
  'min_seconds': 'shorter clips are skipped: 5 history frames and 10 waypoints at 4 Hz need 3.5 s',
  'max_gap': 's; a recording is cut where kept frames are further apart',
  'camera': 'camera.json, or fx,fy,cx,cy[,width,height] in pixels of the source images',
  'camera_height': 'm above the ground',
  'camera_forward': 'm ahead of the robot origin',
  'camera_pitch': 'radians, positive looks down',
  'hfov': 'horizontal field of view (radians) that is assumed without intrinsics',
  'footprint': 'LENGTHxWIDTH of the robot in metres',
  'scale': 'metres per unit of the source positions; makes the clips metric',
  'is_metric': 'true or false: whether positions are metres (default: what the format states)',
  'splits_dir': 'gnm: folder data_splits/SET with {train,test}/traj_names.txt',
  'images': 'kitti: name of the image folder',
  'poses': 'video, kitti: pose file, or folder of pose files named like the recordings',
  'plane': 'video: ground plane of the poses, xy (z up) or xz (camera axes, scale unknown)',
  'forward_axis': 'video: body axis that looks ahead, x or z (default x in the plane xy, z in xz)',
  'time_offset': "video: seconds added to the pose stamps, or 'start' (first pose = first frame)",
  'video_key': 'lerobot: camera feature',
  'pose_keys': 'lerobot: FEATURE:X,FEATURE:Y,FEATURE:YAW (names or indices)',
  'yaw_unit': 'lerobot: rad, deg, compass_rad or compass_deg (clockwise from north)',
  'split': 'rlds: published split to read (default: all)',
}
# Options of some formats only: giving one to another format is an error, not silently without effect.
_OF_SOME_FORMATS = frozenset(
  {'splits_dir', 'nominal_rate', 'images', 'poses', 'plane', 'forward_axis', 'time_offset', 'video_key'}
  | {'pose_keys', 'yaw_unit', 'split'}
)
_CONTENT_KEYS = ('dropped_frames', 'notes', 'examples')


def parse_splits(text: str) -> dict[str, float]:
  """'train:0.8,val:0.1,test:0.1' as shares; ValueError on unknown names or shares that do not sum to 1."""
  shares: dict[str, float] = {}
  for part in text.split(','):
    name, _, share = part.strip().partition(':')
    try:
      shares[name] = float(share)
    except ValueError:
      shares[name] = -1.0
  if not set(shares) <= set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
    raise ValueError(
      f'--splits={text!r} must be shares of {SPLITS} that sum to 1, like train:0.8,val:0.1,test:0.1'
    )
  return shares


def assign_splits(items: Sequence[base.Item], shares: dict[str, float], seed: int = 0) -> dict[str, str]:
  """Split of every item id: the source's own where it states one, else by chance with exact shares.

  Items that the source puts into 'train' are shared between train and val, so that a test list stays untouched
  and validation data exist. Each split with a share gets at least one item where there are enough.
  """
  own_train = [item.item_id for item in items if item.split == 'train']
  free = [item.item_id for item in items if item.split is None]
  splits = {item.item_id: item.split for item in items if item.split not in (None, 'train')}
  splits |= _shuffled_shares(own_train, {name: shares.get(name, 0.0) for name in ('train', 'val')}, seed)
  return splits | _shuffled_shares(free, shares, seed)


def _shuffled_shares(ids: list[str], shares: dict[str, float], seed: int) -> dict[str, str]:
  """Ids dealt out in the given proportions."""
  names = [name for name in SPLITS if shares.get(name, 0) > 0] or ['train']
  total = sum(shares.get(name, 0.0) for name in names) or 1.0
  ids = sorted(ids)
  random.Random(seed).shuffle(ids)
  counts = {name: int(len(ids) * shares.get(name, 1.0) / total) for name in names}
  # Training first takes what rounding leaves over, then gives one to every split that would stay empty.
  counts[names[0]] += len(ids) - sum(counts.values())
  for name in names[1:]:
    if counts[name] == 0 and counts[names[0]] > 1:
      counts[name], counts[names[0]] = 1, counts[names[0]] - 1
  dealt = iter(ids)
  return {next(dealt): name for name in names for _ in range(counts[name])}


class _Progress:
  """What happened inside finished items, kept beside the staged clips so that a resumed run knows it."""

  def __init__(self, path: Path):
    self._path = path
    self.done: set[str] = set()
    self.tally = base.Tally()
    if path.exists():
      for line in path.read_text().splitlines(keepends=True):
        if line.endswith('\n'):  # a line that a kill cut short is done again
          self._count(json.loads(line))

  def _count(self, row: dict[str, Any]) -> None:
    self.done.add(row['item'])
    for reason, count in row['dropped'].items():
      self.tally.drop(reason, count, row['examples'].get(reason, ''))
    for remark, count in row['notes'].items():
      self.tally.note(remark, count, row['examples'].get(remark, ''))

  def finish_item(self, item_id: str, tally: base.Tally) -> None:
    """Notes that an item is done and what was left out in it."""
    row = {'item': item_id, 'dropped': tally.dropped, 'notes': tally.notes, 'examples': tally.examples}
    with open(self._path, 'a') as file:
      file.write(json.dumps(row) + '\n')
    self._count(row)


def _distinct(items: Sequence[base.Item]) -> list[base.Item]:
  """Items with later ones of the same id turned into refusals (names that differ in odd characters only)."""
  first: dict[str, str] = {}
  out = []
  for i, item in enumerate(items):
    if item.item_id in first:
      message = (
        f'{item.where} would get the clip id of {first[item.item_id]}: {item.item_id!r}; rename one of them'
      )
      item = base.refusal(f'{item.item_id}#{i}', item.where, 'duplicate_id', message)
    first.setdefault(item.item_id, item.where)
    out.append(item)
  return out


def convert(
  from_format: str,
  src: Path,
  dst: Path,
  options: Options = Options(),
  splits: str = 'train:0.8,val:0.1,test:0.1',
  limit: int | None = None,
  overwrite: bool = False,
  fresh: bool = False,
  quiet: bool = False,
) -> Summary:
  """Converts `src` to an internal dataset at `dst` and returns its summary.

  limit: only the first so many recordings. overwrite: replace a dataset at `dst`. fresh: forget a killed
  conversion instead of going on with it.
  Raises ValueError, before anything is written, on bad options, a missing source or an existing dataset, and at
  the end when no clip was usable.
  """
  src, dst = Path(src), Path(dst)
  shares = parse_splits(splits)
  reader = base.reader(from_format)
  given = {f.name for f in dataclasses.fields(Options) if getattr(options, f.name) != f.default}
  foreign = sorted((given & _OF_SOME_FORMATS) - reader.OPTIONS)
  if foreign:
    raise ValueError(
      f'--{foreign[0]} means nothing to --from={from_format}, which takes {sorted(reader.OPTIONS)}; leave it out'
    )
  if not src.exists():
    raise ValueError(f'--src={src} does not exist')
  if src.is_file() and from_format not in ('video', 'recon'):
    raise ValueError(f'--src={src} is a file; --from={from_format} reads a folder')
  if limit is not None and limit < 1:
    raise ValueError(f'--limit={limit} must be at least 1')
  items = _distinct(reader.find(src, options))[:limit]
  if not items:
    raise ValueError(f'--src={src} holds nothing that --from={from_format} reads; check the folder and the format')
  split_of = assign_splits(items, shares)

  name = re.sub(r'\W', '_', dst.name, flags=re.ASCII)
  about = {'from': from_format, 'src': str(src.resolve()), 'splits': splits, 'limit': limit}
  about |= {f.name: getattr(options, f.name) for f in dataclasses.fields(Options)}
  about = {key: str(value) if isinstance(value, Path) else value for key, value in about.items()}
  writer = DatasetWriter(
    dst, name if name[:1].isalpha() else f'd_{name}', not fresh, overwrite=overwrite, options=about
  )
  staging_folder = writer.path.with_name(writer.path.name + '.partial')
  progress = _Progress(staging_folder / 'items.jsonl')
  bar = tqdm(items, desc=f'{from_format} -> {dst.name}', unit='clip', disable=quiet or None)
  num_skipped, last_skip = 0, ''
  for item in bar:
    if item.item_id in progress.done:
      continue
    tally = base.Tally()
    try:
      for clip in item.load(tally):
        if clip.clip_id not in writer.resumed:
          writer.add(clip, split_of[item.item_id])
    except ClipError as error:
      num_skipped, last_skip = num_skipped + 1, str(error)
      writer.skip(Skip(error.reason, item.where, str(error)))
      bar.set_postfix(skipped=num_skipped)
    progress.finish_item(item.item_id, tally)
  if not writer.num_clips:
    # Nothing is worth going on with, and what is left would stand in the way of a run with better options.
    counts = writer.skip_counts()
    shutil.rmtree(staging_folder, ignore_errors=True)
    raise ValueError(f'--src={src} gave no usable clip; left out: {counts}; e.g. {last_skip}; nothing was written')
  summary = writer.finish()
  _extend_summary(dst / SUMMARY_FILE, progress.tally)
  if not quiet:
    print(table(summary, progress.tally))
  return summary


def _extend_summary(path: Path, tally: base.Tally) -> None:
  """Adds what was left out inside clips to the dataset's conversion.json."""
  content = json.loads(path.read_text())
  content |= dict(zip(_CONTENT_KEYS, (dict(tally.dropped), dict(tally.notes), tally.examples), strict=True))
  staging.write_atomically(path, json.dumps(content, indent=1).encode())


def table(summary: Summary, tally: base.Tally) -> str:
  """The summary for a person: clips, frames and hours per split, then everything left out, by reason."""
  lines = ['', f'{"split":<8}{"clips":>8}{"frames":>10}{"hours":>10}']
  for split in (s for s in SPLITS if s in summary.clips):
    lines.append(f'{split:<8}{summary.clips[split]:>8}{summary.frames[split]:>10}{summary.hours[split]:>10.3f}')
  clips, frames = sum(summary.clips.values()), sum(summary.frames.values())
  lines.append(f'{"all":<8}{clips:>8}{frames:>10}{sum(summary.hours.values()):>10.3f}')
  first: dict[str, str] = {}
  for skip in summary.skipped:
    first.setdefault(skip.reason, skip.message)
  for title, counts, examples in (
    ('recordings left out', summary.skips, first),
    ('frames left out of the clips', tally.dropped, tally.examples),
    ('remarks', tally.notes, tally.examples),
  ):
    if counts:
      lines += ['', f'{title}:']
      lines += [f'  {count:>8}  {reason:<28} e.g. {examples.get(reason, "")}' for reason, count in counts.items()]
  return '\n'.join(lines)


def _bool(text: str) -> bool:
  words = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}
  if text.lower() not in words:
    raise argparse.ArgumentTypeError(f'{text!r} must be true or false')
  return words[text.lower()]


def parser() -> argparse.ArgumentParser:
  """The command line; one flag for every field of `Options`."""
  out = argparse.ArgumentParser(
    'python -m s2e_jax.data.convert',
    description=__doc__,
    allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  out.add_argument(
    '--from', dest='from_format', required=True, choices=sorted(base.FORMATS), help='foreign format'
  )
  out.add_argument('--src', type=Path, required=True, help='source folder or file')
  out.add_argument('--dst', type=Path, required=True, help='folder of the new dataset')
  out.add_argument('--splits', default='train:0.8,val:0.1,test:0.1', help='shares, dealt out by recording')
  out.add_argument('--limit', type=int, help='only the first so many recordings')
  out.add_argument('--overwrite', action='store_true', help='replace a dataset at --dst')
  out.add_argument('--fresh', action='store_true', help='forget a killed conversion instead of going on with it')
  out.add_argument('--quiet', action='store_true', help='no progress bar, no table')
  types: dict[Any, Any] = typing.get_type_hints(Options)
  for field in dataclasses.fields(Options):
    kind = next((t for t in typing.get_args(types[field.name]) if t is not type(None)), types[field.name])
    shown = '' if field.default is None else f' (default {field.default})'
    out.add_argument(
      f'--{field.name}',
      type=_bool if kind is bool else kind,
      default=field.default,
      help=_HELP[field.name] + shown,
      metavar=field.name.upper(),
    )
  return out


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit status, 2 with a message for mistakes of the user."""
  args = vars(parser().parse_args(argv))
  fields = {field.name for field in dataclasses.fields(Options)}
  try:
    convert(
      options=Options(**{k: v for k, v in args.items() if k in fields}),
      **{k: v for k, v in args.items() if k not in fields},
    )
  except ValueError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except OSError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
