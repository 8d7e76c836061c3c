"""The layout of a report: large confusion matrices, and print."""

import itertools
import re
from pathlib import Path

from glr_jax.page import wrong_clips
from glr_jax.page.markup import document
from tests import browser
from tests.browser import needs_chromium
from tests.test_page import dataset_of, evidence_of, write


def page_of(folder: Path, count: int) -> Path:
    return write(folder, evidence_of(dataset_of(tuple(f'label {k}' for k in range(count)), 600)))


@needs_chromium
def test_the_names_of_sixty_labels_are_all_shown_and_do_not_overlap(tmp_path: Path) -> None:
    script = """(() => { const box = document.querySelector('#confusion .box');
        const names = [...box.querySelectorAll('text[style]')].map((text) =>
            text.getBoundingClientRect());
        return [box.scrollHeight - box.clientHeight, box.scrollWidth - box.clientWidth,
            names.filter((_, k) => k % 2 === 0).map((name) => [name.top, name.bottom]),
            names.filter((_, k) => k % 2 === 1).map((name) => [name.left, name.right])]; })()"""
    hidden_below, hidden_beside, rows, columns = browser.evaluate(page_of(tmp_path, 60), script)
    assert (hidden_below, hidden_beside) == (0, 0)
    for names in (rows, columns):
        assert len(names) == 60
        overlaps = [a[1] - b[0] for a, b in itertools.pairwise(names)]
        assert max(overlaps) < 2  # pixels; boxes include the room above and below the letters


@needs_chromium
def test_larger_matrices_scroll_inside_their_box(tmp_path: Path) -> None:
    script = (
        '((box) => [box.scrollHeight, box.clientHeight])(document.querySelector(".box:has(svg)"))'
    )
    whole, shown = browser.evaluate(page_of(tmp_path, 150), script)
    assert whole > 1.5 * shown


@needs_chromium
def test_print_is_light_and_hides_nothing_but_the_players(tmp_path: Path) -> None:
    dataset = dataset_of(('a', 'b'), 60, str(tmp_path / 'data'))
    dataset.ids[:] = [f'{k}.wav' for k in range(60)]  # type: ignore[index]
    (tmp_path / 'data' / 'audio').mkdir(parents=True)
    for id in dataset.ids:
        (tmp_path / 'data' / 'audio' / id).touch()
    path = write(tmp_path, evidence_of(dataset, right=0.5))
    # The rules for print are tried on the screen, and those for the screen are not.
    exchanged = {'print': 'screen', 'screen': 'print'}
    text = re.sub('(?<=@media )(print|screen)', lambda m: exchanged[m[1]], path.read_text())
    path.write_text(text)
    script = """(() => { const style = (name) => getComputedStyle(document.querySelector(name));
        const all = [...document.querySelectorAll('.box')];
        return [style('body').color, style('audio').display, style('#labels tfoot').display,
            style('#labels thead th button').display, style('#labels thead th').position,
            all.every((box) => getComputedStyle(box).overflow === 'visible'),
            document.documentElement.scrollWidth]; })()"""
    ink, player, foot, button, head, visible, wide = browser.evaluate(
        path, script, width=760, dark=True
    )
    assert sum(map(int, re.findall(r'\d+', ink)[:3])) < 150
    assert (player, foot, button, head) == ('none', 'table-row-group', 'contents', 'static')
    assert visible
    assert wide <= 760


@needs_chromium
def test_the_last_number_of_a_time_axis_stays_on_one_line(tmp_path: Path) -> None:
    axis = wrong_clips._time(wrong_clips._Scale(1.0, 'seconds', ' s', 3.0))
    (tmp_path / 'index.html').write_text(document('axis', f'<figure class="clip">{axis}</figure>'))
    script = """[...document.querySelectorAll('.time span')].map((span) =>
        span.getBoundingClientRect().height)"""
    heights = browser.evaluate(tmp_path / 'index.html', script, width=390)
    assert len(heights) == axis.count('<span') > 2
    assert len(set(heights)) == 1
