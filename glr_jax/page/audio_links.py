"""Links from a page to the audio of clips, where it is at hand."""

import os
import urllib.parse

from glr_jax import storage
from glr_jax.data.dataset import Dataset

# What browsers can play.
_FORMATS = ('.wav', '.mp3', '.flac', '.ogg', '.oga', '.opus', '.m4a', '.aac', '.webm')


def audio_file(dataset: Dataset, id: str) -> str:
    """The audio file of a clip; '' if it is not at hand, or in a format that browsers lack.

    It is looked for in the folder `audio` of the dataset, which may be a link, and in a folder of
    audio that takes the place of a dataset.

    Args:
      dataset: where the clip is.
      id: of the clip: a path below the folder, with or without the ending.
    """
    parts = id.split('/')
    if storage.is_remote(dataset.folder) or '\0' in id or {'', '.', '..'} & set(parts):
        return ''
    for folder in (os.path.join(dataset.folder, 'audio'), dataset.folder):
        path = os.path.join(folder, *parts)
        for ending in ('', *_FORMATS):
            if (path + ending).lower().endswith(_FORMATS) and _is_file(path + ending):
                return path + ending
    return ''


def link(path: str, folder: str) -> str:
    """The address of a file relative to the folder of a page, as HTML attributes can hold it."""
    relative = os.path.relpath(path, folder or '.')
    return urllib.parse.quote(os.fsencode(relative.replace(os.sep, '/')))


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except (OSError, ValueError):  # a name that is too long, or that this system cannot encode
        return False
