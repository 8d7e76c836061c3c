"""Programs without the operations that not every format has."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from glr_jax.export.front_end import real_dft
from glr_jax.export.function import Function

# Operations that only select and arrange values: the same ones of the real and imaginary parts.
_SELECTING = ('broadcast_in_dim', 'copy', 'gather', 'reshape', 'slice', 'squeeze', 'transpose')


def portable(function: Function, *, unroll: bool = False) -> Function:
    """The same function, with Fourier transforms as matrix products.

    Only transforms of real values along the last axis, of which the real and the imaginary part
    are used. What a network computes differently on each platform, it computes as on CPUs.

    Args:
      function: of one array.
      unroll: write loops out, step by step.
    """

    def same(x: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(x)
        outputs = _run(closed.jaxpr, closed.consts, [x], unroll)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return same


def inner_program(equation: Any) -> Any:
    """The program that an equation merely calls (of `jit`, custom derivatives), or None."""
    if equation.primitive.name in ('scan', 'while', 'cond'):
        return None
    for name in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
        inner = equation.params.get(name)
        if isinstance(inner, ClosedJaxpr):
            return inner
        if isinstance(inner, Jaxpr):
            return ClosedJaxpr(inner, ())
    return None


def scan_counts(equation: Any) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried from step to step.

    JAX 0.10 has these numbers as parameters; later versions keep a tree of the inputs instead.
    """
    params = equation.params
    if 'num_consts' in params:
        return params['num_consts'], params['num_carry']
    consts, carries, _ = (len(group) for group in params['ft_in'].unpack())
    return consts, carries


def _for_cpus(platforms: Any) -> int:
    """Which branch of a choice between platforms is compiled for CPUs."""
    return next(k for k, names in enumerate(platforms) if names is None or 'cpu' in names)


def _bind(equation: Any, given: list[Any]) -> list[Any]:
    found = equation.primitive.bind(*given, **equation.params)
    return list(found) if equation.primitive.multiple_results else [found]


def _run(program: Jaxpr, constants: Any, inputs: Any, unroll: bool) -> list[Any]:
    values = dict(zip([*program.constvars, *program.invars], [*constants, *inputs], strict=True))
    read = lambda x: x.val if isinstance(x, Literal) else values[x]
    for equation in program.eqns:
        given, inner = [read(x) for x in equation.invars], inner_program(equation)
        name = equation.primitive.name
        if name == 'platform_index':
            outputs: list[Any] = [_for_cpus(equation.params['platforms'])]
        elif name == 'cond' and isinstance(given[0], int):
            chosen = equation.params['branches'][given[0]]
            outputs = _run(chosen.jaxpr, chosen.consts, given[1:], unroll)
        elif name == 'fft' and equation.params['fft_type'] == lax.FftType.RFFT:
            outputs = [real_dft(given[0])]
        elif name in ('real', 'imag') and isinstance(given[0], tuple):
            outputs = [given[0][name == 'imag']]
        elif inner is not None:
            outputs = _run(inner.jaxpr, inner.consts, given, unroll)
        elif name == 'scan' and unroll:
            outputs = _unroll(equation, given)
        elif given and isinstance(given[0], tuple) and name in _SELECTING:
            parts = [_bind(equation, [part, *given[1:]])[0] for part in given[0]]
            outputs = [tuple(parts)]
        else:
            given = [lax.complex(*x) if isinstance(x, tuple) else x for x in given]
            outputs = _bind(equation, given)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(x) for x in program.outvars]


def _unroll(equation: Any, given: list[Any]) -> list[Any]:
    params = equation.params
    body, (consts, carries) = params['jaxpr'], scan_counts(equation)
    carry, sequences = given[consts : consts + carries], given[consts + carries :]
    steps, rows = range(params['length']), []
    for step in reversed(steps) if params['reverse'] else steps:
        inputs = [*given[:consts], *carry, *(x[step] for x in sequences)]
        found = _run(body.jaxpr, body.consts, inputs, unroll=True)
        carry = found[:carries]
        rows.append(found[carries:])
    if params['reverse']:
        rows.reverse()
    return [*carry, *(jnp.stack(column) for column in zip(*rows, strict=True))]
