"""The train step: the per-device program, and the state that it carries from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float, Int

from glr_jax.config import AugmentConfig
from glr_jax.data.batches import Batch
from glr_jax.devices.parallel import AXIS, mean_over_devices
from glr_jax.nn import outputs
from glr_jax.nn.augment import augment
from glr_jax.nn.model import Classifier, partition

TrainStep = Callable[['TrainState', Batch], 'TrainState']
AUGMENT = 0x617567  # folded into a case's key; the model folds in small numbers for dropout
NO_AUGMENTATION = AugmentConfig()
EXPLODED = 1000.0  # nats; guessing among 10,000 labels has a loss of 9


class Totals(NamedTuple):
    """Sums over the cases of the epoch so far.

    The loss is the plain cross-entropy, without label smoothing and class weights, so that runs
    with and without them can be compared. `correct` counts right decisions: where clips may have
    several labels, the share of the labels that are decided right at a probability of 0.5.
    """

    loss: Float[Array, '']
    correct: Float[Array, '']
    cases: Float[Array, '']


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    Attributes:
      step: steps done.
      params: trained parameters.
      stats: statistics that are kept but not trained: of the input, of batch norm.
      optimizer: Adam's moments.
      totals: of the epoch so far.
      average: moving average of the parameters, for evaluation; None: there is none.
    """

    step: Int[Array, '']
    params: nnx.State
    stats: nnx.State
    optimizer: optax.OptState
    totals: Totals
    average: nnx.State | None = None

    def to_use(self) -> nnx.State:
        """The parameters to evaluate: their average, if there is one."""
        return self.params if self.average is None else self.average


def zero_totals() -> Totals:
    """Totals at the start of an epoch."""
    return Totals(*(jnp.zeros(()) for _ in Totals._fields))


def has_exploded(totals: Totals) -> bool:
    """Whether the mean training loss of the epoch so far is NaN, infinite or absurdly large.

    The validation loss cannot tell, since it is computed from probabilities and thus bounded.
    """
    loss, _, cases = map(float, jax.device_get(totals))
    return not loss <= EXPLODED * cases


def init_state(
    classifier: Classifier, optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """The state before the first step; `averaged` states carry an average of the parameters."""
    _, params, stats = partition(classifier)

    def fresh(params: nnx.State) -> tuple[nnx.State | None, optax.OptState, Totals]:
        average = jax.tree.map(jnp.copy, params) if averaged else None
        return average, optimizer.init(params), zero_totals()

    # As one program: to load one program for each shape takes longer.
    average, moments, totals = jax.jit(fresh)(params)
    return TrainState(jnp.int32(0), params, stats, moments, totals, average)


def make_train_step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulate: int = 1,
    *,
    average: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: Float[np.ndarray, ' labels'] | Float[np.ndarray, '2 labels'] | None = None,
    augmentation: AugmentConfig = NO_AUGMENTATION,
) -> TrainStep:
    """One step on one device: the gradient of its part, the mean over devices, the update.

    Args:
      classifier: only its structure is used.
      optimizer: turns the mean gradient into the update.
      seed: of dropout and augmentation.
      accumulate: micro-batches that the device's part is divided into. They are computed one after
        the other, and their gradients are averaged before the devices exchange anything.
      average: decay of the moving average of the parameters, if the state has one; less in the
        first steps, see `average_decay`.
      label_smoothing: fraction of each target that is spread evenly over the labels.
      class_weights: as in `outputs.label_weights`; None: all weights are 1.
      augmentation: random changes of the segments.
    """
    classifier.train()
    graph, *_ = partition(classifier)
    multi_label = classifier.multi_label

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        def loss_of(
            params: nnx.State, stats: nnx.State, micro: Batch
        ) -> tuple[Array, tuple[nnx.State, Array, Array]]:
            # Random numbers belong to a case, so any number of devices draws the same ones.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), micro.place)
            model = nnx.merge(graph, params, stats, copy=True)  # batch norm updates stats
            mel, target = jnp.asarray(micro.mel), jnp.asarray(micro.target)
            if augmentation != NO_AUGMENTATION:
                own = jax.vmap(jax.random.fold_in, (0, None))(keys, AUGMENT)
                mel = augment(mel, own, model.mean[...], model.spread(), augmentation)
            each = model.outputs(mel, keys)
            logits = outputs.combined(each, multi_label)
            plain = losses = outputs.loss(logits, target, multi_label)
            if label_smoothing or class_weights is not None or each.shape[1] > 1:
                weights = None
                if class_weights is not None:
                    weights = outputs.label_weights(target, class_weights)[:, None]
                smoothed = outputs.smooth(target, label_smoothing, multi_label)[:, None]
                # Each output has its own loss.
                losses = outputs.loss(each, smoothed, multi_label, weights).mean(1)
            correct = outputs.correct(logits, target, multi_label).mean()
            return losses.mean(), (partition(model)[2], plain.mean(), correct)

        def add(carry: tuple[nnx.State, Any], micro: Batch) -> tuple[tuple[nnx.State, Any], None]:
            stats, sums = carry
            grads, (stats, loss, correct) = jax.grad(loss_of, has_aux=True)(
                state.params, stats, micro
            )
            return (stats, jax.tree.map(jnp.add, sums, (grads, loss, correct))), None

        micros = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(()), jnp.zeros(())
        stats, sums = _in_sequence(add, (state.stats, zeros), micros)
        grads, loss, correct = jax.tree.map(lambda x: x / accumulate, sums)
        grads, stats, loss, correct = mean_over_devices((grads, stats, loss, correct))
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = state.average
        if averaged is not None:
            decay = average_decay(average, state.step)
            averaged = optax.incremental_update(params, averaged, 1 - decay)
        cases = jax.lax.axis_size(AXIS) * len(batch.target)
        totals = Totals(loss * cases, correct * cases, jnp.float32(cases))
        return TrainState(
            step=state.step + 1,
            params=params,
            stats=stats,
            optimizer=moments,
            totals=jax.tree.map(jnp.add, state.totals, totals),
            average=averaged,
        )

    return train_step


def average_decay(decay: float, step: Int[Array, '']) -> Float[Array, '']:
    """The decay of the moving average at a step, counted from 0: at most (1 + t) / (10 + t).

    The average begins with the initial weights; without this limit they would dominate it in a
    short run. As in TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))


def make_train_steps(
    train_step: TrainStep, assemble: Callable[..., Batch]
) -> Callable[..., TrainState]:
    """Several steps on one device, one after the other in one program: a dispatch.

    Args:
      train_step: one step.
      assemble: (payload of one step, *what the device holds) -> batch; of an `InputPipeline`.

    Returns:
      A function of (state, payloads [batch, steps, ...], *what the device holds).
    """

    def train_steps(state: TrainState, payloads: Any, *held: Array) -> TrainState:
        step = lambda state, payload: (train_step(state, assemble(payload, *held)), None)
        by_step = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), payloads)
        return _in_sequence(step, state, by_step)

    return train_steps


def _in_sequence(step: Callable[[Any, Any], tuple[Any, None]], state: Any, items: Any) -> Any:
    """`lax.scan` without outputs; a single item is computed without a loop.

    XLA would keep the loop, and on a CPU it computes the body of a loop with one thread.
    """
    if len(jax.tree.leaves(items)[0]) == 1:
        return step(state, jax.tree.map(lambda x: x[0], items))[0]
    return jax.lax.scan(step, state, items)[0]
