"""The genre in the tags of files: only the genre changes, and it can be put back."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3

from glr_jax import audio_bytes, genre_tags, tag_files
from glr_jax.data import ffmpeg
from glr_jax.data.audio import load_audio
from glr_jax.errors import UserError
from glr_jax.genre_tags import Written
from glr_jax.tag_files import TagError
from glr_jax.tagger import Prediction

KINDS = ['mp3', 'flac', 'ogg', 'opus', 'm4a', 'wav', 'aiff']


def make(folder: Path, kind: str, seconds: float = 1.0) -> Path:
    """A short file without tags."""
    path = folder / f'song.{kind}'
    samples = 0.1 * np.random.default_rng(0).standard_normal(int(48000 * seconds))
    if kind == 'm4a':
        program = ffmpeg.find()
        if program is None:
            pytest.skip('needs ffmpeg')
        soundfile.write(folder / 'x.wav', samples, 48000)
        command = [program, '-v', 'error', '-i', folder / 'x.wav', '-c:a', 'aac', path]
        subprocess.run(command, check=True)
    elif kind == 'opus':
        soundfile.write(path, samples, 48000, format='OGG', subtype='OPUS')
    else:
        soundfile.write(path, samples, 48000)
    return path


def other_tags(path: Path) -> dict[str, Any]:
    found = mutagen.File(path)
    tags = found.tags if found is not None and found.tags is not None else {}
    names = {'TCON', 'genre', '\xa9gen'}
    return {name: repr(value) for name, value in dict(tags).items() if name not in names}


def add_title(path: Path) -> None:
    """Other tags, which must stay."""
    file = mutagen.File(path)
    assert file is not None
    if file.tags is None:
        file.add_tags()
    assert file.tags is not None
    if isinstance(file.tags, id3.ID3):
        file.tags.add(id3.TIT2(encoding=3, text=['Title', 'other title']))
        file.tags.add(id3.TDRC(encoding=3, text=['1999-03-02']))
        file.tags.add(id3.APIC(encoding=3, mime='image/png', type=3, desc='x', data=b'png' * 99))
    else:
        file.tags['\xa9nam' if 'mp4' in type(file).__module__ else 'title'] = ['Title']
    file.save()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('tagged', [False, True])
def test_only_the_genre_changes_and_is_restored(tmp_path: Path, kind: str, tagged: bool) -> None:
    path = make(tmp_path, kind)
    if tagged:
        add_title(path)
        tag_files.write(str(path), ['Rock', 'Pop'])
    before = tag_files.read(str(path))
    others, samples = other_tags(path), load_audio(str(path), 22050)
    digest = audio_bytes.checksum(str(path))
    tag_files.write(str(path), ['jazz & blües 界'])
    assert tag_files.read(str(path)).values == ['jazz & blües 界']
    assert other_tags(path) == others
    assert audio_bytes.checksum(str(path)) == digest
    np.testing.assert_array_equal(load_audio(str(path), 22050), samples)
    tag_files.write(str(path), before.values, drop_empty=not before.tagged)
    assert tag_files.read(str(path)).values == before.values == (['Rock', 'Pop'] if tagged else [])
    assert other_tags(path) == others
    np.testing.assert_array_equal(load_audio(str(path), 22050), samples)
    assert not [name for name in os.listdir(tmp_path) if 'partial' in name]


@pytest.mark.parametrize('version', [3, 4])
def test_the_version_and_the_frames_of_an_id3_tag_stay(tmp_path: Path, version: int) -> None:
    path = make(tmp_path, 'mp3')
    tags = id3.ID3()
    tags.add(id3.TYER(encoding=0, text='1999') if version == 3 else id3.TDRC(text='1999-01-02'))
    tags.add(id3.TCON(encoding=0 if version == 3 else 3, text='(17)'))
    tags.save(path, v2_version=version, v1=2)
    data = path.read_bytes()
    tag_files.write(str(path), ['jazz'])
    changed = path.read_bytes()
    assert changed[:4] == b'ID3' + bytes([version])
    assert (b'TYER' in changed) == (version == 3)
    assert changed[-128:][:3] == b'TAG'
    tag_files.write(str(path), ['(17)'])
    assert path.read_bytes() == data


@pytest.mark.parametrize('kind', KINDS)
def test_several_genres_are_several_values(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    before = tag_files.read(str(path))
    tag_files.write(str(path), ['Rock', 'Indie / Lo-fi', 'ünter'])
    assert tag_files.read(str(path)).values == ['Rock', 'Indie / Lo-fi', 'ünter']
    tags: Any = mutagen.File(path).tags  # type: ignore[union-attr]
    if isinstance(tags, id3.ID3):
        assert tags.version[:2] == (2, 4)  # the first with several values
        assert tags['TCON'].text == ['Rock', 'Indie / Lo-fi', 'ünter']
    tag_files.write(str(path), before.values, drop_empty=not before.tagged)
    assert tag_files.read(str(path)) == before


def test_audio_that_would_change_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, 'mp3')
    data, save = path.read_bytes(), tag_files._save

    def spoil(copy: str, *rest: Any) -> None:
        save(copy, *rest)
        content = bytearray(Path(copy).read_bytes())
        content[-500] ^= 1
        Path(copy).write_bytes(content)

    monkeypatch.setattr(tag_files, '_save', spoil)
    with pytest.raises(TagError, match='its audio would have changed'):
        tag_files.write(str(path), ['jazz'])
    assert path.read_bytes() == data


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    path = make(tmp_path, 'mp3')
    path.chmod(0o640)
    link = tmp_path / 'link.mp3'
    link.symlink_to(path.name)
    tag_files.write(str(link), ['jazz'])
    assert link.is_symlink()
    assert tag_files.read(str(path)).values == ['jazz']
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('x.au', b'.snd' + bytes(2000), 'a format whose tags are not written'),
        ('x.flac', b'fLaC\x00\x00\xff\xffgarbage', 'tags that cannot be read'),
        ('x.wav', b'RIFF\xff\xff\xff\xffWAVE', 'tags that cannot be read'),
    ],
)
def test_files_without_usable_tags_are_named(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TagError, match=words):
        tag_files.read(str(tmp_path / name))
    with pytest.raises(TagError):
        tag_files.write(str(tmp_path / name), ['jazz'])
    assert (tmp_path / name).read_bytes() == content


def prediction(path: Path, probability: float = 0.9) -> Prediction:
    clip = np.array([probability, 1 - probability])
    return Prediction(
        str(path), ('jazz', 'rock'), clip, clip[None], np.array([[0.0, 1.0]]), np.zeros(2)
    )


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    """One without a genre, one with another, one that has it, one that is read-only."""
    found = []
    for k, genres in enumerate([[], ['Rock'], ['jazz'], ['Pop']]):
        (tmp_path / f'{k}').mkdir()
        path = make(tmp_path / f'{k}', 'mp3')
        if genres:
            tag_files.write(str(path), genres)
        found.append(path)
    found[3].chmod(0o444)
    return found


def test_a_dry_run_says_what_would_change(
    songs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [path.read_bytes() for path in songs]
    written, backup = Written(), str(tmp_path / 'backup.jsonl')
    found = [*map(prediction, songs), prediction(songs[1], 0.55)]
    genre_tags.write(iter(found), 0.6, False, backup, written)
    genre_tags.summarise(written, False, backup)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{songs[0]}: no genre -> 'jazz'",
        f"{songs[1]}: 'Rock' -> 'jazz'",
        f'{songs[1]}: unsure, left as it is',
    ]
    assert err.splitlines() == [
        f'{songs[3]}: is read-only',
        'nothing was changed; --apply would set the genre of 2 files (1 had it already, 1 unsure)',
    ]
    assert [path.read_bytes() for path in songs] == before
    assert not os.path.exists(backup)


def test_genres_are_written_backed_up_and_restored(
    songs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [path.read_bytes() for path in songs]
    written, backup = Written(), str(tmp_path / 'backup.jsonl')
    genre_tags.write(map(prediction, songs), 0, True, backup, written)
    genre_tags.summarise(written, True, backup)
    assert (written.changed, written.same, written.failed) == (2, 1, [str(songs[3])])
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == (
        f'set the genre of 2 files (1 had it already); what it was is in {backup}, and '
        f'--restore_tags={backup} --apply puts it back'
    )
    assert [tag_files.read(str(path)).values for path in songs] == [['jazz']] * 3 + [['Pop']]
    genre_tags.restore(backup, False)
    assert 'nothing was changed; --apply would restore the genre of 2' in capsys.readouterr().err
    genre_tags.restore(backup, True)
    assert [path.read_bytes() for path in songs] == before
    genre_tags.restore(backup, True)
    assert 'restored the genre of 0 files' in capsys.readouterr().err


def test_a_genre_that_was_changed_since_is_not_restored(
    songs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = str(tmp_path / 'backup.jsonl')
    genre_tags.write(map(prediction, songs[:2]), 0, True, backup, Written())
    tag_files.write(str(songs[0]), ['mine'])
    with pytest.raises(UserError, match='1 of 2 files could not be restored'):
        genre_tags.restore(backup, True)
    assert f"{songs[0]}: has the genre 'mine' by now" in capsys.readouterr().err
    assert tag_files.read(str(songs[1])).values == ['Rock']


def test_a_damaged_backup_is_refused_but_a_torn_last_line_is_not(
    songs: list[Path], tmp_path: Path
) -> None:
    backup = tmp_path / 'backup.jsonl'
    genre_tags.write(map(prediction, songs[:2]), 0, True, str(backup), Written())
    lines = backup.read_text()
    backup.write_text(lines + '{"path": "x')
    assert len(tag_files.read_backup(str(backup))) == 2
    backup.write_text('{}\n' + lines)
    with pytest.raises(UserError, match='line 1: is not from --write_tags'):
        tag_files.read_backup(str(backup))
