"""TensorFlow reads the records, if it is installed (`pip install -e '.[tf]'`)."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from glr_jax.data.dataset import open_dataset

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('tensorflow') is None, reason='TensorFlow is not installed'
)
# In a separate process, so that TensorFlow is not imported here.
BY_TFDS = """
import hashlib, json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
examples = tfds.as_numpy(builder.as_dataset(split='clips', shuffle_files=False))
print(json.dumps([[e['id'].decode(), int(e['label']), hashlib.md5(e['mel'].tobytes()).hexdigest()]
                  for e in examples]))
"""
BY_TF_DATA = """
import glob, hashlib, json, sys
import tensorflow as tf
rows = []
files = sorted(glob.glob(sys.argv[1] + '/music-*'))
for data in tf.data.TFRecordDataset(files).as_numpy_iterator():
    feature = tf.train.Example.FromString(data).features.feature
    mel = feature['mel'].bytes_list.value[0]
    rows.append([feature['id'].bytes_list.value[0].decode(), feature['label'].int64_list.value[0],
                 hashlib.md5(mel).hexdigest()])
print(json.dumps(rows))
"""


@pytest.mark.parametrize('code', [BY_TFDS, BY_TF_DATA], ids=['tfds', 'tf.data'])
def test_tensorflow_reads_every_record(prepared: Path, code: str) -> None:
    output = subprocess.check_output([sys.executable, '-c', code, str(prepared)], text=True)
    dataset = open_dataset(str(prepared))
    assert json.loads(output.splitlines()[-1]) == [
        [id, int(dataset.targets[clip]), hashlib.md5(dataset.mel(clip).tobytes()).hexdigest()]
        for clip, id in enumerate(dataset.ids)
    ]
