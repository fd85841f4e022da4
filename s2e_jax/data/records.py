"""Records of the internal dataset: the TFDS feature spec, clips to records and back, JPEG checks.

One record holds one step group of a clip: a run of consecutive frames with their stamps and poses, and everything
that is true of the whole clip. float64 values are stored as raw bytes because tf.Example keeps floats in single
precision. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_pb2

from s2e_jax.data.clips import Clip, ClipError
from s2e_jax.structs import NUM_CLEARANCES

SPLITS = ('train', 'val', 'test')
VERSION = '1.1.0'
_CLIP_ID = re.compile(r'[A-Za-z0-9._/-]+')


class KeepEncoded(tfds.decode.SkipDecoding):
  """SkipDecoding that also works on a sequence of images read without TensorFlow."""

  def decode_batch_example_np(self, encoded: np.ndarray) -> np.ndarray:
    """The encoded images [T] as they are."""
    return encoded


def features(with_clearances: bool = True) -> tfds.features.FeaturesDict:
  """Feature spec of one record (G frames of a clip); units and frames as in `clips.Clip`.

  A grey JPEG stays grey: plain TFDS decoding gives [h, w] for it, the loader here always gives RGB.
  with_clearances: records of version 1.0.0 had none; newer ones hold NaN where nobody knows them.
  """
  f = tfds.features
  double = f.Tensor(shape=(), dtype=np.float64, encoding='bytes')
  return f.FeaturesDict(
    {
      'clip_id': f.Text(),
      'source': f.Text(),
      'licence': f.Text(),
      'embodiment': f.Text(),
      'group': np.int32,  # index of this step group within its clip
      'num_groups': np.int32,
      'first_frame': np.int64,  # index of frames[0] within the clip
      'num_clip_frames': np.int64,
      'frames': f.Sequence(f.Image(shape=(None, None, 3), encoding_format='jpeg')),
      'stamps': f.Tensor(shape=(None,), dtype=np.float64, encoding='bytes'),
      'position': f.Tensor(shape=(None, 2), dtype=np.float32),
      'yaw': f.Tensor(shape=(None,), dtype=np.float32),
      'origin': f.Tensor(shape=(2,), dtype=np.float64, encoding='bytes'),
      'is_rate_assumed': np.bool_,
      'is_metric': np.bool_,
      'camera': {
        'width': np.int32,
        'height': np.int32,
        'fx': double,
        'fy': double,
        'cx': double,
        'cy': double,
        'model': f.Text(),
        'distortion': f.Tensor(shape=(None,), dtype=np.float64, encoding='bytes'),
        'mount_height': double,
        'mount_forward': double,
        'pitch': double,
      },
      'footprint': {'length': double, 'width': double},
      **({'clearances': f.Tensor(shape=(None, NUM_CLEARANCES), dtype=np.float32)} if with_clearances else {}),
    }
  )


def unknown_clearances(num: int) -> np.ndarray:
  """[num, NUM_CLEARANCES] NaN: nobody knows them."""
  return np.full((num, NUM_CLEARANCES), np.nan, np.float32)


def checked_frames(clip: Clip) -> None:
  """Raises ClipError unless every frame is a whole JPEG of camera.width x camera.height pixels.

  Reasons: 'bad_jpeg' (no image, truncated, corrupt), 'mixed_sizes', 'camera_size'. Every frame is entropy-decoded
  in full, at the smallest scale: that finds truncation and corruption for a fraction of a full decode.
  """
  sizes: dict[tuple[int, int], int] = {}
  for i, frame in enumerate(clip.frames):
    where = f'clip {clip.clip_id!r}, frame {i} ({len(frame)} bytes)'
    try:
      height, width, _, _ = simplejpeg.decode_jpeg_header(frame)
      simplejpeg.decode_jpeg(frame, min_height=1, min_width=1)
    except ValueError as error:
      raise ClipError('bad_jpeg', f'{where}: not a whole JPEG ({error}); leave the clip out') from error
    sizes.setdefault((width, height), i)
  if len(sizes) > 1:
    listed = ', '.join(f'{w}x{h} (frame {i})' for (w, h), i in sizes.items())
    raise ClipError(
      'mixed_sizes',
      f'clip {clip.clip_id!r}: images must be of one size, found {listed}; give --height and --width',
    )
  if (clip.camera.width, clip.camera.height) not in sizes:
    ((width, height),) = sizes
    raise ClipError(
      'camera_size',
      f'clip {clip.clip_id!r}: camera says {clip.camera.width}x{clip.camera.height}, images are {width}x{height}; '
      'use Camera.resized',
    )


def check_clip_id(clip_id: str) -> None:
  """Raises ClipError('bad_clip_id') unless `clip_id` is made of letters, digits and ._-/."""
  if not _CLIP_ID.fullmatch(clip_id):
    raise ClipError('bad_clip_id', f"clip_id {clip_id!r} may hold letters, digits and '._-/' only")


def encode_clip(clip: Clip, frames_per_record: int) -> Iterator[bytes]:
  """Serialised records of a checked clip, in order, of at most `frames_per_record` frames each."""
  spec = features()
  serializer = ExampleSerializer(spec.get_serialized_info())
  starts = range(0, len(clip), frames_per_record)
  camera = clip.camera.to_dict()
  clearances = unknown_clearances(len(clip)) if clip.clearances is None else clip.clearances
  for group, start in enumerate(starts):
    part = slice(start, start + frames_per_record)
    example = spec.encode_example(
      {
        'clip_id': clip.clip_id,
        'source': clip.source,
        'licence': clip.licence,
        'embodiment': clip.embodiment,
        'group': group,
        'num_groups': len(starts),
        'first_frame': start,
        'num_clip_frames': len(clip),
        'frames': [io.BytesIO(frame) for frame in clip.frames[part]],
        'stamps': np.asarray(clip.stamps[part], np.float64),
        'position': np.asarray(clip.position[part], np.float32),
        'yaw': np.asarray(clip.yaw[part], np.float32),
        'origin': np.asarray(clip.origin, np.float64),
        'is_rate_assumed': bool(clip.is_rate_assumed),
        'is_metric': bool(clip.is_metric),
        'camera': camera | {'distortion': np.asarray(camera['distortion'], np.float64)},
        'footprint': {'length': clip.footprint.length, 'width': clip.footprint.width},
        'clearances': np.asarray(clearances[part], np.float32),
      }
    )
    # TFDS's own serialize_example leaves the order of fields, so the bytes, to chance.
    yield serializer.get_tf_example(example).SerializeToString(deterministic=True)


def decode_record(record: bytes) -> dict[str, Any]:
  """One serialised record as nested plain values and arrays; 'frames' stay JPEG bytes [G]."""
  is_new = b'clearances' in record
  example = features(is_new).deserialize_example_np(record, decoders={'frames': KeepEncoded()})
  if not is_new:
    example['clearances'] = unknown_clearances(len(example['stamps']))
  camera = example['camera']
  for key in ('clip_id', 'source', 'licence', 'embodiment'):
    example[key] = example[key].decode()
  example['camera'] = {k: float(v) if isinstance(v, np.ndarray) and v.ndim == 0 else v for k, v in camera.items()}
  example['camera'] |= {'model': camera['model'].decode(), 'distortion': [float(k) for k in camera['distortion']]}
  example['footprint'] = {k: float(v) for k, v in example['footprint'].items()}
  return example


def frames_of_record(record: bytes) -> Sequence[bytes]:
  """JPEG bytes [G] of one serialised record, without decoding its other fields (several times faster)."""
  return tf_example_pb2.Example.FromString(record).features.feature['frames'].bytes_list.value
