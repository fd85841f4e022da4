"""Pictures of an open-loop evaluation: single windows on the frame and from above, anchors, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import simplejpeg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.special import softmax

from s2e_jax import geometry
from s2e_jax.data.dataset import Dataset
from s2e_jax.openloop import metrics
from s2e_jax.openloop.calibration import COVERAGES, ellipse_radius2
from s2e_jax.openloop.run import POLICIES, Evaluation
from s2e_jax.structs import Camera

TRUTH, TOP, OTHER, GOAL = '#00c853', '#d50000', '#546e7a', '#aa00ff'
_SCORES = matplotlib.colormaps['plasma']
_LABELS = {'policy': 'with goal', 'policy_goal_free': 'goal-free'}
_BUCKET_COLOURS = ('#37474f', '#1e88e5', '#fb8c00', '#8e24aa')


def draw_case(evaluation: Evaluation, dataset: Dataset, row: int, name: str, path: Path) -> Path:
  """One window: left the present frame, right a map (x forward is up), with truth, modes by score, anchors."""
  cases, mixture = evaluation.cases, evaluation.mixtures['policy']
  clip = dataset.clips[cases.clip[row]]
  present = int(cases.history[row, -1])
  (jpeg,) = dataset.frames(int(cases.clip[row]), [present])
  image = simplejpeg.decode_jpeg(jpeg, 'RGB')
  camera = clip.camera.resized(image.shape[1], image.shape[0])
  truth = cases.waypoints[row]
  modes = np.asarray(mixture.waypoints_in_robot)[row]
  score = softmax(np.asarray(mixture.logits)[row])
  order = np.argsort(score)  # the top mode is drawn last, over the others
  rival = evaluation.baselines['constant_velocity'][row]

  aspect = image.shape[1] / image.shape[0]
  figure = Figure(figsize=(4.6 * aspect + 5.4, 5.4), dpi=110, layout='constrained')
  on_frame, above = figure.subplots(1, 2, width_ratios=(4.6 * aspect, 4.6))
  on_frame.imshow(image, interpolation='lanczos')
  for path_, style in (
    *(
      (modes[m], dict(color=_SCORES(score[m] / score.max() * 0.9), lw=1.5, alpha=0.2 + 0.7 * score[m]))
      for m in order
    ),
    (rival, dict(color=OTHER, lw=1.6, ls='--')),
    (truth, dict(color=TRUTH, lw=3.2)),
    (modes[order[-1]], dict(color=TOP, lw=2.4)),
  ):
    _on_ground(on_frame, path_, camera, **style)
  on_frame.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
  guess = ' (camera parameters guessed: projection approximate)' if camera.model == 'unknown' else ''
  on_frame.set_title(f'{clip.clip_id}, frame {present}{guess}', fontsize=9, loc='left')

  _draw_map(above, evaluation, row, truth, modes, score, order, rival)
  figure.legend(*above.get_legend_handles_labels(), fontsize=8, ncols=6, loc='outside lower center', frameon=False)
  error = np.linalg.norm(modes[order[-1]] - truth, axis=-1)
  bucket = metrics.BUCKETS[metrics.bucket_of(truth[None])[0]]
  figure.suptitle(
    f'{_banner(evaluation)}{name.replace("_", " ")}: {bucket}, ADE {error.mean():.2f} m, FDE {error[-1]:.2f} m, '
    f'path {metrics.path_length(truth[None])[0]:.2f} m',
    fontsize=11,
  )  # fmt: skip
  return _save(figure, path)


def _draw_map(axes: Any, evaluation: Evaluation, row: int, truth, modes, score, order, rival) -> None:
  """Top-down view: y points left, so the horizontal axis is reversed."""
  cases, mixture = evaluation.cases, evaluation.mixtures['policy']
  anchors = evaluation.anchors * np.asarray(mixture.step_length)[row][:, None]
  axes.scatter(anchors[:, 1], anchors[:, 0], marker='x', s=30, color=OTHER, lw=1, label='anchors (at own v)')
  for m in order:
    colour = _SCORES(score[m] / score.max() * 0.9)
    line = _with_origin(modes[m])
    axes.plot(line[:, 1], line[:, 0], color=colour, lw=1.4, alpha=0.25 + 0.75 * score[m])
    if score[m] >= 0.02 and m != order[-1]:
      axes.annotate(f'{score[m]:.2f}', modes[m, -1, ::-1], fontsize=8, color=colour)
  top = order[-1]
  for h in range(modes.shape[1]):
    for coverage in COVERAGES:
      axes.add_patch(_ellipse(mixture, row, top, h, coverage))
  for line, style in (
    (rival, dict(color=OTHER, ls='--', lw=1.5, label='constant velocity')),
    (truth, dict(color=TRUTH, lw=3, marker='o', ms=4, label='truth')),
    (
      modes[top],
      dict(color=TOP, lw=2, marker='.', ms=6, label=f'top mode, q = {score[top]:.2f}, 50/90 % ellipses'),
    ),
  ):
    full = _with_origin(line)
    axes.plot(full[:, 1], full[:, 0], **style)
  shown = np.concatenate([np.zeros((1, 2)), truth, *modes[score > 0.05], rival])
  reach = max(1.0, 1.15 * np.abs(shown).max())
  if cases.has_goal[row]:
    goal = cases.goal_in_robot[row]
    distance = max(float(np.linalg.norm(goal)), 1e-6)
    tip = goal / distance * min(distance, 0.92 * reach)
    axes.annotate(
      '', tip[::-1], (0, 0), arrowprops=dict(arrowstyle='->', color=GOAL, lw=1.2, ls=':'), annotation_clip=True
    )
    axes.plot([], [], color=GOAL, ls=':', label=f'goal, {distance:.1f} m away')
  below = shown[:, 0].min() - 0.15 * reach
  half = max(0.45 * (reach - below), 1.15 * np.abs(shown[:, 1]).max())
  axes.plot(0, 0, marker='^', ms=9, color='black')
  axes.set(xlim=(half, -half), ylim=(below, reach), xlabel='y, left (m)', ylabel='x, forward (m)')
  axes.set_aspect('equal', adjustable='box')
  axes.grid(alpha=0.3)


def draw_anchors(evaluation: Evaluation, path: Path) -> Path:
  """Normalised true end points by bucket under the anchors, and how often each mode is used."""
  cases, anchors = evaluation.cases, evaluation.anchors
  figure = Figure(figsize=(11, 5), dpi=110, layout='constrained')
  left, right = figure.subplots(1, 2)
  steps = np.maximum(metrics.path_length(cases.waypoints) / cases.waypoints.shape[1], 0.01)
  ends = cases.waypoints[:, -1] / steps[:, None]
  bucket = metrics.bucket_of(cases.waypoints)
  for i, name in enumerate(metrics.BUCKETS):
    rows = bucket == i
    label = f'{name} ({rows.sum()})'
    left.scatter(ends[rows, 1], ends[rows, 0], s=6, alpha=0.5, color=_BUCKET_COLOURS[i], label=label, lw=0)
  left.scatter(anchors[:, 1], anchors[:, 0], marker='x', s=70, color=TOP, lw=2, label='anchors')
  for m, (x, y) in enumerate(anchors):
    left.annotate(str(m), (y, x), textcoords='offset points', xytext=(5, 5), color=TOP, fontsize=9)
  reach = 1.15 * max(np.abs(anchors).max(), cases.waypoints.shape[1])
  left.set(
    xlim=(reach, -reach), ylim=(-0.35 * reach, reach), xlabel='y, left (steps)', ylabel='x, forward (steps)'
  )
  left.set_aspect('equal', adjustable='box')
  left.set_title('true end points in units of the mean step', fontsize=10)
  left.legend(fontsize=8, loc='lower left', markerscale=1.5)
  left.grid(alpha=0.3)
  num_modes = len(anchors)
  statistics = {name: evaluation.results['calibration'][name]['modes'] for name in evaluation.mixtures}
  bars = [
    (f'{kind}, {_LABELS[n]}', s[f'{kind}_share']) for n, s in statistics.items() for kind in ('assigned', 'top')
  ]
  colours = ('#00695c', '#80cbc4', '#bf360c', '#ffab91')
  for i, (label, share) in enumerate(bars):
    right.bar(np.arange(num_modes) + 0.2 * (i - 1.5), share, 0.2, label=label, color=colours[i])
  right.set(xlabel='mode', ylabel='share of windows', xticks=np.arange(num_modes) if num_modes <= 16 else [])
  entropy = ', '.join(f'{s["score_entropy"]:.2f} {_LABELS[n]}' for n, s in statistics.items())
  most = next(iter(statistics.values()))['score_entropy_max']
  right.set_title(
    f'use of the modes; mean score entropy (nats):\n{entropy}; most possible {most:.2f}', fontsize=10
  )
  right.legend(fontsize=8)
  right.grid(alpha=0.3, axis='y')
  figure.suptitle(f'{_banner(evaluation)}anchors and modes', fontsize=11)
  return _save(figure, path)


def draw_calibration(evaluation: Evaluation, path: Path) -> Path:
  """Reliability of the scores, and coverage of the ellipses along the horizon."""
  figure = Figure(figsize=(15, 4.6), dpi=110, layout='constrained')
  axes = figure.subplots(1, 4)
  axes[0].plot([0, 1], [0, 1], color=OTHER, lw=1, ls='--')
  for name, colour in zip(POLICIES, (TOP, '#1565c0'), strict=True):
    found = evaluation.results['calibration'][name]['reliability']
    known = [i for i, stated in enumerate(found['stated']) if stated is not None]
    stated, observed = ([found[key][i] for i in known] for key in ('stated', 'observed'))
    size = 10 + 120 * np.sqrt(np.array(found['count'])[known] / max(found['count']))
    axes[0].plot(stated, observed, color=colour, lw=1, alpha=0.6)
    axes[0].scatter(
      stated, observed, s=size, color=colour, alpha=0.7, label=f'{_LABELS[name]}, ECE {found["ece"]:.3f}'
    )
  axes[0].set(
    xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel='score of a mode', ylabel='share in which it was right'
  )
  axes[0].set_title('reliability of scores (area: number of modes)', fontsize=10)
  axes[0].set_aspect('equal')
  axes[0].legend(fontsize=8, loc='upper left')
  times = evaluation.cases.times
  titles = {
    'top': 'coverage of the top mode, metres',
    'assigned': 'of the assigned mode, metres',
    'shape': 'of the assigned mode, shape only',
  }
  for ax, kind in zip(axes[1:], ('top', 'assigned', 'shape'), strict=True):
    for name, colour in zip(POLICIES, (TOP, '#1565c0'), strict=True):
      shares = evaluation.results['calibration'][name]['coverage_by_waypoint']
      for coverage, style in zip(COVERAGES, ('-', '--'), strict=True):
        key = f'coverage_{round(100 * coverage)}_{kind}'
        label = f'{round(100 * coverage)} % ellipse, {_LABELS[name]}'
        ax.plot(times, shares[key], color=colour, ls=style, marker='.', label=label)
    for coverage, style in zip(COVERAGES, ('-', '--'), strict=True):
      ax.axhline(coverage, color='black', lw=0.8, ls=style, alpha=0.5)
    ax.set(ylim=(0, 1.02), xlabel='waypoint at (s)', ylabel='share of truths inside')
    ax.set_title(titles[kind], fontsize=10)
    ax.grid(alpha=0.3)
  handles, labels = axes[2].get_legend_handles_labels()
  figure.legend(handles, labels, fontsize=8, ncols=6, loc='outside lower center', frameon=False)
  figure.suptitle(
    f'{_banner(evaluation)}calibration on {evaluation.results["num_windows"]} windows (black lines: ideal)',
    fontsize=11,
  )
  return _save(figure, path)


def _on_ground(axes: Any, waypoints: np.ndarray, camera: Camera, **style: Any) -> None:
  """Draws a path of waypoints [H, 2] (m, on the ground) into an image, from where the camera first sees it."""
  start = _with_origin(waypoints)
  fine = np.linspace(0, len(start) - 1, 12 * (len(start) - 1) + 1)
  dense = np.stack([np.interp(fine, np.arange(len(start)), start[:, i]) for i in range(2)], axis=-1)
  pixels, is_visible = geometry.project(np.pad(dense, ((0, 0), (0, 1))), camera)
  pixels = np.where(is_visible[:, None], pixels, np.nan)
  axes.plot(pixels[:, 0], pixels[:, 1], solid_capstyle='round', **style)
  axes.plot(
    pixels[12::12, 0], pixels[12::12, 1], ls='', marker='o', ms=1.8 * style['lw'] ** 0.6, color=style['color']
  )


def _ellipse(mixture: Any, row: int, mode: int, h: int, coverage: float) -> Ellipse:
  """Outline of the given coverage of one waypoint in metres, in map axes (y across, x up)."""
  v = float(np.asarray(mixture.step_length)[row, mode])
  sx, sy = v * np.exp(np.asarray(mixture.log_std)[row, mode, h])
  c = float(np.asarray(mixture.rho)[row, mode, h]) * sx * sy
  values, vectors = np.linalg.eigh([[sy * sy, c], [c, sx * sx]])
  size = 2 * np.sqrt(values * ellipse_radius2(coverage))
  x, y = (v * np.asarray(mixture.mean)[row, mode, h]).tolist()
  angle = np.rad2deg(np.arctan2(vectors[1, 0], vectors[0, 0]))
  face, edge = matplotlib.colors.to_rgba(TOP, 0.05), matplotlib.colors.to_rgba(TOP, 0.3)
  return Ellipse((y, x), size[0], size[1], angle=angle, fc=face, ec=edge, lw=0.6)


def _with_origin(waypoints: np.ndarray) -> np.ndarray:
  return np.concatenate([np.zeros((1, 2)), waypoints])


def _banner(evaluation: Evaluation) -> str:
  return 'SYNTHETIC DATA, ' if evaluation.results['is_synthetic'] else ''


def _save(figure: Figure, path: Path) -> Path:
  figure.savefig(path)
  return path
