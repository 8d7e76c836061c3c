"""Convolution with fewer multiplications: Winograd's minimal filtering F(4, r), in 1-D and 2-D.

Each tile of r + 3 inputs becomes r + 3 products, which give 4 outputs; sliding the kernel would
take 4 r products. For r = 5 that is 2.5 times fewer, for 5 x 5 it is 6.25 times. The products of
all tiles are one batched matmul over features. Lavin and Gray, Fast Algorithms for Convolutional
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

OUTPUTS = 4  # per tile along each axis; with more, float32 loses accuracy
POINTS = [Fraction(point) for point in ('0', '1', '-1', '2', '-2', '1/2', '-1/2')]
CHUNK_BYTES = 4 << 20  # tiles of the clips computed together, so that they stay in the cache
MAX_CHUNKS = 8  # written out one after the other in a compiled program


Padded = Float[Array, 'batch *padded features']


class Matrices(NamedTuple):
    """outputs = result @ ((data @ inputs) * (taps @ kernel)) slides a kernel over a tile."""

    data: Float[np.ndarray, 'products inputs']
    taps: Float[np.ndarray, 'products taps']
    result: Float[np.ndarray, 'outputs products']


@functools.cache
def matrices(taps: int) -> Matrices:
    """The matrices of F(4, taps), computed exactly and then rounded to float32.

    A full convolution evaluates two polynomials at a few points and at infinity, multiplies the
    values, and interpolates the product. The transpose of that algorithm slides a kernel.
    """
    products = OUTPUTS + taps - 1
    data = np.array(_inverse(_powers(products, products)), np.float64).T
    # Scaled so that the largest entry of each row is 1: all products then have similar float32
    # rounding errors.
    scale = np.abs(data).max(1, keepdims=True)
    return Matrices(
        (data / scale).astype(np.float32),
        (np.array(_powers(products, taps), np.float64) * scale).astype(np.float32),
        np.array(_powers(products, OUTPUTS), np.float32).T,
    )


def conv(
    x: Float[Array, 'batch *positions features'], kernel: Float[Array, '*taps features kernels']
) -> Float[Array, 'batch *positions kernels']:
    """`glr_jax.nn.conv.conv` for an odd number of taps, at most 5 and equal along all axes."""
    taps, axes = len(kernel), x.ndim - 2
    data, kernel_to_products, result = matrices(taps)
    products = kernel
    for axis in range(axes):  # puts the last axis's products first, as _tiles does
        products = jnp.tensordot(kernel_to_products, products, ((1,), (axis,)))
    products = products.reshape(-1, *kernel.shape[axes:])

    @jax.jit  # traced once for all chunks
    def convolve(x: Padded) -> Float[Array, 'batch *positions kernels']:
        tiles = _tiles(x, data)
        y = jnp.einsum('pnf,pfk->pnk', tiles.reshape(len(products), -1, x.shape[-1]), products)
        return _untile(y.reshape(*tiles.shape[:-1], -1), result)

    padded = _padded_inputs(x, taps)
    # Not lax.map: inside a loop, XLA computes the transforms on a single thread.
    together = max(_clips_that_fit(x, taps), -(-len(x) // MAX_CHUNKS))
    chunks = [padded[first : first + together] for first in range(0, len(x), together)]
    y = jnp.concatenate([convolve(chunk) for chunk in chunks])
    return y[:, *(slice(size) for size in x.shape[1:-1])]


def kernel_gradient(
    x: Float[Array, 'batch *positions features'],
    gradient: Float[Array, 'batch *positions kernels'],
    taps: int,
) -> Float[Array, '*taps features kernels']:
    """The gradient of `conv` with respect to its kernel.

    The same algorithm transposed: inputs and outputs become products, which are summed over tiles.

    Args:
      x: the inputs of `conv`.
      gradient: the gradient with respect to its outputs.
      taps: kernel size along each axis.
    """
    data, kernel_to_products, result = matrices(taps)
    axes, features, kernels = x.ndim - 2, x.shape[-1], gradient.shape[-1]
    products = (len(data),) * axes

    def add_clips(
        total: Float[Array, 'products features kernels'], chunk: tuple[Array, ...]
    ) -> tuple[Float[Array, 'products features kernels'], None]:
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
        along_axis = jnp.tensordot(kernel_to_products.T, total, ((1,), (0,)))
        total = jnp.moveaxis(along_axis, 0, axis)
    return total


def _powers(products: int, count: int) -> list[list[Fraction]]:
    """1, p, p^2, ... for each point p; for infinity, only the last power counts."""
    at_infinity = [Fraction(k == count - 1) for k in range(count)]
    return [[p**k for k in range(count)] for p in POINTS[: products - 1]] + [at_infinity]


def _inverse(matrix: Sequence[Sequence[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a matrix, by Gauss-Jordan elimination."""
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for k in range(size):
        pivot = next(i for i in range(k, size) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in set(range(size)) - {k}:
            rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[size:] for row in rows]


