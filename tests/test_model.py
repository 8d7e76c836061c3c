"""The classifier against the NumPy reference, and what its output may depend on."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from glr_jax.errors import UsageError
from glr_jax.nn.dropout import dropout
from glr_jax.nn.model import Classifier, make_classifier, partition
from tests import reference
from tests.conftest import model_config

N_MELS, FRAMES, LABELS = 10, 14, 3
SMALL = model_config(kernels=(8, 8), kernel_size=3, hidden=8, dropout=0.0)
NORMS = ('glr', 'glr_layer', 'glr_step', 'batch', 'group', 'none')
LEVEL = ('mean_weight', 'deviation_weight')


def small(**changes: Any) -> Classifier:
    """A small classifier in training mode, with all parameters and statistics drawn at random."""
    config = dataclasses.replace(SMALL, **changes)
    # Its own initial weights would take seconds to compile.
    model = nnx.eval_shape(lambda: make_classifier(config, N_MELS, LABELS, seed=0))
    model.train()
    graph, state = nnx.split(model)
    rng = np.random.default_rng(1)
    for path, leaf in nnx.to_flat_state(state):
        leaf.set_value(jnp.asarray(draw(path, leaf.shape, rng), jnp.float32))
    return nnx.merge(graph, state)


def draw(path: tuple, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values of a parameter or statistic, of a size that suits it."""
    noise = rng.standard_normal(shape)
    match path[-1]:
        case 'mean' | 'deviation' if len(path) == 1:  # of the inputs
            return 110 + 5 * noise if path[-1] == 'mean' else 50 + 5 * noise
        case 'kernel' | 'input_kernel':
            return noise * np.sqrt(2 / np.prod(shape[:-1]))
        case 'hidden_kernel':
            return noise / np.sqrt(shape[0])
        case 'gain' | 'scale' | 'var':
            return 1 + 0.2 * noise
        case 'bias' | 'mean' | 'mean_weight' | 'deviation_weight':
            return 0.2 * noise
    raise ValueError(path)


def mels(batch: int = 4, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, FRAMES, N_MELS), np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def apply(graph: nnx.GraphDef, state: nnx.State, mel: jax.Array) -> jax.Array:
    return nnx.merge(graph, state)(mel)


def logits_of(model: Classifier, mel: np.ndarray) -> jax.Array:
    return apply(*nnx.split(model), jnp.asarray(mel))


