"""Simulated pedestrians move much as real ones do (ETH/UCY), and the measures measure what they say."""

import numpy as np
import pytest

from experiments.pedestrians import streets, tracks


def test_measures_of_tracks_made_by_hand():
  # a quarter turn of radius 2 m at 1 m/s, then nobody
  angle = np.arange(7) * tracks.STEP / 2
  arc = tracks.Tracks(np.stack([2 * np.sin(angle), 2 - 2 * np.cos(angle)], axis=-1)[:, None])
  np.testing.assert_allclose(tracks.speeds(arc), 1, rtol=0.01)
  np.testing.assert_allclose(tracks.curvatures(arc), 0.5, rtol=0.01)
  np.testing.assert_allclose(tracks.accelerations(arc), 0.5, rtol=0.01)
  time = np.arange(12) * tracks.STEP
  ahead = np.stack([1.2 * time, np.zeros(12)], axis=-1)
  beside, towards = ahead + [0, 0.8], np.array([6.6, 1.5]) - ahead
  crowd = tracks.Tracks(np.stack([ahead, beside, towards], axis=1))
  np.testing.assert_array_equal(tracks.in_groups(crowd), [1, 1, 0])
  np.testing.assert_allclose(tracks.group_distances(crowd), 0.8)
  # seen every 0.5 s they are 0.6 m apart along the way when nearest, and 0.7 and 1.5 m across
  nearest = np.hypot(0.6, [0.7, 1.5])
  np.testing.assert_allclose(sorted(tracks.passing_distances(crowd)), nearest, rtol=1e-6)
  np.testing.assert_allclose(tracks.straightness(tracks.Tracks(ahead[:, None])), 1)


def test_a_hole_in_a_recording_ends_a_track_and_frames_become_seconds(tmp_path):
  rows = [(frame, 1, 0.4 * frame / 10, 2.0) for frame in (*range(0, 60, 10), *range(200, 260, 10))]
  path = tmp_path / 'somewhere.txt'
  np.savetxt(path, rows)
  read = tracks.read_tracks(path)
  assert read.positions.shape[1] == 2
  np.testing.assert_allclose(tracks.speeds(read), 1.0, rtol=1e-6)


@pytest.fixture(scope='module')
def real(shared_data):
  folder = shared_data / 'pedestrians' / 'eth_ucy_trajnet_txt'
  if not folder.is_dir():
    pytest.skip('the real tracks (ETH/UCY) are not beside the checkout')
  return tracks.measure([tracks.read_tracks(folder / f'{name}.txt') for name in ('crowds_zara01', 'uni_examples')])


@pytest.fixture(scope='module')
def ours():
  return tracks.measure(streets.our_tracks('square', num_worlds=16, seconds=30.0, seed=3))


def test_simulated_people_move_like_real_ones(real, ours):
  def near(name, share, tolerance):
    a, b = np.quantile(real[name], share), np.quantile(ours[name], share)
    assert abs(a - b) < tolerance, f'{name}: {share} quantile {b:.3f}, really {a:.3f}'

  near('speed', 0.5, 0.15)
  near('speed', 0.05, 0.3)
  near('speed', 0.95, 0.3)
  near('acceleration', 0.5, 0.1)
  near('acceleration', 0.95, 0.35)
  near('curvature', 0.5, 0.04)
  near('curvature', 0.95, 0.35)
  near('straightness', 0.05, 0.08)
  near('group_distance', 0.5, 0.25)
  near('passing_distance', 0.5, 0.5)
  near('passing_distance', 0.05, 0.35)
  assert abs(real['in_group'].mean() - ours['in_group'].mean()) < 0.25
