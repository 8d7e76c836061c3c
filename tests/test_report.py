"""The report: text, files and page say what the scores say, whatever the labels look like."""

import csv
import itertools
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glr_jax import baselines, evaluate, metrics, report, tag_metrics, train
from glr_jax.config import Config
from glr_jax.page.report_page import page
from tests.conftest import SMALL_RUN, make_dataset

LABELS = ('rock', 'pop & <soul>', 'drum')
TARGETS, DECISIONS = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 0])
EPOCHS = [
    {'epoch': k, 'step': 4 * k, 'loss': 1 / k, 'accuracy': 1 - 1 / k}
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
        self.sections: dict[str, list[str]] = {}  # the tags inside each section
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)
        if tag == 'section':
            self.sections[dict(attributes)['id']] = []
        elif self.sections:
            self.sections[list(self.sections)[-1]].append(tag)


@pytest.fixture(autouse=True)
def as_wide_as_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '100')  # not as the terminal that the tests run in


def test_the_table_has_a_line_per_label_and_the_means() -> None:
    lines = report.table(scores()).splitlines()
    for line, label in zip(lines[1:], LABELS, strict=False):
        assert line.startswith(label)
    assert [len(line) for line in lines[:5]] == [len(lines[0])] * 5
    assert lines[4].split() == ['mean', '0.722', '0.667', '0.656', '6']
    first, second = lines[6:]
    assert first.startswith('accuracy 0.667 (95 % interval 0.300 to 0.903) on 6 test clips')
    assert second == 'segments 0.500'


