"""Worker processes: they run one function, and end with the process that started them."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

FEW = 16  # files that one process decodes by itself, because starting workers takes longer
_PATIENCE = 5  # seconds in which a worker ends by itself

# Takes what a worker was sent, and a function that sends what it is about to do.
Work = Callable[[Any, Callable[[Any], None]], Any]


class Worker(NamedTuple):
    """A process and the pipe to it, which ends when the process does.

    It first sends `('ready', None)`. For everything that it is sent it answers `('done', result)`
    or `('failed', error)`, and before that `('reading', ...)` as often as its function says so.
    """

    process: BaseProcess
    pipe: Any  # a Connection, or a PipeConnection on Windows


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tune() -> None:
    """Prepares a process that shares the cores with others like it.

    BLAS gets one thread: with a worker per core, more would wait for each other. And glibc is made
    to keep the memory of one clip for the next: by default it returns freed memory to the system at
    once, so that each clip takes 2,000 page faults or more. Once a large block has been freed, it
    keeps twice as much (mallopt(3), M_MMAP_THRESHOLD).
    """
    threadpool_limits(1, user_api='blas')
    bytearray(1 << 24)


def start_method() -> str:
    """How processes are started: cheaply where the system can."""
    methods = multiprocessing.get_all_start_methods()
    return 'forkserver' if 'forkserver' in methods else 'spawn'


def start(work: Work, preload: Sequence[str] = ()) -> Worker:
    """Starts a worker.

    Args:
      work: a function of a module, which runs in the worker.
      preload: modules to import once for all workers, where the system can.
    """
    context: Any = multiprocessing.get_context(start_method())
    if start_method() == 'forkserver':
        context.set_forkserver_preload([work.__module__, *preload])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()  # so that the end of the worker is the end of the pipe
    return Worker(process, ours)


def end(worker: Worker, at_once: bool = False) -> None:
    """Ends a worker: as soon as it is idle, or whatever it does."""
    worker.pipe.close()
    if at_once:
        worker.process.terminate()
    worker.process.join(_PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join(_PATIENCE)  # one that waits for a dead disk cannot even be killed


def _serve(pipe: Any, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tune()
    answer: tuple[str, Any] = ('ready', None)
    while True:
        try:
            pipe.send(answer)
        except (TypeError, AttributeError):  # an error that cannot be sent
            pipe.send(('failed', RuntimeError(''.join(traceback.format_exception(answer[1])))))
        except OSError:  # no one listens any more
            return
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ('done', work(task, lambda what: pipe.send(('reading', what))))
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = ('failed', error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
