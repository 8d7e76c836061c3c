"""The classifier: convolutions, a recurrent layer, softmax; and its baselines, CNN and RNN.

    mel [B, T, F] -> standardise -> (conv -> norm -> ReLU -> max-pool) x n -> recurrence -> logits

The norm is passed into the blocks. Baselines leave out the convolutions or the recurrence. Blocks
compute in the type of their input; everything before the first block and after the recurrence, the
parameters, and the statistics of norms are float32.
"""

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


class InputStatistic(nnx.Variable):
    """Mean or standard deviation of each mel band over the training clips; kept, not trained."""


class ConvBlock(nnx.Module):
    """Convolution, norm, ReLU, max-pool."""

    def __init__(self, shape: Sequence[int], *, pool: int, norm: Norm, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), tuple(shape)))
        self.norm = norm.layer(shape[-1])
        self.pool = pool

    def __call__(self, x: Array) -> Array:
        """[batch, time, (frequency,) features] to [batch, pooled..., kernels]."""
        summed = conv(x, self.kernel[...].astype(x.dtype))
        # The ReLU of the maximum is the maximum of the ReLUs, for fewer values.
        return jax.nn.relu(max_pool(self.norm(summed).astype(x.dtype), self.pool))


class Recurrent(nnx.Module):
    """A recurrent layer with the norm on the summed inputs of every step (Eq. 5)."""

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
            remember = 1.0 if cell == 'lstm' else 0.0  # an LSTM starts with its forget gate open
            self.bias = nnx.Param(jnp.zeros((gates, hidden)).at[1:2].set(remember))

    def __call__(self, x: Float[Array, 'batch time features']) -> Float[Array, 'batch time hidden']:
        """The hidden state at every step."""
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
    """Mel spectrograms to the logits of each label.

    Args:
      config: architecture.
      n_mels: bands of the spectrograms.
      num_labels: number of classes.
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
            raise ValueError(f'pooling leaves none of {n_mels} mel bands')
        features, bands = (1, n_mels) if self.images else (n_mels, 1)
        blocks = []
        for kernels, pool in layers:
            taps = (config.kernel_size,) * (2 if self.images else 1)
            shape = (*taps, features, kernels)
            blocks.append(ConvBlock(shape, pool=pool, norm=norm, rngs=rngs))
            features, bands = kernels, bands // pool if self.images else 1
        self.blocks = nnx.List(blocks)
        features *= bands
        recurrent = config.kind != 'cnn'
        self.recurrent = (
            Recurrent(
                features,
                config.hidden,
                cell=config.cell,
                norm=norm,
                implementation=config.recurrence,
                rngs=rngs,
            )
            if recurrent
            else None
        )
        features = config.hidden if recurrent else features
        self.output = nnx.Linear(features, num_labels, rngs=rngs)

    def __call__(
        self, mel: Num[Array, 'batch time mels'], keys: Key[Array, ' batch'] | None = None
    ) -> Float[Array, 'batch labels']:
        """Logits.

        Args:
          mel: as stored in the dataset.
          keys: one per case, for dropout; None switches dropout off.
        """
        x = (mel.astype(jnp.float32) - self.mean[...]) / self.deviation[...]
        x = (x[..., None] if self.images else x).astype(self.dtype)
        for block in self.blocks:
            x = block(x)
        x = x.reshape(*x.shape[:2], -1)
        if self.recurrent is not None:
            x = self.recurrent(x)
        x = x.astype(jnp.float32)
        match self.readout:
            case 'last':
                return self.output(dropout(x[:, -1], self.dropout, keys))
            case 'mean':
                return self.output(dropout(x.mean(1), self.dropout, keys))
            case 'local':  # Eq. 6, O_t = softmax(V h_t), then the mean over time
                local = jax.nn.log_softmax(self.output(dropout(x, self.dropout, keys)))
                return jax.nn.logsumexp(local, axis=1) - jnp.log(local.shape[1])


def dropout(
    x: Float[Array, 'batch *rest'], rate: float, keys: Key[Array, ' batch'] | None
) -> Float[Array, 'batch *rest']:
    """Drops units at a rate.

    Each case draws from its own key, so the other cases and the devices do not matter.
    """
    if keys is None or rate == 0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


def partition(classifier: Classifier) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Structure, trained parameters, and statistics that are kept but not trained."""
    return nnx.split(classifier, nnx.Param, ...)  # type: ignore[return-value]


def make_classifier(config: ModelConfig, n_mels: int, num_labels: int, seed: int) -> Classifier:
    """The classifier of a config, its weights drawn from a seed."""
    norm = make_norm(config.norm, axis_name='data')
    return Classifier(config, n_mels=n_mels, num_labels=num_labels, norm=norm, rngs=nnx.Rngs(seed))
