"""What a model costs: its number of parameters, and the arithmetic of a forward pass."""

import math

import jax
from flax import nnx

from glr_jax.config import ModelConfig
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

    Counts matrix products only: norms, non-linearities and pooling add a few per cent. A train
    step takes about three times as many, less those of the input's gradient, which is not needed.
    """
    layers, total = config.conv_layers(), 0
    images = config.conv == '2d' and bool(layers)
    features, bands = (1, n_mels) if images else (n_mels, 1)
    for kernels, pool in layers:
        taps = config.kernel_size ** (2 if images else 1)
        total += 2 * frames * bands * taps * features * kernels
        frames, features = frames // pool, kernels
        bands = bands // pool if images else 1
    features *= bands
    if config.front == 'statistics':
        frames = count_windows(frames, config.window, config.window_hop)
        features, multiplied = _statistics(config, n_mels)
        total += 2 * frames * multiplied
    read = features
    if config.kind != 'cnn':
        directions = 1 + config.bidirectional
        gates = directions * GATES[config.cell] * config.hidden
        total += 2 * frames * (features + config.hidden) * gates
        read = directions * config.hidden
    if config.readout == 'moments':
        read = 2 * (read + features * (config.kind != 'cnn'))
    return total + 2 * read * num_labels * (frames if config.readout == 'local' else 1)


def _statistics(config: ModelConfig, n_mels: int) -> tuple[int, int]:
    """Features of a window, and the multiplications of its projections; FFTs are not counted."""
    values = sum(group_sizes(config.window, n_mels).values())
    return len(GROUPS) * config.projection, values * config.projection
