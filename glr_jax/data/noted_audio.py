"""Where the audio of a dataset was when it was prepared: a note for the players in reports.

The note is beside the dataset folder, not in it: it holds for this machine only, and a dataset that
someone else has made names no folder here.
"""

import contextlib
import os

from glr_jax import json_files, storage
from glr_jax.errors import UserError

_MAX_BYTES = 1 << 16


def path_of(dataset: str) -> str:
    """The path of a dataset's note: `data/.mine.audio.json` for `data/mine`."""
    parent, name = os.path.split(os.path.realpath(dataset))
    return os.path.join(parent, f'.{name}.audio.json')


def note(dataset: str, audio: str) -> None:
    """Writes the note, or removes it; does nothing if the note cannot be written.

    Args:
      dataset: the dataset folder.
      audio: the folder of its audio; '' if there is none.
    """
    if storage.is_remote(dataset):
        return
    with contextlib.suppress(OSError):  # players are not worth failing for
        if audio and not storage.is_remote(audio):
            json_files.write(path_of(dataset), {'folder': os.path.abspath(audio)})
        else:
            storage.remove(path_of(dataset))


def noted(dataset: str) -> str:
    """The folder in a dataset's note; '' if there is no note, or a damaged one."""
    if storage.is_remote(dataset):
        return ''
    path = path_of(dataset)
    try:
        content = json_files.read_bytes(path, _MAX_BYTES)
        folder = json_files.parse_object(content, path, '').get('folder')
    except (UserError, OSError):
        return ''
    if not isinstance(folder, str) or not os.path.isabs(folder) or '\0' in folder:
        return ''
    # Two slashes may name another machine, which would be asked for the file.
    return '' if folder.startswith(('//', '\\\\')) else folder
