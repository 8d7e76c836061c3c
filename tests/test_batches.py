import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from glr_jax.data.batches import balanced_weights, dispatches, mix, plan_batch, read
from glr_jax.data.dataset import open_dataset
from glr_jax.data.segments import crop

CLIPS = np.array([3, 5, 8, 13, 21, 34, 55])


def clips_of_steps(steps: int, batch_size: int, seed: int = 0) -> list[int]:
    batches = [plan_batch(s, batch_size, CLIPS, seed, slice(None)).clip for s in range(steps)]
    return [int(clip) for batch in batches for clip in batch]


@pytest.mark.parametrize('batch_size', [1, 3, 7, 16])
def test_every_clip_is_used_once_per_epoch(batch_size: int) -> None:
    epochs = 6
    sequence = clips_of_steps(-(-epochs * len(CLIPS) // batch_size), batch_size)
    for epoch in range(epochs):
        assert sorted(sequence[epoch * 7 : epoch * 7 + 7]) == CLIPS.tolist()


def test_the_sequence_does_not_depend_on_the_batch_size() -> None:
    assert clips_of_steps(21, 2) == clips_of_steps(14, 3)


def test_orders_differ_by_epoch_and_by_seed() -> None:
    sequence = clips_of_steps(2, 7)
    assert sequence[:7] != sequence[7:]
    assert sequence != clips_of_steps(2, 7, seed=1)


def test_the_slices_of_all_processes_form_the_batch() -> None:
    whole = plan_batch(5, 8, CLIPS, 0, slice(None))
    parts = [plan_batch(5, 8, CLIPS, 0, slice(k, k + 2)) for k in (0, 2, 4, 6)]
    for field, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[field] for part in parts]), expected)


def test_places_count_the_cases_of_the_whole_run() -> None:
    np.testing.assert_array_equal(plan_batch(5, 8, CLIPS, 0, slice(None)).place, np.arange(40, 48))


def test_the_clip_that_is_due_has_the_larger_mixup_weight() -> None:
    plain, mixed = (plan_batch(0, 7, CLIPS, 0, slice(None), mixup) for mixup in (0.0, 0.4))
    assert plain.weight.tolist() == [256] * 7
    np.testing.assert_array_equal(mixed.clip, plain.clip)
    assert 128 <= mixed.weight.min() < 250
    assert sorted(mixed.other) == CLIPS.tolist()


def test_mixup_weights_spectrograms_and_labels_alike(prepared: Path) -> None:
    dataset = open_dataset(str(prepared))
    plan = plan_batch(0, 8, np.arange(len(dataset)), 0, slice(None), mixup=1.0)
    batch = read(dataset, plan, 5)
    plan = plan._replace(weight=plan.weight / 256)
    for case, (clip, start, weight, other, other_start) in enumerate(zip(*plan[1:], strict=True)):
        one, two = crop(dataset.mel(clip), 5, start), crop(dataset.mel(other), 5, other_start)
        np.testing.assert_allclose(batch.mel[case], weight * one + (1 - weight) * two, atol=0.501)
        target = np.zeros(3)
        target[dataset.targets[clip]] += weight
        target[dataset.targets[other]] += 1 - weight
        np.testing.assert_allclose(batch.target[case], target, atol=1e-6)
    assert batch.mel.dtype == np.uint8


def test_balanced_weights_are_inverse_to_the_clips_of_a_label_and_one_on_average() -> None:
    targets = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3], np.int32)
    weights = balanced_weights(targets, 5)
    np.testing.assert_allclose(weights, [0.5, 1.5, 0, 3, 0])
    assert weights[targets].mean() == pytest.approx(1)
    np.testing.assert_array_equal(balanced_weights(np.arange(4, dtype=np.int32), 4), np.ones(4))


def test_numpy_and_a_device_mix_any_two_numbers_alike() -> None:
    one, other = (a.astype(np.uint8) for a in np.mgrid[:256, :256])
    by_device = jax.jit(mix)
    for weight in np.arange(128, 257, dtype=np.uint16):
        mixed = mix(one, other, weight)
        exact = (weight * one.astype(float) + (256 - weight) * other.astype(float)) / 256
        assert np.abs(mixed - exact).max() <= 0.5
        np.testing.assert_array_equal(by_device(one, other, weight), mixed)


@pytest.mark.parametrize(('batch_size', 'clips'), [(4, 22), (4, 24), (5, 7), (9, 7)])
@pytest.mark.parametrize('at_most', [1, 3, 100])
@pytest.mark.parametrize('done', [0, 5])
def test_dispatches_have_two_lengths_and_end_with_epochs(
    batch_size: int, clips: int, at_most: int, done: int
) -> None:
    steps = -(-4 * clips // batch_size)
    found = list(dispatches(done, steps, batch_size, clips, at_most))
    assert list(itertools.chain(*found)) == list(range(done, steps))
    assert {len(group) for group in found} <= {1, max(1, min(at_most, clips // batch_size))}
    for group in found:
        epochs = [step * batch_size // clips for step in group]
        assert len(set(epochs)) == 1


def test_a_short_epoch_is_one_dispatch() -> None:
    assert list(dispatches(0, 12, 4, 24, 16)) == [range(6), range(6, 12)]
