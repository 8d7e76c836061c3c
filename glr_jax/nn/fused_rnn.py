"""The simple cell with GLR as one kernel that keeps the weights on the chip for all steps.

Under `lax.scan`, a GPU starts several small kernels per step and spends its time waiting for them.
Here, each program of one kernel takes its cases through all steps, and each program of another
takes their gradients back. Both are written once, in Pallas, and compile with Triton or Mosaic on a
GPU and with Mosaic on a TPU.

From jax 0.12 on, Pallas calls its Triton backend deprecated; `fused_mosaic` is there for the time
when it is gone.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jaxtyping import Float

from glr_jax.errors import UserError
from glr_jax.nn.fused_target import (
    ROWS,
    SHARED,
    STEPS,
    Axes,
    Body,
    Kernel,
    Like,
    Rows,
    State,
    Steps,
    Target,
)
from glr_jax.nn.glr import EPSILON


def _in_registers(h: Float[Array, ' width'], kernel: Kernel) -> Float[Array, ' width']:
    """Multiplies the state of one case: even a small batch then occupies many multiprocessors.

    Tensor cores would need sixteen cases at once and would round float32. With a state [1, width]
    instead of a vector, Triton emits six times as many instructions and spills registers.
    """
    return (h[:, None] * kernel).sum(0)


def _on_matrix_unit(h: Float[Array, 'cases width'], kernel: Kernel) -> Float[Array, 'cases width']:
    return jnp.dot(h, kernel, precision=lax.Precision.HIGHEST)


def _for_triton(width: int) -> dict[str, Any]:
    from jax.experimental.pallas import triton

    warps = max(1, width**2 // (32 * 128))  # each thread holds 128 weights in its registers
    return {'compiler_params': triton.CompilerParams(num_warps=warps)}


def _for_tpu(width: int) -> dict[str, Any]:
    from jax.experimental.pallas import tpu

    return {'compiler_params': tpu.CompilerParams(vmem_limit_bytes=64 << 20)}


def _launch(
    times: Callable[[State, Kernel], State],
    cases: int | None,
    options: Callable[[int], dict[str, Any]],
    body: Body,
    axes_in: Axes,
    axes_out: Axes,
    outputs: Sequence[Like],
) -> Callable[..., Sequence[Array]]:
    """`Target.launch` by `pallas_call`, with its options for a number of padded units."""

    def block(x: Array | Like, axis: int | None) -> pl.BlockSpec:
        shape = [cases if k == axis else size for k, size in enumerate(x.shape)]
        return pl.BlockSpec(tuple(shape), lambda p: tuple(p * (k == axis) for k in range(x.ndim)))

    def run(*inputs: Array) -> Sequence[Array]:
        batch, width = outputs[0].shape[1:]
        return pl.pallas_call(
            functools.partial(body, times),
            grid=(batch // (cases or 1),),
            in_specs=[*map(block, inputs, axes_in)],
            out_specs=[*map(block, outputs, axes_out)],
            out_shape=outputs,
            **options(width),
        )(*inputs)

    return run


def _target(cases: int | None, times: Callable, options: Callable[[int], dict[str, Any]]) -> Target:
    return Target(functools.partial(_launch, times, cases, options), cases)


TRITON = _target(None, _in_registers, _for_triton)
TPU = _target(16, _on_matrix_unit, _for_tpu)
INTERPRETED = _target(None, _in_registers, lambda width: {'interpret': True})
TPU_INTERPRETED = _target(16, _on_matrix_unit, lambda width: {'interpret': True})


def for_gpus(devices: list[jax.Device]) -> dict[str, Target]:
    """What builds kernels for all GPUs among these devices, by name, the preferred one first.

    Triton needs a compute capability of 8.0, Mosaic 9.0. Each needs a version of JAX that has it.
    """
    # Devices without a compute capability are not GPUs, so they never compile a GPU's branch.
    capability = min(float(getattr(device, 'compute_capability', 100)) for device in devices)
    found = {}
    if capability >= 8:
        with contextlib.suppress(ImportError):
            from jax.experimental.pallas import triton  # noqa: F401

            found['Triton'] = TRITON
    if capability >= 9:
        with contextlib.suppress(ImportError):
            from glr_jax.nn import fused_mosaic

            found['Mosaic'] = fused_mosaic.HOPPER
    return found


def best_for_gpus(devices: list[jax.Device]) -> Target | None:
    """The first of `for_gpus`, if any."""
    return next(iter(for_gpus(devices).values()), None)


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
        targets = {'tpu': TPU, 'default': INTERPRETED}
        if cuda := best_for_gpus(jax.local_devices()):
            targets['cuda'] = cuda
        elif jax.default_backend() == 'gpu':
            raise UserError(
                '--model.recurrence=fused needs a GPU of compute capability 8.0 or above and a '
                'version of JAX whose Pallas has a backend for it; use --model.recurrence=auto'
            )
        branches = {
            platform: functools.partial(recur, target=target)
            for platform, target in targets.items()
        }
        return lax.platform_dependent(x, kernel, gain, bias, **branches)
    batch, _, hidden = x.shape
    # Triton and Mosaic accept only powers of 2.
    more = max(target.least, pl.next_power_of_2(hidden)) - hidden
    idle = -batch % (target.cases or 1)  # padding of the last program's cases
    steps = jnp.pad(x.swapaxes(0, 1), ((0, 0), (0, idle), (0, more)))
    vectors = (
        jnp.broadcast_to(jnp.pad(vector, (0, more)), steps.shape[1:]) for vector in (gain, bias)
    )
    h = _recur(steps, jnp.pad(kernel, (0, more)), *vectors, hidden, target)
    return h[:, :batch, :hidden].swapaxes(0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _recur(x: Steps, kernel: Kernel, gain: Rows, bias: Rows, hidden: int, target: Target) -> Steps:
    return _forward(x, kernel, gain, bias, hidden, target)[0]


def _forward(
    x: Steps, kernel: Kernel, gain: Rows, bias: Rows, hidden: int, target: Target
) -> tuple[Steps, tuple[Array, ...]]:
    h, summed = target.launch(
        functools.partial(_forward_kernel, hidden),
        (STEPS, SHARED, ROWS, ROWS),
        (STEPS, STEPS),
        (_like(x), _like(x, jnp.float32)),
    )(x, kernel, gain, bias)
    return h, (h, summed, kernel, gain, bias)


def _backward(
    hidden: int, target: Target, saved: tuple[Array, ...], dh: Steps
) -> tuple[Steps, Kernel, Rows, Rows]:
    h, summed, kernel, gain, bias = saved
    da, dgain, dbias = target.launch(
        functools.partial(_backward_kernel, hidden),
        (STEPS, STEPS, SHARED, ROWS, ROWS),
        (STEPS, ROWS, ROWS),
        (_like(h), _like(gain), _like(bias)),
    )(summed, dh, kernel.T, gain, bias)
    # All steps and cases at once: summing on the chip would need twice as many registers.
    dkernel = jnp.einsum('tbj,tbk->jk', h[:-1], da[1:], precision=lax.Precision.HIGHEST)
    return da, dkernel, dgain, dbias


_recur.defvjp(_forward, _backward)


def _like(x: Array, dtype: Any = None) -> Like:
    return Like(x.shape, dtype or x.dtype)


def _normal(a: State, hidden: int) -> tuple[State, Array]:
    """GLR without gain and bias, and 1 / deviation; the units from `hidden` on are padding."""
    centred = _where_used(a - _mean(a, hidden), hidden)
    scale = lax.rsqrt(_mean(jnp.square(centred), hidden) + EPSILON)
    return centred * scale, scale


def _mean(a: State, hidden: int) -> Array:
    """Of each case; a scalar where there is one, since Mosaic takes long over an array [1]."""
    return a.sum(-1, keepdims=a.ndim > 1) / hidden


def _where_used(a: State, hidden: int) -> State:
    unit = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 1)
    return jnp.where(unit < hidden, a, 0.0)


def _forward_kernel(
    hidden: int, times: Callable, x_ref: Any, kernel_ref: Any, gain_ref: Any, bias_ref: Any,
    h_ref: Any, summed_ref: Any
) -> None:  # fmt: skip
    """Takes a program's cases from the first step to the last; `_backward` reads `summed_ref`."""
    steps, *state = x_ref.shape
    kernel, gain, bias = kernel_ref[...].astype(jnp.float32), gain_ref[...], bias_ref[...]

    def step(t: Array, carry: tuple[State, State]) -> tuple[State, State]:
        h, x = carry
        following = x_ref[jnp.minimum(t + 1, steps - 1)]  # loads while this step computes
        a = x.astype(jnp.float32) + times(h, kernel)
        h = jnp.tanh(_normal(a, hidden)[0] * gain + bias).astype(h_ref.dtype)
        h_ref[t], summed_ref[t] = h, a
        return h.astype(jnp.float32), following

    lax.fori_loop(0, steps, step, (jnp.zeros(state, jnp.float32), x_ref[0]))


