"""Convolution and pooling over spectrograms, time first and features last."""

from jax import Array, lax
from jaxtyping import Float


def conv(
    x: Float[Array, 'batch *positions features'], kernel: Float[Array, '*taps features kernels']
) -> Float[Array, 'batch *positions kernels']:
    """Slides the kernel over every position, zeros beyond the edges; Eq. 4 without its bias.

    Args:
      x: [batch, time, features] or [batch, time, frequency, features].
      kernel: with one axis of taps for each axis of positions.
    """
    layout = ('NHC', 'HIO', 'NHC') if x.ndim == 3 else ('NHWC', 'HWIO', 'NHWC')
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, 'SAME', dimension_numbers=layout)


def max_pool(
    x: Float[Array, 'batch *positions features'], size: int
) -> Float[Array, 'batch *pooled features']:
    """The largest value of each partition of `size` along every axis of positions.

    A remainder at the end is dropped. Reshape-and-max: the gradient of `reduce_window` is three
    times slower on a CPU.
    """
    for axis in range(1, x.ndim - 1):
        count = x.shape[axis] // size
        x = lax.slice_in_dim(x, 0, count * size, axis=axis)
        x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]).max(axis + 1)
    return x
