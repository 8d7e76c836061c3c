"""Datasets whose clips may have several labels: how they are made, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep import inspect, pictures, sources
from data_prep.__main__ import main
from data_prep.arrays import arrays_clips
from data_prep.listed import Columns
from glr_jax import train
from glr_jax.data.dataset import open_dataset
from glr_jax.data.files import LeftOut
from glr_jax.data.tables import read_table, write_table
from glr_jax.data.tfrecord import RecordFile
from glr_jax.errors import UsageError, UserError
from tests.conftest import run
from tests.test_runners import hashes

CELLS = ['rock|guitar', 'guitar', 'jazz', '', 'jazz|guitar', 'rock'] * 5
NAMES = ('rock', 'guitar', 'jazz')


def save(folder: Path, **changes: Any) -> Path:
    """An .npz of clips with labels as texts; arguments replace arrays, or remove them if None."""
    labels = changes.get('labels', CELLS)
    count = len(labels) if isinstance(labels, list) else len(changes.get('id', CELLS))
    arrays = {
        'mel': np.random.default_rng(0).integers(0, 256, (count, 5, 4), np.uint8),
        'labels': np.array(labels),
        'id': np.array([f'clip {k:05}' for k in range(count)]),
    }
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(folder / 'clips.npz', **arrays)  # type: ignore[arg-type]
    return folder / 'clips.npz'


def prepare(folder: Path, *flags: str, **changes: Any) -> Path:
    """A dataset of such clips."""
    path = save(folder, **changes)
    return run(path, folder / 'out', '--source=arrays', '--clips_per_shard=4096', *flags)


def matrix(cells: list[str]) -> np.ndarray:
    return np.array([[name in cell.split('|') for name in NAMES] for cell in cells])


def listed(folder: Path, text: str, **options: Any) -> list[sources.Clip]:
    (folder / 'metadata.csv').write_text(text)
    return sources.folder_clips(str(folder), **options)


# ---------------------------------------------------------------- arrays
@pytest.mark.parametrize('dtype', [bool, np.uint8, np.float32])
def test_a_matrix_of_labels_means_the_same_as_texts(tmp_path: Path, dtype: type) -> None:
    by_text = arrays_clips(str(save(tmp_path)), keep_unlabelled=True)
    path = save(tmp_path, labels=matrix(CELLS).astype(dtype), label_names=np.array(NAMES))
    by_matrix = arrays_clips(str(path), keep_unlabelled=True)
    assert [clip.label for clip in by_text[:4]] == [
        *(('rock', 'guitar'), ('guitar',), ('jazz',), ())
    ]
    assert [set(clip.labels) for clip in by_text] == [set(clip.labels) for clip in by_matrix]
    assert [clip.id for clip in by_text] == [clip.id for clip in by_matrix]


def test_clips_without_labels_are_left_out_and_listed_or_kept(tmp_path: Path) -> None:
    out = prepare(tmp_path)
    assert len(open_dataset(str(out))) == 25
    skipped = read_table(str(out / 'skipped.csv')).rows
    assert [row['id'] for row in skipped] == [f'clip {k:05}' for k in range(3, 30, 6)]
    assert {row['reason'] for row in skipped} == {'has no labels'}
    whole = open_dataset(str(prepare(tmp_path, '--keep_unlabelled', '--overwrite')))
    assert len(whole) == 30
    assert whole.labels_of(3) == ()


def test_labels_in_arrays_have_the_separator_of_the_flag(tmp_path: Path) -> None:
    cells = [cell.replace('|', ' ; ') for cell in CELLS]
    out = prepare(tmp_path, '--label_separator=;', labels=cells)
    assert open_dataset(str(out)).labels == ('guitar', 'jazz', 'rock')


def test_labels_replace_the_array_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = arrays_clips(str(save(tmp_path, label=np.array(['x'] * 30))))
    assert clips[0].label == ('rock', 'guitar')
    assert 'clips.npz: the array label is ignored' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'labels': matrix(CELLS)}, 'labels is a matrix, so it needs an array label_names'),
        (
            {'labels': matrix(CELLS), 'label_names': np.array(['a', 'b'])},
            r'labels has 3 columns, but label_names has shape \(2,\)',
        ),
        (
            {'labels': matrix(CELLS), 'label_names': np.array(['a', 'b', 'a '])},
            "label_names has 'a' more than once",
        ),
        (
            {'labels': matrix(CELLS), 'label_names': np.array(['a', 'b', ' '])},
            'label_names has an empty name',
        ),
        (
            {'labels': matrix(CELLS) * 2, 'label_names': np.array(NAMES)},
            'must have no other values than 0 and 1',
        ),
        ({'labels': np.array(CELLS[:-1])}, r'labels has shape \(29,\)'),
        ({'labels': np.array('rock')}, r'labels has shape \(\)'),
        ({'labels': np.array([''] * 30)}, 'no clip has a label'),
        ({'labels': None}, 'lacks arrays: label$'),
        (
            {'labels': np.array([['rock'], ['jazz', 'pop']] * 15, object)},
            'array labels has Python objects; save it as text or numbers',
        ),
    ],
)
def test_unusable_arrays_of_labels_are_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = save(tmp_path, **({'id': np.array([f'{k}' for k in range(30)])} | changes))
    with pytest.raises(UserError, match=words):
        arrays_clips(str(path))


# ---------------------------------------------------------------- what there is to learn
@pytest.mark.parametrize(
    ('cells', 'flags', 'words'),
    [
        (['a'] * 9, (), r'every clip has the same labels \(a\)'),
        (['a', ''] * 9, (), r'every clip has the same labels \(a\)'),
        (['a|b', 'b|a'] * 9, (), r'every clip has the same labels \(a, b\)'),
        ([''] * 9, ('--keep_unlabelled',), r'every clip has the same labels \(none\)'),
        (
            ['a;b|c', 'a'] * 9,
            ('--label_separator=;',),
            r"label 'b\|c' has a \|, which separates .* rename it, or give --label_separator='\|'",
        ),
        (['a\nb', 'c'] * 9, (), r"label 'a\\nb' has a line break; rename it"),
        (['a\tb', 'c'] * 9, (), r"label 'a\\tb' has a tab"),
        (['a\x1fb', 'c'] * 9, (), r"label 'a\\x1fb' has a control character"),
        (['a' * 201, 'c'] * 9, (), r"label 'a{39}…' has 201 characters; at most 200 are possible"),
        (['|'.join('abcde')] * 9, (), r'every clip has the same labels \(a, b, c, \.\.\.\); add'),
        (['a  b', 'c'] * 9, (), "label 'a  b' has invisible spaces"),
        ([f'{k}' for k in range(10_001)], (), 'there are 10001 labels; at most 10000'),
    ],
)
def test_labels_that_cannot_be_learnt_or_stored_are_refused_before_anything_is_written(
    tmp_path: Path, cells: list[str], flags: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words) as error:
        prepare(tmp_path, *flags, labels=cells)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'out').exists()


def test_too_many_single_labels_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    label = np.array([f'{k % 10_001}' for k in range(30_003)])
    changes = {'label': label, 'id': np.arange(len(label)), 'mel': np.zeros((30_003, 1, 1))}
    with pytest.raises(UserError, match='there are 10001 labels; at most 10000'):
        prepare(tmp_path, labels=None, **changes)
    assert not (tmp_path / 'out').exists()


def test_one_label_is_enough_if_some_clips_lack_it(tmp_path: Path) -> None:
    data = open_dataset(str(prepare(tmp_path, '--keep_unlabelled', labels=['a', ''] * 15)))
    assert data.labels == ('a',)
    assert data.targets[:4].tolist() == [[1], [0], [1], [0]]
    for side, count in (('train', 24), ('validation', 3), ('test', 3)):
        clips = data.members('random-1', side)
        assert len(clips) == count
        assert 0 < data.targets[clips].sum() < count


def test_a_label_that_a_side_lacks_is_named_by_the_command_and_by_inspect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = ['a', 'b', 'a|b', 'b', *['a', 'b'] * 4, 'c', 'a', 'c|b', 'b']
    split = np.array([*['train'] * 4, *['train', 'validation'] * 4, *['validation', 'test'] * 2])
    out = prepare(tmp_path, labels=cells, split=split)
    said = capsys.readouterr().err
    assert "a label has no training clip in this split: 'c'" in said
    assert "a label has no validation clip in this split: 'a'" in said
    assert "a label has no test clip in this split: 'c'" in said
    inspect.main(['inspect', str(out)])
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if 'no training clip has' in line)
    assert line.split(maxsplit=1) == ['official', "no training clip has 1 label: 'c'"]


def test_inspect_names_the_sides_that_are_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepare(tmp_path, split=np.array(['validation', 'test'] * 15))
    said = capsys.readouterr().err
    assert 'default split: random-1, because the split official has no training clips' in said
    inspect.main(['inspect', str(out)])
    text = capsys.readouterr().out
    assert 'official                 no training clips' in text.splitlines()
    assert 'every side of every split' not in text
    with pytest.raises(UserError, match=r'^--data\.split=official has no training clips$'):
        train.main(
            ['train', f'--data.dir={out}', '--data.split=official', f'--workdir={tmp_path / "run"}']
        )


# ---------------------------------------------------------------- tables
@pytest.mark.parametrize(
    ('cell', 'labels'),
    [
        ('rock|indie', ('rock', 'indie')),
        (' rock | indie ', ('rock', 'indie')),
        ('rock|indie|rock', ('rock', 'indie')),
        ('rock||indie|', ('rock', 'indie')),
        ('rock;pop', ('rock;pop',)),
    ],
)
def test_a_cell_has_each_of_its_labels_once(
    tmp_path: Path, cell: str, labels: tuple[str, ...]
) -> None:
    (clip,) = listed(tmp_path, f'path,labels\na.wav,{cell}\n')
    assert clip.label == labels


@pytest.mark.parametrize(('keep', 'ids'), [(False, ['a.wav']), (True, ['a.wav', 'b.wav', 'c.wav'])])
def test_rows_without_labels_are_left_out_or_kept(
    tmp_path: Path, keep: bool, ids: list[str]
) -> None:
    others: list[LeftOut] = []
    clips = listed(
        tmp_path,
        'path,labels\na.wav,rock\nb.wav,\nc.wav, | \n',
        keep_unlabelled=keep,
        left_out=others.append,
    )
    assert [clip.id for clip in clips] == ids
    expected = ["has an empty cell in column 'labels'", "has only separators in column 'labels'"]
    assert [file.reason for file in others] == ([] if keep else expected)


def test_a_table_without_any_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv: no row has a label in column 'labels'"):
        listed(tmp_path, 'path,labels\na.wav,\nb.wav,|\n')


def test_a_table_with_both_columns_of_labels_needs_a_choice(tmp_path: Path) -> None:
    text = 'path,label,labels\na.wav,rock,rock|indie\n'
    with pytest.raises(UserError, match=r'choose one of --label_column=label and --labels_column'):
        listed(tmp_path, text)
    (several,) = listed(tmp_path, text, columns=Columns(labels='labels'))
    (one,) = listed(tmp_path, text, columns=Columns(label='label'))
    assert (several.label, one.label) == (('rock', 'indie'), 'rock')
    with pytest.raises(UserError, match='--label_column and --labels_column do not go together'):
        listed(tmp_path, text, columns=Columns(label='label', labels='labels'))


@pytest.mark.parametrize(
    ('cells', 'separator', 'hint'),
    [
        (['a;b', 'c; d', 'e'], '|', "2 of 3 have ';'; did you mean --label_separator=';'?"),
        (['"a,b"', '"c, d"'], '|', "2 of 2 have ','; did you mean --label_separator=','?"),
        (['a|b', 'c|d'], ';', "2 of 2 have '|'; did you mean --label_separator='|'?"),
        (['a;b', 'c; d', 'e|f'], '|', ''),
        (['a', '"drum, bass"', 'e'], '|', ''),
        (['', ''], '|', ''),
    ],
)
def test_a_separator_that_never_occurs_where_another_does_is_named(
    tmp_path: Path,
    cells: list[str],
    separator: str,
    hint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = '\n'.join(f'{k}.wav,{cell}' for k, cell in enumerate(cells))
    listed(tmp_path, f'path,labels\n{rows}', separator=separator, keep_unlabelled=True)
    said = capsys.readouterr().err
    assert (hint in said) if hint else said == ''


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--labels_from=all_tags', '--keep_unlabelled'], 'keep_unlabelled does not go with --lab'),
        (
            ['--source=gtzan', '--labels_from=all_tags'],
            'from=all_tags needs --source=folder',
        ),
        (['--source=fma', '--keep_unlabelled'], '--source=mtat or --source=arrays, not fma'),
        (['--label_separator='], '--label_separator must not be empty'),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        main(['data_prep', '--input=x', '--out=nowhere', *flags])


def test_sub_folders_have_no_unlabelled_clips_to_keep(music: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'keep_unlabelled needs .* has no metadata\.csv'):
        sources.folder_clips(str(music), keep_unlabelled=True)
    with pytest.raises(UserError, match='has no array labels'):
        arrays_clips(str(save(tmp_path, labels=None, label=np.array(CELLS))), keep_unlabelled=True)


# ---------------------------------------------------------------- the dataset
def edit(out: Path, change: dict[str, str]) -> None:
    """Replaces cells of the column labels of splits.csv, {id: cell}."""
    path = str(out / 'splits.csv')
    rows = read_table(path).rows
    for row in rows:
        row['labels'] = change.get(row['id'], row['labels'])
    write_table(path, list(rows[0]), [list(row.values()) for row in rows])


def test_tfds_reads_the_labels_of_every_record(tmp_path: Path) -> None:
    out = prepare(tmp_path, '--keep_unlabelled')
    info = tfds.builder_from_directory(str(out)).info
    names = info.features['labels'].feature.names
    ours = open_dataset(str(out))
    assert tuple(names) == ours.labels == ('guitar', 'jazz', 'rock')
    (path,) = info.splits['clips'].filepaths
    for clip, data in enumerate(RecordFile(str(path))):
        example = info.features.deserialize_example_np(data)
        found = [names[k] for k in example['labels']]
        assert '|'.join(found) == CELLS[clip]  # in the order of the source
        assert tuple(sorted(found)) == ours.labels_of(clip)
        np.testing.assert_array_equal(example['mel'], ours.mel(clip))


def test_a_label_that_is_not_of_the_dataset_is_named_with_its_line(tmp_path: Path) -> None:
    out = prepare(tmp_path)
    edit(out, {'clip 00001': 'guitar|gitar'})
    words = r"splits\.csv, line 3: there is no label 'gitar'; see labels\.labels\.txt"
    with pytest.raises(UserError, match=words):
        open_dataset(str(out))


def test_a_label_stands_in_splits_csv_twice_or_in_another_order_without_harm(
    tmp_path: Path,
) -> None:
    out = prepare(tmp_path)
    edit(out, {'clip 00000': ' guitar|rock | guitar||'})
    data = open_dataset(str(out))
    assert data.labels_of(0) == ('guitar', 'rock')
    data.mel(0)


@pytest.mark.parametrize(
    ('cell', 'words'),
    [
        ('guitar', "has the labels 'guitar', but in its record 'guitar|rock'"),
        ('', "has the labels '', but in its record 'guitar|rock'"),
        ('rock|guitar|jazz', "has the labels 'guitar|jazz|rock', but in its record 'guitar|rock'"),
    ],
)
def test_labels_that_differ_from_the_record_are_named(
    tmp_path: Path, cell: str, words: str
) -> None:
    out = prepare(tmp_path)
    edit(out, {'clip 00000': cell})
    with pytest.raises(UserError) as error:
        open_dataset(str(out)).mel(0)
    assert words in str(error.value)
    assert 'prepare the dataset again' in str(error.value)


def test_preparing_again_changes_nothing_and_other_labels_are_another_dataset(
    tmp_path: Path,
) -> None:
    out = prepare(tmp_path)
    before = hashes(out)
    prepare(tmp_path)
    assert hashes(out) == before
    with pytest.raises(UserError, match='1 has another label or group, the first: clip 00000'):
        prepare(tmp_path, labels=['rock', *CELLS[1:]])


def test_rare_labels_are_counted_without_the_clips_that_keep_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(tmp_path, '--min_clips_per_label=3', labels=['rock|rare', *CELLS[1:]])
    assert '1 label with fewer than 3 clips left out' in capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------- inspect
def test_inspect_counts_labels_and_clips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = prepare(tmp_path, '--keep_unlabelled', group=np.array([f'{k % 7}' for k in range(30)]))
    capsys.readouterr()
    inspect.main(['inspect', str(out), f'--page={tmp_path / "page.png"}'])
    text = capsys.readouterr().out
    counts = {line.split()[0]: line.split()[1] for line in text.splitlines() if line}
    assert [counts[name] for name in ('guitar', 'jazz', 'rock', 'all')] == ['15', '10', '10', '30']
    assert 'labels per clip: 1.17 on average, from 0 to 2; 5 clips without any' in text
    assert 'every side of every split has clips of every label' in text
    assert ' of 7' in next(line for line in text.splitlines() if line.startswith('random-1 '))
    assert (tmp_path / 'page.png').stat().st_size > 1000


def test_a_page_shows_up_to_four_clips_of_each_label(tmp_path: Path) -> None:
    data = open_dataset(str(prepare(tmp_path)))
    for label in range(3):
        chosen = pictures.choose(data, label)
        assert len(set(chosen)) == 4
        assert data.having(label)[chosen].all()


def test_two_hundred_labels_take_ten_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [f'{k:03}|{k + 1:03}' for k in range(199)] * 2
    data = open_dataset(str(prepare(tmp_path, labels=cells)))
    pages: list[str] = []
    monkeypatch.setattr(pictures, '_page', lambda *arguments: None)
    monkeypatch.setattr(pictures.figures, 'save', lambda figure, path, dpi: pages.append(path))
    pictures.draw(data, np.full(len(data), 5), 'page.png')
    assert pages == [f'page-{k}.png' for k in range(1, 11)]
