"""Clips per second, against the machine's own limit and against PyTorch.

`python -m experiments.throughput --peer=torch --out=throughput.json`
"""

import dataclasses
from typing import Literal

from experiments import common, paper
from glr_jax import cli
from glr_jax.config import DataConfig
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.config import ModelConfig

USAGE = """
usage: python -m experiments.throughput [--peer=torch] [--data.dir=FOLDER] [--out=FILE]

Prints clips per second of the 1-D and the 2-D model on one device: a train step, inference, and,
forward and backward, the last convolution and the recurrent layer alone (on a GPU also as a scan).
With --data.dir, also of the input alone: batches that the host reads and sends (streamed), and
batches that the device cuts from clips in its memory (resident).

The limit is the machine's own rate: for the models, at a matmul of 2048 x 2048 in --model.dtype;
for the input, at copying memory. FLOPs are counted for direct convolution, so Winograd's
algorithm may exceed 100 %. All workloads of a model are timed in turns of a quarter of a second,
warmed up, and the median is reported, so that ratios hold on a busy machine too.
"""
TAKEN = {'model.conv': '--1d.batch_size=0 or --2d.batch_size=0'}


@dataclasses.dataclass(frozen=True)
class Size:
    """The batch of the 1-D model."""

    batch_size: int = option(32, 'clips per batch; 0 = leave out this model', minimum=0)
    frames: int = option(640, 'frames per clip', minimum=8)


@dataclasses.dataclass(frozen=True)
class ImageSize(Size):
    """The batch of the 2-D model, which takes 170 times as much work per clip."""

    batch_size: int = option(4, 'clips per batch; 0 = leave out this model', minimum=0)
    frames: int = option(320, 'frames per clip', minimum=8)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """The flags."""

    out: str = option('', 'JSON file to write the measurements to', is_path=True)
    peer: Literal['none', 'torch'] = option('none', 'also time the same model in PyTorch')
    compile: bool = option(
        True, 'with --peer=torch: also time torch.compile, which takes minutes to compile'
    )
    repeats: int = option(9, 'turns per workload', minimum=1)
    n_mels: int = option(128, 'mel bands', minimum=4)
    one: Size = section(Size, '1d.')
    two: ImageSize = section(ImageSize, '2d.')
    model: ModelConfig = section(ModelConfig, default=paper.MODEL)
    data: DataConfig = section(DataConfig, default=paper.DATA)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.model.kind != 'crnn':
            raise UsageError('--model.kind must be crnn, since both of its layers are timed')
        if self.model.front != 'conv':
            raise UsageError('--model.front must be conv, since its convolutions are timed')
        model = self.model
        ours = model.cell, model.norm, model.readout, model.dtype
        if self.peer == 'torch' and ours != ('simple', 'glr', 'mean', 'float32'):
            raise UsageError(
                '--peer=torch has only simple cells, GLR, the mean readout and float32; '
                'leave out --model.cell, --model.norm, --model.readout and --model.dtype'
            )
        if not self.one.batch_size and not self.two.batch_size:
            raise UsageError('--1d.batch_size=0 and --2d.batch_size=0 leave nothing to time')
        if self.one.batch_size:
            model.check_frames(self.one.frames, '1d.frames')
        if self.two.batch_size:
            model.check_frames(self.two.frames, '2d.frames')
            dataclasses.replace(model, conv='2d').check_bands(self.n_mels)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Throughput, USAGE)

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.throughput.workloads import COPIED, LABELS, MATMUL, gflops, limits, workloads
from experiments.timing import Workload, time_in_turns
from glr_jax import json_files
from glr_jax.cli import status
from glr_jax.data import batches, input_pipeline
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel
from glr_jax.errors import UserError


class Row(NamedTuple):
    """The measurements of one workload.

    Attributes:
      model: 1d or 2d; '' for the input.
      name: of the workload.
      clips: per call.
      gflop: per call; 0 for the input, which copies rather than computes.
      seconds: per call, the median.
      limit: seconds per call at the machine's own rate.
      peers: seconds per call of each variant of PyTorch.
    """

    model: str
    name: str
    clips: int
    gflop: float
    seconds: float
    limit: float
    peers: dict[str, float]


class Rates(NamedTuple):
    """The machine's own rates per second: arithmetic, and bytes read and written."""

    gflop: float
    gbyte: float


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Throughput, argv, USAGE)
    cli.refuse(argv, TAKEN)
    common.make_folder_of(study.out)
    dataset = open_dataset(study.data.dir) if study.data.dir else None
    if dataset:
        dataset.members(study.data.split, 'train')  # finds a wrong split before anything is timed
    rows, rates = [], {}
    sizes: dict[Literal['1d', '2d'], Size] = {'1d': study.one, '2d': study.two}
    for conv, size in sizes.items():
        if size.batch_size:
            rates[conv], rows_of_model = measure_model(study, conv, size)
            rows += rows_of_model
    if dataset:
        rows += measure_input(study, dataset)
    print(table(rows))
    for conv, rate in rates.items():
        print(f'{conv}: matmul {rate.gflop:.1f} GFLOP/s, copy {rate.gbyte:.1f} GB/s')
    if study.out:
        measured = {'machine': common.hardware(), 'rows': [row._asdict() for row in rows]}
        measured |= {'rates': {name: rate._asdict() for name, rate in rates.items()}}
        json_files.write(study.out, measured)
        status(f'wrote {study.out}')


