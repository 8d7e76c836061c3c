"""Labels and file names are data, wherever they are shown."""

import io
import os
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest

from data_prep import inspect, pictures
from data_prep.clips import readable
from experiments.tables import markdown
from glr_jax import audio_paths, metrics, report
from glr_jax.config import Config
from glr_jax.page.report_page import page
from glr_jax.text import cell, columns, in_ranges, printable, shorten
from tests.conftest import make_dataset

LABELS = (
    'Joey Bada$$',
    '$x_1^2$ and $\\frac{1}{2}$',
    '100 % _under_ ^hat ~ # & {brace} \\back',
    '<script>alert(1)</script>',
    '"quoted", \'single\'; a|b',
    '🎵🇯🇵👩‍👩‍👧',
    '鼓 太鼓',
    'موسيقى שלום',
    'abc\u202edcba',
    'clear\x1b[2Jscreen\x07',
    'long ' * 40,
    'a\u0301e\u0301',
)


def scores_of(labels: tuple[str, ...]) -> dict:
    numbers = np.arange(len(labels))
    found = metrics.scores(numbers, np.roll(numbers, 1), labels)
    return found | {
        **{'segment_accuracy': 0.5, 'split': 'random-1', 'side': 'test', 'step': 7},
        **{'dataset': os.fsdecode(b'caf\xe9/\x1b'), 'trained_on': 0},
    }


def is_safe(text: str) -> bool:
    """Whether a terminal shows the text without moving the cursor, and UTF-8 can hold it."""
    text.encode()
    found = {unicodedata.category(character) for character in text.replace('\n', '')}
    return not found & {'Cc', 'Cs', 'Zl', 'Zp'} and '\u202e' not in text


def test_the_table_is_aligned_and_safe_for_any_label() -> None:
    text = report.table(scores_of(LABELS))
    assert is_safe(text)
    rows = text.splitlines()[: len(LABELS) + 2]
    assert len({columns(row) for row in rows}) == 1
    assert max(map(columns, rows)) < 100


def test_the_page_and_its_figures_show_any_label() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        text = page(scores_of(LABELS), 'headline', Config(workdir='runs/$a$<b>'), [])
    assert is_safe(text)
    assert text.count('<script') == 1  # the one that sorts tables
    matrix, table = (text.split(f'<section id="{name}">')[1] for name in ('confusion', 'labels'))
    matrix, table = matrix.split('</svg>')[0], table.split('</section>')[0]
    for shown in ('Joey Bada$$', '$x_1^2$ and', '鼓 太鼓', '&lt;script&gt;alert(1)'):
        assert table.count(shown) == 1
        assert re.sub('<title>.*?</title>', '', matrix).count(shown) == 2  # on both axes
        assert matrix.count(shown) == 4  # and in the cells of its row and its column
    assert '\\x1b[2J' in text


@pytest.mark.parametrize('suffix', ['.png', '.svg'])
def test_spectrograms_of_any_label_and_id_are_drawn(tmp_path: Path, suffix: str) -> None:
    labels = (LABELS[0], LABELS[-2], LABELS[8] + LABELS[9], LABELS[5] + LABELS[6])
    dataset = make_dataset(labels, range(4), [np.full((4, 2), k, np.uint8) for k in range(4)])
    dataset.ids[:] = [f'{label}/new\nline$^$.wav' for label in labels]
    pictures.draw(dataset, np.full(4, 4), str(tmp_path / f'page{suffix}'))
    assert (tmp_path / f'page{suffix}').stat().st_size


def test_markdown_keeps_its_columns() -> None:
    text = markdown(['', 'x'], [[label, '1'] for label in LABELS])
    assert is_safe(text)
    rows = text.splitlines()
    assert len(rows) == 2 + len(LABELS)
    assert len({columns(row) for row in rows}) == 1
    assert all(row.replace('\\|', '').count('|') == 3 for row in rows)


def test_printable_text_stays_as_it_is() -> None:
    for text in ('', 'rock', 'ä', '鼓', '👩‍👩‍👧', 'שלום'):
        assert printable(text) == text
    assert printable('a\nb\x00\udce9\u2028') == r'a\nb\x00\xe9\u2028'


def test_bytes_that_are_not_utf8_have_one_spelling_in_tables_and_in_files() -> None:
    name = os.fsdecode(b'\xff\xfe-caf\xe9.wav')
    assert printable(name) == audio_paths.written(name) == readable(name) == r'\xff\xfe-caf\xe9.wav'


@pytest.mark.parametrize(
    ('text', 'width'), [('abc', 3), ('鼓', 2), ('🎵', 2), ('e\u0301', 1), ('שלום', 4), ('', 0)]
)
def test_columns_are_those_of_a_terminal(text: str, width: int) -> None:
    assert columns(text) == width
    assert cell(text, 5) == text + ' ' * (5 - width)


@pytest.mark.parametrize(
    ('names', 'text'),
    [
        ([], ''),
        (['official'], 'official'),
        (['random-1', 'random-2', 'official'], 'random-1, random-2, official'),
        (
            [*(f'random-{k}' for k in range(1, 11)), 'group-1', 'official', 'a-3', 'a-4', 'a-5'],
            'random-1 to random-10, group-1, official, a-3 to a-5',
        ),
        (
            ['a-1', 'b-2', 'b-4', 'b-x', 'b-01', 'b-02', 'b-03'],
            'a-1, b-2, b-4, b-x, b-01, b-02, b-03',
        ),
    ],
)
def test_numbered_names_are_shown_as_ranges(names: list[str], text: str) -> None:
    assert in_ranges(names) == text


def test_a_long_text_is_cut_at_whole_characters() -> None:
    assert shorten('abcdef', 6) == 'abcdef'
    assert shorten('abcdef', 5) == 'abcd…'
    assert shorten('鼓鼓鼓', 5) == '鼓鼓…'
    assert shorten('鼓鼓鼓', 4) == '鼓…'
    assert cell('abcdef', 3, 5) == 'abcd…'


def test_what_is_printable_can_be_written_in_any_locale() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    for label in LABELS:
        stream.write(printable(label))
    stream.flush()


def test_a_label_without_clips_is_shown_too(tmp_path: Path) -> None:
    dataset = make_dataset(('a', 'b'), [0, 0], [np.zeros((4, 2), np.uint8)] * 2)
    pictures.draw(dataset, np.array([4, 4]), str(tmp_path / 'page.png'))
    rows = inspect.label_table(dataset, np.array([4, 4])).splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [['a', '2'], ['b', '0'], ['all', '2']]
