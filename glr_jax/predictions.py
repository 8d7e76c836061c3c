"""Predictions as rows, and rows as a table, JSON or CSV on stdout.

The columns are the same in every format and file:

    path          of the audio file, as it was named on the command line; in JSON and CSV, bytes
                  that are not UTF-8 are escaped as in `audio_paths`
    start, end    of the segment in seconds, if there is one row per segment
    decision      the most probable label; empty (in JSON null) below the threshold. If clips may
                  have several labels: those at or above their thresholds, the most probable first,
                  joined by |; in JSON a list
    <labels>      their probabilities; in JSON an object, `probabilities`
    embedding     what the output layers read, if asked for
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from glr_jax import audio_paths
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.tables import probability_columns
from glr_jax.tagger import Prediction, decide
from glr_jax.text import columns as width_of
from glr_jax.text import printable, shorten

UNSURE = 'unsure'  # in place of a decision in the table
_FIXED = ('path', 'start', 'end', 'decision', 'embedding')
Row = dict[str, Any]


class Shape(NamedTuple):
    """Which rows a prediction becomes.

    Attributes:
      labels: the class names, in order.
      threshold: the probability below which a label is not decided, instead of `thresholds`; 0:
        none.
      over_time: whether there is a row per segment instead of one per file.
      embedding: whether the row has the embedding.
      thresholds: of each label, if clips may have several labels.
    """

    labels: tuple[str, ...]
    threshold: float = 0.0
    over_time: bool = False
    embedding: bool = False
    thresholds: tuple[float, ...] = ()


def rows(prediction: Prediction, shape: Shape) -> list[Row]:
    """The rows of a file."""
    if not shape.over_time:
        row = _row(prediction.path, prediction.probabilities, shape)
        return [row | {'embedding': prediction.embedding.tolist()} if shape.embedding else row]
    return [
        _row(prediction.path, each.probabilities, shape, {'start': each.start, 'end': each.end})
        for each in prediction.over_time()
    ]


def _row(
    path: str, probabilities: dict[str, float], shape: Shape, times: Mapping[str, float] = {}
) -> Row:
    chosen = decide(probabilities, shape.thresholds, shape.threshold)
    decision = list(chosen) if shape.thresholds else next(iter(chosen), None)
    return {'path': path, **times, 'decision': decision, 'probabilities': probabilities}


def _joined(decision: list[str] | str | None) -> str | None:
    """A decision as the text of one cell."""
    return SEPARATOR.join(decision) if isinstance(decision, list) else decision


def columns(shape: Shape) -> list[str]:
    """The columns of a table of rows."""
    times = ['start', 'end'] if shape.over_time else []
    names = probability_columns(shape.labels, _FIXED)
    return ['path', *times, 'decision', *names, *(['embedding'] if shape.embedding else [])]


def cells(row: Row) -> list[Any]:
    """The values of a row in the order of the columns."""
    flat = {name: row[name] for name in _FIXED[:4] if name in row}
    flat['decision'] = _joined(row['decision'])
    values = [*flat.values(), *row['probabilities'].values()]
    return [*values, row['embedding']] if 'embedding' in row else values


def csv_cells(row: Row) -> list[str]:
    """The same as texts: seconds with 3 decimals, probabilities with 6."""
    texts = {'path': audio_paths.written(row['path'])}
    texts |= {name: f'{row[name]:.3f}' for name in ('start', 'end') if name in row}
    texts['decision'] = _joined(row['decision']) or ''
    return [*texts.values(), *(f'{p:.6f}' for p in row['probabilities'].values())]


def json_text(row: Row) -> str:
    """A row as one line of JSON, without a line break."""
    return json.dumps(row | {'path': audio_paths.written(row['path'])})


def print_table(found: Iterable[Row], top: int) -> None:
    """One line per row: the most probable labels, the time, the path.

    If clips may have several labels, every decided one comes first, then a |, then other labels up
    to `top`.
    """
    for row in found:
        decision, shown = row['decision'], []
        if not decision:
            shown.append(f'{UNSURE:>10}       ')
        first = decision if isinstance(decision, list) else []
        best = sorted(row['probabilities'].items(), key=lambda pair: -pair[1])
        shown += [_cell(label, row['probabilities'][label]) for label in first]
        others = [pair for pair in best if pair[0] not in first][: max(0, top - len(first))]
        if isinstance(decision, list) and others:
            shown.append('|')
        shown += [_cell(*pair) for pair in others]
        time = f'{row["start"]:7.1f}-{row["end"]:.1f} s  ' if 'start' in row else ''
        print(f'{"  ".join(shown)}  {time}{printable(row["path"])}', flush=True)


def _cell(label: str, probability: float) -> str:
    name = shorten(printable(label), 40)
    return f'{" " * (10 - width_of(name))}{name} {probability:6.1%}'


def print_json(found: Iterable[Row]) -> None:
    """One JSON list, one row per line, each printed as soon as it is known."""
    print('[', end='')
    for count, row in enumerate(found):
        print(f'{"," if count else ""}\n {json_text(row)}', end='', flush=True)
    print('\n]')


def print_csv(found: Iterable[Row], shape: Shape) -> None:
    """A header and one line per row."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns(shape))
    for row in found:
        writer.writerow(csv_cells(row))


def all_rows(predictions: Iterable[Prediction], shape: Shape) -> Iterator[Row]:
    """The rows of several files, one after the other."""
    for prediction in predictions:
        yield from rows(prediction, shape)
