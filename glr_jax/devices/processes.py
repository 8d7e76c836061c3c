"""Several processes, perhaps on several machines, as one run.

Every process runs the same command. They meet at a coordinator, which is process 0; from then on
JAX sees the devices of all. Files are written by process 0 alone, checkpoints by all together.
"""

import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Num

from glr_jax import cli
from glr_jax.config import Config, ParallelConfig, differences
from glr_jax.devices.parallel import set_cpu_devices
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import from_dict, to_dict

Result = TypeVar('Result')


def start(config: ParallelConfig) -> None:
    """Simulates devices and joins the other processes, as far as asked; before JAX has been used.

    Raises:
      UsageError: `auto` finds no cluster here.
      UserError: the others did not come in time.
    """
    set_cpu_devices(config.cpu_devices)
    if not config.coordinator:
        return
    # gloo, which carries what CPUs say to each other, greets on stdout, which is for results.
    sys.stdout = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    # JAX itself would end the process here, by a stack trace of its coordination service.
    patience = threading.Timer(config.timeout, _give_up, [config])
    patience.start()
    try:
        _join(config)
    except ValueError as error:
        raise UsageError(
            f'--parallel.coordinator={config.coordinator}: {error} Where JAX finds no cluster '
            '(Slurm, TPU pod, GKE, Open MPI), give HOST:PORT, --parallel.num_processes and '
            '--parallel.process_id'
        ) from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'--parallel.coordinator={config.coordinator}: {reason}') from None
    finally:
        patience.cancel()


def _join(config: ParallelConfig) -> None:
    initialize = functools.partial(
        jax.distributed.initialize,
        initialization_timeout=config.timeout + 60,
        shutdown_timeout_seconds=config.timeout,
    )
    if config.coordinator == 'auto':
        initialize()
    else:
        where = config.coordinator, config.num_processes, config.process_id
        initialize(*where, cluster_detection_method='deactivate')


def _give_up(config: ParallelConfig) -> None:
    cli.status(
        f'--parallel.coordinator={config.coordinator}: not all processes met within '
        f'--parallel.timeout={config.timeout} s; see what the others say, and start them all'
    )
    os._exit(1)  # the main thread waits inside JAX


def announce(message: str) -> None:
    """Prints a line of progress on stderr; of several processes only the first one does."""
    if is_first():
        cli.status(message)


def is_first() -> bool:
    """Whether this is process 0, which speaks and writes for all."""
    return jax.process_index() == 0


def together(do: Callable[[], Result]) -> Result:
    """Does something on every process; what is a `UserError` on one is one on all.

    Without it the others would wait for the failed one at the next thing that all do together.
    """
    if jax.process_count() == 1:
        return do()
    try:
        result, failure = do(), None
    except UserError as error:
        failure = error
    failures = _gather_text(str(failure) if failure else '')
    if failure:
        raise failure
    for process, message in enumerate(failures):
        if message:
            raise UserError(f'process {process}: {message}')
    return result


def on_first(do: Callable[[], Any]) -> Any:
    """Does something on process 0 alone and gives its result, plain JSON values, to all.

    Raises:
      UserError: on every process, where process 0 raised one.
    """
    if jax.process_count() == 1:
        return do()
    result = together(lambda: do() if is_first() else None)
    return json.loads(_gather_text(json.dumps(result))[0])


def check_same(config: Config) -> None:
    """Raises `UserError` on every process if one was given other flags than process 0."""
    of_first = from_dict(Config, on_first(lambda: to_dict(config)))

    def check() -> None:
        found = differences(of_first, config, ignore=())
        if found:
            raise UserError(f'{", ".join(found)} of process 0; give all processes the same flags')

    together(check)


def check_shared(folder: str) -> None:
    """Raises `UserError` on every process if not all of them see the folder that process 0 made."""

    def check() -> None:
        if not os.path.isdir(folder):
            raise UserError(
                f'--workdir={folder} is not there, though process 0 has made it; '
                'give a folder on storage that all processes share'
            )

    together(check)


def gather(array: Num[np.ndarray, '*shape']) -> Num[np.ndarray, 'processes *shape']:
    """The arrays of all processes, equally shaped, to the bit (JAX would round float64)."""
    if jax.process_count() == 1:
        return array[None]
    sent = np.frombuffer(array.tobytes(), np.uint8)
    received = np.asarray(multihost_utils.process_allgather(sent))
    return np.frombuffer(received.tobytes(), array.dtype).reshape(-1, *array.shape)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Takes SIGTERM for a wish to stop.

    Yields:
      A function, to be called once after each dispatch, whether this one is the last. A SIGTERM to
      one process stops all of them after the same dispatch: their coordinator's threads agree on
      it in the background, so that asking costs no communication.
    """
    if jax.distributed.is_initialized():
        dispatch = itertools.count(1)  # of this start; steps would leave numbers out
        yield lambda: multihost_utils.reached_preemption_sync_point(next(dispatch))
        return
    stop, told = threading.Event(), False

    def stops_here() -> bool:
        nonlocal told
        told = stop.is_set()
        return told

    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stops_here
    finally:
        signal.signal(signal.SIGTERM, before)
        if stop.is_set() and not told:  # it came after the last step: not for us, but not lost
            signal.raise_signal(signal.SIGTERM)


def _gather_text(text: str) -> list[str]:
    sent = np.frombuffer(text.encode(), np.uint8)
    lengths = gather(np.asarray(len(sent)))
    padded = np.zeros(max(1, lengths.max()), np.uint8)
    padded[: len(sent)] = sent
    return [
        row[:length].tobytes().decode() for row, length in zip(gather(padded), lengths, strict=True)
    ]
