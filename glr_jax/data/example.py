"""A clip as a record: the `tf.Example` that data_prep writes, read without TensorFlow.

An Example is a protocol buffer: Example.features = 1, Features.feature = 1 (a map: key = 1,
value = 2), Feature.bytes_list = 1 and int64_list = 3, and the value = 1 of both lists.
https://protobuf.dev/programming-guides/encoding
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

NAMES = ('group', 'id', 'label', 'mel')
_BYTES = 2  # the wire type of a field with a length


class ExampleError(ValueError):
    """The data is not an example as data_prep writes it; the message says where."""


class Example(NamedTuple):
    """A clip.

    Attributes:
      id: of the clip.
      labels: the numbers of its labels; one of them unless clips may have several.
      mel: the spectrogram; a view of the data if it is uint8.
      begin: where its bytes begin in the data.
    """

    id: str
    labels: tuple[int, ...]
    mel: Num[np.ndarray, 'frames mels']
    begin: int


def parse(data: bytes, n_mels: int, mel_dtype: np.dtype) -> Example:
    """Reads an example; copies the spectrogram only if it is float32 and not aligned.

    Args:
      data: of a record.
      n_mels: mel bands of the spectrogram.
      mel_dtype: its type.

    Raises:
      ExampleError: the data is no such example.
    """
    features = _features(data)
    names, several = sorted(features), 'labels' in features
    if names != sorted({*NAMES, 'labels'} - {'label' if several else 'labels'}):
        raise ExampleError(f'it has the features {names}, not {list(NAMES)}')
    mel = _bytes_value(features['mel'])
    frame = n_mels * mel_dtype.itemsize
    if not mel or len(mel) % frame:
        raise ExampleError(
            f'the spectrogram has {len(mel)} bytes, which are not frames of {n_mels} mel bands '
            f'of type {mel_dtype}'
        )
    values = np.frombuffer(mel, mel_dtype).reshape(-1, n_mels)
    begin = values.ctypes.data - np.frombuffer(data, np.uint8).ctypes.data
    if not values.flags.aligned:  # NumPy would sum it in another order, to another last bit
        values = values.copy()
    labels = _int_values(features['labels' if several else 'label'])
    _expect(several or len(labels) == 1, f'{len(labels)} labels instead of one')
    return Example(_text(_bytes_value(features['id'])), labels, values, begin)


def spectrogram_digest(mel: Num[np.ndarray, 'frames mels']) -> str:
    """A checksum of a spectrogram, whatever else is in its record."""
    return hashlib.sha256(f'{mel.shape}'.encode() + mel.tobytes()).hexdigest()


def _features(data: bytes) -> dict[str, memoryview]:
    """{name: serialized Feature} of a serialized Example."""
    found: dict[str, memoryview] = {}
    for number, features in _fields(memoryview(data)):
        _expect(number == 1, 'an unknown field of an example')
        for number, entry in _fields(features):
            _expect(number == 1, 'an unknown field of features')
            parts = dict(_fields(entry))
            _expect(parts.keys() == {1, 2}, 'a feature without name or value')
            name = _text(parts[1])
            _expect(name not in found, f'two features {name!r}')
            found[name] = parts[2]
    return found


def _bytes_value(feature: memoryview) -> memoryview:
    """The only value of a bytes feature."""
    return _only(_only(feature, 1), 1)


def _int_values(feature: memoryview) -> tuple[int, ...]:
    """The values of an int64 feature; packed, as all writers of proto3 do."""
    content = _only(feature, 3)
    packed = _only(content, 1) if len(content) else content
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return tuple(values)


def _only(message: memoryview, number: int) -> memoryview:
    """The value of the only field of a message."""
    fields = list(_fields(message))
    _expect(len(fields) == 1 and fields[0][0] == number, 'a value of another kind')
    return fields[0][1]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of the fields of a message, all of which have a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        _expect(tag & 7 == _BYTES, 'a field of another type')
        length, at = _varint(message, at)
        _expect(length <= len(message) - at, 'a field that is longer than the record')
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where the next byte is."""
    value = 0
    for shift in range(0, 64, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ExampleError('a number does not end')


def _text(content: memoryview) -> str:
    try:
        return str(content, 'utf-8')
    except UnicodeDecodeError:
        raise ExampleError('a text is not UTF-8') from None


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ExampleError(f'it has {otherwise}')
