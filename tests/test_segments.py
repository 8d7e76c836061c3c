import numpy as np
import pytest

from glr_jax.data.segments import crop, segments


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
