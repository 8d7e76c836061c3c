"""Readouts: from a sequence of states to what the output layer reads.

    mean        mean over time of the states
    last        last state
    local       every state; the classifier averages the probabilities per step (Eq. 6)
    max         maximum over time of the states
    attention   mean over time of the states, weighted by a learned score of each
    moments     mean and standard deviation over time of the states and of the front-end features
    covariance  `moments`, and the covariance over time of a learned projection of both

The states are those of the recurrence, and the front-end features are its inputs. Without a
recurrence, the features take the place of the states.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from glr_jax.nn.config import Readout as ReadoutName
from glr_jax.nn.moments import covariance

SCORED = 32  # hidden units of the attention's score
PROJECTED = 16  # units of the projection whose covariance is read

Sequence = Float[Array, 'batch time _']


class Readout(nnx.Module):
    """Reads a sequence of states, and of front-end features beside them.

    Args:
      name: of the readout.
      states: units of the recurrence; 0 without one.
      features: front-end features per step.
      rngs: source of the initial weights.
    """

    def __init__(self, name: ReadoutName, states: int, features: int, *, rngs: nnx.Rngs):
        self.name = name
        if name == 'attention':
            self.hidden = nnx.Linear(states or features, SCORED, rngs=rngs)
            # A bias would change nothing, because the weights add up to 1.
            self.score = nnx.Linear(SCORED, 1, use_bias=False, rngs=rngs)
        if name == 'covariance':
            self.projection = nnx.Linear(states + features, PROJECTED, use_bias=False, rngs=rngs)

    def __call__(
        self, states: Sequence | None, features: Sequence
    ) -> Float[Array, 'batch read'] | Float[Array, 'batch time read']:
        """What the output layer reads; for `local`, one vector per step.

        Args:
          states: of the recurrence, in float32; None without one.
          features: of the front end.
        """
        x = features.astype(jnp.float32) if states is None else states
        match self.name:
            case 'last':
                return x[:, -1]
            case 'mean':
                return x.mean(1)
            case 'local':
                return x
            case 'max':
                return x.max(1)
            case 'attention':
                score = self.score(jnp.tanh(self.hidden(x)))
                return (jax.nn.softmax(score, axis=1) * x).sum(1)
        if states is not None:
            x = jnp.concatenate([states, features.astype(jnp.float32)], -1)
        if self.name == 'moments':
            return moments(x)
        return jnp.concatenate([moments(x), covariance_over_time(self.projection(x))], -1)


def size(name: ReadoutName, states: int, features: int) -> int:
    """How many values the output layer reads at once."""
    if name in ('moments', 'covariance'):
        return 2 * (states + features) + (name == 'covariance') * pairs(PROJECTED)
    return states or features


def products(name: ReadoutName, states: int, features: int, steps: int) -> int:
    """The multiplications of the readout's own weights, for one segment."""
    match name:
        case 'attention':
            return steps * ((states or features) + 1) * SCORED
        case 'covariance':
            return steps * (states + features) * PROJECTED
    return 0


def pairs(features: int) -> int:
    """How many values `covariance_over_time` has: the upper triangle, with the variances."""
    return features * (features + 1) // 2


def moments(x: Sequence) -> Float[Array, 'batch two_features']:
    """Mean and standard deviation over time, with a finite gradient for a constant."""
    return jnp.concatenate([x.mean(1), jnp.sqrt(x.var(1) + 1e-6)], -1)


def covariance_over_time(x: Sequence) -> Float[Array, 'batch pairs']:
    """`moments.covariance`, but 0 for a single step, where that would divide by 0."""
    return covariance(jnp.concatenate([x, x], 1) if x.shape[1] == 1 else x)
