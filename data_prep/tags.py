"""Labels from the files themselves: genre tags are the labels, the artist tag the group.

Tags come from anywhere, so whatever is in them must neither stop the command nor fill the memory.
"""

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

from data_prep.clips import Clip, audio_clip, check_folder
from data_prep.id3 import read_id3
from data_prep.listed import labels_in
from glr_jax import storage
from glr_jax.data.files import LeftOut, audio_files
from glr_jax.data.metadata import SEPARATOR
from glr_jax.errors import UserError
from glr_jax.progress import Progress
from glr_jax.text import counted, printable, shorten

UNTAGGED = 'without a genre tag'
LONGEST = 100  # characters of a genre or an artist
# What MP4, Vorbis comments and APE, and Windows Media call them.
_GENRE = ('\xa9gen', 'genre', 'WM/Genre')
_ARTIST = ('\xa9ART', 'artist', 'Author')


class Tags(NamedTuple):
    """The genres and artists in the tags of a file, as they are written there."""

    genres: Sequence[str] = ()
    artists: Sequence[str] = ()


def tagged_clips(
    folder: str,
    left_out: Callable[[LeftOut], None] = lambda file: None,
    several: bool = False,
) -> list[Clip]:
    """The audio files below a folder that have a genre in their tags.

    The label is the first genre, the group the first artist. Spellings that differ only in case
    and spaces are one: the most frequent.

    Args:
      folder: where to look, at any depth.
      left_out: called with every file that is not a clip, with the reason.
      several: whether all genres of a file are its labels.

    Raises:
      UserError: the folder was not found, mutagen is not installed, or no file has a genre.
    """
    check_folder(folder)
    check_installed()
    paths = list(audio_files(folder, left_out))
    found = []
    with Progress(len(paths), 'tags', 'file') as progress:
        for path in paths:
            genres, artist, fault = genres_and_artist(path)
            # `|` cannot be in one of several labels, and tags are hard to change.
            genres = labels_in(SEPARATOR.join(genres), SEPARATOR) if several else genres[:1]
            if genres:
                found.append((path, genres, artist))
            else:
                left_out(LeftOut(path, UNTAGGED, fault or 'has no genre in its tags'))
            progress.advance(1)
    if not found:
        count = counted(len(paths), 'audio file')
        raise UserError(f'no file below {folder} has a genre tag ({count} read)')
    labels = _one_spelling(genre for _, genres, _ in found for genre in genres)
    groups = _one_spelling(artist for _, _, artist in found)
    clips = []
    for path, genres, artist in found:
        its = tuple(dict.fromkeys(labels[genre] for genre in genres))
        name = os.path.relpath(path, folder).replace(os.sep, '/')
        clips.append(audio_clip(name, its if several else its[0], path, group=groups[artist]))
    return clips


def check_installed() -> None:
    """Raises `UserError` unless mutagen can be imported."""
    try:
        import mutagen  # noqa: F401
    except ImportError:
        raise UserError("--labels_from=tags needs mutagen: pip install -e '.[tags]'") from None


def genres_and_artist(path: str) -> tuple[tuple[str, ...], str, str]:
    """The genres and the first artist of a file, and why it has no genre, else ''."""
    try:
        tags = read_tags(path)
    except Exception as error:  # damaged tags make mutagen raise errors of any kind
        reason = shorten(printable(str(error) or type(error).__name__), 200)
        return (), '', f'has tags that cannot be read: {reason}'
    names = [_clean(name) for value in tags.genres for name in value.split(';')]
    genres = tuple(dict.fromkeys(filter(None, names)))
    if not genres:
        unusable = any(value.strip() for value in tags.genres)
        fault = f'is empty, unprintable or longer than {LONGEST} characters'
        return (), '', f'has a genre tag that {fault}' if unusable else 'has no genre in its tags'
    return genres, next(filter(None, map(_clean, tags.artists)), ''), ''


def read_tags(path: str) -> Tags:
    """The genres and artists in the tags of an audio file; numeric genres of ID3v1 by name.

    Raises:
      Exception: of any kind, if the tags are damaged.
    """
    with storage.to_read(path) as local:
        if not os.path.isfile(local):
            raise OSError('is not a regular file')
        with open(local, 'rb') as file:
            return _from_id3(file) or _from_others(file) or Tags()


def _from_id3(file: BinaryIO) -> Tags | None:
    from mutagen.id3 import TCON

    found = read_id3(file)
    if 'TCON' not in found:
        return None
    named = TCON(encoding=3, text=found['TCON']).genres  # numbers stand for names
    return Tags(named, found.get('TPE1', ()))


def _from_others(file: BinaryIO) -> Tags | None:
    """The tags of the other formats that mutagen knows."""
    import mutagen
    from mutagen import apev2, asf, flac, mp4, oggflac, oggopus, oggspeex, oggvorbis

    kinds = [
        *(flac.FLAC, oggvorbis.OggVorbis, oggopus.OggOpus, oggflac.OggFLAC, oggspeex.OggSpeex),
        *(mp4.MP4, asf.ASF, apev2.APEv2File),
    ]
    file.seek(0)
    opened = mutagen.File(file, options=kinds)
    if opened is None or opened.tags is None:
        return None
    return Tags(_texts(opened.tags, _GENRE), _texts(opened.tags, _ARTIST))


def _texts(tags: Any, names: Sequence[str]) -> list[str]:
    """The values of the tags with these names, as texts."""
    found: list[str] = []
    for name in names:
        with contextlib.suppress(KeyError, ValueError):  # ValueError: impossible in this format
            value = tags[name]
            found += [value] if isinstance(value, str) else map(str, value)
    return found


def _clean(text: str) -> str:
    """A text without superfluous spaces; '' if it cannot be the name of a label or a group."""
    text = ' '.join(text[: 10 * LONGEST].split())
    return text if text.isprintable() and len(text) <= LONGEST else ''


def _one_spelling(names: Iterable[str]) -> dict[str, str]:
    """{name: the most frequent spelling of it}, apart from case; of equals, the first by order."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        spellings[name.casefold()][name] += 1
    return {
        name: min(counts, key=lambda one: (-counts[one], one))
        for counts in spellings.values()
        for name in counts
    }
