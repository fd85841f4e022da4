"""The page of the benchmark's report, its maps and its films."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest

from s2e_jax.closedloop.run import Judged
from s2e_jax.navbench import report_films
from s2e_jax.navbench.report import write_navbench_report
from s2e_jax.navbench.report_html import html_table
from s2e_jax.navbench.report_pictures import draw_episode, inks_of, plan_of, png, window_over
from tests.navbench.test_report import DT, POLICIES, cell, frames_of


@pytest.fixture(scope='module')
def page_path(tmp_path_factory):
  """report.html of two scenes and two tasks."""
  cells = [cell('hall', 'empty'), cell('hall', 'both'), cell('yard', 'empty')]
  out = tmp_path_factory.mktemp('page')
  settings = {'robot': 'delivery', 'note': '</code><i>'}
  write_navbench_report(cells, POLICIES, settings, out, top_speed=2.0, num_resamples=9, num_maps=1)
  return out / 'report.html'


class Page(html.parser.HTMLParser):
  """Checks that tags close in order; gathers text and what would be fetched."""

  VOID = ('meta', 'img', 'br', 'line', 'circle')

  def __init__(self):
    super().__init__()
    self.open, self.text, self.sources = [], [], []

  def handle_starttag(self, tag, attrs):
    self.sources += [v for k, v in attrs if k in ('src', 'href', 'poster', 'srcset', 'data')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    pass

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def parsed(path):
  page = Page()
  page.feed(path.read_text())
  page.close()
  assert page.open == []
  return page, ' '.join(page.text)


def test_the_page_is_whole_and_fetches_nothing(page_path):
  page, text = parsed(page_path)
  for name in (*POLICIES, 'S2E-BC', 'S2E-Full', 'hall', 'yard', 'NOT COMPARABLE', 'CityWalker', 'delivery'):
    assert name in text
  assert all(source.startswith(('data:', '#')) for source in page.sources)
  assert not re.search(r'https?:|//|url\(|@import|<script', re.sub(r'base64,[^"]*', '', page_path.read_text()))
  assert sum(source.startswith('data:image/png') for source in page.sources) == 3
  assert 'viewport' in page_path.read_text()


def test_a_markdown_table_becomes_the_same_cells():
  found = html_table(['| a | b |', '|---|---:|', '| x \\| <y> | `z` |'])
  assert '<td class="left">x | &lt;y&gt;</td><td><code>z</code></td>' in found


def test_maps_show_ways_in_the_colours_of_their_methods():
  here, inks = cell('hall', 'both'), inks_of(POLICIES)
  assert inks['bc 0'].rgb == inks['bc 1'].rgb == inks['S2E-BC'].rgb != inks['full'].rgb
  assert inks['bc 0'].dash == 0 < inks['bc 1'].dash
  alone = dataclasses.replace(here, judged=Judged({'full': here.judged.traces['full']}, {}))
  picture = draw_episode(alone, 1, plan_of(here.prepared), inks, width=600)
  window = window_over(np.array([[0.0, 0.0], [11.0, 0.0]]), 600)
  assert picture.shape == (window.size[1], 600, 3)
  column, row = np.array(window.pixel((8.0, 0.0))) // 2  # of the picture, which is half the drawing
  np.testing.assert_allclose(picture[row, column], inks['full'].rgb, atol=3)
  assert np.abs(picture[row - 30, column].astype(int) - inks['full'].rgb).max() > 30


def test_films_are_of_the_best_median_and_worst_episode_and_decode(tmp_path):
  av = pytest.importorskip('av')
  asked = []

  def see(cell, policy, row):
    asked.append((policy, row))
    return frames_of(cell, policy, row)

  cells = [cell('hall', 'empty')]
  write_navbench_report(
    cells, POLICIES, {}, tmp_path, top_speed=2, see=see, film=['bc 0'], num_maps=0, num_resamples=9
  )
  # RC .25 is the worst; of 1, 1, .5, .25 the third from below is a success
  assert asked == [('bc 0', 2), ('bc 0', 0), ('bc 0', 3)]
  page, text = parsed(tmp_path / 'report.html')
  films = [source for source in page.sources if source.startswith('data:video/mp4;base64,')]
  assert len(films) == 3 and all(word in text for word in ('best', 'median', 'worst'))
  lengths = []
  for film in films:
    with av.open(io.BytesIO(base64.b64decode(film.split(',')[1]))) as container:
      assert container.streams.video[0].average_rate == report_films.SPEED_UP / DT
      lengths.append(sum(1 for _ in container.decode(video=0)))
  assert lengths == [21, 21, 41]


def test_a_stored_map_keeps_the_colour_of_a_short_way():
  from PIL import Image

  noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)
  noise[3:5, 3:6] = inks_of(POLICIES)['full'].rgb
  stored = np.asarray(Image.open(io.BytesIO(png(noise))).convert('RGB'))
  np.testing.assert_array_equal(stored[3:5, 3:6], noise[3:5, 3:6])
