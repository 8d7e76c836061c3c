"""Runners write the shards: in this process, in a pool of processes, or on Apache Beam.

A runner takes shard jobs and returns the finished shards in the same order. All runners write the
same bytes.
"""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from threadpoolctl import threadpool_limits

from data_prep.shards import Shard, ShardJob, write_shard
from glr_jax.errors import UserError

Runner = Callable[[Sequence[ShardJob]], Iterable[Shard]]


def serially(jobs: Sequence[ShardJob]) -> Iterable[Shard]:
    """Runs jobs in this process."""
    return map(write_shard, jobs)


def on_pool(num_workers: int) -> Runner:
    """Runs jobs in a pool of processes."""

    def run(jobs: Sequence[ShardJob]) -> Iterator[Shard]:
        context = multiprocessing.get_context('forkserver')
        modules = ['data_prep.shards', 'tensorflow_datasets.proto.tf_example_pb2']
        context.set_forkserver_preload(modules)  # each worker would import them anew
        try:
            with concurrent.futures.ProcessPoolExecutor(
                num_workers, mp_context=context, initializer=one_blas_thread
            ) as pool:
                yield from pool.map(write_shard, jobs)
        except BrokenProcessPool:
            raise UserError(
                'a worker was killed, probably because memory ran out; run the same command with '
                f'--num_workers below {num_workers} to resume'
            ) from None

    return run


def one_blas_thread() -> None:
    """Limits BLAS to one thread: with a worker per core, more would wait for each other."""
    threadpool_limits(1, user_api='blas')


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

    def run(jobs: Sequence[ShardJob]) -> Iterable[Shard]:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            (
                pipeline
                | beam.Create(jobs)
                | beam.Reshuffle()  # without it, one worker would get all jobs
                | beam.Map(write_shard)
            )
        return map(write_shard, jobs)  # finds every shard written and reads its note

    return run


def usable_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
