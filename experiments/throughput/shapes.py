"""What to time in PyTorch, and the inputs of the inner layers; imports neither PyTorch nor JAX."""

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


class Variant(NamedTuple):
    """A way to run PyTorch; in words: `compiled, 2 threads`."""

    compiled: bool
    threads: int

    def __str__(self) -> str:
        return f'{"compiled" if self.compiled else "eager"}, {self.threads} threads'


class Job(NamedTuple):
    """One workload of PyTorch.

    Attributes:
      config: a CRNN with simple cells and GLR, or the default network.
      batch_size: clips per call.
      frames: per clip.
      n_mels: mel bands.
      name: of the workload, as in `experiments.throughput.workloads`.
      variant: eager or compiled, and the number of threads.
    """

    config: ModelConfig
    batch_size: int
    frames: int
    n_mels: int
    name: str
    variant: Variant
