import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glr_jax.nn.glr
from tests import reference

glr = jax.jit(glr_jax.nn.glr.glr, static_argnames=('axis', 'epsilon'))
glr_with_level = jax.jit(glr_jax.nn.glr.glr_with_level, static_argnames=('axis', 'epsilon'))


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize('shape', [(3, 8), (3, 5, 8), (2, 5, 4, 8)])
@pytest.mark.parametrize('over_layer', [False, True])
def test_equals_the_reference(shape: tuple[int, ...], over_layer: bool) -> None:
    a, gain, bias = draw(*shape, scale=3.0) + 2, draw(8, seed=1), draw(8, seed=2)
    axis = tuple(range(1, len(shape))) if over_layer else -1
    expected = reference.glr(np.asarray(a), np.asarray(gain), np.asarray(bias), axis=axis)
    error = np.abs(glr(a, gain, bias, axis=axis) - expected).max() / np.abs(expected).max()
    assert error < 1e-5


def test_gradient_equals_finite_differences() -> None:
    a, gain, bias, weight = draw(2, 3, 6), draw(6, seed=1), draw(6, seed=2), draw(2, 3, 6, seed=3)
    value = lambda p: jnp.sum(weight * glr(p['a'], p['gain'], p['bias']))
    params = {'a': a, 'gain': gain, 'bias': bias}
    found = jax.jit(jax.grad(value))(params)
    expected = reference.numeric_gradient(
        lambda p: np.sum(np.asarray(weight) * reference.glr(p['a'], p['gain'], p['bias'])), params
    )
    for name in params:
        error = np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
        assert error < 1e-5, name


@pytest.mark.parametrize('shape', [(3, 8), (3, 5, 8), (2, 5, 4, 8)])
@pytest.mark.parametrize('over_layer', [False, True])
def test_glr_with_level_equals_the_reference(shape: tuple[int, ...], over_layer: bool) -> None:
    a = draw(*shape, scale=3.0) + 2
    parameters = [draw(8, seed=k) for k in range(1, 5)]
    axis = tuple(range(1, len(shape))) if over_layer else -1
    expected = reference.glr(np.asarray(a), *map(np.asarray, parameters), axis=axis)
    found = glr_with_level(a, *parameters, axis=axis)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_glr_with_level_is_glr_while_the_weights_are_0() -> None:
    a, gain, bias = draw(4, 7, 16), draw(16, seed=1), draw(16, seed=2)
    found = glr_with_level(a, gain, bias, jnp.zeros(16), jnp.zeros(16))
    np.testing.assert_array_equal(found, glr(a, gain, bias))


def test_glr_with_level_tells_loud_from_quiet() -> None:
    a, zeros = draw(4, 7, 16), jnp.zeros(16)
    level = jnp.zeros(16).at[0].set(1.0), jnp.zeros(16).at[1].set(1.0)
    quiet = glr_with_level(a, zeros, zeros, *level)
    loud = glr_with_level(10 * a + 3, zeros, zeros, *level)
    np.testing.assert_allclose(loud[..., 0], 10 * quiet[..., 0] + 3, atol=1e-5)
    np.testing.assert_allclose(loud[..., 1], quiet[..., 1] + np.log(10), atol=1e-4)


@pytest.mark.parametrize('constant', [False, True])
def test_gradients_of_glr_with_level_equal_finite_differences(constant: bool) -> None:
    names = ('a', 'gain', 'bias', 'mean_weight', 'deviation_weight')
    params = {'a': draw(2, 3, 6)} | {name: draw(6, seed=k) for k, name in enumerate(names[1:], 1)}
    if constant:  # a silent position
        params['a'] = params['a'].at[1, 2].set(0.5)
    weight = draw(2, 3, 6, seed=9)
    value = lambda p: jnp.sum(weight * glr_with_level(*(p[name] for name in names)))
    found = jax.jit(jax.grad(value))(params)
    expected = reference.numeric_gradient(
        lambda p: np.sum(np.asarray(weight) * reference.glr(*(p[name] for name in names))), params
    )
    for name in names:
        error = np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
        assert error < 1e-4, name


@pytest.mark.parametrize('axis', [-1, (1, 2)])
def test_is_invariant_to_scale_and_shift_of_its_input(axis: int | tuple[int, ...]) -> None:
    a, gain, bias = draw(4, 7, 16), draw(16, seed=1), draw(16, seed=2)
    once = glr(a, gain, bias, axis=axis, epsilon=0)
    np.testing.assert_allclose(glr(5 * a - 3, gain, bias, axis=axis, epsilon=0), once, atol=2e-5)


def test_each_case_is_normalised_on_its_own() -> None:
    a, gain, bias = draw(4, 7, 16), draw(16, seed=1), draw(16, seed=2)
    alone = jnp.concatenate([glr(a[k : k + 1], gain, bias) for k in range(4)])
    np.testing.assert_array_equal(glr(a, gain, bias), alone)


@pytest.mark.parametrize('axis', [0, -3, (0, 1, 2)])
def test_mixing_training_cases_is_an_error(axis: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'axis .* would mix training cases'):
        glr(draw(4, 7, 16), draw(16), draw(16), axis=axis)
    with pytest.raises(ValueError, match=r'axis .* would mix training cases'):
        glr_with_level(draw(4, 7, 16), *4 * [draw(16)], axis=axis)


def test_bfloat16_keeps_its_type_and_its_statistics_are_float32() -> None:
    a = (100 + draw(2, 512)).astype(jnp.bfloat16)
    out = glr(a, jnp.ones(512), jnp.zeros(512))
    assert out.dtype == jnp.bfloat16
    expected = reference.glr(np.asarray(a, np.float64), np.ones(512), np.zeros(512))
    assert np.abs(np.asarray(out, np.float64) - expected).max() < 0.02
