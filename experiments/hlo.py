"""What a compiled program does per run, counted in its HLO text with every iteration of a loop."""

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

_HEAD = re.compile(r'(?:ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\(')
_CALLED = re.compile(r'(?:body|to_apply|calls)=%?([\w.-]+)')


class Instruction(NamedTuple):
    """A line of a program.

    Attributes:
      shape: of the result.
      name: of the operation, such as `all-reduce`.
      line: all of it.
    """

    shape: str
    name: str
    line: str


def total(hlo: str, count: Callable[[Instruction], dict[str, int]]) -> Counter[str]:
    """Sums a count over all instructions that one run executes.

    An instruction in a loop counts once per iteration; a fusion counts as one instruction.

    Args:
      hlo: the text of the compiled program.
      count: what one instruction adds to each sum.
    """
    computations: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in hlo.splitlines():
        if head := _HEAD.match(line):
            lines = computations[head[1]] = []
            if line.startswith('ENTRY'):
                entry = head[1]
        lines.append(line)

    def of(computation: str) -> Counter[str]:
        sums: Counter[str] = Counter()
        for line in computations[computation]:
            if found := _INSTRUCTION.match(line):
                sums.update(of_instruction(Instruction(found[1], found[2], line)))
        return sums

    def of_instruction(it: Instruction) -> dict[str, int]:
        called = _CALLED.search(it.line)
        if it.name == 'while' and called:
            iterations = _iterations(it.line, computations)
            return {key: iterations * value for key, value in of(called[1]).items()}
        if it.name in ('call', 'async-start') and called:
            return of(called[1])
        return count(it)

    return of(entry)


def exchanged(it: Instruction) -> dict[str, int]:
    """For `total`: all-reduces, and the bytes that each device puts into them, all of float32."""
    if it.name not in ('all-reduce', 'all-reduce-start'):
        return {}
    shapes = re.findall(r'f32\[(.*?)\]', it.shape)
    sizes = (math.prod(int(side) for side in shape.split(',') if side) for shape in shapes)
    return {'all_reduces': 1, 'bytes': 4 * sum(sizes)}


def _iterations(loop: str, computations: dict[str, list[str]]) -> int:
    """From the loop's annotation, or from its condition: `lax.scan` counts from 0 to a constant."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop)
    condition = re.search(r'condition=%?([\w.-]+)', loop)
    if not known and condition:
        known = re.search(r' constant\((\d+)\)', '\n'.join(computations[condition[1]]))
    if not known:
        raise ValueError(f'the number of iterations of this loop is unknown: {loop}')
    return int(known[1])
