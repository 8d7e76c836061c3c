import json
import sys
from pathlib import Path

import pytest

from experiments import paper
from experiments.reproduce import __main__ as reproduce
from experiments.tables import BASELINES
from glr_jax import cli
from glr_jax.errors import UserError

SMALL = [
    *('--epochs=1', '--iterations=1,2', '--models=cnn+batch,cnn+glr', '--data.frames=8'),
    *('--data.resident=off', '--train.batch_size=8', '--model.kernels=8', '--model.pool=2'),
]


@pytest.fixture(scope='module')
def study(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('study')
    reproduce.main(['reproduce', f'--data.dir={prepared}', f'--out={out}', *SMALL])
    return out


def test_every_model_runs_in_every_iteration_and_the_baselines_beside_it(study: Path) -> None:
    runs = json.loads((study / 'results.json').read_text())['runs']
    assert sorted((run['model'], run['iteration']) for run in runs) == [
        *(('cnn+batch', k) for k in (1, 2)),
        *(('cnn+glr', k) for k in (1, 2)),
        *(('majority', k) for k in (1, 2)),
        *(('svm', k) for k in (1, 2)),
        *(('svm_statistics', k) for k in (1, 2)),
    ]
    networks = [run for run in runs if run['model'] not in BASELINES]
    splits = {run['iteration']: run['scores']['split'] for run in networks}
    assert splits == {1: 'random-1', 2: 'random-2'}


def test_the_report_has_every_accuracy_and_the_figures(study: Path) -> None:
    text = (study / 'report.md').read_text()
    results = json.loads((study / 'results.json').read_text())
    for run in results['runs']:
        row = next(r for r in text.splitlines() if r.startswith(f'| Iteration {run["iteration"]}'))
        assert f' {100 * run["scores"]["accuracy"]:.1f} ' in row
    header = next(line for line in text.splitlines() if line.startswith('|'))
    for title in BASELINES.values():
        assert f'| {title} ' in header
        assert f'| {title}, mean ± std' in text
    for name in ('baselines', 'proposed', 'curves'):
        assert f'figures/{name}.png' in text
        assert (study / 'figures' / f'{name}.png').stat().st_size > 1000


def test_models_that_differ_only_in_the_norm_are_compared(study: Path) -> None:
    assert '| cnn+glr − cnn+batch | 2 ' in (study / 'report.md').read_text()


def test_finished_runs_are_not_repeated(
    study: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reproduce.main(['reproduce', f'--data.dir={prepared}', f'--out={study}', *SMALL])
    err = capfd.readouterr().err
    assert err.count('is finished') == 4
    assert 'epoch ' not in err


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--data.frames=8', '--model.pool=2,2,2'], '--model.pool has 3 sizes for 2 convolutions'),
        (['--data.frames=8', '--model.pool=4'], '--data.frames=8 is too short'),
        (['--model.dropout=1.5'], '--model.dropout=1.5 must be'),
        (['--models=cnn,crnn+group', '--model.hidden=12'], '--model.norm=group'),
        (['--models=cnn-rmn'], '--models=cnn-rmn is not one of'),
        (['--iterations=0'], '--iterations=0'),
        (['--data.split=random-2'], '--protocol'),
        (['--parallel.coordinator=auto'], 'parallel.coordinator'),
    ],
)
def test_bad_flags_are_one_line_before_anything_is_trained_or_written(
    flags: list[str],
    words: str,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = ['reproduce', f'--data.dir={prepared}', f'--out={tmp_path / "out"}', *flags]
    monkeypatch.setattr(sys, 'argv', command)
    with pytest.raises(SystemExit) as stop:
        cli.execute(reproduce.main)
    assert stop.value.code == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ('', 1)
    assert words in err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--protocol=official', r'--protocol=official .* random-1'),
        ('--train.batch_size=12', '--train.batch_size=12 .* 8 devices'),
    ],
)
def test_what_the_dataset_or_the_devices_cannot_do_is_found_before_training(
    flag: str, words: str, prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        reproduce.main(['reproduce', f'--data.dir={prepared}', f'--out={tmp_path / "out"}', flag])
    assert not (tmp_path / 'out').exists()


def test_the_papers_datasets_are_recognised_by_their_labels() -> None:
    gtzan = [*'blues classical country disco hiphop jazz metal pop reggae rock'.split()]
    fma = [*'Electronic Experimental Folk Hip-Hop Instrumental International Pop Rock'.split()]
    assert paper.dataset_of(gtzan) == 'GTZAN'
    assert paper.dataset_of(fma) == 'FMA'
    assert paper.dataset_of(['jazz', 'rock']) is None
