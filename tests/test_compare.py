"""Comparing runs: grouped over seeds and splits, paired by clips; as text, CSV and a page."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from glr_jax import (
    compare,
    compare_pairs,
    compare_runs,
    compare_tables,
    metrics,
    report,
    tag_interval,
    tag_metrics,
    uncertainty,
)
from glr_jax.config import Config, DataConfig, TrainConfig
from glr_jax.errors import UsageError, UserError
from glr_jax.nn.config import ModelConfig
from glr_jax.run import workdir
from glr_jax.text import columns
from tests.conftest import make_dataset
from tests.documents import ROOT

LABELS = ('a', 'b')
TAGS = ('fast', 'loud', 'sad')


def made_run(
    folder: Path,
    right: Sequence[int],
    *,
    seed: int = 0,
    split: str = 'random-1',
    first: int = 0,
    epochs: int = 2,
    devices: int = 1,
    floor: float | None = None,
    finished: bool = True,
    **flags: Any,
) -> Path:
    """A run whose test clips, from number `first` on, are classified as `right` says."""
    model = {key: value for key, value in flags.items() if hasattr(ModelConfig(), key)}
    train = {key: value for key, value in flags.items() if key not in model}
    config = Config(
        workdir=str(folder),
        seed=seed,
        data=DataConfig(dir='data/set', split=split),
        model=ModelConfig(**model),
        train=TrainConfig(**train),
    )
    workdir.claim(config, devices)
    rows = [
        {'epoch': k, 'step': 4 * k, 'loss': 1 / k, 'accuracy': 0.5}
        | {'validation_loss': 2 / k + seed, 'validation_accuracy': 0.5, 'seconds': 1.0}
        for k in range(1, epochs + 1)
    ]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if not finished:
        return folder
    clips = np.arange(first, first + len(right))
    dataset = make_dataset(LABELS, [k % 2 for k in range(first + len(right))])
    decisions = np.where(right, clips % 2, 1 - clips % 2)
    where = str(folder / 'report')
    report.write_predictions(where, dataset, clips, np.eye(2)[decisions])
    scores = metrics.scores(dataset.targets[clips], decisions, LABELS)
    scores |= {'loss': 0.5, 'segment_accuracy': 0.5, 'split': split, 'side': 'test', 'step': 4}
    scores |= {'dataset': 'data/set'}
    report._write_json(str(folder / 'report/metrics.json'), scores)
    if floor is not None:
        svm = {'accuracy': floor, 'fitted_on': 9, 'train_clips': 9}
        found = {'svm_statistics': svm, 'majority': {'accuracy': 0.5}}
        which = {name: scores[name] for name in ('dataset', 'split', 'side')}
        report._write_json(str(folder / 'report/baselines.json'), which | {'scores': found})
    return folder


def groups_of(*folders: Path) -> list[compare_runs.Group]:
    found = compare_runs.find([str(folder) for folder in folders])
    return compare_runs.grouped(compare_runs.read(found, left_out=pytest.fail))


def differences(groups: list[compare_runs.Group], k: int = 1) -> compare_pairs.Difference:
    found = compare_pairs.difference(groups[k], groups[0], other_clips=pytest.fail)
    assert isinstance(found, compare_pairs.Difference)
    return found


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    compare.main(['compare', *map(str, arguments)])
    return capsys.readouterr().out


@pytest.fixture
def two_groups(tmp_path: Path) -> Path:
    """GLR and batch norm on two splits with two seeds each."""
    for number, norm in enumerate(('glr', 'batch')):
        for split in (1, 2):
            for seed in (0, 1):
                made_run(
                    tmp_path / f'{number}-{norm}-{split}-{seed}',
                    [1] * (16 - 4 * number - seed) + [0] * (4 + 4 * number + seed),
                    seed=seed,
                    split=f'random-{split}',
                    first=20 * split,
                    floor=0.7,
                    norm=norm,
                )
    return tmp_path


def test_runs_are_grouped_over_seeds_and_splits(two_groups: Path) -> None:
    groups = groups_of(two_groups)
    assert [(group.name, len(group.runs)) for group in groups] == [('A', 4), ('B', 4)]
    assert compare_runs.differing(groups) == {
        'model.norm': ['glr', 'batch'],
        compare_runs.TOGETHER: ['', '32'],
    }


def test_what_does_not_change_results_does_not_separate_runs(tmp_path: Path) -> None:
    one = made_run(tmp_path / 'one', [1, 0], accumulate=2, time_limit=9.0)
    two = made_run(tmp_path / 'two', [1, 0], steps_per_dispatch=4)
    three = made_run(tmp_path / 'three', [1, 0], split='official')
    assert [len(group.runs) for group in groups_of(one, two, three)] == [2, 1]
    assert compare_runs.differing(groups_of(one, two, three)) == {
        'data.split': ['random-*', 'official']
    }


def test_batch_norm_over_other_numbers_of_clips_is_another_group(tmp_path: Path) -> None:
    one = made_run(tmp_path / 'one', [1, 0], norm='batch', devices=1)
    four = made_run(tmp_path / 'four', [1, 0], norm='batch', devices=4)
    assert compare_runs.differing(groups_of(one, four)) == {compare_runs.TOGETHER: ['32', '8']}


def test_arguments_are_workdirs_folders_and_patterns(two_groups: Path) -> None:
    chosen = two_groups / '1-batch-2-0'
    found = compare_runs.find([str(chosen), f'{two_groups}/*-glr-*', str(two_groups)])
    assert found[0] == str(chosen)
    assert [Path(run).name[0] for run in found] == ['1', *'0000', *'111']
    with pytest.raises(UserError, match=r'no-such-\* was not found'):
        compare_runs.find([f'{two_groups}/no-such-*'])
    (two_groups / 'empty').mkdir()
    with pytest.raises(UserError, match='empty has no runs'):
        compare_runs.find([str(two_groups / 'empty')])


def test_two_runs_are_compared_by_mcnemars_test(tmp_path: Path) -> None:
    one = made_run(tmp_path / 'one', [1] * 8 + [0] * 2 + [1] * 10, norm='glr')
    two = made_run(tmp_path / 'two', [0] * 7 + [1] * 13, norm='group')
    found = differences(groups_of(one, two))
    assert found.mean == pytest.approx(-0.25)
    assert found.clips == 20
    assert found.p == pytest.approx(uncertainty.mcnemar(2, 7))
    assert found.interval == pytest.approx(uncertainty.paired_interval(11, 2, 7, 0))


def test_mcnemars_p_is_that_of_the_binomial_distribution() -> None:
    from scipy import stats

    for one, other in [(0, 0), (5, 0), (12, 2), (7, 7), (30, 41)]:
        expected = stats.binomtest(one, one + other).pvalue if one + other else 1
        assert uncertainty.mcnemar(one, other) == pytest.approx(expected)


def test_the_interval_of_two_runs_is_newcombes() -> None:
    # The first is in his Table II: 0.0569 to 0.3404.
    assert uncertainty.paired_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=1e-4)
    low, high = uncertainty.paired_interval(30, 0, 0, 0)
    assert -0.12 < low < 0 < high < 0.12
    rng, shares = np.random.default_rng(0), [0.7, 0.1, 0.05, 0.15]
    covers = 0
    for counts in rng.multinomial(99, shares, 1000):
        low, high = uncertainty.paired_interval(*map(int, counts))
        covers += low <= shares[1] - shares[2] <= high
    assert 930 <= covers <= 985


def test_groups_are_compared_by_a_bootstrap_over_clips(two_groups: Path) -> None:
    found = differences(groups_of(two_groups))
    assert found.pairs == pytest.approx([-0.2] * 4)
    assert (found.clips, found.p, found.method) == (40, None, 'bootstrap')
    assert found.interval is not None
    assert found.interval[0] < -0.2 < found.interval[1] < 0


def test_without_predictions_the_pairs_count(two_groups: Path) -> None:
    for path in two_groups.glob('*/report/predictions.csv'):
        path.unlink()
    found = differences(groups_of(two_groups))
    assert (found.clips, found.method) == (None, 't')
    assert found.interval == pytest.approx((-0.2, -0.2))
    some = [two_groups / f'{k}-{norm}-1-0' for k, norm in enumerate(('glr', 'batch'))]
    found = differences(groups_of(*some))
    assert found.pairs == pytest.approx([-0.2])
    assert (found.clips, found.interval, found.p, found.method) == (None, None, None, 'none')


def test_other_seeds_are_paired_by_split(tmp_path: Path) -> None:
    one = [made_run(tmp_path / f'a{k}', [1, 1, k, 0], seed=k) for k in (0, 1)]
    two = [made_run(tmp_path / f'b{k}', [1, 0, 0, 0], seed=k, norm='none') for k in (5, 6, 7)]
    found = differences(groups_of(*one, *two))
    assert found.pairs == pytest.approx([1 / 4 - 5 / 8])
    assert found.method == 'bootstrap'


def test_runs_on_other_clips_are_left_out_of_the_difference(tmp_path: Path) -> None:
    for split in (1, 2):
        made_run(tmp_path / f'a{split}', [1, 1], split=f'random-{split}')
        made_run(
            tmp_path / f'b{split}', [1, 0], split=f'random-{split}', norm='none', first=split // 2
        )
    said: list[str] = []
    first, second = groups_of(tmp_path)
    found = compare_pairs.difference(second, first, said.append)
    assert isinstance(found, compare_pairs.Difference)
    assert found.clips == 2
    assert said == ['random-2, seed 0: B and A have other test clips there']
    alone = first._replace(runs=first.runs[1:])
    reason = compare_pairs.difference(second, alone, said.append)
    assert reason == 'no run on the same test clips as in A'


def test_the_text_has_every_table_in_80_columns(
    two_groups: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, two_groups)
    lines = text.splitlines()
    assert lines[0] == '8 finished runs in 2 groups'
    assert max(map(columns, lines)) <= 80
    rows = {line.split('  ')[0]: line.split() for line in lines}
    assert rows['model.norm'] == ['model.norm', 'glr', 'batch']
    (scores,) = [line for line in lines if line.split()[:2] == ['A', '77.5']]
    assert scores.split()[:6] == ['A', '77.5', '±', '2.9', '72.9', 'to']
    assert scores.endswith('+7.5 ± 2.9')
    (svm,) = [line for line in lines if line.startswith('SVM ')]
    assert svm.split()[1:4] == ['70.0', '±', '0.0']
    (majority,) = [line for line in lines if line.startswith('majority ')]
    assert majority.split()[1:4] == ['50.0', '±', '0.0']
    assert 'B      4     40  -20.0 ± 0.0' in text
    assert 'bootstrap over clips' in text


def test_many_flags_are_listed_by_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(28):
        made_run(
            tmp_path / f'{k:02}', [1, 0], hidden=8 + k // 2, epochs=2, learning_rate=0.1 + k % 3
        )
    text = printed(capsys, tmp_path)
    assert max(map(columns, text.splitlines())) <= 80
    part = text.split('what differs')[1].split('\n\n')[0]
    assert '  train.learning_rate\n' in part
    assert '    A B    8\n' in part
    assert '\n    AA AB  21\n' in part


def test_long_folders_are_cut_in_their_middle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2):
        made_run(tmp_path / ('very long ' * 12) / f'run {k}', [1, 0], hidden=8 + k)
    text = printed(capsys, tmp_path)
    assert max(map(columns, text.splitlines())) <= 80
    first, second = (line for line in text.splitlines()[2:4])
    assert first.endswith('/run 0')
    assert second.endswith('/run 1')
    assert str(tmp_path)[:12] in first


def test_one_run_alone_has_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / 'one', [1, 1, 1, 0], floor=0.5)
    text = printed(capsys, tmp_path / 'one')
    assert '75.0   30.1 to 95.4' in text
    assert 'paired' not in text
    assert '+25.0' in text


def test_unfinished_and_damaged_runs_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(tmp_path / 'done', [1, 0])
    made_run(tmp_path / 'going', [], finished=False, epochs=1)
    broken = made_run(tmp_path / 'broken', [1, 1])
    (broken / 'report/metrics.json').write_text('{')
    compare.main(['compare', str(tmp_path)])
    out, err = capsys.readouterr()
    assert out.startswith('1 finished run in 1 group')
    first, second = err.splitlines()
    assert first.startswith(f'{broken} is left out: {broken}/report/metrics.json is damaged')
    assert second == f'{tmp_path}/going is left out: it is not finished (1 epoch so far)'
    with pytest.raises(UserError, match='none of 1 run can be compared'):
        compare.main(['compare', str(tmp_path / 'going')])


def test_csv_has_a_row_per_group_with_fractions(
    two_groups: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, two_groups, '--format=csv')
    a, b = csv.DictReader(io.StringIO(text))
    assert (a['group'], a['runs'], a['model.norm'], a['difference']) == ('A', '4', 'glr', '')
    assert float(a['accuracy']) == pytest.approx(0.775)
    assert float(b['difference']) == pytest.approx(-0.2)
    assert (b['pairs'], b['clips'], b['p'], b['method']) == ('4', '40', '', 'bootstrap')
    assert len(b['workdirs'].split(':')) == 4


def test_the_page_and_the_csv_are_written(
    two_groups: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'new' / 'out'
    made_run(two_groups / '<b>', [1] * 20, first=20, norm='none')
    printed(capsys, two_groups, f'--out={out}')
    assert (out / 'compare.csv').read_text().startswith('group,runs')
    page = (out / 'compare.html').read_text()
    assert page.count('<svg') == 2
    assert '<b>' not in page
    assert '&lt;b&gt;' in page
    assert "default-src 'none'" in page  # nothing is loaded from elsewhere
    for text in ('Comparison of runs', 'validation accuracy, %', 'A glr', 'model.norm', '-20.0'):
        assert text in page, text


def test_curves_of_any_length_are_drawn(tmp_path: Path) -> None:
    from glr_jax.page import compare_page

    made_run(tmp_path / 'one', [1], epochs=1)
    made_run(tmp_path / 'two', [1], epochs=1, seed=1)
    made_run(tmp_path / 'long', [1], epochs=300, norm='none')
    none = made_run(tmp_path / 'none', [1], norm='group')
    (none / 'metrics.jsonl').unlink()
    groups = groups_of(tmp_path)
    page = compare_page.page(groups, compare_tables.tables(groups, {}))
    assert page.count('<svg') == 2


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no runs: name a workdir'):
        compare.main(['compare'])
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match='is not a folder'):
        compare.main(['compare', str(tmp_path), f'--out={tmp_path}/file'])


def made_tagged_run(
    folder: Path,
    noise: float,
    *,
    seed: int = 0,
    split: str = 'random-1',
    first: int = 0,
    clips: int = 60,
    floor: float | None = None,
    **model: Any,
) -> tuple[Path, np.ndarray, np.ndarray]:
    """A run on clips with any of three labels, with the labels and the probabilities."""
    data = DataConfig(dir='data/tagged', split=split)
    config = Config(workdir=str(folder), seed=seed, data=data, model=ModelConfig(**model))
    workdir.claim(config, 1)
    rows = [
        {'epoch': k, 'step': 4 * k, 'loss': 1 / k, 'accuracy': 0.5, 'seconds': 1.0}
        | {'validation_loss': 2 / k, 'validation_accuracy': 0.5, 'validation_macro_roc_auc': value}
        for k, value in ((1, None), (2, 0.75), (3, 0.8))
    ]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    has = np.random.default_rng(first).random((clips, 3)) < [0.5, 0.3, 0.2]
    values = has + noise * np.random.default_rng(seed + 100).standard_normal(has.shape)
    probabilities = np.round(1 / (1 + np.exp(-values)), 4)
    scores = tag_metrics.scores(has, probabilities, TAGS)
    scores |= {'loss': 0.5, 'segment_accuracy': 0.5, 'split': split, 'side': 'test', 'step': 4}
    scores |= {'dataset': 'data/tagged'}
    (folder / 'report').mkdir()
    report._write_json(str(folder / 'report/metrics.json'), scores)
    with open(folder / 'report/predictions.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'labels', 'decision', *TAGS])
        for k in range(clips):
            names = [
                '|'.join(label for label, yes in zip(TAGS, row, strict=True) if yes)
                for row in (has[k], probabilities[k] >= 0.5)
            ]
            writer.writerow([f'clip {first + k}', *names, *(f'{p:.4f}' for p in probabilities[k])])
    if floor is not None:
        of = {'macro_average_precision': floor / 2, 'macro_f1': floor / 3}
        linear = of | {'macro_roc_auc': floor, 'fitted_on': 9, 'train_clips': 9}
        found = {'linear_statistics': linear, 'majority': of | {'macro_roc_auc': 0.5}}
        which = {name: scores[name] for name in ('dataset', 'split', 'side')}
        report._write_json(str(folder / 'report/baselines.json'), which | {'scores': found})
    return folder, has, probabilities


def test_a_block_leaves_out_empty_cells_but_those_of_flags() -> None:
    rows = [['A', '-', 'x' * 90], ['B', '1', '-']]
    header = ['', 'one', 'two']
    text = compare_tables.as_text([compare_tables.Table('scores', header, rows, [])])
    assert text.splitlines()[-2:] == ['  B', '    one  1']
    assert not any(line.endswith(' -') for line in text.splitlines())
    text = compare_tables.as_text([compare_tables.Table('what differs', header, rows, [])])
    assert text.splitlines()[-1] == '    two  -'


def test_the_runs_of_a_cross_validation_have_its_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in (1, 2, 3):
        folder = tmp_path / f'random-{split}' / 'seed-0'
        made_tagged_run(folder, 1.0, split=f'random-{split}', first=60 * split)
    of = {'macro_average_precision': 0.35, 'macro_f1': 0.25, 'num_clips': 60}
    linear = of | {'macro_roc_auc': 0.7, 'fitted_on': 9, 'train_clips': 9}
    floor = {'linear_statistics': linear, 'majority': of | {'macro_roc_auc': 0.5}}
    study = {'dataset': 'data/tagged', 'scores': {'random-1': floor, 'random-3': floor}}
    (tmp_path / 'baselines.json').write_text(json.dumps(study))
    (group,) = groups_of(tmp_path)
    assert [run.strong for run in group.runs] == [0.7, None, 0.7]
    text = printed(capsys, tmp_path)
    row = next(line for line in text.splitlines() if line.startswith('linear '))
    assert row.split()[:4] == ['linear', '70.0', '±', '0.0']
    for wrong in ('[]', '{', json.dumps(study | {'dataset': 'data/other'}), '{"scores": 1}'):
        (tmp_path / 'baselines.json').write_text(wrong)
        assert groups_of(tmp_path)[0].runs[0].strong is None


def test_runs_with_several_labels_are_compared_by_their_areas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tag_interval, '_RESAMPLES', (60, 60))
    one, has, mine = made_tagged_run(tmp_path / 'one', 0.5, floor=0.7)
    two, _, theirs = made_tagged_run(tmp_path / 'two', 3.0, floor=0.7, norm='group')
    groups = groups_of(one, two)
    found = differences(groups)
    area = lambda rows, p: roc_auc_score(has[rows], p[rows])
    every = np.arange(60)
    assert found.mean == pytest.approx(area(every, theirs) - area(every, mine))
    assert (found.clips, found.p, found.method) == (60, None, 'areas')
    in_order = sorted(every, key=lambda k: f'clip {k}')
    gains = [
        area(rows, theirs) - area(rows, mine)
        for times in np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), 60)
        for rows in [np.repeat(in_order, times)]
    ]
    assert found.interval == pytest.approx(np.percentile(gains, (2.5, 97.5)), abs=1e-9)
    text = printed(capsys, one, two, f'--out={tmp_path}/out')
    assert max(map(columns, text.splitlines())) <= 80
    assert 'macro ROC-AUC minus that of A, paired, in points' in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    score = groups[0].runs[0].scores
    shown = [f'{100 * score[key]:.1f}' for key in compare_runs.SCORES['macro_roc_auc'][:3]]
    assert lines['linear'] == ['linear', '70.0', '35.0', '23.3', '-']
    assert lines['frequencies'][:2] == ['frequencies', '50.0']
    (line,) = [row for row in text.splitlines() if row.split()[:2] == ['A', shown[0]]]
    assert line.split() == ['A', *shown, f'{100 * (score["macro_roc_auc"] - 0.7):+.1f}']
    a, b = csv.DictReader(io.StringIO((tmp_path / 'out/compare.csv').read_text()))
    assert float(a['macro_roc_auc']) == score['macro_roc_auc']
    assert float(a['linear_macro_roc_auc']) == 0.7
    assert float(b['majority_macro_roc_auc']) == 0.5
    assert float(b['difference']) == found.mean
    page = (tmp_path / 'out/compare.html').read_text()
    assert page.count('<svg') == 2
    assert 'validation macro ROC-AUC, %' in page


def test_groups_with_several_labels_are_compared_over_all_their_clips(tmp_path: Path) -> None:
    for k, noise in enumerate((0.5, 2.0)):
        for split in (1, 2):
            for seed in (0, 1):
                made_tagged_run(
                    tmp_path / f'{k}-{split}-{seed}',
                    noise,
                    seed=seed,
                    split=f'random-{split}',
                    first=40 * split,
                    hidden=8 + k,
                )
    groups = groups_of(tmp_path)
    found = differences(groups)
    assert (len(found.pairs), found.clips, found.method) == (4, 100, 'bootstrap')
    assert found.interval is not None
    assert found.interval[0] < found.mean < found.interval[1] < 0
    scores = [run.scores['macro_roc_auc'] for group in groups for run in group.runs]
    assert found.mean == pytest.approx(np.mean(scores[4:]) - np.mean(scores[:4]))
    for path in tmp_path.glob('*/report/predictions.csv'):
        path.unlink()
    found = differences(groups_of(tmp_path))
    assert (found.clips, found.method) == (None, 't')


def test_runs_of_both_tasks_are_not_compared(tmp_path: Path) -> None:
    one = made_run(tmp_path / 'one', [1, 0])
    several, *_ = made_tagged_run(tmp_path / 'several', 1.0)
    with pytest.raises(UserError, match=f'{one} has one label per clip, {several} several'):
        compare.main(['compare', str(tmp_path)])


def test_damaged_predictions_of_several_labels_leave_a_run_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_tagged_run(tmp_path / 'one', 1.0)
    two, *_ = made_tagged_run(tmp_path / 'two', 1.0, seed=1)
    path = two / 'report/predictions.csv'
    whole = path.read_text()
    for old, new in (('clip 7,', 'clip 8,'), (TAGS[0], 'other'), ('0.', 'x')):
        path.write_text(whole.replace(old, new))
        compare.main(['compare', str(tmp_path)])
        assert f'{two} is left out: {path} is damaged' in capsys.readouterr().err


def test_an_area_without_a_curve_has_no_interval() -> None:
    nothing = uncertainty.Tagged(('a', 'b'), np.zeros((2, 2), bool), np.zeros((2, 2)))
    assert uncertainty.area_interval([([nothing], [nothing])]) is None


def test_jax_is_never_imported(tmp_path: Path) -> None:
    made_run(tmp_path / 'one', [1, 0])
    made_run(tmp_path / 'two', [1, 0], norm='none')
    arguments = [str(tmp_path), f'--out={tmp_path}/out']
    code = (
        f'import sys; from glr_jax import compare; compare.main(["compare", *{arguments}]); '
        'print(sorted({"jax", "flax", "sklearn"} & sys.modules.keys()))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == '[]'
