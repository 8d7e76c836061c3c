"""BBNN against NumPy float64, and against the sizes that its authors print."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glr_jax.config import Config, DataConfig
from glr_jax.errors import UsageError
from glr_jax.nn import bbnn, cost
from glr_jax.nn.config import BBNN_POOLED
from glr_jax.nn.conv import max_of_neighbours as max_of
from glr_jax.nn.conv import mean_pool
from glr_jax.nn.model import Classifier, make_classifier
from tests import reference
from tests.conftest import model_config

N_MELS, FRAMES, LABELS = 5, 19, 3  # pooling drops a band and three frames
PAPER = model_config(front='bbnn', kind='cnn', norm='batch', dropout=0.0)


def small(**changes: Any) -> Classifier:
    """A classifier with all its parameters drawn at random."""
    config = model_config(**{'front': 'bbnn', 'kind': 'cnn', 'hidden': 8, 'dropout': 0.0} | changes)
    # Its own initial weights would take seconds to compile.
    model = nnx.eval_shape(lambda: make_classifier(config, N_MELS, LABELS, seed=0))
    graph, state = nnx.split(model)
    rng = np.random.default_rng(1)
    for path, leaf in nnx.to_flat_state(state):
        value = 0.2 * rng.standard_normal(leaf.shape)
        if 'kernel' in path[-1]:
            value *= 5 * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        value += {'mean': 120, 'deviation': 50}.get(path[-1], 0) if len(path) == 1 else 0
        value += path[-1] in ('gain', 'scale', 'var')
        leaf.set_value(jnp.asarray(value, jnp.float32))
    model = nnx.merge(graph, state)
    model.train()
    return model


def mels(clips: int = 2, frames: int = FRAMES, seed: int = 2) -> jax.Array:
    draw = np.random.default_rng(seed).integers(0, 256, (clips, frames, N_MELS), np.uint8)
    return jnp.asarray(draw)


# Optimising the machine code would take half of the test's time.
quick = {'xla_backend_optimization_level': '0'}


def logits_of(model: Classifier, mel: jax.Array) -> np.ndarray:
    graph, state = nnx.split(model)
    apply = jax.jit(lambda state, mel: nnx.merge(graph, state)(mel), compiler_options=quick)
    return np.asarray(apply(state, mel))


# ---------------------------------------------------------------- in NumPy
def normalise(x: np.ndarray, layer: dict[str, np.ndarray], norm: str) -> np.ndarray:
    gain = layer['scale' if norm == 'batch' else 'gain']
    level = [layer[name] for name in reference.LEVEL if name in layer]
    return np.maximum(reference.NORMS[norm](x, gain, layer['bias'], *level), 0)


def convolve(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    return reference.conv2d(x, layer['kernel']) + layer['bias']


def pre_activated(x: np.ndarray, layer: dict[str, Any], norm: str) -> np.ndarray:
    return convolve(normalise(x, layer['norm'], norm), layer['convolution'])


def max_of_neighbours(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    time, bands = x.shape[1:3]
    return np.max([padded[:, i : i + time, j : j + bands] for i, j in np.ndindex(3, 3)], axis=0)


def features(mel: np.ndarray, params: dict[str, Any], norm: str) -> np.ndarray:
    """[B, T, F] standardised to [B, T // 8, 32]."""
    x = convolve(mel[..., None], params['shallow'])
    x = reference.max_pool(normalise(x, params['shallow_norm'], norm), (4, 1))
    for layers in params['broadcasts'].values():
        of = lambda name, y, layers=layers: pre_activated(y, layers[name], norm)
        branches = [
            of('one', x),
            of('three', of('before_three', x)),
            of('five', of('before_five', x)),
            of('after_pool', max_of_neighbours(x)),
        ]
        x = np.concatenate([x, *branches], axis=-1)
    x = pre_activated(x, params['transition'], norm)
    time, bands = (length // 2 * 2 for length in x.shape[1:3])
    corners = [x[:, i:time:2, j:bands:2] for i, j in np.ndindex(2, 2)]
    return normalise(np.mean(corners, axis=0), params['norm'], norm).mean(2)


def expected_logits(model: Classifier, mel: jax.Array, norm: str) -> np.ndarray:
    params = reference.map_arrays(
        lambda leaf: np.asarray(leaf, np.float64),
        jax.device_get(nnx.to_pure_dict(nnx.state(model))),
    )
    standardised = (np.asarray(mel, np.float64) - params['mean']) / params['deviation']
    found = features(standardised, params['bbnn'], norm)
    layers = {'convs': [], 'output': params['output']}
    if 'recurrent' in params:
        kernel = params['recurrent']['hidden_kernel'].reshape(8, -1)
        layers['recurrent'] = params['recurrent'] | {'hidden_kernel': kernel}
    return reference.forward(layers, found, norm=norm)


@pytest.mark.parametrize(
    ('norm', 'changes'),
    [
        ('glr', {'kind': 'crnn'}),
        ('glr_layer', {'pass_level': True}),
        ('glr_step', {}),
        ('batch', {}),
        ('none', {}),
    ],
)
def test_logits_equal_the_reference(norm: str, changes: dict[str, Any]) -> None:
    model = small(norm=norm, **changes)
    expected = expected_logits(model, mels(), norm)
    assert np.abs(logits_of(model, mels()) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter() -> None:
    model = small(kind='crnn', pass_level=True)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    loss = lambda params, mel: (nnx.merge(graph, params, rest, copy=True)(mel) ** 2).sum()
    gradient = jax.jit(jax.grad(loss), compiler_options=quick)
    for mel in (mels(), jnp.zeros_like(mels())):
        leaves = nnx.to_flat_state(gradient(params, mel))
        assert all(np.isfinite(leaf[...]).all() for _, leaf in leaves)
    leaves = nnx.to_flat_state(gradient(params, mels()))
    assert not [path for path, leaf in leaves if not np.any(leaf[...])]


@pytest.mark.parametrize(('frames', 'n_mels'), [(8, 2), (33, 16), (40, 13)])
def test_any_number_of_frames_and_mels_gives_32_features_per_8_frames(
    frames: int, n_mels: int
) -> None:
    PAPER.check_bands(n_mels)
    PAPER.check_frames(frames, 'data.frames')
    net = lambda x: make_classifier(PAPER, n_mels, LABELS, seed=0).bbnn(x)
    found = jax.eval_shape(net, jax.ShapeDtypeStruct((2, frames, n_mels, 1), jnp.float32))
    assert found.shape == (2, frames // 8, 32)


def test_the_mean_of_neighbours_and_their_maximum_are_taken_where_the_authors_take_them() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 4, 3)), jnp.float32)
    expected = max_of_neighbours(np.asarray(x))
    np.testing.assert_array_equal(max_of(x), expected)
    assert mean_pool(x, (2, 2)).shape == (2, 2, 2, 3)
    np.testing.assert_allclose(
        mean_pool(x, (2, 2))[:, 1, 1], x[:, 2:4, 2:4].mean((1, 2)), rtol=1e-5
    )


def test_the_sizes_are_those_that_the_authors_print() -> None:
    assert cost.parameters(PAPER, n_mels=128, num_labels=10) == 185_642
    assert (bbnn.POOL * bbnn.MEAN, bbnn.MEAN) == BBNN_POOLED
    per_position = [  # inputs of the modules, and what each branch multiplies
        4 * width * 32 + (9 + 25) * 32 * 32 for width in (32, 160, 288)
    ]
    products = 640 * 128 * 9 * 32 + 160 * 128 * (sum(per_position) + 416 * 32) + 32 * 10
    assert cost.flops(PAPER, n_mels=128, num_labels=10, frames=640) == 2 * products


def test_configs_that_cannot_work_are_refused() -> None:
    with pytest.raises(UsageError, match=r'--model\.front=bbnn needs --model\.kind=crnn or cnn'):
        model_config(front='bbnn', kind='rnn')
    with pytest.raises(UsageError, match=r'--model\.front=bbnn reduces the mel bands 2-fold'):
        PAPER.check_bands(1)
    with pytest.raises(UsageError, match=r'too short: --model\.front=bbnn reduces the frames 8'):
        PAPER.check_frames(7, 'data.frames')
    Config(data=DataConfig(frames=8), model=PAPER)
    with pytest.raises(UsageError, match=r'--model\.kernels needs --model\.front=conv or both'):
        model_config(front='bbnn', kernels=(3,))  # kernels are those of the paper
    model_config(front='bbnn', norm='group')
