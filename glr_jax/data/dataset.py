"""An open dataset folder: which clips each split has, and the spectrogram of any clip."""

import bisect
import dataclasses
import errno
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt8

from glr_jax import storage
from glr_jax.data import example
from glr_jax.data.example import ExampleError
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.metadata import NOTES, SEPARATOR, SUCCESSOR, read_metadata
from glr_jax.data.records import SIDES
from glr_jax.data.segments import first_frame
from glr_jax.data.split_table import read_split_table
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.errors import UserError
from glr_jax.text import counted, in_ranges


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Clips, numbered in the order of the records.

    Attributes:
      folder: where the dataset is.
      ids: one per clip.
      labels: the class names, in order.
      targets: the number of each clip's label; where a clip may have several, 1 for each label
        that it has and 0 for the others.
      splits: {split: side of each clip, '' if it is on none}.
      front_end: how spectrograms are stored and, if `from_audio`, how they were computed.
      from_audio: whether `front_end` computed them; if not, a model cannot tag audio later.
      n_mels: mel bands.
      mel_dtype: type of the stored spectrograms.
      groups: the group (artist) of each clip, '' if it has none; empty if no clip has one.
    """

    folder: str
    ids: Sequence[str]
    labels: tuple[str, ...]
    targets: Int[np.ndarray, ' clips'] | UInt8[np.ndarray, 'clips labels']
    splits: dict[str, Sequence[str]]
    front_end: FrontEnd
    from_audio: bool
    n_mels: int
    mel_dtype: np.dtype
    _files: Sequence[RecordFile]
    _starts: Sequence[int]
    # Of each record that was verified: where its spectrogram begins, and how many frames it has.
    _verified: Int[np.ndarray, 'clips 2'] = dataclasses.field(init=False)
    groups: Sequence[str] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, '_verified', np.zeros((len(self.ids), 2), np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have several labels, or none."""
        return self.targets.ndim == 2

    def labels_of(self, clip: int | np.integer) -> tuple[str, ...]:
        """The labels of a clip; exactly one unless the dataset is multi-label."""
        return tuple(self.labels[k] for k in self._numbers(clip))

    def _numbers(self, clip: int | np.integer) -> tuple[int, ...]:
        target = self.targets[clip]
        return tuple(map(int, np.flatnonzero(target))) if self.multi_label else (int(target),)

    def has_label(self) -> Bool[np.ndarray, 'clips labels']:
        """Which labels each clip has."""
        if self.multi_label:
            return self.targets.astype(bool)
        return self.targets[:, None] == np.arange(len(self.labels))

    def having(self, label: int) -> Bool[np.ndarray, ' clips']:
        """Which clips have one of the labels."""
        return self.targets[:, label] > 0 if self.multi_label else self.targets == label

    def mel(self, clip: int | np.integer) -> Num[np.ndarray, 'frames mels']:
        """The stored spectrogram of a clip.

        Its record is verified when a process first uses the clip. What happens to the file after
        that is not noticed, unless it becomes shorter.

        Raises:
          UserError: the record is damaged, or is not the clip in this row of splits.csv.
        """
        clip = int(clip)
        if not self._verified[clip, 1]:
            return self._verify(clip)
        mel = np.empty((self._verified[clip, 1], self.n_mels), self.mel_dtype)
        self._read_rows(clip, 0, mel)
        return mel

    def read_crop(
        self, clip: int | np.integer, start: float, out: Num[np.ndarray, 'frames mels']
    ) -> None:
        """Fills an array with a segment of a clip, as `segments.crop`; reads only these rows.

        Args:
          clip: its record is verified as by `mel`.
          start: where the segment begins, from 0 to 1.
          out: contiguous, of type `mel_dtype`.

        Raises:
          UserError: as `mel`.
        """
        clip, frames = int(clip), len(out)
        if not self._verified[clip, 1]:
            self._verify(clip)
        length = int(self._verified[clip, 1])
        self._read_rows(clip, int(first_frame(start, max(length, frames), frames)), out[:length])
        for end in range(length, frames, length):  # a clip that is too short is repeated
            out[end : end + length] = out[: min(length, frames - end)]

    def _read_rows(self, clip: int, first: int, out: Num[np.ndarray, 'frames mels']) -> None:
        """Fills an array with the frames of a verified clip from `first` on."""
        file, record = self._record(clip)
        begin = int(self._verified[clip, 0]) + first * self.n_mels * self.mel_dtype.itemsize
        try:
            file.read_part(record, begin, out)
        except CorruptRecordError as error:
            raise UserError(f'{error}; prepare the dataset again') from None

    def _verify(self, clip: int) -> Num[np.ndarray, 'frames mels']:
        """Reads a whole record, checks it and notes where its spectrogram is."""
        file, record = self._record(clip)
        try:
            found = example.parse(file[record], self.n_mels, self.mel_dtype)
        except CorruptRecordError as error:
            raise UserError(f'{error}; prepare the dataset again') from None
        except ExampleError as error:
            raise UserError(
                f'{file.path}: record {record} is no clip as data_prep writes it: {error}; '
                'prepare the dataset again'
            ) from None
        if found.id.strip() != self.ids[clip].strip():
            raise UserError(
                f'{self.folder}/splits.csv does not match the records: row {clip + 1} is '
                f'{self.ids[clip]!r}, but the record is {found.id!r}; keep the rows in their order'
            )
        if tuple(sorted(found.labels)) != self._numbers(clip):
            names = dict(enumerate(self.labels))
            stored = SEPARATOR.join(names.get(k, f'number {k}') for k in sorted(found.labels))
            raise UserError(
                f'{self.folder}/splits.csv does not match the records: {found.id!r} has the '
                f'{"labels" if self.multi_label else "label"} '
                f'{SEPARATOR.join(self.labels_of(clip))!r}, but in its record {stored!r}; to '
                'change labels, prepare the dataset again'
            )
        self._verified[clip, 0] = found.begin
        self._verified[clip, 1] = len(found.mel)  # last, as another thread may read it
        return found.mel

    def _record(self, clip: int) -> tuple[RecordFile, int]:
        """The file that has a clip, and the number of its record there."""
        file = bisect.bisect_right(self._starts, clip) - 1
        return self._files[file], clip - self._starts[file]

    def stored_bytes(self, clips: Int[np.ndarray, ' some']) -> Int[np.ndarray, ' some']:
        """The size of each clip's record, little more than its spectrogram; reads nothing."""
        sizes = [np.diff(file.offsets) for file in self._files]
        return (np.concatenate(sizes) if sizes else np.zeros(len(self), np.int64))[clips]

    def checksums(self) -> Int[np.ndarray, ' clips']:
        """A number per clip that changes when its record does; reads a few bytes of each."""
        found = [
            file.checksums().astype(np.int64) ^ np.diff(file.offsets) << 32 for file in self._files
        ]
        return np.concatenate(found) if found else np.zeros(len(self), np.int64)

    def members(self, split: str, side: str) -> Int[np.ndarray, ' members']:
        """The clips on one side (train, validation, test) of a split, in order.

        Raises:
          UserError: the dataset has no such split.
        """
        if split not in self.splits:
            raise UserError(
                f'--data.split={split} is not in {self.folder}/splits.csv; choose one of '
                f'{in_ranges(self.splits)}'
            )
        return np.flatnonzero(np.asarray(self.splits[split]) == side)

    def held_out(self, split: str) -> str:
        """The side to report scores on: test, or validation if the split has no test clips."""
        return SIDES[2] if len(self.members(split, SIDES[2])) else SIDES[1]


