"""CSV tables, as people and spreadsheets write them."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest

from glr_jax.data import tables
from glr_jax.errors import UserError

ROWS = [{'id': 'a/1', 'label': 'ä', 'x': 'train'}, {'id': 'b/2', 'label': 'b', 'x': ''}]
PLAIN = 'id,label,x\na/1,ä,train\nb/2,b,\n'


def read(tmp_path: Path, content: bytes, **options: object) -> tables.Table:
    path = tmp_path / 'table.csv'
    path.write_bytes(content)
    return tables.read_table(str(path), **{'required': ('id', 'label')} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'text',
    [
        PLAIN,
        '\ufeff' + PLAIN,
        PLAIN.replace(',', ';'),
        PLAIN.replace(',', '\t'),
        PLAIN.replace('\n', '\r\n'),
        PLAIN.replace('\n', '\r'),
        PLAIN.replace(',', ' , '),
        PLAIN.replace('id,label', 'ID,Label'),
        '\n' + PLAIN.replace('\n', '\n\n') + ',,\n;\n'.replace(';', ' '),
        PLAIN.replace('\n', ',,\n'),
        'sep=;\n' + PLAIN.replace(',', ';'),
        PLAIN.replace('a/1', '"a/1"').rstrip('\n'),
    ],
)
def test_what_spreadsheets_and_people_change_makes_no_difference(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text.encode())
    assert table.rows == ROWS
    assert table.columns == ['id', 'label', 'x']


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (PLAIN.encode('latin-1'), r'line 2: byte 0xe4 is not UTF-8.*Latin-1.*save it as UTF-8'),
        (PLAIN.encode('utf-16'), 'is in UTF-16; save it as CSV in UTF-8'),
        (b'', 'is empty; it needs the columns id, label'),
        (b'\n ,\n', 'is empty; it needs the columns id, label'),
        (b'path,label\na,b\n', "no column id; its header has: 'path', 'label'"),
        (b'id,label,id\n', "two columns are named 'id'"),
        (b'id,,label\n', 'column 2 has no name'),
        (b'id,label\n\na\n', 'line 3: the row has 1 cell, but the header has 2'),
        (b'id,label\na,b,c\n', 'line 2: the row has 3 cells, but the header has 2'),
        (b'id,label\n"a,b\nc,d\n', 'not a CSV table'),
        (b'id,label\na,b\0\n', 'line 2: a NUL character'),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_line_and_remedy(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(UserError, match=rf'table\.csv.*{words}'):
        read(tmp_path, content)


def test_another_name_of_a_column_is_understood(tmp_path: Path) -> None:
    table = read(
        tmp_path, b'File_Name,label\nx,y\n', required=('path',), aliases={'file_name': 'path'}
    )
    assert table.rows == [{'path': 'x', 'label': 'y'}]
    assert table.unknown(['path']) == ['label']


def test_a_bad_value_is_named_with_its_line(tmp_path: Path) -> None:
    table = read(tmp_path, b'id,label\n\n"a\nb",c\nd,e\n')
    assert table.lines == [3, 5]
    fault = table.fault(1, 'label', 'c or f')
    assert str(fault).endswith("table.csv, line 5: label is 'e'; use c or f")


@pytest.mark.parametrize(
    ('value', 'side'),
    [
        *((name, 'validation') for name in ('val', 'valid', ' Dev ', 'VALIDATION')),
        *((name, 'train') for name in ('train', 'Training')),
        *[('TEST', 'test'), ('', ''), (' ', ''), ('tests', None), ('1', None)],
    ],
)
def test_sides_go_by_several_names(value: str, side: str | None) -> None:
    assert tables.side_of(value) == side


def random_text(rng: np.random.Generator, alphabet: str, longest: int) -> str:
    return ''.join(rng.choice(list(alphabet), rng.integers(longest + 1)))


@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_any_text_in_a_cell_comes_back_without_the_spaces_around_it(
    tmp_path: Path, separator: str
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        cells = [random_text(rng, 'aé界😀\u202e,;\t"\'\n\r $%<', 6) for _ in range(8)]
        rows = list(zip(cells[::2], cells[1::2], strict=True))
        text = io.StringIO(newline='')
        csv.writer(text, delimiter=separator).writerows([('id', 'label'), *rows])
        found = [(row['id'], row['label']) for row in read(tmp_path, text.getvalue().encode()).rows]
        stripped = [(a.strip(), b.strip()) for a, b in rows]
        assert found == [row for row in stripped if any(row)]


def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(600):
        content = random_text(rng, 'idlabel,;\t"\n\r ', 40).encode()
        if number % 2:
            content = rng.bytes(rng.integers(40))
        message = ''
        try:
            read(tmp_path, b'id,label\n' + content)
        except UserError as error:
            message = str(error)
        assert '\n' not in message


def test_bytes_that_are_not_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    path = str(tmp_path / 'table.csv')
    tables.write_table(path, ['id'], [[os.fsdecode(b'caf\xe9.wav')]])
    assert tables.read_table(path).rows == [{'id': r'caf\udce9.wav'}]


def test_long_names_and_values_are_cut_in_messages(tmp_path: Path) -> None:
    path = tmp_path / 'a.csv'
    path.write_text(','.join(['x' * 5000] + [f'column {k}' for k in range(500)]) + '\n')
    with pytest.raises(UserError, match=r'no column id; its header has: .*…') as failure:
        tables.read_table(str(path), ('id',))
    assert len(str(failure.value)) < 1000
