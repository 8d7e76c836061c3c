"""Recurrence with the norm inside: three cells, and the choice of how to compute them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from glr_jax import platforms
from glr_jax.nn.config import MAX_FUSED_HIDDEN, CellName, Recurrence
from glr_jax.nn.glr import glr

GATES: dict[CellName, int] = {'simple': 1, 'gru': 3, 'lstm': 4}
State = Float[Array, 'batch hidden']
PerUnit = Float[Array, ' hidden']
PerGate = Float[Array, 'gates hidden']
GateInputs = Float[Array, 'batch gates hidden']
HiddenKernel = Float[Array, 'hidden gates hidden']
# (summed inputs, gain, bias, and perhaps the weights of mean and deviation) -> inputs of the
# non-linearity, as in norms.py
StepNorm = Callable[..., State]
# (summed inputs, which gates they belong to) -> inputs of the non-linearities
GateNorm = Callable[[GateInputs, slice], GateInputs]


def recur(
    cell: CellName,
    x: Float[Array, 'batch time gates hidden'],
    hidden_kernel: HiddenKernel,
    gain: PerGate | None = None,
    bias: PerGate | None = None,
    *level: PerGate,
    norm: StepNorm | None = None,
    implementation: Recurrence = 'auto',
) -> Float[Array, 'batch time hidden']:
    """Runs a cell over time, starting from a state of zeros.

    The one place that chooses how a recurrence is computed, separately for each platform that JAX
    compiles for: `lax.scan`, or one fused kernel for all steps.

    Args:
      cell: simple (Eq. 5), gru or lstm.
      x: the inputs times the input kernel.
      hidden_kernel: multiplies the previous hidden state.
      gain: the norm's gain.
      bias: the norm's bias.
      *level: its weights of mean and deviation, if it passes the level on.
      norm: normalises the summed inputs of each gate; None: they are used as they are.
      implementation: scan; fused; or auto: fused on a GPU where possible, else scan. Results are
        the same.

    Returns:
      The hidden state at every step.

    Raises:
      ValueError: `implementation` is 'fused', but this cell, norm or size has no fused kernel.
    """
    if norm is None or gain is None or bias is None:
        gate_norm: GateNorm = lambda a, gates: a
        norm_parameters: tuple[PerUnit, ...] = ()
    else:
        parameters = gain, bias, *level
        over_gates = jax.vmap(norm, in_axes=(1, *[0] * len(parameters)), out_axes=1)
        gate_norm = lambda a, gates: over_gates(a, *(each[gates] for each in parameters))
        norm_parameters = gain[0], bias[0]
    scanned = functools.partial(scan, cell, norm=gate_norm)
    fusible = cell == 'simple' and norm is glr and x.shape[-1] <= MAX_FUSED_HIDDEN

    def fused(x: Array, hidden_kernel: Array, target: Any = None) -> Array:
        from glr_jax.nn import fused_rnn

        return fused_rnn.recur(x[:, :, 0], hidden_kernel[:, 0], *norm_parameters, target=target)

    if implementation == 'fused':
        if not fusible:
            raise ValueError(
                f'only the simple cell with GLR and at most {MAX_FUSED_HIDDEN} units has a fused '
                "kernel; use implementation='auto'"
            )
        return fused(x, hidden_kernel)
    # The kernel compiles for TPUs too, but nobody has measured whether it beats the scan there.
    branches = {'cpu': functools.partial(scanned, unroll=1)}
    if fusible and implementation == 'auto' and platforms.may_be('cuda'):
        from glr_jax.nn import fused_rnn  # and Pallas, which a CPU does not need

        if fused_rnn.compiles_for(jax.local_devices()):
            branches['cuda'] = functools.partial(fused, target=fused_rnn.CUDA)
    return platforms.dependent(x, hidden_kernel, default=scanned, **branches)


def scan(
    cell: CellName,
    x: Float[Array, 'batch time gates hidden'],
    hidden_kernel: HiddenKernel,
    norm: GateNorm,
    *,
    unroll: int = 8,
) -> Float[Array, 'batch time hidden']:
    """`recur` as one `lax.scan` over time.

    Args:
      cell: simple, gru or lstm.
      x: the inputs times the input kernel.
      hidden_kernel: multiplies the previous hidden state.
      norm: normalises the summed inputs of some gates.
      unroll: steps per iteration of the loop. By the compiler's estimate, 8 saves a fifth of the
        time on a TPU. A CPU gains nothing and takes longer to compile.

    Returns:
      The hidden state at every step.
    """
    step, carries = {'simple': (_simple, 1), 'gru': (_gru, 1), 'lstm': (_lstm, 2)}[cell]
    zeros = jnp.zeros((x.shape[0], x.shape[-1]), x.dtype)

    def advance(carry: tuple[State, ...], x_t: GateInputs) -> tuple[tuple[State, ...], State]:
        carry = step(carry, x_t, hidden_kernel, norm)
        return carry, carry[0]

    _, hidden = lax.scan(advance, (zeros,) * carries, jnp.swapaxes(x, 0, 1), unroll=unroll)
    return jnp.swapaxes(hidden, 0, 1)


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
