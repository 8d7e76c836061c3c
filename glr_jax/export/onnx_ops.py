"""One rule per JAX operation: the ONNX nodes that compute it. Follows the ONNX operator docs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from glr_jax.errors import UserError
from glr_jax.export.onnx_graph import Graph, Value, element_type, is_symbolic

Rule = Callable[..., str]


def _plain(kind: str) -> Rule:
    """The ONNX operation of the same inputs."""
    return lambda graph, equation, *given: graph.node(kind, *given)


def _not(kind: str) -> Rule:
    return lambda graph, equation, *given: graph.node('Not', graph.node(kind, *given))


def _reduce(kind: str) -> Rule:
    def rule(graph: Graph, equation: Any, x: Value) -> str:
        return graph.node(kind, x, graph.ints(equation.params['axes']), keepdims=0)

    return rule


def _reshaped(graph: Graph, equation: Any, x: Value) -> str:
    return graph.reshape(x, equation.outvars[0].aval.shape)


def _log1p(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Log', graph.node('Add', x, _like(equation, 1)))


def _expm1(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Sub', graph.node('Exp', x), _like(equation, 1))


def _like(equation: Any, value: float) -> np.ndarray:
    return np.asarray(value, equation.invars[0].aval.dtype)


def _is_finite(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Not', graph.node('Or', graph.node('IsInf', x), graph.node('IsNaN', x)))


def _convert(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Cast', x, to=element_type(equation.params['new_dtype']))


def _power(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Pow', x, _like(equation, equation.params['y']))


def _clamp(graph: Graph, equation: Any, low: Value, x: Value, high: Value) -> str:
    return graph.node('Min', graph.node('Max', x, low), high)


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> str:
    if len(cases) != 2:
        raise UserError('ONNX export lacks a selection among more than two')
    return graph.node('Where', which, cases[1], cases[0])


def _round(graph: Graph, equation: Any, x: Value) -> str:
    if equation.params['rounding_method'] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise UserError('ONNX export lacks rounding away from zero')
    return graph.node('Round', x)


def _transpose(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Transpose', x, perm=list(equation.params['permutation']))


def _broadcast(graph: Graph, equation: Any, x: Value, *sizes: Any) -> str:
    shape, axes = equation.outvars[0].aval.shape, equation.params['broadcast_dimensions']
    own = equation.invars[0].aval.shape
    spread = [1] * len(shape)
    for axis, size in zip(axes, own, strict=True):
        spread[axis] = size
    x = x if tuple(spread) == tuple(own) else graph.reshape(x, spread)
    if spread == list(shape):
        return graph.node('Identity', x)
    # A size of 1 leaves the axis as it is.
    missing = [1 if is_symbolic(a) else b for a, b in zip(spread, shape, strict=True)]
    return graph.node('Expand', x, graph.shape(missing))


def _concatenate(graph: Graph, equation: Any, *parts: Value) -> str:
    parts = tuple(p for p, v in zip(parts, equation.invars, strict=True) if 0 not in v.aval.shape)
    return graph.node('Concat', *parts, axis=equation.params['dimension'])


def _stack(graph: Graph, equation: Any, *parts: Value) -> str:
    axis = equation.params['axis']
    each = [graph.node('Unsqueeze', x, graph.ints([axis])) for x in parts]
    return graph.node('Concat', *each, axis=axis)


def _slice(graph: Graph, equation: Any, x: Value) -> str:
    own, params = equation.invars[0].aval.shape, equation.params
    strides = params['strides'] or (1,) * len(own)
    axes = [
        axis
        for axis, size in enumerate(own)
        if (params['start_indices'][axis], strides[axis]) != (0, 1)
        or not _equal(params['limit_indices'][axis], size)
    ]
    each = (params['start_indices'], params['limit_indices'], range(len(own)), strides)
    return graph.node('Slice', x, *(graph.ints([row[a] for a in axes]) for row in each))


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _reverse(graph: Graph, equation: Any, x: Value) -> str:
    axes = equation.params['dimensions']
    lists = ([-1] * len(axes), [-(2**62)] * len(axes), axes, [-1] * len(axes))
    return graph.node('Slice', x, *map(graph.ints, lists))


def _pad(graph: Graph, equation: Any, x: Value, value: Value) -> str:
    low, high, between = zip(*equation.params['padding_config'], strict=True)
    if any(between):
        raise UserError('ONNX export lacks padding between values')
    return graph.node('Pad', x, graph.ints([*low, *high]), value)  # negative sizes remove values


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> str:
    """A choice of values that is the same for each member of the batch."""
    own, params = equation.invars[0].aval.shape, equation.params
    shape = equation.outvars[0].aval.shape
    numbers = params['dimension_numbers']
    whole = numbers.offset_dims[:1] == (0,) and 0 not in numbers.collapsed_slice_dims
    if isinstance(indices, str) or not whole or any(map(is_symbolic, own[1:])):
        raise UserError('ONNX export lacks a choice of values that depends on the clip')
    places = np.arange(math.prod(own[1:]), dtype=np.int32).reshape(1, *own[1:])
    sizes = (1, *params['slice_sizes'][1:])
    chosen = equation.primitive.bind(places, indices, **{**params, 'slice_sizes': sizes})
    flat = graph.node('Reshape', x, graph.ints([-1, places.size]))
    picked = graph.node('Gather', flat, np.asarray(chosen, np.int64).ravel(), axis=1)
    return graph.reshape(picked, shape)


def _dot(graph: Graph, equation: Any, x: Value, y: Value) -> str:
    (x_sum, y_sum), (x_batch, y_batch) = equation.params['dimension_numbers']
    letters = iter('abcdefghijklmnopqrstuvwxyz')
    ranks = [len(v.aval.shape) for v in equation.invars]
    left, right = [''] * ranks[0], [''] * ranks[1]
    for a, b in [*zip(x_batch, y_batch, strict=True), *zip(x_sum, y_sum, strict=True)]:
        left[a] = right[b] = next(letters)
    batch = [left[a] for a in x_batch]
    left = [letter or next(letters) for letter in left]
    free_left = [k for a, k in enumerate(left) if a not in (*x_sum, *x_batch)]
    right = [letter or next(letters) for letter in right]
    free_right = [k for a, k in enumerate(right) if a not in (*y_sum, *y_batch)]
    result = ''.join([*batch, *free_left, *free_right])
    type_of = lambda v: v.aval.dtype
    wanted = equation.outvars[0].aval.dtype
    x, y = (
        value if type_of(v) == wanted else graph.node('Cast', value, to=element_type(wanted))
        for value, v in zip((x, y), equation.invars, strict=True)
    )
    return graph.node('Einsum', x, y, equation=f'{"".join(left)},{"".join(right)}->{result}')


def _conv(graph: Graph, equation: Any, x: Value, kernel: Value) -> str:
    params = equation.params
    if any(n != 1 for n in params['lhs_dilation']) or params['batch_group_count'] != 1:
        raise UserError('ONNX export lacks transposed convolutions')
    layout = params['dimension_numbers']
    low, high = zip(*params['padding'], strict=True)
    summed = graph.node(
        'Conv',
        graph.node('Transpose', x, perm=list(layout.lhs_spec)),
        graph.node('Transpose', kernel, perm=list(layout.rhs_spec)),
        strides=list(params['window_strides']),
        dilations=list(params['rhs_dilation']),
        group=params['feature_group_count'],
        pads=[*low, *high],
    )
    return graph.node('Transpose', summed, perm=np.argsort(layout.out_spec).tolist())


def _pool(kind: str) -> Rule:
    """A pool over axes that are neither the first nor the last: the layout of all our arrays."""

    def rule(graph: Graph, equation: Any, x: Value, *start: Value) -> str:
        params, rank = equation.params, len(equation.invars[0].aval.shape)
        sizes, padding = params['window_dimensions'], params['padding']
        if sizes[0] != 1 or sizes[-1] != 1 or any(n != 1 for n in params['base_dilation']):
            raise UserError('ONNX export lacks this kind of pooling')
        low, high = zip(*padding[1:-1], strict=True)
        first = graph.node('Transpose', x, perm=[0, rank - 1, *range(1, rank - 1)])
        found = graph.node(
            kind,
            first,
            kernel_shape=list(sizes[1:-1]),
            strides=list(params['window_strides'][1:-1]),
            pads=[*low, *high],
        )
        return graph.node('Transpose', found, perm=[0, *range(2, rank), 1])

    return rule


def _softened(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Reciprocal', graph.node('Sqrt', x))


def _square(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node('Mul', x, x)


RULES: dict[str, Rule] = {
    'abs': _plain('Abs'),
    'add': _plain('Add'),
    'and': _plain('And'),
    'broadcast_in_dim': _broadcast,
    'ceil': _plain('Ceil'),
    'clamp': _clamp,
    'concatenate': _concatenate,
    'conv_general_dilated': _conv,
    'convert_element_type': _convert,
    'copy': _plain('Identity'),
    'cos': _plain('Cos'),
    'div': _plain('Div'),
    'dot_general': _dot,
    'eq': _plain('Equal'),
    'erf': _plain('Erf'),
    'exp': _plain('Exp'),
    'expand_dims': _reshaped,
    'expm1': _expm1,
    'floor': _plain('Floor'),
    'gather': _gather,
    'ge': _plain('GreaterOrEqual'),
    'gt': _plain('Greater'),
    'integer_pow': _power,
    'is_finite': _is_finite,
    'le': _plain('LessOrEqual'),
    'log': _plain('Log'),
    'log1p': _log1p,
    'logistic': _plain('Sigmoid'),
    'lt': _plain('Less'),
    'max': _plain('Max'),
    'min': _plain('Min'),
    'mul': _plain('Mul'),
    'ne': _not('Equal'),
    'neg': _plain('Neg'),
    'not': _plain('Not'),
    'or': _plain('Or'),
    'pad': _pad,
    'reduce_max': _reduce('ReduceMax'),
    'reduce_min': _reduce('ReduceMin'),
    'reduce_sum': _reduce('ReduceSum'),
    'reduce_window_max': _pool('MaxPool'),
    'reshape': _reshaped,
    'rev': _reverse,
    'round': _round,
    'rsqrt': _softened,
    'select_n': _select,
    'sign': _plain('Sign'),
    'sin': _plain('Sin'),
    'slice': _slice,
    'sqrt': _plain('Sqrt'),
    'square': _square,
    'squeeze': _reshaped,
    'stack': _stack,
    'stop_gradient': _plain('Identity'),
    'sub': _plain('Sub'),
    'tanh': _plain('Tanh'),
    'transpose': _transpose,
}
