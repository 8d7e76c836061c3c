import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glr_jax.conv import conv, max_pool
from tests import reference


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize('size', [1, 3, 4, 5])
def test_convolution_over_time_equals_the_reference(size: int) -> None:
    x, kernel = draw(2, 9, 6), draw(size, 6, 4, seed=1)
    expected = reference.conv1d(x, kernel)
    assert np.abs(conv(x, kernel) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('size', [1, 3, 5])
def test_convolution_over_time_and_mels_equals_the_reference(size: int) -> None:
    x, kernel = draw(2, 9, 7, 3), draw(size, size, 3, 4, seed=1)
    expected = reference.conv2d(x, kernel)
    assert np.abs(conv(x, kernel) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('shape', [(2, 9, 4), (2, 9, 7, 4)])
@pytest.mark.parametrize('size', [1, 2, 3])
def test_pooling_equals_the_reference_and_drops_the_remainder(shape, size) -> None:
    x = draw(*shape)
    np.testing.assert_array_equal(max_pool(x, size), reference.max_pool(x, size))


def test_the_gradient_of_pooling_goes_to_the_largest() -> None:
    x = jnp.asarray(draw(1, 6, 1))
    grad = jax.grad(lambda x: max_pool(x, 3).sum())(x)
    expected = np.zeros(6)
    expected[[np.argmax(x[0, :3, 0]), 3 + np.argmax(x[0, 3:, 0])]] = 1
    np.testing.assert_array_equal(grad[0, :, 0], expected)
