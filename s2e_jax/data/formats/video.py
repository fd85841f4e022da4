"""Video files through PyAV: the time of every frame without decoding, and the pictures of chosen frames."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from s2e_jax.data.clips import ClipError

SUFFIXES = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.ts')


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
  """The container and its first video stream; raises ClipError 'empty_video' or 'bad_video'."""
  if not path.is_file():
    raise ClipError('missing_video', f'{path} does not exist')
  if path.stat().st_size == 0:
    raise ClipError('empty_video', f'{path} has 0 bytes; copy or record it again')
  try:
    container = av.open(str(path))
  except (FFmpegError, OSError) as error:
    raise ClipError(
      'bad_video', f'{path} cannot be opened as a video ({error}); copy or encode it again'
    ) from error
  with container:
    if not container.streams.video:
      raise ClipError('bad_video', f'{path} has no video stream')
    stream = container.streams.video[0]
    stream.thread_type = 'AUTO'
    yield container, stream


def frame_times(path: Path) -> np.ndarray:
  """[N] float64 seconds: presentation time of every frame, increasing; only packets are read.

  These are the frames' own times (PTS), so a variable frame rate is right; index / fps would not be. Raises
  ClipError when the file is empty, damaged, or states no times.
  """
  with _opened(path) as (container, stream):
    if stream.time_base is None:
      raise ClipError('bad_video', f'{path} states no time base')
    try:
      ticks = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
    except FFmpegError as error:
      raise ClipError('bad_video', f'{path} is damaged ({error}); copy or encode it again') from error
    if not ticks:
      raise ClipError('empty_video', f'{path} holds no frames')
    if any(t is None for t in ticks):
      raise ClipError(
        'bad_video', f'{path} has frames without time stamps; remux it (ffmpeg -i IN -c copy OUT.mp4)'
      )
    return np.unique(np.array(ticks, np.int64)) * float(stream.time_base)


def read_frames(path: Path, times: np.ndarray, tolerance: float) -> Iterator[np.ndarray | ClipError]:
  """For each of increasing `times` (s) the RGB picture [h, w, 3] uint8 of the frame nearest to it.

  A ClipError stands where no frame lies within `tolerance` s or where decoding failed. Starts decoding at the
  key frame before the first time, so a short piece of a long file is cheap.
  """
  if len(times) == 0:
    return
  pending = list(map(float, times))
  best: tuple[float, np.ndarray] | None = None
  at = 0
  failure = ''
  for time, frame in _decoded(path, pending[0] - tolerance):
    if isinstance(frame, str):
      failure = frame
      continue
    # Frames come in order: once one is past the wanted time, the nearest is the best so far or this one.
    image: np.ndarray | None = None
    while at < len(pending):
      distance = abs(time - pending[at])
      if distance <= tolerance and (best is None or distance < best[0]):
        image = _rgb(frame) if image is None else image
        best = (distance, image)
      if time < pending[at]:
        break
      yield best[1] if best else _missing(path, pending[at], failure)
      best, at = None, at + 1
    if at == len(pending):
      return
  for time in pending[at:]:
    yield best[1] if best else _missing(path, time, failure)
    best = None


def _missing(path: Path, time: float, failure: str) -> ClipError:
  reason = 'undecodable_frame' if failure else 'no_video_frame'
  return ClipError(reason, f'{path} has no frame at {time:.3f} s{failure and f" ({failure})"}')


def _rgb(frame: av.VideoFrame) -> np.ndarray:
  """RGB picture, turned upright if the file says that the camera was held sideways."""
  image = frame.to_ndarray(format='rgb24')
  turns = round(getattr(frame, 'rotation', 0) / 90) % 4
  return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _decoded(path: Path, start: float) -> Iterator[tuple[float, av.VideoFrame | str]]:
  """(time, frame) in order from the key frame before `start`; (0, message) for a packet that fails to decode."""
  frames = _decoded_from(path, start)
  for first in frames:
    if not isinstance(first[1], str) and first[0] > start > 0:
      # Containers without an index (MPEG-TS) may land behind the wanted frame: read such a file from its start.
      frames.close()
      yield from _decoded_from(path, None)
      return
    yield first
    if not isinstance(first[1], str):
      break
  yield from frames


def _decoded_from(path: Path, seek_to: float | None) -> Generator[tuple[float, av.VideoFrame | str]]:
  """As `_decoded`, trusting where the container lands after a seek; None reads from the start."""
  with _opened(path) as (container, stream):
    if seek_to is not None and seek_to > 0 and stream.time_base:
      container.seek(int(seek_to / float(stream.time_base)), stream=stream)
    packets = container.demux(stream)
    while True:
      try:
        packet = next(packets)
        for frame in packet.decode():
          if isinstance(frame, av.VideoFrame) and frame.time is not None:
            yield frame.time, frame
      except (StopIteration, EOFError):
        return
      except FFmpegError as error:
        yield 0.0, str(error)
