"""Records: the protocol buffer of a clip."""

import numpy as np
import pytest

from glr_jax.data import example, records
from glr_jax.data.example import ExampleError, parse

MEL = np.random.default_rng(0).integers(0, 256, (30, 4)).astype(np.uint8)
UINT8 = np.dtype('uint8')


def field(number: int, content: bytes) -> bytes:
    """A field with a length, below 16,384."""
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + size + content


def feature(name: str, value: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, value))


def texts(*values: bytes) -> bytes:
    return field(1, b''.join(field(1, value) for value in values))


def record(**changes: bytes | None) -> bytes:
    """An example whose features are replaced, or left out where None."""
    features = {
        'group': texts(b''),
        'id': texts('ä/1'.encode()),
        'label': field(3, field(1, b'\x02')),
        'mel': texts(MEL.tobytes()),
    } | changes
    parts = [feature(name, value) for name, value in features.items() if value is not None]
    return field(1, b''.join(parts))


def test_an_example_is_a_protocol_buffer_of_four_features() -> None:
    labels = ('a', 'b', 'c')
    theirs = records.serialize(
        records.features(labels, 4, 'uint8'), {'id': 'ä/1', 'label': 'c', 'group': '', 'mel': MEL}
    )
    assert theirs == record()
    found = parse(theirs, 4, UINT8)
    assert (found.id, found.labels) == ('ä/1', (2,))
    np.testing.assert_array_equal(found.mel, MEL)
    assert found.mel.base is not None  # not a copy
    assert theirs[found.begin : found.begin + MEL.nbytes] == MEL.tobytes()


@pytest.mark.parametrize('labels', [[], [1], [0, 2]])
def test_an_example_may_have_several_labels(labels: list[int]) -> None:
    names = ('a', 'b', 'c')
    theirs = records.serialize(
        records.features(names, 4, 'uint8', multi_label=True),
        {'id': 'ä/1', 'labels': labels, 'group': '', 'mel': MEL},
    )
    packed = field(3, field(1, bytes(labels)) if labels else b'')
    ours = feature('group', texts(b'')) + feature('id', texts('ä/1'.encode()))
    ours += feature('labels', packed) + feature('mel', texts(MEL.tobytes()))
    assert theirs == field(1, ours)
    assert parse(theirs, 4, UINT8).labels == tuple(labels)


def test_large_numbers_and_several_orders_are_read() -> None:
    label = field(3, field(1, b'\xe8\x07'))
    assert parse(record(label=label), 4, UINT8).labels == (1000,)
    turned = field(1, feature('mel', texts(MEL.tobytes()))) + field(
        1,
        feature('label', label) + feature('id', texts(b'x')) + feature('group', texts(b'g')),
    )
    assert parse(turned, 4, UINT8).id == 'x'


def test_a_float_spectrogram_can_be_summed_as_if_it_had_been_read_alone() -> None:
    values = MEL.astype(np.float32)
    for padding in range(4):
        id = texts(b'x' * padding)
        found = parse(record(id=id, mel=texts(values.tobytes())), 4, np.dtype('float32')).mel
        assert found.flags.aligned
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', r'features \[\]'),
        (record(group=None), 'features'),
        (record(more=texts(b'')), 'features'),
        (record() + field(1, feature('id', texts(b'y'))), "two features 'id'"),
        (record(mel=texts(MEL.tobytes()[:-1])), 'not frames of 4 mel bands'),
        (record(mel=texts(b'')), 'not frames of 4 mel bands'),
        (record(mel=texts(b'abcd', b'abcd')), 'another kind'),
        (record(mel=field(2, b'abcd')), 'another kind'),
        (record(label=texts(b'c')), 'another kind'),
        (record(label=field(3, field(1, b'\x01\x02'))), '2 labels instead of one'),
        (record(label=field(3, field(1, b'\xff' * 11))), 'does not end'),
        (record(label=field(3, field(1, b''))), '0 labels instead of one'),
        (record(id=texts(b'\xff')), 'not UTF-8'),
        (record()[:-1], 'longer than the record'),
        (field(1, b'\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f'), 'longer than the record'),
        (b'\x08\x01', 'another type'),
        (field(2, b''), 'unknown field'),
    ],
)
def test_other_data_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ExampleError, match=words):
        parse(data, 4, UINT8)


def test_random_changes_are_read_or_refused() -> None:
    rng, intact = np.random.default_rng(0), record()
    for _ in range(2000):
        data = bytearray(intact)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        try:
            found = parse(bytes(data[: rng.integers(1, 2 * len(data))]), 4, UINT8)
        except ExampleError:
            continue
        assert found.mel.shape[1] == 4


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(1)
    for size in rng.integers(60, size=1000):
        with pytest.raises(example.ExampleError):
            parse(rng.bytes(size), 4, UINT8)
