"""TensorFlow Lite, for LiteRT on phones and boards; the batch size is fixed.

LiteRT's converter reads StableHLO, so TensorFlow is not needed. Its conversion of loops is
incomplete, so the recurrence is written out step by step. It converts no program with a symbolic
batch (tried with litert-converter 0.5.0), and LiteRT 2.3.0 cannot resize the batch of a finished
file, because the reshapes hold it as a constant.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import export

from glr_jax.errors import UserError
from glr_jax.export.function import Function, Signature
from glr_jax.export.portable import portable

NAME, INPUT, OUTPUTS = 'serving_default', 'clips', ['probabilities', 'embeddings']


def make(function: Function, signature: Signature, batch: int) -> bytes:
    """The content of the file.

    Raises:
      UserError: the converter cannot convert this network.
    """
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as converter

    plain = jax.jit(portable(function, unroll=True))
    text = export.export(plain, platforms=['cpu'])(signature.struct(batch)).mlir_module()
    context = ir.Context()
    converter.prepare_mlir_context(context)
    try:
        with context:
            module = ir.Module.parse(text)
            converter.set_signature(module.operation, NAME, [INPUT], OUTPUTS)
            config, passes = converter.ConvertToTFLConfig(), passmanager.PassManager()
            converter.run_convert_to_tfl_passes(module, passes, config)
            return bytes(converter.export_flatbuffer_to_bytes(module.operation))
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"LiteRT's converter cannot convert this network: {reason}") from None


def load(content: bytes) -> Callable[[np.ndarray], list[np.ndarray]] | None:
    """The function in a file; None without LiteRT."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    runner = Interpreter(model_content=content).get_signature_runner(NAME)

    def call(clips: np.ndarray) -> list[Any]:
        found = runner(**{INPUT: clips})
        return [found[name] for name in OUTPUTS]

    return call
