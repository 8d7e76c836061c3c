"""The music classifier in NumPy float64, written from the paper's equations (Eq. 1-9).

The JAX implementation is tested against it. It favours clear equations over speed, for tiny inputs.
All arrays are NumPy arrays with cases on axis 0 and features (channels, units) on the last axis.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray
Gates = list[Array]
Norm = Callable[..., Array]  # (summed inputs, gain, bias, weights of the level) -> normalised


# ---------------------------------------------------------------- mel spectrogram, Eq. 1-3
def hz_to_mel(hertz: Array | float, htk: bool = False) -> Array:
    """Mel of a frequency: Eq. 2, or Slaney's scale (linear up to 1 kHz, then logarithmic)."""
    hertz = np.asarray(hertz, np.float64)
    if htk:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    above = 15.0 + 27.0 * np.log(np.maximum(hertz, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, above)


def mel_to_hz(mel: Array | float, htk: bool = False) -> Array:
    """Inverse of hz_to_mel: Eq. 3, where the printed "10.0mel/2,595.0" is a power of 10."""
    mel = np.asarray(mel, np.float64)
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, htk: bool = False) -> Array:
    """Triangles [n_fft/2 + 1, n_mels] equally spaced on the mel scale (Eq. 2-3), of unit area."""
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    edges = mel_to_hz(np.linspace(0.0, hz_to_mel(sample_rate / 2, htk), n_mels + 2), htk)
    filters = np.zeros((len(bins), n_mels))
    for i in range(n_mels):
        low, centre, high = edges[i : i + 3]
        rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
        filters[:, i] = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (high - low)
    return filters


