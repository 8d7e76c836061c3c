"""Signals that end a command: SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a callback of the
garbage collector or of a library the exception is lost, and inside an import it is a traceback. So
a handler only takes note, and a thread of its own acts, also while the main thread compiles.
"""

import atexit
import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from glr_jax.errors import AGAIN
from glr_jax.text import printable

ENDING = tuple(
    getattr(signal, name)
    for name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1')
    if hasattr(signal, name)  # Windows has two of them
)
AGAIN_HINT = 'run the same command again'
RESUME_HINT = AGAIN_HINT + ' to resume'
TOGETHER = 0.5  # seconds; terminals and supervisors send several signals that mean one

whole = threading.RLock()  # held while something must not be cut off


@dataclasses.dataclass
class _State:
    """What a signal means now; there is one such state, as signals belong to the process.

    Attributes:
      name: of the command, if signals end it at once; '' in other programs.
      stop: set by the first signal inside `noted`; None outside of it.
      first: the number of that signal.
      begun: whether there is something to save since `noted` was entered.
      busy: whether the process may not leave yet.
      left: what the command leaves behind and how to resume it, for the last line.
      stderr: a copy of its number, since a decoder's messages are hidden by replacing the other.
      listening: whether the thread that acts on signals was started.
    """

    name: str = ''
    stop: threading.Event | None = None
    first: int = 0
    begun: bool = False
    busy: Callable[[], bool] = lambda: False
    left: Callable[[], str] = lambda: AGAIN_HINT
    stderr: int = 2
    listening: bool = False


_state = _State()


def leave_at_once(name: str) -> None:
    """From now on, a signal ends the process at once: one line on stderr, exit code 75.

    Args:
      name: of the command, for the line.
    """
    if not _state.name:  # a command calls this again with the name that it knows by then
        with contextlib.suppress(OSError):  # it is closed
            _state.stderr = os.dup(2)
        atexit.register(_ignore)
    _state.name = name
    _listen()
    for number in ENDING:
        signal.signal(number, _heard)
    unblock()


def raise_interrupts() -> None:
    """Gives signals their usual effect again, for commands that clean up on KeyboardInterrupt."""
    for number in ENDING:
        if signal.getsignal(number) is _heard:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    unblock()


def block() -> None:
    """Holds signals back until `unblock`, also in the program that replaces this one."""
    if hasattr(signal, 'pthread_sigmask'):
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def unblock() -> None:
    """Delivers the signals that were held back."""
    if hasattr(signal, 'pthread_sigmask'):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """In a `with` block, a signal is a request to stop; a second one ends the process.

    The second one waits while `whole` is held and while `finish_first` says so. Before there is
    anything to save, the first one ends a command at once.

    Yields:
      A function that tells whether to stop, to be called when there is something to save. A signal
      that it did not tell of has its usual effect after the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread may handle signals
        return
    stop, told = threading.Event(), False

    def stops_here() -> bool:
        nonlocal told
        _state.begun, told = True, stop.is_set()
        return told

    _listen()
    _state.stop, _state.begun = stop, False
    before = {number: signal.signal(number, _heard) for number in ENDING}
    try:
        yield stops_here
    finally:
        # The handlers first: the thread must not take a signal of this block for one after it.
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.stop = None
        if stop.is_set() and not told:  # it came after the last step: pass it on
            signal.raise_signal(_state.first)


@contextlib.contextmanager
def forwarded(to: int) -> Iterator[None]:
    """In a `with` block, the other signals become one that a library handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    others = [number for number in ENDING if number != to]
    send = lambda *_: os.kill(os.getpid(), to)
    before = {number: signal.signal(number, send) for number in others}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish_first(busy: Callable[[], bool]) -> None:
    """The process does not leave while `busy()` is true, as while a checkpoint is written."""
    _state.busy = busy


def leaves(left: Callable[[], str]) -> None:
    """`left()` ends the last line of a process that leaves at once: what is saved, what to do."""
    _state.left = left


def _ignore() -> None:
    """While Python ends it has no handlers: a signal would kill it and hide the exit code."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _heard(number: int, frame: Any) -> None:
    """Runs in the main thread, between two of its instructions."""
    if _state.stop is not None and not _state.stop.is_set():
        _state.first = number
        _state.stop.set()


def _listen() -> None:
    """Starts the thread that learns of signals even while the main thread is inside a library."""
    if not _state.listening:
        _state.listening = True
        receive, send = os.pipe()
        os.set_blocking(send, False)
        signal.set_wakeup_fd(send, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(receive,), daemon=True).start()


def _watch(receive: int) -> None:
    asked: threading.Event | None = None  # the request to stop that was made last
    since = 0.0
    while True:
        number = os.read(receive, 1)[0]
        stop, handler = _state.stop, signal.getsignal(number)
        while stop is not _state.stop:  # a block began or ended meanwhile
            stop, handler = _state.stop, signal.getsignal(number)
        if handler is not _heard:
            continue
        now = time.monotonic()
        if stop is None or (_state.name and not _state.begun):
            _leave(number)
        elif asked is not stop:
            asked, since = stop, now  # the main thread saves and stops
        elif now - since > TOGETHER:
            _leave(number)


def _leave(number: int) -> None:
    with whole:
        while _state.busy():
            time.sleep(0.05)
        start = '\n' if sys.stderr is not None and sys.stderr.isatty() else ''  # after a bar
        name = signal.Signals(number).name
        text = f'{_state.name or "glr_jax"}: stopped by {name}; {_state.left()}'
        with contextlib.suppress(OSError):
            os.write(_state.stderr, f'{start}{printable(text)}\n'.encode())
        os._exit(AGAIN)
