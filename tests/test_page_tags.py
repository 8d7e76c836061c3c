"""The page of a report where clips may have several labels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from glr_jax import report, tag_interval, tag_metrics
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.page import calibration, charts, protocol, tag_curves, tag_labels, wrong_tags
from glr_jax.page.evidence import Evidence
from glr_jax.page.report_page import page
from tests import browser
from tests.browser import needs_chromium
from tests.conftest import make_dataset
from tests.test_report import Page
from tests.test_text import LABELS as HOSTILE

SPLIT = 'random-1'
EPOCHS: list[dict[str, Any]] = [
    {'epoch': k, 'step': 4 * k, 'loss': 1 / k, 'validation_loss': 1.5 / k}
    | {'validation_macro_roc_auc': 1 - 0.5 / k, 'validation_macro_average_precision': 0.3}
    | {'validation_macro_f1': None if k == 1 else 0.29}
    for k in (1, 2, 3)
]


def tag_floor(area: float | None = 0.75) -> dict[str, Any]:
    rows = {'macro_roc_auc': area, 'macro_average_precision': 0.3, 'macro_f1': 0.25}
    counts = {'train_clips': 90, 'fitted_on': 90}
    return {'linear_statistics': rows | counts, 'majority': rows | {'macro_roc_auc': 0.5} | counts}


def tagged(labels: tuple[str, ...], clips: int, folder: str = 'made') -> Dataset:
    """Clips with none, one or several labels, the first ones the most frequent."""
    rng = np.random.default_rng(0)
    mels = [rng.integers(0, 256, (40 + 7 * (k % 9), 2), np.uint8) for k in range(clips)]
    made = make_dataset(labels, [0] * clips, mels)
    shares = 0.5 / np.arange(1, len(labels) + 1) ** 0.7
    changed = {
        'folder': folder,
        'targets': (rng.random((clips, len(labels))) < shares).astype(np.uint8),
        'splits': {SPLIT: ['test'] * clips},
        'groups': [f'group {k // 2}' for k in range(clips)],
    }
    for name, value in changed.items():
        object.__setattr__(made, name, value)
    return made


def evidence_of(dataset: Dataset, noise: float = 0.4) -> Evidence:
    """Probabilities around the truth, and two segments per clip."""
    rng, has = np.random.default_rng(1), dataset.has_label()
    rows = np.clip(0.2 + 0.4 * has + noise * rng.standard_normal(has.shape), 0.01, 0.99)

    def over_time(chosen: np.ndarray) -> list[tuple[Any, Any]]:
        return [
            (np.array([[0, 20], [20, len(dataset.mel(clip))]]), rows[[clip, clip]])
            for clip in chosen
        ]

    return Evidence(dataset, np.arange(len(dataset)), rows, over_time, parameters=1234)


def scores_of(evidence: Evidence) -> dict[str, Any]:
    has, rows = evidence.has_label, evidence.probabilities
    limits = tag_metrics.best_thresholds(has, rows)
    found = tag_metrics.scores(has, rows, evidence.dataset.labels, limits)
    which = {'segment_accuracy': 0.5, 'split': SPLIT, 'side': 'test', 'step': 8}
    interval = tag_interval.macro_roc_auc_interval(has, rows)
    which |= {'dataset': evidence.dataset.folder, 'trained_on': 0}
    return found | which | {'macro_roc_auc_interval': interval}


def write(folder: Path, evidence: Evidence, **changes: Any) -> Path:
    """A page in a file."""
    scores, config = scores_of(evidence) | changes, Config(workdir=str(folder))
    shown: dict[str, Any] = {'floor': tag_floor(), 'evidence': evidence, 'folder': str(folder)}
    sentence = f'{report.headline(scores)}; {report.compared(tag_floor())}'
    (folder / 'index.html').write_text(page(scores, sentence, config, EPOCHS, **shown))
    return folder / 'index.html'


@pytest.mark.parametrize('noise', [0.0, 0.4])
def test_the_curves_are_those_of_scikit_learn(noise: float) -> None:
    rng = np.random.default_rng(0)
    has = rng.random(300) < 0.2
    values = np.round(np.clip(0.3 + 0.3 * has + noise * rng.standard_normal(300), 0, 1), 2)
    false_alarms, found, precision = tag_curves.points(has, values)
    expected = sklearn.roc_curve(has, values, drop_intermediate=False)
    np.testing.assert_allclose(false_alarms, expected[0])
    np.testing.assert_allclose(found, expected[1])
    of_sklearn, recall, _ = sklearn.precision_recall_curve(has, values)
    np.testing.assert_allclose(precision, of_sklearn[:-1][::-1])
    np.testing.assert_allclose(found[1:], recall[:-1][::-1])


@pytest.mark.parametrize('count', [3, 200])
def test_a_page_of_few_and_of_many_labels_has_every_section(tmp_path: Path, count: int) -> None:
    labels = tuple(f'label {k}' for k in range(count))
    evidence = evidence_of(tagged(labels, 400), 0.2)
    text = write(tmp_path, evidence).read_text()
    scores, found = scores_of(evidence), Page(text)
    assert len(text) < 1_500_000
    assert report.headline(scores) in found.text
    assert report.compared(tag_floor()) in found.text
    assert list(found.sections)[3:7] == ['labels', 'curves', 'together', 'calibration']
    assert found.sections['labels'].count('tr') == 2 + count
    shown = re.findall(r'<tr><th scope="row"><bdi>(label \d+)', text.split('id="labels"')[1])
    support = [scores['per_class'][label]['support'] for label in shown[:count]]
    assert support == sorted(support, reverse=True)
    assert found.sections['curves'].count('polyline') == 2 * (count + 1) + min(count, 8)
    assert found.sections['wrong'].count('img') == 24
    assert 'confusion' not in found.sections
    assert 'accuracy' not in found.text


def test_labels_without_curves_are_counted_and_have_dashes(tmp_path: Path) -> None:
    dataset = tagged(('some', 'never', 'always'), 30)
    dataset.targets[:, 1:] = [0, 1]
    evidence = evidence_of(dataset)
    text = Page(write(tmp_path, evidence).read_text()).text
    assert '2 labels that all clips have, or none, have no curve' in text
    rows = tag_labels.label_table(scores_of(evidence)).split('<bdi>')
    assert [row.count('–') for row in rows[1:]] == [2, 0, 5]  # sorted: always, some, never
    assert 'mean over\n1 label<' in tag_curves.section(scores_of(evidence), evidence)
    dataset.targets[:, 0] = 0
    assert 'No label has curves' in tag_curves.section(scores_of(evidence), evidence)


def test_clips_with_the_most_wrong_labels_come_first(tmp_path: Path) -> None:
    evidence = evidence_of(tagged(tuple('abcdef'), 90))
    limits = [0.4] * 6
    text = wrong_tags.section(evidence, limits, str(tmp_path))
    mistakes = ((evidence.probabilities >= 0.4) != evidence.has_label).sum(1)
    shown = [int(clip) for clip in re.findall(r'<bdi>clip (\d+)</bdi>', text)]
    assert len(shown) == 24
    assert mistakes[shown].tolist() == sorted(mistakes, reverse=True)[:24]
    assert f'{(mistakes > 0).sum()} of 90 clips have a label' in text
    assert text.count('aria-label="probability over time"') == 24
    right = evidence_of(tagged(tuple('abc'), 9), noise=0.0)
    assert 'every label of all 9 clips was' in wrong_tags.section(right, limits[:3], '')


def test_a_clip_names_what_was_decided_wrongly_missed_and_right(tmp_path: Path) -> None:
    dataset = tagged(('<a>', 'b', 'c', 'd'), 1)
    dataset.targets[:] = [1, 0, 1, 0]
    rows = np.array([[0.1, 0.8, 0.9, 0.3]])
    spans = np.array([[0, 20], [20, 40]])
    evidence = Evidence(dataset, np.arange(1), rows, lambda _: [(spans, rows[[0, 0]])])
    text = wrong_tags.section(evidence, [0.5] * 4, str(tmp_path))
    for kind, label in (('decided wrongly', 'b</bdi></strong> 0.80'), ('right', 'c</bdi>')):
        assert f'{kind}: <strong><bdi>{label}' in text
    assert 'missed: <strong><bdi>&lt;a&gt;</bdi></strong> 0.10' in text
    assert text.count('<polyline class="one"') == text.count('<polyline class="two"') == 1


def test_labels_decided_together_wrongly_are_found_beyond_chance() -> None:
    dataset = tagged(('piano', 'violin', 'loud'), 100)
    dataset.targets[:] = 0
    dataset.targets[:10, 1] = 1
    dataset.targets[::2, 2] = 1
    rows = dataset.targets * 0.8
    rows[:10, 0] = 0.9  # piano is decided where the violin plays
    evidence = Evidence(dataset, np.arange(100), rows, lambda _: [])
    text = tag_labels.wrong_together(evidence, [0.5] * 3)
    found = re.findall(r'<t[dh][^>]*>(?:<bdi>)?([^<]+)<', text.split('<tbody>')[1])
    assert found == ['piano', 'violin', '10 of 10', '100 %', '10 %']
    assert 'loud' not in text  # half of these clips are loud, as half of all are
    none = Evidence(dataset, np.arange(100), dataset.targets * 0.8, lambda _: [])
    assert 'No label was decided wrongly' in tag_labels.wrong_together(none, [0.5] * 3)


def test_calibration_counts_every_pair_of_clip_and_label() -> None:
    evidence = evidence_of(tagged(('a', 'b'), 50))
    text = calibration.labels_section(evidence.probabilities, evidence.has_label)
    found = calibration.calibration(evidence.probabilities.ravel(), evidence.has_label.ravel())
    assert found.counts.sum() == 100
    assert f'<strong>{100 * found.error:.1f} %' in text


def test_the_scores_of_each_epoch_are_drawn_whatever_the_log_says() -> None:
    text = charts.curves(EPOCHS, 8)
    for words in ('best checkpoint: epoch 2', '>ROC-AUC<', '>average precision<', '>F1<'):
        assert words in text
    assert 'accuracy' not in text
    strange = {
        f'validation_{name}': value for name, value in zip(charts._SCORES, 'x9', strict=False)
    }
    rows = [row | strange | {'validation_macro_f1': True} for row in EPOCHS]
    assert '>F1<' not in charts.curves(rows, 8)
    assert charts.curves(EPOCHS[:1], 4).count('<circle') == 5


def test_labels_without_training_clips_are_named_and_marked() -> None:
    evidence = evidence_of(tagged(('<a>', 'b', 'c'), 60))
    scores = scores_of(evidence) | {'untrained_labels': ['<a>', 'c']}
    text = Page(protocol.section(scores, Config(workdir='w'), evidence)).text
    assert '2 labels have no training clips, so are not in the macro scores: <a>, c.' in text
    table = tag_labels.label_table(scores)
    assert table.count('(no training clips)') == 2
    assert '2 labels without training clips left out of the means.' in table
    assert 'training clips)' not in tag_labels.label_table(scores_of(evidence))
    by_name = protocol.warnings(scores | {'trained_on': 9, 'known_by_name': 4})
    assert any('4 of them have the name of a training clip' in each for each in by_name)


def test_the_protocol_says_how_many_labels_clips_have() -> None:
    dataset = tagged(('a', 'b', 'c'), 8)
    dataset.targets[:] = [[1, 1, 0]] * 6 + [[0, 0, 0]] * 2
    evidence = evidence_of(dataset)
    text = protocol.section(scores_of(evidence), Config(workdir='w'), evidence)
    assert 'these have 1.50 on average and at most 2, and 2 of 8 have none' in text
    assert 'clips without labels' in text
    assert 'reaches its threshold' in text


def test_unreadable_files_are_named_with_the_reason() -> None:
    scores = scores_of(evidence_of(tagged(('a', 'b'), 6)))
    few = protocol.warnings(scores | {'unreadable': {'<a>.wav': 'no audio'}})
    assert few == ['1 file could not be read and scored.<br><bdi>&lt;a&gt;.wav</bdi>: no audio']
    many = protocol.warnings(scores | {'unreadable': {f'{k}.wav': 'x' for k in range(30)}})
    assert 'The first 10 (metrics.json has all):' in many[0]
    assert many[0].count('<br>') == 10


def test_labels_that_other_data_does_not_have_are_named() -> None:
    scores = scores_of(evidence_of(tagged(('a', 'b'), 6)))
    few = protocol.warnings(scores | {'absent_labels': ['<c>', 'd']})
    assert few == [
        '2 labels of the network not in this data, so not scored: <bdi>&lt;c&gt;</bdi>, '
        '<bdi>d</bdi>.'
    ]
    many = protocol.warnings(scores | {'absent_labels': [f'{k}' for k in range(30)]})
    assert many[0].endswith('<bdi>9</bdi> and 20 more.')


def test_a_page_of_a_folder_of_runs_has_their_areas(tmp_path: Path) -> None:
    runs = [{'workdir': 'one', 'macro_roc_auc': 0.5}, {'workdir': 'two', 'macro_roc_auc': None}]
    text = write(tmp_path, evidence_of(tagged(('a', 'b'), 9)), runs=runs, step=[3, 4]).read_text()
    assert 'one (0.500), two (-)' in text
    assert 'macro ROC-AUC on these clips' in text


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A page with names of all kinds; labels and ids of 200 characters without a space."""
    dataset = tagged((*HOSTILE, 'x' * 200), 120)
    dataset.ids[:] = [f'{HOSTILE[k % len(HOSTILE)]}/{k}\n' + 'y' * 200 for k in range(120)]  # type: ignore[index]
    return write(tmp_path, evidence_of(dataset), unreadable={'z' * 200 + '<b>': 'no\naudio'})


