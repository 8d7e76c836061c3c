"""What the kernels of `fused_rnn` and the backends of Pallas that build them agree on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax import Array
from jaxtyping import Float

# Arrays inside the kernels: width is the number of units padded to a power of 2; cases is missing
# where a program takes a single case.
State = Float[Array, '*cases width']
Kernel = Float[Array, 'width width']
# Arrays outside them: batch is padded to a multiple of the cases per program.
Steps = Float[Array, 'time batch width']
Rows = Float[Array, 'batch width']
# The axis over cases of these arrays; None: the array is the same for all cases.
STEPS, ROWS, SHARED = 1, 0, None
Axes = Sequence[int | None]
Like = jax.ShapeDtypeStruct
Body = Callable[..., None]  # (times, refs of the inputs, refs of the outputs)


class Target(NamedTuple):
    """The kind of device that a kernel is built for.

    Attributes:
      launch: runs a body in every program: (body, axes of the inputs, axes of the outputs, shapes
        of the outputs) -> function of the inputs. A body multiplies states by weights with its
        first argument.
      cases: how many cases a program takes through time; None: one, as a vector.
      least: the smallest width.
    """

    launch: Callable[[Body, Axes, Axes, Sequence[Like]], Callable[..., Sequence[Array]]]
    cases: int | None = None
    least: int = 1
