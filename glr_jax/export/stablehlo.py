"""JAX's own format: StableHLO for CPUs, NVIDIA GPUs and TPUs in one file, for a batch of any size.

It is used without glr_jax: `jax.export.deserialize(bytearray(content)).call(clips)` gives
probabilities and embeddings.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

from glr_jax.export.function import Function, Signature

PLATFORMS = ('cpu', 'cuda', 'tpu')


def make(function: Function, signature: Signature) -> bytes:
    """The content of the file; it can be read by JAX for at least six months of its versions."""
    (batch,) = export.symbolic_shape('batch')
    plain = lambda clips: tuple(function(clips))  # a NamedTuple would need its class to be read
    exported = export.export(jax.jit(plain), platforms=PLATFORMS)(signature.struct(batch))
    return bytes(exported.serialize())


def load(content: bytes) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The function in a file."""
    exported = export.deserialize(bytearray(content))

    def call(clips: np.ndarray) -> list[Any]:
        return [np.asarray(x) for x in exported.call(clips)]

    return call
