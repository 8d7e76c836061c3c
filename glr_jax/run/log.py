"""The log of a run: one line per epoch, `metrics.jsonl`, TensorBoard events, a progress bar."""

import contextlib
import json
import math
import os
import sys
import time
from typing import Any

import jax
from tqdm import tqdm

from glr_jax import json_files, metrics, storage
from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.progress import clock
from glr_jax.run.events import Events, score_names
from glr_jax.run.workdir import read_log
from glr_jax.train_step import Totals

# A star behind the validation loss marks the best one so far.
_HEADER = '    epoch  train loss  accuracy  validation loss  accuracy  clips/s     left'
# Most labels are absent from most clips, so the share that is decided right says little.
_HEADER_OF_SEVERAL = '    epoch  train loss  validation loss  ROC-AUC  macro-F1  clips/s     left'
_COMPILATION = (
    '/jax/core/compile/jaxpr_to_mlir_module_duration',
    '/jax/core/compile/backend_compile_duration',
)


class Log:
    """Progress of a run; only process 0 writes and prints.

    Clips per second count train steps only, not compilation, validation or checkpoints.

    Args:
      workdir: where `metrics.jsonl` and `tensorboard/` go. Damaged lines, and rows that an
        interrupted run wrote for steps after `done`, are removed.
      batch_size: clips per step.
      steps: in the whole run.
      done: before this start.
      spent: seconds before this start, which `seconds` in `metrics.jsonl` includes.
      epochs: in the whole run.
      multi_label: whether a clip may have several labels; the scores are then others.
    """

    def __init__(
        self,
        workdir: str,
        *,
        batch_size: int,
        steps: int,
        done: int,
        spent: float = 0.0,
        epochs: int = 1,
        multi_label: bool = False,
    ):
        self._multi_label = multi_label
        self._spent, self._batch_size, self._steps = spent, batch_size, steps
        self._epochs, self._best = epochs, min(validation_losses(workdir, done), default=math.inf)
        first = processes.is_first()
        self._path = os.path.join(workdir, 'metrics.jsonl')
        self._lines: Any = _reopen(workdir, done) if first else None
        self._events = Events(workdir, ('train', 'validation') if first else (), done)
        self._bar = tqdm(
            total=steps,
            initial=done,
            unit='step',
            leave=False,
            dynamic_ncols=True,
            disable=not first or not sys.stderr.isatty(),
        )
        self._start = self._shown = time.monotonic()
        self._mark: float | None = None  # start of the steps being timed; None before
        self._timed_steps, self._timed_seconds = 0, 0.0
        self._paused: float | None = None  # since when validation and checkpoint run
        self._pauses: list[float] = []
        self._compiling = 0.0  # seconds of compilation since then
        if done < steps:
            announce('compiling the network (once per machine and shape), then:')
            announce(_HEADER_OF_SEVERAL if multi_label else _HEADER)

    def __enter__(self) -> 'Log':
        jax.monitoring.register_event_duration_secs_listener(self._note_compilation)
        return self

    def __exit__(self, *error: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note_compilation)
        self._bar.close()
        if self._lines is not None:
            with contextlib.suppress(OSError):  # of a full disk, named when the row was written
                self._lines.close()
        self._events.close()

    def step(self, step: int, totals: Totals) -> None:
        """Counts steps up to this one; once per second, waits for the result and shows it."""
        now = time.monotonic()
        if self._mark is None:  # the first step compiles, or waited for validation
            jax.block_until_ready(totals)
            self._mark, self._marked_step = time.monotonic(), step
            if self._paused is not None:
                self._pauses.append(self._paused_for(self._mark))
                self._paused = None
        elif now - self._shown > 1:
            self._shown = now
            loss, correct, cases = map(float, jax.device_get(totals))
            self._bar.n = step
            accuracy = '' if self._multi_label else f'accuracy {correct / cases:.3f}, '
            self._bar.set_postfix_str(
                f'loss {loss / cases:.3f}, {accuracy}'
                f'{self._speed(step):.0f} clips/s, {clock(self._left(step))} left'
            )

    def pause(self, step: int, totals: Totals) -> None:
        """Stops the clock of the train steps: validation comes next."""
        jax.block_until_ready(totals)
        steps, seconds = self._running(step)
        self._timed_steps += steps
        self._timed_seconds += seconds
        self._mark, self._paused, self._compiling = None, time.monotonic(), 0.0

    def epoch(self, epoch: int, step: int, totals: Totals, validation: dict[str, Any]) -> None:
        """Logs an epoch: the `totals` of training and the scores on the validation clips."""
        loss, correct, cases = map(float, jax.device_get(totals))
        speed, left = self._speed(step), self._left(step)
        train = {'loss': loss / cases}
        if not self._multi_label:
            train['accuracy'] = correct / cases
        shown = {name: validation[name] for name in ('loss', *score_names(validation))}
        row = {
            'epoch': epoch,
            'step': step,
            **train,
            **{f'validation_{name}': score for name, score in shown.items()},
            'clips_per_second': speed or None,
            'seconds': self._spent + time.monotonic() - self._start,
        }
        if self._lines is not None:
            self._write(_line(row))
        self._events.add('train', train | {'clips_per_second': speed or None}, step)
        self._events.add('validation', shown, step)
        best = shown['loss'] < self._best
        self._best = min(self._best, shown['loss'])
        accuracy = '' if self._multi_label else f'{train["accuracy"]:8.3f}  '
        widths = {'macro_roc_auc': 7, 'macro_f1': 8} if self._multi_label else {'accuracy': 8}
        scores = ''.join(f'{metrics.shown(shown[name]):>{widths[name]}}  ' for name in widths)
        with self._bar.external_write_mode(file=sys.stderr):
            announce(
                f'{f"{epoch}/{self._epochs}":>9}  {train["loss"]:10.3f}  {accuracy}'
                f'{shown["loss"]:15.3f}{"*" if best else " "} '
                f'{scores}{f"{speed:.0f}" if speed else "":>7}  '
                f'{clock(left) if speed else "":>7}'
            )
        self._bar.n = step

    def _write(self, row: str) -> None:
        """Writes a row, so that it is safe from a power failure."""
        try:
            self._lines.write(row + '\n')
            self._lines.flush()
            os.fsync(self._lines.fileno())
        except OSError as error:
            raise UserError(
                f'{self._path}: {error.strerror}; once it can be written, run the same command '
                'again to resume'
            ) from None

    def _running(self, step: int) -> tuple[int, float]:
        if self._mark is None:
            return 0, 0.0
        return step - self._marked_step, time.monotonic() - self._mark

    def _speed(self, step: int) -> float:
        """Clips per second; 0 before anything could be timed."""
        steps, seconds = self._running(step)
        steps, seconds = steps + self._timed_steps, seconds + self._timed_seconds
        return steps * self._batch_size / seconds if steps else 0.0

    def _left(self, step: int) -> float:
        """Seconds to the end of the run, at the pace of the steps and pauses so far.

        Compilation counts in neither, since it comes only once. During the first pause, its
        checkpoint is still to come.
        """
        speed, pauses = self._speed(step), self._pauses
        if not pauses and self._paused is not None:
            pauses = [self._paused_for(time.monotonic())]
        share = 1 - step / self._steps
        usual = share * self._epochs * sum(pauses) / len(pauses) if pauses else 0.0
        return (self._steps - step) * self._batch_size / speed + usual if speed else 0.0

    def _paused_for(self, now: float) -> float:
        return max(0.0, now - (self._paused or now) - self._compiling)

    def _note_compilation(self, event: str, duration_secs: float, **_: Any) -> None:
        if event in _COMPILATION:
            self._compiling += duration_secs


def validation_losses(workdir: str, done: int) -> list[float]:
    """The validation loss of each logged epoch up to step `done`."""
    return [row['validation_loss'] for row in read_log(workdir)[0] if row['step'] <= done]


def _reopen(workdir: str, done: int) -> Any:
    """Opens the log to append to it, without damaged lines and rows for steps after `done`."""
    path = os.path.join(workdir, 'metrics.jsonl')
    rows, damaged = read_log(workdir)
    if damaged:
        announce(f'{path}: {damaged} damaged line{"s were" if damaged > 1 else " was"} left out')
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        file.writelines(_line(row) + '\n' for row in rows if row['step'] <= done)
    return open(path, 'a')


def _line(row: dict[str, Any]) -> str:
    """A row with its checksum: --train.patience counts on its numbers after a resume."""
    return json.dumps(json_files.sealed(row))
