"""The log of a run: one line per epoch, `metrics.jsonl`, TensorBoard events, a progress bar."""

import json
import os
import sys
import time
from typing import Any

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.train_step import Totals


class Log:
    """Progress of a run; only process 0 writes and prints.

    Clips per second count train steps only, not compilation, validation or checkpoints.

    Args:
      workdir: where `metrics.jsonl` and `tensorboard/` go. Rows that an interrupted run wrote for
        steps after `done` are removed.
      batch_size: clips per step.
      steps: in the whole run.
      done: before this start.
      spent: seconds before this start, which `seconds` in `metrics.jsonl` includes.
    """

    def __init__(self, workdir: str, *, batch_size: int, steps: int, done: int, spent: float = 0.0):
        self._spent, self._batch_size, self._steps = spent, batch_size, steps
        first = processes.is_first()
        self._lines = _reopen(os.path.join(workdir, 'metrics.jsonl') if first else os.devnull, done)
        self._events = SummaryWriter(
            os.path.join(workdir, 'tensorboard'),
            purge_step=done + 1 if done else None,
            write_to_disk=first,
        )
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
        self._lines.write(json.dumps(row) + '\n')
        self._lines.flush()
        for name, value in row.items():
            if name not in ('epoch', 'step') and value is not None:
                self._events.add_scalar(name.replace('validation_', 'validation/'), value, step)
        self._events.flush()
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
    lines = _lines_until(os.path.join(workdir, 'metrics.jsonl'), done)
    return [json.loads(line)['validation_loss'] for line in lines]


def _reopen(path: str, done: int) -> Any:
    """Opens the log to append to it, without rows for steps after `done`."""
    lines = _lines_until(path, done)
    with open(path, 'w') as file:
        file.writelines(lines)
    return open(path, 'a')


def _lines_until(path: str, done: int) -> list[str]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        whole = [line for line in file if line.endswith('\n')]  # a crash may cut off the last one
    return [line for line in whole if json.loads(line)['step'] <= done]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
