"""Damaged files of a run: one line with the file and the remedy, or no difference."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glr_jax import json_files, metrics, report
from glr_jax.config import Config
from glr_jax.errors import UserError
from glr_jax.fields import to_dict
from glr_jax.page.report_page import page
from glr_jax.run import workdir
from tests.conftest import make_dataset
from tests.test_metadata_files import damaged
from tests.test_report import EPOCHS, scores, tag_floor, tag_scores

FLOOR = {
    'svm_statistics': {'accuracy': 0.5, 'fitted_on': 10, 'train_clips': 20},
    'majority': {'accuracy': 0.25},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workdir with its files, but without checkpoints."""
    (tmp_path / 'report').mkdir()
    which = {name: scores()[name] for name in ('dataset', 'split', 'side')}
    for name, values in {
        'config.json': to_dict(Config(workdir=str(tmp_path), seed=3)),
        'report/metrics.json': scores(),
        'report/baselines.json': which | {'scores': FLOOR},
    }.items():
        (tmp_path / name).write_text(json.dumps(values, indent=2))
    rows = ''.join(json.dumps(row) + '\n' for row in EPOCHS)
    (tmp_path / 'metrics.jsonl').write_text(rows)
    return tmp_path


def read(folder: Path) -> list[Any]:
    """Reads and shows all that a finished run leaves."""
    found = report.read(str(folder))
    rows, _ = workdir.read_log(str(folder))
    config = workdir.read_config(str(folder))
    if not found:
        return [rows, config]
    floor = report.read_floor(str(folder), found)
    if floor:
        report.compared(floor)
    headline = report.headline(found)
    if rows != EPOCHS:  # drawing takes half a second
        page(found, headline, config, rows)
    return [rows, config, report.table(found), headline]


@pytest.mark.parametrize(
    'name', ['config.json', 'metrics.jsonl', 'report/metrics.json', 'report/baselines.json']
)
def test_damage_is_one_line_with_the_file_or_can_be_shown(folder: Path, name: str) -> None:
    path = folder / name
    assert len(read(folder)) == 4
    changes = 5 if name == 'metrics.jsonl' else 60
    for variant in damaged(path.read_bytes(), np.random.default_rng(len(name)), changes):
        path.write_bytes(variant)
        message = ''
        try:
            read(folder)
        except UserError as error:
            message = str(error)
            assert str(path) in message
        assert '\n' not in message or 'typechecking' in message  # only tests check types


@pytest.mark.parametrize('name', ['report/metrics.json', 'report/baselines.json'])
def test_damage_of_several_labels_per_clip_is_one_line_or_can_be_shown(
    folder: Path, name: str
) -> None:
    which = {key: tag_scores()[key] for key in ('dataset', 'split', 'side')}
    files = {'report/metrics.json': tag_scores()}
    files['report/baselines.json'] = which | {'scores': tag_floor()}
    for file, values in files.items():
        (folder / file).write_text(json.dumps(values, indent=2))
    path = folder / name
    assert len(read(folder)) == 4
    for variant in damaged(path.read_bytes(), np.random.default_rng(len(name)), 60):
        path.write_bytes(variant)
        message = ''
        try:
            read(folder)
        except UserError as error:
            message = str(error)
            assert str(path) in message
        assert '\n' not in message or 'typechecking' in message  # only tests check types


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda v: v.update(accuracy=0.7), 'accuracy does not follow'),
        (lambda v: v.update(accuracy='0.7'), 'accuracy does not follow'),
        (lambda v: v.update(macro_f1=10**400), 'macro_f1 does not follow'),
        (lambda v: v.pop('precision'), 'precision does not follow'),
        (lambda v: v.update(accuracy_interval=[0]), 'accuracy_interval does not follow'),
        (lambda v: v['per_class'].pop('rock'), 'per_class does not follow'),
        (lambda v: v['confusion'][0].append(1), 'no table of counts'),
        (lambda v: v['confusion'][0].__setitem__(0, -1), 'no table of counts'),
        (lambda v: v['confusion'][0].__setitem__(0, 2), 'does not follow'),
        (lambda v: v.update(confusion=[[0] * 3] * 3), 'is empty'),
        (lambda v: v.update(labels=[]), 'no list of names'),
        (lambda v: v.update(labels=['a', 'a', 'b']), 'no list of names'),
        (lambda v: v.update(labels=['a', 1, 'b']), 'a label is no text'),
        (lambda v: v.update(segment_accuracy=2), 'segment_accuracy is no number'),
        (lambda v: v.update(dataset=None), 'dataset is no text'),
        (lambda v: v.update(step='<b>'), 'step is no number'),
        (lambda v: v.update(runs=[{'workdir': 'a'}]), 'no list of folders'),
        (lambda v: v.update(changed_data='x'), 'no list of texts'),
    ],
)
def test_scores_that_are_wrong_are_refused(
    folder: Path, change: Callable[[Any], None], words: str
) -> None:
    values = scores()
    change(values)
    (folder / 'report' / 'metrics.json').write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf'metrics\.json is damaged: .*{words}.*; remove it'):
        report.read(str(folder))


@pytest.mark.parametrize(('name', 'other'), [('loss', 0.25), ('step', 8), ('dataset', 'other')])
def test_scores_that_do_not_follow_from_others_have_a_checksum(
    folder: Path, name: str, other: Any
) -> None:
    path = folder / 'report' / 'metrics.json'
    report.write(str(folder / 'report'), scores(), Config(workdir=str(folder)))
    assert report.read(str(folder)) == json.loads(json.dumps(scores()))
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: other}))
    with pytest.raises(UserError, match=r'metrics\.json is damaged: .*checksum; remove it'):
        report.read(str(folder))


def test_the_scores_of_the_baselines_have_a_checksum(folder: Path) -> None:
    path = folder / 'report' / 'baselines.json'
    values = json_files.sealed(json.loads(path.read_text()))
    path.write_text(json.dumps(values))
    assert report.read_floor(str(folder), scores()) == FLOOR
    path.write_text(json.dumps(values).replace('0.25', '0.75'))
    assert report.read_floor(str(folder), scores()) == {}


def test_a_damaged_log_is_named_when_the_page_is_drawn(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(folder / 'metrics.jsonl', 'a') as file:
        file.write('{"epoch')
    report.write(str(folder / 'report'), scores(), Config(workdir=str(folder)))
    assert capfd.readouterr().err.count('metrics.jsonl: damaged lines') == 1


def test_what_a_killed_report_left_is_removed(folder: Path) -> None:
    left = folder / 'report' / 'random-2' / 'predictions.csv.partial-7'
    left.parent.mkdir()
    left.write_text('')
    os.utime(left, (0, 0))
    dataset = make_dataset(('a', 'b'), [0, 1])
    report.write_predictions(str(left.parent), dataset, np.array([0]), np.eye(2)[:1])
    assert os.listdir(left.parent) == ['predictions.csv']


def test_scores_of_a_report_have_no_fault() -> None:
    for runs in ({}, {'runs': [{'workdir': 'a', 'accuracy': 1.0}], 'step': [3]}):
        assert not metrics.fault(json.loads(json.dumps(scores() | runs)))


def test_a_checksum_covers_values_and_their_context() -> None:
    sealed = json.loads(json.dumps(json_files.sealed({'a': 1.5, 'b': 'ä'}, 7)))
    assert json_files.is_intact(sealed, 7)
    assert not json_files.is_intact(sealed, 8)
    assert not json_files.is_intact(sealed | {'a': 1.25}, 7)
    assert json_files.is_intact({'a': 1.25})  # an older file
