"""Batches are the same, whether they are cut on the devices or read and sent."""

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import gaps
from glr_jax import train
from glr_jax.config import DataConfig
from glr_jax.data import batches, input_pipeline
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.input_pipeline import prefetch
from glr_jax.devices import parallel
from glr_jax.errors import UserError
from tests.conftest import PAPER
from tests.conftest import run as prepare

SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=5'),
    *('--model.kind=cnn', '--model.kernels=8', '--train.learning_rate=0.01'),
    *('--train.average=0.9', '--train.label_smoothing=0.1', '--train.class_weights=balanced'),
    *('--augment.time_masks=1', '--augment.band_masks=1', '--augment.equalizer=0.1'),
    *('--augment.level=0.1', '--augment.stretch=0.1', '--augment.pitch=0.05'),
    *('--augment.shortest=0.5', '--train.patience=9', '--train.time_limit=60'),
]


def pairs(dataset: Dataset, frames: int, sampler: str = 'shuffled') -> Any:
    """The batches of five steps over two epochs, read and cut on a device."""
    clips = dataset.members('random-1', 'train')
    balance = None
    if sampler == 'balanced':
        balance = batches.make_balance(clips, dataset.has_label()[clips])
    read = input_pipeline.streamed(dataset, frames)
    kept = input_pipeline.resident(dataset, clips, frames, parallel.make_mesh())
    cut = jax.jit(kept.assemble)
    for step in range(5):
        plan = batches.plan_batch(step, 8, clips, 3, slice(8), 0.4, balance)
        yield read.payload(plan), cut(kept.payload(plan), *kept.held)


@pytest.mark.parametrize('frames', [1, 5, 9, 40])  # clips have 6 to 13
def test_uint8_batches_are_equal_to_the_bit(frames: int, prepared: Path) -> None:
    for read, cut in pairs(open_dataset(str(prepared)), frames):
        for one, other in zip(read, cut, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_batches_with_several_labels_drawn_by_the_balanced_sampler_are_equal_to_the_bit(
    tagged_dataset: Path,
) -> None:
    for read, cut in pairs(open_dataset(str(tagged_dataset)), 9, 'balanced'):
        for one, other in zip(read, cut, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_float32_batches_are_equal_up_to_rounding(music: Path, tmp_path: Path) -> None:
    folder = prepare(music, tmp_path / 'set', '--mel_dtype=float32')
    for read, cut in pairs(open_dataset(str(folder)), 9):
        assert cut.mel.dtype == np.float32
        np.testing.assert_allclose(read.mel, cut.mel, rtol=1e-6, atol=1e-4)
        np.testing.assert_array_equal(read.target, cut.target)


@pytest.mark.parametrize(
    ('where', 'free', 'expected'),
    [('off', 1 << 40, False), ('auto', 1 << 40, True), ('auto', 30_000, False)],
)
def test_auto_keeps_clips_that_fit_in_half_of_the_free_memory(
    where: Any, free: int, expected: bool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(prepared))
    monkeypatch.setattr(input_pipeline, 'free_bytes', lambda: free)
    found = input_pipeline.fits(DataConfig(resident=where, frames=9), dataset, np.arange(18))
    assert found == expected


def test_clips_that_do_not_fit_are_refused_and_the_estimate_suffices(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, clips = open_dataset(str(prepared)), np.arange(18)
    held = input_pipeline.resident(dataset, clips, 9, parallel.make_mesh()).held[0].nbytes
    config = DataConfig(frames=9, resident='on')
    monkeypatch.setattr(input_pipeline, 'free_bytes', lambda: held - 1)
    with pytest.raises(UserError, match=r'--data.resident=on: .* --data.resident=off'):
        input_pipeline.fits(config, dataset, clips)
    monkeypatch.setattr(input_pipeline, 'free_bytes', lambda: int(1.2 * held))
    assert input_pipeline.fits(config, dataset, clips)


@pytest.mark.slow
def test_a_run_resumes_with_another_pipeline_and_is_traced(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    def losses(name: str, *flags: str) -> list[float]:
        folder = tmp_path / name
        train.main(['train', f'--workdir={folder}', f'--data.dir={prepared}', *SMALL, *flags])
        return [json.loads(line)['loss'] for line in (folder / 'metrics.jsonl').open()]

    streamed = losses('streamed', '--data.resident=off')
    with monkeypatch.context() as stopping:
        answers = iter([False, False, True])  # in the middle of the second epoch
        stop = lambda: contextlib.nullcontext(lambda: next(answers))
        stopping.setattr(train.processes, 'stopping', stop)
        with pytest.raises(UserError, match='to resume'):
            losses('other', '--data.resident=off')
    again = losses('other', '--train.steps_per_dispatch=2', '--profile=3')
    assert again == pytest.approx(streamed, rel=1e-6)
    assert 'resuming at step 3' in capfd.readouterr().err
    busy, waits = gaps.gaps(str(tmp_path / 'other' / 'profile'))
    assert 2 <= len(busy) <= 3
    assert busy.min() > 0
    assert len(waits) == len(busy) - 1


def test_prefetching_keeps_the_order_if_some_items_take_longer() -> None:
    def make(step: int) -> int:
        time.sleep(0.02 * (step % 3 == 0))
        return step

    assert list(prefetch(make, range(4, 20))) == list(range(4, 20))


def test_an_error_while_prefetching_is_raised_at_its_item() -> None:
    def make(step: int) -> int:
        return step if step < 3 else 1 // 0

    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(prefetch(make, range(10)))
    assert seen == [0, 1, 2]


def test_prefetching_stays_within_its_limit() -> None:
    made: Counter[int] = Counter()
    items = prefetch(lambda step: made.update([step]), range(100), ahead=3)
    next(items)
    time.sleep(0.1)
    assert len(made) <= 5
    items.close()
