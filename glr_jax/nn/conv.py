"""Convolution and pooling over spectrograms: time first, features last."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from glr_jax import platforms
from glr_jax.nn import winograd

Inputs = Float[Array, 'batch *positions features']
Kernel = Float[Array, '*taps features kernels']
Outputs = Float[Array, 'batch *positions kernels']


@jax.custom_vjp
def conv(x: Inputs, kernel: Kernel) -> Outputs:
    """Convolves at every position, with zeros beyond the edges; Eq. 4 without its bias.

    The one place that chooses how a convolution is computed, separately for each platform that JAX
    compiles for. On a CPU, XLA's own gradient of a 5x5 kernel takes up to eight times as long as
    its forward pass. So on CPUs, convolutions with many features use Winograd's algorithm, and with
    few features the kernel's gradient is a matmul. Everything else is left to XLA.

    Args:
      x: [batch, time, features] or [batch, time, frequency, features].
      kernel: has one axis of taps per axis of positions.

    Returns:
      One output per position and kernel.
    """
    any_batch = not isinstance(x.shape[0], int)  # exported; Winograd's chunks depend on the batch
    if any_batch or not _winograd_pays(kernel):
        return _xla_conv(x, kernel)
    return platforms.dependent(x, kernel, cpu=winograd.conv, default=_xla_conv)


def _forward(x: Inputs, kernel: Kernel) -> tuple[Outputs, tuple[Array, Array]]:
    return conv(x, kernel), (x, kernel)


def _backward(saved: tuple[Inputs, Kernel], gradient: Outputs) -> tuple[Inputs, Kernel]:
    def by_xla(x: Inputs, kernel: Kernel, gradient: Outputs) -> tuple[Inputs, Kernel]:
        return jax.vjp(_xla_conv, x, kernel)[1](gradient)

    def by_winograd(x: Inputs, kernel: Kernel, gradient: Outputs) -> tuple[Inputs, Kernel]:
        flipped = jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
        return winograd.conv(gradient, flipped), winograd.kernel_gradient(x, gradient, len(kernel))

    def by_patches(x: Inputs, kernel: Kernel, gradient: Outputs) -> tuple[Inputs, Kernel]:
        dkernel = _patches(x, kernel.shape[:-2]) @ gradient.reshape(-1, kernel.shape[-1])
        (dx,) = jax.vjp(lambda x: _xla_conv(x, kernel), x)[1](gradient)
        return dx, dkernel.reshape(kernel.shape)

    _, kernel = saved
    if _winograd_pays(kernel):
        return platforms.dependent(*saved, gradient, cpu=by_winograd, default=by_xla)
    if math.prod(kernel.shape[:-1]) <= kernel.shape[-1]:  # patches no larger than `gradient`
        return platforms.dependent(*saved, gradient, cpu=by_patches, default=by_xla)
    return by_xla(*saved, gradient)


# Without this rule, JAX would differentiate Winograd's forward pass and sum overlapping slices,
# which is a fifth slower.
conv.defvjp(_forward, _backward)


def _winograd_pays(kernel: Kernel) -> bool:
    *taps, features, kernels = kernel.shape
    square = len(set(taps)) == 1 and taps[0] in (3, 5)
    return square and min(features, kernels) >= 64 and kernel.dtype == jnp.float32


def _xla_conv(x: Inputs, kernel: Kernel) -> Outputs:
    layout = ('NHC', 'HIO', 'NHC') if x.ndim == 3 else ('NHWC', 'HWIO', 'NHWC')
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, 'SAME', dimension_numbers=layout)


def _patches(x: Inputs, taps: Sequence[int]) -> Float[Array, 'taps_features batch_positions']:
    """im2col: the inputs under each kernel tap, for all positions of all clips."""
    padding = [((size - 1) // 2, size // 2) for size in taps]
    padded = jnp.pad(jnp.moveaxis(x, -1, 0), ((0, 0), (0, 0), *padding))
    window = lambda tap: [slice(i, i + n) for i, n in zip(tap, x.shape[1:-1], strict=True)]
    inputs = [padded[:, :, *window(tap)] for tap in np.ndindex(*taps)]
    return jnp.stack(inputs).reshape(-1, x[..., 0].size)


def max_pool(x: Inputs, sizes: int | Sequence[int]) -> Float[Array, 'batch *pooled features']:
    """The maximum of each block of neighbours along each axis of positions.

    A remainder at the end is dropped. Equal maxima share the gradient.

    Args:
      x: [batch, time, features] or [batch, time, frequency, features].
      sizes: how many neighbours along each axis of positions, or along all.
    """
    each = [sizes] * (x.ndim - 2) if isinstance(sizes, int) else sizes
    for axis, size in enumerate(each, 1):
        count = x.shape[axis] // size
        x = lax.slice_in_dim(x, 0, count * size, axis=axis)
        x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        members = (lax.index_in_dim(x, k, axis + 1, keepdims=False) for k in range(size))
        # In pairs: on a CPU, the gradient of `max` over an axis takes twice as long.
        x = functools.reduce(jnp.maximum, members)
    return x


def mean_pool(
    x: Float[Array, 'batch time frequency features'], sizes: tuple[int, int]
) -> Float[Array, 'batch steps bands features']:
    """The mean of each block of neighbours in time and frequency; a remainder is dropped."""
    batch, time, bands, features = x.shape
    along_time, along_bands = sizes
    steps, groups = time // along_time, bands // along_bands
    x = x[:, : steps * along_time, : groups * along_bands]
    return x.reshape(batch, steps, along_time, groups, along_bands, features).mean((2, 4))


def max_of_neighbours(x: Inputs) -> Inputs:
    """The maximum of every position and those beside it, along each axis of positions.

    Equal maxima share the gradient.
    """
    for axis in range(1, x.ndim - 1):
        x = _max_of_three(x, axis)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_of_three(x: Inputs, axis: int) -> Inputs:
    parts = (_shift(x, axis, by, -jnp.inf) for by in (-1, 0, 1))
    return functools.reduce(jnp.maximum, parts)


def _max_forward(x: Inputs, axis: int) -> tuple[Inputs, tuple[Array, Array]]:
    highest = _max_of_three(x, axis)
    return highest, (x, highest)


def _max_backward(axis: int, saved: tuple[Array, Array], gradient: Inputs) -> tuple[Inputs]:
    x, highest = saved
    ties = sum((_shift(x, axis, by, -jnp.inf) == highest).astype(x.dtype) for by in (-1, 0, 1))
    share = gradient / ties
    moved = lambda y, by, fill: _shift(y, axis, by, fill)
    wins = (
        jnp.where(x == moved(highest, by, jnp.inf), moved(share, by, 0), 0) for by in (-1, 0, 1)
    )
    return (functools.reduce(jnp.add, wins),)


# On a CPU, JAX's own gradient of the maximum of shifted copies takes twice as long.
_max_of_three.defvjp(_max_forward, _max_backward)


def _shift(x: Inputs, axis: int, by: int, fill: float) -> Inputs:
    """Moves the value `by` positions further along to each position, or `fill` past the end."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (-by, by, 0)
    return lax.pad(x, jnp.asarray(fill, x.dtype), padding)
