import json
from pathlib import Path

import pytest

from experiments import paper, search
from experiments.tables import BASELINES
from glr_jax import cli
from glr_jax.errors import UsageError

SMALL = [
    *('--data.frames=8', '--data.resident=off', '--train.batch_size=8', '--epochs=1'),
    *('--model.kind=cnn', '--model.norm=none', '--model.pool=1', '--layers=1'),
]
# The paper's optimum is a trial of every search; here it is a small one.
OPTIMUM = paper.OPTIMUM | {'layers': 1, 'kernels': 8, 'hidden': 8, 'epochs': 1}


@pytest.fixture
def command(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(paper, 'OPTIMUM', OPTIMUM)
    return ['search', f'--data.dir={prepared}', f'--out={tmp_path / "out"}', *SMALL]


def settings(**changes: object) -> list[search.Setting]:
    return search.settings(search.Search(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize('method', ['random', 'grid', 'each'])
def test_the_papers_optimum_comes_first_and_no_setting_is_repeated(method: str) -> None:
    chosen = settings(method=method, budget=40)
    assert chosen[0] == paper.OPTIMUM
    assert len({tuple(setting.values()) for setting in chosen}) == len(chosen)
    for setting in chosen:
        assert all(value in paper.CANDIDATES[name] for name, value in setting.items())


def test_a_larger_budget_adds_to_the_same_draw() -> None:
    assert settings(budget=8, seed=3) == settings(budget=20, seed=3)[:8]
    assert settings(budget=8, seed=3) != settings(budget=8, seed=4)


def test_a_grid_is_the_whole_product() -> None:
    chosen = settings(method='grid', layers=(1, 2), kernels=(32,), hidden=(64, 96), budget=1000)
    assert len(chosen) == 1 + 2 * 4 * 2 * 4 * 4


def test_each_changes_one_parameter_at_a_time() -> None:
    chosen = settings(method='each', budget=100)
    assert len(chosen) == 1 + 6 * 3
    for setting in chosen[1:]:
        assert sum(setting[name] != paper.OPTIMUM[name] for name in setting) == 1


@pytest.mark.slow
def test_every_trial_is_in_the_table_and_none_is_repeated(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command += ['--kernels=8', '--hidden=8', '--kernel_size=3,5', '--learning_rate=0.01,1e39']
    command += ['--method=grid']
    search.main([*command, '--budget=2'])
    capfd.readouterr()
    search.main([*command, '--budget=5'])
    assert capfd.readouterr().err.count('is finished') == 2
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    trials = results['trials']
    finished = [trial for trial in trials if 'test_accuracy' in trial]
    assert [trial['setting']['learning_rate'] for trial in trials] == [0.001, *[0.01, 1e39] * 2]
    assert len(finished) == 3
    lines = (tmp_path / 'out' / 'results.md').read_text().splitlines()
    table = [line for line in lines if line.startswith('| 1')]
    assert len(table) == 5
    assert ["the paper's optimum" in line for line in table].count(True) == 1
    assert ['diverged' in line for line in table] == [False] * 3 + [True] * 2
    for name, title in BASELINES.items():
        accuracy = 100 * results['baselines'][name]['accuracy']
        assert any(line.startswith(f'| {title} ') and f' {accuracy:.1f} ' in line for line in lines)
    for trial in finished:
        test = [f'{100 * trial[key]:.1f}' for key in ('test_accuracy', 'test_macro_f1')]
        assert any([cell.strip() for cell in row.split('|')[9:11]] == test for row in table)
    best = max(100 * trial['validation_accuracy'] for trial in finished)
    assert f'| {best:.1f} ' in table[0]


def test_flags_that_the_search_sets_are_refused(command: list[str]) -> None:
    with pytest.raises(UsageError, match=r'--model.hidden .* --hidden'):
        search.main([*command, '--model.hidden=32'])


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--layers=1,4', '--model.pool=2'], '--data.frames=8 is too short'),
        (['--kernels=8,12', '--model.norm=group'], '--model.norm=group .* not 12'),
        (['--learning_rate=0.1,-1'], '--learning_rate=0.1,-1'),
        (['--parallel.timeout=9'], 'parallel.timeout'),
    ],
)
def test_a_setting_that_cannot_be_trained_is_found_before_the_first_trial(
    flags: list[str], words: str, command: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        search.main([*command, '--method=each', '--budget=99', *flags])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'remedy'),
    [
        (
            ['--hidden=7', '--model.norm=group', '--method=each'],
            r'not 7 \(.*--kernels .*--hidden\)',
        ),
        (
            ['--model.pool=2,2', '--method=each'],
            r'2 sizes for . convolutions \(--kernels and --layers\)',
        ),
    ],
)
def test_an_unsuitable_setting_names_the_flags_of_the_search(flags: list[str], remedy: str) -> None:
    made = cli.parse(search.Search, ['search', *flags, '--budget=100'], '')
    with pytest.raises(UsageError, match=remedy) as failure:
        [search.trial_of(made, setting) for setting in search.settings(made)]
    assert not {f'--{flag}' for flag in search.TAKEN if f'--{flag}' in str(failure.value)}
