"""Decoding on several cores, beside files that kill their worker or never end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glr_jax.data import decode_pool
from glr_jax.data.decode_pool import Decoded, Failure, Read, decoders
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.errors import UserError

FRONT_END = FrontEnd()


def work(task: tuple[str, FrontEnd], tell: Callable[[Any], None]) -> Decoded:
    """Does what the name of the file says."""
    path, _ = task
    kind = os.path.basename(path).partition('-')[0]
    if kind == 'killer' or (kind == 'once' and not os.path.exists(f'{path}.tried')):
        Path(f'{path}.tried').touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'hangs':
        time.sleep(600)
    if kind == 'bug':
        raise ZeroDivisionError('a bug')
    if kind == 'slow':
        time.sleep(0.3)
    return Read(path, np.zeros((3, 2), np.uint8))


def paths_of(found: list[Decoded]) -> list[str]:
    return [each[0] for each in found]


def test_files_are_decoded_in_their_order_beside_those_that_fail(tones: Path) -> None:
    files = [str(tones / 'low' / f'{k}.wav') for k in range(6)]
    files.insert(2, 'no.wav')
    with decoders(2) as decode:
        found = list(decode(files, FRONT_END))
    assert paths_of(found) == files
    for each in found:
        if isinstance(each, Failure):
            assert each == ('no.wav', 'cannot be read: No such file or directory')
        else:
            np.testing.assert_array_equal(each[1], mel_of_file(each[0], FRONT_END))


def test_a_file_that_kills_its_worker_or_hangs_stops_no_other(tmp_path: Path) -> None:
    names = ['a', 'killer', 'b', 'slow', 'once', 'hangs', 'c', 'd']
    files = [str(tmp_path / f'{name}-{k}') for k, name in enumerate(names)]
    with decoders(2, timeout=1.0, work=work) as decode:
        found = list(decode(files, FRONT_END))
    assert paths_of(found) == files
    reasons = [each.reason if isinstance(each, Failure) else '' for each in found]
    assert [k for k, reason in enumerate(reasons) if reason] == [1, 5]
    assert 'killed the process that read it twice' in reasons[1]
    assert reasons[5] == 'took longer than 1 s to read'


def read_ahead() -> int:
    """How many files have been asked for half a second after the first was decoded."""
    given = []
    files = (given.append(k) or f'a-{k}' for k in range(1000))  # type: ignore[func-returns-value]
    with decoders(2, work=work) as decode:
        found = decode(files, FRONT_END)
        next(found)
        time.sleep(0.5)
        count = len(given)
        found.close()  # type: ignore[attr-defined]
    return count


def test_files_are_read_only_some_way_ahead() -> None:
    assert read_ahead() <= 64 + 3


def test_little_is_held_if_spectrograms_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, 'MAX_HELD', 10)
    assert read_ahead() <= 6


def test_a_bug_in_a_worker_is_raised_with_its_traceback() -> None:
    with (
        decoders(2, work=work) as decode,
        pytest.raises(ZeroDivisionError, match='a bug') as failure,
    ):
        list(decode(['a-1', 'bug-2', 'a-3'], FRONT_END))
    assert 'in work' in ''.join(failure.value.__notes__)


class EndsItsProcess:
    """Cannot be sent to a process without ending it."""

    def __call__(self, task: Any, tell: Any) -> None:
        raise AssertionError

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_workers_that_cannot_start_are_an_error() -> None:
    with (
        decoders(2, work=EndsItsProcess()) as decode,
        pytest.raises(UserError, match='--num_workers=1'),
    ):
        list(decode(['x.wav'], FRONT_END))
