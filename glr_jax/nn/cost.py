"""What a model costs: its number of parameters, and the arithmetic of a forward pass."""

import math

import jax
from flax import nnx

from glr_jax.nn import bbnn, readout, window_pooling
from glr_jax.nn.config import ModelConfig
from glr_jax.nn.model import make_classifier, partition
from glr_jax.nn.rnn import GATES
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import count_windows, group_sizes


def parameters(config: ModelConfig, n_mels: int, num_labels: int) -> int:
    """The number of trained parameters of a classifier; computes no weights."""
    abstract = nnx.eval_shape(lambda: make_classifier(config, n_mels, num_labels, seed=0))
    return size(partition(abstract)[1])


def size(params: nnx.State) -> int:
    """The number of values in all arrays together."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def flops(config: ModelConfig, n_mels: int, num_labels: int, frames: int) -> int:
    """Floating-point operations in the forward pass of one segment; a multiply-add counts as two.

    Counts matrix products with weights only. Norms, non-linearities and pooling add a few per cent,
    but the fixed statistics of windows may take as long as their projections. A train step takes
    about three times as many, less those of the input's gradient, which is not needed.
    """
    positions, features, multiplied = _convolutions(config, n_mels, frames)
    steps = positions
    if config.front == 'bbnn':
        steps, features = frames // config.pooled()[0], bbnn.KERNELS
        multiplied += bbnn.products(frames, n_mels // config.merge_bands)
    if config.has_statistics():
        steps = count_windows(frames, config.window, config.window_hop)
        values = sum(group_sizes(config.window, n_mels).values())
        multiplied += steps * values * config.projection
        whole = config.segment_projection
        multiplied += values * whole + len(GROUPS) * whole * num_labels
    if config.front == 'both':
        length = config.window // config.pooled()[0]
        multiplied += window_pooling.products(
            features, positions, windows=steps, length=length, projection=config.projection
        )
    if config.has_statistics():
        features = (len(GROUPS) + (config.front == 'both')) * config.projection
    states = 0
    if config.kind != 'cnn':
        directions = 1 + config.bidirectional
        gates = directions * GATES[config.cell] * config.hidden
        multiplied += steps * (features + config.hidden) * gates
        states = directions * config.hidden
    multiplied += readout.products(config.readout, states, features, steps)
    outputs = num_labels * (steps if config.readout == 'local' else 1)
    return 2 * (multiplied + readout.size(config.readout, states, features) * outputs)


def _convolutions(config: ModelConfig, n_mels: int, frames: int) -> tuple[int, int, int]:
    """Positions over time and features of each after the convolutions, and the multiplications."""
    layers, total, images = config.conv_layers(), 0, config.has_images()
    features, bands = (1, n_mels // config.merge_bands) if images else (n_mels, 1)
    for (kernels, pool), band_pool in zip(layers, config.band_pools(), strict=True):
        taps = config.kernel_size ** (2 if images else 1)
        total += frames * bands * taps * features * kernels
        frames, features = frames // pool, kernels
        bands = bands // band_pool if images else 1
    return frames, features * bands, total
