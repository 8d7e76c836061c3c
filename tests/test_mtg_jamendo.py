"""MTG-Jamendo from a made-up copy of its published layout."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import flags, fma, mtg_jamendo
from data_prep.__main__ import Preparation, _audio_folder, main
from data_prep.clips import Clip
from data_prep.mtg_jamendo import mtg_jamendo_clips
from glr_jax.data.dataset import open_dataset
from glr_jax.data.records import SIDES
from glr_jax.data.split_table import default_split
from glr_jax.errors import UsageError, UserError

GENRES = ['genre---rock'], ['genre---pop'], ['genre---pop', 'genre---rock']
TOP50 = ['genre---rock', 'mood/theme---happy'], ['instrument---voice'], ['genre---pop']
NUM_TRACKS = 12


def row(number: int, tags: list[str]) -> list[str]:
    path = f'{number % 100:02}/{number}.mp3'
    return [f'track_{number:07}', f'artist_{number % 6:06}', 'album_000001', path, '30.0', *tags]


def write(path: Path, rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ['\t'.join(cells) for cells in [mtg_jamendo.COLUMNS, *rows]]
    path.write_text('\n'.join(lines) + '\n')


def layout(folder: Path, suffix: str = '.mp3', audio: str = '') -> Path:
    """The published folders with noise for music; each split begins with another track."""
    tracks = list(range(1040, 1040 + NUM_TRACKS))
    for split in range(5):
        turned = tracks[split:] + tracks[:split]
        for subset, kinds in (('genre', GENRES), ('top50tags', TOP50)):
            for side, its in zip(SIDES, (turned[:6], turned[6:9], turned[9:]), strict=True):
                rows = [row(number, kinds[number % 3][:: 1 if split else -1]) for number in its]
                write(folder / f'data/splits/split-{split}/autotagging_{subset}-{side}.tsv', rows)
    rng = np.random.default_rng(0)
    for number in tracks:
        path = folder / audio / f'{number % 100:02}' / f'{number}{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 44100, format='MP3')
    return folder


@pytest.fixture(scope='module')
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layout(tmp_path_factory.mktemp('jamendo'))


def test_tracks_have_labels_artists_and_five_official_splits(published: Path) -> None:
    clips = {clip.id: clip for clip in mtg_jamendo_clips(str(published), 'genre')}
    assert len(clips) == NUM_TRACKS
    assert clips['40/1040'].labels == ('pop', 'rock')
    assert clips['41/1041'].labels == ('rock',)
    assert clips['41/1041'].group == 'artist_000003'
    assert Path(clips['41/1041'].file) == published / '41/1041.mp3'
    assert clips['40/1040'].splits == {
        'official-0': 'train',
        **{f'official-{k}': 'test' for k in (1, 2, 3)},
        'official-4': 'validation',
    }


def test_labels_of_several_categories_name_theirs(published: Path) -> None:
    clips = mtg_jamendo_clips(str(published))
    assert {label for clip in clips for label in clip.labels} == {
        *('genre: rock', 'genre: pop', 'instrument: voice', 'mood/theme: happy'),
    }


@pytest.mark.parametrize('audio', ['', 'audio-low', 'raw_30s/audio-low'])
def test_files_of_low_quality_are_found(tmp_path: Path, audio: str) -> None:
    folder = layout(tmp_path, '.low.mp3', audio)
    (folder / audio / '41/1041.low.mp3').rename(folder / audio / '41/1041.mp3')
    found = {clip.id: clip for clip in mtg_jamendo_clips(str(folder), 'genre')}
    assert Path(found['40/1040.low'].file) == folder / audio / '40/1040.low.mp3'
    assert Path(found['41/1041'].file) == folder / audio / '41/1041.mp3'


def test_the_command_prepares_it_and_names_a_missing_track(tmp_path: Path) -> None:
    folder, out = layout(tmp_path / 'jamendo'), tmp_path / 'out'
    (folder / '42/1042.mp3').unlink()
    command = ['data_prep', '--source=mtg_jamendo', '--subset=genre', f'--input={folder}']
    main([*command, f'--out={out}', '--num_workers=1', '--max_skipped=0.1'])
    with open(out / 'skipped.csv') as file:
        (skipped,) = csv.DictReader(file)
    assert skipped['id'] == '42/1042'
    assert skipped['reason']
    dataset = open_dataset(str(out))
    assert dataset.multi_label
    assert list(dataset.labels) == ['pop', 'rock']
    assert {f'official-{k}' for k in range(5)} <= set(dataset.splits)
    assert default_split(dataset.splits, dataset.groups)[0] == 'official-0'


def test_players_find_the_files(published: Path) -> None:
    prep = Preparation(source='mtg_jamendo', input=str(published))
    clips = mtg_jamendo_clips(str(published))
    assert _audio_folder(prep, clips) == str(published)
    assert all(Path(published, f'{clip.id}.mp3') == Path(clip.file) for clip in clips)


def test_the_audio_folder_does_not_depend_on_how_many_there_are(published: Path) -> None:
    (clip, *_) = mtg_jamendo_clips(str(published))
    prep = Preparation(source='mtg_jamendo', input=str(published))
    assert _audio_folder(prep, [clip]) == str(published)


def clips_of(folder: Path, change: str, cells: list[str]) -> list[Clip]:
    """The clips after one row of split 2 was added to."""
    path = folder / 'data/splits/split-2/autotagging_genre-test.tsv'
    with open(path, 'a') as file:
        file.write(change + '\t'.join(cells) + '\n')
    return mtg_jamendo_clips(str(folder), 'genre')


@pytest.mark.parametrize(
    ('cells', 'words'),
    [
        (row(7, []), r'genre-test\.tsv, line 5: the row has no tags'),
        (row(7, [''])[:3], 'line 5: the row has no tags'),
        (row(7, ['rock']), r"line 5: the tag 'rock' is not like genre---rock"),
        (row(7, ['genre---']), "the tag 'genre---' is not like genre---rock"),
        (row(7, ['mood/theme---sad']), "'mood/theme---sad' is not of the subset genre"),
        (['t', 'a', 'b', '../1.mp3', '9', 'genre---pop'], r"line 5: the path '\.\./1\.mp3' is not"),
        (['t', 'a', 'b', '/etc/1.mp3', '9', 'genre---pop'], "the path '/etc/1.mp3' is not like"),
        (row(1042, GENRES[1]), '42/1042.mp3 is in the train clips of this split too'),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, cells: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        clips_of(layout(tmp_path), '', cells)
    assert '\n' not in str(error.value)


def test_blank_lines_and_tabs_at_the_end_of_a_row_do_not_matter(tmp_path: Path) -> None:
    clips = clips_of(layout(tmp_path), '\n', [*row(7, GENRES[0]), '', ''])
    assert clips[-1].labels == ('rock',)
    assert clips[-1].splits == {'official-2': 'test'}


def test_other_tags_in_a_later_split_are_announced(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = layout(tmp_path)
    path = folder / 'data/splits/split-3/autotagging_genre-train.tsv'
    path.write_text(path.read_text().replace('genre---pop\tgenre---rock', 'genre---jazz'))
    clips = mtg_jamendo_clips(str(folder), 'genre')
    assert {label for clip in clips for label in clip.labels} == {'pop', 'rock'}
    assert '2 tracks with other tags in a later split; those of the first' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ('missing', r'autotagging_genre-train\.tsv was not found; get it from https'),
        ('empty', 'is not a table of MTG-Jamendo'),
        ('csv', 'is not a table of MTG-Jamendo, whose columns are TRACK_ID, ARTIST_ID'),
        ('latin', 'is not UTF-8'),
    ],
)
def test_a_missing_or_other_table_is_named(tmp_path: Path, change: str, words: str) -> None:
    path = layout(tmp_path) / 'data/splits/split-4/autotagging_genre-train.tsv'
    path.unlink()
    if change != 'missing':
        path.write_bytes({'empty': b'', 'csv': b'a,b\n1,2\n', 'latin': b'\xe9\n'}[change])
    with pytest.raises(UserError, match=words):
        mtg_jamendo_clips(str(tmp_path), 'genre')


def test_missing_audio_folders_are_named(tmp_path: Path) -> None:
    layout(tmp_path, audio='elsewhere')
    with pytest.raises(UserError, match='none of the audio folders 00 to 99; unpack the audio'):
        mtg_jamendo_clips(str(tmp_path))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (
            ['--source=mtg_jamendo', '--subset=mood'],
            'which has top50tags, genre, instrument, moodt',
        ),
        (
            ['--source=mtg_jamendo', '--subset=small'],
            '--subset=small is not a subset of --source=m',
        ),
        (['--source=fma', '--subset=tiny'], 'which has small, medium, large, full'),
        (['--source=gtzan', '--subset=genre'], '--subset=genre needs --source=mtg_jamendo, not gt'),
        (['--source=gtzan', '--subset=x'], 'needs --source=fma or --source=mtg_jamendo, not gtzan'),
        (['--source=mtg_jamendo', '--top_labels=9'], '--top_labels=9 needs --source=mtat, not mtg'),
        (['--source=gtzan', '--merge_synonyms'], '--merge_synonyms needs --source=mtat, not gtzan'),
        (['--source=gtzan', '--keep_unlabelled'], '--keep_unlabelled needs --source=folder or'),
    ],
)
def test_an_unknown_subset_or_a_flag_of_another_source_is_a_usage_error(
    arguments: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        main(['data_prep', '--input=x', '--out=y', *arguments])


def test_the_subsets_of_the_flag_are_those_of_the_sources() -> None:
    assert flags.SUBSETS == {'fma': fma.SUBSETS, 'mtg_jamendo': mtg_jamendo.SUBSETS}
