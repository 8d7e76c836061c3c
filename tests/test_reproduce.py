import json
from pathlib import Path

import pytest

from experiments import baselines, paper, reproduce
from glr_jax.errors import UsageError, UserError

CUT = [
    *('--epochs=1', '--iterations=1,2', '--models=cnn+batch,cnn+glr', '--data.frames=8'),
    *('--train.batch_size=8', '--model.kernels=8', '--model.pool=2'),
]


@pytest.fixture(scope='module')
def study(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('study')
    reproduce.main(['reproduce', f'--data.dir={prepared}', f'--out={out}', *CUT])
    return out


def test_every_model_is_run_in_every_iteration_and_the_floor_beside_it(study: Path) -> None:
    runs = json.loads((study / 'results.json').read_text())['runs']
    assert sorted((run['model'], run['iteration']) for run in runs) == [
        *(('cnn+batch', k) for k in (1, 2)),
        *(('cnn+glr', k) for k in (1, 2)),
        *(('svm', k) for k in (1, 2)),
    ]
    splits = {run['iteration']: run['scores']['split'] for run in runs if run['model'] != 'svm'}
    assert splits == {1: 'random-1', 2: 'random-2'}


def test_the_report_has_each_measured_accuracy_and_its_figures(study: Path) -> None:
    text = (study / 'report.md').read_text()
    results = json.loads((study / 'results.json').read_text())
    for run in results['runs']:
        row = next(r for r in text.splitlines() if r.startswith(f'| Iteration {run["iteration"]}'))
        assert f' {100 * run["scores"]["accuracy"]:.1f} ' in row
    for name in ('baselines', 'proposed', 'curves'):
        assert f'figures/{name}.png' in text
        assert (study / 'figures' / f'{name}.png').stat().st_size > 1000


def test_models_that_differ_in_the_norm_alone_are_paired(study: Path) -> None:
    assert '| cnn+glr − cnn+batch | 2 ' in (study / 'report.md').read_text()


def test_finished_runs_are_not_repeated(
    study: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reproduce.main(['reproduce', f'--data.dir={prepared}', f'--out={study}', *CUT])
    err = capfd.readouterr().err
    assert err.count('is finished') == 4
    assert 'epoch ' not in err


def test_an_unknown_model_or_protocol_is_named(prepared: Path, tmp_path: Path) -> None:
    command = ['reproduce', f'--data.dir={prepared}', f'--out={tmp_path}']
    with pytest.raises(UsageError, match='cnn-rmn'):
        reproduce.main([*command, '--models=cnn-rmn'])
    with pytest.raises(UserError, match=r'official.* random-1'):
        reproduce.main([*command, '--protocol=official'])


def test_the_papers_datasets_are_known_by_their_labels() -> None:
    gtzan = [*'blues classical country disco hiphop jazz metal pop reggae rock'.split()]
    fma = [*'Electronic Experimental Folk Hip-Hop Instrumental International Pop Rock'.split()]
    assert paper.dataset_of(gtzan) == 'GTZAN'
    assert paper.dataset_of(fma) == 'FMA'
    assert paper.dataset_of(['jazz', 'rock']) is None


def test_the_floor_is_scored_on_the_same_test_clips(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / 'floor.json'
    baselines.main(['floor', f'--data.dir={prepared}', '--data.split=random-1', f'--out={out}'])
    scores = json.loads(out.read_text())
    assert set(scores) == {'linear', 'svm'}
    assert scores['svm']['random-1']['num_clips'] == 3
