"""A dataset folder: TFRecords under TFDS metadata, `splits.csv`, `skipped.csv`, `front_end.json`.

Clips are stored once, whole, in one TFDS split; train, validation and test are columns of
`splits.csv`, whose rows are in the order of the records.
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
SPLIT = 'clips'  # 'all' would be every split at once to TFDS
NAME, VERSION = 'music', '1.0.0'
_TFDS_FILES = ('label.labels.txt', 'features.json', 'dataset_info.json')


@functools.cache
def features(labels: tuple[str, ...], n_mels: int, mel_dtype: str) -> tfds.features.FeaturesDict:
    """What an example holds; `mel` is raw bytes, since varints are 14 times slower to decode."""
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
    """An example as bytes, the same in every process: protobuf maps have no order of their own."""
    proto = tf_example_pb2.Example.FromString(features.serialize_example(example))
    return proto.SerializeToString(deterministic=True)


def parse(
    data: bytes, n_mels: int, mel_dtype: np.dtype
) -> tuple[str, Num[np.ndarray, 'frames mels']]:
    """Id and spectrogram of an example; TFDS, which reads any kind, takes four times as long."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    mel = np.frombuffer(feature['mel'].bytes_list.value[0], mel_dtype)
    return feature['id'].bytes_list.value[0].decode(), mel.reshape(-1, n_mels)


def shard_path(folder: str, shard: int, num_shards: int) -> str:
    """The file of one shard."""
    name = _template('.').sharded_filepath(shard_index=shard, num_shards=num_shards).name
    return os.path.join(folder, name)


def _template(folder: str) -> tfds.core.ShardedFileTemplate:
    """How the shards are named: `music-clips.tfrecord-00000-of-00008`."""
    return tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, split=SPLIT, filetype_suffix='tfrecord'
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
    """Writes TFDS metadata, so that `tfds.builder_from_directory(folder)` opens the records.

    Args:
      folder: where the shards are.
      labels: class names, in the order of their numbers.
      n_mels: bands of every spectrogram.
      front_end: how the spectrograms were made, or at least how they are stored.
      from_audio: whether `front_end` made them; False where they came ready-made.
      shard_lengths: records in each shard.
      num_bytes: size of all examples.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with open(shard_path(scratch, 0, len(shard_lengths)), 'wb'):
            pass  # TFDS wants to see a shard
        split = tfds.core.SplitInfo(
            name=SPLIT,
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
    """What `write_metadata` wrote: features, and the shards' files; none are of another kind."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in _TFDS_FILES:
            with storage.to_read(os.path.join(folder, name)) as local:
                shutil.copyfile(local, os.path.join(scratch, name))
        info = tfds.builder_from_directory(scratch).info
    count = len(info.splits[SPLIT].shard_lengths) if SPLIT in info.splits else 0
    return info.features, [shard_path(folder, k, count) for k in range(count)]


def read_front_end(folder: str) -> tuple[FrontEnd, bool]:
    """The dataset's front end, and whether it is what made the spectrograms from audio."""
    with storage.to_read(os.path.join(folder, 'front_end.json')) as local, open(local) as file:
        values = json.load(file)
    return from_dict(FrontEnd, values), values['from_audio']


def write_table(path: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file with a header."""
    with (
        storage.to_write(path) as local,
        open(local, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str) -> list[dict[str, str]]:
    """Reads a CSV file with a header: one dict a row."""
    with (
        storage.to_read(path) as local,
        open(local, newline='', encoding='utf-8-sig') as file,  # as spreadsheets save it
    ):
        return list(csv.DictReader(file))
