"""The statistics of windows against NumPy float64, and their properties."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from glr_jax.nn import statistics as module

SIZES = {'cepstra': 24 + 300, 'delta': 300, 'modulation': 12 * 32, 'texture': 8 * 16 * 3}
SIZES |= {'contrast': 2 * 16}
RATES = (0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 24, 32)
PATCH_RATES = (0, 1, 2, 3, 4, 6, 8, 12, 17)
PATCH_SCALES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 21, 24, 26, 28, 29, 30, 31, 32)
compute = jax.jit(module.statistics)


@jax.jit
def gradient(x: jax.Array) -> jax.Array:
    def total(x: jax.Array) -> jax.Array:
        return sum((jnp.sum(values) for values in module.statistics(x).values()), jnp.zeros(()))

    return jax.grad(total)(x)


def music(frames: int, bands: int, clips: int = 3) -> np.ndarray:
    """Decibels that wander in time and from band to band."""
    steps = np.random.default_rng(frames + bands).standard_normal((clips, frames, bands))
    wander = np.cumsum(steps, 1) + np.cumsum(steps[..., ::-1], 2)
    return (30 + 2 * wander + 3 * steps).clip(0, 80).astype(np.float32)


# ---------------------------------------------------------------- the reference, for one window
def resample(x: np.ndarray, count: int) -> np.ndarray:
    return np.repeat(x, count, 1).reshape(len(x), count, -1).mean(2)


def averaged(x: np.ndarray, edges: tuple[int, ...], axis: int) -> np.ndarray:
    parts = [np.take(x, range(*pair), axis).mean(axis) for pair in itertools.pairwise(edges)]
    return np.stack(parts, axis)


def roots(x: np.ndarray) -> np.ndarray:
    upper = np.cov(x, rowvar=False)[np.triu_indices(x.shape[1])]
    return np.sign(upper) * (np.sqrt(np.abs(upper) + 1e-6) - 1e-3)


def reference(x: np.ndarray) -> dict[str, np.ndarray]:
    """The six groups of one window [frames, bands]."""
    x = x.astype(np.float64)
    change = np.abs(x[1:] - x[:-1]).mean(0)
    cepstra = scipy.fft.dct(resample(x, 32), norm='ortho')[:, :24]
    hann = np.hanning(65)[:-1, None]
    spectra = []
    for start in range(0, len(x) - 63, 32):
        window = resample(x, 32)[start : start + 64]
        spectrum = np.fft.rfft((window - window.mean(0)) * hann, axis=0)
        spectra.append(np.log1p(np.abs(spectrum[1:])))
    modulation = averaged(np.mean(spectra, 0), RATES, 0)
    taper = np.outer(np.hanning(33)[:-1], np.hanning(33)[:-1])
    registers = []
    for lowest in (0, 16, 32):
        powers = []
        for start in range(0, len(x) - 31, 16):
            patch = resample(x, 64)[start : start + 32, lowest : lowest + 32]
            spectrum = np.fft.fft2((patch - patch.mean()) * taper)[:17]
            powers.append(np.log1p(np.abs(spectrum)))
        rates = averaged(np.mean(powers, 0), PATCH_RATES, 0)
        registers.append(averaged(rates, PATCH_SCALES, 1))
    spread = np.ptp(resample(x, 128).reshape(len(x), 16, 8), axis=2)
    return {
        'levels': np.concatenate([x.mean(0), x.std(0, ddof=1), change, x.max(0), x.min(0)]),
        'cepstra': np.concatenate([cepstra.mean(0), roots(cepstra)]),
        'delta': roots(np.diff(cepstra, axis=0)),
        'modulation': modulation.T.ravel(),
        'texture': np.stack(registers).ravel(),
        'contrast': np.concatenate([spread.mean(0), spread.std(0, ddof=1)]),
    }


@pytest.mark.parametrize(('frames', 'bands'), [(64, 16), (100, 80), (64, 128), (100, 200)])
def test_every_group_is_as_in_the_reference(frames: int, bands: int) -> None:
    x = music(frames, bands)
    found = jax.device_get(compute(x))
    assert set(found) == set(module.GROUPS)
    for clip, window in enumerate(x):
        for name, expected in reference(window).items():
            assert len(expected) == SIZES.get(name, 5 * bands)
            np.testing.assert_allclose(found[name][clip], expected, 1e-4, 2e-3, err_msg=name)


def test_the_statistics_of_a_window_do_not_depend_on_its_batch_mates() -> None:
    x = music(100, 80)
    mates = x.copy()
    mates[1:] = 80 - x[:2]
    found, again = jax.device_get((compute(x), compute(mates)))
    for name in module.GROUPS:
        np.testing.assert_array_equal(found[name][0], again[name][0], err_msg=name)


def one_band(x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.shape[2]) == 5, x, 0).astype(np.float32)


@pytest.mark.parametrize(
    'make',
    [np.zeros_like, partial(np.full_like, fill_value=80), np.sign, one_band],
    ids=['silence', 'constant', 'two values', 'one band'],
)
def test_values_and_gradients_of_odd_windows_are_finite(make: partial) -> None:
    x = make(music(64, 16))
    for name, values in jax.device_get(compute(x)).items():
        assert np.isfinite(values).all(), name
    assert np.isfinite(gradient(x)).all()


def test_the_level_of_a_window_changes_its_means_only() -> None:
    x = music(64, 16)
    found, louder = jax.device_get((compute(x), compute(x + 10)))
    for name in ('delta', 'modulation', 'texture', 'contrast'):
        np.testing.assert_allclose(found[name], louder[name], 1e-3, 5e-3, err_msg=name)
    np.testing.assert_allclose(found['levels'][:, :16] + 10, louder['levels'][:, :16], 1e-5)
    np.testing.assert_allclose(found['levels'][:, 16:48], louder['levels'][:, 16:48], 1e-3)