# Optimising the machine code would take half of the test's time.
@functools.partial(
    jax.jit, static_argnums=0, compiler_options={'xla_backend_optimization_level': '0'}
)
def differentiate(
    graph: nnx.GraphDef, params: nnx.State, rest: nnx.State, mel: jax.Array, target: jax.Array
) -> tuple[jax.Array, nnx.State, jax.Array, nnx.State]:
    """Loss, gradients, logits, and the statistics that are updated."""

    def loss_of(params: nnx.State) -> tuple[jax.Array, tuple[jax.Array, nnx.State]]:
        model = nnx.merge(graph, params, rest, copy=True)
        logits = model(mel)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()
        return loss, (logits, partition(model)[2])

    (loss, (logits, stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    return loss, grads, logits, stats


def as_reference(params: Any) -> dict[str, Any]:
    """Parameters (or their gradients) under the reference's names and shapes."""
    flat = {'/'.join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(params)}
    get = lambda *names: next(np.asarray(flat[name]) for name in names if name in flat)
    blocks = sorted({name.split('/')[1] for name in flat if name.startswith('blocks/')})
    tree: dict[str, Any] = {
        'convs': [
            {
                'kernel': get(f'blocks/{k}/kernel'),
                'gain': get(f'blocks/{k}/norm/gain', f'blocks/{k}/norm/scale'),
                'bias': get(f'blocks/{k}/norm/bias'),
            }
            | {
                name: get(f'blocks/{k}/norm/{name}')
                for name in LEVEL
                if f'blocks/{k}/norm/{name}' in flat
            }
            for k in blocks
        ],
        'readout': {},
        'output': {'kernel': get('output/kernel'), 'bias': get('output/bias')},
    }
    if 'recurrent/hidden_kernel' in flat:
        hidden, gates, _ = flat['recurrent/hidden_kernel'].shape
        gain = get('recurrent/gain', 'recurrent/input_norm/scale').reshape(gates, hidden)
        bias = get('recurrent/bias', 'recurrent/input_norm/bias').reshape(gates, hidden)
        tree['recurrent'] = {
            'input_kernel': get('recurrent/input_kernel'),
            'hidden_kernel': get('recurrent/hidden_kernel').reshape(hidden, -1),
            'gain': gain,
            'bias': bias,
        }
        level = [name for name in LEVEL if f'recurrent/{name}' in flat]
        tree['recurrent'] |= {name: get(f'recurrent/{name}') for name in level}
    for name in flat:
        if name.startswith('readout/'):
            _, layer, leaf = name.split('/')
            tree['readout'].setdefault(layer, {})[leaf] = get(name)
    return tree


def standardised(model: Classifier, mel: np.ndarray) -> np.ndarray:
    mean, deviation = np.asarray(model.mean[...]), np.asarray(model.deviation[...])
    return (mel.astype(np.float64) - mean) / deviation


def relative_error(found: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize('cell', ['simple', 'gru', 'lstm'])
@pytest.mark.parametrize('conv', ['1d', '2d'])
def test_logits_equal_the_reference(norm: str, cell: str, conv: str) -> None:
    model = small(norm=norm, cell=cell, conv=conv)
    expected = reference.forward(
        as_reference(nnx.state(model, nnx.Param)),
        standardised(model, mels()),
        norm=norm,
        cell=cell,
    )
    assert relative_error(logits_of(model, mels()), expected) < 1e-5


@pytest.mark.parametrize('norm', ['glr', 'glr_layer', 'glr_step'])
@pytest.mark.parametrize('changes', [{}, {'cell': 'lstm'}, {'conv': '2d', 'cell': 'gru'}])
def test_logits_with_the_level_passed_on_equal_the_reference(norm: str, changes: Any) -> None:
    model = small(norm=norm, pass_level=True, **changes)
    params = as_reference(nnx.state(model, nnx.Param))
    assert set(LEVEL) < set(params['recurrent'])
    expected = reference.forward(
        params, standardised(model, mels()), norm=norm, cell=changes.get('cell', 'simple')
    )
    assert relative_error(logits_of(model, mels()), expected) < 1e-5


def test_at_first_passing_the_level_on_changes_no_logits() -> None:
    models = [
        make_classifier(dataclasses.replace(SMALL, pass_level=on), N_MELS, LABELS, seed=0)
        for on in (False, True)
    ]
    np.testing.assert_array_equal(*(logits_of(model, mels()) for model in models))


def test_pools_over_time_and_mels_may_differ() -> None:
    model = small(conv='2d', pool=(2, 1), pool_bands=(5, 2))
    expected = reference.forward(
        as_reference(nnx.state(model, nnx.Param)),
        standardised(model, mels()),
        norm='glr',
        pool=((2, 5), (1, 2)),
    )
    assert relative_error(logits_of(model, mels()), expected) < 1e-5
    same = small(conv='2d', pool=(2,), pool_bands=(2,)), small(conv='2d', pool=(2,))
    np.testing.assert_array_equal(*(logits_of(model, mels()) for model in same))


def test_merged_bands_are_the_mean_of_neighbours() -> None:
    model, bands = small(conv='2d', merge_bands=2), N_MELS // 2
    x = np.asarray(standardised(model, mels()))
    expected = reference.forward(
        as_reference(nnx.state(model, nnx.Param)),
        x[..., : 2 * bands].reshape(*x.shape[:-1], bands, 2).mean(-1),
        norm='glr',
        pool=((2, 2), (2, 2)),
    )
    assert relative_error(logits_of(model, mels()), expected) < 1e-5


@pytest.mark.parametrize('kind', ['crnn', 'cnn', 'rnn'])
@pytest.mark.parametrize(
    'readout', ['mean', 'last', 'local', 'max', 'attention', 'moments', 'covariance']
)
def test_kinds_and_readouts_equal_the_reference(kind: str, readout: str) -> None:
    model = small(kind=kind, readout=readout)
    expected = reference.forward(
        as_reference(nnx.state(model, nnx.Param)),
        standardised(model, mels()),
        norm='glr',
        readout=readout,
    )
    assert relative_error(logits_of(model, mels()), expected) < 1e-5


@pytest.mark.parametrize('norm', NORMS)
@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'cell': 'gru', 'kernels': (8,)},
        {'cell': 'lstm', 'kernels': (8,)},
        pytest.param({'conv': '2d', 'readout': 'local'}, marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradients_equal_the_reference(norm: str, changes: dict[str, Any]) -> None:
    check_loss_and_gradients(norm, changes)


@pytest.mark.parametrize('readout', ['max', 'attention', 'moments', 'covariance'])
def test_gradients_of_readouts_equal_the_reference(readout: str) -> None:
    # Of these clips no covariance is nearly 0, where float32 would leave its gradient few digits.
    check_loss_and_gradients('glr', {'kernels': (8,), 'readout': readout}, seed=23)


@pytest.mark.parametrize('norm', ['glr', 'glr_step'])
def test_gradients_with_the_level_passed_on_equal_the_reference(norm: str) -> None:
    check_loss_and_gradients(norm, {'conv': '2d', 'kernels': (8,), 'pass_level': True})


@pytest.mark.parametrize('readout', ['moments', 'attention', 'covariance'])
@pytest.mark.parametrize('frames', [4, 40])  # one step after pooling, and silence
def test_gradients_of_readouts_of_few_and_equal_steps_are_finite(readout: str, frames: int) -> None:
    model = small(readout=readout, norm='none', kind='cnn')
    mel = jnp.zeros((2, frames, N_MELS), jnp.uint8)
    results = differentiate(*partition(model), mel, jnp.array([0, 1]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


def check_loss_and_gradients(norm: str, changes: dict[str, Any], seed: int = 2) -> None:
    """Both are close to those of the reference, for a small classifier with some changes."""
    model = small(norm=norm, **changes)
    mel, target = mels(seed=seed), np.array([0, 2, 1, 2])
    graph, params, rest = partition(model)
    loss, grads, *_ = differentiate(graph, params, rest, jnp.asarray(mel), jnp.asarray(target))
    options = {key: changes[key] for key in ('cell', 'readout') if key in changes}
    expected_loss = lambda p: reference.loss(
        p, standardised(model, mel), target, norm=norm, **options
    )
    assert float(loss) == pytest.approx(expected_loss(as_reference(params)), rel=1e-5)
    expected = reference.numeric_gradient(expected_loss, as_reference(params), sample=8)
    largest = max(np.nanmax(np.abs(x)) for x in jax.tree.leaves(expected))
    errors = jax.tree.map(
        lambda g, e: np.nanmax(np.abs(g - e)) / largest, as_reference(grads), expected
    )
    assert max(jax.tree.leaves(errors)) < 1e-5


@pytest.mark.parametrize(
    ('norm', 'changes'),
    [
        ('glr', {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ('glr_layer', {'conv': '2d', 'readout': 'last'}),
                ('batch', {'cell': 'lstm'}),
                ('group', {'cell': 'gru'}),
                ('none', {'kind': 'cnn', 'readout': 'local'}),
                ('glr_step', {'conv': '2d', 'readout': 'attention', 'pass_level': True}),
                ('group', {'readout': 'covariance'}),
            )
        ),
    ],
)
def test_bfloat16_rounds_layers_but_logits_and_gradients_stay_float32(
    norm: str, changes: dict
) -> None:
    exact = logits_of(small(norm=norm, **changes), mels())
    model = small(norm=norm, dtype='bfloat16', **changes)
    results = differentiate(*partition(model), jnp.asarray(mels()), jnp.arange(4) % LABELS)
    _, _, logits, _ = results
    assert 1e-5 < relative_error(logits, np.asarray(exact)) < 0.05
    leaves = jax.tree.leaves(results)
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize('norm', ['glr', 'glr_layer', 'glr_step', 'group', 'none'])
@pytest.mark.parametrize('conv', ['1d', '2d'])
def test_logits_of_a_clip_do_not_depend_on_the_rest_of_the_batch(norm: str, conv: str) -> None:
    model = small(norm=norm, conv=conv)
    together = logits_of(model, mels())
    alone = np.concatenate([logits_of(model, mels()[k : k + 1]) for k in range(4)])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_batch_norm_mixes_clips_in_training_but_not_in_evaluation() -> None:
    model = small(norm='batch')
    together, alone = logits_of(model, mels()), logits_of(model, mels()[:1])
    assert np.abs(together[:1] - alone).max() > 1e-2
    model.eval()
    together, alone = logits_of(model, mels()), logits_of(model, mels()[:1])
    np.testing.assert_allclose(together[:1], alone, atol=2e-6)


def test_dropout_of_a_case_depends_only_on_its_key() -> None:
    x = jnp.ones((6, 50))
    keys = jax.random.split(jax.random.key(0), 6)
    dropped = dropout(x, 0.4, keys)
    np.testing.assert_array_equal(dropped[2:3], dropout(x[2:3], 0.4, keys[2:3]))
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.6)}
    assert 0.3 < np.mean(dropped == 0) < 0.5
    assert not np.array_equal(dropped[0], dropped[1])
    np.testing.assert_array_equal(dropout(x, 0.4, None), x)


def test_pooling_away_all_mel_bands_is_an_error() -> None:
    config = model_config(conv='2d', kernels=(8, 8), pool=(4, 4))
    config.check_bands(16)
    with pytest.raises(UsageError, match=r'--model\.pool reduces the mel bands 16-fold'):
        config.check_bands(15)
    with pytest.raises(ValueError, match='pooling leaves none of the 15 mel bands'):
        nnx.eval_shape(lambda: make_classifier(config, n_mels=15, num_labels=3, seed=0))
