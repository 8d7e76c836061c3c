"""A clip: a piece of music with its labels, and how its spectrogram is computed."""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Num

from glr_jax import storage
from glr_jax.data.audio import stated_seconds
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.records import SIDES
from glr_jax.data.tables import side_of
from glr_jax.errors import UserError


def _unstated() -> float:
    return math.nan


@dataclasses.dataclass(frozen=True)
class Clip:
    """A piece of music.

    Attributes:
      id: unique in the dataset.
      label: the class name; a tuple of names if clips may have several, or none.
      mel: computes the spectrogram as it is stored, or raises `ClipError`.
      path: where the clip came from, to be shown to people.
      group: the artist, or ''; a group split keeps a group on one side.
      stamp: a text that changes when the file changes.
      n_mels: mel bands of a ready-made spectrogram; 0 = the clip is audio.
      splits: {split: side} for splits that the source defines.
      stated: the length in seconds that the file states; NaN if it states none.
      file: the audio file; '' if the clip is none.
    """

    id: str
    label: str | tuple[str, ...]
    mel: Callable[[FrontEnd], Num[np.ndarray, 'frames mels']]
    path: str = ''
    group: str = ''
    stamp: str = ''
    n_mels: int = 0
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stated: Callable[[], float] = _unstated
    file: str = ''

    @property
    def multi_label(self) -> bool:
        """Whether the clips of its source may have several labels."""
        return isinstance(self.label, tuple)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels; exactly one unless clips may have several."""
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def label_cell(self) -> str:
        """The labels as a table has them."""
        return SEPARATOR.join(self.labels)


def audio_clip(
    id: str, label: str | tuple[str, ...], path: str, *, group: str = '', side: str = ''
) -> Clip:
    """A clip for an audio file; if the file is missing or damaged, it will be skipped and named.

    Args:
      id: unique in the dataset.
      label: the class name, or a tuple of names.
      path: the audio file.
      group: the artist, or ''.
      side: the side in the split that the source defines; '' = none.

    Raises:
      UserError: the side is unknown.
    """
    return Clip(
        id=readable(id),
        label=tuple(map(readable, label)) if isinstance(label, tuple) else readable(label),
        mel=functools.partial(mel_of_file, path),
        path=readable(path),
        group=group,
        stamp=storage.stamp(path),
        splits=official_split(side, path),
        stated=functools.partial(stated_seconds, path),
        file=path,
    )


@contextlib.contextmanager
def fetched(clip: Clip) -> Iterator[Clip]:
    """The clip with a local copy of its file, if that is at an address, for a `with` block."""
    with contextlib.ExitStack() as stack:
        if storage.is_remote(clip.file):
            with contextlib.suppress(OSError):  # reading the clip says why
                local = stack.enter_context(storage.to_read(clip.file))
                mel = functools.partial(mel_of_file, local)
                clip = dataclasses.replace(clip, file=local, mel=mel)
        yield clip


def readable(text: str) -> str:
    r"""A file name as text; bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(text).decode('utf-8', 'backslashreplace')


def official_split(side: str, place: str) -> dict[str, str]:
    """The split `official` of one clip, {} if it is on no side.

    Args:
      side: as the source names it; val, valid, dev and training are understood, in any case.
      place: where it says so, for the error.

    Raises:
      UserError: the side is unknown.
    """
    known = side_of(side)
    if known is None:
        raise UserError(f'{place}: split {side!r} is not one of {", ".join(SIDES)}')
    return {'official': known} if known else {}


def check_folder(folder: str) -> None:
    """Raises `UserError` unless the folder exists."""
    if not folder:
        raise UserError('--input is required: the folder of audio files')
    if not storage.is_folder(folder):
        raise UserError(f'{folder} is not a folder (--input)')


def folder_with(folder: str, places: Sequence[str], names: Collection[str], remedy: str) -> str:
    """The first of some places that has one of the sub-folders in which a dataset keeps its audio.

    Args:
      folder: that the user gave.
      places: paths below it; '' = the folder itself.
      names: of the sub-folders.
      remedy: for the error.

    Raises:
      UserError: no place has such a sub-folder.
    """
    for place in (os.path.join(folder, name) if name else folder for name in places):
        if storage.is_folder(place):
            folders = {name for name, is_folder in storage.entries(place).items() if is_folder}
            if not folders.isdisjoint(names):
                return place
    first, last = min(names), max(names)
    raise UserError(f'{folder} has none of the audio folders {first} to {last}; {remedy}')
