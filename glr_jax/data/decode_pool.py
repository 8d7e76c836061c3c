"""Audio files to spectrograms on several cores, in order, whatever one of the files does.

A file whose worker is killed, as by the system when memory runs out, is tried again with no other
file beside it; if that kills its worker too, it is a failure. So is a file that takes too long.
"""

import contextlib
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from glr_jax import workers
from glr_jax.data.mel import FrontEnd, mel_and_stated_seconds
from glr_jax.data.mel_filters import PRELOAD
from glr_jax.errors import ClipError, UserError
from glr_jax.workers import Work, Worker

AHEAD = 4  # files per worker that may be read before their turn, and at least 64
MAX_HELD = 256 << 20  # bytes of spectrograms that wait for their turn
_KILLED = 'killed the process that read it twice, probably because memory ran out'
_TICK = 0.1  # seconds between two looks at the clock


class Failure(NamedTuple):
    """Audio that could not be read, and why, as the end of a sentence."""

    path: str
    reason: str


class Read(NamedTuple):
    """Audio that was read.

    Attributes:
      path: of the file; '' for samples.
      mel: the spectrogram.
      stated: the length in seconds that the file states; NaN if it states none.
    """

    path: str
    mel: Num[np.ndarray, '_ mels']
    stated: float = math.nan


Decoded = Read | Failure
Decode = Callable[[Iterable[str], FrontEnd], Iterator[Decoded]]


def decode(path: str, front_end: FrontEnd) -> Decoded:
    """The spectrogram of a file with its path, or why it has none."""
    try:
        return Read(path, *mel_and_stated_seconds(path, front_end))
    except (ClipError, MemoryError) as error:
        return Failure(path, str(error) or 'does not fit into memory')


@contextlib.contextmanager
def decoders(num_workers: int, timeout: float = 600, work: Work | None = None) -> Iterator[Decode]:
    """Processes that decode audio files while the `with` block runs.

    They start at once, and import what they need while this process does something else.

    Args:
      num_workers: how many; 1 = none, this process decodes by itself and a deadly file ends it.
      timeout: seconds that a file may take.
      work: what a process does with (path, front end), if it is not `decode`.

    Yields:
      A function to be called once: it takes paths and a front end and gives the spectrograms in
      the order of the paths, at most some dozen files ahead.

    Raises:
      UserError: the processes end as soon as they start.
    """
    if num_workers == 1:
        yield lambda paths, front_end: (decode(path, front_end) for path in paths)
        return
    start = functools.partial(workers.start, work or _work, PRELOAD)
    idle = [start() for _ in range(num_workers)]
    try:
        yield functools.partial(_decode_all, idle, start, timeout)
    finally:
        for worker in idle:
            workers.end(worker, at_once=True)


def _work(task: tuple[str, FrontEnd], tell: Callable[[Any], None]) -> Decoded:
    return decode(*task)


def _decode_all(
    idle: list[Worker],
    start: Callable[[], Worker],
    timeout: float,
    paths: Iterable[str],
    front_end: FrontEnd,
) -> Iterator[Decoded]:
    """Decodes files with idle workers, which are idle again afterwards."""
    shelf = _Shelf(max(64, AHEAD * len(idle)))
    results = _unordered(idle, start, timeout, paths, front_end, shelf)
    thread = threading.Thread(target=shelf.fill, args=(results,), daemon=True)
    thread.start()
    try:
        yield from shelf.taken()
    finally:
        shelf.closed = True
        thread.join()


class _Shelf:
    """Results that one thread puts in any order, and another takes in theirs.

    Attributes:
      closed: whether no more are wanted.
    """

    def __init__(self, ahead: int):
        self.closed = False
        self._ahead = ahead
        self._found: dict[int, Decoded] = {}
        self._held = self._next = 0  # bytes; the number of the result whose turn it is
        self._end: bool | BaseException = False
        self._changed = threading.Condition()

    def has_room(self, number: int) -> bool:
        """Whether the file with this number may be read already."""
        if number == self._next:
            return True
        return number < self._next + self._ahead and self._held < MAX_HELD

    def fill(self, results: Iterator[tuple[int, Decoded]]) -> None:
        """Puts all results; an error is raised where they are taken."""
        error: bool | BaseException = True
        try:
            for number, result in results:
                with self._changed:
                    self._found[number] = result
                    self._held += _size(result)
                    self._changed.notify()
        except BaseException as raised:
            error = raised
        with self._changed:
            self._end = error
            self._changed.notify()

    def taken(self) -> Iterator[Decoded]:
        """The results in order, each as soon as it is known."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next in self._found or self._end)
                if self._next not in self._found:
                    if isinstance(self._end, BaseException):
                        raise self._end
                    return
                result = self._found.pop(self._next)
                self._held -= _size(result)
                self._next += 1
            yield result


def _size(result: Decoded) -> int:
    return 0 if isinstance(result, Failure) else result.mel.nbytes


def _unordered(
    idle: list[Worker],
    start: Callable[[], Worker],
    timeout: float,
    paths: Iterable[str],
    front_end: FrontEnd,
    shelf: _Shelf,
) -> Iterator[tuple[int, Decoded]]:
    """(number, result) of each file, as they become known, while the shelf has room."""
    waiting = enumerate(paths)
    upcoming = next(waiting, None)
    again: deque[tuple[int, str]] = deque()  # their workers were killed
    tried: set[int] = set()
    busy: dict[Worker, tuple[int, str, float]] = {}
    starting, idle[:] = set(idle), []

    def give(file: tuple[int, str]) -> None:
        worker = idle.pop()
        busy[worker] = (*file, time.monotonic())
        with contextlib.suppress(OSError):  # it was killed: its pipe says so below
            worker.pipe.send((file[1], front_end))

    def replace(worker: Worker) -> None:
        workers.end(worker, at_once=True)
        starting.add(start())

    try:
        while not shelf.closed and (upcoming or busy or again):
            if again:
                if idle and not busy:
                    give(again.popleft())
            else:
                while idle and upcoming and shelf.has_room(upcoming[0]):
                    give(upcoming)
                    upcoming = next(waiting, None)
            of_pipe = {worker.pipe: worker for worker in (*busy, *starting)}
            for pipe in connection.wait(list(of_pipe), _TICK):
                worker = of_pipe[pipe]
                try:
                    kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    kind, content = 'killed', None
                if worker in starting:
                    starting.remove(worker)
                    if kind == 'killed':
                        workers.end(worker, at_once=True)
                        raise UserError(
                            'a worker process ended as soon as it started; --num_workers=1 '
                            'decodes without such processes'
                        )
                    idle.append(worker)
                    continue
                number, path, _ = busy.pop(worker)
                if kind == 'failed':
                    workers.end(worker, at_once=True)
                    raise content
                if kind == 'done':
                    idle.append(worker)
                    yield number, content
                    continue
                replace(worker)
                if number in tried:
                    yield number, Failure(path, _KILLED)
                else:
                    tried.add(number)
                    again.append((number, path))
            late = time.monotonic() - timeout
            for worker, (number, path, since) in list(busy.items()):
                if since < late:
                    del busy[worker]
                    replace(worker)
                    yield number, Failure(path, f'took longer than {timeout:g} s to read')
    finally:
        idle.extend((*busy, *starting))
