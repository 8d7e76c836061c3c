"""Folders where libraries keep caches: a temporary one where the usual one cannot be written.

Without a home folder that can be written, as in a container that runs as an arbitrary user, librosa
cannot be used (numba finds no place for compiled functions), and matplotlib warns.
"""

import atexit
import contextlib
import importlib.util
import os
import shutil
import tempfile

# Variables of the XDG specification, and the folders below the home folder if they are not set.
_USER_FOLDERS = {'XDG_CACHE_HOME': '.cache', 'XDG_CONFIG_HOME': '.config'}


def use_writable() -> None:
    """Names a temporary folder for the caches of numba and matplotlib if theirs are read-only.

    It is also the cache folder of a user that has no home folder at all. It is removed when the
    command ends. For a command to call before it imports librosa or matplotlib; its worker
    processes inherit the setting.
    """
    cache, config = _USER_FOLDERS.items()
    usual = {
        'NUMBA_CACHE_DIR': [user_folder(*cache), _beside('librosa')],
        'MPLCONFIGDIR': [user_folder(*config)],
    }
    missing = [
        name
        for name, folders in usual.items()
        if not any(map(_is_writable, [os.environ.get(name, ''), *folders]))
    ]
    missing += [name for name, below in _USER_FOLDERS.items() if not user_folder(name, below)]
    if missing:
        with contextlib.suppress(OSError):  # no temporary folder either
            scratch = tempfile.mkdtemp(prefix='glr_jax-caches-')
            os.environ.update(dict.fromkeys(missing, scratch))
            atexit.register(_remove, scratch, os.getpid())


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a process that was forked
        shutil.rmtree(folder, ignore_errors=True)


def user_folder(variable: str, below_home: str) -> str:
    """A folder of the user's, as a variable of the XDG specification names it; '' without a home.

    Args:
      variable: as XDG_CACHE_HOME.
      below_home: the folder in its place if the variable is not set, as `.cache`.
    """
    folder = os.environ.get(variable) or os.path.join(os.path.expanduser('~'), below_home)
    return folder if os.path.isabs(folder) else ''  # '~' stays as it is if there is no home


def _beside(package: str) -> str:
    """Where numba keeps the compiled functions of a package, if it can; imports nothing."""
    found = importlib.util.find_spec(package)
    return (
        os.path.join(os.path.dirname(found.origin), '__pycache__') if found and found.origin else ''
    )


def _is_writable(folder: str) -> bool:
    """Whether files can be made in a folder, which need not exist yet."""
    if not folder:
        return False
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder) or os.curdir
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
