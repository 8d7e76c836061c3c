"""Audio to log-mel TFRecords: `python -m data_prep --source=folder --input=DIR --out=data/mine`."""

import dataclasses
import re
import shlex
from typing import Literal

from glr_jax import cli, storage
from glr_jax.data.front_end import FrontEnd
from glr_jax.devices import startup
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import check_fields, option, section

USAGE = """
usage: python -m data_prep --source=SOURCE --out=FOLDER [--input=PATH] [--flag=value ...]

Turns music into a dataset: log-mel spectrograms in TFRecords, and splits into train, validation
and test. Run the same command again to resume it. Every file that is not used is in skipped.csv,
with the reason. The sources are:
  demo    music that is synthesised here; needs no --input
  folder  PATH/LABEL/**: wav, flac, ogg, mp3, ..., with ffmpeg m4a, wma, ...; or PATH/metadata.csv,
          with the column label, or labels for several per clip: rock|guitar
  gtzan   GTZAN as published: PATH/genres/GENRE/GENRE.00000.wav
  fma     FMA as published: PATH/fma_small/000/000002.mp3 and PATH/fma_metadata/tracks.csv
  arrays  an .npz with mel [clips, frames, bands], label, id; optional group or artist, split
"""


COLUMNS = ('path', 'label', 'labels', 'group', 'split')  # of a table, whose names have flags


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The flags of this command."""

    source: Literal['demo', 'folder', 'gtzan', 'fma', 'arrays'] = option(
        'folder', 'where the clips come from'
    )
    input: str = option('', 'folder or file that the source reads', is_path=True)
    download: bool = option(False, 'first download the archives of gtzan or fma to --input')
    subset: Literal['small', 'medium', 'large', 'full'] = option(
        'small', 'subset of FMA (set.subset in tracks.csv)'
    )
    out: str = option('', 'dataset folder to write', is_path=True)
    runner: Literal['pool', 'beam'] = option(
        'pool', 'what writes the shards: processes on this machine, or Apache Beam'
    )
    num_workers: int = option(0, 'processes in the pool; 0 = one per core', minimum=0)
    beam_options: str = option('', "options for Beam, e.g. '--runner=FlinkRunner --parallelism=64'")
    shard_range: str = option('', 'A:B: write only shards A to B-1, e.g. in a job array')
    clips_per_shard: int = option(32, 'clips per TFRecord file', minimum=1)
    max_skipped: float = option(
        0.05, 'fail if more than this fraction of the clips is skipped', minimum=0, maximum=1
    )
    keep_copies: bool = option(False, 'keep exact duplicates in random and group splits')
    sides_from_folders: bool = option(
        False, 'with --source=folder: the files are in SIDE/LABEL/, SIDE being train, test, ...'
    )
    labels_from: Literal['folders', 'tags'] = option(
        'folders',
        'with --source=folder: labels are the names of sub-folders or in a table; or they are the '
        "genres in the files' tags, with artists as groups (needs mutagen)",
    )
    metadata: str = option(
        '',
        'with --source=folder: CSV table that lists the files, with labels, groups and sides; by '
        'default metadata.csv in --input, if there is one',
        is_path=True,
    )
    path_column: str = option('', 'its column with the paths below --input; by default path')
    label_column: str = option('', 'its column with one label per clip; by default label')
    labels_column: str = option(
        '', 'its column with any number of labels per clip; by default labels'
    )
    label_separator: str = option('|', 'between several labels of a clip')
    keep_unlabelled: bool = option(
        False, 'with several labels per clip: keep clips without any, as examples of none'
    )
    group_column: str = option('', 'its column with the groups; by default group or artist')
    split_column: str = option('', 'its column with train, validation or test; by default split')
    min_clips_per_label: int = option(
        0, 'leave out labels with fewer clips than this; 0 = fail if a label has fewer than 3'
    )
    overwrite: bool = option(
        False, 'replace another dataset in --out, once the new one is finished'
    )
    front_end: FrontEnd = section(FrontEnd, prefix='')

    def __post_init__(self) -> None:
        check_fields(self)
        self.shards()
        self.options_for_beam()
        if self.download:
            storage.check_local(self.input, '--input')
            if self.source not in ('gtzan', 'fma'):
                raise UsageError(
                    f'--download supports --source=gtzan and --source=fma, not {self.source}'
                )
        if self.subset != 'small' and self.source != 'fma':
            raise UsageError(f'--subset={self.subset} needs --source=fma, not {self.source}')
        if self.input and self.source == 'demo':
            raise UsageError('--source=demo reads nothing; leave out --input, or give --source')
        if self.sides_from_folders and self.source != 'folder':
            raise UsageError(f'--sides_from_folders needs --source=folder, not {self.source}')
        self.check_labelling()
        if self.beam_options and self.runner != 'beam':
            raise UsageError('--beam_options needs --runner=beam')
        if self.num_workers and self.runner == 'beam':
            raise UsageError(
                '--num_workers is for --runner=pool; give the workers of Beam in --beam_options'
            )

    def check_labelling(self) -> None:
        """Raises `UsageError` if the flags that say where labels are do not go together."""
        if not self.label_separator.strip():
            raise UsageError('--label_separator must not be empty')
        tables = ('metadata', *(f'{name}_column' for name in COLUMNS))
        given = [f'--{name}={value}' for name in tables if (value := getattr(self, name))]
        if self.labels_from == 'tags':
            if self.sides_from_folders:
                given.append('--sides_from_folders')
            if given:
                raise UsageError(f'{given[0]} does not go with --labels_from=tags; leave out one')
            given = ['--labels_from=tags']
        if given and self.source != 'folder':
            raise UsageError(f'{given[0]} needs --source=folder, not {self.source}')
        if given and self.sides_from_folders:
            raise UsageError(f'{given[0]} does not go with --sides_from_folders; leave out one')
        if self.min_clips_per_label and self.min_clips_per_label < 3:
            raise UsageError(
                f'--min_clips_per_label={self.min_clips_per_label} must be 0 or at least 3: one '
                'clip each for train, validation and test'
            )

    def shards(self) -> range | None:
        """The shards to write; None = all."""
        if not self.shard_range:
            return None
        found = re.fullmatch(r'(\d+):(\d+)', self.shard_range)
        if not found or int(found[1]) >= int(found[2]):
            raise UsageError(f'--shard_range={self.shard_range} must be A:B with A < B')
        return range(int(found[1]), int(found[2]))

    def options_for_beam(self) -> list[str]:
        """The single options in `beam_options`."""
        try:
            return shlex.split(self.beam_options)
        except ValueError as error:
            fault = 'an unclosed quote' if 'quot' in str(error) else 'a backslash at its end'
            raise UsageError(f'--beam_options={self.beam_options} has {fault}') from None


if __name__ == '__main__':  # before the imports that take seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Preparation, USAGE)

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from data_prep import download, listed, sources, summary, tags
from data_prep.clips import Clip
from data_prep.fma import fma_clips
from data_prep.pipeline import prepare
from data_prep.runners import Runner, on_beam, on_pool, serially
from glr_jax import locks
from glr_jax.data import mel, noted_audio
from glr_jax.data.files import LeftOut
from glr_jax.workers import usable_cores


def main(argv: list[str]) -> None:
    """Runs the command line."""
    prep = cli.parse(Preparation, argv, USAGE)
    cli.need(prep, 'out')
    if prep.front_end != FrontEnd():  # the check takes a second, and the default passes it
        mel.check(prep.front_end)
    if prep.source != 'demo':
        cli.need(prep, 'input')
    if prep.source == 'folder':
        _check_apart(prep)
    runner = _choose_runner(prep)  # fails without Beam, before anything is downloaded or written
    with _locked(prep):
        _prepare(prep, runner)


def _check_apart(prep: Preparation) -> None:
    """Raises `UsageError` if the dataset would be written among the audio that is read."""
    if storage.is_remote(prep.out) or storage.is_remote(prep.input):
        return
    out, folder = (os.path.realpath(path) for path in (prep.out, prep.input))
    if os.path.isdir(folder) and os.path.commonpath([out, folder]) == folder:
        raise UsageError(
            f'--out={prep.out} is inside --input={prep.input}; a later preparation would read the '
            'dataset as clips; choose a folder elsewhere'
        )


@contextlib.contextmanager
def _locked(prep: Preparation) -> Iterator[None]:
    """Keeps other commands from writing the same folder; those with --shard_range work together."""
    with contextlib.ExitStack() as stack:
        if not storage.is_remote(prep.out):
            path = locks.beside(prep.out)
            with contextlib.suppress(OSError):  # if nothing can be written, `prepare` says so
                os.makedirs(os.path.dirname(path), exist_ok=True)
                shared = bool(prep.shard_range)
                stack.enter_context(locks.hold(path, prep.out, '--out', shared=shared))
        yield


def _prepare(prep: Preparation, runner: Runner) -> None:
    start = time.monotonic()
    if prep.download:
        gtzan = prep.source == 'gtzan'
        fma = [download.FMA[prep.subset], download.FMA_METADATA]
        download.fetch([download.GTZAN] if gtzan else fma, prep.input)
    left_out: list[LeftOut] = []
    clips = _find_clips(prep, left_out.append)
    if not clips:
        raise UserError(f'{prep.input} has no clips')
    prepared = prepare(
        clips,
        prep.out,
        prep.front_end,
        runner=runner,
        clips_per_shard=prep.clips_per_shard,
        max_skipped=prep.max_skipped,
        keep_copies=prep.keep_copies,
        shard_range=prep.shards(),
        overwrite=prep.overwrite,
        min_clips_per_label=prep.min_clips_per_label,
        left_out=summary.rows(left_out, prep.input),
    )
    if prepared is None:
        print(
            f'shards {prep.shard_range} are in {prep.out}; once all shards are, run the command '
            'without --shard_range to finish the dataset'
        )
        return
    if prep.source == 'demo':
        sources.write_demo_audio(prep.out)
    noted_audio.note(prep.out, _audio_folder(prep, clips))
    seconds = time.monotonic() - start
    for note in summary.notes(prepared):
        cli.status(note)
    few = prep.min_clips_per_label
    for line in summary.lines(
        prepared, left_out, out=prep.out, min_clips_per_label=few, seconds=seconds
    ):
        print(line)


def _find_clips(prep: Preparation, left_out: Callable[[LeftOut], None]) -> list[Clip]:
    match prep.source:
        case 'demo':
            return sources.demo_clips()
        case 'folder':
            if prep.labels_from == 'tags':
                return tags.tagged_clips(prep.input, left_out)
            names = {name: getattr(prep, f'{name}_column') for name in COLUMNS}
            return sources.folder_clips(
                prep.input,
                sides_from_folders=prep.sides_from_folders,
                table=prep.metadata,
                columns=listed.Columns(**names),
                separator=prep.label_separator,
                keep_unlabelled=prep.keep_unlabelled,
                left_out=left_out,
            )
        case 'gtzan':
            return sources.gtzan_clips(prep.input, left_out=left_out)
        case 'fma':
            return fma_clips(prep.input, prep.subset)
        case 'arrays':
            return sources.arrays_clips(prep.input, top_db=prep.front_end.top_db)


def _audio_folder(prep: Preparation, clips: Sequence[Clip]) -> str:
    """The folder below which the audio of the clips is; '' if the source has none."""
    if prep.source == 'folder':
        return prep.input  # ids are paths below it
    if prep.source in ('gtzan', 'fma') and not storage.is_remote(prep.input):
        return os.path.commonpath([os.path.dirname(clip.file) for clip in clips])
    return ''


def _choose_runner(prep: Preparation) -> Runner:
    if prep.runner == 'beam':
        return on_beam(prep.options_for_beam())
    workers = prep.num_workers or usable_cores()
    return serially if workers == 1 else on_pool(workers)


if __name__ == '__main__':
    cli.execute(main, at_once=True)
