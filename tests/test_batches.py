import itertools
from pathlib import Path

import jax
import numpy as np
import pytest

from glr_jax.data.batches import (
    balanced_weights,
    dispatches,
    make_balance,
    mix,
    mix_in_place,
    plan_batch,
    read,
    targets,
)
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


# Four of the clips have the first label, two the second, one the third; none has the fourth.
ONE_LABEL = np.array([0, 0, 1, 0, 2, 1, 0])[:, None] == np.arange(4)
# The first label is frequent, the second rare, and two clips have none.
SEVERAL = np.array([[1, 0], [1, 0], [1, 1], [1, 0], [0, 0], [1, 0], [0, 0]], bool)


def balanced_cases(has: np.ndarray, epochs: int, seed: int = 0, mixup: float = 0.0) -> np.ndarray:
    """Which clips are due in some epochs: the clip itself and the one mixed into it."""
    balance = make_balance(CLIPS, has)
    plan = plan_batch(0, epochs * len(CLIPS), CLIPS, seed, slice(None), mixup, balance)
    return np.stack([plan.clip, plan.other])


def test_with_the_balanced_sampler_all_labels_are_due_equally_often() -> None:
    counts = np.zeros(4)
    for epoch in balanced_cases(ONE_LABEL, 300)[0].reshape(300, 7):
        here = ONE_LABEL[np.searchsorted(CLIPS, epoch)].sum(0)
        assert np.abs(here - [7 / 3, 7 / 3, 7 / 3, 0]).max() < 2  # in each epoch
        counts += here
    np.testing.assert_allclose(counts / 2100, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.01)


def test_the_balanced_sampler_draws_one_of_several_labels_and_then_a_clip() -> None:
    # Each of both labels and of "none" has one third, which its clips share.
    first = 1 / 3 / 5
    expected = {3: first, 5: first, 8: first + 1 / 3, 13: first, 34: first, 21: 1 / 6, 55: 1 / 6}
    for due in balanced_cases(SEVERAL, 2000, mixup=0.4):  # alike, so that targets are balanced
        for clip, chance in expected.items():
            assert np.mean(due == clip) == pytest.approx(chance, abs=0.01), clip


def test_the_balanced_sampler_is_a_function_of_seed_and_place_alone() -> None:
    balance = make_balance(CLIPS, SEVERAL)
    whole = plan_batch(0, 42, CLIPS, 3, slice(None), 0.4, balance)
    for size in (2, 3, 6):
        steps = [
            plan_batch(k, size, CLIPS, 3, slice(None), 0.4, balance) for k in range(42 // size)
        ]
        parts = [plan_batch(5, size, CLIPS, 3, slice(k, k + 1), 0.4, balance) for k in range(size)]
        for field, expected in enumerate(whole):
            found = np.concatenate([step[field] for step in steps])
            np.testing.assert_array_equal(found, expected)
            by_process = np.concatenate([part[field] for part in parts])
            np.testing.assert_array_equal(by_process, steps[5][field])
    other = plan_batch(0, 42, CLIPS, 4, slice(None), 0.4, balance)
    assert other.clip.tolist() != whole.clip.tolist()
    shuffled = plan_batch(0, 42, CLIPS, 3, slice(None), 0.4)
    for name in ('place', 'start', 'weight', 'other_start'):  # the clips alone differ
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(whole, name))


def test_clips_without_labels_are_all_that_the_balanced_sampler_draws_if_no_clip_has_one() -> None:
    due = balanced_cases(np.zeros((7, 2), bool), 3)[0].reshape(3, 7)
    assert [sorted(epoch) for epoch in due] == [CLIPS.tolist()] * 3


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


def test_mixed_targets_of_several_labels_are_weighted_sums(tagged_dataset: Path) -> None:
    dataset = open_dataset(str(tagged_dataset))
    plan = plan_batch(0, 40, np.arange(40), 0, slice(None), mixup=1.0)
    assert plan.weight.min() < 200
    expected = [
        [
            (weight / 256) * (label in dataset.labels_of(clip))
            + (1 - weight / 256) * (label in dataset.labels_of(other))
            for label in dataset.labels
        ]
        for clip, weight, other in zip(plan.clip, plan.weight, plan.other, strict=True)
    ]
    np.testing.assert_allclose(targets(dataset, plan), expected, atol=1e-6)


def test_balanced_weights_of_several_labels_let_presence_and_absence_count_alike() -> None:
    has = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.uint8)
    absent, present = balanced_weights(has, 3)
    # Three of four lack the first label; none has the second, all have the third.
    np.testing.assert_allclose(absent, [2 / 3, 0.5, 0])
    np.testing.assert_allclose(present, [2, 0, 0.5])
    each = np.where(has, present, absent)
    np.testing.assert_allclose(each.mean(0), [1, 0.5, 0.5])
    assert (each * has).sum(0)[0] == pytest.approx((each * (1 - has)).sum(0)[0])


def test_numpy_and_a_device_mix_any_two_numbers_alike() -> None:
    one, other = (a.astype(np.uint8) for a in np.mgrid[:256, :256])
    by_device = jax.jit(mix)
    for weight in np.arange(128, 257, dtype=np.uint16):
        mixed = mix(one, other, weight)
        exact = (weight * one.astype(float) + (256 - weight) * other.astype(float)) / 256
        assert np.abs(mixed - exact).max() <= 0.5
        np.testing.assert_array_equal(by_device(one, other, weight), mixed)
        mix_in_place(in_place := one.copy(), other, weight, np.empty((2, 256, 256), np.uint16))
        np.testing.assert_array_equal(in_place, mixed)


def test_float32_is_mixed_in_place_to_the_bit() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 9, 5)).astype(np.float32)
    for weight in np.arange(128, 257, dtype=np.uint16):
        in_place = one.copy()
        mix_in_place(in_place, other.copy(), weight, np.empty((2, 9, 5), np.uint16))
        np.testing.assert_array_equal(in_place, mix(one, other, weight))


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
