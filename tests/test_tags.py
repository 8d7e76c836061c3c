"""Labels from genre tags, groups from artist tags; hostile tags harm nothing."""

import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import aiff, flac, id3, mp4, oggvorbis, wave

from data_prep import tags
from glr_jax.data.dataset import open_dataset
from glr_jax.data.ffmpeg import find
from glr_jax.data.files import LeftOut
from glr_jax.errors import UserError
from tests.conftest import run

KINDS = ('wav', 'aiff', 'flac', 'ogg', 'mp3', 'm4a')


def audio(path: Path) -> Path:
    samples = 0.1 * np.random.default_rng(zlib.crc32(str(path).encode())).standard_normal(4000)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != '.m4a':
        soundfile.write(path, samples, 22050)
        return path
    raw = path.with_suffix('.raw.wav')
    soundfile.write(raw, samples, 22050)
    command = [find(), '-y', '-loglevel', 'error', '-i', str(raw), str(path)]
    subprocess.run([str(part) for part in command], check=True)
    raw.unlink()
    return path


def tagged(path: Path, genres: list[str], artists: list[str]) -> Path:
    """An audio file with tags as mutagen writes them."""
    audio(path)
    match path.suffix:
        case '.flac' | '.ogg':
            kind = flac.FLAC if path.suffix == '.flac' else oggvorbis.OggVorbis
            file = kind(path)
            file['genre'], file['artist'] = genres, artists
        case '.m4a':
            file = mp4.MP4(path)
            file['\xa9gen'], file['\xa9ART'] = genres, artists
        case suffix:
            file = {'.wav': wave.WAVE, '.aiff': aiff.AIFF}.get(suffix, mutagen.File)(path)
            if file.tags is None:
                file.add_tags()
            file.tags.add(id3.APIC(data=bytes(1000), mime='image/png', type=3))
            file.tags.add(id3.TCON(encoding=3, text=genres))
            file.tags.add(id3.TPE1(encoding=1, text=artists))
    file.save()
    return path


def with_tag(path: Path, frames: bytes, version: int = 4, flags: int = 0, size: int = -1) -> Path:
    """A file with a handmade ID3 tag before something that is no audio."""
    size = len(frames) if size < 0 else size
    digits = bytes(size >> 7 * k & 0x7F for k in (3, 2, 1, 0))
    path.write_bytes(b'ID3' + bytes([version, 0, flags]) + digits + frames + bytes(500))
    return path


def frame(name: bytes, content: bytes, flags: int = 0, *, version: int = 4) -> bytes:
    size = len(content)
    if version == 2:
        return name + struct.pack('>I', size)[1:] + content
    digits = bytes(size >> 7 * k & 0x7F for k in (3, 2, 1, 0))
    return (
        name + (digits if version == 4 else struct.pack('>I', size)) + bytes([0, flags]) + content
    )


@pytest.mark.parametrize('suffix', KINDS)
def test_every_format_has_a_genre_and_an_artist(tmp_path: Path, suffix: str) -> None:
    path = tagged(tmp_path / f'a.{suffix}', ['Träume', 'Pop'], ['Ann ', 'Bob'])
    assert tags.genres_and_artist(str(path)) == (('Träume', 'Pop'), 'Ann', '')


@pytest.mark.parametrize('suffix', KINDS)
def test_a_file_without_a_genre_is_named(tmp_path: Path, suffix: str) -> None:
    path = audio(tmp_path / f'a.{suffix}')
    assert tags.genres_and_artist(str(path)) == ((), '', 'has no genre in its tags')


@pytest.mark.parametrize(
    ('text', 'genre'),
    [
        ('17', 'Rock'),
        ('(17)', 'Rock'),
        ('(9)(17)', 'Metal'),
        ('(4)Eurodisco', 'Disco'),
        (' Hip  Hop ', 'Hip Hop'),
        ('Rock; Pop', 'Rock'),
        ('R&B/Soul', 'R&B/Soul'),
        ('; Jazz', 'Jazz'),
        ('250', 'Unknown'),
    ],
)
def test_genres_of_id3_are_names(tmp_path: Path, text: str, genre: str) -> None:
    path = tagged(tmp_path / 'a.mp3', [text], ['x'])
    assert tags.genres_and_artist(str(path))[0][0] == genre


