"""Kills this process, or makes its writes fail, at the N-th file operation below a folder.

An audit hook sees every file that Python opens, creates, renames or removes; `open` and `os.fsync`
are replaced so that it can also happen in the middle of a write. What TensorStore writes from C++
is not seen: kills some milliseconds after an operation, and a small tmpfs, reach those writes.
"""

import builtins
import dataclasses
import io
import os
import signal
import sys
import threading
import time
from typing import Any

_CHANGES = {
    *('os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.link', 'os.symlink', 'os.truncate'),
    *('shutil.move', 'shutil.rmtree', 'shutil.copyfile', 'shutil.copytree'),
}
_NEEDS_SPACE = {'create', 'write', 'fsync', 'os.mkdir', 'os.rename', 'os.link', 'os.symlink'}


@dataclasses.dataclass
class Fault:
    """What happens at which operation.

    Attributes:
      at: the number of the operation, from 1; 0: nothing happens, and operations are listed.
      error: an errno for writes that fail; 0: the process is killed.
      lasting: whether later writes fail too, as on a full disk.
      delay: seconds between the operation and the kill.
    """

    at: int = 0
    error: int = 0
    lasting: bool = True
    delay: float = 0.0


class _Watch:
    def __init__(self, root: str, fault: Fault):
        self.root, self.fault = os.path.realpath(root), fault
        self.operations: list[str] = []
        self.lock = threading.Lock()
        self.inside = threading.local()

    def is_below(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        path = os.path.abspath(os.fsdecode(path))
        return path == self.root or path.startswith(self.root + os.sep)

    def reach(self, kind: str, path: Any) -> None:
        """An operation is about to happen: kill, raise or return."""
        fault = self.fault
        if fault.error and kind not in _NEEDS_SPACE:
            return
        with self.lock:
            self.operations.append(f'{kind} {path}')
            count = len(self.operations)
        if fault.error and fault.at and (count >= fault.at if fault.lasting else count == fault.at):
            name = None if kind in ('write', 'fsync') else os.fsdecode(path)
            raise OSError(fault.error, os.strerror(fault.error), name)
        if not fault.error and count == fault.at:
            if fault.delay:
                threading.Thread(target=_kill, args=(fault.delay,), daemon=True).start()
            else:
                _kill(0)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == 'open':
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and self.is_below(path):
                self.reach('create' if flags & os.O_CREAT else 'open', path)
        elif event in _CHANGES:
            relative = arguments[-1] if event in ('os.remove', 'os.rmdir', 'os.mkdir') else -1
            in_folder = isinstance(relative, int) and relative >= 0 and event != 'os.mkdir'
            if in_folder or any(map(self.is_below, arguments[:2])):
                self.reach(event, arguments[0])


class _Raw(io.FileIO):
    """A file of which a write can be half done."""

    watch: _Watch

    def write(self, data: Any) -> int:
        fault = self.watch.fault
        if fault.at == len(self.watch.operations) + 1 and not fault.delay:
            super().write(memoryview(data).cast('B')[: len(data) // 2])  # the rest is lost
        self.watch.reach('write', self.name)
        return super().write(data)


def install(root: str, fault: Fault) -> list[str]:
    """Watches the file operations of this process below a folder, from now to its end.

    Returns:
      The operations so far; the list grows.
    """
    watch = _Watch(root, fault)
    usual_open, usual_sync = builtins.open, os.fsync
    raw_class = type('_RawHere', (_Raw,), {'watch': watch})

    def open_(file: Any, mode: str = 'r', buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if not set(mode) & set('wax+') or not watch.is_below(file) or buffering == 0:
            return usual_open(file, mode, buffering, *rest, **named)
        raw = raw_class(os.fspath(file), mode.replace('b', '').replace('t', ''))
        buffered = io.BufferedRandom(raw) if '+' in mode else io.BufferedWriter(raw)
        if 'b' in mode:
            return buffered
        text = dict(zip(('encoding', 'errors', 'newline'), rest, strict=False)) | named
        return io.TextIOWrapper(buffered, **text)

    def fsync(descriptor: int) -> None:
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        if watch.is_below(path) and not os.path.isdir(path):
            watch.reach('fsync', path)
        usual_sync(descriptor)

    builtins.open = io.open = open_  # type: ignore[assignment]
    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(watch.hook)
    return watch.operations


def _kill(delay: float) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
