"""How long a device waits between dispatches, by the trace of a run with `--profile=20`.

`python -m experiments.gaps runs/demo/profile`; tried on traces of a CPU.
"""

import dataclasses
import glob
import os
from typing import NamedTuple

import numpy as np
from jax.profiler import ProfileData

from glr_jax import cli
from glr_jax.errors import UsageError, UserError

USAGE = """
usage: python -m experiments.gaps FOLDER...

Of each trace: how long a dispatch of train steps takes, and how long it is until the next begins.
"""


class Gaps(NamedTuple):
    """Of the dispatches in a trace, in milliseconds, in order.

    Attributes:
      busy: from the first operation of each to its last.
      waits: from the last operation of each to the first of the next.
    """

    busy: np.ndarray
    waits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Nothing:
    """There are no flags."""


def main(argv: list[str]) -> None:
    """Runs the command line."""
    _, folders = cli.parse_with_arguments(Nothing, argv, USAGE)
    if not folders:
        raise UsageError('a folder is needed, as of WORKDIR/profile')
    for folder in folders:
        busy, waits = gaps(folder)
        print(
            f'{folder}: {len(busy)} dispatches of {np.median(busy):.1f} ms; the wait between them '
            f'is {np.median(waits):.2f} ms (median), {waits.max():.2f} ms (longest), '
            f'{waits.sum() / (waits.sum() + busy.sum()):.2%} of the time'
        )


def gaps(folder: str) -> Gaps:
    """Reads the newest trace in a folder.

    Raises:
      UserError: there is none, or it has not two dispatches.
    """
    paths = sorted(glob.glob(os.path.join(folder, 'plugins', 'profile', '*', '*.xplane.pb')))
    if not paths:
        raise UserError(f'{folder} holds no trace; train with --profile=20')
    begins: dict[int, float] = {}
    ends: dict[int, float] = {}
    for plane in ProfileData.from_file(paths[-1]).planes:
        for event in (event for line in plane.lines for event in line.events):
            stats = dict(event.stats)
            ours = 'train_steps' in str(stats.get('hlo_module')) and 'run_id' in stats
            if ours and stats.get('device_ordinal', 0) == 0:
                run = stats['run_id']
                begins[run] = min(begins.get(run, np.inf), event.start_ns)
                ends[run] = max(ends.get(run, 0), event.start_ns + event.duration_ns)
    if len(begins) < 2:
        raise UserError(f'{paths[-1]} has no two dispatches of train_steps')
    order = sorted(begins, key=lambda run: begins[run])
    first, last = (np.array([times[run] for run in order]) / 1e6 for times in (begins, ends))
    return Gaps(last - first, first[1:] - last[:-1])


if __name__ == '__main__':
    cli.execute(main)
