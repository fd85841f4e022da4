"""Lossless WebP pictures that hold numbers: decoded exactly, after their stated size was checked."""

from __future__ import annotations

import cv2
import numpy as np

from s2e_jax.navbench.formats.stored import bad_file

_REMEDY = 'copy or export the scene again'


def size_of(data: bytes, name: str) -> tuple[int, int]:
  """(height, width) in pixels that a WebP file states; raises ValueError when it is none or is lossy."""
  kind = data[12:16]
  if data[:4] != b'RIFF' or data[8:12] != b'WEBP' or len(data) < 25:
    raise bad_file(name, f'{len(data)} bytes that begin {data[:4]!r}', 'a WebP picture', _REMEDY)
  riff_bytes = int.from_bytes(data[4:8], 'little') + 8
  if riff_bytes > len(data):
    raise bad_file(name, f'{len(data)} bytes', f'{riff_bytes}', 'the file is cut short: copy it again')
  if kind == b'VP8L':
    bits = int.from_bytes(data[21:25], 'little')
    return ((bits >> 14) & 0x3FFF) + 1, (bits & 0x3FFF) + 1
  if kind == b'VP8X' and b'VP8L' in data[30:4096]:  # the picture follows an optional colour profile
    return int.from_bytes(data[27:30], 'little') + 1, int.from_bytes(data[24:27], 'little') + 1
  raise bad_file(name, f'a WebP picture of kind {kind!r}', "lossless 'VP8L'", 'its numbers are lost: export again')


def decode(data: bytes, name: str, max_pixels: int) -> np.ndarray:
  """[h, w, 4] uint8 red, green, blue, alpha (255 where the picture has none); refuses more than `max_pixels`."""
  height, width = size_of(data, name)
  if height * width > max_pixels:
    raise bad_file(name, f'{width} x {height} pixels', f'at most {max_pixels} for its gaussians', _REMEDY)
  try:
    # OpenCV 5 refuses files below 32 bytes, which hold pictures of one colour
    picture = cv2.imdecode(np.frombuffer(data.ljust(32, b'\0'), np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error:
    picture = None
  if picture is None or picture.ndim != 3 or picture.shape[:2] != (height, width):
    raise bad_file(name, 'a WebP picture that cannot be decoded', f'{width} x {height} pixels', _REMEDY)
  return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGBA)
