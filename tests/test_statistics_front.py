"""The front end of statistics against NumPy float64, and the statistics that it standardises by."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glr_jax import input_statistics
from glr_jax.config import Config, DataConfig
from glr_jax.data.dataset import Dataset, band_statistics
from glr_jax.data.segments import segments
from glr_jax.errors import UsageError
from glr_jax.nn.dropout import dropout
from glr_jax.nn.model import Classifier, make_classifier
from glr_jax.nn.statistics import GROUPS
from glr_jax.nn.statistics_front import count_windows
from tests import reference
from tests.conftest import make_dataset, model_config
from tests.test_statistics import reference as statistics_of

N_MELS, FRAMES, LABELS = 32, 130, 3  # three windows, and two frames that are in none
SMALL = model_config(front='statistics', projection=8, hidden=8, dropout=0.0)
NORMS = ('glr', 'glr_layer', 'batch', 'group', 'none')


def bytes_of(clips: int, frames: int = FRAMES, seed: int = 3) -> np.ndarray:
    """Spectrograms that wander in time and from band to band, as stored."""
    steps = np.random.default_rng(seed).standard_normal((clips, frames, N_MELS))
    wander = np.cumsum(steps, 1) + np.cumsum(steps[..., ::-1], 2)
    return (120 + 6 * wander + 10 * steps).clip(0, 255).astype(np.uint8)


def raw_statistics(mel: np.ndarray, spread: float, window: int = 64, hop: int = 32) -> Any:
    """{group: [clips, windows, values]} in float64."""
    starts = range(0, mel.shape[1] - window + 1, hop)
    scaled = mel.astype(np.float64) * 15 / spread
    found = [[statistics_of(x[start : start + window]) for start in starts] for x in scaled]
    return {name: np.array([[one[name] for one in clip] for clip in found]) for name in GROUPS}


@functools.cache
def usual_statistics() -> Any:
    return raw_statistics(bytes_of(2, seed=9), spread=50)


def small(**changes: Any) -> Classifier:
    """A small classifier, its weights drawn at random, its statistics near those of `bytes_of`."""
    # Its own initial weights would take seconds to compile.
    config = dataclasses.replace(SMALL, **changes)
    model = nnx.eval_shape(lambda: make_classifier(config, N_MELS, LABELS, seed=0))
    graph, state = nnx.split(model)
    rng = np.random.default_rng(1)
    usual = usual_statistics()
    for path, leaf in nnx.to_flat_state(state):
        leaf.set_value(jnp.asarray(draw(path, leaf.shape, rng, usual), jnp.float32))
    return nnx.merge(graph, state)


def draw(path: tuple, shape: tuple[int, ...], rng: np.random.Generator, usual: Any) -> Any:
    noise = rng.standard_normal(shape)
    names = '/'.join(map(str, path))
    if names in ('mean', 'deviation'):
        return 120 + 5 * noise if names == 'mean' else np.full(shape, 50.0)
    if 'means' in path:
        return usual[path[-1]].mean((0, 1))
    if 'deviations' in path:  # so small that some statistics are clipped
        return usual[path[-1]].std((0, 1)) * rng.uniform(0.3, 1.5, shape) + 0.05
    if 'kernel' in names:
        return noise / np.sqrt(shape[0])
    return 0.2 * noise + (path[-1] in ('gain', 'scale', 'var'))


def values_of(model: Classifier) -> Any:
    """All parameters and statistics, as NumPy arrays."""
    return jax.device_get(nnx.to_pure_dict(nnx.state(model)))


def front_reference(
    model: Classifier, mel: np.ndarray, norm: str, front: str = 'front', **window: int
) -> np.ndarray:
    """The features of each window: [clips, windows, 6 * projection]."""
    state = values_of(model)
    deviation, front = state['deviation'].astype(np.float64), state[front]
    statistics = raw_statistics(mel, np.sqrt(np.mean(deviation**2)), **window)
    function = {'glr': reference.glr, 'none': reference.bias_only}[norm]
    features = []
    for name in GROUPS:
        x = (statistics[name] - front['means'][name]) / front['deviations'][name]
        assert 0.5 < np.mean(np.abs(x) < 6) < 1  # clipping plays a part, but not the main one
        summed = np.clip(x, -6, 6) @ front['kernels'][name].astype(np.float64)
        a = function(summed, **front['norms'][name])
        features.append(0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))))
    return np.concatenate(features, -1)


def as_reference(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of a recurrent layer in the reference's shapes."""
    kernel = layer['hidden_kernel']
    return layer | {'hidden_kernel': kernel.reshape(len(kernel), -1)}


