"""Tables from elsewhere: flags name their columns."""

from pathlib import Path

import pytest

from data_prep import sources
from data_prep.__main__ import main
from data_prep.listed import Columns
from glr_jax.data.dataset import open_dataset
from glr_jax.data.files import LeftOut
from glr_jax.errors import UsageError, UserError
from tests.conftest import IDS, run, write_music

HEADER = 'Track,genre_top,Artist Name,Set,label'
COLUMNS = Columns(path='track', label='genre_top', group='Artist Name', split='Set')


def written(folder: Path, *rows: str, name: str = 'metadata.csv') -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text('\n'.join([HEADER, *rows]))
    return folder


def test_columns_are_found_by_name_whatever_their_case(tmp_path: Path) -> None:
    folder = written(tmp_path, 'a.wav,calm,Ann,training,x', 'b/c.wav,tense,Bob,eval,y')
    clips = sources.folder_clips(str(folder), columns=COLUMNS)
    assert [clip.id for clip in clips] == ['a.wav', 'b/c.wav']
    assert [clip.label for clip in clips] == ['calm', 'tense']
    assert [clip.group for clip in clips] == ['Ann', 'Bob']
    assert [clip.splits['official'] for clip in clips] == ['train', 'test']


def test_columns_that_no_flag_names_keep_their_usual_names(tmp_path: Path) -> None:
    folder = written(tmp_path, 'a.wav,calm,Ann,train,x')
    (clip,) = sources.folder_clips(str(folder), columns=Columns(path='Track'))
    assert (clip.label, clip.group, clip.splits) == ('x', '', {})


@pytest.mark.parametrize(
    ('columns', 'words'),
    [
        (
            Columns('Track', label='genre'),
            r"--label_column=genre .*'genre_top'.*; did you mean 'ge",
        ),
        (Columns('Track', group='artistname'), r"--group_column=.*; did you mean 'Artist Name'\?"),
        (Columns('Track', split='zzz'), r"--split_column=zzz is not a column of .*'Set', 'label'$"),
        (Columns('paht'), '--path_column=paht is not a column of'),
        (Columns(label='label'), r"has no column path \(or file_name\).*'Track'.*--path_column"),
    ],
)
def test_an_unknown_column_is_refused_with_those_there_are(
    tmp_path: Path, columns: Columns, words: str
) -> None:
    folder = written(tmp_path, 'a.wav,calm,Ann,train,x')
    with pytest.raises(UserError, match=words) as error:
        sources.folder_clips(str(folder), columns=columns)
    assert '\n' not in str(error.value)


def test_a_row_without_a_label_is_left_out_with_the_reason(tmp_path: Path) -> None:
    folder = written(tmp_path, 'a.wav,calm,Ann,train,x', 'b.wav,,Bob,test,y')
    others: list[LeftOut] = []
    (clip,) = sources.folder_clips(str(folder), columns=COLUMNS, left_out=others.append)
    assert clip.id == 'a.wav'
    assert [file.reason for file in others] == ["has an empty cell in column 'genre_top'"]


def test_the_command_reads_a_table_that_lies_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    sides = ['training', 'valid', 'testing', *['train'] * 5]
    rows = [f'{id};{id[:2]};by {k % 8};{sides[k % 8]};-' for k, id in enumerate(IDS[:-1])]
    table = tmp_path / 'tracks.csv'
    table.write_text('\n'.join([HEADER.replace(',', ';'), *rows]))
    flags = ['--path_column=Track', '--label_column=genre_top', '--group_column=artist name']
    out = run(music, tmp_path / 'out', f'--metadata={table}', '--split_column=set', *flags)
    data = open_dataset(str(out))
    assert data.labels == ('hi', 'hu', 'ra')
    assert data.groups[0] == 'by 0'
    assert len(data.members('official', 'validation')) == 3
    assert f'{IDS[-1]},' in (out / 'skipped.csv').read_text()
    assert 'is not listed in tracks.csv' in (out / 'skipped.csv').read_text()
    said = capsys.readouterr()
    assert '1 not in tracks.csv' in said.out
    assert 'default split: official, because the source defines it' in said.err


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--source=fma', '--label_column=x'], '--label_column=x needs --source=folder, not fma'),
        (['--labels_from=tags', '--metadata=x.csv'], 'metadata=x.csv does not go with --labels_fr'),
        (['--labels_from=tags', '--sides_from_folders'], 'sides_from_folders does not go with'),
        (['--source=gtzan', '--labels_from=tags'], '--labels_from=tags needs --source=folder'),
        (['--sides_from_folders', '--group_column=x'], 'does not go with --sides_from_folders'),
        (['--min_clips_per_label=2'], '--min_clips_per_label=2 must be 0 or at least 3'),
        (['--min_clips_per_label=-1'], '--min_clips_per_label=-1 must be'),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        main(['data_prep', '--input=x', f'--out={tmp_path / "out"}', *flags])


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'--metadata=.*nowhere\.csv was not found'):
        run(write_music(tmp_path / 'm'), tmp_path / 'o', f'--metadata={tmp_path}/nowhere.csv')


def test_a_dataset_is_not_written_among_the_audio(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'--out=.* is inside --input='):
        main(['data_prep', f'--input={tmp_path}', f'--out={tmp_path / "data"}'])
    assert not (tmp_path / 'data').exists()
