"""Dropout drawn per training case, so that neither the batch nor the devices change it."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

Keys = Key[Array, ' batch'] | None


def dropout(
    x: Float[Array, 'batch *rest'], rate: float, keys: Keys, *, shared: int = 0
) -> Float[Array, 'batch *rest']:
    """Zeroes units at random and scales up the others.

    Each case draws from its own key, so its result depends neither on the rest of the batch nor on
    the number of devices.

    Args:
      x: any units, one row per case.
      rate: the probability that a unit is dropped.
      keys: one random key per case; None switches dropout off.
      shared: this many axes after the first share what is dropped.
    """
    if keys is None or rate == 0:
        return x
    own = x.shape[1 + shared :]
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, own))(keys)
    kept = kept.reshape(len(x), *[1] * shared, *own)
    return jnp.where(kept, x / (1 - rate), 0)


def fold(keys: Keys, number: int) -> Keys:
    """Derives a new key from each key, so that two dropouts of a case are independent."""
    return None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)
