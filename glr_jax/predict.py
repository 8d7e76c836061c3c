"""Tags audio files: `python -m glr_jax.predict --workdir=runs/demo song.mp3 folder/`.

Processes that decode import this module too, so what takes long is imported where it is used.
"""

import dataclasses
import importlib.util
import os
from typing import Literal

from glr_jax import cli, storage
from glr_jax.devices import startup
from glr_jax.errors import FieldError, UsageError
from glr_jax.fields import option, section
from glr_jax.workers import FEW, usable_cores

USAGE = """
usage: python -m glr_jax.predict --workdir=DIR FILE_OR_FOLDER... [--format=table|json|csv]

Prints the probability of each label for audio files of any length, sample rate and number of
channels. A folder stands for every audio file below it; a line on stderr counts the files that are
left out. If DIR is a folder of runs, their probabilities are averaged. If a file is missing or
cannot be read, a line on stderr says why, the other files are still tagged, and the exit code is 1.
A file that is shorter than its header states is tagged, and a line on stderr names both lengths.

With --out=tags.csv the rows go into a file, and the same command resumes if it was interrupted.
In its paths, bytes that are not UTF-8 are written as in caf\\xe9.mp3; to open such a file, pass the
path through glr_jax.audio_paths.read.

If the network was trained on clips with several labels, the labels at or above their thresholds
are decided: the table shows them first, a column of --out joins them with |, and --write_tags
writes them as several genres.

With --write_tags the label becomes the genre in the tags of mp3, FLAC, Ogg, Opus, MP4, WAV and AIFF
files: without --apply it only says what would change. --restore_tags=FILE --apply undoes that.
"""

TABLES = ('.csv', '.jsonl', '.parquet')


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

    workdir: str = option(
        '',
        'folder of a run; or a folder of runs, an exported network, or hf:USER/NAME',
        is_path=True,
    )
    format: Literal['table', 'json', 'csv'] = option(
        'table', 'output format on stdout, without --out'
    )
    top: int = option(3, 'labels per file in the table', minimum=1)
    out: str = option(
        '',
        'write the rows to this .csv, .jsonl or .parquet file, not to stdout; if it exists, '
        'only files without a row in it are tagged',
        is_path=True,
    )
    over_time: bool = option(
        False,
        'one row per segment, with its start and end in seconds, instead of one row per file; '
        'for shorter steps, add --data.test_crops=4',
    )
    threshold: float = option(
        0.0,
        'leave the decision open if no label has at least this probability: an empty decision in '
        'csv (null in json), unsure in the table, and no change by --write_tags; 0 = always '
        'decide. With several labels per clip: replaces the threshold of every label; 0 = those '
        'chosen in training',
        minimum=0,
        maximum=1,
    )
    embeddings: str = option(
        '',
        'also write an embedding of each file (a vector for similarity search or for training '
        'another classifier) to this .npz file; or --embeddings=column: to a column of --out, '
        'which must be .jsonl or .parquet. Needs --out',
        is_path=True,
    )
    write_tags: bool = option(
        False, 'show how the genre in the tags of the files would change, instead of the table'
    )
    apply: bool = option(False, 'with --write_tags or --restore_tags: do change the files')
    tags_backup: str = option(
        'tags_backup.jsonl',
        'file to which --write_tags --apply appends the old genres, for --restore_tags',
        is_path=True,
    )
    restore_tags: str = option(
        '',
        'show which genres of this --tags_backup file would be put back; takes no audio files',
        is_path=True,
    )
    batch_size: int = option(16, 'segments per batch', minimum=1)
    num_workers: int = option(
        0, f'processes that decode audio; 0 = one per core for more than {FEW} files', minimum=0
    )
    file_timeout: int = option(
        600, 'give up a file after this many seconds; only with several --num_workers', minimum=1
    )
    data: Cutting = section(Cutting)

    def __post_init__(self) -> None:
        for name in ('out', 'embeddings', 'tags_backup'):
            storage.check_local(getattr(self, name), f'--{name}')
        if self.out and not self.out.endswith(TABLES):
            raise FieldError(
                'out', self.out, f'must end in {", ".join(TABLES[:-1])}, or {TABLES[-1]}'
            )
        if self.embeddings == 'column':
            if not self.out.endswith(('.jsonl', '.parquet')):
                raise UsageError('--embeddings=column needs --out=FILE.jsonl or FILE.parquet')
            if self.over_time:
                raise UsageError('--embeddings=column has one row per file: omit --over_time')
        elif self.embeddings and not self.embeddings.endswith('.npz'):
            raise FieldError('embeddings', self.embeddings, 'must end in .npz, or be column')
        elif self.embeddings and not self.out:
            raise UsageError('--embeddings needs --out=FILE as well, so that it can be resumed')
        if self.write_tags and (self.out or self.over_time or self.restore_tags):
            raise UsageError('--write_tags excludes --out, --over_time and --restore_tags')
        if self.apply and not self.write_tags and not self.restore_tags:
            raise UsageError('--apply needs --write_tags or --restore_tags')


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Flags, USAGE)

