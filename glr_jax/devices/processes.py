"""Several processes, perhaps on several machines, as one run.

Every process runs the same command. They connect to a coordinator, process 0; after that JAX sees
the devices of all processes. Process 0 writes the files; checkpoints are written by all together.
"""

import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Num

from glr_jax import cli, signals
from glr_jax.config import Config, ParallelConfig, differences
from glr_jax.devices import watch
from glr_jax.devices.parallel import set_cpu_devices
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import from_dict, to_dict

Result = TypeVar('Result')


def start(config: ParallelConfig) -> None:
    """Simulates devices and joins the other processes, as configured; before JAX is used.

    Raises:
      UsageError: `auto` finds no cluster here.
      UserError: the others did not connect in time.
    """
    set_cpu_devices(config.cpu_devices)
    if not config.coordinator:
        return
    # gloo, the transport between CPUs, prints a greeting on stdout, which is for results.
    sys.stdout = os.fdopen(os.dup(1), 'w', errors='backslashreplace')
    os.dup2(2, 1)
    # After a longer wait JAX would kill the process with a stack trace.
    patience = threading.Timer(config.timeout, _give_up, [config])
    patience.start()
    try:
        _join(config)
    except ValueError as error:
        raise UsageError(
            f'--parallel.coordinator={config.coordinator}: {error} Outside Slurm, TPU pods, GKE '
            'and Open MPI, give HOST:PORT, --parallel.num_processes and --parallel.process_id'
        ) from None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'--parallel.coordinator={config.coordinator}: {reason}') from None
    finally:
        patience.cancel()
    watch.start(_patience(config))


def _patience(config: ParallelConfig) -> int:
    """Seconds without an answer after which a process counts as lost, at most JAX's default."""
    return max(10, min(100, config.timeout))


def _join(config: ParallelConfig) -> None:
    initialize = functools.partial(
        jax.distributed.initialize,
        initialization_timeout=config.timeout + 60,
        heartbeat_timeout_seconds=2 * _patience(config) + 20,  # JAX may halve it
        shutdown_timeout_seconds=config.timeout,
    )
    with _without_stack_traces():
        _initialize(config, initialize)


@contextlib.contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Processes that are joined inside say in one line that they have lost the others.

    JAX ends them by LOG(FATAL): a stack trace, and SIGABRT. Given a function to call instead, it
    fails to convert the argument, and only the signal remains. `jax.distributed` does not pass
    such a function on; where a version of JAX has no such place, its stack trace stays.
    """
    try:
        from jax._src.lib import _jax as runtime

        client = runtime.get_distributed_runtime_client
    except (ImportError, AttributeError):
        yield
        return
    watch.on_abort(_aborted)
    replaced = functools.partial(client, missed_heartbeat_callback=_leave_the_others)
    runtime.get_distributed_runtime_client = replaced
    try:
        yield
    finally:
        runtime.get_distributed_runtime_client = client


def _initialize(config: ParallelConfig, initialize: Callable[..., None]) -> None:
    if config.coordinator == 'auto':
        initialize()
    else:
        where = config.coordinator, config.num_processes, config.process_id
        initialize(*where, cluster_detection_method='deactivate')


def _give_up(config: ParallelConfig) -> None:
    cli.status(
        f'glr_jax.train: --parallel.coordinator={config.coordinator}: not all processes connected '
        f'within --parallel.timeout={config.timeout} s; check that all were started, and read '
        'their output'
    )
    os._exit(1)  # the main thread is blocked inside JAX


def _leave_the_others(_: Any = None) -> None:
    """JAX's own heartbeats, the backup, have found another process missing."""
    watch.end('lost the others: one of them ended or does not answer (see their output)')


def _aborted(_: Any) -> None:
    watch.end('was aborted by JAX, for the reason above or because process 0 ended')


