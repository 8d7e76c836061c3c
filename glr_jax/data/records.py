"""Writes the files of a dataset folder: TFRecords with TFDS metadata, `front_end.json`.

Clips are stored once and whole, in a single TFDS split. `splits.csv` has a row per record, in the
same order, and a column per split; a cell says whether the clip is in train, validation or test.
`skipped.csv` names the clips that were left out. TFDS is imported only to write; `metadata` and
`example` read without it.
"""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_jax import storage
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.metadata import (
    NAME,
    TFDS_SPLIT,
    VERSION,
    check_labels,
    labels_file,
    seal,
    shard_path,
)
from glr_jax.data.tables import write_table
from glr_jax.fields import to_dict

__all__ = ['SIDES', 'features', 'serialize', 'shard_path', 'write_metadata', 'write_table']

SIDES = ('train', 'validation', 'test')


@functools.cache
def features(
    labels: tuple[str, ...], n_mels: int, mel_dtype: str, multi_label: bool = False
) -> Any:
    """The TFDS features of an example, a `tfds.features.FeaturesDict`.

    `mel` is stored as raw bytes, since varints take 14 times as long to decode.
    """
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=list(labels))
    name, feature = ('labels', tfds.features.Sequence(label)) if multi_label else ('label', label)
    return tfds.features.FeaturesDict(
        {
            'id': tfds.features.Text(),
            name: feature,
            'group': tfds.features.Text(),
            'mel': tfds.features.Tensor(
                shape=(None, n_mels), dtype=np.dtype(mel_dtype), encoding='bytes'
            ),
        }
    )


def serialize(features: Any, example: dict[str, Any]) -> bytes:
    """An example as bytes, equal in every process although protobuf maps have no fixed order."""
    from tensorflow_datasets.proto import tf_example_pb2

    proto = tf_example_pb2.Example.FromString(features.serialize_example(example))
    return proto.SerializeToString(deterministic=True)


def write_metadata(
    folder: str,
    *,
    labels: Sequence[str],
    n_mels: int,
    front_end: FrontEnd,
    from_audio: bool,
    shard_lengths: Sequence[int],
    num_bytes: int,
    multi_label: bool = False,
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
      multi_label: whether a clip may have several labels.
    """
    import tensorflow_datasets as tfds

    check_labels(labels, multi_label)
    front = {'from_audio': from_audio} | to_dict(front_end)
    with tempfile.TemporaryDirectory() as scratch:
        with open(shard_path(scratch, 0, len(shard_lengths)), 'wb'):
            pass  # TFDS requires a shard to exist
        split = tfds.core.SplitInfo(
            name=TFDS_SPLIT,
            shard_lengths=list(shard_lengths),
            num_bytes=num_bytes,
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=scratch, dataset_name=NAME, split=TFDS_SPLIT, filetype_suffix='tfrecord'
            ),
        )
        tfds.folder_dataset.write_metadata(
            data_dir=scratch,
            features=features(tuple(labels), n_mels, front_end.mel_dtype, multi_label),
            split_infos=[split],
            version=VERSION,
            check_data=False,
            description='Log-mel spectrograms of music clips.',
        )
        for name in (labels_file(multi_label), 'features.json', 'dataset_info.json'):
            with storage.to_write(os.path.join(folder, name)) as local:
                shutil.copyfile(os.path.join(scratch, name), local)
    with (
        storage.to_write(os.path.join(folder, 'front_end.json')) as local,
        open(local, 'w') as file,
    ):
        json.dump(seal(front, n_mels, front_end.mel_dtype), file, indent=2)
        file.write('\n')
