"""A front end of statistics: windows of a segment, their statistics, and a learned projection."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Num

from glr_jax.nn.config import WINDOW
from glr_jax.nn.dropout import Keys, dropout, fold
from glr_jax.nn.norms import Norm
from glr_jax.nn.statistics import GROUPS, statistics, statistics_of_windows

CLIP = 6.0  # standard deviations at which a standardised statistic is cut off
SPREAD = 15.0  # the scale, near that of decibels, on which `statistics` sees every dataset


class InputStatistic(nnx.Variable):
    """A mean or standard deviation over the training clips; kept, not trained."""


class StatisticsFront(nnx.Module):
    """Takes the place of the convolutions: one position per window of the segment.

        windows -> statistics -> standardise -> for each group: projection -> norm -> GELU

    Args:
      n_mels: mel bands of the spectrograms.
      window: frames per window; None: the whole segment is the only window.
      hop: frames from one window to the next.
      projection: units per group of statistics.
      dropout_rate: of the standardised statistics; all windows of a segment drop the same ones.
      norm: normalises the summed inputs of each projection.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        n_mels: int,
        *,
        window: int | None,
        hop: int,
        projection: int,
        norm: Norm,
        rngs: nnx.Rngs,
        dropout_rate: float = 0.0,
    ):
        self.window, self.hop, self.dropout_rate = window, hop, dropout_rate
        sizes = group_sizes(window or WINDOW, n_mels)
        draw = nnx.initializers.lecun_normal()
        self.means = nnx.Dict({name: InputStatistic(jnp.zeros(sizes[name])) for name in GROUPS})
        self.deviations = nnx.Dict({name: InputStatistic(jnp.ones(sizes[name])) for name in GROUPS})
        self.kernels = nnx.Dict(
            {name: nnx.Param(draw(rngs.params(), (sizes[name], projection))) for name in GROUPS}
        )
        self.norms = nnx.Dict({name: norm.layer(projection) for name in GROUPS})

    def raw(
        self, mel: Num[Array, 'batch time mels'], spread: Float[Array, '']
    ) -> dict[str, Float[Array, 'batch windows _']]:
        """The statistics of each window, not yet standardised.

        Args:
          mel: stored spectrograms, on any scale.
          spread: deviation of their values, so that decibels and bytes give the same statistics.
        """
        window = self.window or mel.shape[1]
        return statistics_of_windows(mel, window, self.hop, SPREAD / spread)

    def __call__(
        self, mel: Num[Array, 'batch time mels'], spread: Float[Array, ''], keys: Keys = None
    ) -> Float[Array, 'batch windows features']:
        """Stored spectrograms to the features of each window; the keys are those of dropout."""
        outputs = []
        for number, (name, x) in enumerate(self.raw(mel, spread).items()):
            x = (x - self.means[name][...]) / self.deviations[name][...]
            x = jnp.clip(x, -CLIP, CLIP)
            x = dropout(x, self.dropout_rate, fold(keys, number), shared=1)
            summed = x @ self.kernels[name][...]
            outputs.append(jax.nn.gelu(self.norms[name](summed)))
        return jnp.concatenate(outputs, -1)


def group_sizes(window: int, n_mels: int) -> dict[str, int]:
    """How many statistics each group has."""
    shape = jax.ShapeDtypeStruct((1, window, n_mels), jnp.float32)
    return {name: x.shape[1] for name, x in jax.eval_shape(statistics, shape).items()}


def count_windows(frames: int, window: int, hop: int) -> int:
    """How many windows fit into a segment."""
    return len(range(0, frames - window + 1, hop))
