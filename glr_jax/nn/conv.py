"""Convolution and pooling over spectrograms, time first and features last."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from glr_jax.nn import winograd


@jax.custom_vjp
def conv(
    x: Float[Array, 'batch *positions features'], kernel: Float[Array, '*taps features kernels']
) -> Float[Array, 'batch *positions kernels']:
    """Slides the kernel over every position, zeros beyond the edges; Eq. 4 without its bias.

    On a CPU, XLA's own gradient of a 5x5 kernel takes up to eight times as long as its forward
    pass. So there, convolutions of many features go by Winograd's algorithm, and the kernel's
    gradient of few features is a matmul. Decided for the platform that is compiled for.

    Args:
      x: [batch, time, features] or [batch, time, frequency, features].
      kernel: with one axis of taps for each axis of positions.
    """
    if not _winograd_pays(kernel):
        return _xla_conv(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=winograd.conv, default=_xla_conv)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return conv(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def by_xla(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(_xla_conv, x, kernel)[1](gradient)

    def by_winograd(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        flipped = jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
        return winograd.conv(gradient, flipped), winograd.kernel_gradient(x, gradient, len(kernel))

    def by_patches(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        of_kernel = _patches(x, kernel.shape[:-2]) @ gradient.reshape(-1, kernel.shape[-1])
        (of_x,) = jax.vjp(lambda x: _xla_conv(x, kernel), x)[1](gradient)
        return of_x, of_kernel.reshape(kernel.shape)

    _, kernel = saved
    if _winograd_pays(kernel):
        return lax.platform_dependent(*saved, gradient, cpu=by_winograd, default=by_xla)
    if math.prod(kernel.shape[:-1]) <= kernel.shape[-1]:  # patches are no more than the gradient
        return lax.platform_dependent(*saved, gradient, cpu=by_patches, default=by_xla)
    return by_xla(*saved, gradient)


# Differentiating Winograd's forward pass would add up slices that overlap: a fifth slower.
conv.defvjp(_forward, _backward)


def _winograd_pays(kernel: Array) -> bool:
    *taps, features, kernels = kernel.shape
    square = len(set(taps)) == 1 and taps[0] in (3, 5)
    return square and min(features, kernels) >= 64 and kernel.dtype == jnp.float32


def _xla_conv(x: Array, kernel: Array) -> Array:
    layout = ('NHC', 'HIO', 'NHC') if x.ndim == 3 else ('NHWC', 'HWIO', 'NHWC')
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, 'SAME', dimension_numbers=layout)


def _patches(x: Array, taps: Sequence[int]) -> Float[Array, 'taps_features positions']:
    """What each element of a kernel meets, at all positions of all clips."""
    padding = [((size - 1) // 2, size // 2) for size in taps]
    padded = jnp.pad(jnp.moveaxis(x, -1, 0), ((0, 0), (0, 0), *padding))
    positions = lambda tap: zip(tap, x.shape[1:-1], strict=True)
    met = [padded[:, :, *(slice(i, i + n) for i, n in positions(tap))] for tap in np.ndindex(*taps)]
    return jnp.stack(met).reshape(-1, x[..., 0].size)


def max_pool(
    x: Float[Array, 'batch *positions features'], size: int
) -> Float[Array, 'batch *pooled features']:
    """The largest value of each partition of `size` along every axis of positions.

    A remainder at the end is dropped. Of equal values, each gets a share of the gradient. Two by
    two, since the gradient of `max` over an axis takes twice as long on a CPU.
    """
    for axis in range(1, x.ndim - 1):
        count = x.shape[axis] // size
        x = lax.slice_in_dim(x, 0, count * size, axis=axis)
        x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        members = (lax.index_in_dim(x, k, axis + 1, keepdims=False) for k in range(size))
        x = functools.reduce(jnp.maximum, members)
    return x
