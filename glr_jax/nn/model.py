"""The classifier (convolutions, a recurrent layer, logits) and its CNN and RNN variants.

    mel [B, T, F] -> front end -> recurrence -> readout -> logits
    statistics    windows -> statistics of each -> projection -> norm -> GELU
    conv          standardise -> (conv -> norm -> ReLU -> max-pool) x n
    both          the two side by side, the convolutions pooled to the same windows
    bbnn          standardise -> BBNN

With statistics, a second output may read those of the whole segment; the probabilities of both are
averaged. The norm is passed into the blocks. The CNN leaves out the recurrence, the RNN the front
end.
Blocks compute in the type of their input. Everything before the first block and after the
recurrence is float32, and so are the parameters and the norms' statistics.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Key, Num

from glr_jax.nn import bbnn, readout
from glr_jax.nn.config import CellName, ModelConfig, Recurrence
from glr_jax.nn.conv import conv, max_pool, mean_pool
from glr_jax.nn.dropout import Keys, dropout, fold
from glr_jax.nn.norms import Norm, make_norm
from glr_jax.nn.outputs import Read, combined, mean_output
from glr_jax.nn.rnn import GATES, recur
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import InputStatistic, StatisticsFront, count_windows
from glr_jax.nn.window_pooling import WindowPooling


class ConvBlock(nnx.Module):
    """Convolution, norm, ReLU, max-pool.

    Args:
      shape: of the kernel: one size per axis of positions, then features and kernels.
      pool: max-pool size along each axis of positions.
      norm: the normalisation of the summed inputs.
      rngs: source of the initial weights.
    """

    def __init__(self, shape: Sequence[int], *, pool: Sequence[int], norm: Norm, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), tuple(shape)))
        self.norm = norm.layer(shape[-1])
        self.pool = tuple(pool)

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
        self.implementation, self.passes_level = implementation, norm.passes_level
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
        if norm.passes_level:
            self.mean_weight = nnx.Param(jnp.zeros((gates, hidden)))
            self.deviation_weight = nnx.Param(jnp.zeros((gates, hidden)))

    def __call__(self, x: Float[Array, 'batch time features']) -> Float[Array, 'batch time hidden']:
        """Returns the hidden state at every step."""
        summed = x @ self.input_kernel[...].astype(x.dtype)
        parameters: tuple[Array, ...] = ()
        if self.step_norm is None:
            summed = self.input_norm(summed).astype(x.dtype)
        else:
            parameters = self.gain[...], self.bias[...]
        if self.passes_level:
            parameters += self.mean_weight[...], self.deviation_weight[...]
        kernel = self.hidden_kernel[...].astype(x.dtype)
        return recur(
            self.cell,
            summed.reshape(*x.shape[:2], *kernel.shape[1:]),
            kernel,
            *parameters,
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
      multi_label: whether a clip may have several labels.

    Raises:
      ValueError: pooling leaves no mel bands.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        n_mels: int,
        num_labels: int,
        norm: Norm,
        rngs: nnx.Rngs,
        multi_label: bool = False,
    ):
        self.mean = InputStatistic(jnp.zeros(n_mels))
        self.deviation = InputStatistic(jnp.ones(n_mels))
        self.dropout, self.dtype = config.dropout, config.dtype
        self.multi_label = multi_label
        _, bands = config.pooled()
        if n_mels < bands:
            raise ValueError(f'pooling leaves none of the {n_mels} mel bands; use smaller pools')
        self.images, self.merge_bands = config.has_images(), config.merge_bands
        blocks, features = _conv_blocks(config, n_mels // config.merge_bands, norm, rngs)
        self.blocks = nnx.List(blocks)
        windowed: dict[str, Any] = {'window': config.window, 'hop': config.window_hop}
        windowed |= {'projection': config.projection, 'norm': norm, 'rngs': rngs}
        rate = config.statistics_dropout
        statistics, both = config.has_statistics(), config.front == 'both'
        frames, _ = config.pooled()
        self.bbnn = bbnn.BBNN(norm=norm, rngs=rngs) if config.front == 'bbnn' else None
        self.front = StatisticsFront(n_mels, **windowed, dropout_rate=rate) if statistics else None
        self.pooling = WindowPooling(features, pooled=frames, **windowed) if both else None
        if self.bbnn is not None:
            features = bbnn.KERNELS
        if self.front is not None:
            features = (len(GROUPS) + both) * config.projection
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
        self.front_dropout = config.front_dropout
        self.readout = readout.Readout(config.readout, states, features, rngs=rngs)
        read = readout.size(config.readout, states, features)
        self.output = nnx.Linear(read, num_labels, rngs=rngs)
        whole = windowed | {'window': None, 'projection': config.segment_projection}
        second = statistics and config.segment_projection > 0
        read = len(GROUPS) * config.segment_projection
        self.segment_front = StatisticsFront(n_mels, **whole, dropout_rate=rate) if second else None
        self.segment_output = nnx.Linear(read, num_labels, rngs=rngs) if second else None

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
          The logits; with several outputs, or the readout `local`, those of the mean
          probabilities.
        """
        return combined(self.outputs(mel, keys), self.multi_label)

    def outputs(
        self, mel: Num[Array, 'batch time mels'], keys: Key[Array, ' batch'] | None = None
    ) -> Float[Array, 'batch outputs labels']:
        """The logits of each output; outputs are trained side by side. Arguments as `__call__`."""
        return self.outputs_of(self.read(mel, keys), keys)

    def outputs_of(
        self, read: Read, keys: Key[Array, ' batch'] | None = None
    ) -> Float[Array, 'batch outputs labels']:
        """The logits of each output, from what they read."""
        logits = self.output(dropout(read.sequence, self.dropout, keys))
        if logits.ndim == 3:
            # Eq. 6: O_t = softmax(V h_t), then the mean over time
            logits = mean_output(logits, self.multi_label)
        outputs = [logits]
        if read.segment is not None and self.segment_output is not None:
            outputs.append(self.segment_output(dropout(read.segment, self.dropout, fold(keys, 3))))
        return jnp.stack(outputs, 1)

    def read(
        self, mel: Num[Array, 'batch time mels'], keys: Key[Array, ' batch'] | None = None
    ) -> Read:
        """What the outputs read. Arguments as `__call__`."""
        features = self.features(mel, keys)
        features = dropout(features, self.front_dropout, fold(keys, 1))
        states = None
        if self.recurrent is not None:
            states = self.recurrent(features).astype(jnp.float32)
            if self.backward is not None:
                backward = self.backward(features[:, ::-1])[:, ::-1]
                states = jnp.concatenate([states, backward], -1)
        segment = None
        if self.segment_front is not None:
            segment = self.segment_front(mel, self.spread(), fold(keys, 2))[:, 0]
        return Read(self.readout(states, features), segment)

    def features(
        self, mel: Num[Array, 'batch time mels'], keys: Keys = None
    ) -> Float[Array, 'batch steps features']:
        """What the recurrence reads: the front end's output, in the type that layers compute in."""
        statistics = []
        if self.front is not None:
            statistics.append(self.front(mel, self.spread(), fold(keys, 4)))
        if statistics and self.pooling is None:
            return statistics[0].astype(self.dtype)
        x = (mel.astype(jnp.float32) - self.mean[...]) / self.deviation[...]
        if self.images:
            x = mean_pool(x[..., None], (1, self.merge_bands))
        x = x.astype(self.dtype)
        if self.bbnn is not None:
            return self.bbnn(x)
        for block in self.blocks:
            x = block(x)
        x = x.reshape(*x.shape[:2], -1)
        if self.pooling is None:
            return x
        windows = count_windows(mel.shape[1], self.pooling.window, self.pooling.hop)
        parts = [*statistics, self.pooling(x, windows)]
        return jnp.concatenate(parts, -1).astype(self.dtype)


