"""MagnaTagATune from a made-up copy of its published layout."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import mtat
from data_prep.__main__ import Preparation, _audio_folder, main
from data_prep.mtat import mtat_clips
from glr_jax.data.dataset import open_dataset
from glr_jax.data.files import LeftOut
from glr_jax.data.split_table import default_split
from glr_jax.errors import UserError

TAGS = ('female voice', 'guitar', 'guitars', 'rare', 'woman')
CLIPS = [  # folder, artist, tags
    *(('0', 'Ann', 'guitar|woman'), ('0', 'Ann', 'guitars'), ('7', 'Bob', 'female voice')),
    *(('9', 'Bob', 'guitar'), ('a', 'Cid', 'guitar|guitars'), ('b', 'Cid', 'woman')),
    *(('c', 'Dan', 'guitar'), ('c', 'Dan', 'woman'), ('d', 'Eve', 'guitar')),
    *(('e', 'Eve', 'woman'), ('f', 'Fay', 'rare'), ('f', 'Fay', '')),
]


def path_of(number: int) -> str:
    folder, artist, _ = CLIPS[number]
    return f'{folder}/{artist.lower()}-an_album-{number:02}-a_song-0-29.mp3'


def write(path: Path, rows: list[list[str]]) -> None:
    with open(path, 'w', newline='') as file:
        csv.writer(file, delimiter='\t', quoting=csv.QUOTE_ALL).writerows(rows)


def layout(folder: Path, audio: str = '', empty: Sequence[int] = (1,)) -> Path:
    """The published files with noise for music; one of them is empty, as three really are."""
    folder.mkdir(exist_ok=True)
    annotations, info = (
        [['clip_id', *TAGS, 'mp3_path']],
        [['clip_id', 'title', 'artist', 'mp3_path']],
    )
    rng = np.random.default_rng(0)
    for number, (_, artist, tags) in enumerate(CLIPS):
        ones = [str(int(tag in tags.split('|'))) for tag in TAGS]
        annotations.append([str(number), *ones, path_of(number)])
        info.append([str(number), 'A "song"', artist, path_of(number)])
        path = folder / audio / path_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    for number in empty:
        (folder / audio / path_of(number)).write_bytes(b'')
    write(folder / 'annotations_final.csv', annotations)
    write(folder / 'clip_info_final.csv', info)
    return folder


@pytest.fixture(scope='module')
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layout(tmp_path_factory.mktemp('mtat'))


def test_clips_have_labels_artists_and_the_split_by_folders(published: Path) -> None:
    left_out: list[LeftOut] = []
    clips = mtat_clips(str(published), left_out=left_out.append)
    assert [clip.id for clip in clips] == [path_of(k).removesuffix('.mp3') for k in range(11)]
    assert clips[0].labels == ('guitar', 'woman')
    assert [clip.group for clip in clips] == [artist for _, artist, _ in CLIPS[:11]]
    sides = [clip.splits['official'] for clip in clips]
    assert sides == ['train'] * 6 + ['validation'] * 2 + ['test'] * 3
    assert [(file.path, file.reason) for file in left_out] == [
        (str(published / path_of(11)), 'has no tags')
    ]


def test_the_folders_are_split_12_to_1_to_3() -> None:
    sides = [mtat.side_of_folder(name) for name in mtat.FOLDERS]
    assert sides == ['train'] * 12 + ['validation'] + ['test'] * 3


def test_the_most_frequent_labels_are_kept(published: Path) -> None:
    left_out: list[LeftOut] = []
    clips = mtat_clips(str(published), top_labels=2, left_out=left_out.append)
    assert {label for clip in clips for label in clip.labels} == {'guitar', 'woman'}
    assert clips[0].labels == ('guitar', 'woman')
    reason = 'has none of the 2 most frequent tags (--top_labels)'
    assert [file.reason for file in left_out] == [reason, reason, reason, 'has no tags']
    assert len(mtat_clips(str(published), top_labels=0)) == 11
    every = mtat_clips(str(published), top_labels=2, keep_unlabelled=True)
    assert [clip.labels for clip in every].count(()) == 4
    assert len(every) == len(CLIPS)


def test_synonyms_are_merged_before_labels_are_counted(published: Path) -> None:
    clips = mtat_clips(str(published), top_labels=2, merge_synonyms=True)
    assert [clip.labels for clip in clips[:5]] == [
        *(('guitar', 'female'), ('guitar',), ('female',), ('guitar',), ('guitar',)),
    ]


def test_no_tag_is_in_two_groups_of_synonyms() -> None:
    names = [
        *mtat.SYNONYMS,
        *(name for others in mtat.SYNONYMS.values() for name in others.split(', ')),
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('audio', ['', 'mp3'])
def test_the_command_prepares_it_and_names_the_empty_file(tmp_path: Path, audio: str) -> None:
    folder, out = layout(tmp_path / 'mtat', audio), tmp_path / 'out'
    command = ['data_prep', '--source=mtat', f'--input={folder}', f'--out={out}']
    main([*command, '--num_workers=1', '--max_skipped=0.2', '--top_labels=2', '--merge_synonyms'])
    with open(out / 'skipped.csv') as file:
        reasons = {Path(row['path']).stem: row['reason'] for row in csv.DictReader(file)}
    assert reasons[Path(path_of(1)).stem] == 'is empty (0 bytes)'
    assert reasons[Path(path_of(11)).stem] == 'has no tags'
    dataset = open_dataset(str(out))
    assert dataset.multi_label
    assert list(dataset.labels) == ['female', 'guitar']
    assert default_split(dataset.splits, dataset.groups)[0] == 'official'


def test_players_find_the_files(published: Path) -> None:
    prep = Preparation(source='mtat', input=str(published))
    clips = mtat_clips(str(published))
    assert _audio_folder(prep, clips[:1]) == str(published)
    assert all(Path(published, f'{clip.id}.mp3') == Path(clip.file) for clip in clips)


def test_without_clip_info_there_are_no_groups(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = layout(tmp_path)
    (folder / 'clip_info_final.csv').unlink()
    assert {clip.group for clip in mtat_clips(str(folder))} == {''}
    assert (
        'clip_info_final.csv was not found, so the artists are not known' in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        (
            path_of(2),
            '../song.mp3',
            r"line 4: the mp3_path '\.\./song\.mp3' is not like f/song\.mp3",
        ),
        (path_of(2), 'f/../../x.mp3', 'line 4: the mp3_path .* is not like'),
        (path_of(2), 'g/song.mp3', 'line 4: the mp3_path .* is not like'),
        (path_of(2), path_of(1), 'line 4: .* is on an earlier line too; remove one'),
        ('"2"\t"1"', '"2"\t"yes"', "line 4: female voice is 'yes', not 0 or 1"),
        ('"2"\t"1"', '"2"', 'line 4: the row has 6 cells, but the header has 7'),
        ('"mp3_path"', '"path"', 'has no column mp3_path'),
        ('\t', ',', 'has no column clip_id'),
    ],
)
def test_annotations_that_cannot_be_used_are_named(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = layout(tmp_path) / 'annotations_final.csv'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=words) as error:
        mtat_clips(str(tmp_path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('missing', ['annotations_final.csv', 'audio'])
def test_missing_files_are_named(tmp_path: Path, missing: str) -> None:
    folder = layout(tmp_path, 'elsewhere' if missing == 'audio' else '')
    words = 'none of the audio folders 0 to f; unpack the mp3 archive of https'
    if missing != 'audio':
        (folder / missing).unlink()
        words = rf'{missing} was not found; download it from https'
    with pytest.raises(UserError, match=words):
        mtat_clips(str(folder))
