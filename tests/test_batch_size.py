import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from experiments.batch_size import __main__ as batch_size
from experiments.batch_size import figure, report
from experiments.batch_size.__main__ import BatchSize, in_order
from experiments.tables import BASELINES
from experiments.trials import Trial
from glr_jax import cli, figures
from glr_jax.config import Config
from glr_jax.errors import UsageError, UserError
from tests.conftest import PAPER, make_dataset

SIZES = (1, 8)
SMALL = [
    *(flag for flag in PAPER if not flag.startswith('--model.norm=')),
    *('--cpu_devices=0', '--norms=glr,batch', '--per_device=1,8', '--iterations=1'),
    *(
        '--data.frames=8',
        '--data.resident=off',
        '--train.batch_size=8',
        '--train.epochs=1',
        '--repeats=1',
    ),
    *(
        '--model.kind=cnn',
        '--model.front=conv',
        '--model.kernels=8',
        '--model.pool=2',
        '--model.kernel_size=3',
    ),
]


@pytest.fixture(scope='module')
def study(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('study')
    batch_size.main(['batch_size', f'--data.dir={prepared}', f'--out={out}', *SMALL])
    return out


@pytest.fixture(scope='module')
def results(study: Path) -> dict[str, Any]:
    return json.loads((study / 'results.json').read_text())


@pytest.mark.slow
def test_every_norm_is_trained_at_every_size(results: dict[str, Any]) -> None:
    done = {(run['norm'], run['per_device']) for run in results['runs']}
    assert done == {(norm, size) for norm in ('glr', 'batch') for size in SIZES}


@pytest.mark.slow
def test_the_gradient_depends_on_the_devices_only_with_per_device_batch_norm(
    results: dict[str, Any],
) -> None:
    assert results['independent'] == ['glr']
    for step in results['steps']:
        if step['norm'] == 'batch' and step['per_device'] == 1:
            assert step['deviation'] > 1e-2
        else:
            assert step['deviation'] < 1e-5


@pytest.mark.slow
def test_the_training_loss_does_so_too(study: Path) -> None:
    losses = {
        (norm, size): json.loads((study / f'{norm}-{size}-1' / 'metrics.jsonl').read_text())['loss']
        for norm in ('glr', 'batch')
        for size in SIZES
    }
    assert losses['glr', 1] == pytest.approx(losses['glr', 8], abs=1e-5)
    assert abs(losses['batch', 1] - losses['batch', 8]) > 1e-4


@pytest.mark.slow
def test_batch_norm_also_exchanges_its_statistics(results: dict[str, Any]) -> None:
    glr, batch = (next(s for s in results['steps'] if s['norm'] == n) for n in ('glr', 'batch'))
    assert glr['all_reduces'] == batch['all_reduces'] == 1
    assert batch['bytes'] - glr['bytes'] == 4 * 2 * 8  # running mean and variance


@pytest.mark.slow
def test_the_report_has_every_accuracy_and_the_figure(study: Path, results: dict) -> None:
    text = (study / 'report.md').read_text()
    lines = [line for line in text.splitlines() if line.startswith('|')]
    for norm in ('glr', 'batch'):
        line = next(line for line in lines if report.NAMES[norm] in line)
        shown = [float(cell) for cell in line.split('|')[2:-1]]
        mine = {r['per_device']: r for r in results['runs'] if r['norm'] == norm}
        assert shown == [round(100 * mine[s]['scores']['accuracy'], 1) for s in SIZES]
    for title in BASELINES.values():
        assert any(line.startswith(f'| {title} ') for line in lines)
    assert 'accuracy.png' in text
    assert (study / 'accuracy.png').stat().st_size > 1000


@pytest.mark.slow
def test_finished_runs_are_not_repeated(
    study: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    batch_size.main(['batch_size', f'--data.dir={prepared}', f'--out={study}', *SMALL])
    err = capfd.readouterr().err
    assert err.count('is finished') == 4
    assert 'epoch ' not in err
    assert 'compiling' not in err


def test_necessary_trials_come_first() -> None:
    study = BatchSize(iterations=(1, 2))
    trials = [
        Trial('', Config(), {'norm': norm, 'per_device': size, 'iteration': iteration})
        for iteration in (1, 2)
        for norm in ('glr', 'batch', 'none')
        for size in (1, 32)
    ]
    order = [tuple(trial.varied.values()) for trial in in_order(study, trials, {'batch'})]
    assert order == [
        *(('glr', 32, 1), ('batch', 1, 1), ('batch', 32, 1), ('none', 32, 1)),
        *(('glr', 32, 2), ('batch', 1, 2), ('batch', 32, 2), ('none', 32, 2)),
        *(('glr', 1, 1), ('glr', 1, 2), ('none', 1, 1), ('none', 1, 2)),
    ]


def made_results(batch: list[float], glr_at_1: list[float]) -> dict[str, Any]:
    """Results of three iterations at 1 and 32 clips per device; GLR has 70, 72 and 74 at 32."""
    accuracies = {
        ('glr', 32): [0.70, 0.72, 0.74],
        ('glr', 1): glr_at_1,
        ('batch', 32): [0.73, 0.76, 0.77],
        ('batch', 1): batch,
    }
    return {
        'settings': {'norms': ['glr', 'batch'], 'per_device': [1, 32], 'iterations': [1, 2, 3]},
        'independent': ['glr'],
        'runs': [
            {'norm': norm, 'per_device': size, 'iteration': k, 'scores': {'accuracy': value}}
            for (norm, size), values in accuracies.items()
            for k, value in enumerate(values, 1)
        ],
    }


def cells(results: dict[str, Any]) -> list[list[str]]:
    lines = report.accuracy(results).splitlines()[2:]
    return [[cell.strip() for cell in line.split('|')[2:-1]] for line in lines]


def test_runs_on_one_device_stand_in_for_missing_ones_and_are_marked() -> None:
    results = made_results(batch=[0.5, 0.52], glr_at_1=[])
    assert cells(results) == [['(72.0 ± 2.0)', '72.0 ± 2.0'], ['51.0 ± 1.4, n = 2', '75.3 ± 2.1']]
    assert cells(made_results(batch=[], glr_at_1=[0.5]))[0] == ['(72.0 ± 2.0)', '72.0 ± 2.0']
    results = made_results(batch=[], glr_at_1=[0.7, 0.7, 0.7])
    assert cells(results) == [['70.0 ± 0.0', '72.0 ± 2.0'], ['', '75.3 ± 2.1']]


def test_the_report_says_how_much_accuracy_differs_between_sizes() -> None:
    assert 'GLR' not in report._changes(made_results(batch=[], glr_at_1=[0.9]))
    text = report._changes(made_results(batch=[0.1, 0.1, 0.1], glr_at_1=[0.71, 0.69, 0.74]))
    assert 'points: GLR 3.0. ' in text


def test_the_report_says_where_batch_norm_is_better() -> None:
    worse = report.verdict(made_results(batch=[0.6, 0.6, 0.6], glr_at_1=[]))
    assert 'ahead of GLR at 32 (+3.3 ± 0.6)' in worse
    assert 'behind GLR at 1 (-12.0 ± 2.0)' in worse
    level = report.verdict(made_results(batch=[0.69, 0.74, 0.74], glr_at_1=[]))
    assert 'level with GLR at 1 (+0.3 ± 1.5)' in level


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--norms=glr,layer', 'layer is not one of glr'),
        ('--per_device=3', r'--per_device=3 does not divide --train.batch_size=8'),
        ('--train.accumulate=2', '--train.accumulate .* --per_device'),
        ('--model.norm=batch', '--model.norm .* --norms'),
    ],
)
def test_bad_combinations_of_flags_are_named(
    prepared: Path, tmp_path: Path, flag: str, message: str
) -> None:
    command = ['batch_size', f'--data.dir={prepared}', f'--out={tmp_path}', *SMALL, flag]
    with pytest.raises(UsageError, match=message):
        batch_size.main(command)


