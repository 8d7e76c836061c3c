"""Augmentation: each change against its formula for given draws, and the draws by their limits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glr_jax.config import AugmentConfig
from glr_jax.nn import augment as changes
from glr_jax.nn.augment import augment

TIME, MELS = 40, 24
MEAN = np.linspace(100, 140, MELS, dtype=np.float32)
SPREAD = np.float32(50)
ALL = AugmentConfig(
    time_masks=2, band_masks=1, equalizer=0.2, level=0.1, stretch=0.2, pitch=0.1, shortest=0.5
)
EACH = [
    {'time_masks': 1},
    {'band_masks': 1},
    {'equalizer': 0.2},
    {'level': 0.1},
    {'stretch': 0.2},
    {'pitch': 0.1},
    {'shortest': 0.5},
]
by_name = pytest.mark.parametrize('switch', EACH, ids=lambda switch: next(iter(switch)))


def batch_of(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, TIME, MELS), np.uint8)


def keys_of(size: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.arange(size))


def changed(mel: np.ndarray, **switches: Any) -> np.ndarray:
    config = AugmentConfig(**switches)
    run = jax.jit(
        lambda mel, keys: augment(mel, keys, jnp.asarray(MEAN), jnp.asarray(SPREAD), config)
    )
    return np.asarray(run(mel, keys_of(len(mel))))


# ---------------------------------------------------------------- switches
def test_nothing_changes_by_default() -> None:
    mel = batch_of(3)
    np.testing.assert_array_equal(changed(mel), mel)
    np.testing.assert_array_equal(changed(mel, time_mask=0.5, band_mask=0.5), mel)


@by_name
def test_each_switch_changes_every_case_differently(switch: dict[str, Any]) -> None:
    mel = np.repeat(batch_of(1), 20, 0)
    found = changed(mel, **switch)
    assert found.dtype == np.float32
    assert (found != mel).any((1, 2)).sum() >= 12  # a mask may have width 0
    assert len(np.unique(found, axis=0)) >= 12


@by_name
def test_a_case_does_not_depend_on_the_others_in_its_batch(switch: dict[str, Any]) -> None:
    mel = batch_of(4)
    np.testing.assert_allclose(changed(mel, **switch)[:2], changed(mel[:2], **switch), rtol=1e-6)


def test_a_switch_leaves_the_draws_of_the_others_as_they_are() -> None:
    mel = np.float32(batch_of(4))
    both = changed(mel, level=0.1, equalizer=0.2)
    parts = (changed(mel, level=0.1) - mel) + (changed(mel, equalizer=0.2) - mel)
    np.testing.assert_allclose(both - mel, parts, atol=1e-3)
    whole, masks = changed(mel, **dataclasses.asdict(ALL)), changed(mel, time_masks=2)
    hidden = (masks == MEAN).all(2)
    assert hidden.any()
    np.testing.assert_array_equal(whole[hidden], masks[hidden])


# ---------------------------------------------------------------- masks
@pytest.mark.parametrize('largest', [0.1, 0.5, 1.0])
def test_masks_cover_a_random_range_of_a_random_width(largest: float) -> None:
    most, seen = round(largest * TIME), np.zeros(TIME, bool)
    for width, start in np.random.default_rng(2).random((200, 2)):
        found = np.asarray(changes.masked(jnp.float32([[width], [start]]), TIME, largest))
        expected = np.zeros(TIME, bool)
        size = int(width * (most + 1))
        first = int(start * (TIME - size + 1))
        expected[first : first + size] = True
        np.testing.assert_array_equal(found, expected)
        seen |= found
    assert seen.all()


def test_the_largest_draw_stays_within_its_limits() -> None:
    almost = jnp.float32([[1 - 2**-23], [1 - 2**-23]])
    assert np.flatnonzero(changes.masked(almost, TIME, 0.5)).tolist() == list(range(20, TIME))
    first, length = changes.part_of(almost[:, 0], 10**6, 0.5)
    assert (first, length) == (0, 10**6)


def test_several_masks_cover_all_their_ranges() -> None:
    rng = np.random.default_rng(3)
    uniform = jnp.asarray(rng.random((2, 5)), jnp.float32)
    one_by_one = [changes.masked(uniform[:, k : k + 1], TIME, 0.2) for k in range(5)]
    found = changes.masked(uniform, TIME, 0.2)
    np.testing.assert_array_equal(found, np.any(one_by_one, 0))


def test_masked_frames_and_bands_become_the_means_of_the_training_clips() -> None:
    mel = batch_of(8)
    frames = changed(mel, time_masks=1, time_mask=0.5)
    hidden = (frames == MEAN).all(2)
    assert 0 < hidden.mean() < 0.5
    np.testing.assert_array_equal(frames[~hidden], mel[~hidden])
    bands = changed(mel, band_masks=1, band_mask=0.5).swapaxes(1, 2)
    hidden = (bands == MEAN[:, None]).all(2)
    assert 0 < hidden.mean() < 0.5
    np.testing.assert_array_equal(bands[~hidden], mel.swapaxes(1, 2)[~hidden])


# ---------------------------------------------------------------- gains
def test_the_equalizer_curve_is_a_sum_of_cosines() -> None:
    weights = np.random.default_rng(1).standard_normal(4)
    bands = (np.arange(MELS) + 0.5) / MELS
    expected = sum(w * np.cos(np.pi * k * bands) for k, w in enumerate(weights, 1)) / np.sqrt(2)
    found = np.float64(changes.equalizer_curve(jnp.float32(weights), MELS))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert np.mean(found**2) == pytest.approx(np.mean(weights**2), rel=1e-4)


def test_the_equalizer_is_constant_in_time_and_the_level_in_the_bands_too() -> None:
    mel = np.float32(batch_of(1000))
    gain = changed(mel, equalizer=0.2) - mel
    np.testing.assert_allclose(gain, np.repeat(gain[:, :1], TIME, 1), atol=1e-3)
    assert gain[:, 0].std() == pytest.approx(0.2 * SPREAD, rel=0.05)
    assert np.diff(gain[:, 0]).std() < 0.5 * gain.std()
    level = changed(mel, level=0.1) - mel
    np.testing.assert_allclose(level, np.broadcast_to(level[:, :1, :1], mel.shape), atol=1e-3)
    assert level[:, 0, 0].std() == pytest.approx(0.1 * SPREAD, rel=0.1)


# ---------------------------------------------------------------- tempo, pitch, crops
@pytest.mark.parametrize('factor', [0.8, 1.0, 1.37])
@pytest.mark.parametrize(('first', 'length'), [(0, TIME), (7, 25), (39, 1)])
def test_stretching_interpolates_a_part_that_repeats(
    factor: float, first: int, length: int
) -> None:
    mel = jnp.float32(batch_of(1)[0])
    found = changes.stretch(mel, jnp.float32(factor), jnp.int32(first), jnp.int32(length))
    endless = np.tile(np.float64(mel[first : first + length]), (3 * TIME, 1))
    at = np.arange(TIME) * np.float64(np.float32(factor))
    expected = [np.interp(at, np.arange(len(endless)), band) for band in endless.T]
    np.testing.assert_allclose(found, np.transpose(expected), atol=0.01)


@pytest.mark.parametrize('factor', [0.7, 1.0, 1.3])
def test_a_ramp_stays_a_ramp_of_another_slope(factor: float) -> None:
    ramp = jnp.arange(TIME, dtype=jnp.float32)[:, None] + jnp.zeros((1, MELS))
    whole = jnp.int32(0), jnp.int32(TIME)
    found = changes.stretch(ramp, jnp.float32(factor), *whole)[: int(TIME / 1.4)]
    np.testing.assert_allclose(found, factor * ramp[: len(found)], rtol=1e-5)
    ramp = jnp.arange(MELS, dtype=jnp.float32) + jnp.zeros((TIME, 1))
    found = changes.scale_bands(ramp, jnp.float32(factor))
    np.testing.assert_allclose(found, np.minimum(factor * ramp, MELS - 1), rtol=1e-5)


def test_a_factor_of_one_changes_no_bit() -> None:
    mel, one = jnp.float32(batch_of(1)[0]) / 7, jnp.float32(1)
    whole = jnp.int32(0), jnp.int32(TIME)
    np.testing.assert_array_equal(changes.stretch(mel, one, *whole), mel)
    np.testing.assert_array_equal(changes.scale_bands(mel, one), mel)
    np.testing.assert_array_equal(changes.repeat(mel, *whole), mel)


def test_a_part_is_repeated_until_it_fills_the_segment() -> None:
    mel = jnp.float32(batch_of(1)[0])
    found = changes.repeat(mel, jnp.int32(5), jnp.int32(13))
    np.testing.assert_array_equal(found, np.resize(mel[5:18], mel.shape))


@pytest.mark.parametrize(('shortest', 'at_least'), [(0.5, 20), (0.01, 1), (0.99, 40), (1.0, 40)])
def test_parts_have_any_length_from_the_shortest_and_lie_within(
    shortest: float, at_least: int
) -> None:
    uniform = jnp.asarray(np.random.default_rng(4).random((2000, 2)), jnp.float32)
    first, length = jax.vmap(lambda one: changes.part_of(one, TIME, shortest))(uniform)
    assert (length.min(), length.max()) == (at_least, TIME)
    assert first.min() == 0
    assert (first + length).max() == TIME


def test_factors_are_uniform_on_a_logarithmic_scale() -> None:
    found = changes.factor_of(jnp.float32([0, 0.25, 0.5, 1]), 0.25)
    np.testing.assert_allclose(found, [0.8, 1 / np.sqrt(1.25), 1, 1.25], rtol=1e-6)


# ---------------------------------------------------------------- draws
def test_draws_are_uniform_or_normal_and_independent() -> None:
    draws = jax.device_get(jax.jit(jax.vmap(changes.draw))(keys_of(4000)))
    columns = [np.float64(x).reshape(4000, -1) for x in draws]
    for uniform in columns[:5]:
        assert 0 <= uniform.min() < 0.001
        assert 0.999 < uniform.max() < 1
        np.testing.assert_allclose(uniform.mean(0), 0.5, atol=0.03)
    for normal in columns[5:]:
        np.testing.assert_allclose(normal.mean(0), 0, atol=0.08)
        np.testing.assert_allclose(normal.std(0), 1, atol=0.06)
    correlation = np.corrcoef(np.concatenate(columns, 1).T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.1
