"""The log of a run: one line per epoch, `metrics.jsonl`, TensorBoard events, a progress bar."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from glr_jax import storage
from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.run.workdir import read_log
from glr_jax.train_step import Totals


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
    """

    def __init__(self, workdir: str, *, batch_size: int, steps: int, done: int, spent: float = 0.0):
        self._spent, self._batch_size, self._steps = spent, batch_size, steps
        first = processes.is_first()
        self._path = os.path.join(workdir, 'metrics.jsonl')
        self._lines: Any = _reopen(workdir, done) if first else None
        self._events = _Events(os.path.join(workdir, 'tensorboard'), done) if first else None
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
        self._first = done + 1

    def __enter__(self) -> 'Log':
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if self._lines is not None and self._events is not None:
            with contextlib.suppress(OSError):  # of a full disk, named when the row was written
                self._lines.close()
            self._events.close()

    def step(self, step: int, totals: Totals) -> None:
        """Counts steps up to this one; once per second, waits for the result and shows it."""
        now = time.monotonic()
        if (
            self._mark is None
        ):  # the first step compiles; the first of an epoch waited for validation
            jax.block_until_ready(totals)
            self._mark, self._marked_step = time.monotonic(), step
        elif now - self._shown > 1:
            self._shown = now
            loss, correct, cases = map(float, jax.device_get(totals))
            self._bar.n = step
            self._bar.set_postfix_str(
                f'loss {loss / cases:.3f}, accuracy {correct / cases:.3f}, '
                f'{self._speed(step):.0f} clips/s, {_clock(self._left(step))} left'
            )

    def epoch(self, epoch: int, step: int, totals: Totals, validation: dict[str, Any]) -> None:
        """Logs an epoch: the `totals` of training and the scores on the validation clips."""
        loss, correct, cases = map(float, jax.device_get(totals))
        speed, left = self._speed(step), self._left(step)
        row = {
            'epoch': epoch,
            'step': step,
            'loss': loss / cases,
            'accuracy': correct / cases,
            'validation_loss': validation['loss'],
            'validation_accuracy': validation['accuracy'],
            'validation_macro_f1': validation['macro_f1'],
            'clips_per_second': speed or None,
            'seconds': self._spent + time.monotonic() - self._start,
        }
        if self._lines is not None and self._events is not None:
            self._write(json.dumps(row))
            scalars = {
                name.replace('validation_', 'validation/'): value
                for name, value in row.items()
                if name not in ('epoch', 'step') and value is not None
            }
            self._events.add(scalars, step)
        with self._bar.external_write_mode(file=sys.stderr):
            announce(
                f'epoch {epoch:3}  loss {row["loss"]:.3f}  accuracy {row["accuracy"]:.3f}  '
                f'validation: loss {row["validation_loss"]:.3f}  '
                f'accuracy {row["validation_accuracy"]:.3f}  '
                + (f'{speed:5.0f} clips/s  {_clock(left)} left' if speed else '')
            )
        self._bar.n = step
        self._timed_seconds += self._running(step)[1]
        self._timed_steps += self._running(step)[0]
        self._mark = None

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
        """Seconds to the end of the run at the pace since its start."""
        spent = time.monotonic() - self._start
        return spent / (step - self._first + 1) * (self._steps - step)


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
        file.writelines(json.dumps(row) + '\n' for row in rows if row['step'] <= done)
    return open(path, 'a')


class _Events:
    """Events for TensorBoard, written at once: a thread of tensorboardX would die on a full disk.

    The run does not need them, so a failure is one line.
    """

    def __init__(self, folder: str, done: int):
        self._folder, self._writer = folder, None
        with self._failure_named():
            os.makedirs(folder, exist_ok=True)
            self._writer = EventsWriter(os.path.join(folder, 'events'))
            if done:  # later steps are shown from this start only
                self._writer.write_event(Event(step=done + 1, file_version='brain.Event:2'))
                start = SessionLog(status=SessionLog.START)
                self._writer.write_event(Event(step=done + 1, session_log=start))

    def add(self, values: dict[str, float], step: int) -> None:
        """Writes scalars of a step."""
        if self._writer is None:
            return
        with self._failure_named():
            for name, value in values.items():
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                event = Event(wall_time=time.time(), step=step, summary=summary)
                self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            with self._failure_named():
                self._writer.close()

    @contextlib.contextmanager
    def _failure_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            announce(f'{self._folder}: {error.strerror}; the run continues without TensorBoard')


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
