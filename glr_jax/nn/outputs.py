"""Several outputs of one classifier: what they read, and the mean of their probabilities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


class Read(NamedTuple):
    """What the output layers of a classifier read.

    Attributes:
      sequence: the readout of the recurrence; for the readout `local`, one vector per step.
      segment: the projected statistics of the whole segment, if a second output reads them.
    """

    sequence: Float[Array, 'batch read'] | Float[Array, 'batch time read']
    segment: Float[Array, 'batch read'] | None

    def embedding(self) -> Float[Array, 'batch units']:
        """All of it as one vector per case; states that are read one by one are averaged."""
        sequence = self.sequence if self.sequence.ndim == 2 else self.sequence.mean(1)
        if self.segment is None:
            return sequence
        return jnp.concatenate([sequence, self.segment], -1)


def combined(outputs: Float[Array, 'batch outputs labels']) -> Float[Array, 'batch labels']:
    """The logits of a single output, or the logarithms of the mean probabilities of several."""
    return outputs[:, 0] if outputs.shape[1] == 1 else mean_output(outputs)


def mean_output(
    logits: Float[Array, 'batch outputs labels'],
) -> Float[Array, 'batch labels']:
    """The logarithms of the mean probabilities of several outputs."""
    each = jax.nn.log_softmax(logits)
    return jax.nn.logsumexp(each, axis=1) - jnp.log(each.shape[1])