def _padded_inputs(x: Float[Array, 'batch *positions features'], taps: int) -> Padded:
    return _padded(x, taps // 2, taps - 1)


def _padded(x: Float[Array, 'batch *positions features'], before: int, overlap: int) -> Padded:
    """Zeros around every axis of positions, up to a whole number of tiles plus their overlap."""
    widths = [(before, -size % OUTPUTS + overlap - before) for size in x.shape[1:-1]]
    return jnp.pad(x, ((0, 0), *widths, (0, 0)))


def _clips_that_fit(x: Float[Array, 'batch *positions features'], taps: int) -> int:
    """How many clips have tiles that fit into CHUNK_BYTES together; at least one."""
    tiles = math.prod(-(-size // OUTPUTS) for size in x.shape[1:-1])
    size = (OUTPUTS + taps - 1) ** (x.ndim - 2) * tiles * x.shape[-1] * x.dtype.itemsize
    return max(1, CHUNK_BYTES // size)


def _tiles(
    x: Padded, matrix: Float[np.ndarray, 'products inputs']
) -> Float[Array, '*products_batch_tiles features']:
    """Cuts overlapping tiles, one every OUTPUTS positions, and transforms them along each axis.

    From [batch, *positions, features] to [*products, batch, *tiles, features].
    """
    for done in range(x.ndim - 2):
        axis = 2 * done + 1  # each finished axis has put its products in front
        inputs = matrix.shape[1]
        last = (x.shape[axis] - inputs) // OUTPUTS * OUTPUTS
        slices = [lax.slice_in_dim(x, k, k + last + 1, OUTPUTS, axis=axis) for k in range(inputs)]
        x = jnp.stack(_combinations(matrix, slices))
    return x


def _untile(
    y: Float[Array, '*products_batch_tiles kernels'],
    matrix: Float[np.ndarray, 'outputs products'],
) -> Float[Array, 'batch *positions kernels']:
    """Transforms the products along each axis into outputs and puts the tiles side by side.

    From [*products, batch, *tiles, kernels] to [batch, *positions, kernels].
    """
    for axis in range(y.ndim - 3, 0, -2):
        y = jnp.stack(_combinations(matrix, list(y)), axis + 1)
        y = y.reshape(*y.shape[:axis], -1, *y.shape[axis + 2 :])
    return y


def _combinations(
    matrix: Float[np.ndarray, 'rows parts'], parts: list[Float[Array, '*part']]
) -> list[Float[Array, '*part']]:
    """A matrix times a vector of arrays; as sums, which XLA fuses: 3 times as fast as matmuls."""
    # With lax, tracing these hundreds of sums takes half the time that `a * part` would.
    terms = lambda row: (lax.mul(part, a) for a, part in zip(row, parts, strict=True) if a)
    return [functools.reduce(lax.add, terms(row)) for row in matrix]
