"""What was tested on what, in plain words."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.other_data import ALL
from glr_jax.data.records import SIDES
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import Cell, name, plain, table
from glr_jax.storage import same_folder
from glr_jax.text import counted

MOST_NAMED = 10  # files or labels
_RANDOM, _GROUP = re.compile(r'random-\d+'), re.compile(r'group-\d+')
_KNOWN = {
    'official': 'This split is defined by the source of the data.',
    'fault_filtered': 'GTZAN without faulty and duplicate clips, and with no artist on two sides '
    '(Kereliuk, Sturm and Larsen, 2015).',
    ALL: 'Every clip of data that the network was not trained on.',
}


def section(scores: dict[str, Any], config: Config, evidence: Evidence | None) -> str:
    """The split, what it means, its sides, and what makes the scores optimistic.

    Args:
      scores: as in `metrics.json`.
      config: of the run; of a folder of runs, that of the first.
      evidence: the clips that were scored; None if they are not at hand.
    """
    split = scores['split']
    several = bool(scores.get('multi_label'))
    parts = [f'<p>{_meaning(split, several)}</p>']
    if evidence is not None and split in evidence.dataset.splits:
        dataset = evidence.dataset
        parts += [_groups(dataset, split), _sides(dataset, split)]
    if several:
        parts.append(f'<p>{_labels_per_clip(scores, evidence)}</p>')
    if untrained := list(scores.get('untrained_labels', [])):
        parts.append(f'<p>{_untrained(untrained)}</p>')
    own = split == config.data.split and same_folder(scores['dataset'], config.data.dir)
    if not own and config.data.dir:
        parts.append(
            f'<p>The network was trained on split {name(config.data.split)} of '
            f'<code>{plain(config.data.dir)}</code>.</p>'
        )
    crops = counted(scores.get('test_crops', config.data.test_crops), 'time')
    covered = '' if crops == '1 time' else f', {crops} as many as cover the clip'
    decides = 'the mean of their probabilities decides.'
    if several:
        decides = (
            'a label is decided if the mean of their probabilities reaches its threshold. Each '
            'label has the threshold with the highest F1 on the validation clips; 0.5 if none of '
            'them has the label.'
        )
    parts.append(
        f'<p>Each clip is cut into segments of {config.data.frames} frames{covered}; {decides} '
        'Each clip counts once. The checkpoint with the lowest validation loss was scored.</p>'
    )
    return ''.join(parts)


def warnings(scores: dict[str, Any]) -> list[str]:
    """Why the scores may not be what they seem, each as HTML."""
    found = []
    if not scores.get('finished', True):
        found.append('The run is not finished: these are the scores of its best checkpoint so far.')
    if scores['side'] != 'test':
        found.append(
            'This split has no test clips. These are validation clips, which also chose the '
            'checkpoint, so the scores are optimistic.'
        )
    if scores.get('trained_on'):
        found.append(
            f'{scores["trained_on"]:,} of these {scores["num_clips"]:,} clips were trained on: the '
            f'scores are optimistic.{_by_name(scores)}'
        )
    if scores.get('changed_data'):
        changes = plain('; '.join(scores['changed_data']))
        found.append(f'The data changed since the training began: {changes}.')
    for label, count in dict(scores.get('unknown_labels', {})).items():
        what = '; only the label is left out' if scores.get('multi_label') else ', left out'
        found.append(
            f'{counted(count, "clip")} with the label {name(label)}, which the network does not '
            f'know{what}.'
        )
    if absent := list(scores.get('absent_labels', [])):
        found.append(
            f'{counted(len(absent), "label")} of the network not in this data, so not scored: '
            f'{_names(absent)}.'
        )
    if unreadable := dict(scores.get('unreadable', {})):
        found.append(_unreadable(unreadable))
    return found


def _by_name(scores: dict[str, Any]) -> str:
    """Of how many clips only the name says that they were trained on."""
    count = scores.get('known_by_name', 0)
    if not count:
        return ''
    have = 'has' if count == 1 else 'have'
    return (
        f' {count:,} of them {have} the name of a training clip; the spectrograms could not be '
        'compared.'
    )


def _untrained(labels: Sequence[str]) -> str:
    """The labels that could not be learned."""
    has, is_ = ('has', 'is') if len(labels) == 1 else ('have', 'are')
    return (
        f'{counted(len(labels), "label")} {has} no training clips, so {is_} not in the macro '
        f'scores: {_names(labels)}.'
    )


def _names(labels: Sequence[str]) -> str:
    """The first labels, and how many more there are."""
    more = f' and {len(labels) - MOST_NAMED} more' if len(labels) > MOST_NAMED else ''
    return ', '.join(map(name, labels[:MOST_NAMED])) + more


def _unreadable(reasons: dict[str, str]) -> str:
    """The files that could not be read, each with the reason."""
    shown = list(reasons.items())[:MOST_NAMED]
    rows = ''.join(f'<br>{name(path)}: {plain(str(reason))}' for path, reason in shown)
    left = len(reasons) - len(shown)
    more = f' The first {len(shown)} (metrics.json has all):' if left else ''
    count = counted(len(reasons), 'file')
    return f'{count} could not be read and scored.{more}{rows}'


def _labels_per_clip(scores: dict[str, Any], evidence: Evidence | None) -> str:
    """How many labels the scored clips have."""
    mean = f'A clip may have several labels; these have {scores["labels_per_clip"]:.2f} on average'
    if evidence is None:
        return f'{mean}.'
    counts = evidence.has_label.sum(1)
    without = int((counts == 0).sum())
    none = (
        f', and {without:,} of {len(counts):,} have none'
        if without
        else ', and each has at least one'
    )
    return f'{mean} and at most {counts.max()}{none}.'


def _meaning(split: str, several: bool) -> str:
    if _RANDOM.fullmatch(split) and several:
        return (
            f'Split <strong>{split}</strong>: clips were assigned at random, 8:1:1, so that each '
            'label is spread in this proportion (iterative stratification, '
            '<a href="https://doi.org/10.1007/978-3-642-23808-6_10">Sechidis et al. 2011</a>). An '
            'artist or album may have clips both in training and in test, which makes the task '
            'easier than music by unheard artists.'
        )
    if _RANDOM.fullmatch(split):
        return (
            f'Split <strong>{split}</strong>: clips were assigned at random, 8:1:1 within each '
            'label. An artist or album may have clips both in training and in test, which makes '
            'the task easier than music by unheard artists.'
        )
    if _GROUP.fullmatch(split):
        return (
            f'Split <strong>{split}</strong>: groups (artists) were assigned at random, 8:1:1. All '
            'clips of a group are on one side, so the test clips are by artists that the network '
            'has not heard.'
        )
    return f'Split <strong>{name(split)}</strong>. ' + _KNOWN.get(
        split, 'A column of splits.csv says which clips are on which side.'
    )


def _groups(dataset: Dataset, split: str) -> str:
    """How many groups are on two sides."""
    if split == ALL:
        return ''
    if not dataset.groups:
        return (
            '<p>The dataset names no groups (artists), so it is not known whether one is on two '
            'sides.</p>'
        )
    sides_of = defaultdict(set)
    for group, side in zip(dataset.groups, dataset.splits[split], strict=True):
        if group and side:
            sides_of[group].add(side)
    held_out = dataset.held_out(split)
    several = sum(len(sides) > 1 for sides in sides_of.values())
    tested = [sides for sides in sides_of.values() if held_out in sides]
    heard = sum('train' in sides for sides in tested)
    if not several:
        return f'<p>None of the {len(sides_of):,} groups (artists) has clips on two sides.</p>'
    return (
        f'<p><strong>{several:,} of {len(sides_of):,} groups</strong> (artists) have clips on two '
        f'sides or more; {heard:,} of the {len(tested):,} in {held_out} are in training too.</p>'
    )


def _sides(dataset: Dataset, split: str) -> str:
    sides: Sequence[str] = dataset.splits[split]
    rows = []
    for side in (*SIDES, ''):
        clips = [k for k, its in enumerate(sides) if its == side]
        if not clips and (side == '' or split == ALL):
            continue
        has = dataset.has_label()[clips]
        labels = int(has.any(0).sum())
        cells = [
            Cell(side or 'none (left out)'),
            Cell(f'{len(clips):,}', len(clips)),
            Cell(f'{labels}', labels),
        ]
        if dataset.multi_label:
            without = int((~has.any(1)).sum())
            mean = float(has.sum(1).mean()) if len(has) else 0.0
            cells += [Cell(f'{mean:.2f}', mean), Cell(f'{without:,}', without)]
        if dataset.groups:
            groups = len({dataset.groups[k] for k in clips} - {''})
            cells.append(Cell(f'{groups:,}', groups))
        rows.append(cells)
    several = ['labels per clip', 'clips without labels'] * dataset.multi_label
    grouped = ['groups'] * bool(dataset.groups)
    return table(['side', 'clips', 'labels', *several, *grouped], rows, sortable=False)
