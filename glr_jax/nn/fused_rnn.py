"""The simple cell with GLR as one kernel that keeps the weights on the chip for all steps.

Under `lax.scan`, a GPU launches several small kernels per step and spends its time waiting for
them. Here, each program of one kernel takes its cases through all steps, and each program of
another takes their gradients back. Both are written once, in Pallas, and compile with Triton on a
GPU and with Mosaic on a TPU.

From jax 0.12 on, Pallas calls its Triton backend deprecated; Mosaic is to replace it on GPUs too.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu, triton
from jaxtyping import Float

from glr_jax.nn.glr import EPSILON

# Arrays inside the kernels: width is the number of units padded to a power of 2; cases is missing
# where a program takes a single case.
State = Float[Array, '*cases width']
Kernel = Float[Array, 'width width']
# Arrays outside them: batch is padded to a multiple of the cases per program.
Steps = Float[Array, 'time batch width']
Row = Float[Array, '1 width']


class Target(NamedTuple):
    """The kind of device that a kernel is built for.

    Attributes:
      cases: how many cases a program takes through time; None: one, as a vector.
      times: multiplies states by weights.
      options: keyword arguments of `pallas_call` for a number of padded units.
    """

    cases: int | None
    times: Callable[[State, Kernel], State]
    options: Callable[[int], dict[str, Any]]


def _in_registers(h: Float[Array, ' width'], kernel: Kernel) -> Float[Array, ' width']:
    """Multiplies the state of one case: even a small batch then occupies many multiprocessors.

    Tensor cores would need sixteen cases at once and would round float32. With a state [1, width]
    instead of a vector, Triton emits six times as many instructions and spills registers.
    """
    return (h[:, None] * kernel).sum(0)


def _on_matrix_unit(h: Float[Array, 'cases width'], kernel: Kernel) -> Float[Array, 'cases width']:
    return jnp.dot(h, kernel, precision=lax.Precision.HIGHEST)


def _for_triton(width: int) -> dict[str, Any]:
    warps = max(1, width**2 // (32 * 128))  # each thread holds 128 weights in its registers
    return {'compiler_params': triton.CompilerParams(num_warps=warps)}


def _for_mosaic(width: int) -> dict[str, Any]:
    return {'compiler_params': tpu.CompilerParams(vmem_limit_bytes=64 << 20)}


CUDA = Target(None, _in_registers, _for_triton)
TPU = Target(16, _on_matrix_unit, _for_mosaic)
INTERPRETED = Target(None, _in_registers, lambda width: {'interpret': True})


def compiles_for(devices: list[jax.Device]) -> bool:
    """Whether Triton supports all GPUs among these devices: compute capability 8.0 or above."""
    # Devices without a compute capability are not GPUs, so they never compile a GPU's branch.
    return all(float(getattr(device, 'compute_capability', 8)) >= 8 for device in devices)


def recur(
    x: Float[Array, 'batch time hidden'],
    kernel: Float[Array, 'hidden hidden'],
    gain: Float[Array, ' hidden'],
    bias: Float[Array, ' hidden'],
    *,
    target: Target | None = None,
) -> Float[Array, 'batch time hidden']:
    """The simple cell with GLR: h = tanh(glr(x + h kernel)), starting from a state of zeros.

    Args:
      x: the inputs times the input kernel, float32 or bfloat16. In both cases each step computes in
        float32, and the state it passes on is rounded to the type of `x`.
      kernel: multiplies the previous hidden state; at most MAX_FUSED_HIDDEN units.
      gain: GLR's gain.
      bias: GLR's bias.
      target: the kind of device to build for. None: the platform that JAX compiles for; on
        platforms other than GPU and TPU the kernels are interpreted.

    Returns:
      The hidden state at every step, with the type of `x`.
    """
    if target is None:
        for_target = lambda target: functools.partial(recur, target=target)
        return lax.platform_dependent(
            *(x, kernel, gain, bias),
            cuda=for_target(CUDA),
            tpu=for_target(TPU),
            default=for_target(INTERPRETED),
        )
    batch, _, hidden = x.shape
    more = pl.next_power_of_2(hidden) - hidden  # Triton accepts only powers of 2
    idle = -batch % (target.cases or 1)  # padding of the last program's cases
    steps = jnp.pad(x.swapaxes(0, 1), ((0, 0), (0, idle), (0, more)))
    vectors = (jnp.pad(vector, (0, more))[None] for vector in (gain, bias))
    h = _recur(steps, jnp.pad(kernel, (0, more)), *vectors, hidden, target)
    return h[:, :batch, :hidden].swapaxes(0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _recur(x: Steps, kernel: Kernel, gain: Row, bias: Row, hidden: int, target: Target) -> Steps:
    return _forward(x, kernel, gain, bias, hidden, target)[0]


def _forward(
    x: Steps, kernel: Kernel, gain: Row, bias: Row, hidden: int, target: Target
) -> tuple[Steps, tuple[Array, ...]]:
    every_step, *weights = _blocks(x, target)
    h, summed = pl.pallas_call(
        functools.partial(_forward_kernel, hidden, target.times),
        grid=(x.shape[1] // (target.cases or 1),),
        in_specs=[every_step, *weights],
        out_specs=[every_step, every_step],
        out_shape=[_like(x), _like(x, jnp.float32)],
        **target.options(x.shape[-1]),
    )(x, kernel, gain, bias)
    return h, (h, summed, kernel, gain, bias)


def _backward(
    hidden: int, target: Target, saved: tuple[Array, ...], dh: Steps
) -> tuple[Steps, Kernel, Row, Row]:
    h, summed, kernel, gain, bias = saved
    every_step, *weights = _blocks(h, target)
    per_case = pl.BlockSpec((target.cases, h.shape[-1]), lambda k: (k, 0))
    da, dgain, dbias = pl.pallas_call(
        functools.partial(_backward_kernel, hidden, target.times),
        grid=(h.shape[1] // (target.cases or 1),),
        in_specs=[every_step, every_step, *weights],
        out_specs=[every_step, per_case, per_case],
        out_shape=[_like(h), *2 * [_like(h[0], jnp.float32)]],
        **target.options(h.shape[-1]),
    )(summed, dh, kernel.T, gain, bias)
    # All steps and cases at once: summing on the chip would need twice as many registers.
    dkernel = jnp.einsum('tbj,tbk->jk', h[:-1], da[1:], precision=lax.Precision.HIGHEST)
    return da, dkernel, dgain.sum(0, keepdims=True), dbias.sum(0, keepdims=True)


_recur.defvjp(_forward, _backward)


def _blocks(x: Steps, target: Target) -> tuple[pl.BlockSpec, ...]:
    """The blocks that a program sees of the inputs, the kernel, the gain and the bias."""
    time, _, width = x.shape
    vector = pl.BlockSpec((target.cases and 1, width), lambda k: (0, 0))
    return (
        pl.BlockSpec((time, target.cases, width), lambda k: (0, k, 0)),
        pl.BlockSpec((width, width), lambda k: (0, 0)),
        vector,
        vector,
    )


def _like(x: Array, dtype: Any = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, dtype or x.dtype)


def _cell(a: State, gain: State, bias: State, hidden: int) -> State:
    """tanh(glr(a)); the units from `hidden` on are padding."""
    unit = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1)
    centred = jnp.where(unit < hidden, a - a.sum(-1, keepdims=True) / hidden, 0)
    variance = jnp.square(centred).sum(-1, keepdims=True) / hidden
    return jnp.tanh(centred * lax.rsqrt(variance + EPSILON) * gain + bias)


def _forward_kernel(
    hidden: int, times: Callable, x_ref: Any, kernel_ref: Any, gain_ref: Any, bias_ref: Any,
    h_ref: Any, summed_ref: Any
) -> None:  # fmt: skip
    """Takes a program's cases from the first step to the last; `_backward` reads `summed_ref`."""
    steps, *state = x_ref.shape
    kernel, gain, bias = _read(state, kernel_ref, gain_ref, bias_ref)

    def step(t: Array, carry: tuple[State, State]) -> tuple[State, State]:
        h, x = carry
        following = x_ref[jnp.minimum(t + 1, steps - 1)]  # loads while this step computes
        a = x.astype(jnp.float32) + times(h, kernel)
        h = _cell(a, gain, bias, hidden).astype(h_ref.dtype)
        h_ref[t], summed_ref[t] = h, a
        return h.astype(jnp.float32), following

    lax.fori_loop(0, steps, step, (jnp.zeros(state, jnp.float32), x_ref[0]))


