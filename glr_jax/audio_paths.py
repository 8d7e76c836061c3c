r"""Paths of audio files as files of predictions hold them, and when two of them are the same file.

Those files are UTF-8, and names of audio files need not be. A byte that is not UTF-8 is written as
`\xe9`, and a backslash that would look like the start of such an escape as `\x5c`. Every other
character stays as it is, so `read` gives back each name exactly.
"""

import functools
import os
import re

from glr_jax import storage


def written(path: str) -> str:
    r"""A path as text that is valid UTF-8: bytes that are not UTF-8 become `\xHH`."""
    return re.sub(rb'\\(?=x[0-9a-f]{2})', rb'\\x5c', os.fsencode(path)).decode(
        'utf-8', 'backslashreplace'
    )


def read(text: str) -> str:
    """The path that `written` turned into this text, ready to be opened."""
    content = re.sub(
        rb'\\x([0-9a-f]{2})', lambda found: bytes.fromhex(found[1].decode()), os.fsencode(text)
    )
    return os.fsdecode(content)


def identity(path: str) -> str:
    """The same text for the same file, however the path to it is spelled.

    Only the folder is resolved: two links to one file are two names, and each gets its own row.
    """
    if storage.is_remote(path):
        return path
    folder, name = os.path.split(path)
    if not os.path.isabs(folder):
        folder = os.path.join(os.getcwd(), folder)
    return os.path.join(_real(folder), name)


@functools.lru_cache(4096)
def _real(folder: str) -> str:
    try:
        return os.path.realpath(folder)
    except ValueError:  # a NUL character, from a damaged file
        return folder
