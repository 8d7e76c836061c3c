"""Locks that commands hold while they write a folder.

The operating system releases a lock when its process ends, however it ends: the file that a killed
command leaves behind is no lock.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from glr_jax.errors import UserError
from glr_jax.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def hold(
    path: str, folder: str, flag: str, *, shared: bool = False, keep: bool = False
) -> Iterator[None]:
    """Holds a lock while a `with` block runs; does nothing where files have no locks.

    Args:
      path: of the file that is locked; it is created, and says which process holds the lock.
      folder: what the lock is for.
      flag: the flag that names this folder.
      shared: whether others may hold it too, if they ask for a shared one as well.
      keep: whether the file remains afterwards.

    Raises:
      UserError: another process has the lock.
      OSError: the file cannot be created.
    """
    if fcntl is None:
        yield
        return
    descriptor = _locked(path, shared)
    if isinstance(descriptor, str):
        raise UserError(
            f'{folder} is in use by {descriptor}; wait until it ends, or choose another {flag}'
        )
    try:
        yield
    finally:
        if not keep and _try(descriptor, shared=False):  # nobody shares it
            with contextlib.suppress(OSError):
                os.remove(path)
        os.close(descriptor)


def beside(folder: str) -> str:
    """The path of a lock for a folder that may not exist yet, or may not hold other files."""
    parent, name = os.path.split(os.path.realpath(folder))
    return os.path.join(parent, f'.{name}.lock')


def _locked(path: str, shared: bool) -> int | str:
    """The descriptor of the locked file, or who holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _try(descriptor, shared):
            holder = _holder(descriptor)
            os.close(descriptor)
            return holder
        if not _is_removed(path, descriptor):
            break
        os.close(descriptor)  # its last holder removed it after it was opened here
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f'{os.getpid()} {socket.gethostname()}'.encode())
    return descriptor


def _try(descriptor: int, shared: bool) -> bool:
    """Takes the lock, or changes it, unless that would mean to wait for another process."""
    assert fcntl is not None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _is_removed(path: str, descriptor: int) -> bool:
    try:
        return not os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return True


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    pid, _, host = os.read(descriptor, 300).decode(errors='replace').partition(' ')
    if not pid.isdecimal():  # it has the lock, but has not written yet
        return 'another process'
    return f'process {pid} on {printable(host)}'