def _backward_kernel(
    hidden: int, times: Callable, summed_ref: Any, dh_ref: Any, kernel_ref: Any, gain_ref: Any,
    bias_ref: Any, da_ref: Any, dgain_ref: Any, dbias_ref: Any
) -> None:  # fmt: skip
    """Takes the gradients from the last step to the first; `kernel_ref` is transposed."""
    steps, *state = dh_ref.shape
    kernel, gain, bias = _read(state, kernel_ref, gain_ref, bias_ref)
    cell = functools.partial(_cell, hidden=hidden)

    def step(k: Array, carry: tuple[State, ...]) -> tuple[State, ...]:
        from_later, dgain, dbias, a, dh = carry
        t = steps - 1 - k
        before = jnp.maximum(t - 1, 0)
        following = summed_ref[before], dh_ref[before]
        da, more_gain, more_bias = jax.vjp(cell, a, gain, bias)[1](dh + from_later)
        da_ref[t] = da.astype(da_ref.dtype)
        return times(da, kernel), dgain + more_gain, dbias + more_bias, *following

    nothing = jnp.zeros(state, jnp.float32)
    last = summed_ref[steps - 1], dh_ref[steps - 1]
    _, dgain_ref[...], dbias_ref[...], *_ = lax.fori_loop(0, steps, step, (*3 * [nothing], *last))


def _read(state: list[int], kernel_ref: Any, *vector_refs: Any) -> tuple[Array, ...]:
    """The kernel in float32, and the gain and bias repeated for every case."""
    kernel = kernel_ref[...].astype(jnp.float32)
    return kernel, *(jnp.broadcast_to(ref[...], state) for ref in vector_refs)
