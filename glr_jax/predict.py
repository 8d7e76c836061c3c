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
class Prediction:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    format: Literal['table', 'json', 'csv'] = option('table', 'output format')
    top: int = option(3, 'labels per file in the table', minimum=1)
    batch_size: int = option(16, 'segments per batch', minimum=1)
    data: Cutting = section(Cutting)


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Prediction, USAGE)

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from glr_jax import inference, storage
from glr_jax.cli import status
from glr_jax.data.files import LeftOut, audio_files, describe
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.data.segments import segment_starts
from glr_jax.errors import ClipError, UsageError, UserError
from glr_jax.evaluate import predictor, restore
from glr_jax.text import columns, printable, shorten


class Tagged(NamedTuple):
    """A file and the probability of each label."""

    path: str
    probabilities: Float[np.ndarray, ' labels']


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, inputs = cli.parse_with_arguments(Prediction, argv, USAGE)
    cli.need(choice, 'workdir')
    if not inputs:
        raise UsageError('no audio: name a file or a folder')
    startup.enable_compilation_cache()
    startup.check_devices()
    files = list(find(inputs))
    runs = restore(choice.workdir)
    meta = runs[0].meta  # its labels and front end are those of every run
    if not meta.from_audio:
        raise UserError(
            f'{choice.workdir} was trained on ready-made spectrograms, so it cannot tag audio; '
            'train on a dataset made from audio files'
        )
    failed: list[str] = []
    predictors = [predictor(run, choice.batch_size, choice.data.test_crops) for run in runs]
    tagged = tag(predictors, files, meta.front_end, failed=failed.append)
    write = {'table': _table, 'json': _json, 'csv': _csv}[choice.format]
    write(tagged, meta.labels, choice.top)
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


def tag(
    predictors: Sequence[inference.Predictor],
    files: Sequence[str],
    front_end: FrontEnd,
    *,
    failed: Callable[[str], None],
) -> Iterator[Tagged]:
    """Tags files with the mean of the networks' probabilities, a full batch of segments at a time.

    Args:
      predictors: the networks, at least one.
      files: paths.
      front_end: of the runs' dataset.
      failed: called with each file that cannot be read.
    """
    waiting: list[tuple[str, Num[np.ndarray, '_ mels']]] = []
    segments = np.zeros(len(predictors), int)
    for path in files:
        try:
            mel = mel_of_file(path, front_end)
        except (ClipError, MemoryError) as error:
            status(f'{printable(path)}: {error or "does not fit into memory"}')
            failed(path)
            continue
        waiting.append((path, mel))
        segments += [len(segment_starts(len(mel), p.frames, p.test_crops)) for p in predictors]
        if all(count >= p.batch_size for count, p in zip(segments, predictors, strict=True)):
            yield from _decide(predictors, waiting)
            waiting, segments = [], np.zeros(len(predictors), int)
    if waiting:
        yield from _decide(predictors, waiting)


def _decide(predictors: Sequence[inference.Predictor], waiting: list) -> Iterator[Tagged]:
    paths, mels = zip(*waiting, strict=True)
    clips = np.mean([inference.decide(each, mels).clips for each in predictors], 0)
    yield from map(Tagged, paths, clips)


def _table(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    for path, probabilities in tagged:
        best = np.argsort(-probabilities)[:top]
        shown = [shorten(printable(labels[k]), 40) for k in best]
        cells = '  '.join(
            f'{" " * (10 - columns(label))}{label} {probabilities[k]:6.1%}'
            for label, k in zip(shown, best, strict=True)
        )
        print(f'{cells}  {printable(path)}', flush=True)


def _json(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    """One JSON list, one file per line, each printed as soon as it is known."""
    print('[', end='')
    for count, (path, probabilities) in enumerate(tagged):
        by_label = dict(zip(labels, map(float, probabilities), strict=True))
        decision = labels[int(probabilities.argmax())]
        row = json.dumps({'path': path, 'label': decision, 'probabilities': by_label})
        print(f'{"," if count else ""}\n {row}', end='', flush=True)
    print('\n]')


def _csv(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(['path', 'label', *labels])
    for path, probabilities in tagged:
        decision = labels[int(probabilities.argmax())]
        writer.writerow([path, decision, *(f'{p:.6f}' for p in probabilities)])


if __name__ == '__main__':
    cli.execute(main, at_once=True)
