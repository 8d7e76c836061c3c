"""Global Layer Regularization (GLR): the normalisation itself, as pure functions."""

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
    """Normalises the summed inputs of each training case by their own mean and deviation.

    Eq. 7-8 of the paper: `mean = sum(a) / H` and `sigma = sqrt(sum((a - mean)^2) / H)` over the
    `H` units of a layer. All units of a layer share these statistics; every training case has its
    own. Each unit then has its own adaptive gain and bias. The non-linearity comes after.

    Over the features (`axis=-1`) this is the formula of layer normalisation (Ba et al., 2016). GLR
    applies it at each position before the non-linearity, and inside the recurrence at each step.

    Args:
      a: summed inputs. The statistics are computed in float32, whatever the type.
      gain: one per unit; initially 1.
      bias: one per unit; initially 0.
      axis: what counts as a layer. -1: the features at each position. Every axis but the first:
        all units of the layer. The first axis is the training case and is never reduced.
      epsilon: added to the variance.

    Returns:
      The normalised inputs, with the shape and type of `a`.

    Raises:
      ValueError: `axis` includes the first axis, which would mix training cases.
    """
    _, centred, variance = _moments(a, axis)
    return (centred * lax.rsqrt(variance + epsilon) * gain + bias).astype(a.dtype)


def glr_with_level(
    a: Float[Array, 'batch *positions features'],
    gain: Float[Array, ' features'],
    bias: Float[Array, ' features'],
    mean_weight: Float[Array, ' features'],
    deviation_weight: Float[Array, ' features'],
    *,
    axis: int | tuple[int, ...] = -1,
    epsilon: float = EPSILON,
) -> Float[Array, 'batch *positions features']:
    """GLR that gives each unit back the level that the normalisation removes.

        gain * (a - mean) / sigma + bias + mean_weight * mean + deviation_weight * log(sigma)

    Not in the paper. GLR makes a loud and a quiet position alike; with these two weights, each unit
    learns how much of the difference to keep. With both at 0 this is `glr`.

    Args:
      a: summed inputs, as in `glr`.
      gain: one per unit; initially 1.
      bias: one per unit; initially 0.
      mean_weight: one per unit; initially 0.
      deviation_weight: one per unit; initially 0.
      axis: what counts as a layer, as in `glr`.
      epsilon: added to the variance, so the logarithm is finite for constant inputs too.

    Returns:
      The normalised inputs, with the shape and type of `a`.

    Raises:
      ValueError: `axis` includes the first axis, which would mix training cases.
    """
    mean, centred, variance = _moments(a, axis)
    normal = centred * lax.rsqrt(variance + epsilon) * gain + bias
    level = mean * mean_weight + 0.5 * jnp.log(variance + epsilon) * deviation_weight
    return (normal + level).astype(a.dtype)


def _moments(a: Array, axis: int | tuple[int, ...]) -> tuple[Array, Array, Array]:
    """The mean, the inputs minus the mean, and the variance, in float32."""
    axes = (axis,) if isinstance(axis, int) else axis
    if any(k % a.ndim == 0 for k in axes):
        raise ValueError(f'axis {axis} includes the first axis, so it would mix training cases')
    wide = a.astype(jnp.float32)
    mean = jnp.mean(wide, axes, keepdims=True)
    centred = wide - mean
    return mean, centred, jnp.mean(jnp.square(centred), axes, keepdims=True)
