"""A dataset folder opened for reading: who is in a split, and the mel of any clip at any time."""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, Num

from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.data.records import SIDES
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Clips, numbered in the order of the records.

    Attributes:
      folder: where it is.
      ids: one a clip.
      labels: class names.
      targets: the number of each clip's label.
      splits: {split: side of each clip}.
      front_end: how mels were made, or at least how they are stored.
      from_audio: whether `front_end` made them; otherwise audio cannot be tagged later.
      n_mels: bands.
      mel_dtype: of a stored spectrogram.
    """

    folder: str
    ids: Sequence[str]
    labels: tuple[str, ...]
    targets: Int[np.ndarray, ' clips']
    splits: dict[str, Sequence[str]]
    front_end: FrontEnd
    from_audio: bool
    n_mels: int
    mel_dtype: np.dtype
    _files: Sequence[RecordFile]
    _starts: Int[np.ndarray, ' files']

    def __len__(self) -> int:
        return len(self.ids)

    def mel(self, clip: int) -> Num[np.ndarray, 'frames mels']:
        """The stored spectrogram of a clip, its checksum verified."""
        file = int(np.searchsorted(self._starts, clip, side='right')) - 1
        try:
            data = self._files[file][clip - self._starts[file]]
        except CorruptRecordError as error:
            raise UserError(f'{error}; prepare the dataset again') from None
        id, mel = records.parse(data, self.n_mels, self.mel_dtype)
        if id != self.ids[clip]:
            raise UserError(
                f'{self.folder}/splits.csv does not match the records: row {clip + 1} is '
                f'{self.ids[clip]!r}, the record {id!r}; keep its row order'
            )
        return mel

    def stored_bytes(self, clips: Int[np.ndarray, ' some']) -> Int[np.ndarray, ' some']:
        """The size of clips' records: their spectrograms, and little more. Nothing is read."""
        return np.concatenate([np.diff(file.offsets) for file in self._files])[clips]

    def members(self, split: str, side: str) -> Int[np.ndarray, ' members']:
        """The clips on one side (train, validation, test) of a split, in order.

        Raises:
          UserError: the dataset has no such split.
        """
        if split not in self.splits:
            raise UserError(
                f'--data.split={split} is not in {self.folder}; there are {", ".join(self.splits)}'
            )
        return np.flatnonzero(np.asarray(self.splits[split]) == side)

    def held_out(self, split: str) -> str:
        """The side that the report is on: test, or validation where a protocol has no test."""
        return SIDES[2] if len(self.members(split, SIDES[2])) else SIDES[1]


def open_dataset(folder: str) -> Dataset:
    """Opens a dataset folder; reads no more than its tables and the records' headers.

    Raises:
      UserError: the folder is not there, is unfinished, or is damaged.
    """
    table_path = os.path.join(folder, 'splits.csv')
    written_last = os.path.join(folder, 'front_end.json')
    if not storage.exists(written_last) or not storage.exists(table_path):
        state = 'is not a finished dataset' if storage.is_folder(folder) else 'is not there'
        raise UserError(
            f'{folder} {state}; make it by: python -m data_prep --out={folder} --source=...'
        )
    features, paths = records.read_metadata(folder)
    if not paths:
        raise UserError(f'{folder} was not made by this version of data_prep; prepare it again')
    try:
        with ThreadPoolExecutor() as pool:  # shards that are not here take a while to come
            files = list(pool.map(RecordFile, paths))
    except (CorruptRecordError, OSError) as error:
        raise UserError(f'{error}; prepare the dataset again') from None
    rows = records.read_table(table_path)
    counts = [len(file) for file in files]
    if sum(counts) != len(rows):
        raise UserError(f'{folder} has {sum(counts)} records, but {len(rows)} rows in splits.csv')
    front_end, from_audio = records.read_front_end(folder)
    labels = tuple(features['label'].names)
    number = {label: k for k, label in enumerate(labels)}
    columns = [name for name in rows[0] if name not in ('id', 'label', 'group')]
    return Dataset(
        folder=folder,
        ids=[row['id'] for row in rows],
        labels=labels,
        targets=np.asarray([number[row['label']] for row in rows], np.int32),
        splits={name: [row[name] for row in rows] for name in columns},
        front_end=front_end,
        from_audio=from_audio,
        n_mels=features['mel'].shape[-1],
        mel_dtype=np.dtype(features['mel'].np_dtype),
        _files=files,
        _starts=np.cumsum([0, *counts[:-1]]),
    )


def band_statistics(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], at_most: int = 4096
) -> tuple[Float[np.ndarray, ' mels'], Float[np.ndarray, ' mels']]:
    """Mean and deviation of each mel band over the training clips, or evenly drawn ones of many.

    A band that hardly varies (above an mp3's low-pass, say) is given a deviation of 1.
    """
    chosen = clips[:: -(-len(clips) // at_most)]
    frames, total, squares = 0, np.zeros(dataset.n_mels), np.zeros(dataset.n_mels)
    for clip in chosen:
        mel = dataset.mel(clip).astype(np.float32)
        frames += len(mel)
        total += mel.sum(0, dtype=np.float64)
        squares += np.square(mel).sum(0, dtype=np.float64)
    mean = total / frames
    return mean, np.maximum(np.sqrt(np.maximum(squares / frames - mean**2, 0)), 1.0)
