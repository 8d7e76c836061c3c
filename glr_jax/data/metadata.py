"""Reads the metadata of a dataset folder: plain JSON and text, compared with what data_prep writes.

TFDS is not asked to open the folder: `features.json` names Python classes, which TFDS imports, so
a folder from a stranger could run any code.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from glr_jax import json_files
from glr_jax.data.front_end import FrontEnd
from glr_jax.errors import UserError
from glr_jax.fields import from_dict
from glr_jax.text import printable, shorten

NAME, VERSION = 'music', '1.0.0'
# Folders in a dataset folder: of what an unfinished preparation has done, and of the dataset that
# will replace a finished one.
NOTES, SUCCESSOR = '.unfinished', '.next'
SOURCES = 'sources.csv'  # with a checksum of each spectrogram and of what it was computed from
SEPARATOR = '|'  # between the labels of a clip that has several
TFDS_SPLIT = 'clips'  # not 'all', which TFDS takes to mean every split at once
# No folder that data_prep writes has more; they bound what opening a folder can allocate.
MAX_LABELS, MAX_BANDS, MAX_SHARDS = 10_000, 2**16, 99_999
MAX_LABEL = 200  # characters; a longer one is a whole cell or text, not a name
_REMEDY = 'prepare the dataset again'
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


class Metadata(NamedTuple):
    """What the metadata of a dataset folder says.

    Attributes:
      labels: the class names, in order.
      n_mels: mel bands of every spectrogram.
      mel_dtype: type of the stored spectrograms.
      shards: paths of the TFRecord files.
      shard_lengths: records per shard.
      front_end: how spectrograms are stored and, if `from_audio`, how they were computed.
      from_audio: whether `front_end` computed them.
      multi_label: whether a clip may have several labels.
    """

    labels: tuple[str, ...]
    n_mels: int
    mel_dtype: np.dtype
    shards: list[str]
    shard_lengths: list[int]
    front_end: FrontEnd
    from_audio: bool
    multi_label: bool


def read_metadata(folder: str) -> Metadata:
    """Reads and checks the metadata of a dataset folder; imports and runs nothing that it names.

    Raises:
      UserError: a file is missing or damaged, or another program wrote it.
    """
    lengths = _read_shard_lengths(os.path.join(folder, 'dataset_info.json'))
    path = os.path.join(folder, 'features.json')
    num_labels, n_mels, mel_dtype, multi_label = _read_features(path)
    labels = _read_labels(os.path.join(folder, labels_file(multi_label)), num_labels)
    path = os.path.join(folder, 'front_end.json')
    front_end, from_audio = _read_front_end(path, n_mels, mel_dtype)
    shards = [shard_path(folder, k, len(lengths)) for k in range(len(lengths))]
    return Metadata(
        labels,
        n_mels,
        np.dtype(mel_dtype),
        shards,
        lengths,
        front_end,
        from_audio,
        multi_label,
    )


def labels_file(multi_label: bool) -> str:
    """The file with the names of the labels, as TFDS calls it."""
    return f'{"labels" if multi_label else "label"}.labels.txt'


def shard_path(folder: str, shard: int, num_shards: int) -> str:
    """The path of a shard, as TFDS names it: `music-clips.tfrecord-00000-of-00008`."""
    name = f'{NAME}-{TFDS_SPLIT}.tfrecord-{shard:05}-of-{num_shards:05}'
    return os.path.join(folder, name)


def check_labels(labels: Sequence[str], multi_label: bool = False) -> None:
    """Raises `UserError` if labels could not be stored: one per line, and `|` between several."""
    if len(labels) > MAX_LABELS:
        raise UserError(f'there are {len(labels)} labels; at most {MAX_LABELS} are possible')
    seen: dict[str, str] = {}
    for label in labels:
        shown = shorten(printable(label), 60)
        if '\n' in label or '\r' in label or not label.strip():
            raise UserError(f"label '{shown}' is empty or has a line break; rename it")
        if multi_label and SEPARATOR in label:
            raise UserError(
                f"label '{shown}' has a {SEPARATOR}, which separates the labels of a clip; "
                f"rename it, or give --label_separator='{SEPARATOR}'"
            )
        try:
            label.encode()
        except UnicodeEncodeError:
            raise UserError(f"label '{shown}' is not UTF-8; rename it") from None
        if label.strip() in seen:
            raise UserError(
                f'two labels differ only by spaces: {seen[label.strip()]!r} and {label!r}; '
                'rename one'
            )
        seen[label.strip()] = label


def seal(front_end: dict[str, Any], n_mels: int, mel_dtype: str) -> dict[str, Any]:
    """The content of `front_end.json` with a checksum, also of what `features.json` says."""
    return json_files.sealed(front_end, n_mels, mel_dtype)


def _read_object(path: str) -> dict[str, Any]:
    try:
        return json_files.read_object(path, _REMEDY)
    except FileNotFoundError:
        raise UserError(f'{path} was not found; {_REMEDY}') from None


def _read_shard_lengths(path: str) -> list[int]:
    values = _read_object(path)
    try:
        (split,) = values['splits']
        texts = split['shardLengths']
        lengths = [int(text) for text in texts]
        known = {'name': NAME, 'version': VERSION, 'fileFormat': 'tfrecord'}
        ours = (
            all(values[name] == value for name, value in known.items())
            and (split['name'], split['filepathTemplate']) == (TFDS_SPLIT, _TEMPLATE)
            and [str(length) for length in lengths] == [str(text) for text in texts]
        )
    except (KeyError, TypeError, ValueError):
        ours, lengths = False, []
    if not ours or not 0 < len(lengths) <= MAX_SHARDS or min(lengths) < 0:
        raise UserError(
            f'{path} is damaged, or was written by another version of data_prep; {_REMEDY}'
        )
    return lengths


def _read_features(path: str) -> tuple[int, int, str, bool]:
    """The number of labels, of mel bands, the type of the spectrograms, and `multi_label`."""
    values = _read_object(path)
    try:
        features = values['featuresDict']['features']
        tensor = features['mel']['tensor']
        multi_label = 'labels' in features
        label = features['labels']['sequence']['feature'] if multi_label else features['label']
        num_labels = int(label['classLabel']['numClasses'])
        n_mels, mel_dtype = int(tensor['shape']['dimensions'][1]), tensor['dtype']
        ours = values == features_json(num_labels, n_mels, mel_dtype, multi_label)
    except (KeyError, TypeError, ValueError, IndexError):
        ours, num_labels, n_mels, mel_dtype, multi_label = False, 0, 0, '', False
    if not ours or mel_dtype not in ('uint8', 'float32'):
        raise UserError(f'{path} is not as data_prep writes it; {_REMEDY}')
    if not 0 < num_labels <= MAX_LABELS or not 0 < n_mels <= MAX_BANDS:
        raise UserError(
            f'{path} has {num_labels} labels and {n_mels} mel bands; at most {MAX_LABELS} labels '
            f'and {MAX_BANDS} mel bands are possible'
        )
    return num_labels, n_mels, mel_dtype, multi_label


def features_json(
    num_labels: int, n_mels: int, mel_dtype: str, multi_label: bool = False
) -> dict[str, Any]:
    """The content of `features.json` as TFDS writes it for data_prep."""
    of = 'tensorflow_datasets.core.features.'
    text = {'pythonClassName': f'{of}text_feature.Text', 'text': {}}
    label = {
        'classLabel': {'numClasses': str(num_labels)},
        'pythonClassName': f'{of}class_label_feature.ClassLabel',
    }
    name = 'label'
    if multi_label:
        name, label = (
            'labels',
            {
                'pythonClassName': f'{of}sequence_feature.Sequence',
                'sequence': {'feature': label, 'length': '-1'},
            },
        )
    shape = {'dimensions': ['-1', str(n_mels)]}
    mel = {
        'pythonClassName': f'{of}tensor_feature.Tensor',
        'tensor': {'dtype': mel_dtype, 'encoding': 'bytes', 'shape': shape},
    }
    return {
        'featuresDict': {'features': {'group': text, 'id': text, name: label, 'mel': mel}},
        'pythonClassName': f'{of}features_dict.FeaturesDict',
    }


def _read_labels(path: str, count: int) -> tuple[str, ...]:
    try:
        lines = json_files.read_bytes(path).decode('utf-8').split('\n')
    except FileNotFoundError:
        raise UserError(f'{path} was not found; {_REMEDY}') from None
    except UnicodeDecodeError:
        raise UserError(f'{path} is damaged: it is not UTF-8; {_REMEDY}') from None
    labels = tuple(line.strip() for line in lines if line.strip())  # as TFDS reads them
    if len(labels) != count:
        raise UserError(
            f'{path} has {len(labels)} labels, but features.json says {count}; {_REMEDY}'
        )
    for place, label in enumerate(labels):
        if label in labels[:place]:
            raise UserError(f"{path} has the label '{printable(label)}' twice; {_REMEDY}")
    return labels


def _read_front_end(path: str, n_mels: int, mel_dtype: str) -> tuple[FrontEnd, bool]:
    values = _read_object(path)
    try:
        front_end = from_dict(FrontEnd, values)
    except (UserError, TypeError) as error:
        raise UserError(f'{path} is damaged: {printable(str(error))}; {_REMEDY}') from None
    from_audio = values.get('from_audio')
    if not isinstance(from_audio, bool):
        raise UserError(f'{path} is damaged: from_audio must be true or false; {_REMEDY}')
    same = front_end.mel_dtype == mel_dtype and (not from_audio or front_end.n_mels == n_mels)
    if not same or not json_files.is_intact(values, n_mels, mel_dtype):
        raise UserError(f'{path} or features.json was changed after data_prep wrote it; {_REMEDY}')
    return front_end, from_audio
