"""Looks into an internal dataset: table, inspect.json and overlay pictures.

Run: python -m s2e_jax.data.inspect DATASET [--out=DATASET/inspect] [--split=train] [--num_pictures=24]

Prints hours, clips, frames, sizes, sources, speeds, turns and anomalies, and draws the future path on frames
through the camera model, so that a person sees in seconds whether frames, axes and scale are right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from tqdm import tqdm

from s2e_jax import geometry
from s2e_jax.data import checks, inspect_pictures
from s2e_jax.data.dataset import ClipInfo, Dataset, open_dataset
from s2e_jax.data.writer import SUMMARY_FILE
from s2e_jax.structs import DT

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_WINDOW_STEPS = 10  # windows of 2.5 s at 4 Hz
_STILL = 0.2  # m of path in a window; less is standing
_TURN = np.deg2rad(15)  # change of yaw in a window; more is a turn
_NUM_EXAMPLES = 5
_CHUNK = 256  # frames read at once


def motion_statistics(clips: Sequence[ClipInfo]) -> dict[str, Any]:
  """Speeds (m/s), yaw rates (rad/s) and kinds of 2.5 s windows over clips with sound poses."""
  speeds, rates, kinds = [], [], Counter(straight=0, left=0, right=0, stationary=0)
  for clip in clips:
    stamps, position = np.asarray(clip.stamps, np.float64), np.asarray(clip.position, np.float64)
    yaw = np.asarray(clip.yaw, np.float64)
    step = np.diff(stamps)
    if not (np.isfinite(position).all() and np.isfinite(yaw).all() and (step > 0).all()) or len(step) == 0:
      continue
    speeds.append(np.hypot(*np.diff(position, axis=0).T) / step)
    rates.append(geometry.wrap_angle(np.diff(yaw)) / step)
    at = np.arange(stamps[0], stamps[-1] + 1e-3, DT)
    points, turned = geometry.interpolate_poses(at, stamps, position, yaw)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    length = along[_WINDOW_STEPS:] - along[:-_WINDOW_STEPS]
    turn = turned[_WINDOW_STEPS:] - turned[:-_WINDOW_STEPS]
    still = length < _STILL
    kinds['stationary'] += int(still.sum())
    kinds['left'] += int((~still & (turn > _TURN)).sum())
    kinds['right'] += int((~still & (turn < -_TURN)).sum())
    kinds['straight'] += int((~still & (np.abs(turn) <= _TURN)).sum())
  total = sum(kinds.values())
  return {
    'speed_m_per_s': _quantiles(speeds),
    'yaw_rate_rad_per_s': _quantiles(rates),
    'abs_yaw_rate_rad_per_s': _quantiles([np.abs(rate) for rate in rates]),
    'windows': total,
    'window_share': {kind: (count / total if total else 0.0) for kind, count in kinds.items()},
  }


def _quantiles(parts: Sequence[np.ndarray]) -> dict[str, float]:
  """Quantiles by name; empty for no data."""
  values = np.concatenate(parts) if parts else np.zeros(0)
  if not len(values):
    return {}
  return {f'{q:g}': float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def check_frames(
  dataset: Dataset, clip_indices: Sequence[int], max_frames: int, progress: bool
) -> tuple[list[checks.Finding], Counter, int]:
  """Findings about images of the first `max_frames` frames, images per 'WIDTHxHEIGHT', and how many were read."""
  found: list[checks.Finding] = []
  sizes: Counter = Counter()
  seen: dict[bytes, tuple[str, int]] = {}
  num_read = 0
  for index in tqdm(clip_indices, desc='frames', unit='clip', disable=not progress):
    clip = dataset.clips[index]
    digests: list[bytes] = []
    stop = min(clip.num_frames, max_frames - num_read)
    for start in range(0, stop, _CHUNK):
      for jpeg in dataset.frames(index, range(start, min(stop, start + _CHUNK))):
        frame, digest = len(digests), hashlib.blake2b(jpeg, digest_size=16).digest()
        size = _image_size(jpeg)
        sizes[size] += 1
        if size != f'{clip.camera.width}x{clip.camera.height}':
          detail = f'image {size}, camera {clip.camera.width}x{clip.camera.height}'
          found.append(checks.Finding('bad_image', clip.clip_id, frame, detail))
        other, at = seen.setdefault(digest, (clip.clip_id, frame))
        if other != clip.clip_id:
          found.append(checks.Finding('shared_frame', clip.clip_id, frame, f'same bytes as {other} frame {at}'))
        digests.append(digest)
    found += checks.check_duplicates(clip.clip_id, digests)
    num_read += len(digests)
  return found, sizes, num_read


def _image_size(jpeg: bytes) -> str:
  """'WIDTHxHEIGHT' from the header of a JPEG, or 'unreadable'."""
  try:
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
  except ValueError:
    return 'unreadable'
  return f'{width}x{height}'


def _grouped(found: Sequence[checks.Finding], kinds: dict[str, str]) -> dict[str, dict[str, Any]]:
  """Findings per kind, also where there are none: how many, in how many clips, meaning, the first examples."""
  groups = {}
  for kind, meaning in kinds.items():
    of_kind = [f for f in found if f.kind == kind]
    groups[kind] = {
      'count': len(of_kind),
      'clips': len({f.clip_id for f in of_kind}),
      'meaning': meaning,
      'examples': [f.to_dict() for f in of_kind[:_NUM_EXAMPLES]],
    }
  return groups


def _sources(clips: Sequence[ClipInfo]) -> dict[str, dict[str, Any]]:
  """Per source: licence, clips, frames, hours, rate, cameras, embodiments and motion."""
  rows: dict[str, dict[str, Any]] = {}
  for source in sorted({clip.source for clip in clips}):
    own = [clip for clip in clips if clip.source == source]
    rows[source] = {
      'licences': sorted({clip.licence for clip in own}),
      'embodiments': sorted({clip.embodiment for clip in own}),
      'camera_models': sorted({clip.camera.model for clip in own}),
      'camera_heights_m': sorted({clip.camera.mount_height for clip in own}),
      'clips': len(own),
      'frames': sum(clip.num_frames for clip in own),
      'hours': _hours(own),
      'rate_hz': sum(clip.num_frames - 1 for clip in own) / max(3600 * _hours(own), 1e-9),
    } | motion_statistics(own)
  return rows


def _hours(clips: Sequence[ClipInfo]) -> float:
  return sum(float(clip.stamps[-1] - clip.stamps[0]) for clip in clips) / 3600


def inspect_dataset(
  dataset: Dataset, split: str | None = None, max_frames: int = 500_000, progress: bool = False
) -> dict[str, Any]:
  """Everything `python -m s2e_jax.data.inspect` prints, JSON-able; pictures apart.

  split: one split, None for all; ValueError if it is not there. max_frames: how many images are read at most.
  """
  indices = dataset.clip_indices(split)
  clips = [dataset.clips[i] for i in indices]
  found = [finding for clip in clips for finding in checks.check_poses(clip)]
  about_frames, sizes, num_read = check_frames(dataset, indices, max_frames, progress)
  conversion = dataset.path / SUMMARY_FILE
  return {
    'dataset': str(dataset.path),
    'content_hash': dataset.content_hash,
    'splits': {name: len(dataset.clip_ids(name)) for name in dataset.splits},
    'split': split or 'all',
    'clips': len(clips),
    'frames': sum(clip.num_frames for clip in clips),
    'hours': _hours(clips),
    'frames_read': num_read,
    'image_sizes': dict(sizes.most_common()),
    'sources': _sources(clips),
    'motion': motion_statistics(clips),
    'anomalies': _grouped(found + about_frames, checks.ANOMALIES),
    'notes': _grouped(found, checks.NOTES),
    'skipped_by_conversion': json.loads(conversion.read_text()).get('skips', {}) if conversion.exists() else {},
  }


def table(report: dict[str, Any]) -> str:
  """The report as text for a person."""
  splits = ', '.join(f'{name} {count}' for name, count in report['splits'].items())
  lines = [
    f'{report["dataset"]}: split {report["split"]} (clips: {splits})',
    f'{report["hours"]:.3f} h, {report["clips"]} clips, {report["frames"]} frames; '
    f'images {", ".join(f"{size} ({n})" for size, n in report["image_sizes"].items())}',
    '',
    f'{"source":20} {"clips":>6} {"frames":>8} {"hours":>8} {"Hz":>5} {"m/s 50%":>8} {"95%":>6}'
    '  licence; camera; body',
  ]
  for name, row in report['sources'].items():
    speed = row['speed_m_per_s'] or {'0.5': float('nan'), '0.95': float('nan')}
    about = '; '.join(', '.join(map(str, row[key])) for key in ('licences', 'camera_models', 'embodiments'))
    lines.append(
      f'{name[:20]:20} {row["clips"]:6d} {row["frames"]:8d} {row["hours"]:8.3f} {row["rate_hz"]:5.3g} '
      f'{speed["0.5"]:8.2f} {speed["0.95"]:6.2f}  {about}'
    )
  motion = report['motion']
  lines += ['', f'{"quantile":24}' + ''.join(f'{q:>8g}' for q in QUANTILES)]
  for key, label in (('speed_m_per_s', 'speed (m/s)'), ('yaw_rate_rad_per_s', 'yaw rate (rad/s)')):
    lines.append(f'{label:24}' + ''.join(f'{v:8.2f}' for v in motion[key].values()))
  shares = ', '.join(f'{kind} {share:.1%}' for kind, share in motion['window_share'].items())
  lines += [f'windows of 2.5 s: {motion["windows"]}: {shares}', '']
  for title, groups in (('anomalies', report['anomalies']), ('assumed or unknown', report['notes'])):
    rows = {kind: group for kind, group in groups.items() if group['count']}
    lines.append(f'{title}: {"none" if not rows else ""}'.rstrip())
    for kind, group in rows.items():
      lines.append(f'  {kind:18} {group["count"]:6d} in {group["clips"]} clips: {group["meaning"]}')
      for example in group['examples'][: 3 if title == 'anomalies' else 1]:
        at = '' if example['frame'] is None else f' frame {example["frame"]}'
        lines.append(f'    {example["clip_id"]}{at}: {example["detail"]}')
  if report['frames_read'] < report['frames']:
    lines.append(f'images of {report["frames_read"]} of {report["frames"]} frames were read (--max_frames)')
  if report['skipped_by_conversion']:
    skips = ', '.join(f'{reason} {n}' for reason, n in report['skipped_by_conversion'].items())
    lines.append(f'left out by the conversion: {skips}')
  return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
  """Command line; see the module."""
  parser = argparse.ArgumentParser(
    prog='python -m s2e_jax.data.inspect', description='Print what a dataset holds and draw futures on its frames.'
  )
  parser.add_argument('dataset', help='folder of an internal dataset')
  parser.add_argument('--out', default='', help='folder for inspect.json and pictures (default: DATASET/inspect)')
  parser.add_argument('--split', default=None, help='train, val or test (default: all)')
  parser.add_argument('--num_pictures', type=int, default=24)
  parser.add_argument('--max_frames', type=int, default=500_000, help='images to read at most')
  args = parser.parse_args(argv)
  try:
    dataset = open_dataset(args.dataset)
    report = inspect_dataset(dataset, args.split, args.max_frames, progress=True)
  except ValueError as error:
    parser.exit(2, f'error: {error}\n')
  print(table(report))
  out = Path(args.out) if args.out else dataset.path / 'inspect'
  out.mkdir(parents=True, exist_ok=True)
  pictures = inspect_pictures.save_pictures(dataset, dataset.clip_indices(args.split), args.num_pictures, out)
  report['pictures'] = [path.name for path in pictures]
  (out / 'inspect.json').write_text(json.dumps(report, indent=1, allow_nan=False) + '\n')
  if pictures:
    print(f'pictures: {pictures[0]} and {len(pictures) - 1} overlays')


if __name__ == '__main__':
  main()