from collections.abc import Callable, Iterator, Sequence

from glr_jax import audio_paths, signals
from glr_jax.cli import status
from glr_jax.errors import UserError
from glr_jax.text import printable


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice, inputs = cli.parse_with_arguments(Flags, argv, USAGE)
    signals.leaves(lambda: 'no file was tagged yet')
    if choice.restore_tags:
        from glr_jax import genre_tags

        return genre_tags.restore(choice.restore_tags, choice.apply)
    cli.need(choice, 'workdir')
    if not inputs:
        raise UsageError('no audio: name a file or a folder')
    _check_writable(choice)
    faults: list[str] = []
    files = list(find(inputs, faults.append))
    if choice.out or choice.write_tags:
        first: dict[str, str] = {}
        for path in files:
            first.setdefault(audio_paths.identity(path), path)
        files = list(first.values())
    if files and storage.is_folder(choice.workdir):
        status('loading the model')

    from glr_jax.data.decode_pool import decoders

    num_workers = choice.num_workers or (usable_cores() if len(files) > FEW else 1)
    with decoders(num_workers, choice.file_timeout) as decode:
        startup.check_devices()
        if len(faults) == len(inputs) == 1:
            raise UserError(faults[0])
        for fault in faults:
            status(fault)
        if not files:
            raise UserError('no audio was found')

        from glr_jax import tag_audio

        failed = tag_audio.run(choice, files, decode)
    failed += len(faults)
    if failed:
        count = len(files) + len(faults)
        what = 'changed' if choice.apply else 'tagged'
        raise UserError(f'{failed} of {count} files could not be {what}')


def _check_writable(choice: Flags) -> None:
    """Fails before the model is loaded if a file cannot be written."""
    if choice.write_tags:
        from glr_jax import tag_files

        tag_files.check_installed()
    outputs = {'out': choice.out}
    if choice.embeddings != 'column':
        outputs['embeddings'] = choice.embeddings
    if choice.apply:
        outputs['tags_backup'] = choice.tags_backup
    for name, path in outputs.items():
        folder = os.path.dirname(path) or '.'
        if path and os.path.isdir(path):
            raise UserError(f'--{name}={path} is a folder; name a file')
        if path and not os.path.isdir(folder):
            raise UserError(f'--{name}={path}: the folder {folder} was not found')
        appended = os.path.exists(path) and not path.endswith(('.parquet', '.npz'))
        if path and not os.access(path if appended else folder, os.W_OK):
            raise UserError(
                f'--{name}={path}: no permission to write there; choose another --{name}'
            )
        if path.endswith('.parquet') and importlib.util.find_spec('pyarrow') is None:
            raise UserError(f"--{name}={path} needs pyarrow: pip install -e '.[parquet]'")


def _refuse(fault: str) -> None:
    raise UserError(fault)


def find(inputs: Sequence[str], fault: Callable[[str], None] = _refuse) -> Iterator[str]:
    """The audio files that the arguments stand for; a line on stderr counts what is left out.

    Args:
      inputs: files and folders.
      fault: called with a sentence for an argument that was not found, or a folder without audio.

    Raises:
      UserError: the same, unless `fault` is given.
    """
    from glr_jax.data.files import LeftOut, audio_files, describe

    for path in inputs:
        if storage.is_folder(path):
            others: list[LeftOut] = []
            files = list(audio_files(path, others.append))
            counts = describe(others)
            if not files:
                fault(f'{path} has no audio files{f", only {counts}" if counts else ""}')
            elif others:
                many = 's' * (len(others) > 1)
                status(f'{printable(path)}: left out {len(others)} file{many} ({counts})')
            yield from files
        elif storage.exists(path):
            yield path
        else:
            fault(f'{path} was not found')


if __name__ == '__main__':
    cli.execute(main, at_once=True)
