import itertools
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from glr_jax.data.batches import crop, mix, plan, prefetch, read, runs, segments
from glr_jax.data.dataset import open_dataset

CLIPS = np.array([3, 5, 8, 13, 21, 34, 55])


def clips_of_steps(steps: int, batch_size: int, seed: int = 0) -> list[int]:
    batches = [plan(s, batch_size, CLIPS, seed, slice(None)).clip for s in range(steps)]
    return [int(clip) for batch in batches for clip in batch]


@pytest.mark.parametrize('batch_size', [1, 3, 7, 16])
def test_every_clip_is_used_once_an_epoch_and_none_is_dropped(batch_size: int) -> None:
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


def test_the_parts_of_processes_make_up_the_batch() -> None:
    whole = plan(5, 8, CLIPS, 0, slice(None))
    parts = [plan(5, 8, CLIPS, 0, slice(k, k + 2)) for k in (0, 2, 4, 6)]
    for field, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[field] for part in parts]), expected)


def test_a_place_is_the_case_number_in_the_whole_run() -> None:
    np.testing.assert_array_equal(plan(5, 8, CLIPS, 0, slice(None)).place, np.arange(40, 48))


def test_mixtures_are_led_by_the_clip_that_is_due() -> None:
    plain, mixed = (plan(0, 7, CLIPS, 0, slice(None), mixup) for mixup in (0.0, 0.4))
    assert plain.share.tolist() == [256] * 7
    np.testing.assert_array_equal(mixed.clip, plain.clip)
    assert 128 <= mixed.share.min() < 250
    assert sorted(mixed.other) == CLIPS.tolist()


def test_a_mixture_has_its_shares_of_both_spectrograms_and_labels(prepared: Path) -> None:
    dataset = open_dataset(str(prepared))
    both = plan(0, 8, np.arange(len(dataset)), 0, slice(None), mixup=1.0)
    batch = read(dataset, both, 5)
    both = both._replace(share=both.share / 256)
    for case, (clip, start, share, other, other_start) in enumerate(zip(*both[1:], strict=True)):
        one, two = crop(dataset.mel(clip), 5, start), crop(dataset.mel(other), 5, other_start)
        np.testing.assert_allclose(batch.mel[case], share * one + (1 - share) * two, atol=0.501)
        target = np.zeros(3)
        target[dataset.targets[clip]] += share
        target[dataset.targets[other]] += 1 - share
        np.testing.assert_allclose(batch.target[case], target, atol=1e-6)
    assert batch.mel.dtype == np.uint8


def test_numpy_and_a_device_mix_every_two_numbers_alike() -> None:
    one, other = (a.astype(np.uint8) for a in np.mgrid[:256, :256])
    by_device = jax.jit(mix)
    for share in np.arange(128, 257, dtype=np.uint16):
        mixed = mix(one, other, share)
        exact = (share * one.astype(float) + (256 - share) * other.astype(float)) / 256
        assert np.abs(mixed - exact).max() <= 0.5
        np.testing.assert_array_equal(by_device(one, other, share), mixed)


@pytest.mark.parametrize(('batch_size', 'clips'), [(4, 22), (4, 24), (5, 7), (9, 7)])
@pytest.mark.parametrize('at_most', [1, 3, 100])
@pytest.mark.parametrize('done', [0, 5])
def test_runs_have_two_lengths_and_end_with_epochs(
    batch_size: int, clips: int, at_most: int, done: int
) -> None:
    steps = -(-4 * clips // batch_size)
    found = list(runs(done, steps, batch_size, clips, at_most))
    assert list(itertools.chain(*found)) == list(range(done, steps))
    assert {len(run) for run in found} <= {1, max(1, min(at_most, clips // batch_size))}
    for run in found:
        epochs = [first * batch_size // clips for first in run]
        assert len(set(epochs)) == 1


def test_an_epoch_is_one_run_where_it_is_short() -> None:
    assert list(runs(0, 12, 4, 24, 16)) == [range(6), range(6, 12)]


def test_crops_reach_both_ends_and_never_past_them() -> None:
    mel = np.arange(20)[:, None]
    assert crop(mel, 6, 0.0)[0] == 0
    assert crop(mel, 6, np.nextafter(1, 0))[-1] == 19
    assert {len(crop(mel, 6, start)) for start in np.linspace(0, 0.999, 50)} == {6}


def test_a_short_clip_is_repeated() -> None:
    np.testing.assert_array_equal(crop(np.arange(3)[:, None], 8, 0.7)[:, 0], [0, 1, 2] * 2 + [0, 1])


@pytest.mark.parametrize(('length', 'count'), [(5, 1), (640, 1), (900, 1), (1292, 2), (2600, 4)])
def test_segments_cover_a_clip_from_end_to_end(length: int, count: int) -> None:
    mel = np.arange(length)[:, None]
    parts = segments(mel, 640)
    assert parts.shape == (count, 640, 1)
    if length >= 640:
        assert parts[0][0] == 0
        assert count == 1 or parts[-1][-1] == length - 1


def test_prefetching_keeps_the_order_whatever_takes_long() -> None:
    def make(step: int) -> int:
        time.sleep(0.02 * (step % 3 == 0))
        return step

    assert list(prefetch(make, range(4, 20))) == list(range(4, 20))


def test_an_error_while_reading_ahead_reaches_the_loop_at_its_step() -> None:
    def make(step: int) -> int:
        return step if step < 3 else 1 // 0

    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(prefetch(make, range(10)))
    assert seen == [0, 1, 2]


def test_no_more_is_read_ahead_than_asked() -> None:
    made: Counter[int] = Counter()
    items = prefetch(lambda step: made.update([step]), range(100), ahead=3)
    next(items)
    time.sleep(0.1)
    assert len(made) <= 5
    items.close()
