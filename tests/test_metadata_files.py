"""Datasets from strangers and damaged ones: nothing runs, and every fault is one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from glr_jax.data import metadata, records
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.data.tfrecord import write_records
from glr_jax.errors import UserError

ROOT = Path(__file__).parents[1]
LABELS = ('hiss', 'Joey Bada$$', '鼓')
FILES = ('dataset_info.json', 'features.json', 'front_end.json', 'label.labels.txt')


def write_dataset(folder: Path, mel_dtype: str = 'uint8') -> Path:
    """Two shards of three clips of four bands."""
    folder.mkdir()
    features = records.features(LABELS, 4, mel_dtype)
    rng, rows = np.random.default_rng(0), []
    for shard in range(2):
        examples = []
        for label in LABELS:
            mel = rng.integers(0, 256, (7, 4)).astype(mel_dtype)
            clip = {'id': f'{label}/{shard}', 'label': label, 'group': '', 'mel': mel}
            examples.append(records.serialize(features, clip))
            rows.append([clip['id'], label, '', 'train'])
        write_records(records.shard_path(str(folder), shard, 2), examples)
    records.write_table(str(folder / 'splits.csv'), ['id', 'label', 'group', 'random-1'], rows)
    records.write_metadata(
        str(folder),
        labels=LABELS,
        n_mels=4,
        front_end=FrontEnd(n_mels=4, mel_dtype=mel_dtype),
        from_audio=True,
        shard_lengths=[3, 3],
        num_bytes=1,
    )
    return folder


def content(dataset: Dataset) -> tuple[Any, ...]:
    """All that a dataset says, to compare."""
    mels = [dataset.mel(clip).tolist() for clip in range(len(dataset))]
    fields = (dataset.ids, dataset.labels, dataset.targets.tolist(), dataset.splits)
    return *fields, dataset.front_end, dataset.from_audio, dataset.n_mels, mels


@pytest.fixture(scope='module')
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp('intact') / 'set')


@pytest.fixture
def mine(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / 'mine'))


@pytest.mark.parametrize('mel_dtype', ['uint8', 'float32'])
def test_tfds_opens_the_folder_too(tmp_path: Path, mel_dtype: str) -> None:
    folder = write_dataset(tmp_path / 'set', mel_dtype)
    info = tfds.builder_from_directory(str(folder)).info
    ours = open_dataset(str(folder))
    assert ours.labels == tuple(info.features['label'].names) == LABELS
    assert (ours.n_mels, ours.mel_dtype) == (4, info.features['mel'].np_dtype)
    assert info.splits['clips'].shard_lengths == [3, 3]


def test_features_of_tfds_are_those_that_are_compared(intact: Path) -> None:
    written = json.loads((intact / 'features.json').read_text())
    assert written == metadata.features_json(3, 4, 'uint8')


def test_a_class_that_a_folder_names_is_not_imported(mine: Path, tmp_path: Path) -> None:
    (tmp_path / 'evil.py').write_text('open("ran", "w")\nclass Text: pass\n')
    path = mine / 'features.json'
    path.write_text(
        path.read_text().replace('tensorflow_datasets.core.features.text_feature.Text', 'evil.Text')
    )
    code = 'from glr_jax.data.dataset import open_dataset; open_dataset("mine")'
    environment = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert 'features.json is not as data_prep writes it' in done.stderr
    assert not (tmp_path / 'ran').exists()


def test_reading_and_training_import_no_tfds(intact: Path) -> None:
    code = (
        'import sys; import glr_jax.train, glr_jax.predict;'
        'from glr_jax.data.dataset import open_dataset;'
        'open_dataset(sys.argv[1]).mel(0); print("tensorflow_datasets" in sys.modules)'
    )
    command = [sys.executable, '-c', code, str(intact)]
    assert subprocess.check_output(command, text=True, cwd=ROOT) == 'False\n'


def damaged(content: bytes, rng: np.random.Generator, changes: int = 60) -> list[bytes]:
    """A file that is empty, cut, not text, or has single wrong bits and bytes."""
    cuts = [content[: rng.integers(len(content))] for _ in range(12)]
    variants = [b'', b'\0' * len(content), b'[]', b'null', b'{}', content + b'}', *cuts]
    for _ in range(changes):
        changed = bytearray(content)
        place = rng.integers(len(content))
        changed[place] ^= 1 << rng.integers(8)
        variants.append(bytes(changed))
        changed[place] = rng.integers(256)
        variants.append(bytes(changed))
    return variants


@pytest.mark.parametrize('name', FILES)
def test_damaged_metadata_is_one_line_with_the_file_or_makes_no_difference(
    mine: Path, name: str
) -> None:
    path, expected = mine / name, content(open_dataset(str(mine)))
    for variant in damaged(path.read_bytes(), np.random.default_rng(len(name))):
        path.write_bytes(variant)
        try:
            assert content(open_dataset(str(mine))) == expected
        except UserError as error:
            message = str(error)
            assert '\n' not in message
            assert str(mine) in message


def values_of(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        ('front_end.json', lambda v: v.update(hop_length=513), 'was changed after'),
        ('front_end.json', lambda v: v.update(from_audio=False), 'was changed after'),
        ('front_end.json', lambda v: v.update(from_audio='yes'), 'true or false'),
        ('front_end.json', lambda v: v.update(n_fft=10**400), 'damaged.*n_fft'),
        ('front_end.json', lambda v: v.update(top_db=10**400), 'damaged.*top_db'),
        ('front_end.json', lambda v: v.update(mel_dtype=[]), 'damaged.*mel_dtype'),
        ('dataset_info.json', lambda v: v.update(splits=[]), 'another version of data_prep'),
        ('dataset_info.json', lambda v: v.update(splits=7), 'another version of data_prep'),
        ('dataset_info.json', lambda v: v.update(fileFormat='riegeli'), 'another version'),
        ('dataset_info.json', lambda v: v['splits'][0].update(shardLengths=['3']), 'was not found'),
        ('dataset_info.json', lambda v: v['splits'][0].update(shardLengths=['3', '4']), 'says 4'),
        ('dataset_info.json', lambda v: v['splits'][0].update(shardLengths=['3', '-3']), 'damaged'),
        ('dataset_info.json', lambda v: v['splits'][0].update(shardLengths=3), 'damaged'),
        ('features.json', lambda v: v.update(more=1), 'not as data_prep writes it'),
        ('features.json', lambda v: v.pop('pythonClassName'), 'not as data_prep writes it'),
        ('features.json', lambda v: v.update(featuresDict=[]), 'not as data_prep writes it'),
    ],
)
def test_values_that_are_wrong_are_refused(
    mine: Path, name: str, change: Callable[[Any], None], words: str
) -> None:
    values_of(mine / name, change)
    with pytest.raises(UserError, match=rf'(?s)mine.*{words}'):
        open_dataset(str(mine))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (b'{"a": NaN}', 'NaN is not a finite number'),
        (b'{"a": 1e999}', 'a number is too large'),
        (b'{"a": ' + b'9' * 5000 + b'}', 'Exceeds the limit'),
        (b'[' * 100_000, 'nested too deeply'),
        (b'\xff\xfe', 'byte 0 is not UTF-8'),
        (b'[1]', 'a list instead of an object'),
        (b' \n', 'it is empty'),
    ],
)
def test_json_that_python_cannot_hold_is_refused(mine: Path, text: bytes, words: str) -> None:
    (mine / 'features.json').write_bytes(text)
    with pytest.raises(UserError, match=rf'features\.json.* damaged: .*{words}.*prepare'):
        open_dataset(str(mine))


@pytest.mark.parametrize('name', FILES)
def test_a_missing_file_is_named(mine: Path, name: str) -> None:
    (mine / name).unlink()
    with pytest.raises(UserError, match=f'{name} was not found|is not a finished dataset'):
        open_dataset(str(mine))


@pytest.mark.parametrize('name', [*FILES[:2], FILES[3]])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(mine: Path, name: str) -> None:
    (mine / name).unlink()
    os.mkfifo(mine / name)
    with pytest.raises(UserError, match=f'{name} is not a regular file'):
        open_dataset(str(mine))


def test_a_pipe_in_place_of_a_shard_is_refused_at_once(mine: Path) -> None:
    shard = sorted(mine.glob('music-*'))[1]
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(UserError, match=f'{shard.name} is not a regular file'):
        open_dataset(str(mine))


def test_a_folder_of_older_versions_has_no_checksum_and_opens(mine: Path) -> None:
    values_of(mine / 'front_end.json', lambda values: values.pop('checksum'))
    assert open_dataset(str(mine)).front_end.n_mels == 4


def test_the_label_of_a_record_must_be_that_of_the_table(mine: Path) -> None:
    table = mine / 'splits.csv'
    text = table.read_text().replace('hiss/1,hiss', 'hiss/1,鼓')
    table.write_text(text)
    with pytest.raises(UserError, match="'hiss/1' has the label '鼓', but in its record 'hiss'"):
        open_dataset(str(mine)).mel(3)


@pytest.mark.parametrize(
    ('labels', 'words'),
    [
        (['a', 'b\nc'], r'b\\nc.*line break'),
        (['a', ' '], 'empty'),
        (['a', 'b', 'a '], 'differ only by spaces'),
        (['a', os.fsdecode(b'caf\xe9')], r'xe9.*not UTF-8'),
        ([f'{k}' for k in range(10_001)], 'at most 10000'),
    ],
)
def test_labels_that_cannot_be_stored_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        metadata.check_labels(labels)
