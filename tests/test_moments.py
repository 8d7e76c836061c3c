"""Moments of windows that are put together from blocks, against NumPy float64."""

import functools

import jax
import numpy as np
import pytest

from glr_jax.nn import moments

# Windows of one block and of several, apart and overlapping; a rest; blocks too short to share.
CASES = [(384, 64, 64), (384, 384, 64), (384, 128, 64), (200, 96, 32), (130, 100, 30), (99, 70, 11)]


def music(frames: int) -> np.ndarray:
    steps = np.random.default_rng(frames).standard_normal((2, frames, 5))
    return (30 + 2 * np.cumsum(steps, 1) + 3 * steps).astype(np.float32)


def windows(x: np.ndarray, window: int, hop: int) -> np.ndarray:
    """[clips, windows, frames, features] in float64."""
    starts = range(0, x.shape[1] - window + 1, hop)
    return np.stack([x[:, k : k + window] for k in starts], 1).astype(np.float64)


def covariances(x: np.ndarray) -> np.ndarray:
    of_clip = lambda clip: np.stack([np.cov(one, rowvar=False) for one in clip])
    return np.stack([of_clip(clip) for clip in x])


@pytest.mark.parametrize(('frames', 'window', 'hop'), CASES)
def test_moments_of_windows_equal_those_of_their_frames(frames: int, window: int, hop: int) -> None:
    x = music(frames)
    expected, cut = windows(x, window, hop), moments.shared_blocks(window, hop)
    changes = np.diff(expected, axis=2)

    @jax.jit
    def compute(x: jax.Array) -> tuple:
        return (
            *moments.mean_and_deviation(x, cut),
            moments.mean_and_covariance(x, cut)[1],
            moments.covariance_of_changes(x, cut),
            moments.mean_change(x, cut),
            *moments.extremes(x, cut),
        )

    mean, deviation, covariance, of_changes, change, high, low = compute(x)
    close = lambda found, expected: np.testing.assert_allclose(found, expected, 1e-4, 1e-4)
    close(mean, expected.mean(2))
    close(deviation, np.sqrt(expected.var(2, ddof=1) + 1e-6))
    close(covariance, covariances(expected))
    close(of_changes, covariances(changes))
    close(change, np.abs(changes).mean(2))
    close(high, expected.max(2))
    close(low, expected.min(2))


def test_a_window_does_not_depend_on_the_frames_after_it() -> None:
    x, cut = music(128), moments.shared_blocks(64, 64)
    x[:, :64] = 0
    for function in (moments.mean_change, moments.covariance_of_changes):
        found = jax.jit(functools.partial(function, cut=cut))(x)
        np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)  # a change is taken away again
        assert np.asarray(found[:, 1]).max() > 1


@pytest.mark.parametrize('stored', [np.uint8, np.int8, np.int16])
def test_integers_and_floats_have_the_same_extremes_and_changes(stored: type) -> None:
    limits = np.iinfo(stored)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, (2, 192, 5), stored)
    cut = moments.shared_blocks(128, 64)

    @jax.jit
    def compute(x: jax.Array) -> tuple:
        return moments.mean_change(x, cut), *moments.extremes(x, cut)

    for of_integers, of_floats in zip(compute(x), compute(x.astype(np.float32)), strict=True):
        np.testing.assert_array_equal(of_integers, of_floats)
