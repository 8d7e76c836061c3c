"""A trace of some steps, for xprof or ui.perfetto.dev to show."""

import os
from types import TracebackType

import jax

from glr_jax import cli
from glr_jax.train_step import Totals


class Trace:
    """Records what the host and the devices of process 0 do during some steps.

    The first dispatch is left out, because it compiles, and so is all before it.

    Args:
      workdir: the trace goes to `profile/` in it.
      steps: how many at least, in whole dispatches; 0: none.
    """

    def __init__(self, workdir: str, steps: int):
        self._folder = os.path.join(workdir, 'profile')
        self._steps = steps if jax.process_index() == 0 else 0
        self._first: int | None = None

    def __enter__(self) -> 'Trace':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        if self._first is not None and self._steps:  # the run was shorter
            self._stop()

    def step(self, step: int, totals: Totals) -> None:
        """Begins or ends after a step, once it has been done."""
        if not self._steps:
            return
        if self._first is None:
            jax.block_until_ready(totals)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of Python would slow the host down
            jax.profiler.start_trace(self._folder, profiler_options=options)
            self._first = step
        elif step - self._first >= self._steps:
            jax.block_until_ready(totals)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._steps = 0
        cli.status(f'trace: {self._folder}; see it by: pip install xprof && xprof {self._folder}')
