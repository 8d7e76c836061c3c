"""Links from a page to the audio of clips, where it is found."""

import os
import pathlib
import urllib.parse

from glr_jax import storage
from glr_jax.data import noted_audio
from glr_jax.data.dataset import Dataset

# What browsers can play.
_FORMATS = ('.wav', '.mp3', '.flac', '.ogg', '.oga', '.opus', '.m4a', '.aac', '.webm')


def player(dataset: Dataset, id: str, label: str, folder: str) -> str:
    """A player for a clip as HTML; '' if its audio is not found. The page only links to the file.

    Args:
      dataset: the dataset that has the clip.
      id: the clip's id.
      label: its label.
      folder: the folder of the page.
    """
    if path := audio_file(dataset, id):
        address = link(path, folder)
    elif path := noted_file(dataset, id, label):
        # A relative address would be wrong if the page is moved, or opened through a symbolic link.
        address = pathlib.Path(path).as_uri()
    else:
        return ''
    return f'<audio controls preload="none" src="{address}"></audio>'


def audio_file(dataset: Dataset, id: str) -> str:
    """The audio file of a clip in the dataset folder; '' if there is none that browsers can play.

    The places are the folder or link `audio` of the dataset, and the dataset folder itself, which
    may be a folder of audio instead of a dataset.

    Args:
      dataset: the dataset that has the clip.
      id: the clip's id: a path below the folder, with or without the file name ending.
    """
    parts = _parts(dataset, id)
    for folder in (os.path.join(dataset.folder, 'audio'), dataset.folder):
        if parts and (path := _found(os.path.join(folder, *parts))):
            return path
    return ''


def noted_file(dataset: Dataset, id: str, label: str) -> str:
    """The audio file of a clip in the folder that the dataset was prepared from; '' if none.

    The file is really within that folder: symbolic links that lead out of it do not count.

    Args:
      dataset: the dataset that has the clip.
      id: the clip's id.
      label: its label, by which GTZAN names its folders.
    """
    parts = _parts(dataset, id)
    root = noted_audio.noted(dataset.folder) if parts else ''
    if not root:
        return ''
    # As files of `--source=folder`, gtzan and fma are named.
    for below in (parts, [*_parts(dataset, label), *parts], [id[:3], *parts]):
        path = _found(os.path.join(root, *below))
        if path and _is_within(path, root):
            return path
    return ''


def link(path: str, folder: str) -> str:
    """The address of a file relative to the folder of a page, as HTML attributes can hold it."""
    relative = os.path.relpath(path, folder or '.')
    return urllib.parse.quote(os.fsencode(relative.replace(os.sep, '/')))


def _parts(dataset: Dataset, name: str) -> list[str]:
    """The parts of a path below a folder; [] if the name could lead elsewhere."""
    parts = name.split('/')
    unsafe = storage.is_remote(dataset.folder) or '\0' in name or {'', '.', '..'} & set(parts)
    return [] if unsafe else parts


def _found(path: str) -> str:
    """The path with the ending that makes it a regular file which browsers play; '' if none."""
    for ending in ('', *_FORMATS):
        if (path + ending).lower().endswith(_FORMATS) and _is_file(path + ending):
            return path + ending
    return ''


def _is_within(path: str, folder: str) -> bool:
    return pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except (OSError, ValueError):  # a name that is too long, or that this system cannot encode
        return False
