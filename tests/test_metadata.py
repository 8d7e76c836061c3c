"""`metadata.csv` in a folder of music."""

from pathlib import Path

import pytest

from data_prep import sources
from glr_jax.data.dataset import open_dataset
from glr_jax.data.files import LeftOut
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError
from tests.conftest import IDS, run, write_music


def listed(folder: Path, text: str) -> list[sources.Clip]:
    folder.mkdir(exist_ok=True)
    (folder / 'metadata.csv').write_text(text, encoding='utf-8-sig')
    return sources.folder_clips(str(folder))


def test_the_table_lists_files_with_labels_artists_and_sides(tmp_path: Path) -> None:
    clips = listed(
        tmp_path,
        'path,label,artist,split,tempo\n'
        'a.wav,calm,Ann,train,90\n'
        '"deep/er, b.mp3",tense,Bob,validation,\n'
        'tense/c.wav,,,test,120\n',
    )
    assert [clip.id for clip in clips] == ['a.wav', 'deep/er, b.mp3', 'tense/c.wav']
    assert [clip.label for clip in clips] == ['calm', 'tense', 'tense']
    assert [clip.group for clip in clips] == ['Ann', 'Bob', '']
    assert [clip.splits['official'] for clip in clips] == ['train', 'validation', 'test']


def test_only_listed_files_count_and_missing_ones_are_named(
    tmp_path: Path,
) -> None:
    music = write_music(tmp_path / 'music')
    names = [f'{label}/{k}.wav' for label in ('hum', 'rain') for k in range(7)]
    (music / 'metadata.csv').write_text('\n'.join(['path', *names, 'hum/99.wav']))
    out = run(music, tmp_path / 'out', '--max_skipped=0.1')
    assert len((out / 'splits.csv').read_text().splitlines()) == 1 + len(names)
    assert 'hum/99.wav' in (out / 'skipped.csv').read_text()


@pytest.mark.parametrize('path', ['../x.wav', '/etc/passwd', 'a/../../x.wav', '.', ''])
def test_paths_outside_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r'metadata\.csv, line 3: path .* is not below'):
        listed(tmp_path, f'path,label\nok.wav,calm\n"{path}",calm\n')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', r'metadata\.csv is empty'),
        ('file,label\na.wav,calm\n', r"metadata\.csv has no column path.*'file', 'label'"),
        ('path,label\n', r'metadata\.csv has no rows'),
    ],
)
def test_a_table_without_paths_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        listed(tmp_path, text)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'metadata.csv').write_bytes(b'path\n\xff\xfe\x00.wav\n')
    with pytest.raises(UserError, match='UTF-8'):
        sources.folder_clips(str(tmp_path))


@pytest.mark.parametrize('separator', [',', ';', '\t'])
@pytest.mark.parametrize('name', ['path', 'file_name', 'Path', ' File_Name '])
def test_hand_edited_tables_are_read(tmp_path: Path, separator: str, name: str) -> None:
    rows = [
        [name, 'Label', ' split'],
        ['a.wav', ' calm ', 'Training'],
        ['', '', ''],
        ['b.wav', 'tense', 'dev'],
        ['', '', ''],
    ]
    clips = listed(tmp_path, '\r\n'.join(separator.join(row) for row in rows))
    assert [clip.id for clip in clips] == ['a.wav', 'b.wav']
    assert [clip.label for clip in clips] == ['calm', 'tense']
    assert [clip.splits['official'] for clip in clips] == ['train', 'validation']


def test_unknown_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(tmp_path, 'path,label,tempo,Split type\na.wav,calm,90,x\n')
    (line,) = capsys.readouterr().err.splitlines()
    assert 'metadata.csv: ignored columns: tempo, Split type; those with a meaning are path' in line


def test_a_table_without_a_column_of_labels_says_what_the_labels_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip,) = listed(tmp_path, 'path,genre\ncalm/a.wav,tense\n')
    assert clip.label == 'calm'
    said = capsys.readouterr().err
    assert 'ignored columns: genre' in said
    assert 'no column label, so folders are the labels (see --label_column)' in said


@pytest.mark.parametrize(
    ('header', 'cells', 'reason'),
    [
        (
            'path,label',
            ',calm',
            "has an empty cell in column 'label', and is in no sub-folder that",
        ),
        ('path,genre', ',calm', 'is in no sub-folder that names its label'),
    ],
)
def test_rows_without_a_label_and_a_folder_are_left_out(
    tmp_path: Path, header: str, cells: str, reason: str
) -> None:
    (tmp_path / 'metadata.csv').write_text(f'{header}\ncalm/a.wav{cells}\nb.wav,\ntense/c.wav,\n')
    others: list[LeftOut] = []
    clips = sources.folder_clips(str(tmp_path), left_out=others.append)
    assert [clip.label for clip in clips] == ['calm', 'tense']
    (other,) = others
    assert other.path == str(tmp_path / 'b.wav')
    assert other.reason.startswith(reason)


@pytest.mark.parametrize(
    ('header', 'words'),
    [
        ('path,label', r"metadata\.csv: no row has a label in column 'label'$"),
        ('path,genre', r'no row has a label: there is no column label, .*; --label_column names'),
    ],
)
def test_a_table_without_any_label_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        listed(tmp_path, f'{header}\na.wav,\nb.wav,\n')


def test_rows_without_a_label_are_skipped_and_counted_with_and_without_a_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    for id in IDS:
        (music / id).rename(music / id.replace('/', '-'))
    rows = [f'{id.replace("/", "-")},{id.split("/")[0]}' for id in IDS]
    rows[0] = f'{IDS[0].replace("/", "-")},'
    (music / 'metadata.csv').write_text('\n'.join(['path,label', *rows]))
    for out, flags in ((tmp_path / 'a', ()), (tmp_path / 'b', ('--label_column=label',))):
        capsys.readouterr()
        assert len(open_dataset(str(run(music, out, *flags)))) == len(IDS) - 1
        assert '1 without a label' in capsys.readouterr().out
        (row,) = read_table(str(out / 'skipped.csv')).rows
        assert row['id'] == IDS[0].replace('/', '-')
        assert row['reason'].startswith("has an empty cell in column 'label'")


def test_a_file_on_two_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 4: '\./a\.wav' is on line 2 too"):
        listed(tmp_path, 'path,label\na.wav,calm\nb.wav,calm\n./a.wav,tense\n')


def test_a_path_with_backslashes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'line 2: path .* was not found; write / for \\'):
        listed(tmp_path, 'path,label\ncalm\\a.wav,calm\n')
    (tmp_path / 'calm\\a.wav').touch()  # a name that Linux allows
    assert listed(tmp_path, 'path,label\ncalm\\a.wav,calm\n')


def test_latin_1_is_refused_by_name_and_line(tmp_path: Path) -> None:
    (tmp_path / 'metadata.csv').write_bytes('path,label\na.wav,café\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'metadata\.csv, line 2: byte 0xe9 .*Latin-1'):
        sources.folder_clips(str(tmp_path))


@pytest.mark.parametrize(
    ('row', 'words'),
    [
        ('a.wav,calm,holdout', r"line 3: split 'holdout' is not one of train, validation, test"),
        ('a.wav,calm', r'line 3: the row has 2 cells'),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(UserError, match=rf'metadata\.csv, {words}'):
        listed(tmp_path, f'path,label,split\nok.wav,calm,train\n{row}\n')