# Optimising the machine code would take half of the test's time.
compiled = functools.partial(
    jax.jit, compiler_options={'xla_backend_optimization_level': '0'}, static_argnums=0
)


@compiled
def apply(graph: nnx.GraphDef, state: nnx.State, mel: jax.Array) -> jax.Array:
    return nnx.merge(graph, state)(mel)


def logits_of(model: Classifier, mel: np.ndarray) -> np.ndarray:
    return np.asarray(apply(*nnx.split(model), jnp.asarray(mel)))


def test_features_of_other_windows_equal_the_reference() -> None:
    model, mel = small(window=70, window_hop=11), bytes_of(2)
    found = compiled(lambda _, mel: model.front(mel, model.spread()))(0, mel.astype(np.float32))
    expected = front_reference(model, mel, 'glr', window=70, hop=11)
    assert found.shape == (2, count_windows(FRAMES, 70, 11), 6 * 8)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(
    ('norm', 'changes'),
    [
        ('glr', {'cell': 'gru', 'bidirectional': True, 'readout': 'moments'}),
        ('none', {'bidirectional': True, 'readout': 'last'}),  # moments know no order in time
        ('none', {'kind': 'cnn', 'readout': 'moments'}),
    ],
)
def test_logits_equal_the_reference(norm: str, changes: dict[str, Any]) -> None:
    model, mel = small(norm=norm, **changes), bytes_of(4)
    state = values_of(model)
    params = {'convs': [], 'output': state['output']}
    layers = [name for name in ('recurrent', 'backward') if name in state]
    params |= {name: as_reference(state[name]) for name in layers}
    assert ('recurrent' in params) == (changes.get('kind') != 'cnn')
    assert ('backward' in params) == changes.get('bidirectional', False)
    expected = reference.forward(
        params,
        front_reference(model, mel, norm),
        norm=norm,
        cell=changes.get('cell', 'simple'),
        readout=changes['readout'],
    )
    np.testing.assert_allclose(logits_of(model, mel), expected, atol=2e-3)


def test_two_outputs_equal_the_reference_and_probabilities_are_their_mean() -> None:
    model, mel = small(segment_projection=16, kind='cnn', readout='moments'), bytes_of(4)
    state = values_of(model)
    windows = front_reference(model, mel, 'glr')
    whole = front_reference(model, mel, 'glr', 'segment_front', window=FRAMES)[:, 0]
    read = np.concatenate([windows.mean(1), np.sqrt(windows.var(1) + 1e-6)], -1)
    expected = [
        x @ state[name]['kernel'].astype(np.float64) + state[name]['bias']
        for x, name in ((read, 'output'), (whole, 'segment_output'))
    ]
    outputs = np.asarray(compiled(lambda _, mel: model.outputs(mel))(0, jnp.asarray(mel)))
    np.testing.assert_allclose(outputs, np.stack(expected, 1), atol=2e-3)
    mean = np.mean([np.exp(reference.log_softmax(logits)) for logits in expected], 0)
    np.testing.assert_allclose(np.exp(logits_of(model, mel)), mean, atol=1e-3)


