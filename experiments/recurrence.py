"""The recurrence as one kernel beside the scan: first that they are equal, then how fast.

`python -m experiments.recurrence`, on a GPU
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.common import hardware, markdown, time_in_turns
from glr_jax import cli
from glr_jax.cli import status
from glr_jax.config import MAX_FUSED_HIDDEN
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option
from glr_jax.nn import fused_rnn, rnn
from glr_jax.nn.glr import glr

USAGE = """
usage: python -m experiments.recurrence [--flag=value ...]

Compares states and gradients of the kernel in glr_jax/fused.py with those of `lax.scan`, on sizes
of every kind, and stops where they differ. Then times both in turns, warmed up, and prints the
medians. On a CPU the kernel is interpreted: that says nothing of its speed.
"""
HEADER = ['type', 'clips', 'pass', 'scan, us', 'kernel, us', 'times as fast']
TOLERANCES = {'float32': 1e-4, 'bfloat16': 2**-4}  # beside the largest value
SIZES = [(1, 1, 8), (3, 33, 100), (17, 2, 128)]  # clips, steps, units
TOGETHER = 10  # runs that are waited for together, so that starting them is not what is timed


@dataclasses.dataclass(frozen=True)
class Study:
    """What the command line says."""

    batches: tuple[int, ...] = option((32, 128, 512), 'clips', 1)
    steps: int = option(160, 'of time: 640 frames, pooled twice by 2', minimum=1)
    hidden: int = option(96, 'units', minimum=1)
    repeats: int = option(15, 'turns that each has', minimum=1)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Study, argv, USAGE)
    if study.hidden > MAX_FUSED_HIDDEN:
        raise UsageError(f'--hidden={study.hidden}: the kernel has at most {MAX_FUSED_HIDDEN}')
    for dtype in TOLERANCES:
        for sizes in (*SIZES, (32, study.steps, study.hidden)):
            check(*sizes, dtype)
    rows = [
        [dtype, str(batch), name, *cells]
        for dtype in TOLERANCES
        for batch in study.batches
        for name, cells in measure(study, batch, dtype).items()
    ]
    print(', '.join(f'{key} {value}' for key, value in hardware().items()))
    print(markdown(HEADER, rows))


def scan(x: Array, kernel: Array, gain: Array, bias: Array) -> Array:
    """What `fused_rnn.recur` is to be equal to."""
    norm = lambda a, gates: glr(a[:, 0], gain, bias)[:, None]
    return rnn.scan('simple', x[:, :, None], kernel[:, None], norm)


def draw(batch: int, steps: int, hidden: int, dtype: str) -> tuple[Array, ...]:
    """Inputs, kernel, gain and bias."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    x, kernel = normal(batch, steps, hidden), normal(hidden, hidden) / np.sqrt(hidden)
    return x.astype(dtype), kernel.astype(dtype), 1 + 0.1 * normal(hidden), 0.1 * normal(hidden)


def with_gradients(recur: Callable[..., Array], *arguments: Array) -> tuple[Array, ...]:
    """The states, and the gradients of all arguments under weights of about 1."""
    states, back = jax.vjp(recur, *arguments)
    weights = jnp.cos(jnp.arange(states.size)).reshape(states.shape)
    return states, *back(weights.astype(states.dtype))


def check(batch: int, steps: int, hidden: int, dtype: str) -> None:
    """Says how far the kernel is from the scan in float32.

    Raises:
      UserError: too far.
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
    """Microseconds of scan and kernel, and their ratio, of each pass."""
    status(f'{batch} clips, {dtype}: timing')
    arguments = draw(batch, study.steps, study.hidden, dtype)

    def task(function: Callable[..., object]) -> Callable[[], object]:
        run = jax.jit(function)
        return lambda: jax.block_until_ready([run(*arguments) for _ in range(TOGETHER)])

    ways: dict[str, Callable[..., Array]] = {'scan': scan, 'kernel': fused_rnn.recur}
    seconds = time_in_turns(
        {
            'forward': {name: task(way) for name, way in ways.items()},
            'forward and gradients': {
                name: task(functools.partial(with_gradients, way)) for name, way in ways.items()
            },
        },
        study.repeats,
    )
    return {
        name: [
            *(f'{1e6 / TOGETHER * each[way]:,.0f}' for way in ways),
            f'{each["scan"] / each["kernel"]:.2f}',
        ]
        for name, each in seconds.items()
    }


if __name__ == '__main__':
    cli.execute(main)
