"""An ONNX graph that grows node by node; some sizes are multiples of the batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Value = np.ndarray | str  # known, or the name of a node's output


class Graph:
    """Nodes and constants; those of a loop's body are apart, but names are unique.

    Attributes:
      nodes: so far.
      constants: initializers, shared by a graph and the bodies of its loops.
      batch: the name of a tensor with the size of the batch.
    """

    def __init__(self, parent: 'Graph | None' = None):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = parent.constants if parent else []
        self.known: dict[tuple[str, tuple[int, ...], bytes], str] = parent.known if parent else {}
        self.batch: str = parent.batch if parent else ''
        self._counter: list[int] = parent._counter if parent else [0]

    def name(self) -> str:
        """A name that is not used yet."""
        self._counter[0] += 1
        return f'v{self._counter[0]}'

    def node(self, kind: str, *inputs: Any, count: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or of several."""
        names = [self.name() for _ in range(count)]
        given = [self.tensor(x) for x in inputs]
        self.nodes.append(helper.make_node(kind, given, names, **attributes))
        return names[0] if count == 1 else names

    def tensor(self, value: Any) -> str:
        """The name of a value; arrays become constants, equal ones only once."""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self.known:
            self.known[key] = name = self.name()
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return self.known[key]

    def ints(self, values: Sequence[Any]) -> str:
        """A constant list of int64."""
        return self.tensor(np.asarray(values, np.int64))

    def reshape(self, x: Value, shape: Sequence[Any]) -> str:
        """Reshapes; at most one size of the shape depends on the batch."""
        return self.node('Reshape', x, self.ints([-1 if is_symbolic(n) else n for n in shape]))

    def shape(self, sizes: Sequence[Any]) -> str:
        """A shape of which some sizes are multiples of the batch, as a tensor."""
        if not any(map(is_symbolic, sizes)):
            return self.ints(sizes)
        parts = [
            self.node('Mul', self.batch, self.ints([_multiple(n)]))
            if is_symbolic(n)
            else self.ints([n])
            for n in sizes
        ]
        return self.node('Concat', *parts, axis=0)


def is_symbolic(size: Any) -> bool:
    """Whether a size depends on the batch."""
    return not isinstance(size, int | np.integer)


def _multiple(size: Any) -> int:
    """How many times the batch a size is."""
    (symbol,) = size._get_vars()
    return int(size._evaluate({symbol: 1}))


def element_type(dtype: Any) -> int:
    """ONNX's number of a NumPy type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
