"""Data that a run was not trained on, with the run's labels: a dataset, or a folder of audio."""

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Num
from tqdm import tqdm

from glr_jax import storage
from glr_jax.data.dataset import Dataset
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.records import SIDES
from glr_jax.errors import UserError
from glr_jax.workers import FEW, usable_cores

ALL = 'all'  # the split whose test clips are all clips that have a label of the run


@dataclasses.dataclass(frozen=True)
class OtherData(Dataset):
    """Clips with the labels of a run; a clip whose label the run does not have is on no side.

    Where clips may have several labels, those that the run does not have are ignored.

    Attributes:
      unknown: {label that the run does not have: number of clips}.
      skipped: {file that cannot be read: why}.
      absent: labels of the run that the data does not have, where clips may have several: nobody
        said which clips have them.
    """

    unknown: dict[str, int]
    skipped: dict[str, str]
    absent: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    _mel: Callable[[int], Num[np.ndarray, 'frames mels']]

    def mel(self, clip: int | np.integer) -> Num[np.ndarray, 'frames mels']:
        """As `Dataset.mel`."""
        return self._mel(int(clip))

    def members(self, split: str, side: str) -> Int[np.ndarray, ' members']:
        """As `Dataset.members`; a folder of audio has no splits to choose from."""
        if split != ALL and list(self.splits) == [ALL]:
            raise UserError(
                f'--data.split={split}: {self.folder} has no splits, so all its clips are scored; '
                'leave out --data.split'
            )
        return super().members(split, side)

    def present(self) -> Int[np.ndarray, ' some']:
        """The labels of the run that the data has, by number."""
        return np.asarray([k for k, label in enumerate(self.labels) if label not in self.absent])

    def without_absent(self) -> 'OtherData':
        """The same clips with only the labels that the data has."""
        present = self.present()
        labels = tuple(self.labels[k] for k in present)
        return dataclasses.replace(self, labels=labels, targets=self.targets[:, present], absent=())


def with_labels(dataset: Dataset, labels: tuple[str, ...]) -> OtherData:
    """A dataset with the labels of a run, matched by name, and a split of all its clips.

    Raises:
      UserError: no clip has one of the labels.
    """
    fields = [field.name for field in dataclasses.fields(Dataset) if field.init]
    values = {name: getattr(dataset, name) for name in fields}
    if dataset.multi_label:
        return _with_several_labels(values, labels, dataset.mel)
    names = [dataset.labels[target] for target in dataset.targets]
    return _with_labels(values, names, labels, dataset.mel, {})


def read_folder(folder: str, labels: tuple[str, ...], front_end: FrontEnd) -> OtherData:
    """A folder of audio with one sub-folder per label, read into memory on all cores.

    Args:
      folder: where the audio is.
      labels: of the run; sub-folders are matched to them by name, in upper or lower case.
      front_end: of the run.

    Raises:
      UserError: no audio can be read, or none of it has one of the labels.
    """
    # Slow to import, and only for audio; prepared datasets are read without them.
    from glr_jax.data.decode_pool import Failure, decoders
    from glr_jax.data.files import audio_files

    files = [(path, _id(path, folder)) for path in audio_files(folder)]
    files = [(path, id) for path, id in files if '/' in id]
    if not files:
        raise UserError(
            f'{folder} is no dataset and has no audio in sub-folders; it needs one sub-folder per '
            'label'
        )
    names = {label.casefold(): label for label in labels}
    ids, clip_labels, mels, skipped = [], [], [], {}
    bar = tqdm(files, 'decoding', unit='clip', leave=False, disable=not sys.stderr.isatty())
    with decoders(usable_cores() if len(files) > FEW else 1) as decode:
        results = decode([path for path, _ in files], front_end)
        for (path, id), result in zip(bar, results, strict=True):
            if isinstance(result, Failure):
                skipped[path] = result.reason
                continue
            label = id.split('/')[0]
            ids.append(id)
            clip_labels.append(names.get(label.casefold(), label))
            mels.append(result.mel)
    if not ids:
        raise UserError(f'{folder}: none of its {len(files)} audio files can be read')
    values = {
        'folder': folder,
        'ids': ids,
        'splits': {},
        'front_end': front_end,
        'from_audio': True,
        'n_mels': front_end.n_mels,
        'mel_dtype': np.dtype(front_end.mel_dtype),
        '_files': [],
        '_starts': [0],
    }
    return _with_labels(values, clip_labels, labels, mels.__getitem__, skipped)


def _id(path: str, folder: str) -> str:
    path = path[len(folder) :] if storage.is_remote(path) else os.path.relpath(path, folder)
    return path.replace(os.sep, '/').lstrip('/')


def _with_labels(
    values: dict[str, Any],
    names: Sequence[str],
    labels: tuple[str, ...],
    mel: Callable,
    skipped: dict[str, str],
) -> OtherData:
    numbers = {label: k for k, label in enumerate(labels)}
    unknown = Counter(name for name in names if name not in numbers)
    if unknown.total() == len(names):
        raise UserError(
            f'no clip in {values["folder"]} has a label that the run knows: it has '
            f'{_some(unknown)}, the run {_some(labels)}'
        )
    targets = np.asarray([numbers.get(name, 0) for name in names], np.int32)
    sides = [SIDES[2] if name in numbers else '' for name in names]
    splits = {
        split: [side if name in numbers else '' for side, name in zip(column, names, strict=True)]
        for split, column in values['splits'].items()
    }
    changed = {'labels': labels, 'targets': targets, 'splits': splits | {ALL: sides}}
    return OtherData(**values | changed, unknown=dict(unknown), skipped=skipped, _mel=mel)


def _with_several_labels(
    values: dict[str, Any], labels: tuple[str, ...], mel: Callable
) -> OtherData:
    own, clips = values['labels'], values['targets']
    numbers = {label: k for k, label in enumerate(own)}
    absent = tuple(label for label in labels if label not in numbers)
    if len(absent) == len(labels):
        raise UserError(
            f'{values["folder"]} has none of the labels that the run knows: it has {_some(own)}, '
            f'the run {_some(labels)}'
        )
    targets = np.zeros((len(clips), len(labels)), np.uint8)
    for k, label in enumerate(labels):
        if label in numbers:
            targets[:, k] = clips[:, numbers[label]]
    counts = zip(own, clips.sum(0, dtype=int).tolist(), strict=True)
    unknown = {label: count for label, count in counts if label not in labels}
    splits = values['splits'] | {ALL: [SIDES[2]] * len(clips)}
    changed = {'labels': labels, 'targets': targets, 'splits': splits}
    return OtherData(**values | changed, unknown=unknown, skipped={}, absent=absent, _mel=mel)


def _some(labels: Sequence[str] | Counter, at_most: int = 8) -> str:
    shown = list(labels)[:at_most]
    return ', '.join(shown) + (
        f' and {len(labels) - at_most} more' if len(labels) > at_most else ''
    )
