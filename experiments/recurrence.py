"""Ways to compute the recurrence on a GPU: first whether they are equal, then how fast each is.

`python -m experiments.recurrence`, on a GPU
"""

import dataclasses

from glr_jax import cli
from glr_jax.fields import option
from glr_jax.nn.config import MAX_FUSED_HIDDEN, DType, Recurrence

USAGE = """
usage: python -m experiments.recurrence [--flag=value ...]

Checks every way to compute the recurrence of simple cells with GLR, and stops if its hidden states
or gradients differ from those of `lax.scan`: the scan that recomputes its steps
(glr_jax/nn/rnn.py), and the fused kernel (glr_jax/nn/fused_rnn.py) with each of Pallas' backends
for this GPU. Then times them in turns, warmed up, and prints the medians. On a GPU, also times the
train step of the paper's model with --model.recurrence=scan and auto. On a CPU the kernel is
interpreted, so its time there says nothing about a GPU.
"""
HEADER = ['type', 'clips', 'pass']
TRAIN_HEADER = ['type', 'scan, ms', 'auto, ms', 'scan / auto']
TOLERANCES: dict[DType, float] = {
    'float32': 1e-4,
    'bfloat16': 2**-4,
}  # relative to the largest value
SIZES = [(1, 1, 8), (3, 33, 100), (17, 2, 128)]  # clips, steps, units
TOGETHER = 10  # calls to wait for together, so that the time to start a call does not count


@dataclasses.dataclass(frozen=True)
class Study:
    """The flags."""

    batches: tuple[int, ...] = option((32, 128, 512), 'clips per batch, each timed', minimum=1)
    steps: int = option(160, 'time steps; the default is 640 frames pooled by 2 twice', minimum=1)
    hidden: int = option(96, 'units in the layer', minimum=1, maximum=MAX_FUSED_HIDDEN)
    repeats: int = option(15, 'turns of each', minimum=1)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Study, USAGE)

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import paper
from experiments.common import N_MELS, hardware, in_words
from experiments.tables import markdown
from experiments.throughput.workloads import workloads
from experiments.timing import Workload, time_in_turns
from glr_jax.cli import status
from glr_jax.errors import UserError
from glr_jax.nn import fused_rnn, rnn
from glr_jax.nn.glr import glr


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Study, argv, USAGE)
    recurrences = ways()
    for dtype in TOLERANCES:
        for sizes in (*SIZES, (32, study.steps, study.hidden)):
            for name, recur in recurrences.items():
                check(name, recur, *sizes, dtype)
    rows = [
        [dtype, str(batch), name, *cells]
        for dtype in TOLERANCES
        for batch in study.batches
        for name, cells in measure(recurrences, study, batch, dtype).items()
    ]
    machine = hardware()
    print(f'{in_words(machine)}; load average {machine["load"]:.1f}')
    print(markdown([*HEADER, *(f'{name}, µs' for name in recurrences)], rows))
    if jax.default_backend() == 'gpu':
        print(markdown(TRAIN_HEADER, [train_step(study, dtype) for dtype in TOLERANCES]))


def ways() -> dict[str, Callable[..., Array]]:
    """Every way to compute `scan` on the devices of this machine, and `scan` itself."""
    targets: Mapping[str, fused_rnn.Target | None] = {'kernel': None}
    if jax.default_backend() == 'gpu':
        targets = fused_rnn.for_gpus(jax.local_devices())
    kernels = {
        name: functools.partial(fused_rnn.recur, target=target) for name, target in targets.items()
    }
    return {'scan': scan, 'recomputing scan': recomputing_scan, **kernels}


def scan(
    x: Float[Array, 'batch time hidden'],
    kernel: Float[Array, 'hidden hidden'],
    gain: Float[Array, ' hidden'],
    bias: Float[Array, ' hidden'],
) -> Float[Array, 'batch time hidden']:
    """What every way must equal: steps by `lax.scan`, with the gradient that JAX derives."""
    return rnn.scan('simple', x[:, :, None], kernel[:, None], gain[None], bias[None], norm=glr)


