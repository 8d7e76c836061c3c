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
from glr_jax.nn.config import WINDOW, Conv, ModelConfig

USAGE = """
usage: python -m experiments.throughput [--peer=torch] [--all] [--data.dir=FOLDER] [--out=FILE]

Prints clips per second of the default network and of the paper's in 1-D and 2-D on one device: a
train step and inference. With --all, also the default network's statistics alone; forward and
backward, the paper's last convolution and recurrent layer alone (on a GPU also as a scan); and
PyTorch on half of the cores. With --data.dir, also of the input alone:
batches that the host reads and sends (streamed), and batches that the device cuts from clips in
its memory (resident). Each row is printed as soon as it is known. On 2 cores, --peer=torch takes
4 to 5 minutes, 2.5 once PyTorch has its compiled programs on disk, and much longer with --all.

The limit is the machine's own rate: for the models, at a matmul of 2048 x 2048 in --model.dtype;
for the input, at copying memory. FLOPs are counted for direct convolution, so Winograd's
algorithm may exceed 100 %. What a row compares (JAX, PyTorch and the machine's own rate) is timed
in turns of a quarter of a second, warmed up, and the median is reported, so that ratios hold on a
busy machine too. PyTorch runs in processes of its own. A workload that torch.compile has not
compiled after --compile_limit seconds is given up; its row says so.
"""
MODELS = 'default', '1d', '2d'
TAKEN = {'model.conv': '--1d.batch_size=0 or --2d.batch_size=0'}


@dataclasses.dataclass(frozen=True)
class Size:
    """The batch of the 1-D model."""

    batch_size: int = option(32, 'clips per batch; 0 = leave out this model', minimum=0)
    frames: int = option(640, 'frames per clip', minimum=8)


@dataclasses.dataclass(frozen=True)
class DefaultSize(Size):
    """The batch of the default network."""

    frames: int = option(384, 'frames per clip', minimum=WINDOW)


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
        True, 'with --peer=torch: also time torch.compile, which takes long to compile'
    )
    compile_limit: float = option(
        60.0, 'seconds that torch.compile may take per workload before it is given up', above=0
    )
    all: bool = option(False, 'also time the inner layers, and with --peer=torch half of the cores')
    repeats: int = option(5, 'turns per workload', minimum=1)
    n_mels: int = option(128, 'mel bands', minimum=4)
    default: DefaultSize = section(DefaultSize, 'default.')
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
        sizes = self.default, self.one, self.two
        if not any(size.batch_size for size in sizes):
            raise UsageError(
                '--default.batch_size=0, --1d.batch_size=0 and --2d.batch_size=0 leave nothing to '
                'time'
            )
        if self.one.batch_size:
            model.check_frames(self.one.frames, '1d.frames')
        if self.two.batch_size:
            model.check_frames(self.two.frames, '2d.frames')
            dataclasses.replace(model, conv='2d').check_bands(self.n_mels)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Throughput, USAGE)

import contextlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments.throughput import peer
from experiments.throughput.rows import Rates, Row, head, line
from experiments.throughput.shapes import Job, Variant
from experiments.throughput.workloads import COPIED, MATMUL, gflops, limits, workloads
from experiments.timing import NONE, Turn, Workload, medians, rounds_in_turns, warm_up
from glr_jax import json_files
from glr_jax.cli import status
from glr_jax.data import batches, input_pipeline
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel
from glr_jax.progress import Progress

USUAL = 'train step', 'inference'
INNER = 'convolution', 'recurrence'
INNER_OF_DEFAULT = ('statistics',)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Throughput, argv, USAGE)
    cli.refuse(argv, TAKEN)
    common.make_folder_of(study.out)
    dataset = open_dataset(study.data.dir) if study.data.dir else None
    if dataset:
        dataset.members(study.data.split, 'train')  # finds a wrong split before anything is timed
    if study.peer == 'torch':
        peer.check_installed()
    print(head(study.peer == 'torch'), flush=True)
    rows: list[Row] = []
    rates: dict[str, Rates] = {}
    sizes = zip(MODELS, (study.default, study.one, study.two), strict=True)
    for model, size in sizes:
        if size.batch_size:
            found = []
            for rates_of_row, row in measure_model(study, model, size):
                print(line(row), flush=True)
                found.append(rates_of_row)
                rows.append(row)
            rates[model] = Rates(*map(statistics.median, zip(*found, strict=True)))
    if dataset:
        rows += (of_input := measure_input(study, dataset))
        print(*map(line, of_input), sep='\n', flush=True)
    for model, rate in rates.items():
        print(f'{model}: matmul {rate.gflop:.1f} GFLOP/s, copy {rate.gbyte:.1f} GB/s')
    if study.out:
        measured = {'machine': common.hardware(), 'rows': [row._asdict() for row in rows]}
        measured |= {'rates': {name: rate._asdict() for name, rate in rates.items()}}
        json_files.write(study.out, measured)
        status(f'wrote {study.out}')


