"""JPEG in, JPEG out: headers, damage, re-encoding. Frames are decoded only when they must be."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg

from s2e_jax.data.clips import ClipError

JPEG_QUALITY = 95


def jpeg_size(data: bytes) -> tuple[int, int]:
  """(width, height) of a JPEG after decoding all of it at the smallest scale, which finds damage cheaply.

  Raises ClipError: 'bad_image' when it is no JPEG or damaged, 'truncated_image' when its end is missing.
  """
  if data[:2] != b'\xff\xd8':
    raise ClipError(
      'bad_image', f'not a JPEG: {len(data)} bytes starting with {data[:4]!r}; export the frame again'
    )
  try:
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    simplejpeg.decode_jpeg(data, min_height=1, min_width=1)
  except ValueError as error:
    # FF D9 ends an image and cannot occur inside compressed data.
    reason = 'bad_image' if b'\xff\xd9' in data[-4096:] else 'truncated_image'
    raise ClipError(reason, f'JPEG of {len(data)} bytes is damaged ({error}); copy or export it again') from error
  return width, height


def decode(data: bytes) -> np.ndarray:
  """[h, w, 3] uint8 RGB of any encoded image (JPEG, PNG, ...); raises ClipError 'bad_image'."""
  if data[:2] == b'\xff\xd8':
    try:
      return simplejpeg.decode_jpeg(data, colorspace='RGB', fastdct=False, fastupsample=False)
    except ValueError as error:
      raise ClipError('bad_image', f'JPEG cannot be decoded: {error}') from error
  image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
  if image is None:
    raise ClipError('bad_image', f'{len(data)} bytes starting with {data[:4]!r} are no image that can be decoded')
  return np.ascontiguousarray(image[..., ::-1])


def encode(image: np.ndarray) -> bytes:
  """JPEG (quality 95, full chroma) of an RGB image [h, w, 3] uint8."""
  return simplejpeg.encode_jpeg(
    np.ascontiguousarray(image), quality=JPEG_QUALITY, colorspace='RGB', colorsubsampling='444', fastdct=False
  )


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
  """`image` resized to `width` x `height`; areas are averaged when it shrinks."""
  if image.shape[:2] == (height, width):
    return image
  shrinks = image.shape[1] >= width and image.shape[0] >= height
  return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def target_size(width: int, height: int, want_width: int | None, want_height: int | None) -> tuple[int, int]:
  """Size after resizing: both as wanted, or one as wanted and the other by the shape, or unchanged."""
  if want_width and want_height:
    return want_width, want_height
  if want_width:
    return want_width, max(1, round(height * want_width / width))
  if want_height:
    return max(1, round(width * want_height / height)), want_height
  return width, height


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
  """The most frequent (width, height); the first one met wins a tie. All must have nearly the same shape.

  Raises ClipError 'mixed_shapes' when an image would have to be distorted by more than 2 %.
  """
  width, height = collections.Counter(sizes).most_common(1)[0][0]
  for w, h in sizes:
    if abs(w * height - h * width) > 0.02 * w * height:
      raise ClipError(
        'mixed_shapes',
        f'images of {width}x{height} and {w}x{h} in one clip have different shapes; '
        'give --height and --width to bring them to one size all the same',
      )
  return width, height


def to_jpeg(
  content: bytes | np.ndarray, want_width: int | None, want_height: int | None
) -> tuple[bytes, tuple[int, int], tuple[int, int]]:
  """JPEG of one picture, with its size before and after as (width, height).

  content: encoded image, or [h, w, 3] uint8 RGB. A JPEG that has the wanted size passes through untouched.
  Raises ClipError when it is damaged.
  """
  if isinstance(content, bytes) and content[:2] == b'\xff\xd8':
    before = jpeg_size(content)
    after = target_size(*before, want_width, want_height)
    if after == before:
      return content, before, after
    return encode(resize(decode(content), *after)), before, after
  image = decode(content) if isinstance(content, bytes) else content
  before = (image.shape[1], image.shape[0])
  after = target_size(*before, want_width, want_height)
  return encode(resize(image, *after)), before, after