def recomputing_scan(x: Array, kernel: Array, gain: Array, bias: Array) -> Array:
    """The same by `rnn.recomputing_scan`."""
    weights = kernel[:, None], gain[None], bias[None]
    return rnn.recomputing_scan('simple', x[:, :, None], *weights, norm=glr)


def draw(batch: int, steps: int, hidden: int, dtype: str) -> tuple[Array, ...]:
    """Random arguments of `scan`."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    x, kernel = normal(batch, steps, hidden), normal(hidden, hidden) / np.sqrt(hidden)
    return x.astype(dtype), kernel.astype(dtype), 1 + 0.1 * normal(hidden), 0.1 * normal(hidden)


def with_gradients(recur: Callable[..., Array], *arguments: Array) -> tuple[Array, ...]:
    """The hidden states, and the gradients of all arguments for cotangents of about 1."""
    states, back = jax.vjp(recur, *arguments)
    weights = jnp.cos(jnp.arange(states.size)).reshape(states.shape)
    return states, *back(weights.astype(states.dtype))


def check(
    name: str, recur: Callable[..., Array], batch: int, steps: int, hidden: int, dtype: DType
) -> None:
    """Prints how far one way is from the scan in float32.

    Raises:
      UserError: it is too far.
    """
    arguments = draw(batch, steps, hidden, dtype)
    exact = [a.astype(jnp.float32) for a in arguments]
    with jax.default_matmul_precision('highest'):  # a GPU would round float32 to 10 bits
        found = jax.jit(functools.partial(with_gradients, recur))(*arguments)
        expected = jax.jit(functools.partial(with_gradients, scan))(*exact)
    errors = [
        float(jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-6))
        for a, b in zip(found, expected, strict=True)
    ]
    size = f'{name}, {batch} x {steps} x {hidden}, {dtype}'
    worst = f'{size}: off by {max(errors):.1e} of the largest value'
    status(worst)
    if not all(error < TOLERANCES[dtype] for error in errors):
        raise UserError(f'not equal to the scan: {worst}')


def measure(
    recurrences: dict[str, Callable[..., Array]], study: Study, batch: int, dtype: str
) -> dict[str, list[str]]:
    """Times all ways.

    Returns:
      For each pass, the cells of its row: microseconds of each way, and times faster than the scan.
    """
    status(f'{batch} clips, {dtype}: timing')
    arguments = draw(batch, study.steps, study.hidden, dtype)

    def workload(function: Callable[..., object]) -> Workload:
        run = jax.jit(function)
        return lambda: jax.block_until_ready([run(*arguments) for _ in range(TOGETHER)])

    passes: dict[str, Callable] = {
        'forward': lambda recur: recur,
        'forward and gradients': lambda recur: functools.partial(with_gradients, recur),
    }
    seconds = time_in_turns(
        {
            (name, which): workload(of(recur))
            for name, of in passes.items()
            for which, recur in recurrences.items()
        },
        study.repeats,
    )

    def cell(name: str, which: str) -> str:
        ratio = seconds[name, 'scan'] / seconds[name, which]
        return f'{1e6 / TOGETHER * seconds[name, which]:,.0f} ({ratio:.2f} ×)'

    return {name: [cell(name, which) for which in recurrences] for name in passes}


def train_step(study: Study, dtype: DType) -> list[str]:
    """Times the train step of the paper's model with the scan and with what `auto` chooses."""
    status(f'train step, {dtype}: timing')
    choices: tuple[Recurrence, ...] = ('scan', 'auto')
    models = {
        choice: dataclasses.replace(paper.MODEL, dtype=dtype, recurrence=choice)
        for choice in choices
    }
    clips, frames = paper.TRAIN.batch_size, paper.DATA.frames
    seconds = time_in_turns(
        {
            choice: workloads(model, clips, frames, N_MELS)['train step']
            for choice, model in models.items()
        },
        study.repeats,
    )
    ratio = seconds['scan'] / seconds['auto']
    return [dtype, *(f'{1e3 * seconds[choice]:.2f}' for choice in choices), f'{ratio:.2f}']


if __name__ == '__main__':
    cli.execute(main)
