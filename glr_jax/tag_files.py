"""The genre in the tags of audio files: read, written, backed up and restored, with mutagen.

A file is never changed in place: a copy gets the tag, its audio is compared with the original's,
and only then it takes its place. What the genre was goes into a backup file before that.
"""

import contextlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from glr_jax import audio_bytes, signals, storage
from glr_jax.errors import UserError
from glr_jax.text import printable, shorten

_GENRE = {'Vorbis': 'genre', 'MP4': '\xa9gen'}


class TagError(Exception):
    """The tags of a file cannot be read or written; the message is the end of a sentence."""


class Genre(NamedTuple):
    """The genre of a file.

    Attributes:
      values: as they are written there; usually one, none if there is no genre.
      tagged: whether the file has any tags.
    """

    values: list[str]
    tagged: bool


def check_installed() -> None:
    """Raises `UserError` unless mutagen is installed."""
    if importlib.util.find_spec('mutagen') is None:
        raise UserError("writing tags needs mutagen: pip install -e '.[tags]'")


def read(path: str) -> Genre:
    """The genre of an audio file.

    Raises:
      TagError: the format has no tags that are known, or they are damaged.
    """
    file = _open(path)
    return Genre(_values(file), file.tags is not None and len(file.tags) > 0)


def check_writable(path: str) -> None:
    """Raises `TagError` if a file may not be changed, since its folder might still be."""
    if storage.is_remote(path):
        raise TagError('is at an address; only local files are tagged')
    mode = os.stat(path).st_mode
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise TagError('is read-only')
    if not os.access(os.path.dirname(os.path.realpath(path)), os.W_OK):
        raise TagError('is in a folder that is read-only')


def write(path: str, values: Sequence[str], *, drop_empty: bool = False) -> None:
    """Sets the genre of a file; nothing else in it changes.

    Args:
      path: of the file.
      values: the genres; none removes the genre.
      drop_empty: whether tags that are then empty are removed, as they were not there before.

    Raises:
      TagError: it cannot be written; the file is as it was.
    """
    path = os.path.realpath(path)  # a link stays a link
    check_writable(path)
    kind = type(_open(path))
    with _failures_named('written'):
        before = audio_bytes.checksum(path)
        with signals.whole, storage.to_write(path) as copy:
            shutil.copy2(path, copy)
            with contextlib.suppress(OSError):
                owner = os.stat(path)
                os.chown(copy, owner.st_uid, owner.st_gid)
            _save(copy, kind, list(values), drop_empty)
            os.utime(copy)  # so that players notice
            if audio_bytes.checksum(copy) != before:
                raise TagError('was left as it is: its audio would have changed')


def back_up(backup: str, path: str, before: Genre, after: Sequence[str]) -> None:
    """Appends what the genre of a file was; it is on the disk before the file is changed."""
    row = {'path': os.path.abspath(path), 'genre': before.values, 'tagged': before.tagged}
    try:
        with signals.whole, open(backup, 'a', encoding='utf-8') as file:
            file.write(json.dumps(row | {'new': list(after)}) + '\n')
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk has no name
        error.filename = error.filename or backup
        raise


class Backup(NamedTuple):
    """What a backup says about a file: its genre before the first change and after the last."""

    before: Genre
    after: list[str]


def read_backup(path: str) -> dict[str, Backup]:
    """What a backup file says: {path of an audio file: its genres}.

    Raises:
      UserError: it was not found, or a line but the last is damaged.
    """
    if not os.path.isfile(path):
        raise UserError(f'--restore_tags={path} was not found')
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = file.read().splitlines(keepends=True)
    found: dict[str, Backup] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            before = Genre(list(map(str, row['genre'])), bool(row['tagged']))
            name, after = str(row['path']), list(map(str, row['new']))
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not line.endswith('\n'):  # it was killed as it wrote it
                break
            raise UserError(f'{path}, line {number}: is not from --write_tags') from None
        found[name] = Backup(found[name].before if name in found else before, after)
    return found


@contextlib.contextmanager
def _failures_named(done: str) -> Iterator[None]:
    """Raises every failure inside as a `TagError`; `done` is read or written."""
    try:
        yield
    except OSError as error:
        raise TagError(f'cannot be {done}: {error.strerror or error}') from None
    except TagError:
        raise
    except Exception as error:  # damaged tags make mutagen raise errors of any kind
        raise TagError(f'has tags that cannot be {done}: {_reason(error)}') from None


def _open(path: str) -> Any:
    """A file as mutagen has it.

    Frames of ID3v2.3 and 2.4 stay as they are; those of 2.2 can only be written as 2.3.
    """
    import mutagen
    from mutagen import aiff, flac, mp3, mp4, oggopus, oggvorbis, wave

    kinds = [mp3.MP3, flac.FLAC, oggvorbis.OggVorbis, oggopus.OggOpus, mp4.MP4, wave.WAVE]
    with _failures_named('read'):
        found = mutagen.File(path, options=[*kinds, aiff.AIFF])
        if found is None:
            raise TagError('has a format whose tags are not written')
        return _load(path, type(found))


def _load(path: str, kind: type) -> Any:
    file = kind(path)
    if _family(file) == 'ID3' and file.tags is not None and file.tags.version >= (2, 3):
        file = kind(path, translate=False)
    return file


def _family(file: Any) -> str:
    return {'MP3': 'ID3', 'WAVE': 'ID3', 'AIFF': 'ID3', 'MP4': 'MP4'}.get(
        type(file).__name__, 'Vorbis'
    )


def _values(file: Any) -> list[str]:
    if file.tags is None:
        return []
    family = _family(file)
    if family == 'ID3':
        frames = file.tags.getall('TCON')
        return [str(text) for frame in frames for text in frame.text]
    return list(map(str, file.tags.get(_GENRE[family], [])))


def _save(path: str, kind: type, values: list[str], drop_empty: bool) -> None:
    file = _load(path, kind)
    if file.tags is None:
        file.add_tags()
    family = _family(file)
    if family != 'ID3':
        if _GENRE[family] in file.tags:
            del file.tags[_GENRE[family]]
        if values:
            file.tags[_GENRE[family]] = values
        if drop_empty and not len(file.tags):
            file.delete()
        else:
            file.save()
        return
    from mutagen.id3 import TCON

    # Several values are defined since version 2.4, but an older tag keeps its version.
    several = len(values) > 1 and not file.tags.size
    version = 4 if file.tags.version[:2] == (2, 4) and (file.tags.size or several) else 3
    file.tags.delall('TCON')
    if values:
        encoding = 3 if version == 4 else 0 if all(map(_is_latin, values)) else 1
        file.tags.add(TCON(encoding=encoding, text=values))
    if drop_empty and not len(file.tags):
        file.delete()
    else:
        # No separator: several values in other frames stay several values.
        file.tags.save(path, v2_version=version, v23_sep=None)


def _is_latin(text: str) -> bool:
    try:
        text.encode('latin-1')
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    return shorten(printable(str(error) or type(error).__name__), 200)