@pytest.mark.parametrize('version', [2, 3, 4])
@pytest.mark.parametrize('codec', range(4))
def test_all_versions_and_encodings_are_read(tmp_path: Path, version: int, codec: int) -> None:
    encoded = 'Blués'.encode(('latin-1', 'utf-16', 'utf-16-be', 'utf-8')[codec])
    names = (b'TCO', b'TP1') if version == 2 else (b'TCON', b'TPE1')
    frames = b''.join(frame(name, bytes([codec]) + encoded, version=version) for name in names)
    path = with_tag(tmp_path / 'a.mp3', frames, version)
    assert tags.genres_and_artist(str(path)) == (('Blués',), 'Blués', '')


def test_plain_sizes_in_version_4_are_understood(tmp_path: Path) -> None:
    long = frame(b'TXXX', b'\3' + b'a' * 400, version=3) + frame(b'TCON', b'\3Folk', version=3)
    assert tags.genres_and_artist(str(with_tag(tmp_path / 'a.mp3', long)))[0] == ('Folk',)
    long = frame(b'TXXX', b'\3' + b'a' * 400) + frame(b'TCON', b'\3Folk')
    assert tags.genres_and_artist(str(with_tag(tmp_path / 'b.mp3', long)))[0] == ('Folk',)


def test_tags_of_version_1_are_read(tmp_path: Path) -> None:
    path = audio(tmp_path / 'a.mp3')
    tag = b'TAG' + b'title'.ljust(30, b'\0') + b'Ann'.ljust(30, b'\0') + bytes(64) + bytes([8])
    path.write_bytes(path.read_bytes() + tag)
    assert tags.genres_and_artist(str(path)) == (('Jazz',), 'Ann', '')


# ------------------------------------------------------------------ the command
def test_the_command_takes_labels_and_groups_from_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = tmp_path / 'music'
    for k in range(9):
        spelling = 'hip hop' if k == 3 else 'Hip Hop'
        tagged(music / f'a/{k}.mp3', [spelling, 'Pop'], [f'Singer {k // 2}'])
        tagged(music / f'{k}.flac', ['Jazz'], ['Trio' if k % 2 else 'TRIO'] if k < 4 else [])
    audio(music / 'none.wav')
    tagged(music / 'x.mp3', ['Rare'], ['x'])
    out = run(music, tmp_path / 'out', '--labels_from=tags', '--min_clips_per_label=3')
    data = open_dataset(str(out))
    assert data.labels == ('Hip Hop', 'Jazz')
    assert np.bincount(data.targets).tolist() == [9, 9]
    group_of = dict(zip(data.ids, data.groups, strict=True))
    assert group_of['a/0.mp3'] == group_of['a/1.mp3'] == 'Singer 0'
    assert [group_of[f'{k}.flac'] for k in range(5)] == [*['TRIO'] * 4, '']
    skipped = (out / 'skipped.csv').read_text()
    assert 'none.wav,' in skipped
    assert 'has no genre in its tags' in skipped
    assert "its label 'Rare' has only 1 clip," in skipped
    said = capsys.readouterr()
    assert 'tags: 20 of 20 files in 0:0' in said.err
    assert '1 without a genre tag' in said.out


def test_a_folder_without_any_genre_is_refused(tmp_path: Path) -> None:
    audio(tmp_path / 'a.wav')
    with pytest.raises(UserError, match=r'no file below .* has a genre tag \(1 audio file read\)'):
        tags.tagged_clips(str(tmp_path))


def test_mutagen_is_asked_for_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'mutagen', None)
    with pytest.raises(UserError, match=r"needs mutagen: pip install -e '\.\[tags\]'"):
        tags.tagged_clips(str(tmp_path))


