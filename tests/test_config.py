import dataclasses
import json
from pathlib import Path

import pytest

from glr_jax import cli, config, fields, train, workdir
from glr_jax.config import Config, ModelConfig
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UsageError, UserError

ROOT = Path(__file__).parents[1]


def parse(*arguments: str) -> Config:
    return cli.parse(Config, ['train', *arguments], 'usage: train')


def test_no_flags_give_the_defaults() -> None:
    assert parse() == Config()


def test_a_flag_reaches_its_section() -> None:
    found = parse('--model.norm=batch', '--model.kernels=8,16,32', '--train.learning_rate=0.1')
    assert found.model == dataclasses.replace(ModelConfig(), norm='batch', kernels=(8, 16, 32))
    assert found.train.learning_rate == 0.1


def test_flags_after_a_flagfile_override_it(tmp_path: Path) -> None:
    flagfile = tmp_path / 'x.flags'
    flagfile.write_text('# a comment\n--seed=5\n--model.cell=gru\n')
    found = parse(f'--flagfile={flagfile}', '--seed=7')
    assert (found.seed, found.model.cell) == (7, 'gru')


def test_a_config_survives_json() -> None:
    run = parse('--model.kernels=8,16', '--workdir=w', '--parallel.mapper=pmap')
    assert fields.from_dict(Config, json.loads(json.dumps(fields.to_dict(run)))) == run


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('--model.nrom=glr', 'model.nrom'),
        ('--model.norm=glrr', 'glr|glr_layer|batch'),
        ('--train.epochs=0', 'train.epochs'),
        ('--train.epochs=many', 'train.epochs'),
        ('--model.kernels=8,0', 'model.kernels'),
        ('--model.kernels=8,x', 'model.kernels'),
        ('--flagfile=/nowhere/x.flags', '/nowhere/x.flags'),
        ('--seed', 'seed'),
    ],
)
def test_a_wrong_flag_is_named_in_one_line(argument: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(argument)
    assert words in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('arguments', 'flag'),
    [
        (['--data.dir=d'], '--workdir'),
        (['--workdir=w'], '--data.dir'),
        (['--workdir=w', '--data.dir=d', '--model.pool=2,2,2'], '--model.pool'),
        (['--workdir=w', '--data.dir=d', '--model.dropout=1'], '--model.dropout'),
        (['--workdir=w', '--data.dir=d', '--data.frames=8', '--model.pool=4'], '--data.frames'),
        (['--workdir=w', '--data.dir=d', '--model.norm=group', '--model.hidden=30'], 'not 30'),
    ],
)
def test_values_that_do_not_go_together_are_refused(arguments: list[str], flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        config.check(parse(*arguments))


def test_help_lists_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse('--help')
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in ('--workdir', '--data.split', '--model.norm', '--parallel.mapper', '[random-1]'):
        assert flag in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_workdir_belongs_to_one_config(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path / "run"}', '--data.dir=d')
    workdir.claim(run)
    workdir.claim(run)
    assert workdir.read_config(run.workdir) == run
    other = dataclasses.replace(run, model=ModelConfig(norm='batch'))
    with pytest.raises(UserError, match=r'--model.norm=glr \(not batch\)'):
        workdir.claim(other)


@pytest.mark.parametrize(
    'flag',
    [
        '--parallel.mapper=pmap',
        '--data.resident=on',
        '--train.steps_per_dispatch=8',
        '--train.accumulate=2',
        '--model.recurrence=scan',
    ],
)
def test_a_run_may_go_on_under_flags_without_effect_on_results(flag: str, tmp_path: Path) -> None:
    workdir.claim(parse(f'--workdir={tmp_path / "run"}', '--data.dir=d'))
    workdir.claim(parse(f'--workdir={tmp_path / "run"}', '--data.dir=d', flag))
    with pytest.raises(UserError, match=r'--model.dtype=float32 \(not bfloat16\)'):
        workdir.claim(
            parse(f'--workdir={tmp_path / "run"}', '--data.dir=d', '--model.dtype=bfloat16')
        )


def test_processes_of_a_run_share_those_flags_too() -> None:
    found = config.differences(parse(), parse('--data.resident=on'), but=())
    assert found == ['--data.resident=auto (not on)']


@pytest.mark.parametrize(
    ('norm', 'devices', 'accumulate', 'remedy'),
    [
        ('batch', 4, 1, 'over 4 clips .* over 2; .* devices times --train.accumulate is 2$'),
        ('batch', 2, 2, 'over 4 clips .* over 2; .* devices times --train.accumulate is 2$'),
        ('batch', 1, 2, ''),
        (
            'batch_sync',
            1,
            2,
            'over 8 clips .* over 4; go on with it where --train.accumulate is 1$',
        ),
        ('batch_sync', 4, 1, ''),
        ('glr', 1, 4, ''),
        ('group', 8, 1, ''),
        ('none', 4, 2, ''),
    ],
)
def test_a_run_goes_on_where_normalisation_stays_the_same(
    norm: str, devices: int, accumulate: int, remedy: str, tmp_path: Path
) -> None:
    flags = [f'--workdir={tmp_path / "run"}', '--data.dir=d', '--train.batch_size=8']
    flags += [f'--model.norm={norm}']
    workdir.claim(parse(*flags), devices=2)
    other = parse(*flags, f'--train.accumulate={accumulate}')
    if remedy:
        with pytest.raises(UserError, match=remedy):
            workdir.claim(other, devices=devices)
    else:
        workdir.claim(other, devices=devices)
    workdir.claim(other)  # a finished run is only read


def test_training_says_on_how_many_devices_it_would_go_on(prepared: Path, tmp_path: Path) -> None:
    flags = [f'--workdir={tmp_path / "run"}', f'--data.dir={prepared}', '--train.batch_size=8']
    run = parse(*flags, '--data.frames=8', '--model.norm=batch')
    workdir.claim(run, devices=1)
    with pytest.raises(UserError, match='over 8 clips at a time, here it would be over 1;'):
        train.train_and_evaluate(run, open_dataset(str(prepared)))  # on 8 devices


def test_a_run_that_does_not_say_what_it_normalised_over_goes_on(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path}', '--data.dir=d', '--model.norm=batch')
    (tmp_path / 'config.json').write_text(
        json.dumps(fields.to_dict(run))
    )  # as it was written before
    workdir.claim(run, devices=4)


def test_a_config_from_before_a_flag_has_its_default(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path / "run"}', '--data.dir=d')
    workdir.claim(run)
    path = tmp_path / 'run' / 'config.json'
    old = json.loads(path.read_text())
    del old['model']['dtype'], old['model']['recurrence']
    path.write_text(json.dumps(old))
    assert workdir.read_config(run.workdir) == run


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='not empty'):
        workdir.claim(parse(f'--workdir={tmp_path}', '--data.dir=d'))


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'config\.json is damaged'):
        workdir.read_config(str(tmp_path))


@pytest.mark.parametrize('path', sorted(ROOT.glob('experiments/*.flags')), ids=lambda p: p.stem)
def test_a_flagfile_is_a_short_delta_with_its_command_in_the_header(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # where its own flagfiles are looked for
    found = parse(f'--flagfile={path}')
    config.check(found)
    text = path.read_text()
    header, *flags = [part for part in text.partition('\n--')[::2] if part]
    assert all(line.startswith('#') for line in header.splitlines())
    assert f'#   python -m glr_jax.train --flagfile=experiments/{path.name}\n' in header
    assert '2 CPU cores' in header
    assert len(flags[0].splitlines()) <= 6
    baseline = {'cnn': ('cnn', 'batch'), 'rnn': ('rnn', 'batch'), 'cnn_rnn': ('crnn', 'batch')}
    assert (found.model.kind, found.model.norm) == baseline.get(path.stem, ('crnn', 'glr'))
