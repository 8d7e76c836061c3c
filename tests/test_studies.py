"""What the studies share: turns, hardware, choices, tables; and the gaps in a trace."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from experiments import baselines, common, gaps, prediction, preparation, search
from experiments.batch_size import __main__ as batch_size
from experiments.crossvalidate import __main__ as crossvalidate
from experiments.reproduce import __main__ as reproduce
from experiments.tables import baseline_table, markdown
from experiments.throughput import __main__ as throughput
from experiments.timing import time_in_turns
from glr_jax import cli, flagfiles
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section
from glr_jax.nn.config import NormName
from glr_jax.uncertainty import spread


def test_workloads_take_turns() -> None:
    calls: list[str] = []
    workloads = {name: (lambda name=name: calls.append(name)) for name in 'ab'}
    seconds = time_in_turns(workloads, repeats=2, turn=0)
    assert calls == ['a', 'b', 'a', 'b']
    assert set(seconds) == {'a', 'b'}
    assert all(0 <= median < 1 for median in seconds.values())


def test_a_turn_begins_with_a_call_of_its_own_and_lasts_as_long_as_asked() -> None:
    calls: list[str] = []
    workloads = {name: (lambda name=name: calls.append(name)) for name in 'ab'}
    time_in_turns(workloads, repeats=1, turn=0.001)
    assert calls[:2] == ['a', 'b']  # compile
    assert calls.count('a') >= 3
    assert calls == sorted(calls[:2]) + sorted(calls[2:])


def test_hardware_in_words() -> None:
    machine = {'device': 'cpu', 'devices': 32, 'cores': 2, 'jax': '0.10.2', 'python': '3.11.7'}
    words = '32 simulated CPU devices, 2 CPU cores, jax 0.10.2, Python 3.11.7'
    assert common.in_words(machine) == words
    assert common.in_words(machine | {'devices': 1}).startswith('1 CPU device, 2 CPU cores, ')
    gpu = machine | {'device': 'NVIDIA H100', 'devices': 8, 'cores': 1}
    assert common.in_words(gpu).startswith('8 NVIDIA H100 devices, 1 CPU core, ')
    assert common.in_words(common.hardware())


def test_values_outside_the_choices_are_named() -> None:
    made = dataclasses.make_dataclass(
        'Made', [('norms', tuple[NormName, ...], option(('glr',), ''))]
    )
    assert cli.parse(made, ['x', '--norms=glr,batch'], '').norms == ('glr', 'batch')
    with pytest.raises(UsageError, match=r'--norms=glrr is not one of glr, glr_layer'):
        cli.parse(made, ['x', '--norms=glr,glrr'], '')


def test_a_table_is_aligned_and_a_spread_is_in_per_cent() -> None:
    assert markdown(['', 'n'], [['mean', '10']]).splitlines() == [
        '|      | n  |',
        '| ---- | -- |',
        '| mean | 10 |',
    ]
    assert spread([0.5, 0.6]) == '55.0 ± 7.1'
    assert spread([0.01], sign='+') == '+1.0'


def test_a_folder_without_a_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'{tmp_path} holds no trace; .* --profile=20'):
        gaps.main(['gaps', str(tmp_path)])
    with pytest.raises(UsageError, match='WORKDIR/profile'):
        gaps.main(['gaps'])


def test_a_study_names_an_out_that_cannot_be_its_folder(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for out in (tmp_path / 'file', tmp_path / 'file' / 'below'):
        with pytest.raises(UsageError, match=f'--out={out}: {tmp_path}/file is not a folder'):
            common.check_folder(str(out))
    with pytest.raises(UsageError, match='--out=gs://bucket/x: this must be a local folder'):
        common.check_folder('gs://bucket/x')
    common.check_folder(str(tmp_path / 'a' / 'b'))
    assert not (tmp_path / 'a').exists()


@pytest.mark.parametrize(
    ('study', 'flags'),
    [(reproduce, []), (search, []), (crossvalidate, []), (batch_size, ['--cpu_devices=0'])],
)
def test_a_study_checks_out_before_it_opens_the_dataset(
    study: Any, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match=f'--out={tmp_path}/file'):
        study.main(['x', '--data.dir=nowhere', f'--out={tmp_path}/file', *flags])


@pytest.mark.parametrize(
    ('study', 'flags'), [(reproduce, []), (search, []), (batch_size, ['--cpu_devices=0'])]
)
def test_a_study_that_needs_one_label_per_clip_says_so(
    study: Any, flags: list[str], tagged_dataset: Path, tmp_path: Path
) -> None:
    command = ['x', f'--data.dir={tagged_dataset}', f'--out={tmp_path}/out', *flags]
    with pytest.raises(UserError, match='its clips may have several labels, but this study needs'):
        study.main(command)
    assert not (tmp_path / 'out').exists()


def test_a_table_of_baselines_shows_the_scores_of_their_task() -> None:
    single = [{'accuracy': 0.5, 'macro_f1': 0.25}, {'accuracy': 0.7, 'macro_f1': 0.25}]
    header, _, row = baseline_table({'majority': single}).splitlines()
    assert [cell.strip() for cell in header.split('|')] == [
        *('', '', 'test accuracy, %', 'macro-F1, %', '')
    ]
    assert [cell.strip() for cell in row.split('|')[1:4]] == [
        *('majority class', '60.0 ± 14.1', '25.0 ± 0.0')
    ]
    tags = {'macro_roc_auc': 0.5, 'macro_average_precision': None, 'macro_f1': 0.1}
    header, _, row = baseline_table({'majority': [tags | {'multi_label': True}]}).splitlines()
    assert 'test macro ROC-AUC, % | average precision, % | macro-F1, %' in header
    cells = [cell.strip() for cell in row.split('|')[1:5]]
    assert cells == ['label frequencies', '50.0', '-', '10.0']


def test_the_folder_of_a_json_file_is_created_or_the_flag_is_named(tmp_path: Path) -> None:
    common.make_folder_of('')
    common.make_folder_of(str(tmp_path / 'new' / 'x.json'))
    assert (tmp_path / 'new').is_dir()
    (tmp_path / 'file').touch()
    for out, words in {
        str(tmp_path): 'is a folder; give the name of a JSON file',
        f'{tmp_path}/file/x.json': f': {tmp_path}/file is not a folder',
        'gs://bucket/x.json': 'must be a file on this machine',
    }.items():
        with pytest.raises(UsageError, match=f'--out={out} ?{words}'):
            common.make_folder_of(out)


@pytest.mark.parametrize('study', [preparation, prediction, baselines, throughput])
def test_measurements_check_out_before_they_start(study: Any, tmp_path: Path) -> None:
    needed = {baselines: ['--data.dir=x'], prediction: ['--workdir=x']}
    with pytest.raises(UsageError, match=f'--out={tmp_path} is a folder'):
        study.main(['x', f'--out={tmp_path}', *needed.get(study, [])])


@pytest.mark.parametrize(
    ('study', 'flag', 'repeated'),
    [
        (reproduce, '--iterations=1,1,1', 1),
        (reproduce, '--models=proposed,cnn,proposed', 'proposed'),
        (batch_size, '--norms=glr,glr', 'glr'),
        (batch_size, '--per_device=8,1,8', 8),
        (batch_size, '--iterations=2,2', 2),
        (baselines, '--data.split=random-1,random-1', 'random-1'),
    ],
)
def test_repeated_trials_are_refused(study: Any, flag: str, repeated: object) -> None:
    with pytest.raises(UsageError, match=f'^{flag} repeats {repeated}$'):
        study.main(['x', flag])


def test_flags_of_the_study_are_refused_on_the_command_line_only(tmp_path: Path) -> None:
    file = tmp_path / 'run.flags'
    file.write_text('--data.split=official\n')
    taken = {'data.split': '--protocol'}
    arguments = [f'--flagfile={file}', '--data.dir=data.split', '--out', 'x']
    for given in (arguments, flagfiles.expand(arguments)):
        cli.refuse(['x', *given], taken)
    for argument in ('--data.split=random-1', '-data.split=random-1', '--data.split'):
        with pytest.raises(UsageError, match=r'--data\.split .* use --protocol instead'):
            cli.refuse(['x', argument, 'random-1'], taken)


@dataclasses.dataclass(frozen=True)
class Network:
    units: int = option(1, 'units')
    norm: NormName = option('glr', 'norm')


@dataclasses.dataclass(frozen=True)
class Study:
    model: Network = section(Network, default=Network(units=7))
    other: Network = section(Network)


def test_a_section_can_have_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.parse(Study, ['x'], '') == Study() == Study(Network(7), Network(1))
    found = cli.parse(Study, ['x', '--model.norm=none', '--other.units=3'], '')
    assert found == Study(Network(7, 'none'), Network(3))
    with pytest.raises(SystemExit):
        cli.parse(Study, ['x', '--help'], '')
    out = capsys.readouterr().out
    assert '--model.units             units [7]' in out
    assert '--other.units             units [1]' in out


@pytest.mark.parametrize(
    ('study', 'flags'),
    [
        (reproduce.Reproduction, ['--models=proposed']),
        (search.Search, []),
        (batch_size.BatchSize, []),
        (crossvalidate.CrossValidation, []),
    ],
)
@pytest.mark.parametrize('name', ['gtzan', 'gtzan_paper', 'fma', 'fma_paper', 'demo', 'cnn'])
def test_studies_accept_the_flagfile_of_a_run(study: Any, flags: list[str], name: str) -> None:
    file = Path(common.__file__).parent / f'{name}.flags'
    cli.parse(study, ['x', f'--flagfile={file}', *flags], '')
