"""A profiler trace of some steps, for xprof or ui.perfetto.dev."""

import os

import jax

from glr_jax import cli
from glr_jax.devices import processes
from glr_jax.train_step import Totals


class Trace:
    """Records what the host and the devices of process 0 do during some steps.

    The trace starts after the first dispatch, which compiles.

    Args:
      workdir: the trace goes to its folder `profile/`.
      steps: at least this many, in whole dispatches; 0: no trace.
    """

    def __init__(self, workdir: str, steps: int):
        self._folder = os.path.join(workdir, 'profile')
        self._steps = steps if processes.is_first() else 0
        self._first: int | None = None

    def __enter__(self) -> 'Trace':
        return self

    def __exit__(self, *error: object) -> None:
        if self._first is not None and self._steps:  # the run was shorter
            self._stop()

    def step(self, step: int, totals: Totals) -> None:
        """Starts or stops the trace; to be called after each dispatch, with its last step."""
        if not self._steps:
            return
        if self._first is None:
            jax.block_until_ready(totals)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # tracing every Python call would slow the host down
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._first = step
        elif step - self._first >= self._steps:
            jax.block_until_ready(totals)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._steps = 0
        cli.status(f'trace: {self._folder}; to view: pip install xprof && xprof {self._folder}')
