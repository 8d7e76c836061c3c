"""A pool of processes that write shards, and continue when a clip kills one of them.

A worker is killed if the system runs out of memory. What it was reading is tried again at the end,
with no other worker beside it; a clip that kills its worker then too is skipped and named. Workers
end with the process that started them, however that one ends.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from multiprocessing import connection
from typing import NamedTuple

from data_prep.shards import Shard, ShardJob, write_shard
from glr_jax import workers
from glr_jax.cli import status
from glr_jax.data.mel_filters import PRELOAD
from glr_jax.errors import UserError
from glr_jax.workers import Worker


class Killed(NamedTuple):
    """The outcome of a job whose worker was killed: the id of the clip that it was reading."""

    clip: str | None


def run_jobs(
    jobs: Sequence[ShardJob],
    num_workers: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Shard]:
    """Runs jobs in a pool of processes.

    Args:
      jobs: what to write.
      num_workers: how many processes to use.
      advance: called with the number of clips that were done since.

    Yields:
      The finished shards, in the order of the jobs.

    Raises:
      UserError: a job kills its worker before any clip is read.
    """
    results: dict[int, Shard | Killed] = {}
    place = 0
    for number, result in _all_at_once(jobs, num_workers, advance=advance):
        if isinstance(result, Killed):
            what = f'while it read {result.clip}' if result.clip else f'at {jobs[number].path}'
            status(f'a worker was killed {what}; this is tried again alone, after the rest')
        results[number] = result
        while isinstance(done := results.get(place), Shard):
            yield done
            place += 1
    for number in range(place, len(jobs)):
        result = results[number]
        if isinstance(result, Killed):
            result = run_alone(jobs[number], num_workers, advance)
        yield result


def run_alone(
    job: ShardJob, num_workers: int = 1, advance: Callable[[int], None] = lambda count: None
) -> Shard:
    """Runs one job in a process of its own; clips that kill it are skipped.

    Args:
      job: what to write.
      num_workers: how many there were when the job failed, for the error.
      advance: called with the number of clips that were done since.

    Raises:
      UserError: it is killed before any clip is read.
    """
    lost: set[str] = set()
    while True:
        ((_, result),) = _all_at_once([job], 1, lost, advance)
        if isinstance(result, Shard):
            return result
        if result.clip is None or result.clip in lost:
            fewer = f'with --num_workers below {num_workers}' if num_workers > 1 else 'again'
            raise UserError(
                f'a worker was killed twice at {job.path}, probably because memory ran out; run '
                f'the same command {fewer} to resume'
            )
        lost.add(result.clip)


def _all_at_once(
    jobs: Sequence[ShardJob],
    num_workers: int,
    lost: Collection[str] = (),
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[tuple[int, Shard | Killed]]:
    """(job number, outcome), in the order in which jobs finish."""
    waiting = iter(range(len(jobs)))
    job_of: dict[Worker, int] = {}
    reading: dict[Worker, str] = {}
    told: Counter[int] = Counter()  # clips of each job that `advance` was told of

    def tell(number: int, done: int) -> None:
        advance(done - told[number])
        told[number] = done

    def give(worker: Worker | None) -> None:
        """Gives the next job to a worker, or to a new one; a worker without a job ends."""
        number = next(waiting, None)
        if number is not None:
            worker = worker or workers.start(_write, PRELOAD)
            job_of[worker] = number
            with contextlib.suppress(OSError):  # it was killed: its pipe says so below
                worker.pipe.send((jobs[number], lost))
        elif worker:
            workers.end(worker)

    try:
        for _ in range(min(num_workers, len(jobs))):
            give(None)
        while job_of:
            of_pipe = {worker.pipe: worker for worker in job_of}
            for pipe in connection.wait(list(of_pipe)):
                worker = of_pipe[pipe]
                try:
                    kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    kind, content = 'killed', Killed(reading.get(worker))
                if kind == 'ready':
                    continue
                if kind == 'reading':
                    if worker in reading:
                        tell(job_of[worker], told[job_of[worker]] + 1)
                    reading[worker] = content
                    continue
                number = job_of.pop(worker)
                tell(number, len(jobs[number].clips) if kind == 'done' else 0)
                reading.pop(worker, None)
                if kind == 'failed':
                    workers.end(worker, at_once=True)
                    raise content
                if kind == 'killed':
                    workers.end(worker)
                give(worker if kind == 'done' else None)
                yield number, content
    finally:
        for worker in job_of:
            workers.end(worker, at_once=True)


def _write(task: tuple[ShardJob, Collection[str]], tell: Callable[[str], None]) -> Shard:
    job, lost = task
    return write_shard(job, reading=lambda clip: tell(clip.id), lost=lost)
