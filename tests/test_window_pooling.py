"""Convolutions beside the statistics: pooled to windows as in NumPy float64."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glr_jax import input_statistics
from glr_jax.config import Config, DataConfig
from glr_jax.errors import UsageError
from glr_jax.nn import cost, window_pooling
from glr_jax.nn.model import Classifier, make_classifier
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import count_windows
from tests import reference, test_recipe
from tests.conftest import model_config
from tests.test_statistics_front import (
    FRAMES,
    LABELS,
    N_MELS,
    as_reference,
    bytes_of,
    compiled,
    dataset_of,
    draw,
    front_reference,
    logits_of,
    usual_statistics,
    values_of,
)

SMALL = model_config(
    front='both', projection=8, hidden=8, kernels=(8, 16), kernel_size=3, dropout=0.0
)


def small(**changes: Any) -> Classifier:
    """A small classifier with all its parameters drawn at random."""
    config = dataclasses.replace(SMALL, **changes)
    model = nnx.eval_shape(lambda: make_classifier(config, N_MELS, LABELS, seed=0))
    graph, state = nnx.split(model)
    rng = np.random.default_rng(1)
    for path, leaf in nnx.to_flat_state(state):
        value = draw(path, leaf.shape, rng, usual_statistics())
        leaf.set_value(jnp.asarray(value, jnp.float32))
    return nnx.merge(graph, state)


def modulation(x: np.ndarray) -> np.ndarray:
    """[T, C] to the magnitude spectrum in octaves: rates 1, 2-3, 4-7, ..."""
    time = len(x)
    taper = np.sin(np.pi * (np.arange(time) + 0.5) / time) ** 2
    magnitude = np.abs(np.fft.fft((x - x.mean(0)) * taper[:, None], axis=0))
    power = np.log1p(np.sqrt(magnitude**2 + 1e-8))
    octaves, low = [], 1
    while low <= time // 2:
        octaves.append(power[low : min(2 * low, time // 2 + 1)].mean(0))
        low *= 2
    return np.array(octaves).reshape(-1)


def pooled_reference(
    x: np.ndarray, layer: dict[str, Any], frames: int, window: int, hop: int, pooled: int
) -> np.ndarray:
    """[B, T', C] to [B, W, P], window by window."""
    rows = []
    for start in range(0, frames - window + 1, hop):
        first = start // pooled
        part = np.asarray(x[:, first : first + window // pooled], np.float64)
        assert part.shape[1] == window // pooled
        channels = part @ layer['channel_kernel']
        moments = np.concatenate([part.mean(1), np.sqrt(part.var(1) + 1e-6)], -1)
        rates = np.array([modulation(clip) for clip in channels]).reshape(len(x), -1)
        values = np.concatenate([moments, reference.covariance(channels), rates], -1)
        summed = reference.glr(values @ layer['kernel'], **layer['norm'])
        rows.append(
            0.5 * summed * (1 + np.tanh(np.sqrt(2 / np.pi) * (summed + 0.044715 * summed**3)))
        )
    return np.stack(rows, 1)


def conv_features(model: Classifier, mel: np.ndarray, **pools: Any) -> np.ndarray:
    state = values_of(model)
    x = (mel - state['mean'].astype(np.float64)) / state['deviation']
    for block, pool in zip(state['blocks'].values(), pools['pool'], strict=True):
        images = block['kernel'].ndim == 4
        x = x[..., None] if images and x.ndim == 3 else x
        summed = (reference.conv2d if images else reference.conv1d)(x, block['kernel'])
        x = reference.max_pool(np.maximum(reference.glr(summed, **block['norm']), 0), pool)
    return x.reshape(*x.shape[:2], -1)


def features_of(model: Classifier, mel: np.ndarray) -> np.ndarray:
    return np.asarray(compiled(lambda _, mel: model.features(mel))(0, mel.astype(np.float32)))


@pytest.mark.parametrize(
    ('changes', 'pool', 'pooled'),
    [
        ({}, (2, 2), 4),
        ({'pool': (3, 1)}, (3, 1), 3),
        ({'window': 70, 'window_hop': 11, 'kernels': (8,)}, (2,), 2),
        ({'conv': '2d', 'pool': (2, 4), 'pool_bands': (4, 8)}, ((2, 4), (4, 8)), 8),
    ],
)
def test_features_equal_the_reference(changes: dict[str, Any], pool: Any, pooled: int) -> None:
    model, mel = small(**changes), bytes_of(2)
    window, hop = changes.get('window', 64), changes.get('window_hop', 32)
    convolved = conv_features(model, mel, pool=pool)
    layer = values_of(model)['pooling']
    expected = [
        front_reference(model, mel, 'glr', window=window, hop=hop),
        pooled_reference(convolved, layer, FRAMES, window, hop, pooled),
    ]
    found = features_of(model, mel)
    assert found.shape == (2, count_windows(FRAMES, window, hop), 7 * 8)
    np.testing.assert_allclose(found, np.concatenate(expected, -1), atol=3e-3)


def test_logits_equal_the_reference() -> None:
    model, mel = small(cell='gru', bidirectional=True, readout='moments'), bytes_of(2)
    state = values_of(model)
    params = {'convs': [], 'output': state['output']}
    params |= {name: as_reference(state[name]) for name in ('recurrent', 'backward')}
    expected = reference.forward(
        params, features_of(model, mel), norm='glr', cell='gru', readout='moments'
    )
    np.testing.assert_allclose(logits_of(model, mel), expected, atol=1e-4)


@pytest.mark.parametrize('pool', [(1,), (8,)])  # 64 positions per window, and 1
@pytest.mark.slow
def test_gradients_are_finite_also_in_silence(pool: tuple[int, ...]) -> None:
    model = small(kind='cnn', readout='covariance', pool=pool)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    loss = lambda params, mel: (nnx.merge(graph, params, rest, copy=True)(mel) ** 2).sum()
    gradient = compiled(lambda _, params, mel: jax.grad(loss)(params, mel))
    for mel in (bytes_of(2), np.zeros((2, 64, N_MELS), np.uint8)):
        leaves = jax.tree.leaves(gradient(0, params, jnp.asarray(mel)))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
    found = dict(nnx.to_flat_state(gradient(0, params, jnp.asarray(bytes_of(2)))))
    # A single position has neither covariance nor modulation.
    assert np.any(found['pooling', 'channel_kernel'][...]) == (pool == (1,))
    assert np.any(found['blocks', 0, 'kernel'][...])


@pytest.mark.parametrize('norm', ['glr', 'glr_layer', 'glr_step', 'batch', 'group', 'none'])
def test_logits_of_a_clip_do_not_depend_on_its_batch_mates(norm: str) -> None:
    model = small(norm=norm, kind='cnn', readout='moments', kernels=(8,))
    mel, others = bytes_of(2), bytes_of(2, seed=5)
    others[0] = mel[0]
    model.train()
    difference = np.abs(logits_of(model, mel) - logits_of(model, others))
    assert difference[1].max() > 0.1
    assert (difference[0].max() < 1e-5) == (norm != 'batch')


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['glr_step', 'glr_layer'])
def test_devices_and_micro_batches_change_nothing(norm: str) -> None:
    config = dataclasses.replace(
        SMALL, norm=norm, pass_level=True, readout='covariance', kernels=(8,), front_dropout=0.2
    )
    states = []
    for devices, accumulate in ((1, 1), (2, 2)):
        options = {'devices': devices, 'accumulate': accumulate, 'frames': 100}
        *_, state = test_recipe.steps(2, config, **options)
        states.append(state.params)
    assert test_recipe.differ(*states) < 1e-5
    level = dict(nnx.to_flat_state(states[0]))['recurrent', 'mean_weight'][...]
    start = dict(nnx.to_flat_state(test_recipe.weights(config)[1]))['recurrent', 'mean_weight'][...]
    assert np.abs(level - start).max() > 1e-4


@pytest.mark.parametrize(
    ('length', 'octaves'),
    [
        (1, []),
        (2, [(1, 2)]),
        (3, [(1, 2)]),
        (7, [(1, 2), (2, 4)]),
        (16, [(1, 2), (2, 4), (4, 8), (8, 9)]),
        (70, [(1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 36)]),
    ],
)
def test_octaves_cover_all_rates(length: int, octaves: list[tuple[int, int]]) -> None:
    assert window_pooling._octaves(length) == octaves
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, length, 5)), jnp.float32)
    found = window_pooling.modulation(x)
    assert found.shape == (2, 5 * len(octaves))
    expected = np.array([modulation(np.asarray(clip, np.float64)) for clip in x])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_slow_change_is_in_a_low_octave_and_a_fast_one_in_a_high() -> None:
    wave = lambda cycles: np.sin(2 * np.pi * cycles * np.arange(32) / 32)
    x = jnp.asarray(np.stack([wave(1.0), wave(11.0)], -1)[None], jnp.float32)
    slow, fast = np.asarray(window_pooling.modulation(x)).reshape(5, 2).T
    assert (slow.argmax(), fast.argmax()) == (0, 3)


