"""Audio to log-mel TFRecords: `python -m data_prep --source=folder --input=DIR --out=data/mine`."""

from data_prep.flags import COLUMNS, Preparation
from glr_jax import cli
from glr_jax.devices import startup

USAGE = """
usage: python -m data_prep --source=SOURCE --out=FOLDER [--input=PATH] [--flag=value ...]

Turns music into a dataset: log-mel spectrograms in TFRecords, and splits into train, validation
and test. Run the same command again to resume it. Every file that is not used is in skipped.csv,
with the reason.

sources:
  demo         music that is synthesised here; needs no --input
  demo_tags    the same with several labels per clip
  folder       PATH/LABEL/**: wav, flac, ogg, mp3, ...; with ffmpeg also m4a, wma, ...; or the files
               that PATH/metadata.csv lists, with the column label, or labels for several per clip:
               rock|guitar
  gtzan        GTZAN as published: PATH/genres/GENRE/GENRE.00000.wav
  fma          FMA as published: PATH/fma_small/000/000002.mp3 and PATH/fma_metadata/tracks.csv
  mtg_jamendo  MTG-Jamendo as published: PATH/data/splits/ and PATH/00 to PATH/99; tags as labels
  mtat         MagnaTagATune: PATH/annotations_final.csv and PATH/0 to PATH/f; tags as labels
  arrays       an .npz with mel [clips, frames, bands], label and id; optionally group or artist,
               and split; with labels instead of label, several per clip
"""


if __name__ == '__main__':  # before the imports that take seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Preparation, USAGE)

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from data_prep import (
    demo_clips,
    download,
    listed,
    mtat,
    mtg_jamendo,
    sources,
    summary,
    tags,
)
from data_prep.arrays import arrays_clips
from data_prep.clips import Clip
from data_prep.fma import fma_clips
from data_prep.pipeline import prepare
from data_prep.runners import Runner, on_beam, on_pool, serially
from glr_jax import locks, storage
from glr_jax.data import mel, noted_audio
from glr_jax.data.files import LeftOut
from glr_jax.data.front_end import FrontEnd
from glr_jax.errors import UsageError, UserError
from glr_jax.workers import usable_cores


def main(argv: list[str]) -> None:
    """Runs the command line."""
    prep = cli.parse(Preparation, argv, USAGE)
    cli.need(prep, 'out')
    if prep.front_end != FrontEnd():  # the check takes a second, and the default passes it
        mel.check(prep.front_end)
    if not prep.source.startswith('demo'):
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
        place, archives = prep.input, [download.GTZAN]
        if prep.source == 'fma':
            archives = [download.FMA[prep.chosen_subset()], download.FMA_METADATA]
        if prep.source == 'mtg_jamendo':
            place, archives = f'{prep.input}/audio-low', mtg_jamendo.archives(prep.input)
        download.fetch(archives, place)
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
    if prep.source.startswith('demo'):
        demo_clips.write_audio(prep.out, clips)
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
            return demo_clips.demo_clips()
        case 'demo_tags':
            return demo_clips.tagged_demo_clips()
        case 'folder':
            if prep.labels_from != 'folders':
                return tags.tagged_clips(prep.input, left_out, prep.labels_from == 'all_tags')
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
            return fma_clips(prep.input, prep.chosen_subset())
        case 'mtg_jamendo':
            return mtg_jamendo.mtg_jamendo_clips(prep.input, prep.chosen_subset())
        case 'mtat':
            return mtat.mtat_clips(
                prep.input,
                top_labels=prep.top_labels,
                merge_synonyms=prep.merge_synonyms,
                keep_unlabelled=prep.keep_unlabelled,
                left_out=left_out,
            )
        case 'arrays':
            return arrays_clips(
                prep.input,
                top_db=prep.front_end.top_db,
                separator=prep.label_separator,
                keep_unlabelled=prep.keep_unlabelled,
                left_out=left_out,
            )


def _audio_folder(prep: Preparation, clips: Sequence[Clip]) -> str:
    """The folder below which the audio of the clips is; '' if the source has none."""
    if prep.source == 'folder':
        return prep.input  # ids are paths below it
    if prep.source in ('gtzan', 'fma') and not storage.is_remote(prep.input):
        return os.path.commonpath([os.path.dirname(clip.file) for clip in clips])
    if prep.source in ('mtg_jamendo', 'mtat'):
        return os.path.dirname(os.path.dirname(clips[0].file))  # ids are paths below it
    return ''


def _choose_runner(prep: Preparation) -> Runner:
    if prep.runner == 'beam':
        return on_beam(prep.options_for_beam())
    workers = prep.num_workers or usable_cores()
    return serially if workers == 1 else on_pool(workers)


if __name__ == '__main__':
    cli.execute(main, at_once=True, resumes=True)
