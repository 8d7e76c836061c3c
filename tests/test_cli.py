"""Command lines: flags, flagfiles, help, and one line for what is wrong."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from glr_jax import cli, fields
from glr_jax.config import Config, TrainFlags
from glr_jax.errors import UsageError
from glr_jax.nn.config import ModelConfig


def parse(*arguments: str) -> Config:
    return cli.parse(Config, ['train', *arguments], 'usage: train')


def test_no_flags_give_the_defaults() -> None:
    assert parse() == Config()


def test_a_flag_reaches_its_section() -> None:
    found = parse('--model.front=conv', '--model.kernels=8,16,32', '--train.learning_rate=0.1')
    assert found.model == dataclasses.replace(ModelConfig(), front='conv', kernels=(8, 16, 32))
    assert found.train.learning_rate == 0.1


def test_a_config_survives_json() -> None:
    run = parse('--model.pool=3', '--model.front=conv', '--workdir=w', '--parallel.mapper=pmap')
    assert fields.from_dict(Config, json.loads(json.dumps(fields.to_dict(run)))) == run


def test_flags_may_follow_arguments() -> None:
    found = cli.parse_with_arguments(Config, ['predict', 'a.mp3', '--seed=3', 'b.mp3'], '')
    assert found == (Config(seed=3), ['a.mp3', 'b.mp3'])


@pytest.mark.parametrize(
    ('argument', 'words'),
    [
        ('--model.nrom=glr', 'model.nrom'),
        ('--model.norm=glrr', '--model.norm=glrr is not one of glr, glr_layer, glr_step'),
        ('--train.epochs=0', '--train.epochs=0 must be at least 1'),
        ('--train.epochs=many', '--train.epochs=many must be a whole number'),
        ('--model.kernels=8,0', '--model.kernels=8,0 must be at least 1'),
        ('--model.kernels=8,x', '--model.kernels=x must be a whole number'),
        ('--model.kernels=', '--model.kernels= needs at least one value'),
        ('--model.dropout=half', '--model.dropout=half must be a number'),
        ('--model.bidirectional=maybe', '--model.bidirectional=maybe must be true or false'),
        ('--flagfile=', '--flagfile needs a file'),
        ('--model.dropout=1', '--model.dropout=1.0 must be at least 0 and less than 1'),
        ('--train.learning_rate=nan', '--train.learning_rate=nan must be a finite number'),
        ('--train.mixup=inf', '--train.mixup=inf must be a finite number'),
        ('--seed=-1', '--seed=-1 must be at least 0 and at most 2147483647'),
        ('--seed=4294967296', '--seed'),
        ('--train.learning_rate=-inf', '--train.learning_rate=-inf must be a finite number'),
        ('--train.patience=4294967296', '--train.patience=4294967296 must be at least 0 and at'),
        ('--parallel.cpu_devices=2000000', 'must be at least 0 and at most 1024'),
        ('--model.projection=100000', '--model.projection=100000 must be at least 1 and at most'),
        ('--seed=' + '9' * 5000, 'must be a whole number'),
        ('--workdir=$NO_SUCH_VARIABLE/x', 'NO_SUCH_VARIABLE is not set; write the path in full'),
        ('--data.dir=~nobody-here/x', 'there is no home folder ~nobody-here'),
        ('--flagfile=/nowhere/x.flags', '/nowhere/x.flags'),
        ('--seed', 'seed'),
        (os.fsdecode(b'--workdir=caf\xe9'), 'this is not UTF-8; choose another name'),
        ('--model.norm=' + 'x' * 5000, 'xxx… is not one of glr'),
        ('stray', "unexpected argument 'stray'"),
    ],
)
def test_a_wrong_flag_is_named_in_one_line(argument: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(argument)
    assert words in str(error.value)
    assert '\n' not in str(error.value)


def test_flags_after_a_flagfile_override_it(tmp_path: Path) -> None:
    flagfile = tmp_path / 'x.flags'
    flagfile.write_text('# a comment\n\n--seed=5\n--model.cell=gru\n')
    found = parse(f'--flagfile={flagfile}', '--seed=7')
    assert (found.seed, found.model.cell) == (7, 'gru')
    found = parse('--seed=7', '--flagfile', str(flagfile))
    assert (found.seed, found.model.cell) == (5, 'gru')


def test_of_seconds_and_frames_the_one_on_the_command_line_counts(tmp_path: Path) -> None:
    parse = lambda *flags: cli.parse(TrainFlags, ['train', *flags], '').data
    both = ['--data.seconds=2', '--data.frames=640']
    for flag, other in (both, both[::-1]):
        (tmp_path / 'x.flags').write_text(other)
        for flags in (
            [f'--flagfile={tmp_path}/x.flags', flag],
            [flag, f'--flagfile={tmp_path}/x.flags'],
        ):
            assert parse(*flags) == parse(flag)
    words = '--data.frames and --data.seconds exclude each other; give one of them'
    with pytest.raises(UsageError, match=words):
        parse(*both)
    (tmp_path / 'x.flags').write_text('\n'.join(both))
    with pytest.raises(UsageError, match=words):
        parse(f'--flagfile={tmp_path}/x.flags')


def test_a_flagfile_in_a_flagfile_is_relative_to_it_and_then_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'deep').mkdir()
    (tmp_path / 'deep' / 'outer.flags').write_text('--flagfile=inner.flags\n--model.hidden=8')
    (tmp_path / 'inner.flags').write_text('--seed=1')
    monkeypatch.chdir(tmp_path)
    assert parse('--flagfile=deep/outer.flags') == Config(seed=1, model=ModelConfig(hidden=8))
    (tmp_path / 'deep' / 'inner.flags').write_text('--seed=2')
    assert parse('--flagfile=deep/outer.flags').seed == 2


def test_a_flagfile_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / 'x.flags').write_bytes(b'\xef\xbb\xbf--seed=5\r\n')
    assert parse(f'--flagfile={tmp_path}/x.flags').seed == 5


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'--flagfile=x.flags', 'includes itself'),
        (b'seed=5', "has a line that is not a flag: 'seed=5'"),
        (b'--seed 5', "write --seed=5, not '--seed 5'"),
        (b'--seed=5\xff', 'is not text'),
        ('--seed=5'.encode('utf-16'), 'is not text in UTF-8'),
        (b'--workdir="runs/a', 'quote that is not closed'),
        (b'--workdir=runs\0a', 'control character'),
        (b'# ' + bytes(1 << 20), 'longer than a MiB'),
    ],
)
def test_a_wrong_flagfile_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / 'x.flags').write_bytes(content)
    with pytest.raises(UsageError, match=words) as error:
        parse(f'--flagfile={tmp_path}/x.flags')
    assert 'x.flags' in str(error.value)


@pytest.mark.parametrize(
    ('line', 'workdir'),
    [
        ('--workdir=runs/a # my run', 'runs/a'),
        ('--workdir=runs/a\t# my run', 'runs/a'),
        ('--workdir=runs/a#1', 'runs/a#1'),
        ('--workdir=runs/my run', 'runs/my run'),
        ('--workdir="runs/a # 1"', 'runs/a # 1'),
        ("--workdir='runs/a'  # it's mine", 'runs/a'),
        ('"--workdir=runs/a b"  # "', 'runs/a b'),
        ("--workdir=runs/it's", "runs/it's"),
        ('--workdir=""', ''),
    ],
)
def test_quotes_and_comments_in_a_flagfile_are_no_part_of_values(
    tmp_path: Path, line: str, workdir: str
) -> None:
    (tmp_path / 'x.flags').write_text(f'{line}\n--seed=5')
    found = parse(f'--flagfile={tmp_path}/x.flags')
    assert (found.workdir, found.seed) == (workdir, 5)


def test_home_and_variables_are_expanded_in_paths_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('RUNS', 'all runs')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.flags').write_text('--workdir=${RUNS}/a\n--data.split=$RUNS\n')
    found = parse('--flagfile=~/x.flags', '--data.dir=~/$RUNS')
    assert found.data.dir == f'{tmp_path}/all runs'
    assert (found.workdir, found.data.split) == ('all runs/a', '$RUNS')
    (tmp_path / '~').mkdir()
    (tmp_path / 'Joey Bada$RUNS').mkdir()
    assert parse('--data.dir=~').data.dir == '~'  # it exists as written
    assert parse('--data.dir=Joey Bada$RUNS').data.dir == 'Joey Bada$RUNS'


def test_help_lists_every_flag_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit) as stop:
        parse('--help')
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in ('--workdir', '--data.split', '--model.norm', '--parallel.mapper', '[random-1]'):
        assert flag in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize('length', range(18, 30))
def test_help_never_runs_a_flag_into_its_text(
    length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    name = 'f' * length
    made = dataclasses.make_dataclass('Made', [(name, int, fields.option(0, 'its text'))])
    with pytest.raises(SystemExit):
        cli.parse(made, ['x', '--help'], 'usage: x')
    assert f'--{name}its' not in capsys.readouterr().out.replace('\n', '')


def test_a_flagfile_that_is_a_pipe_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b'--seed=5\n')
    os.close(writer)
    monkeypatch.setattr(sys, 'argv', ['train', f'--flagfile=/dev/fd/{reader}', '--model.hidden=8'])
    monkeypatch.setattr(cli.signals, 'leave_at_once', lambda name: None)  # as signals end commands
    monkeypatch.setattr(cli.gc, 'disable', lambda: None)
    cli.check_command_line(Config, 'usage: train')
    os.close(reader)
    assert sys.argv == ['train', '--seed=5', '--model.hidden=8']
    assert cli.parse(Config, sys.argv, '') == Config(seed=5, model=ModelConfig(hidden=8))


@pytest.mark.parametrize('flag', ['--' + 'x' * 5000, '-' + '9' * 5000 + '=1'])
def test_a_flag_with_a_very_long_name_is_one_line(flag: str) -> None:
    with pytest.raises(UsageError, match='is no flag') as failure:
        cli.parse(Config, ['train', flag], 'usage')
    assert len(str(failure.value)) < 200