@pytest.mark.slow
def test_all_windows_of_a_segment_drop_the_same_statistics() -> None:
    x, keys = jnp.ones((5, 3, 400)), jax.random.split(jax.random.key(0), 5)
    dropped = np.asarray(dropout(x, 0.4, keys, shared=1))
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1], x.shape))
    assert 0.35 < np.mean(dropped == 0) < 0.45
    assert not np.array_equal(dropped[0], dropped[1])

    model = small(kind='cnn', statistics_dropout=0.5, segment_projection=16)
    mel, run = bytes_of(2), compiled(lambda _, mel, keys: model.outputs(mel, keys))
    other, keys = bytes_of(2, seed=5), keys[:2]
    other[0] = mel[0]
    found, again = run(0, mel, keys), run(0, other, jnp.stack([keys[0], jax.random.key(7)]))
    np.testing.assert_allclose(found[0], again[0], atol=1e-5)
    change = np.abs(found - compiled(lambda _, mel: model.outputs(mel))(0, mel))
    assert (change.max((0, 2)) > 1e-2).all()  # of both outputs


@pytest.mark.parametrize('norm', NORMS)
def test_logits_of_a_clip_do_not_depend_on_its_batch_mates(norm: str) -> None:
    model = small(norm=norm, kind='cnn', readout='moments')
    mel, others = bytes_of(4), bytes_of(4, seed=5)
    others[0] = mel[0]
    model.train()
    difference = np.abs(logits_of(model, mel) - logits_of(model, others))
    assert difference[1:].max() > 0.1
    assert (difference[0].max() < 1e-6) == (norm != 'batch')
    if norm == 'batch':
        model.eval()
        np.testing.assert_allclose(logits_of(model, mel)[0], logits_of(model, others)[0], atol=1e-6)


def test_dropout_after_the_front_end_needs_keys_and_depends_only_on_them() -> None:
    model = small(kind='cnn', front_dropout=0.5)
    mel, others, keys = bytes_of(2), bytes_of(2, seed=5), jax.random.split(jax.random.key(0), 2)
    others[0] = mel[0]
    run = functools.partial(compiled(lambda _, mel, keys: model(mel, keys)), 0)
    other_keys = jnp.stack([keys[0], jax.random.key(7)])
    dropped, again = run(mel, keys), run(others, other_keys)
    np.testing.assert_allclose(dropped[0], again[0], atol=1e-6)
    assert np.abs(dropped[0] - run(mel, keys[::-1])[0]).max() > 1e-2
    assert np.abs(dropped - logits_of(model, mel)).max() > 1e-2


@pytest.mark.parametrize(
    ('frames', 'window', 'hop', 'count'),
    [(640, 64, 32, 19), (64, 64, 32, 1), (95, 64, 32, 1), (96, 64, 32, 2), (130, 70, 11, 6)],
)
def test_windows_cover_a_segment(frames: int, window: int, hop: int, count: int) -> None:
    assert count_windows(frames, window, hop) == count


def test_configs_that_cannot_work_are_refused() -> None:
    model = model_config(front='statistics', window=80)
    Config(data=DataConfig(frames=80), model=model)
    with pytest.raises(UsageError, match=r'--data\.frames=79 is less than --model\.window=80'):
        Config(data=DataConfig(frames=79), model=model)
    Config(data=DataConfig(frames=79), model=model_config(window=80))  # convolutions have no window
    with pytest.raises(UsageError, match=r'--window=63 must be at least 64'):
        model_config(front='statistics', window=63)
    with pytest.raises(UsageError, match=r'--model\.front=statistics needs --model\.kind=crnn'):
        model_config(front='statistics', kind='rnn')
    with pytest.raises(UsageError, match=r'multiple of 8 .* not 20 .*--model\.projection'):
        model_config(front='statistics', norm='group', projection=20)


# ---------------------------------------------------------------- fit_input_statistics
def dataset_of(mels: list[Any]) -> Dataset:
    made = make_dataset('ab', [k % 2 for k in range(len(mels))], mels)
    object.__setattr__(made, 'n_mels', N_MELS)
    return made