def test_names_of_all_kinds_are_shown_and_load_nothing(hostile: Path) -> None:
    text = hostile.read_text()
    assert not re.findall(r'(?:src|srcset|poster|data)="(?!data:image/png;base64,)', text)
    assert Page(text).tags.count('script') == 1


@needs_chromium
@pytest.mark.parametrize('dark', [False, True])
def test_a_page_fits_a_phone(hostile: Path, dark: bool) -> None:
    script = """[document.documentElement.scrollWidth, document.documentElement.clientWidth,
        document.querySelectorAll("svg, img, table").length]"""
    wide, room, many = browser.evaluate(hostile, script, width=390, dark=dark)
    assert wide == room <= 390
    assert many > 40


@needs_chromium
def test_two_hundred_labels_fit_and_are_sorted_by_a_click(tmp_path: Path) -> None:
    evidence = evidence_of(tagged(tuple(f'label {k}' for k in range(200)), 300))
    path = write(tmp_path, evidence)
    script = """(() => { const table = document.querySelector("#labels table");
        const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
        const before = names();
        table.querySelectorAll("th button")[2].click();
        return [document.documentElement.scrollWidth, before, names()]; })()"""
    wide, before, after = browser.evaluate(path, script, width=1280)
    rows = scores_of(evidence)['per_class']
    assert wide <= 1280
    assert before == sorted(rows, key=lambda label: -rows[label]['support'])
    areas = [-1 if rows[label]['roc_auc'] is None else rows[label]['roc_auc'] for label in after]
    assert areas == sorted(areas, reverse=True)
