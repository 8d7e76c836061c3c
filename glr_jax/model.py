"""The classifier: convolutions, a recurrent layer, softmax; and its baselines, CNN and RNN.

    mel [B, T, F] -> standardise -> (conv -> norm -> ReLU -> max-pool) x n -> recurrence -> logits

The norm is passed into the blocks. A part that a baseline lacks is left out. Blocks compute in the
type of their input; parameters and statistics of norms are float32, and so are all parts before the
first block and after the recurrence.
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float, Key, Num

from glr_jax import fused
from glr_jax.cli import UsageError
from glr_jax.config import ModelConfig
from glr_jax.conv import conv, max_pool
from glr_jax.glr import glr
from glr_jax.norms import Norm, make_norm
from glr_jax.rnn import GATES, CellName, GateNorm, recur

Readout = Literal['mean', 'last', 'local']
Recurrence = Literal['auto', 'scan', 'fused']


class InputStatistic(nnx.Variable):
    """Mean and deviation of each mel band over the training clips: not trained, but kept."""


class ConvBlock(nnx.Module):
    """Convolution, norm, ReLU, max-pool."""

    def __init__(self, shape: Sequence[int], *, pool: int, norm: Norm, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), tuple(shape)))
        self.norm = norm.layer(shape[-1])
        self.pool = pool

    def __call__(self, x: Array) -> Array:
        """[batch, time, (frequency,) features] to the same, pooled, of other features."""
        summed = conv(x, self.kernel[...].astype(x.dtype))
        # The largest of ReLUs is the ReLU of the largest, and there are fewer of those.
        return jax.nn.relu(max_pool(self.norm(summed).astype(x.dtype), self.pool))


class Recurrent(nnx.Module):
    """A recurrent layer with the norm on the summed inputs of every step (Eq. 5).

    Raises:
      UsageError: `recurrence` is 'fused', and there is no kernel for this.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        cell: CellName,
        norm: Norm,
        recurrence: Recurrence,
        rngs: nnx.Rngs,
    ):
        self.cell, self.step_norm, gates = cell, norm.step, GATES[cell]
        fusible = cell == 'simple' and norm.step is glr and hidden <= fused.MAX_HIDDEN
        if recurrence == 'fused' and not fusible:
            raise UsageError(
                '--model.recurrence=fused needs --model.cell=simple, --model.norm=glr or '
                f'glr_layer, and --model.hidden of at most {fused.MAX_HIDDEN}; auto does not'
            )
        self.recurrence = recurrence if fusible else 'scan'
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
        if self.step_norm is None:
            summed = self.input_norm(summed).astype(x.dtype)
        kernel = self.hidden_kernel[...].astype(x.dtype)
        summed = summed.reshape(*x.shape[:2], *kernel.shape[1:])
        if self.recurrence == 'fused':
            return self._fused(summed, kernel)
        # Decided for the platform that is compiled for. A TPU's kernel compiles, too, but that it
        # is faster than the scan has not been measured.
        scan = functools.partial(recur, self.cell, norm=self._gate_norm())
        ways = {'cpu': functools.partial(scan, unroll=1)}
        if self.recurrence == 'auto' and fused.compiles_for(jax.local_devices()):
            ways['cuda'] = functools.partial(self._fused, target=fused.CUDA)
        return lax.platform_dependent(summed, kernel, default=scan, **ways)

    def _fused(self, x: Array, kernel: Array, target: fused.Target | None = None) -> Array:
        gain, bias = self.gain[...][0], self.bias[...][0]
        return fused.recur(x[:, :, 0], kernel[:, 0], gain, bias, target=target)

    def _gate_norm(self) -> GateNorm:
        if self.step_norm is None:
            return lambda a, gates: a
        over_gates = jax.vmap(self.step_norm, in_axes=(1, 0, 0), out_axes=1)
        gain, bias = self.gain[...], self.bias[...]
        return lambda a, gates: over_gates(a, gain[gates], bias[gates])


class Classifier(nnx.Module):
    """Mel spectrograms to the logits of each label.

    Args:
      config: architecture.
      n_mels: bands of the spectrograms.
      labels: number of classes.
      norm: the normalisation of every block.
      rngs: where the initial weights come from.
    """

    def __init__(
        self, config: ModelConfig, *, n_mels: int, labels: int, norm: Norm, rngs: nnx.Rngs
    ):
        self.mean = InputStatistic(jnp.zeros(n_mels))
        self.deviation = InputStatistic(jnp.ones(n_mels))
        self.readout, self.dropout, self.dtype = config.readout, config.dropout, config.dtype
        layers = config.conv_layers()
        self.images = config.conv == '2d' and bool(layers)
        features, bands = (1, n_mels) if self.images else (n_mels, 1)
        blocks = []
        for kernels, pool in layers:
            taps = (config.kernel_size,) * (2 if self.images else 1)
            shape = (*taps, features, kernels)
            blocks.append(ConvBlock(shape, pool=pool, norm=norm, rngs=rngs))
            features, bands = kernels, bands // pool if self.images else 1
        self.blocks = nnx.List(blocks)
        features *= bands
        recurrent, hidden = config.kind != 'cnn', config.hidden
        self.recurrent = (
            Recurrent(
                features,
                hidden,
                cell=config.cell,
                norm=norm,
                recurrence=config.recurrence,
                rngs=rngs,
            )
            if recurrent
            else None
        )
        self.output = nnx.Linear(hidden if recurrent else features, labels, rngs=rngs)

    def __call__(
        self, mel: Num[Array, 'batch time mels'], keys: Key[Array, ' batch'] | None = None
    ) -> Float[Array, 'batch labels']:
        """Logits.

        Args:
          mel: as it is stored.
          keys: one a case, for dropout; None leaves every unit in.
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
    """Drops units at a rate, drawn case by case, so that batch mates and devices do not matter."""
    if keys is None or rate == 0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


def split(classifier: Classifier) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """What the classifier is made of, what is trained, and what is kept but not trained."""
    return nnx.split(classifier, nnx.Param, ...)  # type: ignore[return-value]


def make_classifier(config: ModelConfig, n_mels: int, labels: int, seed: int) -> Classifier:
    """The classifier of a config, its weights drawn from a seed.

    Raises:
      UsageError: pooling over mels (`conv='2d'`) leaves none of them, or `recurrence='fused'` is
        not to be had.
    """
    pooled = math.prod(pool for _, pool in config.conv_layers())
    if config.conv == '2d' and n_mels < pooled:
        raise UsageError(f'--model.pool pools {pooled} mel bands to one, but there are {n_mels}')
    norm = make_norm(config.norm, axis_name='data')
    return Classifier(config, n_mels=n_mels, labels=labels, norm=norm, rngs=nnx.Rngs(seed))
