"""Audio to log-mel TFRecords: `python -m data_prep --source=folder --input=DIR --out=data/mine`."""

import dataclasses
import re
import shlex
import time
from typing import Literal

from data_prep import download, sources
from data_prep.download import Archive, fetch
from data_prep.fma import Subset, fma_clips
from data_prep.pipeline import prepare
from data_prep.runners import Runner, on_beam, on_pool, serially, usable_cores
from glr_jax import cli, storage
from glr_jax.data import mel
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section

USAGE = """
usage: python -m data_prep --source=SOURCE --out=FOLDER [--input=PATH] [--flag=value ...]

Turns music into log-mel spectrograms in TFRecords, with train/validation/test splits.
  demo    synthesised music, made here; needs no --input
  folder  PATH/LABEL/**: wav, flac, ogg, mp3, au, ...; the label is the sub-folder's name
  gtzan   GTZAN's own layout: PATH/genres/GENRE/GENRE.00000.wav
  fma     FMA's own layout: PATH/fma_small/000/000002.mp3 and PATH/fma_metadata/tracks.csv
  arrays  an .npz with mel [clips, frames, bands], label, id, optional group or artist, split
"""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What the command line says."""

    source: Literal['demo', 'folder', 'gtzan', 'fma', 'arrays'] = option(
        'folder', 'where clips come from'
    )
    input: str = option('', 'the folder or file that the source reads')
    download: bool = option(False, 'fetch the archives of gtzan or fma into --input first')
    subset: Subset = option('small', "of FMA, by tracks.csv's set.subset")
    out: str = option('', 'the dataset folder to write')
    runner: Literal['pool', 'beam'] = option('pool', 'processes here, or Apache Beam')
    num_workers: int = option(0, 'processes of the pool; 0: one a core', minimum=0)
    beam_options: str = option('', "Beam's own, as '--runner=FlinkRunner --parallelism=64'")
    shard_range: str = option('', 'A:B writes shards A to B-1 alone, as one of an array of jobs')
    clips_per_shard: int = option(32, 'clips in a TFRecord file', minimum=1)
    max_skipped: float = option(0.05, 'fraction of clips that may fail before the run does', 0.0)
    keep_copies: bool = option(False, 'let clips of the same content into random and group splits')
    front_end: FrontEnd = section(FrontEnd, prefix='')


def main(argv: list[str]) -> None:
    """Runs the command line."""
    prep, extra = cli.parse_with_arguments(Preparation, argv, USAGE)
    if extra:
        raise UsageError(f'unexpected argument {extra[0]!r}; the input is given by --input=PATH')
    if not prep.out:
        raise UsageError('--out=FOLDER is needed: the dataset folder to write')
    mel.check(prep.front_end)
    start = time.monotonic()
    if prep.download:
        fetch(_archives(prep), prep.input)
    match prep.source:
        case 'demo':
            clips = sources.demo_clips()
        case 'folder':
            clips = sources.folder_clips(prep.input)
        case 'gtzan':
            clips = sources.gtzan_clips(prep.input)
        case 'fma':
            clips = fma_clips(prep.input, prep.subset)
        case 'arrays':
            clips = sources.arrays_clips(prep.input)
    if not clips:
        raise UserError(f'found no clips in {prep.input}')
    summary = prepare(
        clips,
        prep.out,
        prep.front_end,
        runner=_runner(prep),
        clips_per_shard=prep.clips_per_shard,
        max_skipped=prep.max_skipped,
        keep_copies=prep.keep_copies,
        part=_part(prep.shard_range),
    )
    if summary is None:
        print(f'shards {prep.shard_range} are in {prep.out}; without --shard_range it is finished')
        return
    for label, count in sorted(summary.written.items()):
        print(f'{label:24} {count:7}')
    print(
        f'{summary.written.total()} clips in {prep.out}, {summary.skipped} skipped'
        + (f', {summary.copies} copies left out of random and group splits' * (summary.copies > 0))
        + f', {time.monotonic() - start:.0f} s'
    )


def _runner(prep: Preparation) -> Runner:
    if prep.runner == 'beam':
        return on_beam(shlex.split(prep.beam_options))
    workers = prep.num_workers or usable_cores()
    return serially if workers == 1 else on_pool(workers)


def _part(text: str) -> range | None:
    if not text:
        return None
    found = re.fullmatch(r'(\d+):(\d+)', text)
    if not found or int(found[1]) >= int(found[2]):
        raise UsageError(f'--shard_range={text} is not A:B with A < B')
    return range(int(found[1]), int(found[2]))


def _archives(prep: Preparation) -> list[Archive]:
    if not prep.input:
        raise UsageError('--input=FOLDER is needed: where --download puts the archives')
    storage.check_local(prep.input, '--input')
    match prep.source:
        case 'gtzan':
            return [download.GTZAN]
        case 'fma':
            return [download.FMA[prep.subset], download.FMA_METADATA]
    raise UsageError(f'--download knows gtzan and fma, not --source={prep.source}')


if __name__ == '__main__':
    cli.execute(main)
