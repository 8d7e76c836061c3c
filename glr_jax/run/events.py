"""Events for TensorBoard: train, validation and test are its runs, so that charts overlay them."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from glr_jax.config import Config
from glr_jax.devices.processes import announce
from glr_jax.fields import flags_of


class Events:
    """Events for TensorBoard, written at once: a thread of tensorboardX would die on a full disk.

    The run does not need them, so a failure is one line.

    Args:
      workdir: of the run.
      sides: TensorBoard's runs: train, validation, test.
      done: the step to continue at; later ones that were written before are hidden.
    """

    def __init__(self, workdir: str, sides: Sequence[str], done: int = 0):
        self._folder = os.path.join(workdir, 'tensorboard')
        self._writers: dict[str, EventsWriter] = {}
        with self._failure_named():
            for side in sides:
                os.makedirs(os.path.join(self._folder, side), exist_ok=True)
                writer = EventsWriter(os.path.join(self._folder, side, 'events'))
                self._writers[side] = writer
                if done:
                    writer.write_event(Event(step=done + 1, file_version='brain.Event:2'))
                    start = SessionLog(status=SessionLog.START)
                    writer.write_event(Event(step=done + 1, session_log=start))

    def add(self, side: str, values: Mapping[str, float | None], step: int) -> None:
        """Writes scalars of a step; None is left out."""
        known = [(name, value) for name, value in values.items() if value is not None]
        self.write(side, [Summary.Value(tag=n, simple_value=v) for n, v in known], step)

    def write(self, side: str, values: Sequence[Summary.Value], step: int) -> None:
        """Writes values of any kind of a step."""
        if side not in self._writers:
            return
        with self._failure_named():
            for value in values:
                event = Event(wall_time=time.time(), step=step, summary=Summary(value=[value]))
                self._writers[side].write_event(event)
            self._writers[side].flush()

    def close(self) -> None:
        """Closes the files."""
        with self._failure_named():
            for writer in self._writers.values():
                writer.close()

    @contextlib.contextmanager
    def _failure_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writers = {}
            announce(f'{self._folder}: {error.strerror}; the run continues without TensorBoard')


def score_names(scores: dict[str, Any]) -> tuple[str, ...]:
    """The names of the scores that the log of a run and TensorBoard show beside the loss."""
    if scores.get('multi_label'):
        return 'macro_roc_auc', 'macro_average_precision', 'macro_f1'
    return 'accuracy', 'macro_f1'


def write_test(config: Config, scores: dict[str, Any]) -> None:
    """Writes the scores of a finished run beside its hyperparameters.

    Args:
      config: of the run.
      scores: as in `metrics.json`.
    """
    shown = {name: scores[name] for name in (*score_names(scores), 'loss')}
    flags = {name: value for name, value in flags_of(config).items() if name != 'workdir'}
    texts = {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in flags.items()}
    events = Events(config.workdir, ['test'])
    known = {name: score for name, score in shown.items() if score is not None}
    values = [value for summary in hparams(texts, known) for value in summary.value]
    events.write('test', values, 0)
    events.add('test', shown, scores['step'])
    events.close()
