"""Tries to make the commands lose work, fail in silence or end in a traceback.

usage: python -m tests.torture [--kills=N] [--write_failures=N] [--flips=N] [--fuzz=N]
                               [--soak_predictions=N] [--soak_minutes=N] [--seed=N]

Prints a table of what was tried and what survived. The exit code is 1 if anything was lost, went
wrong in silence or ended in a traceback. For the figures in experiments/RESULTS.md:

python -m tests.torture --kills=520 --write_failures=210 --flips=2500 --fuzz=11000 \\
  --soak_predictions=100000 --soak_minutes=60
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the time goes into compiling small programs: LLVM's costly passes do not pay.
os.environ.setdefault('XLA_FLAGS', '--xla_llvm_disable_expensive_passes=true')

import argparse
import sys
import time

from tests.torture import commands, flips, full_disk, fuzz, kills, soak
from tests.torture.outcomes import table

COMMANDS = 'train,evaluate,data_prep'


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m tests.torture', description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add('--kills', type=int, default=60, help='SIGKILLs at file operations')
    add('--write_failures', type=int, default=40, help='writes that fail')
    add('--flips', type=int, default=400, help='bits that are flipped')
    add('--fuzz', type=int, default=2000, help='broken inputs')
    add('--soak_predictions', type=int, default=2000, help='at least; 0: no soak')
    add('--soak_minutes', type=float, default=0, help='at least')
    add('--commands', default=COMMANDS, help='to kill, and to fill the disk of')
    add('--seed', type=int, default=0, help='of all random choices')
    flags = parser.parse_args()
    seed, names = flags.seed, flags.commands.split(',')
    parts = {
        'kills': lambda: kills.kill_all(folder, flags.kills, seed, names),
        'write_failures': lambda: full_disk.fill_all(folder, flags.write_failures, seed, names),
        'fuzz': lambda: fuzz.fuzz_all(folder, flags.fuzz, seed),
        'soak_predictions': lambda: soak.soak_all(
            folder, flags.soak_predictions, flags.soak_minutes, seed
        ),
        'flips': lambda: flips.flip_all(folder, flags.flips, seed),
    }
    rows = []
    with commands.scratch() as folder:
        for name, part in parts.items():
            if getattr(flags, name):
                started = time.monotonic()
                rows += part()
                took = time.monotonic() - started
                print(f'{name}: {took:.0f} s', file=sys.stderr, flush=True)
    print(table(rows))
    return int(any(row.failed for row in rows))


if __name__ == '__main__':
    sys.exit(main())
