"""SIGKILL at every file operation in turn; the same command again must end as if nothing happened.

Three kills share a comparison: the command is killed, resumed, killed again, resumed, killed again,
and then finishes.
"""

import os
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UserError
from tests.torture import commands
from tests.torture.faults import Fault
from tests.torture.outcomes import TRACEBACK, Row

PER_CHAIN = 3


class Case(NamedTuple):
    """A command that is to be killed.

    Attributes:
      name: `train`, `evaluate` or `data_prep`.
      kind: for the table.
      arguments: its flags.
      root: the folder in which it writes.
      before: a folder that is copied there first; '' if it starts without one.
      check: runs it to its end, and says what is wrong then; '' if nothing is.
    """

    name: str
    kind: str
    arguments: Sequence[str]
    root: str
    before: str
    check: Callable[[], str]


def kill_all(folder: str, count: int, seed: int, names: Sequence[str]) -> list[Row]:
    """About `count` kills of some commands, shared out by their file operations."""
    draw, cases = random.Random(seed), all_cases(folder, names)
    totals = [operations(case, Fault()) for case in cases]
    shares = [max(1, round(count * total / sum(totals))) for total in totals]
    return [_kill(*each, draw) for each in zip(cases, totals, shares, strict=True)]


def all_cases(folder: str, names: Sequence[str]) -> list[Case]:
    """The cases of `train`, `evaluate` and `data_prep`."""
    data, cases = commands.prepared(folder), []
    if 'train' in names:
        cases.append(train_case(os.path.join(folder, 'killed'), data))
    if 'evaluate' in names:
        cases.append(evaluate_case(folder))
    if 'data_prep' in names:
        cases += [prepare_case(folder, ''), prepare_case(folder, data)]
    return cases


def train_case(workdir: str, data: str) -> Case:
    """A training run."""
    arguments = commands.training(workdir, data)
    finish = lambda: commands.run('train', arguments, after=lambda: commands.of_run(workdir))
    expected = commands.well(finish()).value

    def check() -> str:
        ended = finish()
        return ended.said if ended.code else commands.difference(ended.value, expected)

    return Case('train', 'train', arguments, workdir, '', check)


def evaluate_case(folder: str) -> Case:
    """The evaluation of a finished run on another split."""
    finished, workdir = commands.trained(folder), os.path.join(folder, 'evaluated')
    report = os.path.join(workdir, 'report')
    arguments = [f'--workdir={workdir}', '--data.split=random-2']
    commands.fresh(workdir, finished)
    commands.well(commands.run('evaluate', arguments))
    expected = commands.files_of(report)

    def check() -> str:
        ended = commands.run('evaluate', arguments)
        return ended.said if ended.code else other_files(report, expected)

    return Case('evaluate', 'evaluate', arguments, workdir, finished, check)


def prepare_case(folder: str, before: str) -> Case:
    """The preparation of a dataset, perhaps in place of a finished one of other clips."""
    name, out = 'other.npz' if before else 'source.npz', os.path.join(folder, 'out')
    source = commands.write_arrays(os.path.join(folder, name), seed=bool(before))
    arguments = commands.preparing(source, out, '--overwrite')
    commands.fresh(out, before)
    commands.well(commands.run('data_prep', arguments))
    expected = commands.files_of(out)
    allowed = [_content(out), *([_content(before)] if before else [])]

    def check() -> str:
        try:  # a dataset that opens is one of the two, never a mixture
            if _content(out) not in allowed:
                return 'a mixture of two datasets opens'
        except UserError:
            pass
        ended = commands.run('data_prep', arguments)
        return ended.said if ended.code else other_files(out, expected)

    kind = 'data_prep in place of another' if before else 'data_prep'
    return Case('data_prep', kind, arguments, out, before, check)


def operations(case: Case, fault: Fault) -> int:
    """How many file operations a command takes that nothing happens to."""
    commands.fresh(case.root, case.before)
    return len(commands.well(commands.run(case.name, case.arguments, case.root, fault)).value)


def _kill(case: Case, total: int, count: int, draw: random.Random) -> Row:
    """Kills a command and its resumes, at each of its operations in turn."""
    row = Row(f'kill: {case.kind}')
    points = [1 + k * total // count if count < total else 1 + k % total for k in range(count)]
    draw.shuffle(points)
    while points:
        commands.fresh(case.root, case.before)
        hit, faults = [], []
        while points and len(hit) < PER_CHAIN:
            at = points.pop()
            # TensorStore writes in between: with a delay, its writes are hit as well.
            delay = draw.uniform(0, 0.03) if case.name == 'train' and draw.random() < 0.4 else 0.0
            ended = commands.run(case.name, case.arguments, case.root, Fault(at, delay=delay))
            if not ended.killed:
                if hit and not ended.code:  # the resume had fewer operations: try it from fresh
                    points.insert(0, at)
                elif ended.code:
                    faults.append(ended.said)
                break
            hit.append(f'{at}+{delay:.3f} s' if delay else f'{at}')
        row.tried += len(hit)
        fault = '\n'.join([*faults, case.check()]).strip()
        if TRACEBACK in fault:
            row.fails('tracebacks', fault)
        elif fault:
            row.fails('lost', f'after kills at {", ".join(hit)} of {total}: {fault}')
        print(f'{case.kind}: {row.tried} of {count}', end='\r', file=sys.stderr, flush=True)
    return row


def _content(folder: str) -> Any:
    dataset = open_dataset(folder)
    mels = [dataset.mel(clip).tolist() for clip in range(len(dataset))]
    return dataset.ids, dataset.labels, dataset.targets.tolist(), dataset.splits, mels


def other_files(folder: str, expected: dict[str, str]) -> str:
    """The files that are not as they should be; leftovers do not count, they are removed later."""
    found = commands.files_of(folder)
    names = {name for name in {*found, *expected} if '.partial-' not in name}
    wrong = sorted(name for name in names if found.get(name) != expected.get(name))
    return f'other files: {", ".join(wrong)}' if wrong else ''