def measure_model(
    study: Throughput, conv: Literal['1d', '2d'], size: Size
) -> tuple[Rates, list[Row]]:
    """The machine's rates and a model's rows: our workloads and the peer's, timed in turns."""
    config = dataclasses.replace(study.model, conv=conv)
    status(f'{conv}: compiling and warming up')
    sizes = size.batch_size, size.frames, study.n_mels
    theirs = peers(study, config, size)
    work, ours = gflops(config, *sizes), workloads(config, *sizes)
    variants = {'jax': limits(config.dtype) | ours} | theirs
    names = [*variants['jax']]
    everything = {
        (name, who): variants[who][name]
        for name in names
        for who in variants
        if name in variants[who]
    }
    seconds = time_in_turns(everything, study.repeats)
    rates = Rates(
        2 * MATMUL**3 / 1e9 / seconds['matmul', 'jax'], 2 * COPIED / 1e9 / seconds['copy', 'jax']
    )
    rows = []
    for name in ours:
        gflop = work[name.partition(',')[0]]
        by_peer = {who: seconds[name, who] for who in theirs if (name, who) in seconds}
        rows.append(
            Row(
                conv,
                name,
                size.batch_size,
                gflop,
                seconds[name, 'jax'],
                gflop / rates.gflop,
                by_peer,
            )
        )
    return rates, rows


def peers(study: Throughput, config: ModelConfig, size: Size) -> dict[str, dict[str, Workload]]:
    """PyTorch's workloads by variant: eager and compiled, on all cores and on half of them.

    Raises:
      UserError: PyTorch is not installed.
    """
    if study.peer == 'none':
        return {}
    try:
        from experiments.throughput import peer_torch
    except ModuleNotFoundError as error:
        raise UserError(f'--peer=torch needs PyTorch (pip install torch): {error}') from None
    cores, variants = common.hardware()['cores'], {}
    for compiled in (False, True) if study.compile else (False,):
        theirs = peer_torch.workloads(
            config, size.batch_size, size.frames, study.n_mels, LABELS, compiled=compiled
        )
        for threads in sorted({cores, max(1, cores // 2)}):
            variant = f'{"compiled" if compiled else "eager"}, {threads} threads'
            variants[variant] = {
                name: peer_torch.with_threads(run, threads) for name, run in theirs.items()
            }
    return variants


def measure_input(study: Throughput, dataset: Dataset) -> list[Row]:
    """The rows of the input: eight batches on a device, prefetched and mixed as in training."""
    clips, frames = dataset.members(study.data.split, 'train'), study.data.frames
    size, count = study.one.batch_size or study.two.batch_size, 8
    mesh = parallel.make_mesh(jax.devices()[:1])

    def workload(pipeline: input_pipeline.InputPipeline) -> Workload:
        assemble = jax.jit(pipeline.assemble)

        def send(step: int) -> Any:
            plan = batches.plan_batch(step, size, clips, seed=0, part=slice(size), mixup=0.4)
            return parallel.shard_batch(pipeline.payload(plan), mesh)

        sent = lambda: input_pipeline.prefetch(send, range(count))
        return lambda: [jax.block_until_ready(assemble(one, *pipeline.held)) for one in sent()]

    everything: dict[str, Workload] = {
        'input, streamed': workload(input_pipeline.streamed(dataset, frames)),
        'input, resident': workload(input_pipeline.resident(dataset, clips, frames, mesh)),
        'copy': np.ones(COPIED // 4, np.float32).copy,
    }
    seconds = time_in_turns(everything, study.repeats)
    copied = count * size * frames * dataset.n_mels * dataset.mel_dtype.itemsize
    limit = copied / COPIED * seconds.pop('copy')
    return [Row('', name, count * size, 0.0, median, limit, {}) for name, median in seconds.items()]


def table(rows: list[Row]) -> str:
    """The rows as text, with PyTorch's best variant of each, and how many times as fast JAX is."""
    head = f'{"":4}{"":16}{"clips/s":>10}{"GFLOP/s":>10}{"limit, clips/s":>16}{"reached":>9}'
    if any(row.peers for row in rows):
        head += f'{"torch, clips/s":>16}{"ratio":>7}  best of torch'
    lines = [head]
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
