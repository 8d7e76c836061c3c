import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import sources
from data_prep.arrays import arrays_clips
from glr_jax.data.files import LeftOut
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.errors import ClipError, UserError


def write(path: Path) -> None:
    """Writes a short clip of noise in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    soundfile.write(path, noise, 22050, format=path.suffix[1:].upper())


def write_gtzan(root: Path, suffix: str = 'wav') -> None:
    for genre in sources.GTZAN_GENRES:
        for k in range(2):
            write(root / genre / f'{genre}.{k:05}.{suffix}')


def refusal(*parts: object) -> str:
    """A pattern that matches these texts in this order."""
    return '.*'.join(re.escape(str(part)) for part in parts)


# ---------------------------------------------------------------- folder
def test_a_folder_gives_the_audio_files_below_each_label(tmp_path: Path) -> None:
    for name in ('rock/one.wav', 'rock/live/1999/two.flac', 'jazz/three.ogg', 'jazz/four.mp3'):
        write(tmp_path / name)
    clips = sources.folder_clips(str(tmp_path))
    assert {clip.id: clip.label for clip in clips} == {
        'rock/one.wav': 'rock',
        'rock/live/1999/two.flac': 'rock',
        'jazz/three.ogg': 'jazz',
        'jazz/four.mp3': 'jazz',
    }
    assert all(clip.path == os.path.join(tmp_path, clip.id) for clip in clips)
    assert {clip.group for clip in clips} == {''}


@pytest.mark.parametrize(
    'name', ['my song.wav', '🎵.wav', 'Ünïcode, "x".wav', 'LOUD.WAV', 'a.b.Mp3']
)
def test_clips_with_any_name_are_found_and_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / 'rock & roll' / name)
    (clip,) = sources.folder_clips(str(tmp_path))
    assert (clip.id, clip.label) == (f'rock & roll/{name}', 'rock & roll')
    expected = mel_of_file(str(tmp_path / 'rock & roll' / name), FrontEnd())
    np.testing.assert_array_equal(clip.mel(FrontEnd()), expected)


@pytest.mark.parametrize(
    'name', ['rock/.one.wav', 'rock/.trash/one.wav', '.cache/one.wav', 'one.wav']
)
def test_hidden_and_unlabelled_files_are_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path / 'rock/kept.wav')
    write(tmp_path / name)
    assert [clip.id for clip in sources.folder_clips(str(tmp_path))] == ['rock/kept.wav']


@pytest.mark.parametrize('name', ['cover.jpg', 'notes.txt', 'wav', 'one.wav.part', 'one.raw'])
def test_files_that_are_not_audio_are_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path / 'rock/kept.wav')
    (tmp_path / 'rock' / name).write_text('no audio')
    assert [clip.id for clip in sources.folder_clips(str(tmp_path))] == ['rock/kept.wav']


def test_a_folder_named_like_audio_is_searched(tmp_path: Path) -> None:
    write(tmp_path / 'rock/album.mp3/one.wav')
    assert [clip.id for clip in sources.folder_clips(str(tmp_path))] == ['rock/album.mp3/one.wav']


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        ([], 'is not a folder'),
        (['music/'], 'has no sub-folders'),
        (['music/one.wav'], '--metadata=TABLE.csv or --labels_from=tags'),
        (['music/rock/'], 'has no audio files in its 1 sub-folder; '),
    ],
    ids=['missing', 'empty', 'without labels', 'without audio'],
)
def test_an_unusable_folder_is_named(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith('/') else write(tmp_path / name)
    with pytest.raises(UserError, match=refusal(tmp_path / 'music', words)):
        sources.folder_clips(str(tmp_path / 'music'))


def test_a_folder_without_audio_names_the_suffixes_found(tmp_path: Path) -> None:
    for name in ('a/x.jpg', 'b/y.MID', 'b/z.mid'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r'in its 2 sub-folders, only 2 \.mid, 1 \.jpg; '):
        sources.folder_clips(str(tmp_path))


@pytest.mark.parametrize('source', [sources.folder_clips, sources.gtzan_clips])
def test_a_missing_input_flag_is_named(source: Callable[[str], list]) -> None:
    with pytest.raises(UserError, match='--input'):
        source('')


# ---------------------------------------------------------------- gtzan
@pytest.mark.parametrize('place', ['', 'genres', 'genres_original'])
@pytest.mark.parametrize('suffix', ['wav', 'au'])
def test_gtzan_is_read_as_published(tmp_path: Path, place: str, suffix: str) -> None:
    write_gtzan(tmp_path / place, suffix)
    clips = sources.gtzan_clips(str(tmp_path))
    assert [clip.id for clip in clips[:3]] == ['blues.00000', 'blues.00001', 'classical.00000']
    assert Counter(clip.label for clip in clips) == dict.fromkeys(sources.GTZAN_GENRES, 2)
    assert all(clip.id.startswith(clip.label) for clip in clips)


@pytest.mark.parametrize('place', ['', 'genres'])
@pytest.mark.parametrize('missing', ['blues', 'jazz'])
def test_a_missing_genre_is_named(tmp_path: Path, place: str, missing: str) -> None:
    write_gtzan(tmp_path / place)
    (tmp_path / place / missing).rename(tmp_path / place / 'other')
    with pytest.raises(UserError, match=refusal(tmp_path, 'is not GTZAN', missing)):
        sources.gtzan_clips(str(tmp_path))


def test_a_folder_that_is_no_genre_of_gtzan_is_left_out_by_name(tmp_path: Path) -> None:
    write_gtzan(tmp_path / 'genres')
    (tmp_path / 'genres/techno').mkdir()
    others: list[LeftOut] = []
    sources.gtzan_clips(str(tmp_path), left_out=others.append)
    assert [(Path(file.path).name, file.reason) for file in others] == [
        ('techno', 'is not one of the ten genres of GTZAN')
    ]


# ---------------------------------------------------------------- arrays
def save(folder: Path, **changes: object) -> str:
    """An .npz of six clips; arguments replace arrays, or remove them if None."""
    arrays = {
        'mel': np.random.default_rng(0).integers(0, 256, (6, 20, 8), np.uint8),
        'label': np.array(['rock', 'jazz'] * 3),
        'id': np.array([f'clip {k}' for k in range(6)]),
    }
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(folder / 'clips.npz', **arrays)  # type: ignore[arg-type]
    return str(folder / 'clips.npz')


def test_arrays_become_clips(tmp_path: Path) -> None:
    path = save(tmp_path)
    clips = arrays_clips(path)
    mels = np.load(path)['mel']
    assert [clip.id for clip in clips] == [f'clip {k}' for k in range(6)]
    assert [clip.label for clip in clips] == ['rock', 'jazz'] * 3
    np.testing.assert_array_equal([clip.mel(FrontEnd()) for clip in clips], mels)
    assert {(clip.group, len(clip.splits)) for clip in clips} == {('', 0)}


def test_arrays_may_have_groups_and_a_split(tmp_path: Path) -> None:
    split = np.array(['training', 'validation', 'test', 'train', 'valid', ''])
    clips = arrays_clips(save(tmp_path, group=np.array([*'aabbcc']), split=split))
    assert [clip.group for clip in clips] == [*'aabbcc']
    expected = ['train', 'validation', 'test', 'train', 'validation', None]
    assert [clip.splits.get('official') for clip in clips] == expected


def test_the_group_array_may_be_called_artist(tmp_path: Path) -> None:
    path = save(tmp_path, group=None, artist=np.array([*'xxyyzz']))
    assert [clip.group for clip in arrays_clips(path)] == [*'xxyyzz']


@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
def test_decibels_are_stored_in_the_type_of_the_front_end(tmp_path: Path, dtype: str) -> None:
    decibels = np.full((6, 20, 8), -80, dtype)
    decibels[:, :, 0], decibels[:, :, 1] = 0, -20
    clip, *_ = arrays_clips(save(tmp_path, mel=decibels))
    assert clip.mel(FrontEnd())[0].tolist() == [255, 191, *[0] * 6]
    np.testing.assert_array_equal(clip.mel(FrontEnd(mel_dtype='float32')), decibels[0])


@pytest.mark.parametrize(
    ('low', 'high', 'top_db'), [(-40, 40, 80), (-100, 0, 80), (0, 1, 80), (-90, 0, 85)]
)
@pytest.mark.parametrize('dtype', ['float16', 'float32', 'float64'])
def test_decibels_out_of_range_are_refused_with_the_range_found(
    tmp_path: Path, low: float, high: float, top_db: float, dtype: str
) -> None:
    decibels = np.linspace(low, high, 6 * 20 * 8, dtype=dtype).reshape(6, 20, 8)
    words = refusal(f'from {low:g} to {high:g}', f'-{top_db:g} (--top_db)', 'mel -= mel.max')
    with pytest.raises(UserError, match=words):
        arrays_clips(save(tmp_path, mel=decibels), top_db=top_db)
    assert arrays_clips(save(tmp_path, mel=decibels - max(high, 0)), top_db=200)


def test_clips_without_numbers_do_not_hide_the_range(tmp_path: Path) -> None:
    decibels = np.full((6, 20, 8), -10, np.float32)
    decibels[0], decibels[1, 0, 0], decibels[2, 0, 0] = np.nan, -np.inf, 3
    with pytest.raises(UserError, match='from -10 to 3'):
        arrays_clips(save(tmp_path, mel=decibels))


def test_values_that_can_hardly_be_decibels_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decibels = np.linspace(-60, 0, 6 * 20 * 8, dtype=np.float32).reshape(6, 20, 8)
    arrays_clips(save(tmp_path, mel=decibels))
    assert capsys.readouterr().err == ''
    arrays_clips(save(tmp_path, mel=decibels / 60))
    assert 'mel has values from -1 to 0 only; are they decibels?' in capsys.readouterr().err
    arrays_clips(save(tmp_path, mel=np.full((6, 20, 8), np.nan)))
    assert capsys.readouterr().err == ''


def test_ignored_arrays_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays_clips(save(tmp_path, artists=np.array([*'xxyyzz'])))
    assert "clips.npz: ignored arrays: 'artists'; known are mel, " in capsys.readouterr().err


@pytest.mark.parametrize('name', ['mel', 'label', 'id'])
def test_a_missing_array_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, **{name: None})
    with pytest.raises(UserError, match=refusal(path, 'lacks arrays', name)):
        arrays_clips(path)


@pytest.mark.parametrize('name', ['mel', 'label', 'group', 'split'])
def test_an_array_of_the_wrong_length_is_named(tmp_path: Path, name: str) -> None:
    short = np.zeros((5, 20, 8), np.uint8) if name == 'mel' else np.array(['test'] * 5)
    with pytest.raises(
        UserError,
        match=refusal(*(['(6,)', 'mel has 5'] if name == 'mel' else [name, '(5,)', 'mel has 6'])),
    ):
        arrays_clips(save(tmp_path, **{name: short}))


@pytest.mark.parametrize('mel', [np.zeros((6, 20), np.uint8), np.zeros((6, 20, 8), np.int64)])
def test_mels_of_the_wrong_shape_or_type_are_refused(tmp_path: Path, mel: np.ndarray) -> None:
    with pytest.raises(UserError, match=refusal(mel.dtype, mel.shape)):
        arrays_clips(save(tmp_path, mel=mel))


def test_an_unknown_side_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=refusal("'holdout'", 'train, validation, test')):
        arrays_clips(save(tmp_path, split=np.array(['train'] * 5 + ['holdout'])))


class Tripwire:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path('unpickled'),)


def test_pickled_objects_are_refused_without_loading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, label=np.array([Tripwire()] * 6, object))
    with pytest.raises(UserError, match=refusal(path)):
        arrays_clips(path)
    assert not Path('unpickled').exists()


@pytest.mark.parametrize('part', [0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize('start', [b'', b'some text, then '])
def test_a_file_that_is_not_a_complete_npz_is_named(
    tmp_path: Path, part: float, start: bytes
) -> None:
    path = Path(save(tmp_path))
    path.write_bytes(start + path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(UserError, match=refusal(path, '.npz')):
        arrays_clips(str(path))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_clip_with_nan_or_infinite_values_is_refused(tmp_path: Path, value: float) -> None:
    mel = np.zeros((6, 20, 8), np.float32)
    mel[2, 3, 4] = value
    clips = arrays_clips(save(tmp_path, mel=mel))
    assert clips[1].mel(FrontEnd()).shape == (20, 8)
    with pytest.raises(ClipError, match='NaN or infinite'):
        clips[2].mel(FrontEnd())


def test_uint8_mels_become_decibels_if_stored_as_float32(tmp_path: Path) -> None:
    clip, *_ = arrays_clips(save(tmp_path, mel=np.full((6, 20, 8), 51, np.uint8)))
    mel = clip.mel(FrontEnd(mel_dtype='float32'))
    np.testing.assert_allclose(mel, np.full((20, 8), -64.0), atol=1e-5)


@pytest.mark.parametrize('shape', [(6, 20, 0), (6, 0, 8), (0, 20, 8)])
def test_empty_mels_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=refusal(shape)):
        arrays_clips(save(tmp_path, mel=np.zeros(shape, np.uint8)))


def test_an_npy_file_and_a_scalar_array_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / 'x.npy', np.zeros(3))
    with pytest.raises(UserError, match=r'x\.npy is not an \.npz'):
        arrays_clips(str(tmp_path / 'x.npy'))
    with pytest.raises(UserError, match='group has shape'):
        arrays_clips(save(tmp_path, group=np.array('one')))


def test_byte_strings_are_read_as_text(tmp_path: Path) -> None:
    clips = arrays_clips(save(tmp_path, id=np.array([b'%d' % k for k in range(6)])))
    assert [clip.id for clip in clips] == list('012345')
