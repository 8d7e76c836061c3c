"""Clips of any length to probabilities: every clip counts once, whatever the batch."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest

from glr_jax import inference
from glr_jax.inference import Output, Predictor
from tests.conftest import make_dataset

FRAMES = 8
# Clips whose first value is their label's number, of several lengths.
MELS = [np.full((length, 2), k % 3, np.uint8) for k, length in enumerate((3, 8, 9, 20, 33, 8, 70))]


def apply(mel: np.ndarray) -> Output:
    """A classifier that reads the label off the segment, with probability 0.8."""
    return Output(0.1 + 0.7 * np.eye(3)[mel[:, 0, 0].astype(int)], mel[:, :1, 0].astype(float))


@pytest.mark.parametrize('batch_size', [1, 3, 8, 100])
def test_every_clip_counts_once_whatever_the_batch(batch_size: int) -> None:
    seen = []

    def counting(mel: np.ndarray) -> Output:
        seen.append(len(mel))
        return apply(mel)

    found = inference.decide(Predictor(counting, FRAMES, batch_size), iter(MELS))
    segments = [1, 1, 1, 2, 4, 1, 9]
    assert np.bincount(found.owner).tolist() == segments
    assert len(set(seen)) == 1  # the last batch is padded: one program is compiled
    assert seen[0] % jax.local_device_count() == 0
    assert found.clips.argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0]
    np.testing.assert_allclose(found.clips.sum(1), 1)


def test_a_clip_is_the_mean_of_its_segments() -> None:
    values = itertools.count()
    rising = lambda mel: Output(*[np.asarray([[next(values), 1.0] for _ in mel])] * 2)
    found = inference.decide(Predictor(rising, FRAMES, 8), [np.zeros((32, 2), np.uint8)])
    np.testing.assert_array_equal(found.segments[:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(found.clips, [[1.5, 1.0]])
    np.testing.assert_array_equal(found.embeddings, found.clips)


@pytest.mark.parametrize(
    ('count', 'test_crops', 'accuracy', 'several'),
    [
        (1, 1, 10 / 19, False),
        (2, 1, 10 / 19, False),
        (3, 2, 17 / 35, False),
        # Of the last clip's nine segments two labels of three are wrong, of another's two segments
        # one, and of the only segment of the first one.
        (1, 1, 1 - (18 + 2 + 1) / 57, True),
        (3, 1, 1 - (18 + 2 + 1) / 57, True),
    ],
)
def test_processes_share_the_clips_and_all_get_all_results(
    count: int, test_crops: int, accuracy: float, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset('abc', [0, 1, 2, 0, 1, 2, 1], MELS)  # the last is decided wrongly
    if several:
        targets = np.eye(3, dtype=np.uint8)[dataset.targets]
        targets[0, 1], targets[3] = 1, 0  # one label more, and none
        object.__setattr__(dataset, 'targets', targets)
    monkeypatch.setattr(jax, 'process_count', lambda: count)
    sent: list[list[np.ndarray]] = [[] for _ in range(count)]

    def run(process: int, gather: Any) -> Any:
        monkeypatch.setattr(jax, 'process_index', lambda: process)
        monkeypatch.setattr(inference.processes, 'gather', gather)
        clips = np.arange(len(MELS))
        return inference.decide_clips(Predictor(apply, FRAMES, 8, test_crops), dataset, clips)

    for process in range(count):  # what each would send
        run(process, lambda x, process=process: sent[process].append(x) or np.stack([x] * count))
    received = iter(np.stack([each[k] for each in sent]) for k in range(2))
    probabilities, segment_accuracy = run(0, lambda x: next(received))
    assert probabilities.argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert segment_accuracy == pytest.approx(accuracy)
