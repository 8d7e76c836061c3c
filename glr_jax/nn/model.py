"""The classifier (convolutions, a recurrent layer, logits) and its CNN and RNN variants.

    mel [B, T, F] -> standardise -> (conv -> norm -> ReLU -> max-pool) x n -> recurrence -> logits

The norm is passed into the blocks. The CNN leaves out the recurrence, the RNN the convolutions; a
front end of statistics may take the place of the convolutions.
Blocks compute in the type of their input. Everything before the first block and after the
recurrence is float32, and so are the parameters and the norms' statistics.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Key, Num

from glr_jax.config import CellName, ModelConfig, Recurrence
from glr_jax.nn.conv import conv, max_pool
from glr_jax.nn.norms import Norm, make_norm
from glr_jax.nn.rnn import GATES, recur
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import InputStatistic, StatisticsFront


class ConvBlock(nnx.Module):
    """Convolution, norm, ReLU, max-pool.

    Args:
      shape: of the kernel: one size per axis of positions, then features and kernels.
      pool: max-pool size.
      norm: the normalisation of the summed inputs.
      rngs: source of the initial weights.
    """

    def __init__(self, shape: Sequence[int], *, pool: int, norm: Norm, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), tuple(shape)))
        self.norm = norm.layer(shape[-1])
        self.pool = pool

    def __call__(
        self, x: Float[Array, 'batch *positions features']
    ) -> Float[Array, 'batch *pooled kernels']:
        """Applies the block; positions are time, or time and frequency."""
        summed = conv(x, self.kernel[...].astype(x.dtype))
        # max_pool(relu(...)) is the same, but this way the ReLU has fewer values to compute.
        return jax.nn.relu(max_pool(self.norm(summed).astype(x.dtype), self.pool))


class Recurrent(nnx.Module):
    """A recurrent layer that normalises the summed inputs at every step (Eq. 5).

    Args:
      features: number of inputs.
      hidden: number of units.
      cell: simple, gru or lstm.
      norm: the normalisation; one that cannot go inside a recurrence normalises its inputs.
      implementation: auto, scan or fused, as in `rnn.recur`.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        cell: CellName,
        norm: Norm,
        implementation: Recurrence,
        rngs: nnx.Rngs,
    ):
        self.cell, self.step_norm, gates = cell, norm.step, GATES[cell]
        self.implementation = implementation
        draw, draw_hidden = nnx.initializers.lecun_normal(), nnx.initializers.orthogonal()
        self.input_kernel = nnx.Param(draw(rngs.params(), (features, gates * hidden)))
        hidden_kernels = [draw_hidden(rngs.params(), (hidden, hidden)) for _ in range(gates)]
        self.hidden_kernel = nnx.Param(jnp.stack(hidden_kernels, 1))
        if norm.step is None:
            self.input_norm = norm.layer(gates * hidden)
        else:
            self.gain = nnx.Param(jnp.ones((gates, hidden)))
            remember = 1.0 if cell == 'lstm' else 0.0  # bias 1 keeps an LSTM's forget gate open
            self.bias = nnx.Param(jnp.zeros((gates, hidden)).at[1:2].set(remember))

    def __call__(self, x: Float[Array, 'batch time features']) -> Float[Array, 'batch time hidden']:
        """Returns the hidden state at every step."""
        summed = x @ self.input_kernel[...].astype(x.dtype)
        gain = bias = None
        if self.step_norm is None:
            summed = self.input_norm(summed).astype(x.dtype)
        else:
            gain, bias = self.gain[...], self.bias[...]
        kernel = self.hidden_kernel[...].astype(x.dtype)
        return recur(
            self.cell,
            summed.reshape(*x.shape[:2], *kernel.shape[1:]),
            kernel,
            gain,
            bias,
            norm=self.step_norm,
            implementation=self.implementation,
        )


