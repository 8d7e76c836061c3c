"""JAX programs as ONNX graphs, for inference: a batch of any size, everything else static.

What depends on the weights alone is computed here, so only operations on the clips become nodes.
The loops of `lax.scan` become ONNX's Scan, so that the file does not grow with the clip.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Literal
from onnx import helper

from glr_jax.errors import UserError
from glr_jax.export.onnx_graph import Graph, Value, element_type, is_symbolic
from glr_jax.export.onnx_ops import RULES
from glr_jax.export.portable import inner_program, scan_counts

OPSET = 18
BATCH = 'batch'


def run(graph: Graph, program: Any, constants: Any, inputs: Sequence[Value]) -> list[Value]:
    """Adds a program to a graph, equation by equation.

    Args:
      graph: receives the nodes.
      program: a jaxpr.
      constants: values of its constant variables.
      inputs: values of its inputs.

    Returns:
      The values of its outputs.

    Raises:
      UserError: ONNX lacks an operation.
    """
    values: dict[Any, Value] = dict(zip(program.invars, inputs, strict=True))
    for variable, constant in zip(program.constvars, constants, strict=True):
        values[variable] = constant if isinstance(constant, str) else np.asarray(constant)
    read = lambda x: _literal(x) if isinstance(x, Literal) else values[x]
    for equation in program.eqns:
        given = [read(x) for x in equation.invars]
        name, inner = equation.primitive.name, inner_program(equation)
        if any(0 in x.aval.shape for x in equation.outvars):  # concatenated to others
            outputs: list[Value] = [np.zeros(0)] * len(equation.outvars)
        elif name == 'optimization_barrier':
            outputs = given
        elif name == 'scan':
            outputs = _scan(graph, equation, given)
        elif inner is not None:
            outputs = run(graph, inner.jaxpr, inner.consts, given)
        elif _is_known(equation, given):
            found = equation.primitive.bind(*given, **equation.params)
            several = equation.primitive.multiple_results
            outputs = [np.asarray(x) for x in (found if several else [found])]
        elif name in RULES:
            outputs = [RULES[name](graph, equation, *given)]
        else:
            raise UserError(f'ONNX export lacks the operation {name} of this network')
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(x) for x in program.outvars]


def _literal(x: Any) -> np.ndarray:
    return np.asarray(x.val, x.aval.dtype)


def _is_known(equation: Any, given: Sequence[Value]) -> bool:
    sizes = [n for x in equation.outvars for n in x.aval.shape]
    return not any(isinstance(x, str) for x in given) and not any(map(is_symbolic, sizes))


def _scan(graph: Graph, equation: Any, given: Sequence[Value]) -> list[Value]:
    params = equation.params
    body, (consts, carries) = params['jaxpr'], scan_counts(equation)
    inner = Graph(graph)
    names = [inner.name() for _ in given[consts:]]
    outputs = run(inner, body.jaxpr, body.consts, [*given[:consts], *names])
    ends = [inner.node('Identity', x) for x in outputs]  # each output needs its own name
    inputs = [_info(n, x) for n, x in zip(names, body.in_avals[consts:], strict=True)]
    made = [_info(n, x) for n, x in zip(ends, body.out_avals, strict=True)]
    direction, scanned = int(params['reverse']), len(given) - consts - carries
    found = graph.node(
        'Scan',
        *given[consts:],
        count=len(outputs),
        body=helper.make_graph(inner.nodes, 'step', inputs, made),
        num_scan_inputs=scanned,
        scan_input_directions=[direction] * scanned,
        scan_output_directions=[direction] * (len(outputs) - carries),
    )
    return [found] if len(outputs) == 1 else found


def _info(name: str, value: Any) -> onnx.ValueInfoProto:
    sizes = [None if is_symbolic(n) else n for n in value.shape]
    return helper.make_tensor_value_info(name, element_type(value.dtype), sizes)


def make_model(
    program: ClosedJaxpr, output_names: Sequence[str], input_name: str, metadata: dict[str, str]
) -> onnx.ModelProto:
    """A program of one input, whose first axis is the batch, as an ONNX model."""
    graph = Graph()
    (given,) = program.in_avals
    shape = graph.node('Shape', input_name, start=0, end=1)
    graph.batch = shape
    values = run(graph, program.jaxpr, program.consts, [input_name])
    for value, name in zip(values, output_names, strict=True):
        graph.nodes.append(helper.make_node('Identity', [graph.tensor(value)], [name]))
    sizes = lambda x: [BATCH, *x.shape[1:]]
    info = lambda name, x: helper.make_tensor_value_info(name, element_type(x.dtype), sizes(x))
    made = helper.make_graph(
        graph.nodes,
        'glr_jax',
        [info(input_name, given)],
        [info(n, x) for n, x in zip(output_names, program.out_avals, strict=True)],
        graph.constants,
    )
    opsets = [helper.make_opsetid('', OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10, producer_name='glr_jax')
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model


def trace(function: Any, struct: Any) -> ClosedJaxpr:
    """The program of a function of one array with a symbolic batch."""
    return jax.make_jaxpr(function)(struct)