@contextlib.contextmanager
def as_one() -> Iterator[None]:
    """In a `with` block, a failure of this process alone ends it at once, and so tells the others.

    A `UserError` is left to `together`, which raises it on all of them.
    """
    if not jax.distributed.is_initialized():
        yield
        return
    try:
        yield
    except Exception as error:
        if _is_of_another(error):
            watch.lost()
        if isinstance(error, UserError):
            raise
        found = cli.explain(error)
        if found is None:
            traceback.print_exc()
            reason = ''.join(traceback.format_exception_only(error)).splitlines()[0]
        else:
            cli.status(found)
            reason = found.partition(': ')[2]  # after the command's name
        sys.stderr.flush()
        watch.failed(f'failed: {reason}')
        os._exit(1)  # not by way of JAX, which would wait for the others


def _is_of_another(error: BaseException | None) -> bool:
    """Whether an operation of all processes failed because another one ended."""
    words = ('Gloo', 'Connection closed by peer', 'coordination service')
    while error is not None:
        if any(word in str(error) for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False


def announce(message: str) -> None:
    """Prints a line of progress on stderr; of several processes only the first one does."""
    if is_first():
        cli.status(message)


def is_first() -> bool:
    """Whether this is process 0, which prints and writes for all."""
    return jax.process_index() == 0


def together(do: Callable[[], Result]) -> Result:
    """Calls a function on every process; a `UserError` on one is raised on all.

    Otherwise the others would wait for the failed one at the next collective operation.
    """
    if jax.process_count() == 1:
        return do()
    try:
        result, failure = do(), None
    except UserError as error:
        failure = error
    failures = gather_text(str(failure) if failure else '')
    if failure:
        raise failure
    for process, message in enumerate(failures):
        if message:
            raise UserError(f'process {process}: {message}')
    return result


def on_first(do: Callable[[], Any]) -> Any:
    """Calls a function on process 0 and returns its result, plain JSON values, on all processes.

    Raises:
      UserError: on every process, where process 0 raised one.
    """
    if jax.process_count() == 1:
        return do()
    result = together(lambda: do() if is_first() else None)
    return json.loads(gather_text(json.dumps(result))[0])


def check_same(config: Config) -> None:
    """Raises `UserError` on every process if any was started with other flags than process 0."""
    of_first = from_dict(Config, on_first(lambda: to_dict(config)))

    def check() -> None:
        found = differences(of_first, config, ignore=())
        if found:
            raise UserError(
                f'process 0 has {", ".join(found)}; start all processes with the same flags'
            )

    together(check)


def check_shared(folder: str) -> None:
    """Raises `UserError` on every process if any does not see the folder that process 0 made."""

    def check() -> None:
        if not os.path.isdir(folder):
            raise UserError(
                f'--workdir={folder} was created by process 0 but is not visible here; '
                'use a folder on storage that all processes share'
            )

    together(check)


def gather(array: Num[np.ndarray, '*shape']) -> Num[np.ndarray, 'processes *shape']:
    """The equally shaped arrays of all processes, bit for bit (JAX would round float64)."""
    if jax.process_count() == 1:
        return array[None]
    sent = np.frombuffer(array.tobytes(), np.uint8)
    received = np.asarray(multihost_utils.process_allgather(sent))
    return np.frombuffer(received.tobytes(), array.dtype).reshape(-1, *array.shape)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Treats SIGINT, SIGTERM, SIGHUP and SIGUSR1 as requests to stop.

    Yields:
      A function that tells whether to stop, to be called once after each dispatch. A signal to one
      process stops all of them after the same dispatch: they agree on it in background threads of
      the coordinator, so the call itself costs no communication.
    """
    if not jax.distributed.is_initialized():
        with signals.noted() as stops_here:
            yield stops_here
        return
    dispatch = itertools.count(1)  # since this start; step numbers would have gaps
    with signals.forwarded(to=signal.SIGTERM):  # JAX listens to this one
        yield lambda: multihost_utils.reached_preemption_sync_point(next(dispatch))


def gather_text(text: str) -> list[str]:
    """The texts of all processes."""
    sent = np.frombuffer(text.encode(), np.uint8)
    lengths = gather(np.asarray(len(sent)))
    padded = np.zeros(max(1, lengths.max()), np.uint8)
    padded[: len(sent)] = sent
    return [
        row[:length].tobytes().decode() for row, length in zip(gather(padded), lengths, strict=True)
    ]
