"""A network on several splits and seeds: its runs, its report, and comparisons."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.crossvalidate import __main__ as crossvalidate
from experiments.crossvalidate import compare, report
from experiments.tables import BASELINES, TAG_BASELINES
from glr_jax import cli, uncertainty
from glr_jax.config import DataConfig, DataFlags
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UsageError, UserError
from glr_jax.run.segment import choose_frames
from glr_jax.run.workdir import find_runs, read_config
from tests.conftest import PAPER, RANDOM, make_dataset

SMALL = [
    *PAPER,
    *('--data.frames=8', '--data.resident=off', '--train.batch_size=8', '--train.epochs=1'),
    *('--model.kind=cnn', '--model.kernels=8', '--model.pool=2'),
]


def command(data: Path, out: Path, *flags: str) -> list[str]:
    return ['crossvalidate', f'--data.dir={data}', f'--out={out}', *SMALL, *flags]


@pytest.fixture(scope='module')
def study(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('study')
    file = out.parent / 'run.flags'
    file.write_text('--workdir=elsewhere\n--seed=3\n--data.split=random-9\n')
    flags = [f'--flagfile={file}', '--splits=random-1,random-2', '--seeds=2']
    crossvalidate.main(command(prepared, out, *flags))
    return out


@pytest.fixture(scope='module')
def results(study: Path) -> dict[str, Any]:
    return json.loads((study / 'results.json').read_text())


def joined(text: str) -> str:
    """The text without its line breaks."""
    return ' '.join(text.split())


def test_each_split_is_trained_with_each_seed(study: Path, results: dict[str, Any]) -> None:
    pairs = [(split, seed) for split in ('random-1', 'random-2') for seed in (3, 4)]
    assert [(run['split'], run['seed']) for run in results['runs']] == pairs
    for split, seed in pairs:
        config = read_config(str(study / split / f'seed-{seed}'))
        assert (config.data.split, config.seed) == (split, seed)
    runs = find_runs(str(study / 'random-1'))
    assert [Path(run).name for run in runs] == ['seed-3', 'seed-4']


def test_the_report_has_a_row_per_split_and_the_baselines(
    study: Path, results: dict[str, Any]
) -> None:
    text = (study / 'report.md').read_text()
    accuracy, macro_f1 = text.split('## Macro-F1')
    for part, key in ((accuracy, 'accuracy'), (macro_f1, 'macro_f1')):
        rows = [
            [c.strip() for c in line.split('|')[1:-1]] for line in part.splitlines() if '|' in line
        ]
        assert rows[0][3:7] == ['SVM', 'SVM on levels', 'majority', 'network − SVM']
        lines = [line for line in part.splitlines() if str(study) not in line]
        assert max(map(len, lines)) <= 100
        for split, row in zip(('random-1', 'random-2'), rows[2:4], strict=True):
            mine = [r['scores'][key] for r in results['runs'] if r['split'] == split]
            assert row[:2] == [split, '2']
            assert row[2].startswith(f'{100 * np.mean(mine):.1f} ± ')
            floor = results['baselines'][split]
            assert row[3:6] == [f'{100 * floor[name][key]:.1f}' for name in BASELINES]
            gain = np.mean(mine) - floor['svm_statistics'][key]
            assert float(row[6].split(' ')[0]) == pytest.approx(100 * gain, abs=0.06)
        assert rows[4][1] == '4'
    assert '(n = 2 splits; an interval needs at least 3 splits' in joined(text)
    assert re.search(r'\d\.\d minutes per run', joined(text))


def test_nothing_is_repeated_and_more_splits_are_added(
    study: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ['--splits=random-1,random-3', '--seed=3', '--seeds=1']
    crossvalidate.main(command(prepared, study, *flags))
    err = capfd.readouterr().err
    assert err.count('is finished') == 1
    assert '[2/2] random-3, seed 3' in err
    assert 'scoring the baselines on random-3\n' in err
    crossvalidate.main(command(prepared, study, *flags))
    err = capfd.readouterr().err
    assert err.count('is finished') == 2
    assert 'scoring' not in err


def test_a_study_compared_with_itself_is_level(
    study: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ['--splits=random-1,random-2', '--seed=3', '--seeds=2', f'--against={study}']
    crossvalidate.main(command(prepared, study, *flags[:3]))
    crossvalidate.main(command(prepared, study, *flags))
    found = json.loads((study / 'results.json').read_text())['against']
    assert (found['mean'], found['interval']) == (0, [0, 0])
    assert [pair['difference'] for pair in found['pairs']] == [0] * 4
    assert (found['only_here_right'], found['only_there_right']) == (0, 0)
    said = joined(capsys.readouterr().out)
    assert f'This − {study}: +0.0 ± 0.0 points over 4 pairs' in said


def predictions(folder: Path, split: str, seed: int, right: dict[str, int]) -> float:
    """Writes predictions of which some are right; their accuracy."""
    report_folder = folder / split / f'seed-{seed}' / 'report'
    report_folder.mkdir(parents=True)
    with open(report_folder / 'predictions.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'label', 'decision'])
        writer.writerows([[id, 'a', 'a' if ok else 'b'] for id, ok in right.items()])
    return float(np.mean(list(right.values())))


def made_study(folder: Path, runs: dict[tuple[str, int], dict[str, int]]) -> dict[str, Any]:
    rows = [
        {'split': s, 'seed': k, 'scores': {'accuracy': predictions(folder, s, k, right)}}
        for (s, k), right in runs.items()
    ]
    (folder / 'results.json').write_text(json.dumps({'runs': rows}))
    return {'runs': rows}


def test_runs_are_paired_by_split_and_seed_and_clips_counted(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    mine = made_study(
        one,
        {
            ('random-1', 1): {'x': 1, 'y': 1, 'z': 0},
            ('random-1', 2): {'x': 1, 'y': 0, 'z': 1},
            ('random-2', 1): {'w': 1},
        },
    )
    made_study(
        two,
        {
            ('random-1', 2): {'x': 0, 'y': 1, 'z': 0},
            ('random-1', 1): {'x': 0, 'y': 1, 'z': 0},
            ('random-3', 1): {'v': 1},
        },
    )
    found = compare.paired(str(one), mine, str(two), compare.read(str(two)))
    assert [(pair['split'], pair['seed']) for pair in found['pairs']] == [
        ('random-1', 1),
        ('random-1', 2),
    ]
    assert [pair['difference'] for pair in found['pairs']] == pytest.approx([1 / 3, 1 / 3])
    assert found['mean'] == pytest.approx(2 / 6)
    assert (found['clips'], found['only_here_right'], found['only_there_right']) == (3, 3, 1)
    assert found['interval'][0] < 2 / 6 < found['interval'][1]


def test_runs_that_cannot_be_paired_are_named(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    mine = made_study(one, {('random-1', 1): {'x': 1}})
    made_study(two, {('random-1', 2): {'x': 1}})
    with pytest.raises(UserError, match='has no run with the split and seed'):
        compare.paired(str(one), mine, str(two), compare.read(str(two)))
    three = tmp_path / 'three'
    made_study(three, {('random-1', 1): {'y': 1}})
    with pytest.raises(UserError, match='has other test clips in random-1'):
        compare.paired(str(one), mine, str(three), compare.read(str(three)))
    with pytest.raises(UserError, match=f'--against={tmp_path} has no finished'):
        compare.read(str(tmp_path))
    (tmp_path / 'results.json').write_text('[1]')
    with pytest.raises(UserError, match=r'was not written by experiments\.crossvalidate'):
        compare.read(str(tmp_path))


def test_the_bootstrap_is_wider_for_clips_that_are_tested_together() -> None:
    rng = np.random.default_rng(0)
    gains = rng.integers(-1, 2, 300)
    low, high = uncertainty.bootstrap(gains, np.ones(300, int))
    deviation = gains.std() / np.sqrt(300)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    repeated = uncertainty.bootstrap(4 * gains, np.full(300, 4))
    np.testing.assert_allclose(repeated, (low, high), atol=1e-12)


def test_the_interval_is_students() -> None:
    low, high = uncertainty.t_interval([0.01, 0.03, 0.05])
    assert (low, high) == pytest.approx((0.03 - 0.04968, 0.03 + 0.04968), abs=1e-4)


def made_results(splits: list[str], accuracies: list[float]) -> dict[str, Any]:
    floor = {name: {'accuracy': 0.6, 'macro_f1': 0.5} for name in BASELINES}
    return {
        'dataset': 'made',
        'clips': 9,
        'labels': ['a', 'b'],
        'hardware': 'none',
        'splits': list(dict.fromkeys(splits)),
        'baselines': dict.fromkeys(splits, floor),
        'runs': [
            {'split': s, 'seed': k, 'minutes': 1.5}
            | {'scores': {'accuracy': a, 'macro_f1': a, 'side': 'validation'}}
            for k, (s, a) in enumerate(zip(splits, accuracies, strict=True))
        ],
    }


@pytest.mark.parametrize(
    ('splits', 'accuracies', 'expected', 'words'),
    [
        (
            ['x', 'x', 'y'],
            [0.6, 0.8, 0.65],
            [0.1, 0.05],
            '+7.5 ± 3.5 points (n = 2 splits; an interval needs at least 3',
        ),
        (
            ['x', 'x', 'x'],
            [0.6, 0.8, 0.7],
            [0, 0.2, 0.1],
            '+10.0 ± 10.0 points (n = 3 seeds), 95 % interval -14.8 to +34.8',
        ),
        (['x'], [0.7], [0.1], '+10.0 points (n = 1 seed; an interval needs at least 3'),
    ],
)
def test_differences_are_paired_by_split_or_else_by_seed(
    splits: list[str], accuracies: list[float], expected: list[float], words: str
) -> None:
    made = made_results(splits, accuracies)
    assert report.differences(made) == pytest.approx(expected)
    assert words in report.verdict(made)
    text = report.document(made)
    assert '**No test clips in x' in text
    assert '1.5 minutes per run' in joined(text)
    assert report.verdict(made) in joined(text)
    assert max(map(len, text.splitlines())) <= 100


def test_help_lists_no_workdir_which_the_study_does_not_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.parse(crossvalidate.CrossValidation, ['x', '--help'], crossvalidate.USAGE)
    flags = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert not [flag for flag in flags if flag.startswith('--workdir')]
    assert '--out' in flags


def test_the_split_of_the_flagfile_is_the_default() -> None:
    parse = lambda *flags: cli.parse(crossvalidate.CrossValidation, ['x', *flags], '')
    (trial,) = crossvalidate.trials_of(parse('--data.split=official', '--out=o', '--seed=2'))
    assert trial.config.workdir == 'o/official/seed-2'
    assert trial.config.data.split == 'official'
    several = crossvalidate.trials_of(parse('--splits=a,b', '--seeds=3', '--augment.level=0.5'))
    assert [trial.varied['seed'] for trial in several] == [0, 1, 2, 0, 1, 2]
    assert {trial.config.augment.level for trial in several} == {0.5}


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--workdir=x'], '--workdir is set by the study itself; use --out'),
        (['--data.split=random-1'], '--data.split is set by the study itself; use --splits'),
        (['--splits=random-1,random-1'], '--splits=random-1,random-1 repeats random-1'),
        (['--splits=x'], f'--data.split=x is not in .*{RANDOM[-1]}'),
        (['--parallel.coordinator=a:1'], '--parallel.coordinator is not for a study'),
        (['--against=nowhere'], '--against=nowhere has no finished cross-validation'),
        (['--seeds=0'], '--seeds=0 must be at least 1'),
    ],
)
def test_bad_flags_are_found_before_anything_is_trained(
    flags: list[str], words: str, prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, UserError), match=words):
        crossvalidate.main(command(prepared, tmp_path / 'out', *flags))
    assert not (tmp_path / 'out').exists()


def test_seconds_become_frames_of_the_dataset(tones_dataset: Path) -> None:
    dataset = open_dataset(str(tones_dataset))
    data = DataFlags(seconds=2.0)
    study = crossvalidate.CrossValidation(out='out', splits=('random-1',), data=data)
    (trial,) = crossvalidate.trials_of(choose_frames(study, dataset, data.seconds))
    assert trial.config.data == DataConfig(frames=86, split='random-1')


def test_the_split_suits_the_dataset_if_none_is_named() -> None:
    parse = lambda *flags: cli.parse(crossvalidate.CrossValidation, ['x', *flags], '')
    made = make_dataset(['a', 'b'], [0, 1])
    made.splits.update({name: ['train', 'validation'] for name in ('random-1', 'official')})
    (trial,) = crossvalidate.trials_of(crossvalidate.with_split(parse(), made))
    assert trial.config.data.split == 'official'
    for flags in (['--splits=random-1'], ['--data.split=random-1']):
        (trial,) = crossvalidate.trials_of(crossvalidate.with_split(parse(*flags), made))
        assert trial.config.data.split == 'random-1'


TAG_SPLITS = ['--splits=random-1,random-2', '--seeds=1']


@pytest.fixture(scope='module')
def tagged_study(tagged_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('tagged')
    crossvalidate.main(command(tagged_dataset, out, *TAG_SPLITS))
    return out


@pytest.mark.slow
def test_several_labels_have_tables_of_their_scores(tagged_study: Path) -> None:
    text = (tagged_study / 'report.md').read_text()
    found = json.loads((tagged_study / 'results.json').read_text())
    parts = text.split('\n## ')[1:]
    titles = ['Test macro ROC-AUC', 'Average precision', 'Macro-F1']
    assert [part.splitlines()[0] for part in parts] == [f'{title} in per cent' for title in titles]
    keys = ('macro_roc_auc', 'macro_average_precision', 'macro_f1')
    for part, key in zip(parts, keys, strict=True):
        rows = [
            [c.strip() for c in line.split('|')[1:-1]] for line in part.splitlines() if '|' in line
        ]
        assert rows[0][3:] == ['linear', 'levels', 'frequencies', 'network − linear']
        for row, run in zip(rows[2:4], found['runs'], strict=True):
            floor = found['baselines'][run['split']]
            values = [run['scores'][key], *(floor[name][key] for name in TAG_BASELINES)]
            assert row[:2] == [run['split'], '1']
            assert row[2:6] == ['-' if v is None else f'{100 * v:.1f}' for v in values]
    assert max(map(len, text.splitlines()[1:])) <= 100
    assert 'Network − linear on statistics: ' in joined(text)


@pytest.mark.slow
def test_studies_with_several_labels_are_paired_by_areas(
    tagged_study: Path, tagged_dataset: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*TAG_SPLITS, f'--against={tagged_study}']
    crossvalidate.main(command(tagged_dataset, tagged_study, *flags))
    found = json.loads((tagged_study / 'results.json').read_text())['against']
    assert (found['mean'], found['interval']) == (0, [0, 0])
    assert [pair['difference'] for pair in found['pairs']] == [0] * 2
    assert 'only_here_right' not in found
    said = joined(capsys.readouterr().out)
    assert f'This − {tagged_study}: +0.0 ± 0.0 points over 2 pairs' in said
    assert 'Only this one' not in said
    words = f'--against={study} has one label per clip, and this study has several labels'
    with pytest.raises(UserError, match=words):
        crossvalidate.main(command(tagged_dataset, tagged_study, f'--against={study}'))
    with pytest.raises(UserError, match='has several labels per clip, and this study has one'):
        compare.read(str(tagged_study))


def test_the_report_on_several_labels_shows_what_is_defined() -> None:
    made = made_results(['x', 'x', 'x', 'y'], [0.6, 0.8, 0.7, 0.5])
    of = lambda area: {'macro_roc_auc': area, 'macro_average_precision': 0.4, 'macro_f1': 0.3}
    floor = dict.fromkeys(TAG_BASELINES, of(0.5))
    made['baselines'] = {'x': floor, 'y': dict.fromkeys(TAG_BASELINES, of(None))}
    for run in made['runs']:
        area = None if run['split'] == 'y' else run['scores']['accuracy']
        run['scores'] = of(area) | {'multi_label': True, 'side': 'test'}
    text = report.document(made)
    rows = [joined(line) for line in text.splitlines()]
    assert '| x | 3 | 70.0 ± 10.0 | 50.0 | 50.0 | 50.0 | +20.0 ± 10.0 |' in rows
    assert '| y | 1 | - | - | - | - | - |' in rows
    assert report.differences(made) == pytest.approx([0.2])
    assert '## Average precision in per cent' in text
    assert 'Network − linear on statistics: +20.0 points (n = 1 split' in joined(text)
    assert max(map(len, text.splitlines())) <= 100
    for run in made['runs']:
        run['scores']['macro_roc_auc'] = None
    assert 'The macro ROC-AUC is not defined for the test clips.' in report.document(made)


def tagged_predictions(folder: Path, split: str, seed: int, noise: float) -> float:
    """Writes predictions of clips with any of two labels; their macro ROC-AUC."""
    where = folder / split / f'seed-{seed}' / 'report'
    where.mkdir(parents=True)
    has = np.arange(24)[:, None] % np.array([2, 3]) == 0
    values = has + noise * np.random.default_rng(seed).standard_normal(has.shape)
    with open(where / 'predictions.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'labels', 'decision', 'a', 'b'])
        for k, row in enumerate(values):
            names = '|'.join(np.array(['a', 'b'])[has[k]])
            writer.writerow([f'{k:02}', names, '', *row])
    return float(roc_auc_score(has, values))


def made_tagged_study(folder: Path, noise: float) -> dict[str, Any]:
    rows = []
    for split in ('random-1', 'random-2'):
        area = tagged_predictions(folder, split, 1, noise)
        scores = {'macro_roc_auc': area, 'multi_label': True}
        rows.append({'split': split, 'seed': 1, 'scores': scores})
    results = {'labels': ['a', 'b'], 'runs': rows}
    (folder / 'results.json').write_text(json.dumps(results))
    return results


def test_runs_with_several_labels_are_paired_by_split_and_seed(tmp_path: Path) -> None:
    one, two = tmp_path / 'one', tmp_path / 'two'
    mine, theirs = made_tagged_study(one, 0.3), made_tagged_study(two, 2.0)
    found = compare.paired(str(one), mine, str(two), compare.read(str(two), multi_label=True))
    areas = [results['runs'][0]['scores']['macro_roc_auc'] for results in (mine, theirs)]
    assert [p['difference'] for p in found['pairs']] == pytest.approx([areas[0] - areas[1]] * 2)
    assert found['mean'] == pytest.approx(areas[0] - areas[1])
    assert found['interval'][0] < found['mean'] < found['interval'][1]
    assert found['clips'] == 24
    assert 'Only this one' not in report.against(found)
    assert ' (bootstrap over clips)' in joined(report.against(found))
    with pytest.raises(UserError, match='has several labels per clip, and this study has one'):
        compare.read(str(two))
    path = two / 'random-1/seed-1/report/predictions.csv'
    path.write_text(path.read_text().replace('00,', '99,'))
    with pytest.raises(UserError, match='has other test clips in random-1'):
        compare.paired(str(one), mine, str(two), theirs)
    path.unlink()
    with pytest.raises(UserError, match=f'{path} was not found; run the cross-validation again'):
        compare.paired(str(one), mine, str(two), theirs)
