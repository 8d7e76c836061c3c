import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glr_jax.nn import winograd
from glr_jax.nn.conv import conv, max_of_neighbours, max_pool
from glr_jax.nn.winograd import matrices
from tests import reference


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@jax.jit
def with_gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
    """The outputs of conv, and the gradients of sum(outputs * dy)."""
    y, back = jax.vjp(conv, x, kernel)
    return y, *back(dy)


@pytest.mark.parametrize('size', [1, 3, 4, 5])
def test_convolution_over_time_equals_the_reference(size: int) -> None:
    x, kernel = draw(2, 9, 6), draw(size, 6, 4, seed=1)
    expected = reference.conv1d(x, kernel)
    assert np.abs(jax.jit(conv)(x, kernel) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('size', [1, 3, 5])
def test_convolution_over_time_and_mels_equals_the_reference(size: int) -> None:
    x, kernel = draw(2, 9, 7, 3), draw(size, size, 3, 4, seed=1)
    expected = reference.conv2d(x, kernel)
    assert np.abs(jax.jit(conv)(x, kernel) - expected).max() < 1e-5 * np.abs(expected).max()


def kernel_gradient_of_the_reference(
    x: np.ndarray, taps: tuple[int, ...], dy: np.ndarray
) -> np.ndarray:
    """The kernel's gradient of sum(conv(x, kernel) * dy), tap by tap in float64."""
    widths = [(0, 0), *(((k - 1) // 2, k // 2) for k in taps), (0, 0)]
    padded = np.pad(x.astype(np.float64), widths)
    kernel_gradient = np.zeros((*taps, x.shape[-1], dy.shape[-1]))
    for tap in np.ndindex(*taps):
        window = padded[:, *(slice(i, i + n) for i, n in zip(tap, x.shape[1:-1], strict=True))]
        rows = window.reshape(-1, x.shape[-1])
        kernel_gradient[tap] = rows.T @ dy.reshape(-1, dy.shape[-1]).astype(np.float64)
    return kernel_gradient


SHAPES = [
    # clips, positions, taps, features, kernels; on a CPU, Winograd from 64 features on
    (2, (16,), 5, 64, 72),
    (1, (13,), 5, 64, 64),
    (3, (18,), 3, 96, 64),
    (2, (3,), 5, 64, 64),  # shorter than the kernel
    (1, (9, 7), 5, 64, 64),
    (2, (8, 12), 3, 64, 72),
    (2, (10, 5), 7, 64, 64),  # no Winograd for this and the next
    (2, (10, 5), 1, 64, 64),
    (2, (9, 7), 5, 1, 64),  # the kernel's gradient from patches
    (3, (9,), 3, 2, 8),  # also here
    (2, (9, 7), 3, 8, 6),
    (1, (11,), 7, 64, 64),
]


@pytest.mark.parametrize(('clips', 'positions', 'size', 'features', 'kernels'), SHAPES)
def test_convolution_and_its_gradients_equal_float64(
    clips: int, positions: tuple[int, ...], size: int, features: int, kernels: int
) -> None:
    taps = (size,) * len(positions)
    x, dy = draw(clips, *positions, features), draw(clips, *positions, kernels, seed=1)
    kernel = draw(*taps, features, kernels, seed=2)
    y, x_gradient, kernel_gradient = with_gradients(x, kernel, dy)
    slide = reference.conv1d if len(positions) == 1 else reference.conv2d
    flipped = np.flip(kernel, range(len(positions))).swapaxes(-1, -2)
    for found, expected in (
        (y, slide(x, kernel)),
        (x_gradient, slide(dy, flipped)),
        (kernel_gradient, kernel_gradient_of_the_reference(x, taps, dy)),
    ):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('positions', [(9,), (9, 8)])
def test_the_gradient_of_an_even_kernel_equals_float64(positions: tuple[int, ...]) -> None:
    taps = (4,) * len(positions)
    x, dy = draw(2, *positions, 2), draw(2, *positions, 40, seed=1)
    kernel = draw(*taps, 2, 40, seed=2)
    found = with_gradients(x, kernel, dy)[2]
    expected = kernel_gradient_of_the_reference(x, taps, dy)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_chunks_of_clips_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel, dy = draw(6, 16, 64), draw(5, 64, 64, seed=1), draw(6, 16, 64, seed=2)
    clip_bytes = 8 * 4 * 64 * x.itemsize  # products x tiles x features
    monkeypatch.setattr(winograd, 'CHUNK_BYTES', 4 * clip_bytes)
    assert winograd._clips_that_fit(jnp.asarray(x), 5) == 4
    expected = reference.conv1d(x, kernel)
    found = jax.jit(winograd.conv)(x, kernel)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    expected = kernel_gradient_of_the_reference(x, (5,), dy)
    found = jax.jit(winograd.kernel_gradient, static_argnums=2)(x, dy, 5)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('taps', [3, 5])
def test_the_matrices_slide_a_kernel(taps: int) -> None:
    data, kernel_to_products, result = (matrix.astype(np.float64) for matrix in matrices(taps))
    inputs, kernel = draw(taps + 3).astype(np.float64), draw(taps, seed=1).astype(np.float64)
    outputs = result @ ((data @ inputs) * (kernel_to_products @ kernel))
    np.testing.assert_allclose(outputs, np.correlate(inputs, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('platform', 'slides'), [('cpu', False), ('cuda', True), ('tpu', True)])
def test_the_target_platform_decides_the_algorithm(platform: str, slides: bool) -> None:
    shapes = (
        jax.ShapeDtypeStruct((2, 8, 8, 64), 'float32'),
        jax.ShapeDtypeStruct((5, 5, 64, 64), 'float32'),
    )
    step = jax.jit(jax.grad(lambda x, kernel: conv(x, kernel).sum(), (0, 1)))
    text = step.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
    assert ('stablehlo.convolution' in text) == slides


@pytest.mark.parametrize('shape', [(2, 9, 4), (2, 9, 7, 4)])
@pytest.mark.parametrize('size', [1, 2, 3])
def test_pooling_equals_the_reference_and_drops_the_remainder(
    shape: tuple[int, ...], size: int
) -> None:
    x = draw(*shape)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), size), reference.max_pool(x, size))


def test_the_gradient_of_pooling_goes_to_the_maximum() -> None:
    x = jnp.asarray(draw(1, 6, 1))
    grad = jax.jit(jax.grad(lambda x: max_pool(x, 3).sum()))(x)
    expected = np.zeros(6)
    expected[[np.argmax(x[0, :3, 0]), 3 + np.argmax(x[0, 3:, 0])]] = 1
    np.testing.assert_array_equal(grad[0, :, 0], expected)


def test_equal_maxima_share_the_gradient_of_pooling() -> None:
    grad = jax.jit(jax.grad(lambda x: max_pool(x, 2).sum()))(jnp.ones((1, 4, 6, 2)))
    np.testing.assert_array_equal(grad, np.full((1, 4, 6, 2), 1 / 4))


@pytest.mark.parametrize('shape', [(2, 9, 4), (2, 5, 7, 4), (1, 1, 2, 3)])
def test_the_maximum_of_neighbours_and_its_gradient_equal_numpy(shape: tuple[int, ...]) -> None:
    x, dy = draw(*shape), draw(*shape, seed=1)
    expected, gradient = np.zeros(shape), np.zeros(shape)
    for case, *place, feature in np.ndindex(*shape):
        near = [slice(max(k - 1, 0), k + 2) for k in place]
        part = x[case, *near, feature]
        expected[case, *place, feature] = part.max()
        gradient[case, *near, feature][part == part.max()] += dy[case, *place, feature]
    y, back = jax.vjp(max_of_neighbours, jnp.asarray(x))
    np.testing.assert_array_equal(y, expected.astype(np.float32))
    np.testing.assert_allclose(back(jnp.asarray(dy))[0], gradient, atol=1e-5)


def test_equal_neighbours_share_the_gradient_of_their_maximum() -> None:
    grad = jax.jit(jax.grad(lambda x: max_of_neighbours(x)[:, 1:-1].sum()))(jnp.ones((1, 5, 2)))
    np.testing.assert_allclose(grad[0, :, 0], np.array([1, 2, 3, 2, 1]) / 3, rtol=1e-6)
