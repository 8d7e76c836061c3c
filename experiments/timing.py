"""Median times of workloads that take turns, so that their ratios hold on a busy machine too."""

import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

Workload = Callable[[], Any]  # returns when its work is done
Turn = Callable[[float], float]  # takes a turn of at least these seconds; gives seconds per call
Name = TypeVar('Name', bound=Hashable)
TURN = 0.25  # seconds
NONE: Mapping[Any, Turn] = MappingProxyType({})


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
        warm_up(workloads)
    return medians([*rounds_in_turns(workloads, repeats, turn=turn)])


def warm_up(workloads: Mapping[Name, Workload]) -> None:
    """Calls each workload once, which compiles it."""
    for workload in workloads.values():
        workload()


def rounds_in_turns(
    workloads: Mapping[Name, Workload],
    repeats: int,
    *,
    elsewhere: Mapping[Name, Turn] = NONE,
    turn: float = TURN,
) -> Iterator[dict[Name, float]]:
    """Seconds per call of each workload, one round after the other, as they are measured.

    Args:
      workloads: what to time; compiled already, unless the first round may compile.
      repeats: rounds.
      elsewhere: workloads of other processes, which take and time their turns themselves.
      turn: as for `time_in_turns`.
    """
    for _ in range(repeats):
        seconds = {}
        for name, workload in workloads.items():
            _let_threads_sleep()
            seconds[name] = take_turn(workload, turn)
        for name, take in elsewhere.items():
            _let_threads_sleep()
            seconds[name] = take(turn)
        yield seconds


def take_turn(workload: Workload, turn: float) -> float:
    """Seconds per call in one turn, which lasts as `time_in_turns` says."""
    if turn:
        workload()
    start, calls = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < turn or not calls:
        workload()
        calls += 1
    return taken / calls


def medians(rounds: Sequence[Mapping[Name, float]]) -> dict[Name, float]:
    """The median of each workload over all rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _let_threads_sleep() -> None:
    time.sleep(0.02)  # the previous workload's threads keep spinning for a while
