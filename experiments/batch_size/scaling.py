"""A train step on 1 to N devices: its gradient beside one device's, its time, its exchanges."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from experiments import hlo
from glr_jax import train, train_step
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data import batches
from glr_jax.data.batches import Batch
from glr_jax.data.dataset import Dataset
from glr_jax.devices import parallel
from glr_jax.nn.model import make_classifier
from glr_jax.train_step import TrainState


class Step(NamedTuple):
    """What was measured of the train step of a norm.

    Attributes:
      norm: the normalisation.
      per_device: clips of a device in a step.
      deviation: |g - g1| / |g1| of the batch's gradient g from g1, that of one device.
      seconds: of a step, the median.
      all_reduces: of a step.
      bytes: of a device in them.
    """

    norm: str
    per_device: int
    deviation: float
    seconds: float
    all_reduces: int
    bytes: int


class Ready(NamedTuple):
    """A compiled step, and the state and the batch that it is given first."""

    run: Any
    state: TrainState
    batch: Batch


def measure(
    configs: Sequence[Config], dataset: Dataset, sizes: Sequence[int], repeats: int
) -> list[Step]:
    """The first step of each config, at each number of clips a device.

    Weights, clips and dropout are the same at every size. At each size the steps are timed in
    turns, one of every config after the other.

    Args:
      configs: alike but for the norm.
      dataset: where the batch is from.
      sizes: clips of a device.
      repeats: how often each is timed.
    """
    batch_size = configs[0].train.batch_size
    clips = dataset.members(configs[0].data.split, 'train')
    batch = first_batch(configs[0], dataset, clips)
    statistics = train.band_statistics(dataset, clips)
    one_device: dict[str, np.ndarray] = {}
    found: dict[int, list[Step]] = {}
    for size in sorted({*sizes, batch_size}, reverse=True):
        status(f'{size} clips a device: compiling and timing a step of each norm')
        mesh = parallel.make_mesh(jax.devices()[: batch_size // size])
        steps = [compile_step(config, batch, statistics, mesh) for config in configs]
        counts = [hlo.total(step.run.as_text(), hlo.exchanged) for step in steps]
        states = [step.run(step.state, step.batch) for step in steps]
        gradients = [gradient(state) for state in states]
        if size == batch_size:
            one_device = {c.model.norm: g for c, g in zip(configs, gradients, strict=True)}
        seconds = np.zeros((repeats, len(steps)))
        for row in seconds:
            for k, step in enumerate(steps):
                start = time.perf_counter()
                states[k] = jax.block_until_ready(step.run(states[k], step.batch))
                row[k] = time.perf_counter() - start
        found[size] = [
            Step(
                norm,
                size,
                deviation(g, one_device[norm]),
                float(median),
                count['all_reduces'],
                count['bytes'],
            )
            for norm, g, median, count in zip(
                one_device, gradients, np.median(seconds, 0), counts, strict=True
            )
        ]
    return [step for size in sizes for step in found[size]]


def first_batch(config: Config, dataset: Dataset, clips: Int[np.ndarray, ' clips']) -> Batch:
    """What a run on these clips is given in its first step."""
    size = config.train.batch_size
    plan = batches.plan_batch(0, size, clips, config.seed, slice(size), config.train.mixup)
    return batches.read(dataset, plan, config.data.frames)


def compile_step(
    config: Config,
    batch: Batch,
    statistics: tuple[Float[np.ndarray, ' mels'], Float[np.ndarray, ' mels']],
    mesh: Mesh,
) -> Ready:
    """The train step of a run, from its initial weights, on the devices of a mesh.

    Args:
      config: the run.
      batch: its first.
      statistics: mean and deviation of each mel band.
      mesh: the devices that share the batch.
    """
    n_mels, labels = batch.mel.shape[-1], batch.target.shape[-1]
    classifier = make_classifier(config.model, n_mels, labels, config.seed)
    optimizer = optax.adam(config.train.learning_rate)
    state = train_step.init_state(classifier, optimizer)
    for name, value in zip(('mean', 'deviation'), statistics, strict=True):
        state.stats[name][...] = jnp.asarray(value, jnp.float32)
    state = parallel.replicate(state, mesh)
    batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(parallel.AXIS)))
    program = train_step.make_train_step(classifier, optimizer, config.seed)
    step = parallel.shard_mapped(program, mesh, 'replicated')
    return Ready(step.lower(state, batch).compile(), state, batch)


def gradient(state: TrainState) -> Float[np.ndarray, ' parameters']:
    """The gradient of the first step, to scale: Adam's first moment is a tenth of it."""
    moment = optax.tree_utils.tree_get(state.optimizer, 'mu')
    return np.asarray(ravel_pytree(jax.device_get(moment))[0], np.float64)


def deviation(
    one: Float[np.ndarray, ' parameters'], reference: Float[np.ndarray, ' parameters']
) -> float:
    """|one - reference| / |reference|."""
    return float(np.linalg.norm(one - reference) / np.linalg.norm(reference))
