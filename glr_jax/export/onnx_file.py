"""ONNX, for ONNX Runtime and others, for a batch of any size."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import export

from glr_jax.export.function import Function, Signature
from glr_jax.export.portable import portable

INPUT, OUTPUTS = 'clips', ('probabilities', 'embeddings')


def make(function: Function, signature: Signature, metadata: dict[str, Any]) -> bytes:
    """The content of the file; its metadata are JSON texts."""
    from glr_jax.export import onnx_program  # needs the package onnx

    (batch,) = export.symbolic_shape('batch')
    program = onnx_program.trace(portable(function), signature.struct(batch))
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    return onnx_program.make_model(program, OUTPUTS, INPUT, texts).SerializeToString()


def load(content: bytes) -> Callable[[np.ndarray], list[np.ndarray]] | None:
    """The function in a file; None without ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    return lambda clips: session.run(list(OUTPUTS), {INPUT: clips})