def log_mel(
    samples: Array,
    sample_rate: int = 22050,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    htk: bool = False,
    top_db: float = 80.0,
) -> Array:
    """Log mel spectrogram [frames, n_mels] in dB below the peak: |STFT|^2 (Eq. 1), Eq. 2-3."""
    padded = np.pad(np.asarray(samples, np.float64), n_fft // 2)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(padded) - n_fft + 1, hop_length)
    stft = np.stack([np.fft.rfft(window * padded[m : m + n_fft]) for m in starts])
    power = np.abs(stft) ** 2 @ mel_filters(sample_rate, n_fft, n_mels, htk)
    decibel = 10.0 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(decibel - decibel.max(), -top_db)


# ---------------------------------------------------------------- normalisation, Eq. 7-8
def standardise(a: Array, axis: int | tuple[int, ...], epsilon: float) -> Array:
    """(a - mu) / sigma, with mu of Eq. 7 and sigma of Eq. 8 (plus epsilon) over `axis`."""
    a = np.asarray(a, np.float64)
    mu = np.mean(a, axis=axis, keepdims=True)
    sigma = np.sqrt(np.mean((a - mu) ** 2, axis=axis, keepdims=True) + epsilon)
    return (a - mu) / sigma


def glr(
    a: Array,
    gain: Array,
    bias: Array,
    *level: Array,
    axis: int | tuple[int, ...] = -1,
    epsilon: float = 1e-5,
) -> Array:
    """Global Layer Regularization, Eq. 7-8, with separate statistics for each case (axis 0).

    `level` has a weight of mu and one of log sigma, which add these to what Eq. 7-8 give.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    if any(i % a.ndim == 0 for i in axes):
        raise ValueError('GLR must not take statistics over the training cases (axis 0)')
    a = np.asarray(a, np.float64)
    normal = gain * standardise(a, axes, epsilon) + bias
    if not level:
        return normal
    sigma = np.sqrt(np.var(a, axis=axes, keepdims=True) + epsilon)
    return normal + level[0] * np.mean(a, axis=axes, keepdims=True) + level[1] * np.log(sigma)


def glr_layer(a: Array, *parameters: Array, epsilon: float = 1e-5) -> Array:
    """Eq. 7-8 where H counts all summed inputs of a case: all axes but 0."""
    return glr(a, *parameters, axis=tuple(range(1, a.ndim)), epsilon=epsilon)


def glr_step(a: Array, *parameters: Array, epsilon: float = 1e-5) -> Array:
    """Eq. 7-8 where H counts the summed inputs of each step of [B, T, ...], or all of [B, H]."""
    return glr(a, *parameters, axis=tuple(range(2, a.ndim)) or 1, epsilon=epsilon)


def batch_norm(
    a: Array,
    gain: Array,
    bias: Array,
    mean: Array | None = None,
    variance: Array | None = None,
    epsilon: float = 1e-5,
) -> Array:
    """Eq. 7-8 per feature over the batch and all positions, or with the given statistics."""
    if mean is None or variance is None:
        return gain * standardise(a, tuple(range(a.ndim - 1)), epsilon) + bias
    return gain * (np.asarray(a, np.float64) - mean) / np.sqrt(variance + epsilon) + bias


def group_norm(a: Array, gain: Array, bias: Array, groups: int, epsilon: float = 1e-5) -> Array:
    """Eq. 7-8 per case and group of adjacent channels, over all positions."""
    axes = tuple(range(1, a.ndim))
    parts = np.split(a, groups, axis=-1)
    return gain * np.concatenate([standardise(p, axes, epsilon) for p in parts], -1) + bias


def bias_only(a: Array, gain: Array, bias: Array) -> Array:
    """No normalisation: the plain bias b of Eq. 4 and 5; the gain is ignored."""
    return np.asarray(a, np.float64) + bias


# ---------------------------------------------------------------- convolution, Eq. 4
def conv1d(x: Array, kernel: Array) -> Array:
    """Eq. 4 without f and b: x [B, T, C] with kernel [K, C, D], zero padded to [B, T, D]."""
    width, time = kernel.shape[0], x.shape[1]
    x = np.pad(np.asarray(x, np.float64), [(0, 0), ((width - 1) // 2, width // 2), (0, 0)])
    return sum(x[:, k : k + time] @ kernel[k] for k in range(width))


def conv2d(x: Array, kernel: Array) -> Array:
    """Eq. 4 in 2-D: x [B, T, F, C] with kernel [K, K, C, D], zero padded to [B, T, F, D]."""
    width, bands = kernel.shape[1], x.shape[2]
    x = np.pad(x, [(0, 0), (0, 0), ((width - 1) // 2, width // 2), (0, 0)])
    y = [sum(conv1d(x[:, :, f + k], kernel[:, k]) for k in range(width)) for f in range(bands)]
    return np.stack(y, axis=2)


def max_pool(x: Array, sizes: int | tuple[int, int]) -> Array:
    """Maximum over every few frames (and bands, if 4-D); a remainder is dropped."""
    for axis in range(1, x.ndim - 1):
        size = sizes if isinstance(sizes, int) else sizes[axis - 1]
        length = x.shape[axis] // size
        steps = [np.take(x, np.arange(length) * size + i, axis) for i in range(size)]
        x = np.max(steps, axis=0)
    return x


# ---------------------------------------------------------------- recurrence, Eq. 5
def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)) without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * a)


def simple_step(u: Gates, h: Array, c: Array, w: Gates, norm: Callable) -> tuple[Array, Array]:
    """Eq. 5: hs_t = f(U.m_t + W hs_{t-1} + b); the norm adds b."""
    return np.tanh(norm(0, u[0] + h @ w[0])), c


def gru_step(u: Gates, h: Array, c: Array, w: Gates, norm: Callable) -> tuple[Array, Array]:
    """Eq. 5 with the gates r, z, n of a GRU."""
    r = sigmoid(norm(0, u[0] + h @ w[0]))
    z = sigmoid(norm(1, u[1] + h @ w[1]))
    n = np.tanh(norm(2, u[2] + (r * h) @ w[2]))
    return (1.0 - z) * n + z * h, c


def lstm_step(u: Gates, h: Array, c: Array, w: Gates, norm: Callable) -> tuple[Array, Array]:
    """Eq. 5 with the gates i, f, g, o of an LSTM and its cell state c."""
    i, f, g, o = (norm(k, u[k] + h @ w[k]) for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def recurrence(
    step: Callable[..., tuple[Array, Array]],
    x: Array,
    input_kernel: Array,
    hidden_kernel: Array,
    gain: Array,
    bias: Array,
    mean_weight: Array | None = None,
    deviation_weight: Array | None = None,
    norm: Norm = glr,
    input_norm: Norm | None = None,
) -> Array:
    """Hidden states [B, T, H] of Eq. 5 for x [B, T, D], with each gate's summed inputs normalised.

    `norm` normalises a gate's [B, H] inside each step. If `input_norm` is given, it normalises the
    projected sequence [B, T, G*H] once instead, and nothing is normalised inside the steps. gain,
    bias and the weights of the level are [G, H] for G gates.
    """
    gates = len(gain)
    u = np.asarray(x, np.float64) @ input_kernel
    if input_norm is not None:
        u = input_norm(u, gain.ravel(), bias.ravel())

    level = [] if mean_weight is None else [mean_weight, deviation_weight]

    def inside(gate: int, a: Array) -> Array:
        parameters = (each[gate] for each in (gain, bias, *level))
        return norm(a, *parameters) if input_norm is None else a

    w = np.split(hidden_kernel, gates, axis=-1)
    h = c = np.zeros((len(x), len(hidden_kernel)))
    states = []
    for t in range(u.shape[1]):
        h, c = step(np.split(u[:, t], gates, axis=-1), h, c, w, inside)
        states.append(h)
    return np.stack(states, axis=1)


simple_rnn = partial(recurrence, simple_step)
gru = partial(recurrence, gru_step)
lstm = partial(recurrence, lstm_step)


# ---------------------------------------------------------------- the classifier, Eq. 6 and 9
def log_softmax(logits: Array) -> Array:
    """The logarithm of Eq. 9 over the last axis."""
    x = logits - np.max(logits, axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def softmax(logits: Array) -> Array:
    """Eq. 9 over the last axis."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: Array, targets: Array) -> float:
    """Mean of -log P(target) over the cases, with P from Eq. 9; targets [B] are integers."""
    return float(-np.mean(log_softmax(logits)[np.arange(len(targets)), targets]))


def binary_cross_entropy(logits: Array, targets: Array, weights: Array | float = 1.0) -> float:
    """Mean over cases and labels of the weighted -t log P - (1 - t) log(1 - P), P a sigmoid."""
    log_present, log_absent = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    return float(-np.mean(weights * (targets * log_present + (1.0 - targets) * log_absent)))


CELLS = {'simple': simple_rnn, 'gru': gru, 'lstm': lstm}
NORMS: dict[str, Any] = {
    'glr': glr,
    'glr_layer': glr_layer,
    'glr_step': glr_step,
    'batch': batch_norm,
    'none': bias_only,
}
LEVEL = ('mean_weight', 'deviation_weight')


def covariance(x: Array) -> Array:
    """The upper triangle of the covariance over time, each with its signed square root."""
    found = np.array([np.cov(case.T) for case in x])[:, *np.triu_indices(x.shape[2])]
    return np.sign(found) * (np.sqrt(np.abs(found) + 1e-6) - 1e-3)


def read(name: str, states: Array | None, features: Array, params: dict[str, Any]) -> Array:
    """What the output layer reads of states [B, T, H] and of the features [B, T, D] beside them."""
    x = features if states is None else states
    both = features if states is None else np.concatenate([states, features], axis=-1)
    if name == 'attention':
        hidden, score = params['hidden'], params['score']
        weights = np.exp(np.tanh(x @ hidden['kernel'] + hidden['bias']) @ score['kernel'])
        return np.sum(weights * x, axis=1) / np.sum(weights, axis=1)
    moments = np.concatenate([both.mean(1), np.sqrt(both.var(1) + 1e-6)], axis=-1)
    if name == 'covariance':
        projected = both @ params['projection']['kernel']
        return np.concatenate([moments, covariance(projected)], axis=-1)
    found = {'last': x[:, -1], 'mean': x.mean(1), 'max': x.max(1), 'moments': moments}
    return found[name]


def forward(
    params: dict[str, Any],
    mel: Array,
    *,
    norm: str,
    cell: str = 'simple',
    readout: str = 'mean',
    pool: tuple[int | tuple[int, int], ...] = (2, 2),
    groups: int = 8,
    multi_label: bool = False,
) -> Array:
    """Logits [B, L] for mel [B, T, F]: Eq. 4 (conv blocks), Eq. 5 (recurrence), Eq. 6 (readout).

    `pool` has one size per conv block, or one over time and one over mels. Without
    params['recurrent'], the output layer reads the features directly. params['backward'] is a
    second recurrent layer, which runs back in time.
    """
    params, x = to_float64(params), np.array(mel, np.float64)
    normalise = partial(group_norm, groups=groups) if norm == 'group' else NORMS[norm]
    for block, size in zip(params['convs'], pool[: len(params['convs'])], strict=True):
        if block['kernel'].ndim == 4 and x.ndim == 3:
            x = x[..., None]  # the spectrogram as a single input channel
        conv = conv2d if block['kernel'].ndim == 4 else conv1d
        level = [block[name] for name in LEVEL if name in block]
        summed = conv(x, block['kernel'])
        m = np.maximum(normalise(summed, block['gain'], block['bias'], *level), 0.0)
        x = max_pool(m, size)
    x = x.reshape(*x.shape[:2], -1)  # [B, T', F', C] to [B, T', F'*C]
    inputs, states = x, None
    if params.get('recurrent'):
        input_norm = batch_norm if norm == 'batch' else None
        recur = partial(CELLS[cell], norm=normalise, input_norm=input_norm)
        states = recur(inputs, **params['recurrent'])
        if params.get('backward'):
            reverse = recur(inputs[:, ::-1], **params['backward'])[:, ::-1]
            states = np.concatenate([states, reverse], axis=-1)
    v, b = params['output']['kernel'], params['output']['bias']
    if readout == 'local':
        each = (inputs if states is None else states) @ v + b
        if multi_label:
            mean = np.mean(sigmoid(each), axis=1)
            return np.log(mean / (1.0 - mean))
        return np.log(np.mean(softmax(each), axis=1))
    return read(readout, states, inputs, params.get('readout', {})) @ v + b


def loss(params: dict[str, Any], mel: Array, targets: Array, **options: Any) -> float:
    """Categorical cross-entropy of the softmax (Eq. 9) of `forward(params, mel, **options)`."""
    return cross_entropy(forward(params, mel, **options), targets)


# ---------------------------------------------------------------- gradient check
def map_arrays(function: Callable[[Array], Array], tree: Any) -> Any:
    """A nested dict or list with `function` applied to every array."""
    if isinstance(tree, dict):
        return {name: map_arrays(function, branch) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [map_arrays(function, branch) for branch in tree]
    return function(tree)


def to_float64(tree: Any) -> Any:
    """A float64 NumPy copy of a nested dict or list of arrays."""
    return map_arrays(lambda array: np.array(array, np.float64), tree)


def numeric_gradient(
    f: Callable, params: Any, delta: float = 1e-5, sample: int | None = None, seed: int = 0
) -> Any:
    """Gradient of f by central differences: (f(p + delta) - f(p - delta)) / 2 delta per entry.

    With `sample`, only that many random entries of each array are differentiated; the others are
    NaN.
    """
    params, random = to_float64(params), np.random.default_rng(seed)

    def differentiate(array: Array) -> Array:
        gradient = np.full(array.shape, np.nan)
        count = array.size if sample is None else min(sample, array.size)
        for i in random.choice(array.size, count, replace=False):
            value, ends = array.flat[i], []
            for moved in (value + delta, value - delta):
                array.flat[i] = moved
                ends.append(f(params))
            array.flat[i] = value
            gradient.flat[i] = (ends[0] - ends[1]) / (2.0 * delta)
        return gradient

    return map_arrays(differentiate, params)
