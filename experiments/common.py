"""What the studies share: splits of an iteration, timing in turns, the hardware, tables."""

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from glr_jax.data.dataset import Dataset
from glr_jax.errors import UserError

Workload = Callable[[], Any]
TURN = 0.25  # seconds that a workload runs for at a time


def split_of(protocol: str, iteration: int, dataset: Dataset) -> str:
    """The split of an iteration: a column of its own, or the one that the protocol has."""
    for name in (f'{protocol}-{iteration}', protocol):
        if name in dataset.splits:
            return name
    raise UserError(
        f'--protocol={protocol} is not in {dataset.folder}; there are {", ".join(dataset.splits)}'
    )


def time_in_turns(
    tasks: dict[str, dict[str, Workload]], repeats: int
) -> dict[str, dict[str, float]]:
    """Median seconds of a run of each task under each name, every one in turn, and all again."""
    every = [
        (name, who, task) for name, variants in tasks.items() for who, task in variants.items()
    ]
    for _, _, task in every:
        task()  # compiles
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in tasks}
    for _ in range(repeats):
        for name, who, task in every:
            time.sleep(0.02)  # the threads of the one before spin a while, waiting for more
            task()  # as in training, the step before was this one, too
            seconds[name].setdefault(who, []).append(seconds_a_run(task))
    return {
        name: {who: float(np.median(times)) for who, times in variants.items()}
        for name, variants in seconds.items()
    }


def seconds_a_run(task: Workload) -> float:
    """Over as many runs as a turn has time for; one at least."""
    start, runs = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < TURN or not runs:
        task()
        runs += 1
    return taken / runs


def hardware() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        'device': jax.devices()[0].device_kind,
        'cores': len(os.sched_getaffinity(0)),
        'load': os.getloadavg()[0],
        'jax': jax.__version__,
        'python': platform.python_version(),
    }


def spread(values: Iterable[float], sign: str = '') -> str:
    """Mean ± sample standard deviation, in per cent."""
    x = 100 * np.asarray(list(values))
    return f'{x.mean():{sign}.1f} ± {x.std(ddof=1):.1f}' if len(x) > 1 else f'{x[0]:{sign}.1f}'


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its columns aligned for those who read the source."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    line = lambda row: (
        '| ' + ' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + ' |'
    )
    return '\n'.join([line(header), line(['-' * w for w in widths]), *map(line, rows)])


def hardware_in_words() -> str:
    """What the runs ran on, in words."""
    devices = jax.devices()
    return f'{len(devices)} {devices[0].device_kind} device(s), {os.cpu_count()} CPU cores'
