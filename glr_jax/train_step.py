"""The per-device programs: a train step, and the probabilities of segments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float

from glr_jax.data.batches import Batch
from glr_jax.devices.parallel import mean_over_devices
from glr_jax.nn.model import Classifier, partition


class Totals(NamedTuple):
    """Sums over the cases of an epoch so far."""

    loss: Float[Array, '']
    correct: Float[Array, '']
    cases: Float[Array, '']


class TrainState(NamedTuple):
    """All that training carries from step to step.

    Attributes:
      step: steps done.
      params: what is trained.
      stats: what is kept but not trained: input statistics, running statistics.
      optimizer: Adam's moments.
      totals: of the epoch so far.
    """

    step: Array
    params: nnx.State
    stats: nnx.State
    optimizer: optax.OptState
    totals: Totals


def zero_totals() -> Totals:
    """Totals of nothing."""
    return Totals(*(jnp.zeros(()) for _ in Totals._fields))


def init_state(classifier: Classifier, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    _, params, stats = partition(classifier)
    return TrainState(jnp.int32(0), params, stats, optimizer.init(params), zero_totals())


def make_train_step(
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], TrainState]:
    """One step of one device: its share of the batch, everyone's mean gradient, Adam.

    The share is gone through in `accumulate` micro-batches, one after the other, whose gradients
    are averaged before devices exchange anything.
    """
    classifier.train()
    graph, *_ = partition(classifier)

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        def loss_of(
            params: nnx.State, stats: nnx.State, micro: Batch
        ) -> tuple[Array, tuple[nnx.State, Array]]:
            # Random numbers belong to a case, not to a device: any number of devices draws the
            # same.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), micro.place)
            model = nnx.merge(graph, params, stats, copy=True)  # batch norm updates stats
            logits = model(jnp.asarray(micro.mel), keys)
            losses = optax.softmax_cross_entropy(logits, micro.target)
            correct = jnp.mean(jnp.argmax(logits, -1) == jnp.argmax(micro.target, -1))
            return losses.mean(), (partition(model)[2], correct)

        def add(carry: tuple[nnx.State, Any], micro: Batch) -> tuple[tuple[nnx.State, Any], None]:
            stats, sums = carry
            (loss, (stats, correct)), grads = jax.value_and_grad(loss_of, has_aux=True)(
                state.params, stats, micro
            )
            return (stats, jax.tree.map(jnp.add, sums, (grads, loss, correct))), None

        micros = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
        nothing = jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(()), jnp.zeros(())
        stats, sums = _in_turn(add, (state.stats, nothing), micros)
        grads, loss, correct = jax.tree.map(lambda x: x / accumulate, sums)
        grads, stats, loss, correct = mean_over_devices((grads, stats, loss, correct))
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        cases = jax.lax.axis_size('data') * len(batch.target)
        totals = Totals(loss * cases, correct * cases, jnp.float32(cases))
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            optimizer=moments,
            totals=jax.tree.map(jnp.add, state.totals, totals),
        )

    return train_step


def make_train_steps(
    train: Callable[[TrainState, Batch], TrainState], batch_of: Callable[..., Batch]
) -> Callable[..., TrainState]:
    """Several steps of one device, one after the other in one program.

    Args:
      train: a step, as of `make_train_step`.
      batch_of: (what a step is given, *what the device holds) -> the batch, as of `InputPipeline`.
    """

    def train_steps(state: TrainState, items: Any, *held: Array) -> TrainState:
        step = lambda state, item: (train(state, batch_of(item, *held)), None)
        in_turn = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), items)  # [batch, steps, ...]
        return _in_turn(step, state, in_turn)

    return train_steps


def _in_turn(step: Callable[[Any, Any], tuple[Any, None]], state: Any, items: Any) -> Any:
    """What `lax.scan` carries to the end.

    A single turn is no loop: XLA keeps the loop, and on a CPU computes what is in it by one thread.
    """
    if len(jax.tree.leaves(items)[0]) == 1:
        return step(state, jax.tree.map(lambda x: x[0], items))[0]
    return jax.lax.scan(step, state, items)[0]