def measure_model(study: Throughput, model: str, size: Size) -> Iterator[tuple[Rates, Row]]:
    """A model's rows, each as soon as it is known, with the machine's rates at that time."""
    status(f'{model}: building the model')
    convs: dict[str, Conv] = {'1d': '1d', '2d': '2d'}
    config = ModelConfig()
    if model in convs:
        config = dataclasses.replace(study.model, conv=convs[model])
    inner = INNER if model in convs else INNER_OF_DEFAULT
    sizes = size.batch_size, size.frames, study.n_mels
    work, ours, own = gflops(config, *sizes), workloads(config, *sizes), limits(config.dtype)
    for name in USUAL + inner if study.all else USUAL:
        # Implementations of one layer are compared with each other, too.
        same = {other: run for other, run in ours.items() if other.partition(',')[0] == name}
        status(f'{model} {name}: compiling with JAX')
        warm_up(own | same)
        with contextlib.ExitStack() as stack:
            theirs, given_up = start_peers(study, config, size, (model, name), stack)
            seconds = timed(f'{model} {name}', own | same, study.repeats, theirs)
        rates = Rates(2 * MATMUL**3 / 1e9 / seconds['matmul'], 2 * COPIED / 1e9 / seconds['copy'])
        for other in same:
            row = Row(
                model=model,
                name=other,
                clips=size.batch_size,
                gflop=work[name],
                seconds=seconds[other],
                limit=work[name] / rates.gflop,
                peers={who: seconds[who] for who in theirs} if other == name else {},
                given_up=given_up if other == name else [],
            )
            yield rates, row


def start_peers(
    study: Throughput,
    config: ModelConfig,
    size: Size,
    names: tuple[str, str],
    stack: contextlib.ExitStack,
) -> tuple[dict[str, Turn], list[str]]:
    """Starts PyTorch's variants of a workload: eager and compiled.

    Args:
      study: the flags.
      config: the model.
      size: its batch.
      names: of the model and of the workload.
      stack: ends the processes when it is closed.

    Returns:
      The variants that run, and the names of those that were given up.
    """
    running: dict[str, Turn] = {}
    given_up: list[str] = []
    if study.peer == 'none':
        return running, given_up
    cores = common.hardware()['cores']
    counts = sorted({cores, max(1, cores // 2)}) if study.all else [cores]
    for compiled in (False, True) if study.compile else (False,):
        for threads in counts:
            variant = Variant(compiled, threads)
            way = 'torch.compile' if compiled else 'PyTorch, eager'
            what = f'{" ".join(names)}: {way}, {threads} threads'
            limit = f'compiling for at most {study.compile_limit:g} s'
            status(f'{what}: {limit if compiled else "starting"}')
            job = Job(config, size.batch_size, size.frames, study.n_mels, names[1], variant)
            try:
                turn = stack.enter_context(peer.running(job, study.compile_limit))
            except peer.GaveUp as error:
                status(f'{what}: {error}')
                given_up.append(str(variant))
            else:
                running[str(variant)] = turn
    return running, given_up


def timed(
    what: str,
    workloads: Mapping[str, Workload],
    repeats: int,
    elsewhere: Mapping[str, Turn] = NONE,
) -> dict[str, float]:
    """Median seconds per call of workloads that are compiled; shows the rounds that are done."""
    rounds = []
    with Progress(repeats, f'{what}: timing', 'round') as progress:
        for one in rounds_in_turns(workloads, repeats, elsewhere=elsewhere):
            rounds.append(one)
            progress.advance(1)
    return medians(rounds)


def measure_input(study: Throughput, dataset: Dataset) -> list[Row]:
    """The rows of the input: eight batches on a device, prefetched and mixed as in training."""
    clips, frames = dataset.members(study.data.split, 'train'), study.data.frames
    size, count = study.one.batch_size or study.two.batch_size or study.default.batch_size, 8
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
    status('input: compiling with JAX')
    warm_up(everything)
    seconds = timed('input', everything, study.repeats)
    copied = count * size * frames * dataset.n_mels * dataset.mel_dtype.itemsize
    limit = copied / COPIED * seconds.pop('copy')
    return [
        Row('', name, count * size, 0.0, median, limit, {}, []) for name, median in seconds.items()
    ]


if __name__ == '__main__':
    cli.execute(main)
