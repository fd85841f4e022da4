"""Pictures that tell their own number, and writers of tiny files in the published layouts."""

import contextlib
import fractions
import io
import os

import av
import cv2
import numpy as np
import pytest
import simplejpeg


def numbered(index, height=24, width=40):
  """A grey picture that names its index below 100: tens by the upper half's brightness, units by the lower's.

  The right half is brighter, so that a mirrored picture is noticed.
  """
  image = np.full((height, width, 3), 20 + 20 * (index // 10), np.uint8)
  image[height // 2 :] = 20 + 20 * (index % 10)
  image[:, width // 2 :] += 30
  return image


def number_of(jpeg):
  """Index that `numbered` drew into a picture, after lossy coding."""
  image = simplejpeg.decode_jpeg(jpeg).astype(float)
  middle_y, middle_x = image.shape[0] // 2, image.shape[1] // 2
  left, right = image[:, : middle_x - 2], image[:, middle_x + 2 :]
  assert 20 < right.mean() - left.mean() < 40, 'left and right were swapped or lost'
  tens, units = left[: middle_y - 2].mean(), left[middle_y + 2 :].mean()
  return 10 * round((tens - 20) / 20) + round((units - 20) / 20)


def jpeg_bytes(image):
  """The picture as a JPEG file."""
  return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=97, colorsubsampling='444')


def png_bytes(image):
  """The picture as a PNG file."""
  ok, data = cv2.imencode('.png', np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image)
  assert ok
  return data.tobytes()


@contextlib.contextmanager
def scheduled_as_before():
  """Takes back what SVT-AV1's encoder does where root runs it: the thread that calls it becomes a real-time one.

  All that this process did after, its new threads and its children, would keep every other process off its core.
  """
  if not hasattr(os, 'sched_setscheduler'):  # neither macOS nor Windows has it
    yield
    return
  policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
  try:
    yield
  finally:
    os.sched_setscheduler(0, policy, param)


def write_video(path, ticks, codec='libx264', time_base=fractions.Fraction(1, 1000), height=48, width=64):
  """Video of numbered pictures at the given integer times in units of `time_base`; key frame every 5."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with scheduled_as_before(), av.open(str(path), 'w') as container:
    options = {'libsvtav1': {'preset': '12', 'svtav1-params': 'lp=1'}, 'libx264': {'crf': '10'}}.get(codec, {})
    stream = container.add_stream(codec, rate=30, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
    stream.time_base = stream.codec_context.time_base = time_base
    stream.codec_context.gop_size = 5
    if codec == 'mpeg4':
      stream.codec_context.bit_rate = 4_000_000
    for i, tick in enumerate(ticks):
      frame = av.VideoFrame.from_ndarray(numbered(i, height, width), format='rgb24')
      frame.pts, frame.time_base = tick, time_base
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


class Files:
  """What the tests of this folder share."""

  numbered = staticmethod(numbered)
  number_of = staticmethod(number_of)
  jpeg_bytes = staticmethod(jpeg_bytes)
  png_bytes = staticmethod(png_bytes)
  write_video = staticmethod(write_video)
  BytesIO = io.BytesIO


@pytest.fixture(scope='session')
def files():
  """Helpers of this folder."""
  return Files


@pytest.fixture
def arc():
  """Poses of a drive along a circle: (position [T, 2], yaw [T]) for T frames 0.3 m apart."""

  def make(count, start=(3.0, -2.0), heading=0.4, turn=0.05):
    yaw = heading + turn * np.arange(count)
    steps = 0.3 * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    return np.asarray(start) + np.concatenate([[[0, 0]], np.cumsum(steps[:-1], axis=0)]), yaw

  return make
