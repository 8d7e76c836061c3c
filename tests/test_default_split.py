"""Without --data.split, a run gets the split that suits its dataset; random ones may warn."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from glr_jax import report, train
from glr_jax.config import Config, DataConfig, TrainFlags
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.split_table import default_split
from glr_jax.errors import UserError
from glr_jax.run import workdir
from glr_jax.run.split import choose_split
from tests.conftest import IDS, make_dataset, run, write_music

SIDES = ['train', 'train', 'validation', 'test']


@pytest.mark.parametrize(
    ('names', 'groups', 'expected'),
    [
        (['random-1', 'group-1', 'official'], 'abcd', 'official'),
        (['random-1', 'group-1'], 'abcd', 'group-1'),
        (['random-1', 'group-1'], '', 'random-1'),
        (['random-1'], 'abcd', 'random-1'),
        (['random-1', 'fault_filtered'], '', 'random-1'),
        (['random-1', 'group-1', 'official-0', 'official-1'], 'abcd', 'official-0'),
        (['random-1', 'official-1'], '', 'random-1'),
    ],
)
def test_the_default_is_official_then_group_1_then_random_1(
    names: list[str], groups: str, expected: str
) -> None:
    split, why = default_split(dict.fromkeys(names, SIDES), list(groups) or [''] * 4)
    assert split == expected
    assert why


def test_an_official_split_without_validation_clips_is_not_the_default() -> None:
    splits = {'official': ['train', 'train', 'test', ''], 'random-1': SIDES}
    assert default_split(splits, [''] * 4) == (
        'random-1',
        'the split official has no validation clips, and the clips have no groups',
    )


def test_an_empty_official_split_gives_both_reasons() -> None:
    splits = {'official': ['', '', 'test', ''], 'random-1': SIDES, 'group-1': SIDES}
    split, why = default_split(splits, list('abcd'))
    assert split == 'group-1'
    assert why.startswith('the split official has no training or validation clips, and no group')


def dataset(groups: str = '', **splits: list[str]) -> Dataset:
    made = make_dataset(['a', 'b'], [0, 1, 0, 1])
    named = {name.replace('_', '-'): sides for name, sides in splits.items()}
    return dataclasses.replace(made, splits=named, groups=list(groups))


def chosen(folder: Path, data: Dataset, split: str = '') -> str:
    config = Config(workdir=str(folder), data=DataConfig(split=split))
    return choose_split(config, data).data.split


def test_the_choice_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grouped = dataset('aabc', random_1=SIDES, group_1=SIDES)
    assert chosen(tmp_path, grouped) == 'group-1'
    (line,) = capsys.readouterr().err.splitlines()
    words = 'no group is in more than one of train, validation and test'
    assert line == f'--data.split=group-1, because {words}'


def test_groups_on_two_sides_of_a_random_split_are_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grouped = dataset('abca', random_1=SIDES, group_1=SIDES)
    assert chosen(tmp_path, grouped, 'random-1') == 'random-1'
    (line,) = capsys.readouterr().err.splitlines()
    assert '1 of the 1 groups of its test clips are in training too' in line
    assert line.endswith('--data.split=group-1 has none')
    chosen(tmp_path, dataset('abca', random_1=SIDES), 'random-1')
    assert capsys.readouterr().err.endswith('too few groups for a group split\n')


@pytest.mark.parametrize('groups', ['', 'aabc'])
def test_random_splits_that_share_no_group_say_nothing(
    tmp_path: Path, groups: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(tmp_path, dataset(groups, random_1=SIDES), 'random-1') == 'random-1'
    assert not capsys.readouterr().err


def test_an_older_run_keeps_its_split(tmp_path: Path) -> None:
    grouped = dataset('aabc', random_1=SIDES, group_1=SIDES)
    workdir.claim(Config(workdir=str(tmp_path / 'old')), devices=1)
    assert chosen(tmp_path / 'old', grouped) == 'random-1'
    assert chosen(tmp_path / 'new', grouped) == 'group-1'


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'--data\.split=random-77 is not in'):
        chosen(tmp_path, dataset('aabc', random_1=SIDES), 'random-77')


def test_the_flags_of_train_are_a_config_without_a_split() -> None:
    config = TrainFlags().config()
    assert type(config) is Config
    assert config.data.split == ''
    assert dataclasses.replace(config, data=DataConfig()) == Config()


def test_train_uses_the_split_that_data_prep_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    rows = [f'{id},singer {k}' for k, id in enumerate(IDS)]
    (music / 'metadata.csv').write_text('\n'.join(['path,artist', *rows]))
    out = run(music, tmp_path / 'out')
    said = capsys.readouterr().err
    assert 'default split: group-1, because no group is in more than one of' in said
    assert any(open_dataset(str(out)).groups)
    seen: list[str] = []

    def note(config: Config, data: Dataset) -> dict[str, Any]:
        seen.append(config.data.split)
        return {}

    monkeypatch.setattr(train, 'train_and_evaluate', note)
    monkeypatch.setattr(report, 'table', lambda *_: '')
    flags = [f'--data.dir={out}', f'--workdir={tmp_path / "run"}', '--baselines=false']
    for own in ([], ['--data.split=random-3']):
        train.main(['train', *flags, *own])
    assert seen == ['group-1', 'random-3']