# ------------------------------------------------------------------ hostile tags
@pytest.mark.parametrize(
    'text', ['x' * 5000, 'a\x07b', 'a\u202eb', '\0\0', ' ', '\x1b[2J', 'x \t' * 400, '\ufeff']
)
@pytest.mark.parametrize('suffix', ['mp3', 'flac'])
def test_a_genre_that_cannot_be_a_label_is_none(tmp_path: Path, text: str, suffix: str) -> None:
    path = tagged(tmp_path / f'a.{suffix}', [text], [text])
    genres, artist, fault = tags.genres_and_artist(str(path))
    assert (genres, artist) == ((), '')
    assert fault.startswith(('has a genre tag that', 'has no genre'))


def test_a_tag_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    bomb = struct.pack('>I', 1 << 30) + zlib.compress(bytes(1 << 26), 9)
    for version, flags in ((3, 0x80), (4, 0x09)):
        frames = frame(b'TCON', bomb, flags, version=version) + frame(
            b'TPE1', b'\3A', version=version
        )
        path = with_tag(tmp_path / 'a.mp3', frames, version)
        assert tags.genres_and_artist(str(path))[2] == 'has no genre in its tags'


def test_a_tag_of_many_tiny_frames_takes_no_time(tmp_path: Path) -> None:
    path = with_tag(tmp_path / 'a.mp3', frame(b'TXXX', b'x') * 200_000)
    start = time.process_time()
    assert tags.genres_and_artist(str(path))[2] == 'has no genre in its tags'
    assert time.process_time() - start < 15  # copies of the rest of the tag: 200 GB


def test_pipes_and_missing_files_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'a.mp3')
    for name in ('a.mp3', 'missing.mp3'):
        fault = tags.genres_and_artist(str(tmp_path / name))[2]
        assert fault == 'has tags that cannot be read: is not a regular file'


@pytest.mark.parametrize('suffix', KINDS)
def test_damaged_tags_are_read_or_named(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    whole = tagged(tmp_path / f'a.{suffix}', ['Jazz', 'Pop'], ['Ann']).read_bytes()
    places = [whole.find(word) for word in (b'Jazz', b'J\0a', b'Ann', b'ID3', b'moov', b'id3')]
    places = [place for place in places if place >= 0] or [0]
    path = tmp_path / f'b.{suffix}'
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            near = int(rng.choice(places)) + int(rng.integers(-60, 60))
            at = near % len(data) if rng.random() < 0.8 else int(rng.integers(len(data)))
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        genres, artist, fault = tags.genres_and_artist(str(path))
        assert bool(genres) != bool(fault)
        assert (''.join(genres) + artist + fault).isprintable()
        assert len(fault) < 300
        LeftOut(str(path), tags.UNTAGGED, fault).reason.encode()


# ------------------------------------------------------------------ all genres as labels
def test_all_genres_of_a_file_are_its_labels_if_asked_for(tmp_path: Path) -> None:
    music = tmp_path / 'music'
    genres = [['Rock', 'Indie'], ['rock; pop'], ['Rock|Pop', 'POP'], ['Pop', 'x' * 200], ['Indie']]
    for k in range(15):
        tagged(music / f'{k:02}.flac', genres[k % 5], [f'Singer {k}'])
    audio(music / 'none.flac')
    tagged(music / 'bar.flac', ['|'], ['x'])
    left_out: list[LeftOut] = []
    clips = tags.tagged_clips(str(music), left_out.append, several=True)
    assert [clip.label for clip in clips[:5]] == [
        ('Rock', 'Indie'),
        ('Rock', 'Pop'),
        ('Rock', 'Pop'),
        ('Pop',),
        ('Indie',),
    ]
    assert {Path(file.path).name for file in left_out} == {'none.flac', 'bar.flac'}
    assert {file.reason for file in left_out} == {'has no genre in its tags'}
    data = open_dataset(str(run(music, tmp_path / 'out', '--labels_from=all_tags')))
    assert data.multi_label
    assert data.labels == ('Indie', 'Pop', 'Rock')
    assert data.targets.sum(0).tolist() == [6, 9, 9]
