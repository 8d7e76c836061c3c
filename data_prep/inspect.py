"""Looks a dataset folder over: `python -m data_prep.inspect data/mine`."""

import dataclasses
import os
import re
from collections import Counter, defaultdict

import numpy as np
from matplotlib.figure import Figure

from glr_jax import cli, storage
from glr_jax.cli import status
from glr_jax.data import records
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import decode
from glr_jax.data.records import SIDES
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option

USAGE = """
usage: python -m data_prep.inspect FOLDER [--page=FILE.png]

Reads every record of a dataset and checks its sums; prints clips and lengths of each label, the
sides of each protocol, groups that lie on more than one side, and why clips were skipped.
"""
PICTURES = 4  # of each label


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What the command line says."""

    page: str = option('', f'a picture to write: {PICTURES} spectrograms of each label')


def main(argv: list[str]) -> None:
    """Runs the command line."""
    inspection, folders = cli.parse_with_arguments(Inspection, argv, USAGE)
    if len(folders) != 1:
        raise UsageError('one dataset FOLDER is needed')
    (folder,) = folders
    if not storage.exists(os.path.join(folder, 'front_end.json')):
        open_dataset(folder)  # says what is missing
    faults = find_faults(folder)
    if faults:
        print('\n'.join(faults))
        raise UserError(f'{folder} has {len(faults)} fault(s); prepare it again')
    dataset = open_dataset(folder)
    lengths = np.asarray([len(dataset.mel(clip)) for clip in range(len(dataset))])
    sections = [labels(dataset, lengths), protocols(dataset), skipped(folder)]
    print('\n\n'.join([*filter(None, sections), f'all {len(dataset)} records are sound']))
    if inspection.page:
        draw(dataset, inspection.page)
        status(f'written: {inspection.page}')


def find_faults(folder: str) -> list[str]:
    """Every damaged record, by file and offset; of a damaged header, the first in its file."""
    faults = []
    for path in records.read_metadata(folder)[1]:
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


def labels(dataset: Dataset, lengths: np.ndarray) -> str:
    """Clips of each label, and how long they are."""
    seconds = lengths.astype(float)
    unit = 'frames'
    if dataset.from_audio:
        unit, seconds = 's', seconds * dataset.front_end.hop_length / dataset.front_end.sample_rate
    lines = [f'{"label":24} {"clips":>7} {"shortest":>9} {"median":>9} {"longest":>9}  ({unit})']
    each = [(label, dataset.targets == k) for k, label in enumerate(dataset.labels)]
    for label, chosen in [*each, ('all', np.full(len(dataset), True))]:
        its = seconds[chosen]
        lines.append(
            f'{label:24} {len(its):7} {its.min():9.1f} {np.median(its):9.1f} {its.max():9.1f}'
        )
    return '\n'.join(lines)


def protocols(dataset: Dataset) -> str:
    """How many clips are on each side of each protocol, and how many groups on more than one."""
    rows = records.read_table(os.path.join(dataset.folder, 'splits.csv'))
    groups = [row['group'] for row in rows]
    header = ''.join(f'{side:>11}' for side in (*SIDES, 'none'))
    lines = [f'{"protocol":24}{header}   groups on two sides']
    for name, sides in dataset.splits.items():
        counts = Counter(sides)
        where = defaultdict(set)
        for group, side in zip(groups, sides, strict=True):
            if group and side:
                where[group].add(side)
        split = sum(len(sides) > 1 for sides in where.values())
        cells = ''.join(f'{counts[side]:11}' for side in (*SIDES, ''))
        lines.append(f'{name:24}{cells}   {f"{split} of {len(where)}" if where else "no groups"}')
    return '\n'.join(lines)


def skipped(folder: str) -> str:
    """The reasons of `skipped.csv`, the most frequent first, each with one of its clips."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in records.read_table(os.path.join(folder, 'skipped.csv')):
        reason = re.sub('content of .*;', 'content of another;', row['reason'])
        counts[reason] += 1
        first.setdefault(reason, row['id'])
    lines = [f'{count:7}  {reason}, as {first[reason]}' for reason, count in counts.most_common()]
    return '\n'.join(['in skipped.csv', *lines]) if lines else ''


def draw(dataset: Dataset, path: str) -> None:
    """A picture of some clips of each label, low frequencies at the bottom."""
    names = dataset.labels
    figure = Figure(figsize=(2.6 * PICTURES, 1.5 * len(names)), layout='constrained')
    axes = figure.subplots(len(names), PICTURES, squeeze=False)
    for number, (label, row) in enumerate(zip(names, axes, strict=True)):
        clips = np.flatnonzero(dataset.targets == number)
        chosen = clips[np.linspace(0, len(clips) - 1, PICTURES).astype(int)]
        for clip, ax in zip(chosen, row, strict=True):
            decibels = decode(dataset.mel(clip), dataset.front_end)
            ax.imshow(decibels.T, origin='lower', aspect='auto', cmap='magma', interpolation='none')
            ax.set_title(dataset.ids[clip], fontsize=7, pad=2)
            ax.set_xticks([])
            ax.set_yticks([])
        row[0].set_ylabel(label)
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    cli.execute(main)
