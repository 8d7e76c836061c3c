"""Convolution in fewer multiplications: Winograd's minimal filtering, F(4, r), over 1 or 2 axes.

Each tile of r + 3 inputs becomes r + 3 products and then 4 outputs; sliding the kernel would take
4 r products. For r = 5 that is 2.5 times fewer, for 5 x 5 it is 6.25 times. The products of all
tiles are one batched matmul over features. Lavin and Gray, Fast Algorithms for Convolutional
Neural Networks (CVPR 2016), with the matrices of Cook and Toom.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

OUTPUTS = 4  # of a tile along an axis; with more of them, float32 loses accuracy
POINTS = [Fraction(point) for point in ('0', '1', '-1', '2', '-2', '1/2', '-1/2')]
CHUNK_BYTES = 4 << 20  # of tiles: clips are taken together as long as these stay in the cache
MOST_CHUNKS = 8  # that a program has one after the other


class Matrices(NamedTuple):
    """outputs = result @ ((data @ inputs) * (taps @ kernel)), with the kernel slid over inputs."""

    data: Float[np.ndarray, 'products inputs']
    taps: Float[np.ndarray, 'products taps']
    result: Float[np.ndarray, 'outputs products']


@functools.cache
def matrices(taps: int) -> Matrices:
    """The matrices of F(4, taps), exact until they are rounded to float32.

    Two polynomials are evaluated at some points and at infinity, multiplied there, and their
    product interpolated: that is a full convolution; its transpose slides a kernel.
    """
    products = OUTPUTS + taps - 1
    data = np.array(_inverse(_powers(products, products)), np.float64).T
    # Rows of one size: the float32 rounding errors of the products are then alike.
    scale = np.abs(data).max(1, keepdims=True)
    return Matrices(
        (data / scale).astype(np.float32),
        (np.array(_powers(products, taps), np.float64) * scale).astype(np.float32),
        np.array(_powers(products, OUTPUTS), np.float32).T,
    )


def conv(
    x: Float[Array, 'batch *positions features'], kernel: Float[Array, '*taps features kernels']
) -> Float[Array, 'batch *positions kernels']:
    """`glr_jax.conv.conv` for an odd number of taps, at most 5 and equal along all axes."""
    taps, axes = len(kernel), x.ndim - 2
    data, kernel_to_products, result = matrices(taps)
    products = kernel
    for axis in range(axes):  # the products of the last axis come first, here and in _tiles
        products = jnp.tensordot(kernel_to_products, products, ((1,), (axis,)))
    products = products.reshape(-1, *kernel.shape[axes:])

    @jax.jit  # traced once for all chunks
    def of_clips(x: Array) -> Array:
        tiles = _tiles(x, data)
        y = jnp.einsum('pnf,pfk->pnk', tiles.reshape(len(products), -1, x.shape[-1]), products)
        return _untile(y.reshape(*tiles.shape[:-1], -1), result)

    padded = _padded_inputs(x, taps)
    # Not by lax.map: of a loop, XLA computes the transforms by one thread.
    together = max(_clips_that_fit(x, taps), -(-len(x) // MOST_CHUNKS))
    chunks = [padded[first : first + together] for first in range(0, len(x), together)]
    y = jnp.concatenate([of_clips(chunk) for chunk in chunks])
    return y[:, *(slice(size) for size in x.shape[1:-1])]


def kernel_gradient(
    x: Float[Array, 'batch *positions features'],
    gradient: Float[Array, 'batch *positions kernels'],
    taps: int,
) -> Float[Array, '*taps features kernels']:
    """The gradient of `conv` with respect to its kernel, given the one with respect to its result.

    The same algorithm transposed: inputs and outputs become products, and the tiles are summed.
    """
    data, kernel_to_products, result = matrices(taps)
    axes, features, kernels = x.ndim - 2, x.shape[-1], gradient.shape[-1]
    products = (len(data),) * axes

    def add_clips(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        inputs = _tiles(chunk[0], data).reshape(len(total), -1, features)
        outputs = _tiles(chunk[1], result.T).reshape(len(total), -1, kernels)
        return total + jnp.einsum('pnf,pnk->pfk', inputs, outputs), None

    fitting = _clips_that_fit(x, taps)
    together = max(n for n in range(1, len(x) + 1) if len(x) % n == 0 and n <= fitting)
    padded = _padded_inputs(x, taps), _padded(gradient, 0, 0)
    chunks = tuple(each.reshape(-1, together, *each.shape[1:]) for each in padded)
    total, _ = lax.scan(add_clips, jnp.zeros((math.prod(products), features, kernels)), chunks)
    total = total.reshape(*products, features, kernels)
    for axis in reversed(range(axes)):
        of_taps = jnp.tensordot(kernel_to_products.T, total, ((1,), (0,)))
        total = jnp.moveaxis(of_taps, 0, axis)
    return total


def _powers(products: int, count: int) -> list[list[Fraction]]:
    """1, p, p^2, ... of each point; infinity has the last power alone."""
    at_infinity = [Fraction(k == count - 1) for k in range(count)]
    return [[p**k for k in range(count)] for p in POINTS[: products - 1]] + [at_infinity]


def _inverse(matrix: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    """By Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for k in range(size):
        pivot = next(i for i in range(k, size) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in set(range(size)) - {k}:
            rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]


def _padded_inputs(x: Array, taps: int) -> Array:
    return _padded(x, taps // 2, taps - 1)


def _padded(x: Array, before: int, overlap: int) -> Array:
    """Zeros around every position axis: some before, whole tiles and their overlap in all."""
    widths = [(before, -size % OUTPUTS + overlap - before) for size in x.shape[1:-1]]
    return jnp.pad(x, ((0, 0), *widths, (0, 0)))


def _clips_that_fit(x: Array, taps: int) -> int:
    """How many clips' tiles are no more than CHUNK_BYTES; at least one clip."""
    tiles = math.prod(-(-size // OUTPUTS) for size in x.shape[1:-1])
    size = (OUTPUTS + taps - 1) ** (x.ndim - 2) * tiles * x.shape[-1] * x.dtype.itemsize
    return max(1, CHUNK_BYTES // size)


def _tiles(x: Array, matrix: Float[np.ndarray, 'products inputs']) -> Array:
    """Overlapping tiles, one every OUTPUTS positions, times a matrix along each axis.

    [batch, *positions, features] to [*products, batch, *tiles, features].
    """
    for done in range(x.ndim - 2):
        axis = 2 * done + 1  # each axis done has left its products in front
        inputs = matrix.shape[1]
        last = (x.shape[axis] - inputs) // OUTPUTS * OUTPUTS
        slices = [lax.slice_in_dim(x, k, k + last + 1, OUTPUTS, axis=axis) for k in range(inputs)]
        x = jnp.stack(_combinations(matrix, slices))
    return x


def _untile(y: Array, matrix: Float[np.ndarray, 'outputs products']) -> Array:
    """Times a matrix along each axis of products, and the tiles side by side.

    [*products, batch, *tiles, kernels] to [batch, *positions, kernels].
    """
    for axis in range(y.ndim - 3, 0, -2):
        y = jnp.stack(_combinations(matrix, list(y)), axis + 1)
        y = y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])
    return y


def _combinations(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """Matrix times vector of arrays: sums that XLA fuses, three times faster than small matmuls."""
    # By lax, which traces these hundreds of sums in half the time that `a * part` takes.
    terms = lambda row: (lax.mul(part, a) for a, part in zip(row, parts, strict=True) if a)
    return [functools.reduce(lax.add, terms(row)) for row in matrix]
