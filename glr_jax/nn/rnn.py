"""Recurrence with the norm inside: three cells, and the choice of how to compute them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from glr_jax import platforms
from glr_jax.errors import UserError
from glr_jax.nn.config import MAX_FUSED_HIDDEN, CellName, Recurrence
from glr_jax.nn.glr import glr

GATES: dict[CellName, int] = {'simple': 1, 'gru': 3, 'lstm': 4}
UNROLL = 8  # steps per iteration on accelerators; more start hardly fewer kernels
State = Float[Array, 'batch hidden']
PerGate = Float[Array, 'gates hidden']
GateInputs = Float[Array, 'batch gates hidden']
HiddenKernel = Float[Array, 'hidden gates hidden']
# (summed inputs, gain, bias, and perhaps the weights of mean and deviation) -> inputs of the
# non-linearity, as in norms.py
StepNorm = Callable[..., State]
# (summed inputs, which gates they belong to) -> inputs of the non-linearities
GateNorm = Callable[[GateInputs, slice], GateInputs]
# (states, inputs, hidden kernel, the norm's parameters) -> states after this step
Step = Callable[..., tuple[State, ...]]


def recur(
    cell: CellName,
    x: Float[Array, 'batch time gates hidden'],
    hidden_kernel: HiddenKernel,
    *parameters: PerGate,
    norm: StepNorm | None = None,
    implementation: Recurrence = 'auto',
) -> Float[Array, 'batch time hidden']:
    """Runs a cell over time, starting from a state of zeros.

    The one place that chooses how a recurrence is computed, separately for each platform that JAX
    compiles for: `scan`, `recomputing_scan`, or one fused kernel for all steps.

    Args:
      cell: simple (Eq. 5), gru or lstm.
      x: the inputs times the input kernel.
      hidden_kernel: multiplies the previous hidden state.
      *parameters: the norm's gain and bias, and its weights of mean and deviation, if it passes
        the level on.
      norm: normalises the summed inputs of each gate; None: they are used as they are.
      implementation: scan; fused; or auto: fused on a GPU where possible, else scan. Results
        differ only by rounding.

    Returns:
      The hidden state at every step.

    Raises:
      ValueError: `implementation` is 'fused', but this cell, norm or size has no fused kernel.
      UserError: it is 'fused', but this version of JAX, or this GPU, cannot compile the kernel.
    """
    fusible = cell == 'simple' and norm is glr and x.shape[-1] <= MAX_FUSED_HIDDEN
    if implementation == 'fused':
        if not fusible:
            raise ValueError(
                f'only the simple cell with GLR and at most {MAX_FUSED_HIDDEN} units has a fused '
                "kernel; use implementation='auto'"
            )
        if not (kernels := _fused_kernels()):
            raise UserError(
                f'--model.recurrence=fused needs Pallas, which jax {jax.__version__} lacks; use '
                '--model.recurrence=auto'
            )
        return _fused(kernels, None, x, hidden_kernel, *parameters)
    # The kernel compiles for TPUs too, but nobody has measured whether it beats the scan there.
    branches = {
        'default': functools.partial(recomputing_scan, cell, norm=norm),
        'cpu': functools.partial(scan, cell, norm=norm),
    }
    wanted = fusible and implementation == 'auto' and platforms.may_be('cuda')
    kernels = _fused_kernels() if wanted else None
    if kernels and (target := kernels.best_for_gpus(jax.local_devices())):
        branches['cuda'] = functools.partial(_fused, kernels, target)
    return platforms.dependent(x, hidden_kernel, *parameters, **branches)


def _fused_kernels() -> Any:
    """The module `fused_rnn`, or None in a version of JAX without Pallas."""
    try:
        from glr_jax.nn import fused_rnn  # takes a while, and most models do without
    except ImportError:
        return None
    return fused_rnn


def _fused(kernels: Any, target: Any, x: Array, hidden_kernel: Array, *parameters: Array) -> Array:
    vectors = (each[0] for each in parameters)
    return kernels.recur(x[:, :, 0], hidden_kernel[:, 0], *vectors, target=target)


def scan(
    cell: CellName,
    x: Float[Array, 'batch time gates hidden'],
    *weights: Array,
    norm: StepNorm | None,
) -> Float[Array, 'batch time hidden']:
    """`recur` as one `lax.scan` over time, for CPUs.

    Several steps per iteration would gain nothing there and take longer to compile.

    Args:
      cell: simple, gru or lstm.
      x: the inputs times the input kernel.
      *weights: the hidden kernel and the norm's parameters.
      norm: as for `recur`.

    Returns:
      The hidden state at every step.
    """
    step = _step(cell, norm)

    def advance(states: tuple[State, ...], x_t: GateInputs) -> tuple[tuple[State, ...], State]:
        states = step(states, x_t, *weights)
        return states, states[0]

    _, hidden = lax.scan(advance, _zeros(cell, x), jnp.swapaxes(x, 0, 1))
    return jnp.swapaxes(hidden, 0, 1)


def recomputing_scan(
    cell: CellName,
    x: Float[Array, 'batch time gates hidden'],
    *weights: Array,
    norm: StepNorm | None,
    unroll: int = UNROLL,
) -> Float[Array, 'batch time hidden']:
    """`scan` with a gradient for accelerators: a GPU starts about half as many kernels per step.

    The gradient of `scan` stores what each operation needs, one kernel each, and adds to the
    weights' gradients at every step. This one keeps only the states. Its loop recomputes a step
    and takes the gradient of the previous states; all else then follows for all steps at once. Like
    the fused kernels, it has no forward-mode derivative (`jax.jvp`).

    Args:
      cell: simple, gru or lstm.
      x: the inputs times the input kernel.
      *weights: the hidden kernel and the norm's parameters.
      norm: as for `recur`.
      unroll: steps per iteration of the loops.

    Returns:
      The hidden state at every step.
    """
    hidden = _run(_step(cell, norm), unroll, _zeros(cell, x), jnp.swapaxes(x, 0, 1), *weights)
    return jnp.swapaxes(hidden, 0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(step: Step, unroll: int, zeros: tuple[State, ...], x: Array, *weights: Array) -> Array:
    return _forward(step, unroll, zeros, x, *weights)[0]


def _forward(
    step: Step, unroll: int, zeros: tuple[State, ...], x: Array, *weights: Array
) -> tuple[Array, tuple]:
    def advance(states: tuple[State, ...], x_t: Array) -> Any:
        states = step(states, x_t, *weights)
        return states, states

    _, after = lax.scan(advance, zeros, x, unroll=unroll)
    before = jax.tree.map(lambda zero, rest: jnp.concatenate([zero[None], rest[:-1]]), zeros, after)
    return after[0], (before, x, *weights)


def _backward(step: Step, unroll: int, saved: tuple, dh: Array) -> tuple:
    before, x, *weights = saved

    def retreat(later: tuple[State, ...], here: tuple) -> Any:
        states, x_t, dh_t = here
        d_after = later[0] + dh_t, *later[1:]
        _, back = jax.vjp(lambda states: step(states, x_t, *weights), states)
        return back(d_after)[0], d_after

    nothing = jax.tree.map(lambda states: jnp.zeros_like(states[0]), before)
    d_zeros, d_after = lax.scan(retreat, nothing, (before, x, dh), reverse=True, unroll=unroll)
    every_step = lambda x, *weights: jax.vmap(lambda *t: step(*t, *weights))(before, x)
    return d_zeros, *jax.vjp(every_step, x, *weights)[1](d_after)


_run.defvjp(_forward, _backward)


def _step(cell: CellName, norm: StepNorm | None) -> Step:
    """One step of a cell."""
    of_cell = {'simple': _simple, 'gru': _gru, 'lstm': _lstm}[cell]

    def step(states: Any, x: GateInputs, kernel: HiddenKernel, *parameters: PerGate) -> Any:
        def gate_norm(a: GateInputs, gates: slice) -> GateInputs:
            if norm is None:
                return a
            over_gates = jax.vmap(norm, in_axes=(1, *[0] * len(parameters)), out_axes=1)
            return over_gates(a, *(each[gates] for each in parameters))

        return of_cell(states, x, kernel, gate_norm)

    return step


def _zeros(cell: CellName, x: Float[Array, 'batch time gates hidden']) -> tuple[State, ...]:
    """The states before the first step; an LSTM has two."""
    return (jnp.zeros((x.shape[0], x.shape[-1]), x.dtype),) * (2 if cell == 'lstm' else 1)


def _times(h: State, kernel: HiddenKernel) -> GateInputs:
    return jnp.einsum('bh,hgk->bgk', h, kernel)


def _simple(carry: Any, x: GateInputs, kernel: HiddenKernel, norm: GateNorm) -> tuple[State]:
    """Eq. 5: h = tanh(norm(U x + W h))."""
    (h,) = carry
    return (jnp.tanh(norm(x + _times(h, kernel), slice(None)))[:, 0],)


def _gru(carry: Any, x: GateInputs, kernel: HiddenKernel, norm: GateNorm) -> tuple[State]:
    """Cho et al. (2014); each gate's whole summed input is normalised, so r * h comes before W."""
    (h,) = carry
    first, last = slice(0, 2), slice(2, 3)
    gates = jax.nn.sigmoid(norm(x[:, first] + _times(h, kernel[:, first]), first))
    reset, update = gates[:, 0], gates[:, 1]
    proposal = jnp.tanh(norm(x[:, last] + _times(reset * h, kernel[:, last]), last))[:, 0]
    return ((1 - update) * proposal + update * h,)


def _lstm(carry: Any, x: GateInputs, kernel: HiddenKernel, norm: GateNorm) -> tuple[State, State]:
    """Hochreiter & Schmidhuber (1997) with a forget gate; gates i, f, g, o."""
    h, c = carry
    a = norm(x + _times(h, kernel), slice(None))
    write, forget, read = (jax.nn.sigmoid(a[:, k]) for k in (0, 1, 3))
    c = forget * c + write * jnp.tanh(a[:, 2])
    return read * jnp.tanh(c), c
