"""Files on this machine, or at an address such as gs://bucket/file through fsspec.

A remote file is copied to a temporary file before it is read, and written to one before it is
uploaded, so that libraries which need a real file get one.
"""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from glr_jax.errors import UsageError, UserError


def is_remote(path: str) -> bool:
    """Whether a path is an address such as `gs://bucket/folder`."""
    return re.match(r'[a-z][a-z0-9+.-]*://', path) is not None


def check_local(path: str, flag: str) -> None:
    """Raises `UsageError` if the value of a flag that needs a local folder cannot be one.

    It may be an address, or have bytes that are not UTF-8, with which Orbax makes no path.
    """
    if is_remote(path):
        raise UsageError(
            f'{flag}={path}: this must be a local folder, or one on a mounted file system'
        )
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UsageError(f'{flag}={path}: this is not UTF-8; choose another name') from None


def exists(path: str) -> bool:
    """Whether a file or folder exists."""
    if not is_remote(path):
        return os.path.exists(path)
    with _file_system(path) as system:
        system.invalidate_cache(path.rpartition('/')[0])  # others may have written since
        return system.exists(path)


def is_folder(path: str) -> bool:
    """Whether a path is a folder; in an object store, whether it is a prefix of any object."""
    if not is_remote(path):
        return os.path.isdir(path)
    with _file_system(path) as system:
        return system.isdir(path)


def entries(folder: str) -> dict[str, bool]:
    """The entries of a folder: {name: whether it is a folder}."""
    if not is_remote(folder):
        with os.scandir(folder) as found:
            return {entry.name: entry.is_dir() for entry in found}
    with _file_system(folder) as system:
        return {
            name: entry['type'] == 'directory'
            for entry in system.ls(folder, detail=True, refresh=True)
            if (name := _relative(entry['name'], folder, system))
        }


def files_below(folder: str) -> Iterator[str]:
    """All files below a folder, sorted; skips files and folders whose name begins with a dot."""
    if is_remote(folder):
        with _file_system(folder) as system:
            names = sorted(_relative(path, folder, system) for path in system.find(folder))
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
    """A text that changes when the file changes; '' if there is no such file."""
    try:
        if is_remote(path):
            with _file_system(path) as system:
                return system.ukey(path)
        info = os.stat(path)
    except OSError:
        return ''
    return f'{info.st_size} {info.st_mtime_ns}'


def make_folder(path: str) -> None:
    """Creates a folder and its parents; object stores have no folders to create."""
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
    """Removes a file, or a folder and everything in it; does nothing if neither exists."""
    if is_remote(path):
        with contextlib.suppress(FileNotFoundError), _file_system(path) as system:
            system.rm(path, recursive=True)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def to_read(path: str) -> Iterator[str]:
    """Gives the path of a local file with the same content, for the length of a `with` block.

    Raises:
      OSError: an address cannot be reached or read.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        local = os.path.join(scratch, 'copy' + os.path.splitext(path)[1])
        with _file_system(path) as system:
            system.get_file(path, local)
        yield local


@contextlib.contextmanager
def to_write(path: str, *, durable: bool = True) -> Iterator[str]:
    """Gives the path of a local file to write in a `with` block.

    It becomes `path` when the block ends. If the block fails, `path` stays as it was.

    Args:
      path: of the file.
      durable: whether it must survive a power failure, which takes a disk some milliseconds.

    Raises:
      OSError: it cannot be written; the error names `path`.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as scratch:
            local = os.path.join(scratch, 'new')
            yield local
            with _file_system(path) as system:
                system.put_file(local, path)
        return
    partial = f'{path}.partial-{os.getpid()}'
    try:
        yield partial
        if durable:
            with open(partial, 'rb') as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if durable:
            _sync_folder(os.path.dirname(path) or '.')
    except OSError as error:  # a full disk has no name, and the partial file is an internal one
        if error.filename in (None, partial) or error.filename2 == partial:  # of a copy
            error.filename, error.filename2 = path, None
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


def remove_partial(folder: str) -> None:
    """Removes what killed commands have left of files that `to_write` began in a local folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if is_partial(name) and time.time() - os.path.getmtime(path) > 60:  # else in use
                os.remove(path)


def is_partial(name: str) -> bool:
    """Whether a file is one that `to_write` began and did not finish."""
    return re.search(r'\.partial-\d+$', name) is not None


def same_folder(one: str, other: str) -> bool:
    """Whether two paths name the same folder, however they are spelled."""
    if not one or not other or is_remote(one) or is_remote(other):
        return one.rstrip('/') == other.rstrip('/')
    return os.path.realpath(one) == os.path.realpath(other)


def _sync_folder(folder: str) -> None:
    """Makes a rename in a folder last; some systems and file systems cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str, text: str) -> None:
    """Writes a text file in UTF-8, as in `to_write`; what UTF-8 cannot hold is escaped."""
    with (
        to_write(path) as partial,
        open(partial, 'w', encoding='utf-8', errors='backslashreplace') as file,
    ):
        file.write(text)


@contextlib.contextmanager
def _file_system(path: str) -> Iterator[Any]:
    """The fsspec file system of an address; whatever fails in it is raised as an `OSError`."""
    scheme = path.partition('://')[0]
    try:
        import fsspec

        yield fsspec.filesystem(scheme)
    except ImportError as error:
        raise UserError(
            f"{path}: {error}; install it with: pip install -e '.[gs]' (or '.[s3]')"
        ) from None
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except Exception as error:  # from aiohttp, botocore, google.auth, ...
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OSError(errno.EIO, reason, path) from error


def _relative(path: str, folder: str, system: Any) -> str:
    """A path relative to a folder; file systems list paths without their scheme."""
    return system._strip_protocol(path)[len(system._strip_protocol(folder)) :].strip('/')


def link(path: str) -> str:
    """An address of a file that terminals and browsers open: `file:///...`, or `gs://...`."""
    return path if is_remote(path) else pathlib.Path(path).resolve().as_uri()
