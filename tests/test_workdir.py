"""A workdir belongs to one run: `config.json` is written once and then verified."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from glr_jax import cli, fields, train
from glr_jax.config import Config
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UserError
from glr_jax.run import workdir
from tests.conftest import PAPER, SMALL_RUN, model_config


def parse(*arguments: str) -> Config:
    return cli.parse(Config, ['train', *arguments], 'usage: train')


def test_a_workdir_belongs_to_one_config(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path / "run"}', '--data.dir=d')
    workdir.claim(run)
    workdir.claim(run)
    assert workdir.read_config(run.workdir) == run
    other = dataclasses.replace(run, model=model_config(norm='batch'))
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
def test_a_run_may_resume_with_flags_that_do_not_change_results(flag: str, tmp_path: Path) -> None:
    flags = [f'--workdir={tmp_path / "run"}', '--data.dir=d']
    workdir.claim(parse(*flags))
    workdir.claim(parse(*flags, flag))
    with pytest.raises(UserError, match=r'--model.dtype=float32 \(not bfloat16\)'):
        workdir.claim(parse(*flags, '--model.dtype=bfloat16'))


@pytest.mark.parametrize(
    ('norm', 'devices', 'accumulate', 'remedy'),
    [
        ('batch', 4, 1, 'over 4 clips .* over 2; resume with devices × --train.accumulate = 2$'),
        ('batch', 2, 2, 'over 4 clips .* over 2; resume with devices × --train.accumulate = 2$'),
        ('batch', 1, 2, ''),
        ('batch_sync', 1, 2, 'over 8 clips .* over 4; resume with --train.accumulate=1$'),
        ('batch_sync', 4, 1, ''),
        ('glr', 1, 4, ''),
        ('group', 8, 1, ''),
        ('none', 4, 2, ''),
    ],
)
def test_a_run_resumes_only_where_it_normalises_over_as_many_clips(
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


def test_training_passes_its_number_of_devices(prepared: Path, tmp_path: Path) -> None:
    flags = [f'--workdir={tmp_path / "run"}', f'--data.dir={prepared}', '--train.batch_size=8']
    run = parse(*PAPER, *flags, '--data.frames=8', '--model.norm=batch')
    workdir.claim(run, devices=1)
    with pytest.raises(UserError, match='over 8 clips at a time, but here it would be over 1;'):
        train.train_and_evaluate(run, open_dataset(str(prepared)))  # on 8 devices


def test_a_run_that_did_not_record_what_it_normalised_over_may_resume(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path}', '--data.dir=d', '--model.norm=batch')
    (tmp_path / 'config.json').write_text(json.dumps(fields.to_dict(run)))  # the older format
    workdir.claim(run, devices=4)


def test_a_config_from_before_a_flag_existed_has_its_default(tmp_path: Path) -> None:
    run = parse(f'--workdir={tmp_path / "run"}', '--data.dir=d')
    workdir.claim(run)
    path = tmp_path / 'run' / 'config.json'
    old = json.loads(path.read_text())
    del old['model']['dtype'], old['model']['recurrence']
    path.write_text(json.dumps(old))
    assert workdir.read_config(run.workdir) == run


def test_a_folder_that_is_not_a_workdir_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='not empty'):
        workdir.claim(parse(f'--workdir={tmp_path}', '--data.dir=d'))


@pytest.mark.parametrize('leftover', ['config.json.partial-123', '.lock'])
def test_leftovers_of_a_killed_start_are_no_reason_to_refuse(leftover: str, tmp_path: Path) -> None:
    (tmp_path / leftover).write_text('{"seed"')
    run = parse(f'--workdir={tmp_path}', '--data.dir=d')
    workdir.claim(run)
    assert workdir.read_config(str(tmp_path)) == run


def test_a_lost_config_is_written_again_if_the_checkpoints_have_the_same(
    tones_run: Path, tones_dataset: Path, tmp_path: Path
) -> None:
    copy = tmp_path / 'run'
    shutil.copytree(tones_run, copy)
    before = (copy / 'config.json').read_text()
    (copy / 'config.json').unlink()
    flags = [f'--workdir={copy}', f'--data.dir={tones_dataset}', *SMALL_RUN]
    with pytest.raises(UserError, match=r'--seed=0 \(not 1\)'):
        workdir.claim(parse(*flags, '--seed=1'))
    workdir.claim(parse(*flags))
    assert json.loads((copy / 'config.json').read_text())['model'] == json.loads(before)['model']


def test_checkpoints_of_another_program_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / 'checkpoints' / '7').mkdir(parents=True)
    (tmp_path / 'checkpoints' / '7' / 'weights.pt').write_text('precious')
    with pytest.raises(UserError, match='not empty'):
        workdir.claim(parse(f'--workdir={tmp_path}', '--data.dir=d'))


@pytest.mark.parametrize('spelling', ['{0}/d/', '{0}/./d', '{0}/x/../d', 'd', './d/', '{0}/link'])
def test_a_data_folder_may_be_spelled_in_any_way(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'd').mkdir()
    (tmp_path / 'x').mkdir()
    (tmp_path / 'link').symlink_to('d')
    monkeypatch.chdir(tmp_path)
    flags = [f'--workdir={tmp_path / "run"}']
    workdir.claim(parse(*flags, f'--data.dir={tmp_path}/d'))
    workdir.claim(parse(*flags, f'--data.dir={spelling.format(tmp_path)}'))
    with pytest.raises(UserError, match=r'--data\.dir='):
        workdir.claim(parse(*flags, f'--data.dir={tmp_path}/x'))


@pytest.mark.parametrize('content', ['', '{', '[]', '{"seed": "x"}', '{"model": {"hidden": -1}}'])
def test_a_damaged_config_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match=r'config\.json is damaged'):
        workdir.read_config(str(tmp_path))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='holds no run'):
        workdir.read_config(str(tmp_path))


def test_a_file_as_workdir_is_refused_before_the_dataset_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'file'
    path.touch()
    with pytest.raises(UserError, match='is a file; choose a folder'):
        train.main(['train', f'--workdir={path}', '--data.dir=no/such'])
    assert capfd.readouterr().err == ''


def test_a_file_is_no_workdir(tmp_path: Path) -> None:
    path = tmp_path / 'notes.txt'
    path.write_text('mine')
    with pytest.raises(UserError, match='is a file; choose a folder'), workdir.lock(str(path)):
        pass
    assert path.read_text() == 'mine'
