"""Tries to make the commands lose work, fail in silence or end in a traceback.

usage: python -m tests.torture [--kills=N] [--write_failures=N] [--flips=N] [--fuzz=N]
                               [--soak_predictions=N] [--soak_minutes=N] [--seed=N]

Prints a table of what was tried and what survived. The exit code is 1 if anything was lost, went
wrong in silence or ended in a traceback.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the time goes into compiling small programs: LLVM's costly passes do not pay.
os.environ.setdefault('XLA_FLAGS', '--xla_llvm_disable_expensive_passes=true')

import argparse
import sys
import time
from collections.abc import Callable

from tests.torture import commands, flips, full_disk, fuzz, kills, soak
from tests.torture.outcomes import Row, table


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.torture', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--kills', type=int, default=60, help='SIGKILLs at file operations')
    parser.add_argument('--write_failures', type=int, default=40, help='writes that fail')
    parser.add_argument('--flips', type=int, default=400, help='bits that are flipped')
    parser.add_argument('--fuzz', type=int, default=2000, help='broken inputs')
    parser.add_argument('--soak_predictions', type=int, default=2000, help='at least')
    parser.add_argument('--soak_minutes', type=float, default=0, help='at least')
    parser.add_argument('--seed', type=int, default=0, help='of all random choices')
    flags = parser.parse_args()
    rows: list[Row] = []
    parts: list[tuple[str, int, Callable[[str], list[Row]]]] = [
        ('kills', flags.kills, lambda folder: kills.kill_all(folder, flags.kills, flags.seed)),
        (
            'write failures',
            flags.write_failures,
            lambda folder: full_disk.fill_all(folder, flags.write_failures, flags.seed),
        ),
        ('fuzz', flags.fuzz, lambda folder: fuzz.fuzz_all(folder, flags.fuzz, flags.seed)),
        ('flips', flags.flips, lambda folder: flips.flip_all(folder, flags.flips, flags.seed)),
        (
            'soak',
            flags.soak_predictions,
            lambda folder: soak.soak_all(
                folder, flags.soak_predictions, flags.soak_minutes, flags.seed
            ),
        ),
    ]
    for name, count, part in parts:
        if count:
            started = time.monotonic()
            with commands.scratch() as folder:
                rows += part(folder)
            print(f'{name}: {time.monotonic() - started:.0f} s', file=sys.stderr, flush=True)
    print(table(rows))
    return int(any(row.failed for row in rows))


if __name__ == '__main__':
    sys.exit(main())
