"""Workloads of PyTorch, each in a process of its own, so that a compilation can be given up.

`torch.compile` cannot be interrupted, and may take minutes. Its process can be ended.
"""

import contextlib
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from experiments.throughput.shapes import Job
from experiments.timing import Turn, take_turn
from glr_jax import workers
from glr_jax.errors import UserError
from glr_jax.workers import Work, Worker

_PRELOAD = ('experiments.throughput.peer_torch',)  # imports PyTorch once for all processes


class GaveUp(Exception):
    """`torch.compile` took too long or failed; the message is the end of a sentence."""


def check_installed() -> None:
    """Raises `UserError` if PyTorch is not installed."""
    if importlib.util.find_spec('torch') is None:
        raise UserError('--peer=torch needs PyTorch (pip install torch)')


@contextlib.contextmanager
def running(job: Job, limit: float, work: Work | None = None) -> Iterator[Turn]:
    """A process that has compiled a workload, while the `with` block runs.

    Args:
      job: the workload.
      limit: seconds that the first call may take if the workload is compiled.
      work: what the process does with (job, seconds of a turn), if it is not to time PyTorch.

    Yields:
      A function that takes and times one turn there.

    Raises:
      GaveUp: compiling took longer than the limit, or failed.
      UserError: the process ended.
    """
    worker = workers.start(work or _take_turn, _PRELOAD)
    try:
        _receive(worker)  # 'ready'
        worker.pipe.send((job, 0.0))
        if not worker.pipe.poll(limit if job.variant.compiled else None):
            raise GaveUp(f'given up after {limit:g} s (--compile_limit)')
        try:
            _receive(worker)
        except RuntimeError as error:
            if not job.variant.compiled:
                raise
            raise GaveUp(f'failed: {error}') from None

        def take(turn: float) -> float:
            worker.pipe.send((job, turn))
            return _receive(worker)

        yield take
    finally:
        # The compiler that the process has started must not disturb what is timed next.
        with contextlib.suppress(OSError):
            if worker.process.pid and hasattr(os, 'killpg'):
                os.killpg(worker.process.pid, signal.SIGKILL)
        workers.end(worker, at_once=True)


def lead_group() -> None:
    """Makes this process lead a group, which ends as one with all that the process starts."""
    if hasattr(os, 'setpgid') and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def _take_turn(task: tuple[Job, float], tell: Callable[[Any], None]) -> float:
    lead_group()
    job, turn = task
    try:
        from experiments.throughput import peer_torch

        return take_turn(peer_torch.workload(job), turn)
    except Exception as error:  # PyTorch's own may not survive the pipe
        reason = (str(error) or 'no reason given').splitlines()[0][:200]
        raise RuntimeError(f'{type(error).__name__}: {reason}') from error


def _receive(worker: Worker) -> Any:
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):
        raise UserError(
            'the process that runs PyTorch ended; its last words are above, or memory ran out: '
            'try smaller batches (--default.batch_size, --1d.batch_size, --2d.batch_size), '
            'or --peer=none'
        ) from None
    if kind == 'failed':
        raise content
    return content
