"""Notices that another process of the run failed or stopped answering, and says which one.

Once per second, each process counts up a number in the coordinator's key-value store and reads the
numbers of the others. JAX has such heartbeats too, but it ends a process by a stack trace that does
not name the other one. So JAX gets more patience than this module, and serves as the backup.

JAX does not publish its connection to the coordinator (`jax.distributed` can only be started and
ended). Where a version of JAX keeps it elsewhere, the backup has to do.
"""

import atexit
import contextlib
import ctypes
import dataclasses
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax

from glr_jax import cli, signals

INTERVAL = 1.0  # seconds between two beats
SOON = 3  # intervals in which every process notices what one of them has reported
FOLDER, DONE = 'glr_jax/watch', 'done'


@dataclasses.dataclass
class _News:
    """What is known of this process and the others; written by one thread, read by another.

    Attributes:
      client: the connection to the coordinator; None: there are no beats.
      process: the number of this process; None: it is not known.
      processes: how many there are.
      beats: the last number of each process, or `DONE`.
      failures: why each failed process failed.
      rounds: how often the coordinator has answered.
      limit: after how many intervals without a new number a process counts as lost.
    """

    client: Any = None
    process: int | None = None
    processes: int = 1
    beats: dict[int, str] = dataclasses.field(default_factory=dict)
    failures: dict[int, str] = dataclasses.field(default_factory=dict)
    rounds: int = 0
    limit: int = 0


_news = _News()
_over = threading.Event()
_ending = threading.Lock()
_handlers: list[Any] = []


def start(patience: int) -> None:
    """Watches the other processes until this one ends, in threads of its own.

    Args:
      patience: seconds without an answer after which a process counts as lost.
    """
    try:
        _connect()
    except (ImportError, AttributeError):
        cli.status(
            f'glr_jax.train: with jax {jax.__version__}, a process that fails or no longer answers '
            'is noticed later, by JAX itself'
        )
        return
    _news.limit = round(patience / INTERVAL)
    talk = threading.Thread(target=_talk, daemon=True)
    talk.start()
    threading.Thread(target=_watch, daemon=True).start()

    def finish() -> None:
        _over.set()
        talk.join(5)  # JAX then waits for the others, and closes the connection

    atexit.register(finish)


def _connect() -> None:
    """Finds JAX's connection to the coordinator.

    Raises:
      ImportError, AttributeError: this version of JAX keeps it elsewhere.
    """
    from jax._src import distributed

    state: Any = distributed.global_state
    _news.process, _news.processes = state.process_id, state.num_processes
    _ = state.client.key_value_set, state.client.key_value_dir_get
    _news.client = state.client


def failed(reason: str) -> None:
    """Tells the other processes why this one is about to end."""
    _report(_news.process, reason)
    _let_others_read()


def lost() -> None:
    """Ends this process, whose operation failed because another one ended: says which, if known."""
    if _news.limit:
        _news.limit = SOON
        time.sleep(3 * SOON * INTERVAL)  # meanwhile the watching thread ends the process
    end('lost the others: one of them ended or does not answer (see their output)')


def end(reason: str) -> None:
    """Ends this process at once, with one line on stderr."""
    _ending.acquire()  # a second thread with a reason waits for the end
    name = 'this process' if _news.process is None else f'process {_news.process}'
    cli.status(f'glr_jax.train: {name} {reason}; {signals.RESUME_HINT}')
    _let_others_read()
    os._exit(1)  # the main thread may be blocked inside JAX


def on_abort(do: Callable[[Any], None]) -> None:
    """Calls a function at SIGABRT in any thread; Python's own handlers run in the main thread."""
    if os.name == 'posix':
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(do)
        _handlers.append(handler)  # it must not be freed
        ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def _report(process: int | None, reason: str) -> None:
    """Leaves a note on a process in the coordinator's store."""

    def send() -> None:
        _news.client.key_value_set(f'{FOLDER}/failure/{process}', reason, allow_overwrite=True)

    if _news.limit:
        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        sending.join(SOON * INTERVAL)  # the coordinator may be what does not answer


def _let_others_read() -> None:
    """The store ends with process 0."""
    if _news.limit and _news.process == 0:
        time.sleep(SOON * INTERVAL)


def _talk() -> None:
    """Counts up this process's number and reads those of the others."""
    client, own = _news.client, f'{FOLDER}/beat/{_news.process}'
    for beat in itertools.count():
        over = _over.wait(INTERVAL)
        # Without an answer, the other thread counts for how long.
        with contextlib.suppress(RuntimeError):
            client.key_value_set(own, DONE if over else str(beat), allow_overwrite=True)
            entries = [(*k.split('/')[-2:], v) for k, v in client.key_value_dir_get(FOLDER)]
            _news.beats = {int(k): text for kind, k, text in entries if kind == 'beat'}
            _news.failures = {int(k): text for kind, k, text in entries if kind == 'failure'}
            _news.rounds += 1
        if over:
            return


def _watch() -> None:
    """Ends this process when another one is lost.

    Time is counted in intervals of this process, so that a machine or job that was suspended as a
    whole does not lose a process when it wakes up.
    """
    others = [k for k in range(_news.processes) if k != _news.process]
    silent: Counter[int] = Counter()
    beats: dict[int, str] = {}
    rounds = 0
    while not _over.wait(INTERVAL):
        for process, reason in _news.failures.items():
            if process != _news.process:
                end(f'ends because process {process} {reason}')
        if _news.rounds == rounds:
            silent[0] += 1  # the store is in process 0
        else:
            for k in others:
                alive = _news.beats.get(k) == DONE or _news.beats.get(k) != beats.get(k)
                silent[k] = 0 if alive else silent[k] + 1
        rounds, beats = _news.rounds, _news.beats
        for k in others:
            if silent[k] >= _news.limit:
                reason = 'no longer answers (killed, suspended or cut off; see its output)'
                _report(k, reason)
                end(f'ends because process {k} {reason}')
