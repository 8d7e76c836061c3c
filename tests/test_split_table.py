"""`splits.csv` as people edit it."""

import re
from pathlib import Path

import pytest

from glr_jax.data.split_table import read_split_table
from glr_jax.errors import UserError

LABELS = ('blues', 'hip hop')
TABLE = (
    'id,label,group,random-1,mine\n'
    'a.wav,blues,ann,train,test\n'
    'b.wav,hip hop,,validation,\n'
    'c.wav,blues,,test,train\n'
)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / 'splits.csv'
    path.write_text(text, encoding='utf-8')
    return str(path)


@pytest.mark.parametrize(
    'text',
    [
        TABLE,
        TABLE.replace(',', ';'),
        TABLE.replace(',', ' ,\t'),
        TABLE.replace('train', 'Training').replace('validation', 'VALID'),
        TABLE.replace('validation', 'dev') + ',,,,\n\n',
        TABLE.replace('id,label,group', 'ID,Label,Group'),
    ],
)
def test_sides_are_read_however_they_are_written(tmp_path: Path, text: str) -> None:
    table = read_split_table(write(tmp_path, text), LABELS)
    assert table.ids == ['a.wav', 'b.wav', 'c.wav']
    assert table.targets.tolist() == [0, 1, 0]
    assert table.groups == ['ann', '', '']
    assert table.splits == {
        'random-1': ['train', 'validation', 'test'],
        'mine': ['test', '', 'train'],
    }


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('test,train', 'test,tset', "line 4: mine is 'tset'; use train, validation"),
        ('hip hop', 'hiphop', "line 3: label is 'hiphop'; use one of 'blues', 'hip hop'"),
        ('b.wav', '', 'line 3: the id is missing'),
        ('c.wav', 'a.wav', "line 4: the id 'a.wav' is on line 2 too"),
        ('id,label', 'path,label', "no column id; its header has: 'path', 'label', 'group'"),
        ('id,label', 'id,genre', 'no column label; its header has'),
        ('mine', 'random-1', "two columns are named 'random-1'"),
        (',ann', '', r'line 2: the row has 4 cells, but the header has 5'),
    ],
)
def test_a_wrong_cell_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in TABLE
    with pytest.raises(UserError, match=re.escape(words)) as error:
        read_split_table(write(tmp_path, TABLE.replace(old, new)), LABELS)
    assert str(tmp_path / 'splits.csv') in str(error.value)
    assert '\n' not in str(error.value)


def test_a_column_that_is_no_split_is_named_and_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TABLE.replace('mine', 'tempo').replace(',test\n', ',90\n').replace(',train\n', ',120\n')
    table = read_split_table(write(tmp_path, text), LABELS)
    assert list(table.splits) == ['random-1']
    assert 'splits.csv: no splits, so ignored: tempo;' in capsys.readouterr().err


def test_a_split_without_clips_is_a_split(tmp_path: Path) -> None:
    text = re.sub(',[a-z]*\n', ',\n', TABLE).replace('random-1,\n', 'random-1,mine\n')
    assert read_split_table(write(tmp_path, text), LABELS).splits['mine'] == ['', '', '']
