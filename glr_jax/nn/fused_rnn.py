"""The simple cell with GLR as one kernel: the weights stay on the chip from first step to last.

Under `lax.scan` a GPU starts several small kernels for every step, and waiting for them is all it
does. Here a program of one kernel takes its cases through all steps, and one of another takes their
gradients back. Written once, in Pallas, for Triton on a GPU and Mosaic on a TPU.

From jax 0.12 on, Pallas calls its Triton backend deprecated: the next will be Mosaic on GPUs, too.
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


class Target(NamedTuple):
    """What a kernel is made for.

    Attributes:
      cases: that a program takes through time; None: one, as a vector.
      times: states [cases, hidden] or [hidden] times weights.
      options: of `pallas_call`, given how many units it is padded to.
    """

    cases: int | None
    times: Callable[[Array, Array], Array]
    options: Callable[[int], dict[str, Any]]


def _in_registers(h: Array, kernel: Array) -> Array:
    """One case a program, as a vector, so that a small batch is on many multiprocessors at once.

    Tensor cores would want sixteen cases together, and float32 rounded; and of [1, hidden] in place
    of a vector Triton makes six times as many instructions, and spills registers.
    """
    return (h[:, None] * kernel).sum(0)


def _on_matrix_unit(h: Array, kernel: Array) -> Array:
    return jnp.dot(h, kernel, precision=lax.Precision.HIGHEST)


def _for_triton(width: int) -> dict[str, Any]:
    warps = max(1, width**2 // (32 * 128))  # each thread has 128 weights in its registers
    return {'compiler_params': triton.CompilerParams(num_warps=warps)}


def _for_mosaic(width: int) -> dict[str, Any]:
    return {'compiler_params': tpu.CompilerParams(vmem_limit_bytes=64 << 20)}


CUDA = Target(None, _in_registers, _for_triton)
TPU = Target(16, _on_matrix_unit, _for_mosaic)
INTERPRETED = Target(None, _in_registers, lambda width: {'interpret': True})


def compiles_for(devices: list[jax.Device]) -> bool:
    """Whether Triton compiles for GPUs like these; it does from compute capability 8.0 on."""
    # Other devices have none, and no branch that is meant for a GPU is compiled for them.
    return all(float(getattr(device, 'compute_capability', 8)) >= 8 for device in devices)


def recur(
    x: Float[Array, 'batch time hidden'],
    kernel: Float[Array, 'hidden hidden'],
    gain: Float[Array, ' hidden'],
    bias: Float[Array, ' hidden'],
    *,
    target: Target | None = None,
) -> Float[Array, 'batch time hidden']:
    """`rnn.recur` of the simple cell with GLR: h = tanh(glr(x + h kernel)), from a state of zeros.

    Args:
      x: the inputs times the input kernel, float32 or bfloat16. Whatever it is, the arithmetic of a
        step is float32, and the state is carried as it is returned.
      kernel: what the last hidden state is multiplied by; at most MAX_FUSED_HIDDEN units.
      gain: of GLR.
      bias: of GLR.
      target: what the kernels are made for. None: the platform that is compiled for; they are
        interpreted where that is neither a GPU nor a TPU.

    Returns:
      The hidden state at every step, of the type of `x`.
    """
    if target is None:
        way = lambda target: functools.partial(recur, target=target)
        return lax.platform_dependent(
            x, kernel, gain, bias, cuda=way(CUDA), tpu=way(TPU), default=way(INTERPRETED)
        )
    batch, _, hidden = x.shape
    more = pl.next_power_of_2(hidden) - hidden  # Triton takes no other sizes
    idle = -batch % (target.cases or 1)  # cases of the last program
    steps = jnp.pad(x.swapaxes(0, 1), ((0, 0), (0, idle), (0, more)))
    vectors = (jnp.pad(vector, (0, more))[None] for vector in (gain, bias))
    h = _recur(steps, jnp.pad(kernel, (0, more)), *vectors, hidden, target)
    return h[:, :batch, :hidden].swapaxes(0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _recur(
    x: Array, kernel: Array, gain: Array, bias: Array, hidden: int, target: Target
) -> Float[Array, 'time batch width']:
    return _forward(x, kernel, gain, bias, hidden, target)[0]


def _forward(
    x: Array, kernel: Array, gain: Array, bias: Array, hidden: int, target: Target
) -> tuple[Array, tuple[Array, ...]]:
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
    hidden: int, target: Target, saved: tuple[Array, ...], dh: Array
) -> tuple[Array, Array, Array, Array]:
    h, summed, kernel, gain, bias = saved
    every_step, *weights = _blocks(h, target)
    a_case = pl.BlockSpec((target.cases, h.shape[-1]), lambda k: (k, 0))
    da, dgain, dbias = pl.pallas_call(
        functools.partial(_backward_kernel, hidden, target.times),
        grid=(h.shape[1] // (target.cases or 1),),
        in_specs=[every_step, every_step, *weights],
        out_specs=[every_step, a_case, a_case],
        out_shape=[_like(h), *2 * [_like(h[0], jnp.float32)]],
        **target.options(h.shape[-1]),
    )(summed, dh, kernel.T, gain, bias)
    # Of all steps and cases at once: a sum on the chip would need as many registers again.
    dkernel = jnp.einsum('tbj,tbk->jk', h[:-1], da[1:], precision=lax.Precision.HIGHEST)
    return da, dkernel, dgain.sum(0, keepdims=True), dbias.sum(0, keepdims=True)


_recur.defvjp(_forward, _backward)


def _blocks(x: Array, target: Target) -> tuple[pl.BlockSpec, ...]:
    """What a program sees of [time, batch, width], and of kernel, gain and bias."""
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


def _cell(a: Array, gain: Array, bias: Array, hidden: int) -> Array:
    """tanh(glr(a)), of which the units from `hidden` on are padding."""
    unit = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1)
    centred = jnp.where(unit < hidden, a - a.sum(-1, keepdims=True) / hidden, 0)
    variance = jnp.square(centred).sum(-1, keepdims=True) / hidden
    return jnp.tanh(centred * lax.rsqrt(variance + EPSILON) * gain + bias)


def _forward_kernel(
    hidden: int, times: Callable, x_ref: Any, kernel_ref: Any, gain_ref: Any, bias_ref: Any,
    h_ref: Any, summed_ref: Any
) -> None:  # fmt: skip
    """A program's cases from the first step to the last; `summed_ref` is kept for `_backward`."""
    steps, *state = x_ref.shape
    kernel, gain, bias = _read(state, kernel_ref, gain_ref, bias_ref)

    def step(t: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        h, x = carry
        following = x_ref[jnp.minimum(t + 1, steps - 1)]  # is on its way while this one is used
        a = x.astype(jnp.float32) + times(h, kernel)
        h = _cell(a, gain, bias, hidden).astype(h_ref.dtype)
        h_ref[t], summed_ref[t] = h, a
        return h.astype(jnp.float32), following

    lax.fori_loop(0, steps, step, (jnp.zeros(state, jnp.float32), x_ref[0]))


def _backward_kernel(
    hidden: int, times: Callable, summed_ref: Any, dh_ref: Any, kernel_ref: Any, gain_ref: Any,
    bias_ref: Any, da_ref: Any, dgain_ref: Any, dbias_ref: Any
) -> None:  # fmt: skip
    """Their gradients from the last step to the first; `kernel_ref` is the kernel's transpose."""
    steps, *state = dh_ref.shape
    kernel, gain, bias = _read(state, kernel_ref, gain_ref, bias_ref)
    cell = functools.partial(_cell, hidden=hidden)

    def step(k: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
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
    kernel = kernel_ref[...].astype(jnp.float32)
    return kernel, *(jnp.broadcast_to(ref[...], state) for ref in vector_refs)