def training_clips() -> list[np.ndarray]:
    """41 segments in all; the first is repeated to make one, and one band is silent."""
    lengths = [50, *(130 * k for k in (1, 2, 5, 10, 22))]
    clips = [bytes_of(1, length, seed=length)[0] for length in lengths]
    for clip in clips:
        clip[:, 3] = 7
    return clips


def test_standardised_statistics_of_the_training_clips_have_mean_0_and_deviation_1() -> None:
    mels = training_clips()
    dataset = dataset_of([None, *mels[:3], None, *mels[3:]])  # reading None would be an error
    chosen = np.array([1, 2, 3, 5, 6, 7])
    model = small(kind='cnn', segment_projection=8)
    input_statistics.fit_input_statistics(model, dataset, chosen, FRAMES)

    mean, deviation = band_statistics(dataset, chosen)
    state = values_of(model)
    np.testing.assert_array_equal(state['mean'], mean.astype(np.float32))
    np.testing.assert_array_equal(state['deviation'], deviation.astype(np.float32))
    assert deviation[3] == 1

    parts = np.concatenate([segments(mel, FRAMES) for mel in mels])
    assert len(parts) == 41
    assert len(parts) % input_statistics.BATCH  # the last batch is padded
    raw = raw_statistics(parts, np.sqrt(np.mean(deviation**2)))
    whole = raw_statistics(parts, np.sqrt(np.mean(deviation**2)), window=FRAMES)
    found = [('front', name, x) for name, x in raw.items()]
    for key, name, x in found + [('segment_front', name, x) for name, x in whole.items()]:
        flat = x.reshape(-1, x.shape[-1])
        varies = flat.std(0) > 0.1
        assert varies.mean() > 0.7, name
        front = state[key]
        scaled = (flat - front['means'][name]) / front['deviations'][name]
        np.testing.assert_allclose(scaled.mean(0)[varies], 0, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(scaled.std(0)[varies], 1, atol=0.011, err_msg=name)
        assert np.isfinite(scaled).all()
        assert np.abs(scaled[:, ~varies]).max(initial=0) < 100


def test_of_many_clips_an_even_selection_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_statistics, 'MAX_CLIPS', 2)
    mels: list[Any] = [None] * 5
    mels[0], mels[3] = bytes_of(2, 2 * FRAMES)
    models = [small(kind='cnn') for _ in range(2)]
    input_statistics.fit_input_statistics(models[0], dataset_of(mels), np.arange(5), FRAMES)
    both = dataset_of([mels[0], mels[3]])
    input_statistics.fit_input_statistics(models[1], both, np.arange(2), FRAMES)
    jax.tree.map(np.testing.assert_array_equal, *map(values_of, models))


def test_a_classifier_with_convolutions_gets_the_statistics_of_bands_only() -> None:
    dataset = dataset_of(training_clips()[:2])
    model = small(front='conv', kernels=(8,), kernel_size=3)
    input_statistics.fit_input_statistics(model, dataset, np.arange(2), FRAMES)
    mean, _ = band_statistics(dataset, np.arange(2))
    np.testing.assert_array_equal(model.mean[...], mean.astype(np.float32))


def test_bytes_and_decibels_give_the_same_logits() -> None:
    mels = list(bytes_of(4))
    decibels = [mel.astype(np.float32) * np.float32(80 / 255) - 80 for mel in mels]
    logits = []
    for stored in (mels, decibels):
        model = small(kind='cnn', readout='moments')
        input_statistics.fit_input_statistics(model, dataset_of(stored), np.arange(4), FRAMES)
        logits.append(logits_of(model, np.stack(stored).astype(np.float32)))
    assert np.abs(logits[0]).max() > 0.1
    np.testing.assert_allclose(*logits, atol=2e-3)
