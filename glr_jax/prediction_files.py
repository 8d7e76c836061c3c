"""Files of predictions that a command appends to, and that the same command resumes.

`.csv` and `.jsonl` files grow file by file. A `.parquet` file, and an `.npz` file of embeddings,
are written whole at the end, from a `.partial.jsonl` file beside them. `FILE.made_with.json` says
what made a file, so that no other network's predictions are appended to it.
"""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from glr_jax import audio_paths, json_files, locks, prediction_formats, signals, storage
from glr_jax.errors import UserError
from glr_jax.predictions import Row, csv_cells, json_text

APPENDED = ('.csv', '.jsonl')


class Output(NamedTuple):
    """A file of predictions that is open for more rows.

    Attributes:
      path: of the finished file.
      log: of the file that grows.
      columns: of its table.
      stored: the identities of the audio files whose predictions are in it.
      file: the open log, without a buffer.
    """

    path: str
    log: str
    columns: Sequence[str]
    stored: set[str]
    file: Any

    def add(self, path: str, rows: Sequence[Row]) -> None:
        """Appends the rows of an audio file, unless they are in it already."""
        identity = audio_paths.identity(path)
        if identity in self.stored:
            return
        if self.log.endswith('.csv'):
            text = io.StringIO()
            csv.writer(text).writerows(map(csv_cells, rows))
            lines = text.getvalue()
        else:
            lines = ''.join(f'{json_text(row)}\n' for row in rows)
        try:
            with signals.whole:  # Ctrl-C leaves no half of it
                _write(self.file, lines)
                self.stored.add(identity)
        except OSError as error:  # a full disk has no name
            error.filename = error.filename or self.log
            raise

    def finish(self) -> None:
        """Makes the rows last, and writes a file that cannot be appended to."""
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(self.file.fileno())
        if self.log == self.path or (not os.path.getsize(self.log) and os.path.exists(self.path)):
            return
        with signals.whole:
            prediction_formats.convert(self.log, self.path, self.columns)
            os.truncate(self.log, 0)  # else the rows would be there twice


@contextlib.contextmanager
def opened(
    path: str, flag: str, columns: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[Output]:
    """Opens a file of predictions, new or begun by the same command.

    Args:
      path: of the file, whose suffix says the format.
      flag: the flag that names it, for errors.
      columns: of its table; the first one is the path of the audio file.
      settings: the flags that made it, as JSON values.

    Raises:
      UserError: other settings made it, it is damaged, another command writes it, or it cannot be
        written.
    """
    log = path if path.endswith(APPENDED) else f'{path}.partial.jsonl'
    settings = dict(settings) | {'columns': list(columns)}
    with contextlib.ExitStack() as stack:
        with _failures_named(path, flag):
            stack.enter_context(locks.hold(locks.beside(path), path, flag))
            _check_settings(path, log, flag, settings)
            names = set() if log == path else prediction_formats.stored(path)
            names |= _mend(log, columns, flag)
            stored = {audio_paths.identity(audio_paths.read(name)) for name in names}
            file = open(log, 'ab', buffering=0)  # noqa: SIM115
        with file:
            if log.endswith('.csv') and not os.path.getsize(log):
                header = io.StringIO()
                csv.writer(header).writerow(columns)
                _write(file, header.getvalue())
            output = Output(path, log, columns, stored, file)
            yield output
            output.finish()
        if log != path:
            storage.remove(log)


@contextlib.contextmanager
def _failures_named(path: str, flag: str) -> Iterator[None]:
    """Raises an `OSError` inside as a `UserError` with the flag; it may be about a file beside."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f'{flag}={path} cannot be written: {reason}; choose another {flag}'
        ) from None


def _write(file: io.FileIO, text: str) -> None:
    rest = memoryview(text.encode('utf-8', 'backslashreplace'))
    while rest:
        rest = rest[file.write(rest) :]


def _check_settings(path: str, log: str, flag: str, settings: dict[str, Any]) -> None:
    """Makes sure that a file was made with the same settings; notes them for a new file."""
    note, remedy = f'{path}.made_with.json', f'choose another {flag}'
    if os.path.exists(path) or os.path.exists(log):
        if not os.path.exists(note):
            raise UserError(
                f'{path} exists, but {note}, which would say how it was made, was not found; '
                f'{remedy}, or remove the file'
            )
        made = json_files.read_object(note, remedy)
        for name, value in settings.items():
            if made.get(name) != value:
                other = f'--{name}={_shown(made.get(name))} (not {_shown(value)})'
                what = 'other columns' if name == 'columns' else other
                raise UserError(f'{path} was made with {what}; {remedy}')
    json_files.write(note, settings)


def _shown(value: Any) -> str:
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def _mend(log: str, columns: Sequence[str], flag: str) -> set[str]:
    """Removes the last audio file of a log if its rows may be incomplete; the names of the others.

    With a row per segment that is always so: nobody knows how many there should be.
    """
    stored: set[str] = set()
    end, last, first_of_last, bad = 0, '', 0, 0
    if not os.path.exists(log):
        return stored
    per_segment = 'start' in columns
    for line, (name, start, stop) in enumerate(_read(log, len(columns)), 1):
        if bad:
            raise UserError(f'{log}: row {bad} is damaged; mend it, or choose another {flag}')
        if name is None:
            bad = line
            continue
        if line == 1 and log.endswith('.csv'):  # the header
            end = stop
            continue
        if name != last:
            last, first_of_last = name, start
        stored.add(name)
        end = stop
    if per_segment and last:
        stored.discard(last)
        end = first_of_last
    if end < os.path.getsize(log):
        os.truncate(log, end)
    return stored


def _read(log: str, num_columns: int) -> Iterator[tuple[str | None, int, int]]:
    """The name in each row, or None if it is damaged, with its first byte and the one after it."""
    place = 0

    with open(log, 'rb') as file:
        if log.endswith('.jsonl'):
            for line in file:
                start, place = place, place + len(line)
                yield _json_name(line), start, place
            return

        def lines() -> Iterator[str]:
            nonlocal place
            for line in file:
                place += len(line)
                yield line.decode('utf-8', 'replace')

        start, reader = 0, csv.reader(lines())
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                row = []
            if row is None:
                return
            file_ends = place == os.path.getsize(log)
            whole = len(row) == num_columns and not (file_ends and not _ends_line(log))
            yield row[0] if whole else None, start, place
            start = place


def _ends_line(log: str) -> bool:
    with open(log, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b'\n'


def _json_name(line: bytes) -> str | None:
    if not line.endswith(b'\n'):
        return None
    try:
        name = json.loads(line)['path']
    except (ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None