def test_parameters_and_flops_equal_counts_by_hand() -> None:
    flags = {'cell': 'gru', 'hidden': 64, 'bidirectional': True, 'readout': 'moments'}
    config = model_config(front='both', **flags)
    # 16 positions per window: 128 means, 128 deviations, 136 pairs, 4 octaves of 16 channels.
    values, features = 2 * 128 + 136 + 4 * 16, 7 * 48
    pooled = 128 * 16 + values * 48 + 2 * 48
    statistics = 2064 * 48 + 6 * 2 * 48
    recurrent = 2 * 3 * (features * 64 + 64 * 64 + 2 * 64)
    convolutions = 2 * (5 * 128 * 128 + 256)
    assert cost.parameters(config, n_mels=128, num_labels=10) == (
        convolutions + pooled + statistics + recurrent + 2 * (128 + features) * 10 + 10
    )
    products = 640 * 5 * 128 * 128 + 320 * 5 * 128 * 128 + 160 * 128 * 16
    products += 19 * (2064 * 48 + values * 48 + 2 * (features + 64) * 3 * 64)
    products += 2 * (128 + features) * 10
    assert cost.flops(config, n_mels=128, num_labels=10, frames=640) == 2 * products


@pytest.mark.slow
def test_the_statistics_beside_convolutions_are_fitted_to_the_training_clips() -> None:
    mels, states = list(bytes_of(3)), []
    default = model_config()
    alone = {'kernels': default.kernels, 'kernel_size': default.kernel_size}
    for changes in ({'front': 'both'}, {'front': 'statistics', **alone}):
        model = small(kind='cnn', **changes)
        input_statistics.fit_input_statistics(model, dataset_of(mels), np.arange(3), FRAMES)
        states.append(values_of(model))
    for name in GROUPS:
        for key in ('means', 'deviations'):
            one, other = (state['front'][key][name] for state in states)
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(states[0]['mean'], states[1]['mean'])


def test_configs_that_cannot_work_are_refused() -> None:
    Config(data=DataConfig(frames=64), model=SMALL)
    with pytest.raises(UsageError, match=r'--data\.frames=63 is less than --model\.window=64'):
        Config(data=DataConfig(frames=63), model=SMALL)
    with pytest.raises(UsageError, match=r'--model\.front=both needs --model\.kind=crnn or cnn'):
        model_config(front='both', kind='rnn')
    model_config(front='both', pool=(8,))
    with pytest.raises(UsageError, match=r'--model\.window=64 is less than the 81 frames that --m'):
        model_config(front='both', pool=(9,))
    with pytest.raises(UsageError, match=r'multiple of 8 .* not 20 .*--model\.projection'):
        model_config(front='both', norm='group', projection=20)
    with pytest.raises(UsageError, match=r'multiple of 8 .* not 20 .*--model\.projection'):
        model_config(front='both', norm='group', kernels=(20, 8))
    with pytest.raises(UsageError, match=r'--model\.pool reduces the mel bands 4-fold'):
        model_config(front='both', conv='2d').check_bands(3)
