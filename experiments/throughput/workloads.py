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
from jax import Array

from experiments.common import Workload
from glr_jax import inference, train_step
from glr_jax.config import ModelConfig
from glr_jax.data import batches
from glr_jax.devices import parallel
from glr_jax.nn import cost
from glr_jax.nn.conv import conv
from glr_jax.nn.model import Recurrent, make_classifier
from glr_jax.nn.norms import make_norm
from glr_jax.nn.rnn import GATES

LABELS = 10
MATMUL = 2048  # rows and columns
COPIED = 64 << 20  # bytes, beyond any cache


def gflops(config: ModelConfig, batch_size: int, frames: int, n_mels: int) -> dict[str, float]:
    """The arithmetic of a run of each task: backward is twice forward.

    A task's name may go on after a comma, which makes it another way of doing the same.
    """
    forward = cost.flops(config, n_mels, LABELS, frames)
    positions, features, kernels, steps, inputs = inside(config, frames, n_mels)
    taps = config.kernel_size ** len(positions)
    gates = GATES[config.cell] * config.hidden
    a_clip = {
        'train step': 3 * forward,
        'inference': forward,
        'convolution': 3 * 2 * math.prod(positions) * taps * features * kernels,
        'recurrence': 3 * 2 * steps * (inputs + config.hidden) * gates,
    }
    return {name: batch_size * flops / 1e9 for name, flops in a_clip.items()}


def inside(config: ModelConfig, frames: int, n_mels: int) -> tuple[list[int], int, int, int, int]:
    """What the last convolution and the recurrent layer are given.

    Returns:
      Positions, features and kernels of the convolution; steps and inputs of the recurrence.
    """
    layers = config.conv_layers()
    before = math.prod(pool for _, pool in layers[:-1])
    images = config.conv == '2d'
    features = layers[-2][0] if len(layers) > 1 else 1 if images else n_mels
    (kernels, pool), positions = layers[-1], [frames // before]
    positions += [n_mels // before] if images else []
    inputs = kernels * (positions[1] // pool if images else 1)
    return positions, features, kernels, positions[0] // pool, inputs


def workloads(
    config: ModelConfig, batch_size: int, frames: int, n_mels: int
) -> dict[str, Workload]:
    """Our tasks, on one device; each returns when its result is ready."""
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

    positions, features, kernels, steps, inputs = inside(config, frames, n_mels)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), config.dtype)
    taps = (config.kernel_size,) * len(positions)
    into_conv = draw(batch_size, *positions, features), draw(*taps, features, kernels)
    into_recurrence = draw(batch_size, steps, inputs)
    ours = {
        'train step': one_step,
        'inference': lambda: jax.block_until_ready(
            predict(weights, parallel.shard_batch(mel, mesh))
        ),
        'convolution': _gradients(conv, *into_conv),
        'recurrence': recurrence(config, into_recurrence),
    }
    if config.recurrence == 'fused' or jax.default_backend() == 'gpu':  # elsewhere it is a scan
        scan = dataclasses.replace(config, recurrence='scan')
        ours['recurrence, scan'] = recurrence(scan, into_recurrence)
    return ours


def recurrence(config: ModelConfig, x: Array) -> Workload:
    """The recurrent layer alone: forward, and the gradients of its inputs and parameters."""
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


def _gradients(function: Callable, *arguments: Any) -> Workload:
    """Forward, and the gradients of all arguments."""
    squares = lambda *arguments: jnp.square(function(*arguments)).sum()
    compiled = jax.jit(jax.grad(squares, tuple(range(len(arguments)))))
    return lambda: jax.block_until_ready(compiled(*arguments))


def limits(dtype: str = 'float32') -> dict[str, Workload]:
    """What the device's own rates are taken from: a large matmul, and memory read and written."""
    square, vector = jnp.ones((MATMUL, MATMUL), dtype), jnp.ones(COPIED // 4, jnp.float32)
    product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
    return {
        'matmul': lambda: product(square).block_until_ready(),
        'copy': lambda: copy(vector).block_until_ready(),
    }
