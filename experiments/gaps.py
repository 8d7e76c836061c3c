"""How long a device waits between dispatches, from the trace of a run with `--profile=20`.

`python -m experiments.gaps runs/demo/profile`; tried on CPU traces only.
"""

import dataclasses

from glr_jax import cli

USAGE = """
usage: python -m experiments.gaps WORKDIR/profile...

Prints, for each trace, how long a dispatch of train steps takes, and how long the device then waits
for the next one. `python -m glr_jax.train --profile=20` records a trace.
"""


@dataclasses.dataclass(frozen=True)
class NoFlags:
    """There are no flags."""


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(NoFlags, USAGE)

import glob
import os
import warnings
from typing import NamedTuple

import numpy as np
from jax.profiler import ProfileData
from jaxtyping import Float

from glr_jax.errors import UsageError, UserError


class Gaps(NamedTuple):
    """Milliseconds of the dispatches in a trace, in order.

    Attributes:
      busy: from the first operation of each dispatch to its last.
      waits: from the last operation of each dispatch to the first operation of the next.
    """

    busy: Float[np.ndarray, ' dispatches']
    waits: Float[np.ndarray, ' dispatches-1']


def main(argv: list[str]) -> None:
    """Runs the command line."""
    _, folders = cli.parse_with_arguments(NoFlags, argv, USAGE)
    if not folders:
        raise UsageError('name at least one folder with a trace: WORKDIR/profile')
    for folder in folders:
        busy, waits = gaps(folder)
        working, waiting = float(busy.sum()), float(waits.sum())
        print(
            f'{folder}: {len(busy)} dispatches of {np.median(busy):.1f} ms; the wait between them '
            f'is {np.median(waits):.2f} ms (median), {waits.max():.2f} ms (longest), '
            f'{waiting / (waiting + working):.2%} of the time'
        )


def gaps(folder: str) -> Gaps:
    """Reads the newest trace in a folder.

    Raises:
      UserError: there is no trace, or it has fewer than two dispatches.
    """
    paths = sorted(glob.glob(os.path.join(folder, 'plugins', 'profile', '*', '*.xplane.pb')))
    if not paths:
        raise UserError(f'{folder} holds no trace; train with --profile=20 to record one')
    begins: dict[int, float] = {}
    ends: dict[int, float] = {}
    with warnings.catch_warnings():
        # jaxlib's types lack what Python 3.13 wants of them; as an error it would end the process.
        warnings.simplefilter('ignore', DeprecationWarning)
        for plane in ProfileData.from_file(paths[-1]).planes:
            for event in (event for line in plane.lines for event in line.events):
                stats = dict(event.stats)
                ours = 'train_steps' in str(stats.get('hlo_module')) and 'run_id' in stats
                if ours and stats.get('device_ordinal', 0) == 0:
                    dispatch = stats['run_id']
                    begins[dispatch] = min(begins.get(dispatch, np.inf), event.start_ns)
                    ends[dispatch] = max(ends.get(dispatch, 0), event.start_ns + event.duration_ns)
    if len(begins) < 2:
        raise UserError(
            f'{paths[-1]} has fewer than two dispatches of train_steps; '
            'train with a larger --profile'
        )
    order = sorted(begins, key=lambda dispatch: begins[dispatch])
    first, last = (np.array([at[dispatch] for dispatch in order]) / 1e6 for at in (begins, ends))
    return Gaps(last - first, first[1:] - last[:-1])


if __name__ == '__main__':
    cli.execute(main)
