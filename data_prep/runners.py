"""Runners write the shards: in this process, in a pool of processes, or on Apache Beam.

A runner takes shard jobs and a function that it tells how many clips are done since, and returns
the finished shards in the same order. All runners write the same bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from data_prep import pool
from data_prep.clips import Clip
from data_prep.shards import Shard, ShardJob, finished_shard, write_shard
from glr_jax import storage
from glr_jax.errors import UserError

Advance = Callable[[int], None]
Runner = Callable[[Sequence[ShardJob], Advance], Iterable[Shard]]


def serially(jobs: Sequence[ShardJob], advance: Advance) -> Iterable[Shard]:
    """Runs jobs in this process; a job in which an earlier one was killed, in a process of its own.

    So a clip that takes all memory is skipped by the second attempt.
    """
    return (_here(job, advance) for job in jobs)


def _here(job: ShardJob, advance: Advance) -> Shard:
    mark = f'{job.note}.running'
    if storage.is_remote(mark):
        return _write(job, advance)
    if os.path.exists(mark):
        shard = pool.run_alone(job, advance=advance)
        os.remove(mark)
        return shard
    with open(mark, 'w'):
        pass
    try:
        return _write(job, advance)
    finally:  # only a kill leaves the mark
        os.remove(mark)


def _write(job: ShardJob, advance: Advance) -> Shard:
    done = -1  # the first clip that is read follows none

    def reading(clip: Clip) -> None:
        nonlocal done
        done += 1
        if done:
            advance(1)

    shard = write_shard(job, reading)
    advance(len(job.clips) - max(done, 0))
    return shard


def on_pool(num_workers: int) -> Runner:
    """Runs jobs in a pool of processes."""

    def run(jobs: Sequence[ShardJob], advance: Advance) -> Iterator[Shard]:
        return pool.run_jobs(jobs, num_workers, advance)

    return run


def on_beam(options: Sequence[str]) -> Runner:
    """Runs jobs on Apache Beam: Dataflow, Flink, Spark, or DirectRunner on this machine.

    The workers and this process must see the same files.

    Args:
      options: options for Beam, e.g. `--runner=FlinkRunner`.

    Raises:
      UserError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError("--runner=beam needs Apache Beam: pip install -e '.[beam]'") from None

    def run(jobs: Sequence[ShardJob], advance: Advance) -> Iterable[Shard]:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            (
                pipeline
                | beam.Create(jobs)
                | beam.Reshuffle()  # without it, one worker would get all jobs
                | beam.Map(write_shard)
            )
        for job in jobs:
            yield finished_shard(job) or write_shard(job)
            advance(len(job.clips))

    return run