CRNN = Classifier  # as the paper calls it


def partition(classifier: Classifier) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Splits a classifier into its structure, trained parameters, and untrained statistics."""
    return nnx.split(classifier, nnx.Param, ...)  # type: ignore[return-value]


def _conv_blocks(
    config: ModelConfig, n_mels: int, norm: Norm, rngs: nnx.Rngs
) -> tuple[list[ConvBlock], int]:
    """The blocks, and how many features the last one has at each time step."""
    layers, axes = config.conv_layers(), 2 if config.conv == '2d' else 1
    features, bands = (1, n_mels) if axes == 2 and layers else (n_mels, 1)
    blocks = []
    for (kernels, pool), band_pool in zip(layers, config.band_pools(), strict=True):
        shape = (*(config.kernel_size,) * axes, features, kernels)
        pools = (pool, band_pool)[:axes]
        blocks.append(ConvBlock(shape, pool=pools, norm=norm, rngs=rngs))
        features, bands = kernels, bands // band_pool if axes == 2 else 1
    return blocks, features * bands


def make_classifier(
    config: ModelConfig, n_mels: int, num_labels: int, seed: int, multi_label: bool = False
) -> Classifier:
    """The classifier that a config describes, with weights drawn from a seed."""
    return Classifier(
        config,
        n_mels=n_mels,
        num_labels=num_labels,
        norm=make_norm(config.norm, axis_name='data', pass_level=config.pass_level),
        rngs=nnx.Rngs(seed),
        multi_label=multi_label,
    )
