"""The kernels of `fused_rnn` for NVIDIA GPUs from Hopper on, by Pallas' Mosaic backend.

A program is a group of 128 threads that together hold the weights in their registers, arranged as
for a matrix product of the tensor cores. Elsewhere each thread has one of the 128 values of a
vector. The product needs the state along the rows of the weights, and its sums come out along the
columns, where several threads have the same value; both pass through shared memory.

Needs jax 0.12; in earlier versions this backend reads and interprets kernels in another way.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.pallas import mosaic_gpu as pallas_backend
from jaxtyping import Float

from glr_jax.nn.fused_target import STEPS, Axes, Body, Kernel, Like, Target

mosaic_gpu: Any = pallas_backend  # its types depend on the version
if not hasattr(mosaic_gpu, 'InterpretGPUParams'):
    raise ImportError('Mosaic kernels for GPUs need jax 0.12')
WIDTH = 128  # one value per thread
ALONG_ROWS = mosaic_gpu.Layout.WGMMA.reduce(1)
ONE_PER_THREAD = mosaic_gpu.Layout.WG_STRIDED((WIDTH,), 1)
SUMS_BYTES = 16 << 10  # of shared memory: with less, a sum over the rows takes more barriers


class _Ref:
    """A program's part of an array in global memory, read and written as in other kernels.

    A vector is shorter than what the transfers that Mosaic calls optimized would move.
    """

    def __init__(self, whole: Any, axis: int | None):
        program = lax.axis_index('program')
        self.ref = whole if axis is None else whole.at[(*axis * [slice(None)], program)]
        self.shape, self.dtype = self.ref.shape, self.ref.dtype

    def __getitem__(self, place: Any) -> Array:
        return mosaic_gpu.load(self._at(place), optimized=False)

    def __setitem__(self, place: Any, values: Array) -> None:
        mosaic_gpu.store(self._at(place), values, optimized=False)

    def _at(self, place: Any) -> Any:
        return self.ref if place is ... else self.ref.at[place]


def _launch(
    interpret: Any, body: Body, axes_in: Axes, axes_out: Axes, outputs: Sequence[Like]
) -> Any:
    """`Target.launch`, with one case per program."""

    def kernel(*all_refs: Any) -> None:
        *refs, state, sums = all_refs

        def times(h: Float[Array, ' width'], kernel: Kernel) -> Float[Array, ' width']:
            state[...] = h
            mosaic_gpu.commit_smem()
            factors = mosaic_gpu.load(state, layout=ALONG_ROWS)
            sums[...] = (lax.broadcast_in_dim(factors, kernel.shape, (0,)) * kernel).sum(0)
            mosaic_gpu.commit_smem()
            return mosaic_gpu.load(sums, layout=ONE_PER_THREAD)

        body(times, *map(_Ref, refs, (*axes_in, *axes_out)))

    return mosaic_gpu.kernel(
        kernel,
        out_type=outputs,
        scratch_types=2 * [mosaic_gpu.SMEM((WIDTH,), jnp.float32)],
        compiler_params=mosaic_gpu.CompilerParams(
            lowering_semantics=mosaic_gpu.LoweringSemantics.Warpgroup,
            reduction_scratch_bytes=SUMS_BYTES,
        ),
        grid=(outputs[0].shape[STEPS],),
        grid_names=('program',),
        interpret=interpret,
    )


HOPPER = Target(functools.partial(_launch, None), least=WIDTH)
INTERPRETED = HOPPER._replace(launch=functools.partial(_launch, mosaic_gpu.InterpretGPUParams()))