def test_too_few_devices_are_named(prepared: Path, tmp_path: Path) -> None:
    command = ['batch_size', f'--data.dir={prepared}', f'--out={tmp_path}', *SMALL]
    with pytest.raises(
        UserError, match='takes 16 devices, more than the 8 here; give --cpu_devices=16'
    ):
        batch_size.main([*command, '--train.batch_size=16'])


def test_the_figure_has_dashed_lines_for_stand_ins() -> None:
    results = made_results(batch=[0.6, 0.6, 0.6], glr_at_1=[]) | {'baselines': made_baselines()}
    results['settings']['train'] = {'batch_size': 32}
    (axes,) = figure.draw(results).axes
    dashed = [line for line in axes.lines if line.get_linestyle() == '--']
    heights = [np.asarray(line.get_ydata()).round().tolist() for line in dashed]
    assert heights == [[72, 72], [83, 83]]  # the SVM on statistics is dashed too


def made_baselines() -> dict[str, Any]:
    accuracies = {'svm_statistics': 0.83, 'svm': 0.75, 'majority': 0.1}
    return {
        name: [{'accuracy': value + k, 'macro_f1': value / 2} for k in (-0.01, 0, 0.01)]
        for name, value in accuracies.items()
    }


def test_every_line_of_the_figure_is_labelled_at_its_end() -> None:
    results = made_results(batch=[0.6, 0.6, 0.6], glr_at_1=[0.7] * 3)
    results |= {'baselines': made_baselines()}
    results['settings']['train'] = {'batch_size': 32}
    (axes,) = figure.draw(results).axes
    ends = end_labels(axes)
    names = ('GLR', 'per-device batch norm', 'SVM on statistics', 'SVM on levels', 'majority class')
    assert list(ends) == [
        f'{name} {value}' for name, value in zip(names, (72.0, 75.3, 83.0, 75.0, 10.0), strict=True)
    ]
    np.testing.assert_allclose(list(ends.values()), [72, 75 + 1 / 3, 83, 75, 10])
    assert axes.get_legend() is None
    colors = {text.get_text().rsplit(' ', 1)[0]: text.get_color() for text in axes.texts}
    assert colors['GLR'] != colors['per-device batch norm']


