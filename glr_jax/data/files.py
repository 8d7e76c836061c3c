"""Which files of a folder are audio, and which are left out."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from glr_jax import storage
from glr_jax.data.audio import AUDIO_SUFFIXES
from glr_jax.data.ffmpeg import FFMPEG_SUFFIXES

HIDDEN, LINK = 'hidden', 'linked folder'
UNLABELLED, EMPTY = 'without a label', 'label without audio'
_CLOSED = 'closed folder'
_PLURALS = {
    LINK: 'linked folders',
    EMPTY: 'labels without audio',
    _CLOSED: 'closed folders',
}
_REASONS = {
    UNLABELLED: 'is in no sub-folder that names its label',
    EMPTY: 'is the folder of a label, but has no audio files',
    LINK: 'is a symbolic link to a folder, which is not followed; put the folder itself there',
    _CLOSED: 'is a folder that cannot be read; check its permissions',
    'no suffix': 'is not taken for audio, because its name has no suffix',
}


class LeftOut(NamedTuple):
    """A file that is not used, or a folder that is not searched.

    Attributes:
      path: where it is.
      kind: for counting: its suffix, or words as `hidden` or `no suffix`.
      detail: the reason, if it does not follow from the kind.
    """

    path: str
    kind: str
    detail: str = ''

    @property
    def reason(self) -> str:
        """Why it is left out, as the end of a sentence."""
        return self.detail or _REASONS.get(
            self.kind, f'is not taken for audio, because of its suffix {self.kind}'
        )


def is_audio(path: str) -> bool:
    """Whether a file has a suffix that libsndfile or ffmpeg reads."""
    return os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES | FFMPEG_SUFFIXES


def audio_files(
    folder: str, left_out: Callable[[LeftOut], None] = lambda file: None
) -> Iterator[str]:
    """All audio files below a folder, sorted.

    Args:
      folder: where to look, at any depth; hidden files and folders are skipped.
      left_out: called with everything else, in the same order.
    """
    for path, kind in _walk(folder):
        if kind:
            left_out(LeftOut(path, kind))
        elif is_audio(path):
            yield path
        else:
            left_out(LeftOut(path, os.path.splitext(path)[1].lower() or 'no suffix'))


def describe(left_out: Iterable[LeftOut]) -> str:
    """How many files of each kind, the most frequent first: `3 .jpg, 1 hidden`."""
    counts = Counter(file.kind for file in left_out)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ', '.join(
        f'{count} {kind if count == 1 else _PLURALS.get(kind, kind)}' for kind, count in ordered
    )


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Every file with '', and what is not searched with its kind."""
    if storage.is_remote(folder):
        yield from ((path, '') for path in storage.files_below(folder))  # leaves out hidden ones
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        yield folder, _CLOSED
        return
    folders = []
    for entry in entries:
        if entry.name.startswith('.'):
            yield entry.path, HIDDEN
        elif not _is_folder(entry):
            yield entry.path, ''
        elif entry.is_symlink():
            yield entry.path, LINK
        else:
            folders.append(entry.path)
    for inner in folders:
        yield from _walk(inner)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it says so
        return False