def open_dataset(folder: str) -> Dataset:
    """Opens a dataset folder; reads only its tables and the records' headers.

    Raises:
      UserError: the folder was not found, is unfinished, or is damaged.
    """
    table_path = os.path.join(folder, 'splits.csv')
    written_last = os.path.join(folder, 'front_end.json')
    if not storage.exists(written_last) or not storage.exists(table_path):
        if not storage.is_folder(folder):
            raise UserError(f'{folder} was not found; python -m data_prep makes datasets')
        begun = (os.path.join(folder, name) for name in (NOTES, SUCCESSOR))
        if any(map(storage.is_folder, begun)):
            raise UserError(
                f'{folder} is not a finished dataset; run its data_prep command again to finish it'
            )
        raise UserError(
            f'{folder} is not a finished dataset; if it holds audio, prepare it: '
            f'python -m data_prep --source=folder --input={folder} --out=data/NAME'
        )
    metadata = read_metadata(folder)
    files = _open_shards(metadata.shards)
    counts = [len(file) for file in files]
    for path, count, stated in zip(metadata.shards, counts, metadata.shard_lengths, strict=True):
        if count != stated:
            raise UserError(
                f'{path} has {counted(count, "record")}, but dataset_info.json says {stated}; '
                'prepare the dataset again'
            )
    table = read_split_table(table_path, metadata.labels, metadata.multi_label)
    if sum(counts) != len(table.ids):
        raise UserError(
            f'{folder} has {counted(sum(counts), "record")}, but '
            f'{counted(len(table.ids), "row")} in splits.csv; '
            'prepare the dataset again'
        )
    return Dataset(
        folder=folder,
        ids=table.ids,
        labels=metadata.labels,
        targets=table.targets,
        splits=table.splits,
        front_end=metadata.front_end,
        from_audio=metadata.from_audio,
        n_mels=metadata.n_mels,
        mel_dtype=metadata.mel_dtype,
        _files=files,
        _starts=[0, *itertools.accumulate(counts[:-1])],
        groups=table.groups if any(table.groups) else (),
    )


def _open_shards(paths: Sequence[str]) -> list[RecordFile]:
    try:
        with ThreadPoolExecutor() as pool:  # remote shards take a while to fetch
            return list(pool.map(RecordFile, paths))
    except CorruptRecordError as error:
        raise UserError(f'{error}; prepare the dataset again') from None
    except FileNotFoundError as error:
        raise UserError(f'{error.filename} was not found; prepare the dataset again') from None
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise UserError(
                f'{os.path.dirname(paths[0])} has {len(paths)} shards, more files than a process '
                'may open here; raise the limit with: ulimit -n 65536'
            ) from None
        raise


def band_statistics(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], at_most: int = 4096
) -> tuple[Float[np.ndarray, ' mels'], Float[np.ndarray, ' mels']]:
    """Mean and standard deviation of each mel band over clips.

    A band that hardly varies (above the low-pass filter of an mp3, say) has a deviation of 1.

    Args:
      dataset: where the clips are.
      clips: the training clips.
      at_most: if there are more clips than this, use an evenly spaced selection.
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
