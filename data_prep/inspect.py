"""Checks and summarises a dataset folder: `python -m data_prep.inspect data/mine`."""

import dataclasses
import os

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import check_fields, option

USAGE = """
usage: python -m data_prep.inspect FOLDER [--page=FILE.png]

Reads every record of a dataset and verifies its checksums. Prints the number and the lengths of
the clips of each label, the number of clips on each side of each split, how many groups are on
more than one side, why files were skipped, and which clips are not as long as their files state.
Where clips may have several labels: how many they have, and the labels that no clip on a side has.

--page draws up to four spectrograms of each label, all on one scale of seconds and of decibels.
More than 20 labels take several files: mels-1.png, mels-2.png, ... for --page=mels.png.
"""
EXAMPLES = 20  # of clips with another length than stated
FORMATS = ('.png', '.pdf', '.svg', '.jpg')


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The flags of this command."""

    page: str = option(
        '',
        'image file to draw spectrograms of each label in; many labels take several',
        is_path=True,
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.page and os.path.splitext(self.page)[1].lower() not in FORMATS:
            raise UsageError(f'--page={self.page} must end in {", ".join(FORMATS)}')


if __name__ == '__main__':  # before the imports that take seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Inspection, USAGE)

import re
from collections import Counter, defaultdict

import numpy as np
from jaxtyping import Int

from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.metadata import read_metadata
from glr_jax.data.records import SIDES
from glr_jax.data.tables import names_of, read_table
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.text import cell, counted, printable, shorten


def main(argv: list[str]) -> None:
    """Runs the command line."""
    inspection, folders = cli.parse_with_arguments(Inspection, argv, USAGE)
    if len(folders) != 1:
        raise UsageError('give one dataset FOLDER (see --help)')
    (folder,) = folders
    if not storage.exists(os.path.join(folder, 'front_end.json')):
        open_dataset(folder)  # says what is missing
    faults = find_faults(folder)
    if faults:
        print('\n'.join(faults))
        raise UserError(f'{folder} has {counted(len(faults), "fault")}; prepare it again')
    dataset = open_dataset(folder)
    lengths = np.asarray([len(dataset.mel(clip)) for clip in range(len(dataset))])
    tables = [
        label_table(dataset, lengths),
        labels_per_clip(dataset),
        split_table(dataset),
        absent_table(dataset),
        skipped_table(folder),
        length_table(folder),
    ]
    print('\n\n'.join([*filter(None, tables), f'all {len(dataset)} records are intact']))
    if inspection.page:
        from data_prep import pictures  # matplotlib takes a second

        for path in pictures.draw(dataset, lengths, inspection.page):
            status(f'wrote {path}')


def find_faults(folder: str) -> list[str]:
    """Names every damaged record by file and offset; after a damaged header, no more of its file.

    Args:
      folder: a dataset folder with its metadata.
    """
    faults = []
    for path in read_metadata(folder).shards:
        try:
            file = RecordFile(path)
        except (CorruptRecordError, OSError) as error:
            faults.append(str(error))
            continue
        for index in range(len(file)):
            try:
                file[index]
            except CorruptRecordError as error:
                faults.append(str(error))
        file.close()
    return faults


def label_table(dataset: Dataset, lengths: Int[np.ndarray, ' clips']) -> str:
    """The number of clips of each label and their lengths.

    Args:
      dataset: an open dataset.
      lengths: frames of each clip.
    """
    seconds = lengths.astype(float)
    unit = 'frames'
    if dataset.from_audio:
        unit, seconds = 's', seconds * dataset.front_end.hop_length / dataset.front_end.sample_rate
    lines = [f'{"label":24} {"clips":>7} {"shortest":>9} {"median":>9} {"longest":>9}  ({unit})']
    each = [(label, dataset.having(k)) for k, label in enumerate(dataset.labels)]
    for label, chosen in [*each, ('all', np.full(len(dataset), True))]:
        its = seconds[chosen]
        several = (its.min(), np.median(its), its.max()) if len(its) else ()
        cells = ''.join(f' {value:9.1f}' for value in several)
        lines.append(f'{cell(label, 24, 60)} {len(its):7}{cells}')
    return '\n'.join(lines)


def labels_per_clip(dataset: Dataset) -> str:
    """How many labels the clips have; '' if each has one."""
    if not dataset.multi_label:
        return ''
    counts = dataset.targets.sum(1, dtype=int)
    without = counted(int((counts == 0).sum()), 'clip')
    return (
        f'labels per clip: {counts.mean():.2f} on average, from {counts.min()} to {counts.max()}; '
        f'{without} without any'
    )


def split_table(dataset: Dataset) -> str:
    """The number of clips on each side of each split, and of groups on more than one side."""
    rows = read_table(os.path.join(dataset.folder, 'splits.csv')).rows
    groups = [row.get('group', '') for row in rows]
    header = ''.join(f'{side:>11}' for side in (*SIDES, 'none'))
    lines = [f'{"split":24}{header}   groups on several sides']
    for name, sides in dataset.splits.items():
        counts = Counter(sides)
        sides_of = defaultdict(set)
        for group, side in zip(groups, sides, strict=True):
            if group and side:
                sides_of[group].add(side)
        several = sum(len(found) > 1 for found in sides_of.values())
        cells = ''.join(f'{counts[side]:11}' for side in (*SIDES, ''))
        leaks = f'{several} of {len(sides_of)}' if sides_of else 'no groups'
        lines.append(f'{cell(name, 24, 60)}{cells}   {leaks}')
    return '\n'.join(lines)


def absent_table(dataset: Dataset) -> str:
    """The sides of splits that have no clip or lack a label; '' if each clip has one label."""
    if not dataset.multi_label:
        return ''
    lines = []
    for name in dataset.splits:
        for side in SIDES:
            clips = dataset.members(name, side)
            absent = np.flatnonzero(~dataset.targets[clips].any(0))
            noun = f'{"training" if side == "train" else side} clip'
            if not len(clips):
                lines.append(f'{cell(name, 24, 60)} no {noun}s')
            elif len(absent):
                labels = counted(len(absent), 'label')
                names = printable(names_of([dataset.labels[k] for k in absent]))
                lines.append(f'{cell(name, 24, 60)} no {noun} has {labels}: {names}')
    return '\n'.join(lines) or 'every side of every split has clips of every label'


def skipped_table(folder: str) -> str:
    """The reasons in `skipped.csv`, the most frequent first, each with an example."""
    example: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in read_table(os.path.join(folder, 'skipped.csv')).rows:
        reason = re.sub('^duplicate of .*;', 'duplicate of another clip;', row['reason'])
        counts[reason] += 1
        example.setdefault(reason, row['id'])
    lines = [
        f'{n:7}  {printable(reason)}, e.g. {printable(example[reason])}'
        for reason, n in counts.most_common()
    ]
    return '\n'.join(['clips in skipped.csv', *lines]) if lines else ''


def length_table(folder: str) -> str:
    """The clips that are longer or shorter than their files state, at most `EXAMPLES` of them."""
    path = os.path.join(folder, 'lengths.csv')
    rows = read_table(path, required=('id', 'stated', 'read')).rows if storage.exists(path) else []
    if not rows:
        return ''
    lines = [
        f'{"stated":>9} {"read":>9}  (s) of the clips whose length is not as their files state'
    ]
    for row in rows[:EXAMPLES]:
        name = shorten(printable(row['id']), 60)
        lines.append(f'{printable(row["stated"]):>9} {printable(row["read"]):>9}  {name}')
    more = len(rows) - EXAMPLES
    return '\n'.join([*lines, f'and {more} more in {path}'] if more > 0 else lines)


if __name__ == '__main__':
    cli.execute(main, at_once=True)