class Classifier(nnx.Module):
    """Maps mel spectrograms to one logit per label.

    Args:
      config: the architecture.
      n_mels: mel bands of the spectrograms.
      num_labels: number of labels.
      norm: the normalisation in every block.
      rngs: source of the initial weights.

    Raises:
      ValueError: pooling leaves no mel bands.
    """

    def __init__(
        self, config: ModelConfig, *, n_mels: int, num_labels: int, norm: Norm, rngs: nnx.Rngs
    ):
        self.mean = InputStatistic(jnp.zeros(n_mels))
        self.deviation = InputStatistic(jnp.ones(n_mels))
        self.readout, self.dropout, self.dtype = config.readout, config.dropout, config.dtype
        layers = config.conv_layers()
        self.images = config.conv == '2d' and bool(layers)
        if self.images and n_mels < math.prod(pool for _, pool in layers):
            raise ValueError(f'pooling leaves none of the {n_mels} mel bands; use smaller pools')
        features, bands = (1, n_mels) if self.images else (n_mels, 1)
        blocks = []
        for kernels, pool in layers:
            taps = (config.kernel_size,) * (2 if self.images else 1)
            shape = (*taps, features, kernels)
            blocks.append(ConvBlock(shape, pool=pool, norm=norm, rngs=rngs))
            features, bands = kernels, bands // pool if self.images else 1
        self.blocks = nnx.List(blocks)
        features *= bands
        self.front = (
            None if config.front == 'conv' else _statistics_front(config, n_mels, norm, rngs)
        )
        if self.front is not None:
            features = len(GROUPS) * config.projection
        layer = functools.partial(
            Recurrent,
            features,
            config.hidden,
            cell=config.cell,
            norm=norm,
            implementation=config.recurrence,
            rngs=rngs,
        )
        recurrent = config.kind != 'cnn'
        self.recurrent = layer() if recurrent else None
        self.backward = layer() if recurrent and config.bidirectional else None
        states = config.hidden * (1 + config.bidirectional) if recurrent else 0
        read = {'moments': 2 * (states + features)}.get(config.readout, states or features)
        self.front_dropout = config.front_dropout
        self.output = nnx.Linear(read, num_labels, rngs=rngs)

    def spread(self) -> Float[Array, '']:
        """Root mean square of the mel bands' standard deviations, on the stored scale."""
        return jnp.sqrt(jnp.mean(jnp.square(self.deviation[...])))

    def __call__(
        self, mel: Num[Array, 'batch time mels'], keys: Key[Array, ' batch'] | None = None
    ) -> Float[Array, 'batch labels']:
        """Computes the logits of a batch.

        Args:
          mel: spectrograms as stored in the dataset, not yet standardised.
          keys: one random key per case, for dropout; None switches dropout off.

        Returns:
          The logits; with the readout `local`, the logarithms of the mean probabilities.
        """
        if self.front is not None:
            x = self.front(mel.astype(jnp.float32), self.spread()).astype(self.dtype)
        else:
            x = (mel.astype(jnp.float32) - self.mean[...]) / self.deviation[...]
            x = (x[..., None] if self.images else x).astype(self.dtype)
            for block in self.blocks:
                x = block(x)
            x = x.reshape(*x.shape[:2], -1)
        if self.front_dropout and keys is not None:
            x = dropout(x, self.front_dropout, jax.vmap(jax.random.fold_in, (0, None))(keys, 1))
        inputs = x
        if self.recurrent is not None:
            x = self.recurrent(x)
        if self.backward is not None:
            x = jnp.concatenate([x, self.backward(inputs[:, ::-1])[:, ::-1]], -1)
        x = x.astype(jnp.float32)
        match self.readout:
            case 'last':
                return self.output(dropout(x[:, -1], self.dropout, keys))
            case 'mean':
                return self.output(dropout(x.mean(1), self.dropout, keys))
            case 'moments':
                if self.recurrent is not None:
                    x = jnp.concatenate([x, inputs.astype(jnp.float32)], -1)
                return self.output(dropout(moments(x), self.dropout, keys))
            case 'local':  # Eq. 6: O_t = softmax(V h_t), then the mean over time
                local = jax.nn.log_softmax(self.output(dropout(x, self.dropout, keys)))
                return jax.nn.logsumexp(local, axis=1) - jnp.log(local.shape[1])


def moments(x: Float[Array, 'batch time features']) -> Float[Array, 'batch two_features']:
    """Mean and standard deviation over time, with a finite gradient for a constant."""
    return jnp.concatenate([x.mean(1), jnp.sqrt(x.var(1) + 1e-6)], -1)


def dropout(
    x: Float[Array, 'batch *rest'], rate: float, keys: Key[Array, ' batch'] | None
) -> Float[Array, 'batch *rest']:
    """Zeroes units at random and scales up the others.

    Each case draws from its own key, so its result depends neither on the rest of the batch nor on
    the number of devices.

    Args:
      x: any units, one row per case.
      rate: the probability that a unit is dropped.
      keys: one random key per case; None switches dropout off.
    """
    if keys is None or rate == 0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


def partition(classifier: Classifier) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Splits a classifier into its structure, trained parameters, and untrained statistics."""
    return nnx.split(classifier, nnx.Param, ...)  # type: ignore[return-value]


def _statistics_front(
    config: ModelConfig, n_mels: int, norm: Norm, rngs: nnx.Rngs
) -> StatisticsFront:
    return StatisticsFront(
        n_mels,
        window=config.window,
        hop=config.window_hop,
        projection=config.projection,
        norm=norm,
        rngs=rngs,
    )


def make_classifier(config: ModelConfig, n_mels: int, num_labels: int, seed: int) -> Classifier:
    """The classifier that a config describes, with weights drawn from a seed."""
    norm = make_norm(config.norm, axis_name='data')
    return Classifier(config, n_mels=n_mels, num_labels=num_labels, norm=norm, rngs=nnx.Rngs(seed))
