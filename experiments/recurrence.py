"""The fused recurrence against the scan: first whether they are equal, then how fast each is.

`python -m experiments.recurrence`, on a GPU
"""

import dataclasses

from glr_jax import cli
from glr_jax.fields import option
from glr_jax.nn.config import MAX_FUSED_HIDDEN

USAGE = """
usage: python -m experiments.recurrence [--flag=value ...]

Compares the hidden states and gradients of the fused kernel (glr_jax/nn/fused_rnn.py) with those of
`lax.scan` at several sizes, and stops if they differ. Then times both in turns, warmed up, and
prints the medians. On a CPU the kernel is interpreted, so its time there says nothing about a GPU.
"""
HEADER = ['type', 'clips', 'pass', 'scan, µs', 'kernel, µs', 'scan / kernel']
TOLERANCES = {'float32': 1e-4, 'bfloat16': 2**-4}  # relative to the largest value
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
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.common import hardware, in_words
from experiments.tables import markdown
from experiments.timing import Workload, time_in_turns
from glr_jax.cli import status
from glr_jax.errors import UserError
from glr_jax.nn import fused_rnn, rnn
from glr_jax.nn.glr import glr


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Study, argv, USAGE)
    for dtype in TOLERANCES:
        for sizes in (*SIZES, (32, study.steps, study.hidden)):
            check(*sizes, dtype)
    rows = [
        [dtype, str(batch), name, *cells]
        for dtype in TOLERANCES
        for batch in study.batches
        for name, cells in measure(study, batch, dtype).items()
    ]
    machine = hardware()
    print(f'{in_words(machine)}; load average {machine["load"]:.1f}')
    print(markdown(HEADER, rows))


def scan(
    x: Float[Array, 'batch time hidden'],
    kernel: Float[Array, 'hidden hidden'],
    gain: Float[Array, ' hidden'],
    bias: Float[Array, ' hidden'],
) -> Float[Array, 'batch time hidden']:
    """What `fused_rnn.recur` must equal."""
    norm = lambda a, gates: glr(a[:, 0], gain, bias)[:, None]
    return rnn.scan('simple', x[:, :, None], kernel[:, None], norm)


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


def check(batch: int, steps: int, hidden: int, dtype: str) -> None:
    """Prints how far the kernel is from the scan in float32.

    Raises:
      UserError: it is too far.
    """
    arguments = draw(batch, steps, hidden, dtype)
    exact = [a.astype(jnp.float32) for a in arguments]
    with jax.default_matmul_precision('highest'):  # a GPU would round float32 to 10 bits
        found = jax.jit(functools.partial(with_gradients, fused_rnn.recur))(*arguments)
        expected = jax.jit(functools.partial(with_gradients, scan))(*exact)
    errors = [
        float(jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-6))
        for a, b in zip(found, expected, strict=True)
    ]
    worst = f'{batch} x {steps} x {hidden}, {dtype}: off by {max(errors):.1e} of the largest value'
    status(worst)
    if not all(error < TOLERANCES[dtype] for error in errors):
        raise UserError(f'the kernel is not equal to the scan: {worst}')


def measure(study: Study, batch: int, dtype: str) -> dict[str, list[str]]:
    """Times scan and kernel.

    Returns:
      For each pass, the cells of its row: microseconds of the scan and of the kernel, their ratio.
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
    recurrences: dict[str, Callable] = {'scan': scan, 'kernel': fused_rnn.recur}
    seconds = time_in_turns(
        {
            (name, which): workload(of(recur))
            for name, of in passes.items()
            for which, recur in recurrences.items()
        },
        study.repeats,
    )
    return {
        name: [
            *(f'{1e6 / TOGETHER * seconds[name, which]:,.0f}' for which in recurrences),
            f'{seconds[name, "scan"] / seconds[name, "kernel"]:.2f}',
        ]
        for name in passes
    }


if __name__ == '__main__':
    cli.execute(main)
