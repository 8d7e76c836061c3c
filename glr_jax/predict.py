"""Tags audio files: `python -m glr_jax.predict --workdir=runs/demo song.mp3 folder/`."""

import dataclasses
from typing import Literal

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option, section

USAGE = """
usage: python -m glr_jax.predict --workdir=DIR FILE_OR_FOLDER... [--format=table|json|csv]

Prints the probability of each label for audio files of any length, sample rate and number of
channels. A folder stands for every audio file below it; a line on stderr counts the files that are
left out. If DIR is a folder of runs, their probabilities are averaged. If a file cannot be read, a
line on stderr says why, the other files are still tagged, and the exit code is 1.
"""


@dataclasses.dataclass(frozen=True)
class Cutting:
    """How files are cut, if not as the run's own clips."""

    test_crops: int = option(
        0,
        "cut this many times as many segments from each file; 0 = the run's own setting",
        0,
        maximum=1000,
    )


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    format: Literal['table', 'json', 'csv'] = option('table', 'output format')
    top: int = option(3, 'labels per file in the table', minimum=1)
    batch_size: int = option(16, 'segments per batch', minimum=1)
    data: Cutting = section(Cutting)


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Flags, USAGE)

import csv
import json
import sys
from collections.abc import Iterator, Sequence

from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.files import LeftOut, audio_files, describe
from glr_jax.errors import UsageError, UserError
from glr_jax.tagger import Failure, Prediction, load
from glr_jax.text import columns, printable, shorten


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, inputs = cli.parse_with_arguments(Flags, argv, USAGE)
    cli.need(choice, 'workdir')
    if not inputs:
        raise UsageError('no audio: name a file or a folder')
    startup.check_devices()
    files = list(find(inputs))
    tagger = load(choice.workdir, choice.batch_size, choice.data.test_crops)
    failed: list[str] = []

    def tagged() -> Iterator[Prediction]:
        for each in tagger.tag(files):
            if isinstance(each, Failure):
                status(f'{printable(each.path)}: {each.reason}')
                failed.append(each.path)
            else:
                yield each

    write = {'table': _table, 'json': _json, 'csv': _csv}[choice.format]
    write(tagged(), tagger.labels, choice.top)
    if failed:
        raise UserError(f'{len(failed)} of {len(files)} files could not be tagged')


def find(inputs: Sequence[str]) -> Iterator[str]:
    """The audio files that the arguments stand for; a line on stderr counts what is left out.

    Raises:
      UserError: an argument was not found, or a folder has no audio.
    """
    for path in inputs:
        if storage.is_folder(path):
            others: list[LeftOut] = []
            files = list(audio_files(path, others.append))
            counts = describe(others)
            if not files:
                raise UserError(f'{path} has no audio files{f", only {counts}" if counts else ""}')
            if others:
                many = 's' * (len(others) > 1)
                status(f'{printable(path)}: left out {len(others)} file{many} ({counts})')
            yield from files
        elif storage.exists(path):
            yield path
        else:
            raise UserError(f'{path} was not found')


def _table(tagged: Iterator[Prediction], labels: Sequence[str], top: int) -> None:
    for prediction in tagged:
        cells = []
        for label, probability in prediction.top(top):
            shown = shorten(printable(label), 40)
            cells.append(f'{" " * (10 - columns(shown))}{shown} {probability:6.1%}')
        print(f'{"  ".join(cells)}  {printable(prediction.path)}', flush=True)


def _json(tagged: Iterator[Prediction], labels: Sequence[str], top: int) -> None:
    """One JSON list, one file per line, each printed as soon as it is known."""
    print('[', end='')
    for count, prediction in enumerate(tagged):
        row = json.dumps(
            {
                'path': prediction.path,
                'label': prediction.label,
                'probabilities': prediction.probabilities,
            }
        )
        print(f'{"," if count else ""}\n {row}', end='', flush=True)
    print('\n]')


def _csv(tagged: Iterator[Prediction], labels: Sequence[str], top: int) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(['path', 'label', *labels])
    for prediction in tagged:
        row = (f'{p:.6f}' for p in prediction.clip)
        writer.writerow([prediction.path, prediction.label, *row])


if __name__ == '__main__':
    cli.execute(main, at_once=True)
