"""A workdir belongs to one run: `config.json` is written once and then verified."""

import dataclasses
import json
from pathlib import Path

import pytest

from glr_jax import cli, fields, train, workdir
from glr_jax.config import Config
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UserError
from tests.conftest import PAPER, model_config


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


@pytest.mark.parametrize('content', ['', '{', '[]', '{"seed": "x"}', '{"model": {"hidden": -1}}'])
def test_a_damaged_config_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match=r'config\.json is damaged'):
        workdir.read_config(str(tmp_path))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='holds no run'):
        workdir.read_config(str(tmp_path))
