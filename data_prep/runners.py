"""What writes the shards: this process, a pool of them, or Apache Beam.

Which clip is in which shard does not depend on it, nor does a single byte of the result.
"""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from threadpoolctl import threadpool_limits

from data_prep.shards import Shard, ShardJob, write_shard
from glr_jax.errors import UserError

# Jobs to what became of them, in order.
Runner = Callable[[Sequence[ShardJob]], Iterable[Shard]]


def serially(jobs: Sequence[ShardJob]) -> Iterable[Shard]:
    """Runs jobs in this process."""
    return map(write_shard, jobs)


def on_pool(num_workers: int) -> Runner:
    """Runs jobs on so many processes."""

    def run(jobs: Sequence[ShardJob]) -> Iterator[Shard]:
        context = multiprocessing.get_context('forkserver')
        context.set_forkserver_preload(['data_prep.shards'])
        try:
            with concurrent.futures.ProcessPoolExecutor(
                num_workers, mp_context=context, initializer=one_blas_thread
            ) as pool:
                yield from pool.map(write_shard, jobs)
        except BrokenProcessPool:
            raise UserError(
                'a worker was killed, most likely for want of memory; the same command with a '
                f'smaller --num_workers than {num_workers} goes on from here'
            ) from None

    return run


def one_blas_thread() -> None:
    """A worker a core is enough: BLAS threads on top would only wait for each other."""
    threadpool_limits(1, user_api='blas')


def on_beam(options: Sequence[str]) -> Runner:
    """Runs jobs on Apache Beam: Dataflow, Flink, Spark, or its DirectRunner on this machine.

    The workers and this process must see the same files.

    Args:
      options: Beam's own, as `--runner=FlinkRunner`.
    """

    def run(jobs: Sequence[ShardJob]) -> Iterable[Shard]:
        try:
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError:
            raise UserError("--runner=beam needs Apache Beam: pip install -e '.[beam]'") from None
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            (
                pipeline
                | beam.Create(jobs)
                | beam.Reshuffle()  # or one worker would get them all
                | beam.Map(write_shard)
            )
        return map(write_shard, jobs)  # reads the notes that the workers left

    return run


def usable_cores() -> int:
    """Cores that this process may use, as far as the system tells."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
