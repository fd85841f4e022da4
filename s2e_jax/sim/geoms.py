"""MuJoCo geoms of a scene's primitives: to look at a scene in MuJoCo's viewer, and to check analytic contact."""

from __future__ import annotations

import math

import numpy as np

from s2e_jax.scene import Scene

LOOKED_AT = 'contype="0" conaffinity="0" group="2"'


def scene_geoms(scene: Scene, collision: str = LOOKED_AT, *, is_round_capsule: bool = False) -> list[str]:
  """One XML geom per primitive of an unbatched scene, named `slot<i>`, and none for empty slots.

  collision: attributes of every geom; by default it is drawn and touches nothing. is_round_capsule: cylinders
  become capsules of the same radius and axis, which MJX collides with boxes.
  """
  parts = (('box', scene.boxes), ('cylinder', scene.cylinders), ('capsule', scene.capsules))
  colours = np.asarray(scene.colour)
  lines, slot = [], -1
  for shape, part in parts:
    fields = {name: np.asarray(value, float) for name, value in vars(part).items()}
    for i in range(len(fields['x'])):
      slot += 1
      f = {name: value[i] for name, value in fields.items()}
      half = (f['high'] - f['low']) / 2
      if half <= 0:
        continue
      kind = 'capsule' if shape == 'cylinder' and is_round_capsule else shape
      if shape == 'box':
        size = f'{f["half_x"]:g} {f["half_y"]:g} {half:g}'
      elif shape == 'cylinder':
        size = f'{f["radius"]:g} {half:g}'
      else:
        # MuJoCo counts a capsule's half length without its caps; a ball has none.
        size = f'{f["radius"]:g} {max(half - f["radius"], 1e-3):g}'
      pose = f'pos="{f["x"]:.9g} {f["y"]:.9g} {f["low"] + half:.9g}"'
      turn = f' euler="0 0 {math.degrees(f.get("yaw", 0.0)):.9g}"'
      colour = ' '.join(f'{c:.3g}' for c in colours[slot])
      lines.append(
        f'<geom name="slot{slot}" type="{kind}" size="{size}" {pose}{turn} rgba="{colour} 1" {collision}/>'
      )
  return lines
