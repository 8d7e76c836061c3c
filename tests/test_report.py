"""The report: text, files and page say what the scores say, whatever the labels look like."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glr_jax import metrics, report
from glr_jax.config import Config
from glr_jax.html_report import page
from tests.conftest import make_dataset

LABELS = ('rock', 'pop & <soul>', 'drum')
TARGETS, DECISIONS = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
EPOCHS = [
    {'epoch': k, 'loss': 1 / k, 'accuracy': 1 - 1 / k}
    | {'validation_loss': 2 / k, 'validation_accuracy': 0.5}
    for k in (1, 2, 3)
]


def scores() -> dict[str, Any]:
    found = metrics.scores(TARGETS, DECISIONS, LABELS)
    extra = {'segment_accuracy': 0.5, 'split': 'random-1', 'side': 'test', 'step': 7}
    return found | extra | {'dataset': 'data/<mine>', 'trained_on': 0}


class Page(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.tags = '', []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)


def test_the_table_has_a_line_per_label_and_the_means() -> None:
    lines = report.table(scores()).splitlines()
    for line, label in zip(lines[1:], LABELS, strict=False):
        assert line.startswith(label)
    assert [len(line) for line in lines[:5]] == [len(lines[0])] * 5
    assert lines[4].split() == ['mean', '0.722', '0.667', '0.656', '6']
    assert lines[-1].startswith('accuracy 0.667 (95 % interval 0.300 to 0.903) on 6 test clips')


def test_the_page_has_every_label_figure_and_score_as_text() -> None:
    found = Page(page(scores(), report.headline(scores()), Config(workdir='runs/a<b'), EPOCHS))
    assert found.tags.count('svg') == 2
    assert 'script' not in found.tags
    for text in (*LABELS, 'data/<mine>', 'a<b', report.headline(scores())):
        assert text in found.text
    assert found.tags.count('tr') == 2 + len(LABELS)


def test_a_page_without_epochs_says_so() -> None:
    text = page(scores(), '', Config(workdir='w'), [])
    assert 'no epochs logged' in text


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    log = tmp_path / 'metrics.jsonl'
    log.write_text(''.join(json.dumps(row) + '\n' for row in EPOCHS))
    folder = tmp_path / 'report'
    report.write(str(folder), scores(), Config(workdir=str(tmp_path)), str(log))
    assert report.read(str(tmp_path)) == json.loads(json.dumps(scores()))
    assert (folder / 'index.html').read_text().count('<svg') == 2
    assert sorted(path.name for path in folder.iterdir()) == ['index.html', 'metrics.json']


def test_an_unfinished_run_has_no_scores(tmp_path: Path) -> None:
    assert report.read(str(tmp_path)) == {}


def test_predictions_are_in_the_order_of_the_clips(tmp_path: Path) -> None:
    dataset = make_dataset(LABELS, TARGETS.tolist())
    probabilities = np.eye(3)[DECISIONS]
    report.write_predictions(str(tmp_path), dataset, np.array([5, 1]), probabilities[[5, 1]])
    with open(tmp_path / 'predictions.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [(row['id'], row['label'], row['decision']) for row in rows] == [
        ('clip 5', 'drum', 'rock'),
        ('clip 1', 'rock', 'pop & <soul>'),
    ]
    assert [float(row['rock']) for row in rows] == pytest.approx([1, 0])
