"""The outputs of a classifier: what they read, their probabilities, their mean, their loss.

Where a clip has one label, its probabilities are a softmax over the labels and the loss is the
cross-entropy. Where a clip may have several, each label is decided by itself: sigmoids, and the
mean over the labels of the binary cross-entropy.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


def combined(
    outputs: Float[Array, 'batch outputs labels'], multi_label: bool = False
) -> Float[Array, 'batch labels']:
    """The logits of a single output, or those of the mean probabilities of several."""
    return outputs[:, 0] if outputs.shape[1] == 1 else mean_output(outputs, multi_label)


def mean_output(
    logits: Float[Array, 'batch outputs labels'], multi_label: bool = False
) -> Float[Array, 'batch labels']:
    """The logits of the mean probabilities of several outputs."""
    if multi_label:
        log_sum = lambda signed: jax.nn.logsumexp(jax.nn.log_sigmoid(signed), axis=1)
        return log_sum(logits) - log_sum(-logits)  # log(p / (1 - p)) of the mean p
    each = jax.nn.log_softmax(logits)
    return jax.nn.logsumexp(each, axis=1) - jnp.log(each.shape[1])


def probabilities(
    logits: Float[Array, '*batch labels'], multi_label: bool = False
) -> Float[Array, '*batch labels']:
    """The probability of each label; they add up to 1 unless a clip may have several labels."""
    return jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits)


def loss(
    logits: Float[Array, '*batch labels'],
    target: Float[Array, '*#batch labels'],
    multi_label: bool = False,
    weights: Float[Array, '*#batch labels'] | None = None,
) -> Float[Array, '*batch']:
    """The loss of each case, in nats.

    Args:
      logits: of each label.
      target: the share of each label.
      multi_label: whether a case may have several labels.
      weights: of each label in each case, see `label_weights`; None: all are 1.
    """
    if multi_label:
        losses = optax.sigmoid_binary_cross_entropy(logits, target)
        return (losses if weights is None else losses * weights).mean(-1)
    losses = optax.softmax_cross_entropy(logits, target)
    return losses if weights is None else losses * weights.mean(-1)


def label_weights(
    target: Float[Array, 'batch labels'],
    class_weights: Float[np.ndarray, ' labels'] | Float[np.ndarray, '2 labels'],
) -> Float[Array, 'batch labels']:
    """What each label counts in the loss of each case.

    Args:
      target: the share of each label; a mixed case has the mean of its labels' weights.
      class_weights: of each label; where a clip may have several labels, of its absence and of its
        presence.
    """
    if class_weights.ndim == 1:
        return jnp.broadcast_to(jnp.sum(target * class_weights, -1, keepdims=True), target.shape)
    absent, present = class_weights
    return absent + target * (present - absent)


def smooth(
    target: Float[Array, '*batch labels'], amount: float, multi_label: bool = False
) -> Float[Array, '*batch labels']:
    """Targets of which `amount` is spread evenly over the labels, or over yes and no of each."""
    if multi_label:
        return (1 - amount) * target + amount / 2
    return optax.smooth_labels(target, amount)


def correct(
    logits: Float[Array, '*batch labels'],
    target: Float[Array, '*batch labels'],
    multi_label: bool = False,
) -> Float[Array, '*batch']:
    """Whether each case is decided right; the share of its labels, where it may have several."""
    if multi_label:
        return jnp.mean((logits > 0) == (target > 0.5), -1)
    return (jnp.argmax(logits, -1) == jnp.argmax(target, -1)).astype(jnp.float32)
