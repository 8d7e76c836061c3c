"""The files of a dataset folder: TFRecords with TFDS metadata, tables, `front_end.json`.

Clips are stored once and whole, in a single TFDS split. `splits.csv` has a row per record, in the
same order, and a column per split; a cell says whether the clip is in train, validation or test.
`skipped.csv` names the clips that were left out.
"""

import csv
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Num
from tensorflow_datasets.proto import tf_example_pb2

from glr_jax import storage
from glr_jax.data.mel import FrontEnd
from glr_jax.fields import from_dict, to_dict

SIDES = ('train', 'validation', 'test')
TFDS_SPLIT = 'clips'  # not 'all', which TFDS takes to mean every split at once
NAME, VERSION = 'music', '1.0.0'
_TFDS_FILES = ('label.labels.txt', 'features.json', 'dataset_info.json')


@functools.cache
def features(labels: tuple[str, ...], n_mels: int, mel_dtype: str) -> tfds.features.FeaturesDict:
    """The TFDS features of an example.

    `mel` is stored as raw bytes, since varints take 14 times as long to decode.
    """
    return tfds.features.FeaturesDict(
        {
            'id': tfds.features.Text(),
            'label': tfds.features.ClassLabel(names=list(labels)),
            'group': tfds.features.Text(),
            'mel': tfds.features.Tensor(
                shape=(None, n_mels), dtype=np.dtype(mel_dtype), encoding='bytes'
            ),
        }
    )


def serialize(features: tfds.features.FeaturesDict, example: dict[str, Any]) -> bytes:
    """An example as bytes, equal in every process although protobuf maps have no fixed order."""
    proto = tf_example_pb2.Example.FromString(features.serialize_example(example))
    return proto.SerializeToString(deterministic=True)


def parse(
    data: bytes, n_mels: int, mel_dtype: np.dtype
) -> tuple[str, Num[np.ndarray, 'frames mels']]:
    """The id and the spectrogram of an example, in a quarter of the time that TFDS needs."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    mel = np.frombuffer(feature['mel'].bytes_list.value[0], mel_dtype)
    return feature['id'].bytes_list.value[0].decode(), mel.reshape(-1, n_mels)


def shard_path(folder: str, shard: int, num_shards: int) -> str:
    """The path of a shard."""
    name = _template('.').sharded_filepath(shard_index=shard, num_shards=num_shards).name
    return os.path.join(folder, name)


def _template(folder: str) -> tfds.core.ShardedFileTemplate:
    """Names shards as `music-clips.tfrecord-00000-of-00008`."""
    return tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, split=TFDS_SPLIT, filetype_suffix='tfrecord'
    )


def write_metadata(
    folder: str,
    *,
    labels: Sequence[str],
    n_mels: int,
    front_end: FrontEnd,
    from_audio: bool,
    shard_lengths: Sequence[int],
    num_bytes: int,
) -> None:
    """Writes `front_end.json` and the metadata with which `tfds.builder_from_directory` opens it.

    Args:
      folder: where the shards are.
      labels: the class names, in order.
      n_mels: mel bands of every spectrogram.
      front_end: how the spectrograms are stored and, if `from_audio`, how they were computed.
      from_audio: whether `front_end` computed the spectrograms; False if they came ready-made.
      shard_lengths: records per shard.
      num_bytes: size of all examples.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with open(shard_path(scratch, 0, len(shard_lengths)), 'wb'):
            pass  # TFDS requires a shard to exist
        split = tfds.core.SplitInfo(
            name=TFDS_SPLIT,
            shard_lengths=list(shard_lengths),
            num_bytes=num_bytes,
            filename_template=_template(scratch),
        )
        tfds.folder_dataset.write_metadata(
            data_dir=scratch,
            features=features(tuple(labels), n_mels, front_end.mel_dtype),
            split_infos=[split],
            version=VERSION,
            check_data=False,
            description='Log-mel spectrograms of music clips.',
        )
        for name in _TFDS_FILES:
            with storage.to_write(os.path.join(folder, name)) as local:
                shutil.copyfile(os.path.join(scratch, name), local)
    with (
        storage.to_write(os.path.join(folder, 'front_end.json')) as local,
        open(local, 'w') as file,
    ):
        json.dump({'from_audio': from_audio} | to_dict(front_end), file, indent=2)
        file.write('\n')


def read_metadata(folder: str) -> tuple[tfds.features.FeaturesDict, list[str]]:
    """The features and the paths of the shards; no paths if another program wrote the metadata."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in _TFDS_FILES:
            with storage.to_read(os.path.join(folder, name)) as local:
                shutil.copyfile(local, os.path.join(scratch, name))
        info = tfds.builder_from_directory(scratch).info
    count = len(info.splits[TFDS_SPLIT].shard_lengths) if TFDS_SPLIT in info.splits else 0
    return info.features, [shard_path(folder, k, count) for k in range(count)]


def read_front_end(folder: str) -> tuple[FrontEnd, bool]:
    """The front end of a dataset, and whether it computed the spectrograms from audio."""
    with storage.to_read(os.path.join(folder, 'front_end.json')) as local, open(local) as file:
        values = json.load(file)
    return from_dict(FrontEnd, values), values['from_audio']


def write_table(path: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file with a header row."""
    with (
        storage.to_write(path) as local,
        open(local, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str) -> list[dict[str, str]]:
    """Reads a CSV file with a header row: one dict per row."""
    with (
        storage.to_read(path) as local,
        open(local, newline='', encoding='utf-8-sig') as file,  # spreadsheets add a BOM
    ):
        return list(csv.DictReader(file))
