"""Files wherever they are: on this machine, or at gs://, s3://, ... through fsspec.

What is not here is copied to a temporary file before it is read, and written as one before it is
sent off; so libraries that want a real file have one.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from glr_jax.errors import UsageError, UserError


def is_remote(path: str) -> bool:
    """Whether a path is an address, as `gs://bucket/folder`."""
    return re.match(r'[a-z][a-z0-9+.-]*://', path) is not None


def check_here(path: str, flag: str) -> None:
    """Raises `UsageError` for an address where only a folder of this machine will do."""
    if is_remote(path):
        raise UsageError(
            f'{flag}={path}: this has to be a folder of this machine, or of a file system that it '
            'mounts'
        )


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    if not is_remote(path):
        return os.path.exists(path)
    with _reached(path) as system:
        system.invalidate_cache(path.rpartition('/')[0])  # others may have written since
        return system.exists(path)


def is_folder(path: str) -> bool:
    """Whether it is a folder; where there are none, whether any name begins with it."""
    if not is_remote(path):
        return os.path.isdir(path)
    with _reached(path) as system:
        return system.isdir(path)


def entries(folder: str) -> dict[str, bool]:
    """{name: whether it is a folder} of what is in a folder."""
    if not is_remote(folder):
        with os.scandir(folder) as found:
            return {entry.name: entry.is_dir() for entry in found}
    with _reached(folder) as system:
        return {
            name: entry['type'] == 'directory'
            for entry in system.ls(folder, detail=True, refresh=True)
            if (name := _below(entry['name'], folder, system))
        }


def files_below(folder: str) -> Iterator[str]:
    """Files at any depth, in order, without those whose name or folder begins with a dot."""
    if is_remote(folder):
        with _reached(folder) as system:
            names = sorted(_below(path, folder, system) for path in system.find(folder))
        for name in names:
            if name and not any(part.startswith('.') for part in name.split('/')):
                yield os.path.join(folder, name)
        return
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in sorted(names):
            if not name.startswith('.'):
                yield os.path.join(parent, name)


def stamp(path: str) -> str:
    """Changes when the file does; '' where there is none."""
    try:
        if is_remote(path):
            with _reached(path) as system:
                return system.ukey(path)
        info = os.stat(path)
    except OSError:
        return ''
    return f'{info.st_size} {info.st_mtime_ns}'


def make_folder(path: str) -> None:
    """Makes a folder, and those above it, where there are folders."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
    """Removes a file, if it is there, or a folder with all that is in it."""
    if is_remote(path):
        with contextlib.suppress(FileNotFoundError), _reached(path) as system:
            system.rm(path, recursive=True)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def to_read(path: str) -> Iterator[str]:
    """The name of a file here with the content, for as long as it is read.

    Raises:
      OSError: an address cannot be reached or read.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, 'copy' + os.path.splitext(path)[1])
        with _reached(path) as system:
            system.get_file(path, local)
        yield local


@contextlib.contextmanager
def to_write(path: str) -> Iterator[str]:
    """The name of a file to write; it gets to `path` whole or not at all, whatever happens."""
    if is_remote(path):
        with tempfile.TemporaryDirectory() as scratch:
            local = os.path.join(scratch, 'new')
            yield local
            with _reached(path) as system:
                system.put_file(local, path)
        return
    partial = f'{path}.partial-{os.getpid()}'
    try:
        yield partial
        with open(partial, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


@contextlib.contextmanager
def _reached(path: str) -> Iterator[Any]:
    """The file system of an address; what goes wrong with it, by any library, is an `OSError`."""
    scheme = path.partition('://')[0]
    try:
        import fsspec

        yield fsspec.filesystem(scheme)
    except ImportError as error:
        raise UserError(f"{path}: {error} (pip install -e '.[gs]' or '.[s3]')") from None
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except Exception as error:  # of aiohttp, botocore, google.auth, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OSError(errno.EIO, reason, path) from error


def _below(path: str, folder: str, system: Any) -> str:
    """What is left of a path after the folder's; file systems list paths without their scheme."""
    return system._strip_protocol(path)[len(system._strip_protocol(folder)) :].strip('/')
