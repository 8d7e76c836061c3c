"""What is timed: a model's train step, inference and inner layers, and the arithmetic of each."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from experiments.throughput.shapes import LABELS, inner_shapes
from experiments.timing import Workload
from glr_jax import inference, train_step
from glr_jax.data import batches
from glr_jax.devices import parallel
from glr_jax.nn import cost, spectra
from glr_jax.nn.config import ModelConfig
from glr_jax.nn.conv import conv
from glr_jax.nn.model import Recurrent, make_classifier
from glr_jax.nn.norms import make_norm
from glr_jax.nn.rnn import GATES

MATMUL = 2048  # rows and columns
COPIED = 64 << 20  # bytes; more than any cache holds


def gflops(config: ModelConfig, batch_size: int, frames: int, n_mels: int) -> dict[str, float]:
    """GFLOP per call of each workload; the backward pass counts twice the forward pass.

    Statistics have no backward pass. Workloads named `recurrence, ...` are other implementations of
    `recurrence`.
    """
    forward = cost.flops(config, n_mels, LABELS, frames)
    if config.has_statistics():
        fixed = 2 * spectra.products(frames)
        per_clip = {'train step': 3 * forward + fixed, 'inference': forward + fixed}
        per_clip['statistics'] = fixed
        return {name: batch_size * flops / 1e9 for name, flops in per_clip.items()}
    shapes = inner_shapes(config, frames, n_mels)
    taps = config.kernel_size ** len(shapes.positions)
    positions = math.prod(shapes.positions)
    gates = GATES[config.cell] * config.hidden
    per_clip = {
        'train step': 3 * forward,
        'inference': forward,
        'convolution': 3 * 2 * positions * taps * shapes.features * shapes.kernels,
        'recurrence': 3 * 2 * shapes.steps * (shapes.inputs + config.hidden) * gates,
    }
    return {name: batch_size * flops / 1e9 for name, flops in per_clip.items()}


def workloads(
    config: ModelConfig, batch_size: int, frames: int, n_mels: int
) -> dict[str, Workload]:
    """A model's workloads on one device, by name.

    Args:
      config: a CRNN, or the default network.
      batch_size: clips per call.
      frames: per clip.
      n_mels: mel bands.
    """
    rng = np.random.default_rng(0)
    mesh = parallel.make_mesh(jax.devices()[:1])
    mel = rng.integers(0, 256, (batch_size, frames, n_mels), np.uint8)
    target = rng.dirichlet(np.ones(LABELS), batch_size).astype(np.float32)
    batch = batches.Batch(mel, target, np.arange(batch_size, dtype=np.int32))
    classifier, optimizer = make_classifier(config, n_mels, LABELS, seed=0), optax.adam(1e-3)
    training = train_step.make_train_step(classifier, optimizer, seed=0)
    step = parallel.on_every_device(training, mesh, result='replicated')
    state = parallel.replicate(train_step.init_state(classifier, optimizer), mesh)
    weights = parallel.replicate(jax.tree.map(jnp.copy, (state.params, state.stats)), mesh)
    predicting = inference.make_predict_step(classifier)
    predict = parallel.on_every_device(predicting, mesh, result='sharded')

    def one_step() -> None:
        nonlocal state
        state = jax.block_until_ready(step(state, parallel.shard_batch(batch, mesh)))

    ours = {
        'train step': one_step,
        'inference': lambda: jax.block_until_ready(
            predict(weights, parallel.shard_batch(mel, mesh))
        ),
    }
    if config.has_statistics():
        both = classifier.front, classifier.segment_front
        fronts, spread = [front for front in both if front is not None], classifier.spread()
        raw = jax.jit(lambda mel: [front.raw(mel, spread) for front in fronts])
        on_device = jnp.asarray(mel)
        return ours | {'statistics': lambda: jax.block_until_ready(raw(on_device))}
    shapes = inner_shapes(config, frames, n_mels)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), config.dtype)
    taps = (config.kernel_size,) * len(shapes.positions)
    conv_input = draw(batch_size, *shapes.positions, shapes.features)
    kernel = draw(*taps, shapes.features, shapes.kernels)
    recurrent_input = draw(batch_size, shapes.steps, shapes.inputs)
    ours['convolution'] = _gradients(conv, conv_input, kernel)
    ours['recurrence'] = recurrence(config, recurrent_input)
    # Elsewhere, the recurrence above is a scan already.
    if config.recurrence == 'fused' or jax.default_backend() == 'gpu':
        scan = dataclasses.replace(config, recurrence='scan')
        ours['recurrence, scan'] = recurrence(scan, recurrent_input)
    return ours


def recurrence(config: ModelConfig, x: Float[Array, 'batch time features']) -> Workload:
    """The recurrent layer alone: forward, and the gradients of its input and parameters."""
    norm = make_norm(config.norm, axis_name=None)
    layer = Recurrent(
        x.shape[-1],
        config.hidden,
        cell=config.cell,
        norm=norm,
        implementation=config.recurrence,
        rngs=nnx.Rngs(0),
    )
    graph, params = nnx.split(layer)
    return _gradients(lambda x, params: nnx.merge(graph, params, copy=True)(x), x, params)


def limits(dtype: str = 'float32') -> dict[str, Workload]:
    """Workloads for the device's own rates: a large matmul, and memory read and written."""
    square, vector = jnp.ones((MATMUL, MATMUL), dtype), jnp.ones(COPIED // 4, jnp.float32)
    product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
    return {
        'matmul': lambda: product(square).block_until_ready(),
        'copy': lambda: copy(vector).block_until_ready(),
    }


def _gradients(function: Callable, *arguments: Any) -> Workload:
    """The forward pass, and the gradients of all arguments."""
    squares = lambda *arguments: jnp.square(function(*arguments)).sum()
    compiled = jax.jit(jax.grad(squares, tuple(range(len(arguments)))))
    return lambda: jax.block_until_ready(compiled(*arguments))
