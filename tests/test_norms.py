import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glr_jax.nn.config import NormName
from glr_jax.nn.norms import (
    NormFunction,
    add_bias,
    batch_norm,
    glr_over_layer,
    glr_over_position,
    glr_over_step,
    group_norm,
    make_norm,
)
from tests import reference


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative_error(found: jax.Array, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize('shape', [(3, 16), (3, 5, 16), (2, 5, 4, 16)])
@pytest.mark.parametrize(
    ('norm', 'expected'),
    [
        (glr_over_layer, reference.glr_layer),
        (glr_over_step, reference.glr_step),
        (group_norm, lambda *a: reference.group_norm(*a, groups=8)),
        (add_bias, reference.bias_only),
    ],
)
def test_equals_the_reference(
    norm: NormFunction, expected: reference.Norm, shape: tuple[int, ...]
) -> None:
    a, gain, bias = 2 + 3 * draw(*shape), draw(16, seed=1), draw(16, seed=2)
    found = jax.jit(norm)(*map(jnp.asarray, (a, gain, bias)))
    assert relative_error(found, expected(a, gain, bias)) < 1e-5


@pytest.mark.parametrize('shape', [(3, 16), (3, 5, 16), (2, 5, 4, 16)])
@pytest.mark.parametrize('name', ['glr', 'glr_layer', 'glr_step'])
def test_every_reading_of_glr_can_pass_the_level_on(name: NormName, shape: tuple[int, ...]) -> None:
    norm = make_norm(name, pass_level=True).layer(16)
    graph, state = nnx.split(norm)
    names = ('gain', 'bias', 'mean_weight', 'deviation_weight')
    assert set(state) == set(names)
    a = 2 + 3 * draw(*shape)
    plain = make_norm(name).layer(16)
    np.testing.assert_array_equal(norm(jnp.asarray(a)), plain(jnp.asarray(a)))  # weights of 0
    parameters = [draw(16, seed=k) for k in range(1, 5)]
    for name_of, value in zip(names, parameters, strict=True):
        state[name_of].set_value(jnp.asarray(value))
    found = jax.jit(nnx.merge(graph, state))(jnp.asarray(a))
    assert relative_error(found, reference.NORMS[name](a, *parameters)) < 1e-5


@pytest.mark.parametrize('name', ['batch', 'batch_sync', 'group', 'none'])
def test_other_norms_have_no_level_to_pass_on(name: NormName) -> None:
    with pytest.raises(ValueError, match=f'norm {name} has no level to pass on; use one of glr,'):
        make_norm(name, pass_level=True)


def test_without_frequencies_glr_over_steps_is_glr_over_positions() -> None:
    a, gain, bias = jnp.asarray(draw(3, 5, 16)), draw(16, seed=1), draw(16, seed=2)
    one, other = (jax.jit(norm)(a, gain, bias) for norm in (glr_over_step, glr_over_position))
    np.testing.assert_array_equal(one, other)


def test_batch_norm_equals_the_reference_in_training_and_with_running_statistics() -> None:
    a, gain, bias = 2 + 3 * draw(4, 6, 16), draw(16, seed=1), draw(16, seed=2)
    norm = batch_norm(16)
    norm.scale[...], norm.bias[...] = jnp.asarray(gain), jnp.asarray(bias)
    assert relative_error(norm(a), reference.batch_norm(a, gain, bias)) < 1e-5
    norm.eval()
    mean, variance = 0.1 * a.mean((0, 1)), 0.9 + 0.1 * a.var((0, 1))
    expected = reference.batch_norm(a, gain, bias, mean, variance)
    assert relative_error(norm(a), expected) < 1e-5


@pytest.mark.parametrize('name', ['glr', 'glr_layer', 'glr_step', 'group', 'none'])
def test_these_norms_keep_cases_apart(name: NormName) -> None:
    a, norm = jnp.asarray(draw(4, 6, 16)), jax.jit(make_norm(name).layer(16))
    alone = jnp.concatenate([norm(a[k : k + 1]) for k in range(4)])
    np.testing.assert_allclose(norm(a), alone, atol=1e-6)


def test_batch_norm_does_not_keep_cases_apart() -> None:
    a, norm = jnp.asarray(draw(4, 6, 16)), make_norm('batch').layer(16)
    assert np.abs(norm(a)[:1] - norm(a[:1])).max() > 0.1


@pytest.mark.parametrize('name', ['batch', 'batch_sync'])
def test_batch_norm_stays_outside_the_recurrence(name: NormName) -> None:
    assert make_norm(name).step is None


@pytest.mark.parametrize('name', ['glr', 'glr_layer', 'group', 'none', 'batch'])
def test_a_layer_has_one_gain_and_one_bias_per_feature(name: NormName) -> None:
    params = nnx.state(make_norm(name).layer(16), nnx.Param)
    assert [leaf[...].shape for leaf in params.values()] == [(16,), (16,)]
