import numpy as np
import pytest

from glr_jax.data.segments import crop, segment_starts, segments


def test_crops_reach_both_ends_of_a_clip_and_no_further() -> None:
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


@pytest.mark.parametrize('test_crops', [1, 2, 3, 8])
@pytest.mark.parametrize('length', [1000, 1292, 2600, 50_000])
def test_test_crops_cut_that_many_times_as_many_segments(length: int, test_crops: int) -> None:
    starts = segment_starts(length, 640, test_crops)
    assert len(starts) == test_crops * len(segment_starts(length, 640))
    assert starts[0] == 0
    assert len(starts) == 1 or starts[-1] == length - 640
    gaps = np.diff(starts)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    if test_crops > 1:
        assert gaps.max() <= 640  # no frame is left out


@pytest.mark.parametrize(('length', 'count'), [(3, 1), (640, 1), (641, 2), (643, 4), (900, 6)])
def test_no_segment_is_cut_twice(length: int, count: int) -> None:
    starts = segment_starts(length, 640, 6)
    assert len(set(starts)) == len(starts) == count
    assert segments(np.arange(length)[:, None], 640, 6).shape == (count, 640, 1)
