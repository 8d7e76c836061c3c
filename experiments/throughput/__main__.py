"""How fast it is, beside what the machine can do, and beside PyTorch.

`python -m experiments.throughput --peer=torch --out=throughput.json`
"""

import dataclasses
import json
import os
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments.common import Workload, hardware, time_in_turns
from experiments.throughput.workloads import COPIED, LABELS, MATMUL, gflops, limits, workloads
from glr_jax import cli
from glr_jax.cli import status
from glr_jax.config import DataConfig, ModelConfig
from glr_jax.data import batches, input_pipeline
from glr_jax.data.dataset import open_dataset
from glr_jax.devices import parallel
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.throughput [--peer=torch] [--data.dir=FOLDER] [--out=FILE]

Clips a second of the 1-D and the 2-D model: a train step, inference, and the second convolution
and the recurrent layer alone, forward and backward, on a GPU also as a scan; and of a dataset's
batches, read and sent to the device, and cut there from clips that it holds. Beside them is the
machine's own limit: its rate at a matmul of 2048 x 2048 in --model.dtype, at copying for the input.
All of a model have turns of a quarter of a second, warmed up, and the median is taken, so that
ratios hold on a busy machine too. Arithmetic is counted as if kernels were slid: an algorithm that
takes fewer multiplications may go past 100 %.
"""


@dataclasses.dataclass(frozen=True)
class Size:
    """The batch of a model."""

    batch_size: int = option(32, 'clips; 0: this model is left out', minimum=0)
    frames: int = option(640, 'frames of a clip', minimum=8)


@dataclasses.dataclass(frozen=True)
class ImageSize(Size):
    """The batch of the 2-D model, 170 times as much work a clip."""

    batch_size: int = option(4, 'clips; 0: this model is left out', minimum=0)
    frames: int = option(320, 'frames of a clip', minimum=8)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What the command line says."""

    out: str = option('', 'a JSON file for the figures')
    peer: Literal['none', 'torch'] = option('none', 'times PyTorch beside ours')
    compile: bool = option(True, 'the peer by torch.compile, too: minutes to compile')
    repeats: int = option(9, 'turns that each has', minimum=1)
    n_mels: int = option(128, 'mel bands', minimum=4)
    one: Size = section(Size, '1d.')
    two: ImageSize = section(ImageSize, '2d.')
    model: ModelConfig = section(ModelConfig)
    data: DataConfig = section(DataConfig)


class Row(NamedTuple):
    """What was measured of a task.

    Attributes:
      model: 1d or 2d; '' for the input.
      name: the task.
      clips: of a run of it.
      gflop: of a run of it; 0: it copies rather than computes.
      seconds: of a run, the median.
      limit: seconds that the machine's own rates allow.
      peers: seconds of PyTorch's variants.
    """

    model: str
    name: str
    clips: int
    gflop: float
    seconds: float
    limit: float
    peers: dict[str, float]


class Rates(NamedTuple):
    """What the machine does in a second: arithmetic, and bytes read and written."""

    gflop: float
    gbyte: float


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Throughput, argv, USAGE)
    if choice.model.kind != 'crnn':
        raise UsageError('--model.kind=crnn is what is timed, part by part')
    model = choice.model
    ours = model.cell, model.norm, model.readout, model.dtype
    if choice.peer == 'torch' and ours != ('simple', 'glr', 'mean', 'float32'):
        raise UsageError(
            '--peer=torch has simple cells, GLR, the mean of the states and float32 alone'
        )
    rows, rates = [], {}
    models: dict[Literal['1d', '2d'], Size] = {'1d': choice.one, '2d': choice.two}
    for dimensions, size in models.items():
        if size.batch_size:
            rates[dimensions], of_model = measure_model(choice, dimensions, size)
            rows += of_model
    if choice.data.dir:
        rows += measure_feeds(choice)
    print(table(rows))
    for dimensions, rate in rates.items():
        print(f'{dimensions}: matmul {rate.gflop:.1f} GFLOP/s, copy {rate.gbyte:.1f} GB/s')
    if choice.out:
        os.makedirs(os.path.dirname(os.path.abspath(choice.out)), exist_ok=True)
        with open(choice.out, 'w') as file:
            figures = {'machine': hardware(), 'rows': [row._asdict() for row in rows]}
            figures |= {'rates': {name: rate._asdict() for name, rate in rates.items()}}
            json.dump(figures, file, indent=2)
        status(f'written: {choice.out}')


