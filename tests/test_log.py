"""The log and the trace of a run."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from glr_jax.config import Config
from glr_jax.data.tfrecord import RecordFile
from glr_jax.errors import UserError
from glr_jax.run.events import Events, write_test
from glr_jax.run.log import Log, validation_losses
from glr_jax.run.trace import Trace
from glr_jax.train_step import Totals

VALIDATION = {'loss': 0.5, 'accuracy': 0.75, 'macro_f1': 0.7}
SEVERAL = {
    'multi_label': True,
    'loss': 0.25,
    'macro_roc_auc': 0.875,
    'macro_average_precision': 0.5,
    'macro_f1': 0.625,
}
TOTALS = Totals(jnp.float32(6.0), jnp.float32(3.0), jnp.float32(4.0))


def epoch(log: Log, number: int) -> None:
    """Four steps and what follows them."""
    for step in range(4 * number - 3, 4 * number + 1):
        log.step(step, TOTALS)
    log.epoch(number, 4 * number, TOTALS, VALIDATION)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_each_epoch_is_a_row_a_line_and_a_few_events(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Log(str(tmp_path), batch_size=1, steps=8, done=0, epochs=2) as log:
        epoch(log, 1)
        epoch(log, 2)
    first, second = rows(tmp_path)
    assert (first['epoch'], first['step'], second['step']) == (1, 4, 8)
    assert (first['loss'], first['accuracy']) == (1.5, 0.75)
    assert (first['validation_loss'], first['validation_macro_f1']) == (0.5, 0.7)
    assert second['clips_per_second'] > 0
    lines = capfd.readouterr().err.splitlines()
    assert lines.pop(0).startswith('compiling the network')
    assert lines[0].split()[:3] == ['epoch', 'train', 'loss']
    assert [line.split()[0] for line in lines[1:]] == ['1/2', '2/2']
    assert lines[1].split()[1:5] == ['1.500', '0.750', '0.500*', '0.750']  # the best so far
    assert lines[2].split()[3] == '0.500'
    assert max(map(len, lines)) <= 80
    assert {path.name for path in (tmp_path / 'tensorboard').iterdir()} == {'train', 'validation'}


def test_the_log_of_several_labels_has_their_scores_and_no_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tags: list[tuple[str, list[str]]] = []
    write = Events.write
    note = lambda self, side, values, step: tags.append((side, [value.tag for value in values]))
    monkeypatch.setattr(Events, 'write', lambda *args: (note(*args), write(*args))[1])
    undefined = SEVERAL | {'macro_roc_auc': None, 'macro_average_precision': None}
    options: dict[str, Any] = {'batch_size': 1, 'steps': 8, 'epochs': 2, 'multi_label': True}
    with Log(str(tmp_path), done=0, **options) as log:
        for number, scores in ((1, SEVERAL), (2, undefined)):
            for step in range(4 * number - 3, 4 * number + 1):
                log.step(step, TOTALS)
            log.epoch(number, 4 * number, TOTALS, scores)
    first, second = rows(tmp_path)
    assert not [name for name in first if 'accuracy' in name]
    names = ('loss', 'macro_roc_auc', 'macro_average_precision', 'macro_f1')
    assert [first[f'validation_{name}'] for name in names] == [0.25, 0.875, 0.5, 0.625]
    assert second['validation_macro_roc_auc'] is None
    assert validation_losses(str(tmp_path), 8) == [0.25, 0.25]  # both rows are read again
    lines = capfd.readouterr().err.splitlines()[1:]
    assert lines[0].split()[-4:] == ['ROC-AUC', 'macro-F1', 'clips/s', 'left']
    assert lines[1].split()[:5] == ['1/2', '1.500', '0.250*', '0.875', '0.625']
    assert lines[2].split()[:5] == ['2/2', '1.500', '0.250', '-', '0.625']
    assert len(set(map(len, lines))) == 1
    assert len(lines[0]) <= 80
    assert tags[1] == ('validation', list(names))
    assert tags[3] == ('validation', ['loss', 'macro_f1'])
    assert 'accuracy' not in tags[0][1]


def test_test_scores_that_are_not_defined_are_no_events(tmp_path: Path) -> None:
    scores = SEVERAL | {'macro_average_precision': None, 'step': 7}
    write_test(Config(workdir=str(tmp_path)), scores)
    (file,) = (tmp_path / 'tensorboard' / 'test').iterdir()
    found = [
        value.tag
        for data in RecordFile(str(file))
        for value in Event.FromString(bytes(data)).summary.value
    ]
    assert found[-3:] == ['macro_roc_auc', 'macro_f1', 'loss']
    assert not [tag for tag in found if 'accuracy' in tag or 'precision' in tag]


def test_the_time_left_counts_steps_and_pauses_but_no_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr('glr_jax.run.log.time.monotonic', lambda: now[0])
    with Log(str(tmp_path), batch_size=2, steps=40, done=0, epochs=10) as log:
        for number in range(1, 4):
            for step in range(4 * number - 3, 4 * number + 1):
                first = step == 4 * number - 3
                now[0] += (100 if number == 1 else 1) if first else 1  # compiles at first
                log.step(step, TOTALS)
            log.pause(4 * number, TOTALS)
            if number == 1:  # validation, which compiles at first
                now[0] += 46
                compiled = '/jax/core/compile/backend_compile_duration'
                jax.monitoring.record_event_duration_secs(compiled, 46)
            now[0] += 4
            log.epoch(number, 4 * number, TOTALS, VALIDATION)
    left = [line.split()[-1] for line in capfd.readouterr().err.splitlines()[2:]]
    # One second per step; then 4 of validation and, once known, 1 of the next step per epoch.
    assert left == ['1:12', '1:12', '1:03']


def test_rows_of_steps_that_were_not_saved_are_removed_on_resuming(tmp_path: Path) -> None:
    with Log(str(tmp_path), batch_size=1, steps=8, done=0) as log:
        epoch(log, 1)
        epoch(log, 2)
    with open(tmp_path / 'metrics.jsonl', 'a') as file:
        file.write('{"epoch": 3, "st')  # cut off by a power failure
    with Log(str(tmp_path), batch_size=1, steps=8, done=4):
        assert [row['step'] for row in rows(tmp_path)] == [4]


@pytest.mark.parametrize(
    ('damage', 'kept', 'said'),
    [
        (lambda text: text + '\0' * 50, [4, 8], 1),
        (lambda text: text + '\0' * 50 + '\n', [4, 8], 1),
        (lambda text: '\0' * 50 + text, [4, 8], 0),  # a row was written behind them
        (lambda text: text + '{"epoch": 3, "st', [4, 8], 1),
        (lambda text: text[:20] + '\n' + text[text.index('\n') + 1 :], [8], 1),
        (lambda text: '[]\n' + text + '{"epoch": 3, "step": "x"}\n', [4, 8], 2),
        (lambda text: '\n' + text, [4, 8], 0),
        (lambda text: text.replace('"loss": 1.5', '"loss": 1.25', 1), [8], 1),
        (lambda text: '', [], 0),
    ],
)
def test_damaged_lines_are_left_out_and_named(
    damage: Callable[[str], str],
    kept: list[int],
    said: int,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Log(str(tmp_path), batch_size=1, steps=8, done=0) as log:
        epoch(log, 1)
        epoch(log, 2)
    whole = [json.dumps(row) for row in rows(tmp_path)]
    path = tmp_path / 'metrics.jsonl'
    path.write_text(damage(path.read_text()))
    capfd.readouterr()
    assert validation_losses(str(tmp_path), 8) == [0.5] * len(kept)
    with Log(str(tmp_path), batch_size=1, steps=8, done=8):
        assert [row['step'] for row in rows(tmp_path)] == kept
    assert path.read_text().splitlines() == [
        row for row in whole if json.loads(row)['step'] in kept
    ]
    error = capfd.readouterr().err
    assert (f'{said} damaged line' in error) == bool(said)


def test_a_full_disk_is_one_line_for_the_log_and_no_reason_to_stop_for_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Log(str(tmp_path), batch_size=1, steps=12, done=0) as log:
        monkeypatch.setattr(EventsWriter, 'write_event', full)
        epoch(log, 1)
        epoch(log, 2)
        assert [row['step'] for row in rows(tmp_path)] == [4, 8]
        assert capfd.readouterr().err.count('continues without TensorBoard') == 1
        monkeypatch.setattr(os, 'fsync', full)
        with pytest.raises(UserError, match=r'metrics\.jsonl: No space left on device; once'):
            epoch(log, 3)


def test_seconds_count_from_the_first_start(tmp_path: Path) -> None:
    with Log(str(tmp_path), batch_size=1, steps=8, done=0, spent=100.0) as log:
        epoch(log, 1)
    assert 100 <= rows(tmp_path)[0]['seconds'] < 200


def test_other_processes_write_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    with Log(str(tmp_path), batch_size=1, steps=4, done=0) as log:
        epoch(log, 1)
    assert capfd.readouterr().err == ''
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


@pytest.mark.parametrize(
    ('wanted', 'dispatches', 'traced'),
    [(0, [1, 2, 3], []), (2, [1, 2, 3, 4], ['start', 'stop']), (9, [1, 2], ['start', 'stop'])],
)
def test_a_trace_starts_after_the_first_dispatch_and_always_stops(
    wanted: int,
    dispatches: list[int],
    traced: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    monkeypatch.setattr(jax.profiler, 'start_trace', lambda *_, **__: calls.append('start'))
    monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: calls.append('stop'))
    with Trace(str(tmp_path), wanted) as trace:
        trace.step(dispatches[0], TOTALS)
        assert calls == traced[:1]
        for step in dispatches[1:]:
            trace.step(step, TOTALS)
    assert calls == traced
