"""Median times of workloads that take turns, so that their ratios hold on a busy machine too."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

Workload = Callable[[], Any]  # returns when its work is done
Name = TypeVar('Name', bound=Hashable)
TURN = 0.25  # seconds


def time_in_turns(
    workloads: Mapping[Name, Workload], repeats: int, *, turn: float = TURN
) -> dict[Name, float]:
    """Median seconds per call of each workload; every round gives each of them one turn.

    Args:
      workloads: what to time.
      repeats: turns per workload.
      turn: the shortest duration of a turn in seconds. Each turn begins with a call that is not
        timed, since a train step also follows another one. 0: a turn is a single call, timed,
        for workloads that take long or are compiled already.
    """
    if turn:
        for workload in workloads.values():
            workload()  # compiles
    seconds: dict[Name, list[float]] = {name: [] for name in workloads}
    for _ in range(repeats):
        for name, workload in workloads.items():
            time.sleep(0.02)  # the previous workload's threads keep spinning for a while
            if turn:
                workload()
            seconds[name].append(_seconds_per_call(workload, turn))
    return {name: statistics.median(times) for name, times in seconds.items()}


def _seconds_per_call(workload: Workload, turn: float) -> float:
    start, calls = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < turn or not calls:
        workload()
        calls += 1
    return taken / calls