@pytest.mark.parametrize(('terminal', 'widest'), [('70', 70), ('200', 100)])
def test_the_sentences_are_wrapped_to_the_width_of_the_terminal(
    terminal: str, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('COLUMNS', terminal)
    sentence = f'{report.headline(scores())}; {report.compared(tag_floor())}; no_{"x" * 120}'
    lines = report.wrapped(sentence).split('\n')
    assert ' '.join(lines) == sentence
    assert widest - 20 < max(len(line) for line in lines[:-1]) <= widest
    assert lines[-1] == f'no_{"x" * 120}'
    for line, after in itertools.pairwise(lines):  # no line is shorter than it need be
        assert len(f'{line} {after.split()[0]}') > widest


def test_the_page_has_every_label_figure_and_score_as_text() -> None:
    found = Page(page(scores(), report.headline(scores()), Config(workdir='runs/a<b'), EPOCHS))
    assert [found.sections[name].count('svg') for name in ('training', 'confusion')] == [2, 1]
    assert found.tags.count('script') == 1  # the one that sorts tables
    for text in (*LABELS, 'data/<mine>', 'a<b', report.headline(scores())):
        assert text in found.text
    assert found.sections['labels'].count('tr') == 2 + len(LABELS)


def test_a_page_without_epochs_says_so() -> None:
    text = page(scores(), '', Config(workdir='w'), [])
    assert 'no epochs logged' in text


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    log = tmp_path / 'metrics.jsonl'
    log.write_text(''.join(json.dumps(row) + '\n' for row in EPOCHS))
    folder = tmp_path / 'report'
    report.write(str(folder), scores(), Config(workdir=str(tmp_path)))
    assert report.read(str(tmp_path)) == json.loads(json.dumps(scores()))
    assert Page((folder / 'index.html').read_text()).tags.count('svg') == 3
    assert sorted(path.name for path in folder.iterdir()) == ['index.html', 'metrics.json']


def test_the_mark_of_a_finished_run_is_written_last_and_each_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[str] = []
    monkeypatch.setattr(os, 'replace', lambda _, path: replaced.append(Path(path).name))
    dataset, config = make_dataset(LABELS, TARGETS.tolist()), Config(workdir=str(tmp_path))
    folder = str(tmp_path / 'report')
    report.write_predictions(folder, dataset, np.array([5, 1]), np.eye(3)[[0, 1]])
    report.write(folder, scores(), config)
    assert replaced == ['predictions.csv', 'index.html', 'metrics.json']
    assert os.listdir(folder) == []


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


def test_a_label_named_as_a_column_has_a_column_of_its_own(tmp_path: Path) -> None:
    dataset = make_dataset(['decision', 'id', 'rock'], [0, 1])
    report.write_predictions(str(tmp_path), dataset, np.arange(2), np.eye(3)[:2])
    with open(tmp_path / 'predictions.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert [(row['id'], row['decision'], row['probability of id']) for row in rows] == [
        ('clip 0', 'decision', '0.0000'),
        ('clip 1', 'id', '1.0000'),
    ]


def floor(svm: float = 0.5, fitted_on: int = 90) -> dict[str, Any]:
    return {
        'svm_statistics': {'accuracy': svm, 'fitted_on': fitted_on, 'train_clips': 90},
        'majority': {'accuracy': 0.25},
    }


def test_the_floor_is_one_sentence() -> None:
    words = 'on the same clips: SVM on statistics 0.500, majority class 0.250'
    assert report.compared(floor()) == words
    sampled = report.compared(floor(fitted_on=10))
    assert 'SVM on statistics (trained on 10 of 90 clips) 0.500' in sampled


def test_the_floor_is_computed_once_and_joins_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, config = make_dataset(LABELS, TARGETS.tolist()), Config(workdir=str(tmp_path))
    report.write(str(tmp_path / 'report'), scores(), config)
    asked = []
    monkeypatch.setattr(baselines, 'floor', lambda _, split: asked.append(split) or floor())
    for _ in range(2):
        assert report.add_floor(config, dataset, scores()) == floor()
    assert asked == ['random-1']
    page = tmp_path / 'report' / 'index.html'
    assert report.compared(floor()) in Page(page.read_text()).text
    before = page.read_text()
    report.write(str(tmp_path / 'report'), scores(), config)  # as `evaluate` does
    assert page.read_text() == before


@pytest.mark.parametrize(
    'change', [{'split': 'random-2'}, {'dataset': 'd'}, {'side': 'validation'}]
)
def test_the_floor_of_other_clips_is_not_shown(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(workdir=str(tmp_path))
    report.write(str(tmp_path / 'report'), scores(), config)
    monkeypatch.setattr(baselines, 'floor', lambda *_: floor())
    report.add_floor(config, make_dataset(LABELS, TARGETS.tolist()), scores())
    assert report.read_floor(str(tmp_path), scores()) == floor()
    assert report.read_floor(str(tmp_path), scores() | change) == {}
    report.write(str(tmp_path / 'other'), scores() | change, config)
    assert 'majority class' not in (tmp_path / 'other' / 'index.html').read_text()


def test_a_run_shows_the_floor_and_a_finished_one_reads_it(
    tones_run: Path,
    tones_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    found = json.loads((tones_run / 'report' / 'baselines.json').read_text())
    assert (found['split'], found['side']) == ('random-1', 'test')
    assert found['scores']['majority']['num_clips'] == 3
    assert found['scores']['svm_statistics']['train_clips'] == 24
    sentence = report.compared(found['scores'])
    assert sentence in Page((tones_run / 'report' / 'index.html').read_text()).text
    monkeypatch.setattr(baselines, 'floor', None)
    command = ['train', f'--workdir={tones_run}', f'--data.dir={tones_dataset}', *SMALL_RUN]
    train.main(command)
    assert capfd.readouterr().out.splitlines()[-1] == sentence
    train.main([*command, '--baselines=false'])
    assert sentence not in capfd.readouterr().out


def test_evaluate_shows_the_floor_of_the_runs_own_split_only(
    tones_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'run'
    shutil.copytree(tones_run, copy)
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(config | {'workdir': str(copy)}))
    sentence = report.compared(json.loads((copy / 'report/baselines.json').read_text())['scores'])
    evaluate.main(['evaluate', f'--workdir={copy}'])
    assert capfd.readouterr().out.splitlines()[-1] == sentence
    evaluate.main(['evaluate', f'--workdir={copy}', '--data.split=random-2'])
    assert 'majority class' not in capfd.readouterr().out


def tag_scores(
    count: int = 3, interval: tuple[float, float] | None = (0.8, 0.95)
) -> dict[str, Any]:
    """Scores of several labels per clip; no clip has the last label."""
    rng = np.random.default_rng(0)
    has = rng.random((24, count)) < 0.3
    has[:, -1] = False
    rows = np.clip(0.2 + 0.4 * has + 0.2 * rng.standard_normal(has.shape), 0, 1)
    labels = [f'label {k}' for k in range(count)]
    found = tag_metrics.scores(has, rows, labels, tag_metrics.best_thresholds(has, rows))
    extra = {'segment_accuracy': 0.5, 'split': 'random-1', 'side': 'test', 'step': 7}
    return found | extra | {'dataset': 'data', 'trained_on': 0, 'macro_roc_auc_interval': interval}


def test_the_table_of_several_labels_per_clip_is_sorted_by_support() -> None:
    found = tag_scores()
    lines = report.table(found).splitlines()
    assert [len(line) for line in lines[:5]] == [len(lines[0])] * 5
    support = [int(line.split()[-1]) for line in lines[1:4]]
    assert support == sorted(support, reverse=True)
    assert lines[3].split() == ['label', '2', *'-----', '0.500', '0']
    assert lines[4].split()[:2] == ['mean', f'{found["macro_roc_auc"]:.3f}']
    assert ' '.join(lines[6:]) == (
        f'macro ROC-AUC {found["macro_roc_auc"]:.3f} (95 % interval 0.800 to 0.950), average '
        f'precision {found["macro_average_precision"]:.3f}, F1 {found["macro_f1"]:.3f} '
        f'({found["macro_f1_at_half"]:.3f} at 0.5) on 24 test clips of random-1'
    )
    assert 'interval' not in report.headline(tag_scores(interval=None))


def test_the_table_marks_labels_without_training_clips_and_the_headline_counts_them() -> None:
    found = tag_scores() | {'untrained_labels': ['label 0']}
    marked = [line for line in report.table(found).splitlines() if 'no training clips' in line]
    assert [line.split()[:2] for line in marked] == [['label', '0']]
    words = '24 test clips of random-1; 1 label without training clips left out'
    assert report.headline(found).endswith(words)
    assert 'training clips' not in report.table(tag_scores())


def test_the_table_shows_the_most_frequent_of_many_labels() -> None:
    lines = report.table(tag_scores(200)).splitlines()
    assert len(lines) == 1 + 20 + 2 + 3
    assert lines[21] == '180 less frequent labels: see the page or metrics.json'
    assert lines[22].startswith('mean')
    assert report.table(tag_scores(21)).splitlines()[21].startswith('1 less frequent label: ')


def tag_floor() -> dict[str, Any]:
    rows = {'macro_roc_auc': 0.75, 'macro_average_precision': 0.3, 'macro_f1': 0.25}
    linear = rows | {'fitted_on': 10, 'train_clips': 90}
    return {'linear_statistics': linear, 'majority': rows | {'macro_roc_auc': None}}


def test_the_floor_of_several_labels_per_clip_is_one_sentence() -> None:
    assert report.compared(tag_floor()) == (
        'on the same clips: linear classifier on statistics (trained on 10 of 90 clips) macro '
        'ROC-AUC 0.750, average precision 0.300, F1 0.250; label frequencies macro ROC-AUC -, '
        'average precision 0.300, F1 0.250'
    )


def test_the_floor_has_macro_f1_where_it_is_known() -> None:
    found = floor()
    found['svm_statistics']['macro_f1'] = 0.45
    assert 'SVM on statistics 0.500 (macro-F1 0.450), majority' in report.compared(found)
    found['majority']['macro_f1'] = 0.1
    assert report.compared(found).endswith('majority class 0.250 (macro-F1 0.100)')


@pytest.mark.parametrize(
    'wrong',
    [
        *({'macro_roc_auc': value} for value in (2, '1', 10**400)),
        *({'macro_f1': [0]}, {'fitted_on': None}),
    ],
)
def test_a_damaged_floor_of_several_labels_per_clip_is_not_shown(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / 'report').mkdir()
    path, which = tmp_path / 'report' / 'baselines.json', ('dataset', 'split', 'side')
    values = {name: tag_scores()[name] for name in which} | {'scores': tag_floor()}
    path.write_text(json.dumps(values))
    assert report.read_floor(str(tmp_path), tag_scores()) == tag_floor()
    assert report.read_floor(str(tmp_path), scores() | {'dataset': 'data'}) == {}
    values['scores'] = tag_floor() | {'linear_statistics': tag_floor()['linear_statistics'] | wrong}
    path.write_text(json.dumps(values))
    assert report.read_floor(str(tmp_path), tag_scores()) == {}


def test_predictions_of_several_labels_per_clip_are_joined(tmp_path: Path) -> None:
    dataset = make_dataset(LABELS, [0, 0])
    object.__setattr__(dataset, 'targets', np.array([[1, 1, 0], [0, 0, 0]], np.uint8))
    rows = np.array([[0.2, 0.9, 0.6], [0.1, 0.2, 0.3]])
    report.write_predictions(str(tmp_path), dataset, np.arange(2), rows, (0.2, 0.5, 0.7))
    with open(tmp_path / 'predictions.csv', newline='', encoding='utf-8') as file:
        found = list(csv.reader(file))
    assert found == [
        ['id', 'labels', 'decision', *LABELS],
        ['clip 0', 'rock|pop & <soul>', 'rock|pop & <soul>', '0.2000', '0.9000', '0.6000'],
        ['clip 1', '', '', '0.1000', '0.2000', '0.3000'],
    ]


def test_a_report_of_several_labels_per_clip_is_read_back(tmp_path: Path) -> None:
    found = tag_scores()
    report.write(str(tmp_path / 'report'), found, Config(workdir=str(tmp_path)))
    assert report.read(str(tmp_path)) == json.loads(json.dumps(found))
    assert 'less frequent' not in (tmp_path / 'report' / 'index.html').read_text()


def test_a_run_with_several_labels_per_clip_has_a_whole_report(
    tagged_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'run'
    shutil.copytree(tagged_run, copy)
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(config | {'workdir': str(copy)}))
    folder = copy / 'report'
    found = Page((folder / 'index.html').read_text())
    assert list(found.sections)[2:] == [
        *('training', 'labels', 'curves', 'together', 'calibration', 'wrong', 'again')
    ]
    assert found.sections['training'].count('svg') == 2
    written = json.loads((folder / 'metrics.json').read_text())
    low, high = written['macro_roc_auc_interval']
    assert low <= written['macro_roc_auc'] <= high
    floor = json.loads((folder / 'baselines.json').read_text())['scores']
    assert report.compared(floor) in found.text
    with open(folder / 'predictions.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    for label, row in written['per_class'].items():
        assert sum(label in each['labels'].split('|') for each in rows) == row['support']
        assert sum(label in each['decision'].split('|') for each in rows) == row['decided']
    evaluate.main(['evaluate', f'--workdir={copy}'])
    sentences = [report.headline(written), report.compared(floor)]
    assert capfd.readouterr().out.endswith('\n'.join(map(report.wrapped, sentences)) + '\n')
