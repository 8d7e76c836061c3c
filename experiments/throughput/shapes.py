"""The inputs of a network's inner layers, for JAX and PyTorch alike; imports neither of them."""

import math
from typing import NamedTuple

from glr_jax.nn.config import ModelConfig

LABELS = 10


class Shapes(NamedTuple):
    """The inputs of a model's last convolution and of its recurrent layer.

    Attributes:
      positions: of the convolution: frames, and in 2-D mel bands.
      features: of the convolution's input.
      kernels: of the convolution.
      steps: of the recurrence.
      inputs: of the recurrence, per step.
    """

    positions: list[int]
    features: int
    kernels: int
    steps: int
    inputs: int


def inner_shapes(config: ModelConfig, frames: int, n_mels: int) -> Shapes:
    """The inputs of the last convolution and of the recurrent layer."""
    layers = config.conv_layers()
    before = math.prod(pool for _, pool in layers[:-1])
    images = config.conv == '2d'
    features = layers[-2][0] if len(layers) > 1 else 1 if images else n_mels
    (kernels, pool), positions = layers[-1], [frames // before]
    positions += [n_mels // before] if images else []
    inputs = kernels * (positions[1] // pool if images else 1)
    return Shapes(positions, features, kernels, positions[0] // pool, inputs)