def measure_model(
    choice: Throughput, dimensions: Literal['1d', '2d'], size: Size
) -> tuple[Rates, list[Row]]:
    """The machine's rates and the rows of a model: our tasks and the peer's, in turns."""
    config = dataclasses.replace(choice.model, conv=dimensions)
    status(f'{dimensions}: compiling and warming up')
    sizes = size.batch_size, size.frames, choice.n_mels
    theirs_by_variant = peers(choice, config, size)
    work, ours = gflops(config, *sizes), workloads(config, *sizes)
    everything = {name: {'jax': task} for name, task in (limits(config.dtype) | ours).items()}
    for who, theirs in theirs_by_variant.items():
        for name, task in theirs.items():
            everything[name][who] = task
    seconds = time_in_turns(everything, choice.repeats)
    rates = Rates(
        2 * MATMUL**3 / 1e9 / seconds['matmul']['jax'], 2 * COPIED / 1e9 / seconds['copy']['jax']
    )
    rows = []
    for name in ours:
        gflop = work[name.partition(',')[0]]
        own, limit = seconds[name].pop('jax'), gflop / rates.gflop
        rows.append(Row(dimensions, name, size.batch_size, gflop, own, limit, seconds[name]))
    return rates, rows


def peers(choice: Throughput, config: ModelConfig, size: Size) -> dict[str, dict[str, Workload]]:
    """PyTorch's tasks: eager and compiled, on all cores and on half of them.

    Raises:
      UserError: there is no PyTorch.
    """
    if choice.peer == 'none':
        return {}
    try:
        from experiments.throughput import peer_torch
    except ModuleNotFoundError as error:
        raise UserError(f'--peer=torch needs PyTorch (pip install torch): {error}') from None
    cores, variants = len(os.sched_getaffinity(0)), {}
    for compiled in (False, True) if choice.compile else (False,):
        theirs = peer_torch.tasks(
            config, size.batch_size, size.frames, choice.n_mels, LABELS, compiled=compiled
        )
        for threads in sorted({cores, max(1, cores // 2)}):
            name = f'{"compiled" if compiled else "eager"}, {threads} threads'
            variants[name] = {
                task: peer_torch.with_threads(run, threads) for task, run in theirs.items()
            }
    return variants


def measure_feeds(choice: Throughput) -> list[Row]:
    """The rows of the input: eight batches on a device as training has them, prefetched, mixed."""
    dataset = open_dataset(choice.data.dir)
    clips, frames = dataset.members(choice.data.split, 'train'), choice.data.frames
    size, count = choice.one.batch_size or choice.two.batch_size, 8
    mesh = parallel.make_mesh(jax.devices()[:1])

    def task(feed: input_pipeline.InputPipeline) -> Workload:
        batch = jax.jit(feed.assemble)

        def send(step: int) -> Any:
            plan = batches.plan_batch(step, size, clips, seed=0, part=slice(size), mixup=0.4)
            return parallel.shard_batch(feed.payload(plan), mesh)

        sent = lambda: input_pipeline.prefetch(send, range(count))
        return lambda: [jax.block_until_ready(batch(item, *feed.held)) for item in sent()]

    source = np.ones(COPIED // 4, np.float32)
    everything: dict[str, Workload] = {
        'input, streamed': task(input_pipeline.streamed(dataset, frames)),
        'input, resident': task(input_pipeline.resident(dataset, clips, frames, mesh)),
        'copy': source.copy,
    }
    seconds = time_in_turns(
        {name: {'jax': run} for name, run in everything.items()}, choice.repeats
    )
    copied = count * size * frames * dataset.n_mels * dataset.mel_dtype.itemsize
    limit = copied / COPIED * seconds.pop('copy')['jax']
    return [
        Row('', name, count * size, 0.0, times['jax'], limit, {}) for name, times in seconds.items()
    ]


def table(rows: list[Row]) -> str:
    """The rows as text; the peer's best variant of each, and how many times as fast we are."""
    lines = [
        f'{"":4}{"":16}{"clips/s":>10}{"GFLOP/s":>10}{"limit, clips/s":>16}{"reached":>9}'
        + (
            f'{"torch, clips/s":>16}{"ratio":>7}  best of torch'
            if any(r.peers for r in rows)
            else ''
        )
    ]
    for row in rows:
        line = f'{row.model:4}{row.name:16}{row.clips / row.seconds:10,.1f}'
        line += f'{row.gflop / row.seconds:10,.1f}' if row.gflop else f'{"–":>10}'
        line += f'{row.clips / row.limit:16,.1f}{row.limit / row.seconds:9.0%}'
        if row.peers:
            best = min(row.peers, key=lambda who: row.peers[who])
            line += (
                f'{row.clips / row.peers[best]:16,.1f}{row.peers[best] / row.seconds:7.2f}  {best}'
            )
        lines.append(line)
    return '\n'.join(lines)


if __name__ == '__main__':
    cli.execute(main)
