"""The train step on 1 to N devices: its gradient against one device's, its time, its exchanges."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Float, Int

from experiments import hlo
from experiments.timing import Workload, time_in_turns
from glr_jax import train_step
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data import batches
from glr_jax.data.batches import Batch
from glr_jax.data.dataset import Dataset
from glr_jax.devices import parallel
from glr_jax.input_statistics import fit_input_statistics
from glr_jax.nn.config import NormName
from glr_jax.nn.model import make_classifier
from glr_jax.nn.statistics_front import InputStatistic
from glr_jax.text import counted
from glr_jax.train_step import TrainState


class Step(NamedTuple):
    """Measurements of the train step with one norm at one number of clips per device.

    Attributes:
      norm: the norm.
      per_device: clips per device and step.
      deviation: |g - g1| / |g1|, where g is the batch's gradient and g1 the gradient on one device.
      seconds: per step, the median.
      all_reduces: per step.
      bytes: that each device puts into them per step.
    """

    norm: str
    per_device: int
    deviation: float
    seconds: float
    all_reduces: int
    bytes: int


class Ready(NamedTuple):
    """A compiled train step, with its first state and batch.

    Attributes:
      run: (state, batch) -> next state; it donates the state's buffers.
      state: before the first step.
      batch: of the first step.
    """

    run: Any
    state: TrainState
    batch: Batch


def measure(
    configs: Sequence[Config], dataset: Dataset, sizes: Sequence[int], repeats: int
) -> list[Step]:
    """Measures the first step of each config at each number of clips per device.

    Weights, clips and dropout are the same at every size. At each size, the steps of all configs
    are timed in turns.

    Args:
      configs: they differ in the norm only.
      dataset: the batch comes from its training clips.
      sizes: numbers of clips per device.
      repeats: timed steps per config and size.
    """
    batch_size = configs[0].train.batch_size
    clips = dataset.members(configs[0].data.split, 'train')
    batch = first_batch(configs[0], dataset, clips)
    fitted = make_classifier(configs[0].model, dataset.n_mels, len(dataset.labels), seed=0)
    fit_input_statistics(fitted, dataset, clips, configs[0].data.frames)
    statistics = nnx.state(fitted, InputStatistic)
    on_one_device: dict[NormName, np.ndarray] = {}
    found: dict[int, list[Step]] = {}
    for size in sorted({*sizes, batch_size}, reverse=True):
        status(f'{counted(size, "clip")} per device: compiling and timing one step of each norm')
        mesh = parallel.make_mesh(jax.devices()[: batch_size // size])
        steps = {c.model.norm: compile_step(c, batch, statistics, mesh) for c in configs}
        counts = {norm: hlo.total(s.run.as_text(), hlo.exchanged) for norm, s in steps.items()}
        states = {norm: step.run(step.state, step.batch) for norm, step in steps.items()}
        gradients = {norm: gradient(state) for norm, state in states.items()}
        if size == batch_size:
            on_one_device = gradients
        seconds = time_in_turns(
            {norm: advance(step, states[norm]) for norm, step in steps.items()}, repeats, turn=0
        )
        found[size] = [
            Step(
                norm,
                size,
                deviation(gradients[norm], on_one_device[norm]),
                seconds[norm],
                counts[norm]['all_reduces'],
                counts[norm]['bytes'],
            )
            for norm in steps
        ]
    return [step for size in sizes for step in found[size]]


def first_batch(config: Config, dataset: Dataset, clips: Int[np.ndarray, ' clips']) -> Batch:
    """The first batch of a run on these training clips."""
    size = config.train.batch_size
    plan = batches.plan_batch(0, size, clips, config.seed, slice(size), config.train.mixup)
    return batches.read(dataset, plan, config.data.frames)


def compile_step(
    config: Config,
    batch: Batch,
    statistics: nnx.State,
    mesh: Mesh,
) -> Ready:
    """Compiles the train step of a run for the devices of a mesh.

    Args:
      config: of the run.
      batch: its first batch.
      statistics: of the training clips, to standardise the input by.
      mesh: the devices that share the batch.
    """
    n_mels, num_labels = batch.mel.shape[-1], batch.target.shape[-1]
    classifier = make_classifier(config.model, n_mels, num_labels, config.seed)
    nnx.update(classifier, statistics)
    optimizer = optax.adam(config.train.learning_rate)
    state = train_step.init_state(classifier, optimizer)
    state = parallel.replicate(state, mesh)
    batch = parallel.shard_batch(batch, mesh)
    program = train_step.make_train_step(classifier, optimizer, config.seed)
    step = parallel.shard_mapped(program, mesh, 'replicated')
    return Ready(step.lower(state, batch).compile(), state, batch)


def advance(step: Ready, state: TrainState) -> Workload:
    """A function that takes one more step from `state` at every call."""

    def one_step() -> None:
        nonlocal state
        state = jax.block_until_ready(step.run(state, step.batch))

    return one_step


def gradient(state: TrainState) -> Float[np.ndarray, ' parameters']:
    """The gradient of the first step, up to a factor: Adam's first moment is a tenth of it."""
    moment = optax.tree_utils.tree_get(state.optimizer, 'mu')
    return np.asarray(ravel_pytree(jax.device_get(moment))[0], np.float64)


def deviation(
    one: Float[np.ndarray, ' parameters'], reference: Float[np.ndarray, ' parameters']
) -> float:
    """|one - reference| / |reference|."""
    return float(np.linalg.norm(one - reference) / np.linalg.norm(reference))
