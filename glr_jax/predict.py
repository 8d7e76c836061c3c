"""Tags audio: `python -m glr_jax.predict --workdir=runs/demo song.mp3 folder/`."""

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Num

from data_prep import storage
from data_prep.mel import ClipError, FrontEnd, mel_of_file
from data_prep.sources import audio_files
from glr_jax import batches, checkpoint, cli, compiled, inference, parallel
from glr_jax.cli import UsageError, UserError, option, status

USAGE = """
usage: python -m glr_jax.predict --workdir=DIR FILE_OR_FOLDER... [--format=table|json|csv]

The probability of each label for audio files of any length, sample rate and channel count.
A folder stands for every audio file below it. A file that cannot be read gets a line on stderr,
the others their result, and the exit code is 1.
"""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the command line says."""

    workdir: str = option('', 'folder of the run')
    format: Literal['table', 'json', 'csv'] = option('table', 'what to print')
    top: int = option(3, 'labels a file in the table', minimum=1)
    batch_size: int = option(16, 'segments computed at a time', minimum=1)


class Tagged(NamedTuple):
    """A file and the probability of each label."""

    path: str
    probabilities: Float[np.ndarray, ' labels']


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, inputs = cli.parse_with_arguments(Prediction, argv, USAGE)
    if not choice.workdir:
        raise UsageError('--workdir=DIR is needed: the folder of the run')
    if not inputs:
        raise UsageError('no audio: name a file or a folder')
    compiled.keep()
    files = list(find(inputs))
    mesh = parallel.make_mesh(jax.local_devices())
    classifier, state, meta, _ = checkpoint.restore_best(choice.workdir, mesh)
    if not meta.from_audio:
        raise UserError(
            f'{choice.workdir} was trained on ready-made spectrograms, so how to make one from '
            'audio is not known; train on audio (--source=folder) to tag audio'
        )
    failed: list[str] = []
    tagged = tag(
        inference.on_local_devices(classifier)(state),
        files,
        meta.front_end,
        frames=meta.config.data.frames,
        batch_size=choice.batch_size,
        failed=failed.append,
    )
    write = {'table': _table, 'json': _json, 'csv': _csv}[choice.format]
    write(tagged, meta.labels, choice.top)
    if failed:
        raise UserError(f'{len(failed)} of {len(files)} files could not be tagged')


def find(inputs: Sequence[str]) -> Iterator[str]:
    """The audio files that the arguments stand for.

    Raises:
      UserError: an argument is not there, or a folder has no audio.
    """
    for path in inputs:
        if storage.is_folder(path):
            files = list(audio_files(path))
            if not files:
                raise UserError(f'{path} has no audio files')
            yield from files
        elif storage.exists(path):
            yield path
        else:
            raise UserError(f'{path} is not there')


def tag(
    apply: inference.Apply,
    files: Sequence[str],
    front_end: FrontEnd,
    *,
    frames: int,
    batch_size: int,
    failed: Callable[[str], None],
) -> Iterator[Tagged]:
    """Tags files, a full batch of segments at a time; `failed` is called with those that cannot."""
    waiting: list[tuple[str, Num[np.ndarray, 'length mels']]] = []
    segments = 0
    for path in files:
        try:
            mel = mel_of_file(path, front_end)
        except ClipError as error:
            status(f'{path}: {error}')
            failed(path)
            continue
        waiting.append((path, mel))
        segments += len(batches.segments(mel, frames))
        if segments >= batch_size:
            yield from _decide(apply, waiting, frames, batch_size)
            waiting, segments = [], 0
    if waiting:
        yield from _decide(apply, waiting, frames, batch_size)


def _decide(
    apply: inference.Apply, waiting: list, frames: int, batch_size: int
) -> Iterator[Tagged]:
    paths, mels = zip(*waiting, strict=True)
    decisions = inference.decide(apply, mels, frames=frames, batch_size=batch_size)
    yield from map(Tagged, paths, decisions.clips)


def _table(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    for path, probabilities in tagged:
        best = np.argsort(-probabilities)[:top]
        shares = '  '.join(f'{labels[k]:>10} {probabilities[k]:6.1%}' for k in best)
        print(f'{shares}  {path}', flush=True)


def _json(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    """One JSON list, a line a file, each printed as soon as it is known."""
    print('[', end='')
    for count, (path, probabilities) in enumerate(tagged):
        shares = dict(zip(labels, map(float, probabilities), strict=True))
        decision = labels[int(probabilities.argmax())]
        row = json.dumps({'path': path, 'label': decision, 'probabilities': shares})
        print(f'{"," if count else ""}\n {row}', end='', flush=True)
    print('\n]')


def _csv(tagged: Iterator[Tagged], labels: Sequence[str], top: int) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(['path', 'label', *labels])
    for path, probabilities in tagged:
        decision = labels[int(probabilities.argmax())]
        writer.writerow([path, decision, *(f'{p:.6f}' for p in probabilities)])


if __name__ == '__main__':
    cli.run(main)
