import dataclasses
import types

import pytest

from configs.navbench import get_config
from s2e_jax.navbench import command
from s2e_jax.navbench.arcs import turns_of
from s2e_jax.navbench.prepare import Settings, prepare_gaussians
from s2e_jax.navbench.run import check_files
from s2e_jax.robots import ROBOTS
from s2e_jax.sim import settings as sim_settings
from s2e_jax.sim.env import UrbanEnv
from tests.navbench.procedural_splats import courtyard, splat


def test_more_episodes_of_a_shipped_scene_are_more_and_no_others(monkeypatch, tmp_path):
  """Episode i depends on the scene, the task and the seed, not on how many or which tasks are asked for."""
  gaussians, path = splat(dataclasses.replace(courtyard(), spacing=0.12)), tmp_path / 'court.spz'
  path.write_bytes(b'any')
  shipped = types.SimpleNamespace(path=path, gaussians=gaussians, light=None)
  monkeypatch.setattr(command, 'load_shipped', lambda name: shipped)
  prepared = []
  make = lambda *args, **kwargs: prepared.append(args) or prepare_gaussians(*args, **kwargs)
  monkeypatch.setattr(command, 'prepare_gaussians', make)
  few = Settings(tasks=('empty',), num=2)
  first, _ = command.prepared_shipped('court', tmp_path / 'court', few)
  two = first.episodes('empty')
  again, _ = command.prepared_shipped('court', tmp_path / 'court', few)
  assert len(prepared) == 1 and again.hash == first.hash
  more, _ = command.prepared_shipped('court', tmp_path / 'court', Settings(tasks=('empty', 'pedestrian'), num=3))
  three = more.episodes('empty')
  assert len(prepared) == 2 and more.hash == first.hash and three.scene_hash == two.scene_hash
  assert three.episodes[:2] == two.episodes and len(three.episodes) == 3
  # a car's are another file, and delivery's do not suffice for it
  turning = dataclasses.replace(few, turns=turns_of(ROBOTS['coco']))
  cars, _ = command.prepared_shipped('court', tmp_path / 'court', turning)
  assert len(prepared) == 3 and cars.episodes('empty').turn_radius == pytest.approx(1 / ROBOTS['coco'].curvature)
  car = UrbanEnv(lambda key, level: None, sim_settings.env_config(get_config('robot=coco').env))
  wide = dataclasses.replace(two, robot_radius=1.0)
  with pytest.raises(ValueError, match=r'planned for a robot that turns on 0 m, this one needs 1\.25 m; prepare'):
    check_files(car, [wide], 1, 1)
  check_files(car, [dataclasses.replace(cars.episodes('empty'), robot_radius=1.0)], 1, 1)
