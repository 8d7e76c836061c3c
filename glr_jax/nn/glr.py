"""Global Layer Regularization: the normalisation itself, a pure function."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

EPSILON = 1e-5


def glr(
    a: Float[Array, 'batch *positions features'],
    gain: Float[Array, ' features'],
    bias: Float[Array, ' features'],
    *,
    axis: int | tuple[int, ...] = -1,
    epsilon: float = EPSILON,
) -> Float[Array, 'batch *positions features']:
    """Normalises the summed inputs of each training case by its own mean and deviation.

    Eq. 7-8 of the paper: `mean = sum(a) / H` and `sigma = sqrt(sum((a - mean)^2) / H)` over the
    `H` units of a layer, the same for every unit and different for every case; then each unit
    has its own adaptive gain and bias. The non-linearity comes after.

    Args:
      a: summed inputs. Statistics are taken in float32 whatever the type.
      gain: one a unit; initially 1.
      bias: one a unit; initially 0.
      axis: what a layer is. -1, the features at each position; or every axis but the first, all
        units of the layer. The first axis is the training case and is never reduced.
      epsilon: added to the variance.

    Returns:
      The shape and type of `a`.

    Raises:
      ValueError: `axis` has the first axis in it, which would mix training cases.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    if any(k % a.ndim == 0 for k in axes):
        raise ValueError(f'axis {axis} would mix the training cases of the first axis')
    wide = a.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    return (centred * lax.rsqrt(variance + epsilon) * gain + bias).astype(a.dtype)