def end_labels(axes: Axes) -> dict[str, float]:
    """The labels beside the axes, with the heights of their lines on the y axis."""
    found = [text for text in axes.texts if text.anncoords == 'axes fraction']
    to_data = (axes.transAxes + axes.transData.inverted()).transform
    return {text.get_text(): to_data((0, text.xy[1]))[1] for text in found}


def test_norms_that_do_not_depend_on_the_size_share_a_band() -> None:
    results = made_results(batch=[0.6, 0.6, 0.6], glr_at_1=[0.7] * 3)
    results |= {'baselines': made_baselines(), 'independent': ['glr', 'none', 'group']}
    results['settings'] |= {
        'train': {'batch_size': 32},
        'norms': ['glr', 'batch', 'none', 'group'],
    }
    results['runs'] += [
        {'norm': norm, 'per_device': size, 'iteration': k, 'scores': {'accuracy': value}}
        for norm, value in (('none', 0.70), ('group', 0.74))
        for size in (1, 32)
        for k in (1, 2, 3)
    ]
    drawn = figure.draw(results)
    (axes,) = drawn.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_zorder() > 2]
    assert {line.get_color() for line in lines} <= {figure.LOOKS[n][0] for n in ('glr', 'batch')}
    (band,) = [shape for shape in axes.collections if isinstance(shape, PolyCollection)]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((70, 74))
    assert {'no norm 70.0', 'group norm 74.0'} < set(end_labels(axes))
    (message,) = drawn.texts
    words = 'With 1 clip per device: GLR 70.0 %, per-device batch norm 60.0 %'
    assert message.get_text() == words
    assert '60' in [text.get_text() for text in axes.texts]


def test_labels_keep_apart_and_in_order() -> None:
    found = figures.apart([50.0, 10.0, 50.0, 51.0], 4.0)
    assert found[1] == 10
    assert np.diff([found[0], found[2], found[3]]).min() > 3.99
    assert np.mean(found) == pytest.approx(np.mean([50, 10, 50, 51]))


def test_the_flagfile_of_a_run_gives_the_network(tmp_path: Path) -> None:
    file = tmp_path / 'run.flags'
    file.write_text(
        '--workdir=x\n--seed=7\n--data.split=official\n--model.norm=glr_layer\n'
        '--model.pass_level\n--model.hidden=24\n--train.accumulate=2\n--augment.level=0.5\n'
    )
    argv = ['batch_size', f'--flagfile={file}', '--norms=glr,batch', '--iterations=2']
    study = cli.parse(BatchSize, argv, '')
    cli.refuse(argv, batch_size.TAKEN)
    made = make_dataset(['a', 'b'], [0, 1])
    made.splits['random-2'] = ['train', 'test']
    configs = [trial.config for trial in batch_size.trials_of(study, made)]
    assert {(c.seed, c.data.split, c.train.accumulate) for c in configs} == {(2, 'random-2', 1)}
    assert {(c.model.hidden, c.augment.level) for c in configs} == {(24, 0.5)}
    levels = {c.model.norm: c.model.pass_level for c in configs}
    assert levels == {'glr': True, 'batch': False}
    with pytest.raises(UsageError, match=r'--seed .* --iterations'):
        cli.refuse([*argv, '--seed=7'], batch_size.TAKEN)
