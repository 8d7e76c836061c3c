"""Writes that fail: each of them in turn, and disks that are full at every size.

Each command must end in one line that names a file and the remedy, and must finish as if nothing
happened once there is room. On a small tmpfs (for root, on Linux) the writes of TensorStore fail
too.
"""

import errno
import os
import random
import subprocess
import sys
from collections.abc import Sequence

from tests.torture import commands, kills
from tests.torture.commands import Ended
from tests.torture.faults import Fault
from tests.torture.kills import Case
from tests.torture.outcomes import TRACEBACK, Row

PAGE = 4096
PER_CHAIN = 3  # failures before a command may finish


def fill_all(folder: str, count: int, seed: int, names: Sequence[str]) -> list[Row]:
    """About `count` failed writes of some commands."""
    draw, cases = random.Random(seed), kills.all_cases(folder, names)
    totals = [kills.operations(case, Fault(error=errno.ENOSPC)) for case in cases]
    # A training run takes several times as long as the others, so it has half of its share.
    weights = [t / (2 if c.name == 'train' else 1) for c, t in zip(cases, totals, strict=True)]
    budget = round(0.75 * count) if can_mount(folder) else count
    shares = [max(1, round(budget * weight / sum(weights))) for weight in weights]
    rows = [_fail(*each, draw) for each in zip(cases, totals, shares, strict=True)]
    if budget < count:
        rows += _small_disks(folder, names, count - budget, draw)
    return rows


def _fail(case: Case, total: int, count: int, draw: random.Random) -> Row:
    """Makes each write fail in turn; the command is repeated, and its writes fail elsewhere."""
    row = Row(f'full disk: {case.kind}')
    points = [1 + k * total // count for k in range(count)]
    while points:
        commands.fresh(case.root, case.before)
        found: list[tuple[Ended, str]] = []
        while points and len(found) < PER_CHAIN:
            at = points[0]
            error = draw.choice([errno.ENOSPC, errno.ENOSPC, errno.EIO, errno.EDQUOT])
            fault = Fault(at, error=error, lasting=draw.random() < 0.8)
            ended = commands.run(case.name, case.arguments, case.root, fault)
            if not ended.code and found:  # fewer writes were left: from fresh
                break
            points.pop(0)
            found.append((ended, f'{errno.errorcode[error]} at write {at} of {total}'))
            if not ended.code:  # it did without, as without TensorBoard
                break
        _judge(row, case, found)
    return row


def _judge(row: Row, case: Case, found: Sequence[tuple[Ended, str]]) -> None:
    """Counts what became of a command whose writes failed, and of the same command later."""
    row.tried += len(found)
    for ended, where in found:
        fault = message_fault(ended, case.root)
        if fault:
            how = 'tracebacks' if fault == TRACEBACK else 'silent'
            row.fails(how, f'{where}: {ended.said if fault == TRACEBACK else fault}')
    after = case.check() if found else ''
    if after:
        places = ', '.join(where for _, where in found)
        row.fails('tracebacks' if TRACEBACK in after else 'lost', f'{places}: {after}')
    print(f'{row.kind}: {row.tried}', end='\r', file=sys.stderr, flush=True)


def message_fault(ended: Ended, root: str) -> str:
    """What is wrong with the line in which a command says that it failed; '' if nothing is.

    It may also have done without what it could not write.
    """
    if ended.has_traceback:
        return TRACEBACK
    if not ended.code:
        return ''
    last = ['', *filter(str.strip, ended.said.replace('\r', '\n').splitlines())][-1]
    if ended.code != 1:
        return f'exit code {ended.code}: {last}'
    if root not in last:
        return f'the last line names no file: {last!r}'
    return ''


def can_mount(folder: str) -> bool:
    """Whether this user may make a tmpfs."""
    place = os.path.join(folder, 'trial')
    os.makedirs(place, exist_ok=True)
    if _mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', place):
        _unmount(place)
        return True
    return False


def _small_disks(folder: str, names: Sequence[str], count: int, draw: random.Random) -> list[Row]:
    """Commands on disks with too little room for them, which then get more."""
    disk = os.path.join(folder, 'disk')
    os.makedirs(disk, exist_ok=True)
    cases = [_prepare_on(disk, folder)] if 'data_prep' in names else []
    if 'train' in names:
        cases.append(kills.train_case(os.path.join(disk, 'run'), commands.prepared(folder)))
    rows = []
    for case in cases:
        row = Row(f'small disk: {case.kind}')
        needed = _needed(disk, case)
        wanted = max(1, count // len(cases))
        order = list(range(wanted))
        for start in range(0, wanted, PER_CHAIN):
            # The disk grows, but is too small again and again; or it has room for no more files.
            by_files, found = draw.random() < 0.3, []
            _mount('-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', disk)
            try:
                for k in order[start // PER_CHAIN :: -(-wanted // PER_CHAIN)]:
                    size = 1 + k * needed[0] // wanted, 4 + k * needed[1] // wanted
                    options = f'size={PAGE * size[0]},nr_inodes=100k'
                    if by_files:
                        options = f'size=64m,nr_inodes={size[1]}'
                    _mount('-o', f'remount,{options}', disk)
                    ended = commands.run(case.name, case.arguments)
                    if ended.code or ended.has_traceback:
                        found.append((ended, options))
                _mount('-o', 'remount,size=64m,nr_inodes=100k', disk)
                _judge(row, case, found)
            finally:
                _unmount(disk)
        rows.append(row)
    return rows


def _prepare_on(disk: str, folder: str) -> Case:
    out = os.path.join(disk, 'out')
    arguments = commands.preparing(os.path.join(folder, 'source.npz'), out)
    commands.well(commands.run('data_prep', arguments))
    expected = commands.files_of(out)

    def check() -> str:
        ended = commands.run('data_prep', arguments)
        return ended.said if ended.code else kills.other_files(out, expected)

    return Case('data_prep', 'data_prep', arguments, out, '', check)


def _needed(disk: str, case: Case) -> tuple[int, int]:
    """How many pages and files a command takes on a disk."""
    commands.fresh(case.root)
    _mount('-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk)
    try:
        commands.run(case.name, case.arguments)
        usage = os.statvfs(disk)
    finally:
        _unmount(disk)
    return usage.f_blocks - usage.f_bfree, usage.f_files - usage.f_ffree


def _mount(*arguments: str) -> bool:
    try:
        done = subprocess.run(['mount', *arguments], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def _unmount(place: str) -> None:
    subprocess.run(['umount', '-l', place], capture_output=True, check=True)