def _backward_kernel(
    hidden: int, times: Callable, summed_ref: Any, dh_ref: Any, kernel_ref: Any, gain_ref: Any,
    bias_ref: Any, da_ref: Any, dgain_ref: Any, dbias_ref: Any
) -> None:  # fmt: skip
    """Takes the gradients from the last step to the first; `kernel_ref` is transposed."""
    steps, *state = dh_ref.shape
    kernel, gain, bias = kernel_ref[...].astype(jnp.float32), gain_ref[...], bias_ref[...]
    mean = functools.partial(_mean, hidden=hidden)

    def step(k: Array, carry: tuple[State, ...]) -> tuple[State, ...]:
        from_later, dgain, dbias, a, dh = carry
        t = steps - 1 - k
        before = jnp.maximum(t - 1, 0)
        following = summed_ref[before], dh_ref[before]
        normal, scale = _normal(a, hidden)
        dy = (dh.astype(jnp.float32) + from_later) * (
            1 - jnp.square(jnp.tanh(normal * gain + bias))
        )
        dn = dy * gain  # 0 where the gain is padding
        da = scale * _where_used(dn - mean(dn) - normal * mean(dn * normal), hidden)
        da_ref[t] = da.astype(da_ref.dtype)
        return times(da, kernel), dgain + dy * normal, dbias + dy, *following

    nothing = jnp.zeros(state, jnp.float32)
    last = summed_ref[steps - 1], dh_ref[steps - 1]
    _, dgain_ref[...], dbias_ref[...], *_ = lax.fori_loop(0, steps, step, (*3 * [nothing], *last))
